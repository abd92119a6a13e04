//! One IMAP connection, command by command. Each command runs under a deadline and a byte
//! budget, and its tagged answer is checked: a listing cut short by a lost connection or a `NO`
//! must never look like an empty mailbox.

mod connect;
mod fetched;
mod login;
mod names;
mod words;

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use async_imap::imap_proto::{Capability, MailboxDatum, RequestId, Response, ResponseCode, Status};
use connector_api::{Bytes, Error, ExposeSecret, Result, Timestamp};
use tokio::time::{Instant, timeout, timeout_at};

use crate::config::{Proof, Server};
use crate::imap::cursor::Listed;
use crate::imap::link::Link;
use crate::imap::session::connect::connect;
use crate::imap::session::fetched::{read_body, read_listed};
use crate::imap::session::login::{ByToken, by_password, by_token};
use crate::imap::session::names::{modified_utf7, quoted};
use crate::imap::session::words::{broken, io_words, is_passing, unavailable, words};
use crate::oauth::OAuth;

/// Commands that carry mails or long listings may take so many times longer: 25 MiB at 100 KB/s
/// under the default of 30 s.
const LONG_FACTOR: u32 = 10;
/// Answers to short commands.
const ANSWER_BYTES_MAX: u64 = 1024 * 1024;
/// A listing: 70 bytes a mail, so some millions of mails.
const LISTING_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// A refused token, and the next one.
const TOKENS_TRIED: usize = 2;
/// Most mails kept from one listing, the lowest UIDs; the rest is listed again later.
pub(crate) const LISTED_MAX: usize = 5_000;
pub(crate) struct Session {
    inner: async_imap::Session<Link>,
    host: String,
    /// For one short command; also how long a dead link takes to be noticed after `DONE`.
    patience: Duration,
    /// When the token that it logged in with is to be renewed: some servers end a session with it.
    pub(crate) renew_at: Option<Timestamp>,
    pub(crate) can_idle: bool,
    /// Mails in the mailbox, as last announced.
    exists: u32,
    /// More were announced since the last listing began.
    has_news: bool,
    /// The server sent what no server should, or more than was asked for.
    is_confused: bool,
}

/// The selected mailbox.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Selected {
    pub(crate) uidvalidity: u32,
    pub(crate) uid_next: Option<u32>,
    pub(crate) exists: u32,
}

/// Why IDLE ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Woken {
    /// The server announced something, or the time was up.
    Ended,
    /// The server does not idle after all.
    Refused,
}

/// The tagged answer of a command.
enum Tagged {
    Ok,
    /// `NO` or `BAD`, with the server's words.
    No(String),
}

/// What a fetch brought for one mail: its bytes, or nothing where the server has none.
pub(crate) type Body = (u32, Option<Bytes>);

impl Session {
    /// Connects and logs in. A token that is refused is renewed once: it may have been withdrawn, or
    /// the server's clock be ahead.
    pub(crate) async fn open(server: &Server) -> Result<Self> {
        let Some(login) = &server.login else {
            return Err(Error::config("imap needs a user and a password"));
        };
        let (inner, renew_at) = match &login.proof {
            Proof::Password(password) => {
                let password = password.expose_secret();
                let logged_in = in_time(server, "connect", connect(server)).await?;
                let logged_in = by_password(logged_in, &login.user, password, &server.host);
                (in_time(server, "log in", logged_in).await?, None)
            }
            Proof::Token(oauth) => log_in_by_token(server, &login.user, oauth).await?,
        };
        let mut session = Self {
            inner,
            host: server.host.clone(),
            patience: server.timeout,
            renew_at,
            can_idle: false,
            exists: 0,
            has_news: false,
            is_confused: false,
        };
        let mut can_idle = false;
        session
            .short("CAPABILITY", |response| {
                if let Response::Capabilities(capabilities) = response {
                    can_idle |= capabilities.iter().any(|one| is_atom(one, "IDLE"));
                }
            })
            .await?
            .or_unavailable(&session.host, "ask for capabilities")?;
        session.can_idle = can_idle;
        Ok(session)
    }

