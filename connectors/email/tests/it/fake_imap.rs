//! An IMAP server with one mailbox, in this process: enough of RFC 3501 for a reader, and a few
//! ways to misbehave.

// Others take this file in by its path.
#[path = "fake_imap/connection.rs"]
mod connection;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::TcpListener;
use tokio::sync::watch;

pub const USER: &str = "support@shop.example";

/// INTERNALDATE of the first mail; later ones follow a second apart.
const FIRST_DATE: i64 = 1_767_600_000;

pub struct FakeImap {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Counts changes of the mailbox, for those who idle.
    news: watch::Sender<u64>,
    /// Counts cuts of all connections.
    cuts: watch::Sender<u64>,
    /// Connections that are past their first look at the mailbox.
    listening: watch::Sender<usize>,
}

struct State {
    password: String,
    /// The inbox is there from the start.
    boxes: BTreeMap<String, Folder>,
    clock: i64,
    options: Options,
    commands: Vec<String>,
}

#[derive(Default)]
struct Folder {
    uidvalidity: u32,
    uid_next: u32,
    mails: BTreeMap<u32, Mail>,
}

impl Folder {
    fn add(&mut self, mail: Mail) -> u32 {
        let uid = self.uid_next;
        self.uid_next += 1;
        self.mails.insert(uid, mail);
        uid
    }
}

#[derive(Clone)]
struct Mail {
    raw: Arc<[u8]>,
    date: i64,
    is_seen: bool,
    is_deleted: bool,
    /// Google's numbers of the mail and of its thread.
    gmail: Option<(u64, u64)>,
}

/// How the server differs from a good one.
#[derive(Clone, Default)]
pub struct Options {
    pub no_idle: bool,
    /// Says nothing any more, and does not hang up: a dead link.
    pub is_dead: bool,
    pub logins_refused: usize,
    /// Lets in with a token that this accepts.
    pub tokens: Option<Accepts>,
    /// Tokens by OAUTHBEARER only.
    pub is_standard: bool,
    /// Mails whose content is refused.
    pub refused_bodies: BTreeSet<u32>,
    /// Its storage is down for as many fetches of bodies; it says so in words without a code.
    pub outage_fetches: usize,
    /// While it is, header blocks are refused, too; they may also come from an index.
    pub outage_of_headers: bool,
    /// As `outage_fetches`, but it says OK and answers empty bodies.
    pub empty_fetches: usize,
    /// Mails that no listing shows yet.
    pub invisible: BTreeSet<u32>,
    /// A mail that arrives while a listing to the end is answered, after as many others: it is
    /// announced there, once.
    pub arrives_late: Option<(usize, Vec<u8>)>,
    /// Cuts the connection within the answer to as many fetches of content.
    pub cut_fetches: usize,
    /// Has none of MOVE, UIDPLUS and SELECT for writing.
    pub is_old: bool,
    /// As many commands that change something are refused.
    pub refused_changes: usize,
    /// Announced instead of the real size.
    pub claimed_size: Option<u32>,
    /// Hangs up on everybody at once.
    pub is_down: bool,
    /// Mailboxes that cannot be opened, and why.
    pub closed: BTreeMap<String, Closed>,
}

/// How a mailbox does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// Refused with these words.
    Refused(&'static str),
    /// The server hangs up over it.
    HangsUp,
    /// No answer comes.
    Silent,
}

/// Whether a token is good.
#[derive(Clone)]
pub struct Accepts(pub Arc<dyn Fn(&str) -> bool + Send + Sync>);

