//! One IMAP connection, command by command. Each command runs under a deadline and a byte
//! budget, and its tagged answer is checked: a listing cut short by a lost connection or a `NO`
//! must never look like an empty mailbox.

mod after;
mod answer;
mod connect;
mod fetched;
mod heads;
mod idle;
mod line;
mod login;
mod mailboxes;
mod names;
pub(crate) mod scripted;
mod words;

use std::sync::Arc;
use std::time::Duration;

use async_imap::imap_proto::{Capability, MailboxDatum, Response};
use connector_api::{Bytes, Error, ExposeSecret, Result, Timestamp};
use tokio::time::timeout;

use crate::config::{Proof, Server};
use crate::imap::cursor::Listed;
use crate::imap::link::Link;
use crate::imap::session::connect::connect;
use crate::imap::session::fetched::read_listed;
pub(crate) use crate::imap::session::heads::Headed;
pub(crate) use crate::imap::session::idle::Woken;
use crate::imap::session::line::Tagged;
use crate::imap::session::login::{ByToken, by_password, by_token};
pub(crate) use crate::imap::session::mailboxes::Selected;
use crate::imap::session::words::{is_passing, unavailable};
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
    /// `imap host:port`: what went wrong begins with it.
    place: String,
    /// For one short command; also how long a dead link takes to be noticed after `DONE`.
    patience: Duration,
    /// When the token that it logged in with is to be renewed: some servers end a session with it.
    pub(crate) renew_at: Option<Timestamp>,
    pub(crate) can_idle: bool,
    can: Can,
    /// Mails in the mailbox, as last announced.
    exists: u32,
    /// More were announced since the last listing to the end began.
    has_news: bool,
    /// The server sent what no server should, or more than was asked for.
    is_confused: bool,
}

/// What the server can beyond IMAP4rev1.
#[derive(Debug, Clone, Copy, Default)]
struct Can {
    idle: bool,
    /// RFC 6851.
    moving: bool,
    /// RFC 4315.
    uid_plus: bool,
    /// Google's extensions.
    gmail: bool,
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
                let client = connect(server).await?;
                let place = server.place();
                let logged_in = by_password(client, &login.user, password, &place);
                (in_time(server, "log in", logged_in).await?, None)
            }
            Proof::Token(oauth) => log_in_by_token(server, &login.user, oauth).await?,
        };
        let mut session = Self {
            inner,
            place: server.place(),
            patience: server.timeout,
            renew_at,
            can_idle: false,
            can: Can::default(),
            exists: 0,
            has_news: false,
            is_confused: false,
        };
        let mut can = Can::default();
        session
            .short("CAPABILITY", |response| {
                if let Response::Capabilities(capabilities) = response {
                    let has = |name| capabilities.iter().any(|one| is_atom(one, name));
                    can.idle |= has("IDLE");
                    can.moving |= has("MOVE");
                    can.uid_plus |= has("UIDPLUS");
                    can.gmail |= has("X-GM-EXT-1");
                }
            })
            .await?
            .or_unavailable(&session.place, "ask for capabilities")?;
        (session.can_idle, session.can) = (can.idle, can);
        Ok(session)
    }

    /// Gives the server the chance to announce new mail.
    pub(crate) async fn noop(&mut self) -> Result<()> {
        self.short("NOOP", |_| {})
            .await?
            .or_unavailable(&self.place, "poll")
    }

    /// Lists mails by UID, lowest first; at most [`LISTED_MAX`]. `to` is `None` for the end.
    pub(crate) async fn list(&mut self, from: u32, to: Option<u32>) -> Result<Vec<Listed>> {
        // News are at the end: a listing of something else does not bring them.
        self.has_news &= to.is_some();
        let to = to.map_or_else(|| "*".to_owned(), |to| to.to_string());
        let command = format!("UID FETCH {from}:{to} ({})", self.listed_items());
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
        self.listing(&format!("FETCH {from}:* ({})", self.listed_items()))
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
            |answer| {
                if let Some(Response::MailboxData(MailboxDatum::Search(uids))) = answer.response() {
                    first = uids.iter().copied().chain(first).min();
                }
            },
        )
        .await?
        .or_unavailable(&self.place, "search")?;
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

    /// Says goodbye, briefly and whatever comes of it.
    pub(crate) async fn log_out(mut self) {
        let goodbye = self.inner.run_command("LOGOUT");
        if let Ok(Err(error)) = timeout(Duration::from_millis(500), goodbye).await {
            tracing::debug!(%error, "no orderly logout");
        }
    }

    /// More was announced since the last listing to the end.
    pub(crate) fn has_news(&self) -> bool {
        self.has_news
    }

    fn listed_items(&self) -> &'static str {
        match self.can.gmail {
            true => "UID RFC822.SIZE INTERNALDATE X-GM-MSGID X-GM-THRID",
            false => "UID RFC822.SIZE INTERNALDATE",
        }
    }

    async fn listing(&mut self, command: &str) -> Result<Vec<Listed>> {
        let mut listed = Vec::new();
        self.budget(LISTING_BYTES_MAX);
        self.command(command, self.patience * LONG_FACTOR, |answer| {
            if let Some(Response::Fetch(_, attributes)) = answer.response()
                && let Some(mail) = read_listed(attributes)
            {
                listed.push(mail);
            }
        })
        .await?
        .or_unavailable(&self.place, "list mails")?;
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
            .command(&command, self.patience * LONG_FACTOR, |answer| {
                let body = answer.into_body();
                found.extend(body.filter(|(uid, _)| uids.contains(uid)));
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
}

async fn log_in_by_token(
    server: &Server,
    user: &str,
    oauth: &Arc<OAuth>,
) -> Result<(async_imap::Session<Link>, Option<Timestamp>)> {
    let mut said = String::new();
    for _ in 0..TOKENS_TRIED {
        let token = oauth.token().await?;
        let client = connect(server).await?;
        let answer = by_token(client, user, &token, server);
        match in_time(server, "log in", answer).await? {
            ByToken::In(session) => return Ok((session, token.renew_at)),
            ByToken::Refused(words) => {
                oauth.refuse(&token).await;
                said = words;
            }
        }
    }
    let place = server.place();
    Err(Error::auth(format!(
        "{place}: the server refused a token that was just issued: {said}; is it {user} that granted \
         access, and may it use IMAP?"
    )))
}

async fn in_time<T>(
    server: &Server,
    verb: &str,
    step: impl Future<Output = Result<T>>,
) -> Result<T> {
    timeout(server.timeout, step)
        .await
        .map_err(|_| unavailable(&server.place(), verb, "no answer in time"))?
}

fn is_atom(capability: &Capability<'_>, name: &str) -> bool {
    matches!(capability, Capability::Atom(atom) if atom.eq_ignore_ascii_case(name))
}