    /// Opens a mailbox read-only: nothing we do changes a flag that a person sees.
    pub(crate) async fn examine(&mut self, mailbox: &str) -> Result<Selected> {
        let command = format!("EXAMINE {}", quoted(&modified_utf7(mailbox)));
        let mut selected = Selected::default();
        let tagged = self
            .short(&command, |response| {
                let Response::Data { outcome, .. } = response else {
                    return;
                };
                match outcome.code {
                    Some(ResponseCode::UidValidity(value)) => selected.uidvalidity = value,
                    Some(ResponseCode::UidNext(value)) => selected.uid_next = Some(value),
                    _ => {}
                }
            })
            .await?;
        selected.exists = self.exists;
        if let Tagged::No(words) = tagged {
            let message = format!("cannot open the mailbox at {}: {words}", self.host);
            return Err(if is_passing(&words) {
                Error::unavailable(message)
            } else {
                Error::config(message)
            });
        }
        if selected.uidvalidity == 0 {
            let host = &self.host;
            return Err(Error::config(format!(
                "{host} keeps no UIDs in this mailbox"
            )));
        }
        Ok(selected)
    }

    /// Gives the server the chance to announce new mail.
    pub(crate) async fn noop(&mut self) -> Result<()> {
        self.short("NOOP", |_| {})
            .await?
            .or_unavailable(&self.host, "poll")
    }

    /// Lists mails by UID, lowest first; at most [`LISTED_MAX`]. `to` is `None` for the end.
    pub(crate) async fn list(&mut self, from: u32, to: Option<u32>) -> Result<Vec<Listed>> {
        let to = to.map_or_else(|| "*".to_owned(), |to| to.to_string());
        let command = format!("UID FETCH {from}:{to} (UID RFC822.SIZE INTERNALDATE)");
        let mut listed = self.listing(&command).await?;
        // `n:*` always names the last mail, whatever its UID (RFC 3501, section 6.4.8).
        listed.retain(|mail| mail.uid >= from);
        Ok(listed)
    }

    /// Mails in the mailbox, as last announced.
    pub(crate) fn exists(&self) -> u32 {
        self.exists
    }

    /// The server sent what cannot be read: nothing more comes over this connection.
    pub(crate) fn is_confused(&self) -> bool {
        self.is_confused
    }

    /// Lists the last mails of the mailbox, at most `count`.
    pub(crate) async fn newest(&mut self, exists: u32, count: u32) -> Result<Vec<Listed>> {
        if exists == 0 {
            return Ok(Vec::new());
        }
        let from = exists.saturating_sub(count).saturating_add(1);
        self.listing(&format!("FETCH {from}:* (UID RFC822.SIZE INTERNALDATE)"))
            .await
    }

    /// The lowest UID that arrived on or after the day of `since` (seconds since the epoch).
    pub(crate) async fn first_since(&mut self, since: i64) -> Result<Option<u32>> {
        let day = jiff::Timestamp::from_second(since)
            .map(|time| time.strftime("%d-%b-%Y").to_string())
            .map_err(|error| Error::config(format!("backfill reaches too far back: {error}")))?;
        let mut first: Option<u32> = None;
        self.budget(LISTING_BYTES_MAX);
        self.command(
            &format!("UID SEARCH SINCE {day}"),
            self.patience * LONG_FACTOR,
            |response| {
                if let Response::MailboxData(MailboxDatum::Search(uids)) = response {
                    first = uids.iter().copied().chain(first).min();
                }
            },
        )
        .await?
        .or_unavailable(&self.host, "search")?;
        Ok(first)
    }

    /// Fetches whole mails without marking them as read. `Ok(None)` says that the server refuses,
    /// or answers what cannot be read: that is about the mails, not about the link.
    pub(crate) async fn bodies(
        &mut self,
        uids: &[u32],
        budget_bytes: u64,
    ) -> Result<Option<Vec<Body>>> {
        self.sections(uids, "BODY.PEEK[]", budget_bytes).await
    }

    /// Fetches the header block of one mail, else as [`Session::bodies`].
    pub(crate) async fn headers(
        &mut self,
        uid: u32,
        budget_bytes: u64,
    ) -> Result<Option<Vec<Body>>> {
        self.sections(&[uid], "BODY.PEEK[HEADER]", budget_bytes)
            .await
    }