impl FakeImap {
    pub async fn start(password: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                password: password.to_owned(),
                boxes: BTreeMap::new(),
                clock: FIRST_DATE,
                options: Options::default(),
                commands: Vec::new(),
            }),
            news: watch::Sender::new(0),
            cuts: watch::Sender::new(0),
            listening: watch::Sender::new(0),
        });
        shared.state().create("INBOX");
        let server = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(connection::serve(stream, Arc::clone(&server)));
            }
        });
        Self { address, shared }
    }

    /// Puts a mail into the inbox and returns its UID.
    pub fn deliver(&self, raw: impl Into<Vec<u8>>) -> u32 {
        self.deliver_to("INBOX", raw, None)
    }

    /// Puts a mail into a mailbox; with Google's numbers of it and of its thread.
    pub fn deliver_to(
        &self,
        mailbox: &str,
        raw: impl Into<Vec<u8>>,
        gmail: Option<(u64, u64)>,
    ) -> u32 {
        let uid = self.shared.state().add(mailbox, raw.into(), gmail);
        self.announce();
        uid
    }

    pub fn create(&self, mailbox: &str) {
        self.shared.state().create(mailbox);
    }

    /// The mails of a mailbox: UID, whether it is seen, whether it is marked as deleted.
    pub fn mails_in(&self, mailbox: &str) -> Vec<(u32, bool, bool)> {
        let mut state = self.shared.state();
        let mails = state.folder(mailbox).mails.iter();
        mails
            .map(|(uid, mail)| (*uid, mail.is_seen, mail.is_deleted))
            .collect()
    }

    /// Time passes; mails that come from now on bear later dates.
    pub fn later(&self, seconds: i64) {
        self.shared.state().clock += seconds;
    }

    /// Somebody reads a mail elsewhere.
    pub fn see(&self, uid: u32) {
        let mut state = self.shared.state();
        state.folder("INBOX").mails.get_mut(&uid).unwrap().is_seen = true;
    }

    pub fn announce(&self) {
        self.shared.news.send_modify(|count| *count += 1);
    }

    pub fn delete(&self, uid: u32) {
        self.shared.state().folder("INBOX").mails.remove(&uid);
    }

    /// Leaves a gap in the UIDs, as years of deleted mail do.
    pub fn skip_uids(&self, count: u32) {
        self.shared.state().folder("INBOX").uid_next += count;
    }

    /// Renumbers the mailbox under a new UIDVALIDITY.
    pub fn renumber(&self) {
        let mut state = self.shared.state();
        let inbox = state.folder("INBOX");
        inbox.uidvalidity += 1;
        let mails = std::mem::take(&mut inbox.mails);
        inbox.mails = (1u32..).zip(mails.into_values()).collect();
        inbox.uid_next = u32::try_from(inbox.mails.len()).unwrap() + 1;
    }

    pub fn set(&self, change: impl FnOnce(&mut Options)) {
        change(&mut self.shared.state().options);
    }

    /// Cuts every connection; [`FakeImap::listening`] waits for new ones from then on.
    pub fn cut(&self) {
        self.shared.listening.send_replace(0);
        self.shared.cuts.send_modify(|count| *count += 1);
    }

    /// Returns once a connection has had its first look.
    pub async fn listening(&self) {
        let mut listening = self.shared.listening.subscribe();
        listening.wait_for(|count| *count > 0).await.unwrap();
    }

    pub fn commands(&self) -> Vec<String> {
        self.shared.state().commands.clone()
    }
}

impl State {
    fn change(&mut self, mailbox: &str, words: &[&str], target: &str) {
        let folder = self.folder(mailbox);
        let last = folder.mails.keys().next_back().copied().unwrap_or_default();
        let uids: Vec<u32> = folder.mails.keys().copied().collect();
        for uid in uids.into_iter().filter(|uid| in_set(words[2], *uid, last)) {
            let mail = self.folder(mailbox).mails.get_mut(&uid).unwrap();
            match words[1] {
                "STORE" if words[4].contains("Seen") => mail.is_seen = true,
                "STORE" => mail.is_deleted = true,
                "COPY" | "MOVE" => {
                    let copy = mail.clone();
                    self.folder(target).add(copy);
                }
                _ => {}
            }
            let is_gone = words[1] == "MOVE" || words[1] == "EXPUNGE";
            if is_gone {
                self.folder(mailbox).mails.remove(&uid);
            }
        }
    }

    fn add(&mut self, mailbox: &str, raw: Vec<u8>, gmail: Option<(u64, u64)>) -> u32 {
        self.clock += 1;
        let mail = Mail {
            raw: raw.into(),
            date: self.clock,
            is_seen: false,
            is_deleted: false,
            gmail,
        };
        self.create(mailbox);
        self.folder(mailbox).add(mail)
    }

    fn create(&mut self, mailbox: &str) {
        let validity = 7 + u32::try_from(self.boxes.len()).unwrap();
        let folder = self.boxes.entry(mailbox.to_owned()).or_default();
        if folder.uidvalidity == 0 {
            (folder.uidvalidity, folder.uid_next) = (validity, 1);
        }
    }

    fn folder(&mut self, mailbox: &str) -> &mut Folder {
        self.boxes.get_mut(mailbox).unwrap()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a sequence set names `value`; `n:*` always names the last one.
fn in_set(set: &str, value: u32, last: u32) -> bool {
    let number = |text: &str| {
        if text == "*" {
            last
        } else {
            text.parse().unwrap()
        }
    };
    set.split(',').any(|range| match range.split_once(':') {
        Some((from, to)) => {
            let (from, to) = (number(from), number(to));
            (from.min(to)..=from.max(to)).contains(&value)
        }
        None => number(range) == value,
    })
}
