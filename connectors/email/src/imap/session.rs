//! One IMAP connection, command by command. Each command runs under a deadline and a byte
//! budget, and its tagged answer is checked: a listing cut short by a lost connection or a `NO`
//! must never look like an empty mailbox.

use std::time::Duration;

use async_imap::imap_proto::{
    AttributeValue, Capability, MailboxDatum, RequestId, Response, ResponseCode, Status,
};
use async_imap::{Authenticator, Client};
use connector_api::{Bytes, Error, ExposeSecret, Result};
use jiff::fmt::strtime;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;

use crate::config::{Login, Server, Tls};
use crate::imap::cursor::Listed;
use crate::imap::link::Link;

/// Commands that carry mails or long listings may take so many times longer: 25 MiB at 100 KB/s
/// under the default of 30 s.
const LONG_FACTOR: u32 = 10;
/// Answers to short commands.
const ANSWER_BYTES_MAX: u64 = 1024 * 1024;
/// A listing: 70 bytes a mail, so some millions of mails.
const LISTING_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Most mails kept from one listing, the lowest UIDs; the rest is listed again later.
const LISTED_MAX: usize = 5_000;
/// Longest piece of a server's words in an error, in characters.
const WORDS_CHARS_MAX: usize = 200;

pub(crate) struct Session {
    inner: async_imap::Session<Link>,
    host: String,
    /// For one short command; also how long a dead link takes to be noticed after `DONE`.
    patience: Duration,
    pub(crate) can_idle: bool,
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
    /// The server announced something.
    News,
    /// The time was up.
    Time,
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
    /// Connects and logs in.
    pub(crate) async fn open(server: &Server) -> Result<Self> {
        let Some(login) = &server.login else {
            return Err(Error::config("imap needs a user and a password"));
        };
        let client = timeout(server.timeout, connect(server))
            .await
            .map_err(|_| unavailable(&server.host, "connect", "no answer in time"))??;
        let inner = timeout(server.timeout, log_in(client, login, &server.host))
            .await
            .map_err(|_| unavailable(&server.host, "log in", "no answer in time"))??;
        let mut session = Self {
            inner,
            host: server.host.clone(),
            patience: server.timeout,
            can_idle: false,
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
        let command = format!("EXAMINE {}", quoted(mailbox));
        let mut selected = Selected::default();
        let tagged = self
            .short(&command, |response| match response {
                Response::Data { outcome, .. } => match outcome.code {
                    Some(ResponseCode::UidValidity(value)) => selected.uidvalidity = value,
                    Some(ResponseCode::UidNext(value)) => selected.uid_next = Some(value),
                    _ => {}
                },
                Response::MailboxData(MailboxDatum::Exists(count)) => selected.exists = *count,
                _ => {}
            })
            .await?;
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

    /// Fetches whole mails without marking them as read. A refusal is `Ok(None)`.
    pub(crate) async fn bodies(
        &mut self,
        uids: &[u32],
        budget_bytes: u64,
    ) -> Result<Option<Vec<Body>>> {
        self.sections(uids, "BODY.PEEK[]", budget_bytes).await
    }

    /// Fetches the header block of one mail. A refusal is `Ok(None)`.
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
        let mut woken = Woken::Time;
        let mut deadline = Instant::now() + self.patience;
        let mut is_idling = false;
        while !(is_idling && woken == Woken::News) {
            let sign = self
                .read("IDLE", deadline, |response| Sign::of(response, &id))
                .await?;
            match sign {
                Some(Sign::GoAhead) => {
                    is_idling = true;
                    deadline = Instant::now() + wait;
                }
                Some(Sign::Tagged) => return Ok(Woken::Refused),
                Some(Sign::News) => woken = Woken::News,
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
                Some(Sign::Tagged) => return Ok(woken),
                Some(Sign::News) => woken = Woken::News,
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
            .await?;
        Ok(match tagged {
            Tagged::Ok => Some(found),
            Tagged::No(words) if is_passing(&words) => {
                return Err(unavailable(&self.host, "fetch mails", &words));
            }
            Tagged::No(_) => None,
        })
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
            Err(error) => return Err(self.lost(verb, io_words(&error))),
        };
        if let Response::Data {
            status: Status::Bye,
            outcome,
        } = response.parsed()
        {
            let words = words(outcome.information.as_deref());
            return Err(self.lost(verb, &format!("goodbye, {words}")));
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
    News,
    Alive,
}

impl Sign {
    fn of(response: &Response<'_>, id: &RequestId) -> Self {
        match response {
            Response::Continue(_) => Self::GoAhead,
            Response::Done { tag, .. } if tag == id => Self::Tagged,
            Response::MailboxData(MailboxDatum::Exists(_) | MailboxDatum::Recent(_)) => Self::News,
            _ => Self::Alive,
        }
    }
}

/// SASL PLAIN (RFC 4616), for passwords that `LOGIN` cannot quote.
struct Plain(Vec<u8>);

impl Authenticator for Plain {
    type Response = Vec<u8>;

    fn process(&mut self, _challenge: &[u8]) -> Self::Response {
        self.0.clone()
    }
}

async fn connect(server: &Server) -> Result<Client<Link>> {
    let host = &server.host;
    let lost = |why: &str| unavailable(host, "connect", why);
    let address = (host.as_str(), server.port);
    let stream = TcpStream::connect(address)
        .await
        .map_err(|error| lost(io_words(&error)))?;
    stream
        .set_nodelay(true)
        .map_err(|error| lost(io_words(&error)))?;
    let link = Link::new(stream, ANSWER_BYTES_MAX);
    match server.tls {
        Tls::None => greeted(Client::new(link), host).await,
        Tls::Implicit => greeted(Client::new(encrypt(link, server).await?), host).await,
        Tls::Starttls => {
            let mut client = greeted(Client::new(link), host).await?;
            client
                .run_command_and_check_ok("STARTTLS", None)
                .await
                .map_err(|error| lost(&format!("STARTTLS refused, {}", broken(&error))))?;
            // Whatever was sent in plain text behind the answer is dropped with the old buffer.
            Ok(Client::new(encrypt(client.into_inner(), server).await?))
        }
    }
}

async fn encrypt(link: Link, server: &Server) -> Result<Link> {
    let host = &server.host;
    let name = ServerName::try_from(host.clone())
        .map_err(|_| Error::config(format!("{host} is no host name")))?;
    let connector = TlsConnector::from(std::sync::Arc::clone(&server.client));
    // The budget is counted above TLS.
    let mut link = link;
    link.allow(u64::MAX);
    let stream = connector
        .connect(name, link)
        .await
        .map_err(|error| unavailable(host, "negotiate TLS", &error.to_string()))?;
    Ok(Link::new(stream, ANSWER_BYTES_MAX))
}

async fn greeted(mut client: Client<Link>, host: &str) -> Result<Client<Link>> {
    let lost = |why: &str| unavailable(host, "connect", why);
    let greeting = client
        .read_response()
        .await
        .map_err(|error| lost(io_words(&error)))?
        .ok_or_else(|| lost("closed before the greeting"))?;
    match greeting.parsed() {
        Response::Data {
            status: Status::Ok, ..
        } => Ok(client),
        Response::Data { outcome, .. } => Err(lost(&words(outcome.information.as_deref()))),
        _ => Err(lost("this is no IMAP server")),
    }
}

async fn log_in(
    client: Client<Link>,
    login: &Login,
    host: &str,
) -> Result<async_imap::Session<Link>> {
    let password = login.password.expose_secret();
    let is_quotable = password.is_ascii() && login.user.is_ascii();
    let answer = if is_quotable {
        client.login(&login.user, password).await
    } else {
        let secret = format!("\0{}\0{password}", login.user);
        client
            .authenticate("PLAIN", Plain(secret.into_bytes()))
            .await
    };
    // The answer's words may repeat the login; they are not passed on.
    answer.map_err(|(error, _)| match error {
        async_imap::error::Error::No(words) if !is_passing(&words) => {
            Error::auth(format!("{host} refused the login"))
        }
        async_imap::error::Error::Validate(_) => {
            Error::config("the imap user or password contains a line break")
        }
        error => unavailable(host, "log in", &broken(&error)),
    })
}

fn read_listed(attributes: &[AttributeValue<'_>]) -> Option<Listed> {
    let mut uid = None;
    let mut size_bytes = 0;
    let mut date = None;
    for attribute in attributes {
        match attribute {
            AttributeValue::Uid(value) => uid = Some(*value),
            AttributeValue::Rfc822Size(value) => size_bytes = u64::from(*value),
            AttributeValue::InternalDate(value) => date = internal_date(value),
            _ => {}
        }
    }
    uid.map(|uid| Listed {
        uid,
        size_bytes,
        date,
    })
}

fn read_body(attributes: &[AttributeValue<'_>]) -> Option<Body> {
    let mut uid = None;
    let mut body = None;
    for attribute in attributes {
        match attribute {
            AttributeValue::Uid(value) => uid = Some(*value),
            AttributeValue::BodySection { data, .. } => {
                body = Some(data.as_deref().map(Bytes::copy_from_slice));
            }
            _ => {}
        }
    }
    // A flag change announced meanwhile has a UID and no body.
    Some((uid?, body?))
}

/// `17-Jul-1996 02:44:25 -0700`, the day padded with a space (RFC 3501, `date-time`).
fn internal_date(text: &str) -> Option<i64> {
    let time = strtime::parse("%d-%b-%Y %H:%M:%S %z", text.trim()).ok()?;
    time.to_timestamp().ok().map(|time| time.as_second())
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn is_atom(capability: &Capability<'_>, name: &str) -> bool {
    matches!(capability, Capability::Atom(atom) if atom.eq_ignore_ascii_case(name))
}

fn verb_of(command: &str) -> String {
    command.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

/// Response codes of RFC 5530 that pass by themselves.
fn is_passing(words: &str) -> bool {
    let words = words.to_ascii_uppercase();
    ["[UNAVAILABLE]", "[INUSE]", "[LIMIT]", "[SERVERBUG]"]
        .iter()
        .any(|code| words.contains(code))
}

/// A server's own words: one line, bounded.
fn words(text: Option<&str>) -> String {
    let text = text.unwrap_or("no reason given");
    text.chars()
        .filter(|c| !c.is_control())
        .take(WORDS_CHARS_MAX)
        .collect()
}

/// What broke, without the bytes that async-imap would quote: they may be somebody's mail.
fn broken(error: &async_imap::error::Error) -> String {
    match error {
        async_imap::error::Error::Io(error) => io_words(error).to_owned(),
        async_imap::error::Error::ConnectionLost => "the connection was closed".to_owned(),
        async_imap::error::Error::No(text) | async_imap::error::Error::Bad(text) => {
            words(Some(text))
        }
        _ => "an unexpected answer".to_owned(),
    }
}

fn io_words(error: &std::io::Error) -> &'static str {
    use std::io::ErrorKind as Kind;
    match error.kind() {
        Kind::ConnectionRefused => "connection refused",
        Kind::ConnectionReset | Kind::BrokenPipe | Kind::ConnectionAborted => "connection reset",
        Kind::UnexpectedEof => "the connection was closed",
        Kind::TimedOut => "timed out",
        Kind::FileTooLarge => "the answer is larger than allowed",
        Kind::HostUnreachable | Kind::NetworkUnreachable => "unreachable",
        Kind::InvalidData => "a broken TLS record or certificate",
        Kind::Other => "an answer that cannot be read",
        _ => "a network error",
    }
}

fn unavailable(host: &str, verb: &str, why: &str) -> Error {
    Error::unavailable(format!("cannot {verb} at {host}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn internal_dates_are_read_with_their_zone() {
        assert_eq!(
            internal_date("17-Jul-1996 02:44:25 -0700"),
            Some(837_596_665)
        );
        assert_eq!(
            internal_date(" 7-Jul-1996 02:44:25 +0000"),
            Some(836_707_465)
        );
        assert_eq!(internal_date("yesterday"), None);
    }

    #[test]
    fn mailbox_names_are_quoted() {
        assert_eq!(quoted("a\\b\"c"), "\"a\\\\b\\\"c\"");
    }
}