    /// Waits until the server announces something or `wait` is over. `on_alive` is called for
    /// every sign of life.
    pub(crate) async fn idle(&mut self, wait: Duration, on_alive: impl Fn()) -> Result<Woken> {
        self.budget(ANSWER_BYTES_MAX);
        let id = self.send("IDLE", Instant::now() + self.patience).await?;
        let mut deadline = Instant::now() + self.patience;
        let mut is_idling = false;
        while !(is_idling && self.has_news) {
            let sign = self
                .read("IDLE", deadline, |response| Sign::of(response, &id))
                .await?;
            match sign {
                Some(Sign::GoAhead) => {
                    is_idling = true;
                    deadline = Instant::now() + wait;
                }
                Some(Sign::Tagged) => return Ok(Woken::Refused),
                Some(Sign::Alive) => {}
                None if is_idling => break,
                None => return Err(self.lost("IDLE", "no answer in time")),
            }
            on_alive();
        }
        let deadline = Instant::now() + self.patience;
        timeout_at(deadline, self.inner.run_command_untagged("DONE"))
            .await
            .map_err(|_| self.lost("DONE", "no answer in time"))?
            .map_err(|error| self.lost("DONE", &broken(&error)))?;
        loop {
            let sign = self
                .read("DONE", deadline, |response| Sign::of(response, &id))
                .await?;
            match sign {
                Some(Sign::Tagged) => return Ok(Woken::Ended),
                Some(_) => {}
                None => return Err(self.lost("DONE", "the link is dead")),
            }
        }
    }

    /// Says goodbye, briefly and whatever comes of it.
    pub(crate) async fn log_out(mut self) {
        let goodbye = self.inner.run_command("LOGOUT");
        if let Ok(Err(error)) = timeout(Duration::from_millis(500), goodbye).await {
            tracing::debug!(%error, "no orderly logout");
        }
    }

    async fn listing(&mut self, command: &str) -> Result<Vec<Listed>> {
        let mut listed = Vec::new();
        self.has_news = false;
        self.budget(LISTING_BYTES_MAX);
        self.command(command, self.patience * LONG_FACTOR, |response| {
            if let Response::Fetch(_, attributes) = response
                && let Some(mail) = read_listed(attributes)
            {
                listed.push(mail);
            }
        })
        .await?
        .or_unavailable(&self.host, "list mails")?;
        listed.sort_unstable_by_key(|mail| mail.uid);
        listed.dedup_by_key(|mail: &mut Listed| mail.uid);
        listed.truncate(LISTED_MAX);
        Ok(listed)
    }

    async fn sections(
        &mut self,
        uids: &[u32],
        section: &str,
        budget_bytes: u64,
    ) -> Result<Option<Vec<Body>>> {
        let set: Vec<String> = uids.iter().map(u32::to_string).collect();
        let command = format!("UID FETCH {} (UID {section})", set.join(","));
        let mut found: Vec<Body> = Vec::new();
        self.budget(budget_bytes.saturating_add(ANSWER_BYTES_MAX));
        let tagged = self
            .command(&command, self.patience * LONG_FACTOR, |response| {
                if let Response::Fetch(_, attributes) = response
                    && let Some(body) = read_body(attributes)
                    && uids.contains(&body.0)
                {
                    found.push(body);
                }
            })
            .await;
        match tagged {
            Ok(Tagged::Ok) => Ok(Some(found)),
            Ok(Tagged::No(words)) if is_passing(&words) => Err(self.lost("fetch mails", &words)),
            Ok(Tagged::No(_)) => Ok(None),
            // The connection is lost, and these mails are why.
            Err(_) if self.is_confused => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn short(&mut self, command: &str, on: impl FnMut(&Response<'_>)) -> Result<Tagged> {
        self.budget(ANSWER_BYTES_MAX);
        self.command(command, self.patience, on).await
    }

    /// Runs a command to its tagged answer; every other response goes to `on`.
    async fn command(
        &mut self,
        command: &str,
        limit: Duration,
        mut on: impl FnMut(&Response<'_>),
    ) -> Result<Tagged> {
        let deadline = Instant::now() + limit;
        let id = self.send(command, deadline).await?;
        let verb = verb_of(command);
        loop {
            let step = self.read(&verb, deadline, |response| match response {
                Response::Done {
                    tag,
                    status,
                    outcome,
                } if *tag == id => Some(match status {
                    Status::Ok => Tagged::Ok,
                    _ => Tagged::No(words(outcome.information.as_deref())),
                }),
                other => {
                    on(other);
                    None
                }
            });
            match step.await? {
                Some(Some(tagged)) => return Ok(tagged),
                Some(None) => {}
                None => return Err(self.lost(&verb, "no answer in time")),
            }
        }
    }

    async fn send(&mut self, command: &str, deadline: Instant) -> Result<RequestId> {
        match timeout_at(deadline, self.inner.run_command(command)).await {
            Ok(Ok(id)) => Ok(id),
            Ok(Err(error)) => Err(self.lost(&verb_of(command), &broken(&error))),
            Err(_) => Err(self.lost(&verb_of(command), "no answer in time")),
        }
    }

    /// Reads one response; `None` when the deadline passed first.
    async fn read<R>(
        &mut self,
        verb: &str,
        deadline: Instant,
        look: impl FnOnce(&Response<'_>) -> R,
    ) -> Result<Option<R>> {
        let Ok(read) = timeout_at(deadline, self.inner.read_response()).await else {
            return Ok(None);
        };
        let response = match read {
            Ok(Some(response)) => response,
            Ok(None) => return Err(self.lost(verb, "the connection was closed")),
            Err(error) => {
                // async-imap calls what it cannot parse `Other`.
                let kind = error.kind();
                self.is_confused = matches!(kind, ErrorKind::FileTooLarge | ErrorKind::Other);
                return Err(self.lost(verb, io_words(&error)));
            }
        };
        if let Response::Data {
            status: Status::Bye,
            outcome,
        } = response.parsed()
        {
            let words = words(outcome.information.as_deref());
            return Err(self.lost(verb, &format!("goodbye, {words}")));
        }
        match response.parsed() {
            Response::MailboxData(MailboxDatum::Exists(count)) => {
                self.has_news |= *count > self.exists;
                self.exists = *count;
            }
            Response::Expunge(_) => self.exists = self.exists.saturating_sub(1),
            _ => {}
        }
        Ok(Some(look(response.parsed())))
    }

    fn lost(&self, verb: &str, why: &str) -> Error {
        unavailable(&self.host, verb, why)
    }

    fn budget(&mut self, budget_bytes: u64) {
        self.inner.get_mut().allow(budget_bytes);
    }
}

async fn log_in_by_token(
    server: &Server,
    user: &str,
    oauth: &Arc<OAuth>,
) -> Result<(async_imap::Session<Link>, Option<Timestamp>)> {
    for _ in 0..TOKENS_TRIED {
        let token = oauth.token().await?;
        let client = in_time(server, "connect", connect(server)).await?;
        let answer = by_token(client, user, &token, server);
        match in_time(server, "log in", answer).await? {
            ByToken::In(session) => return Ok((session, token.renew_at)),
            ByToken::Refused => oauth.refuse(&token).await,
        }
    }
    let host = &server.host;
    Err(Error::auth(format!(
        "{host} refused a token that was just issued: is it {user} that granted access, and may it use IMAP?"
    )))
}

async fn in_time<T>(
    server: &Server,
    verb: &str,
    step: impl Future<Output = Result<T>>,
) -> Result<T> {
    timeout(server.timeout, step)
        .await
        .map_err(|_| unavailable(&server.host, verb, "no answer in time"))?
}

impl Tagged {
    fn or_unavailable(self, host: &str, verb: &str) -> Result<()> {
        match self {
            Self::Ok => Ok(()),
            Self::No(words) => Err(unavailable(host, verb, &words)),
        }
    }
}

/// What a response means to somebody idling.
enum Sign {
    GoAhead,
    Tagged,
    Alive,
}

impl Sign {
    fn of(response: &Response<'_>, id: &RequestId) -> Self {
        match response {
            Response::Continue(_) => Self::GoAhead,
            Response::Done { tag, .. } if tag == id => Self::Tagged,
            _ => Self::Alive,
        }
    }
}

fn is_atom(capability: &Capability<'_>, name: &str) -> bool {
    matches!(capability, Capability::Atom(atom) if atom.eq_ignore_ascii_case(name))
}

fn verb_of(command: &str) -> String {
    command.split(' ').take(2).collect::<Vec<_>>().join(" ")
}
