//! The two servers of a channel and how to get in.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use connector_api::{BuildContext, SecretRef, SecretString};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::preset::{KnownServer, Preset};
use crate::config::{host, one_line};
use crate::oauth::OAuth;

/// Most mailboxes of a channel: they share one connection.
const MAILBOXES_MAX: usize = 20;

/// The mailbox to read.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ImapConfig {
    /// Host name; certificates are checked against it. Required without a preset.
    pub host: Option<String>,
    /// Default: 993 for implicit TLS, else 143.
    pub port: Option<u16>,
    /// How the connection is protected. Default: starttls with the ports 143, 587 and 25, else
    /// implicit.
    pub tls: Option<Tls>,
    /// Login name. Default: `address`.
    pub user: Option<String>,
    /// Password; without one, `oauth` logs in.
    pub password: Option<SecretRef>,
    /// The mailboxes to read. New mail in the first is seen at once, in the others at the next look,
    /// every `poll_interval`. Default: `INBOX`.
    pub mailboxes: Option<Vec<String>>,
    /// What happens to a mail in its mailbox once it is filed: `nothing`, `seen`, or moved with
    /// `{ move = "Done" }`. Default: nothing, and the mailbox is opened read-only.
    pub after: Option<After>,
}

/// The server that takes our answers.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SmtpConfig {
    /// Host name; certificates are checked against it. Required without a preset.
    pub host: Option<String>,
    /// Default: 465 for implicit TLS, 587 for STARTTLS, 25 without.
    pub port: Option<u16>,
    /// How the connection is protected. Default: starttls with the ports 143, 587 and 25, else
    /// implicit.
    pub tls: Option<Tls>,
    /// Login name, if the server wants one. Default: `imap.user`, where there is a password or a
    /// preset.
    pub user: Option<String>,
    /// Password, if the server wants one; a user without a password logs in by `oauth`.
    pub password: Option<SecretRef>,
}

/// How a connection is protected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Tls {
    /// From the first byte (RFC 8314).
    #[default]
    Implicit,
    /// By `STARTTLS`, which must succeed.
    Starttls,
    /// Not at all; only on this machine's own loopback.
    None,
}

/// What happens to a mail in its mailbox once it is filed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum After {
    /// It stays as it is.
    #[default]
    Nothing,
    /// It is marked as read.
    Seen,
    /// It goes to this mailbox.
    Move(String),
}

/// One server and how to get in.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    /// `imap` or `smtp`: what it speaks, and the table that configures it.
    pub(crate) key: &'static str,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) tls: Tls,
    pub(crate) login: Option<Login>,
    /// For one answer.
    pub(crate) timeout: Duration,
    pub(crate) client: Arc<rustls::ClientConfig>,
}

#[derive(Debug, Clone)]
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) proof: Proof,
}

#[derive(Clone)]
pub(crate) enum Proof {
    Password(SecretString),
    Token(Arc<OAuth>),
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Password(_) => "Password",
            Self::Token(_) => "Token",
        })
    }
}

impl Tls {
    fn as_str(self) -> &'static str {
        match self {
            Self::Implicit => "implicit",
            Self::Starttls => "starttls",
            Self::None => "none",
        }
    }

    /// What these ports are for (RFC 8314, section 7; IANA); others may be anything.
    fn usual(port: u16) -> Option<Self> {
        match port {
            993 | 465 => Some(Self::Implicit),
            143 | 587 | 25 => Some(Self::Starttls),
            _ => None,
        }
    }
}

impl Server {
    /// What it speaks and where it is: `imap imap.shop.example:993`. What went wrong there begins
    /// with it.
    pub(crate) fn place(&self) -> String {
        let Self {
            key, host, port, ..
        } = self;
        match host.contains(':') {
            true => format!("{key} [{host}]:{port}"),
            false => format!("{key} {host}:{port}"),
        }
    }

    /// The same server for somebody who waits for the answer.
    pub(crate) fn hurried(&self, timeout: Duration) -> Self {
        Self {
            timeout: self.timeout.min(timeout),
            ..self.clone()
        }
    }

    /// What is taken and is probably not meant.
    pub(super) fn warning(&self) -> Option<String> {
        let Self { key, port, tls, .. } = self;
        let usual = Tls::usual(*port).filter(|usual| usual != tls)?;
        // Only this machine itself listens there.
        if *tls == Tls::None && usual == Tls::Starttls {
            return None;
        }
        Some(format!(
            "{key}.tls = \"{}\" and {key}.port = {port} contradict each other: servers expect \"{}\" there",
            tls.as_str(),
            usual.as_str()
        ))
    }

    pub(crate) fn uses_oauth(&self) -> bool {
        let proof = self.login.as_ref().map(|login| &login.proof);
        matches!(proof, Some(Proof::Token(_)))
    }
}

/// What both servers are checked with.
pub(super) struct Common<'a> {
    pub(super) address: &'a str,
    pub(super) preset: Option<Preset>,
    pub(super) oauth: Option<&'a Arc<OAuth>>,
    pub(super) timeout: Duration,
    pub(super) client: Arc<rustls::ClientConfig>,
    pub(super) context: &'a BuildContext,
}

pub(super) fn imap(config: ImapConfig, common: &Common<'_>, faults: &mut Vec<String>) -> Server {
    let user = config.user.unwrap_or_else(|| common.address.to_owned());
    let proof = match (&config.password, common.oauth) {
        (Some(password), _) => common.password("imap", password, faults),
        (None, Some(oauth)) => Some(Proof::Token(Arc::clone(oauth))),
        (None, None) => {
            faults.push("imap.password is missing (or oauth)".to_owned());
            None
        }
    };
    let known = common.preset.map(Preset::imap);
    let default_port = |tls| match tls {
        Tls::Implicit => 993,
        _ => 143,
    };
    let place = (config.host, config.port, config.tls);
    let login = common.login("imap", user, proof, faults);
    common.server("imap", place, known, default_port, login, faults)
}

pub(super) fn smtp(
    config: SmtpConfig,
    imap_user: &str,
    common: &Common<'_>,
    faults: &mut Vec<String>,
) -> Server {
    let wants_login = config.user.is_some() || common.preset.is_some();
    let proof = match (&config.password, common.oauth) {
        (Some(password), _) => common.password("smtp", password, faults),
        (None, Some(oauth)) if wants_login => Some(Proof::Token(Arc::clone(oauth))),
        (None, None) if wants_login => {
            faults.push(
                "smtp.password is missing: smtp.user and smtp.password belong together (or oauth)"
                    .to_owned(),
            );
            None
        }
        (None, _) => None,
    };
    let known = common.preset.map(Preset::smtp);
    let default_port = |tls| match tls {
        Tls::Implicit => 465,
        Tls::Starttls => 587,
        Tls::None => 25,
    };
    let place = (config.host, config.port, config.tls);
    let user = config.user.unwrap_or_else(|| imap_user.to_owned());
    let login = common.login("smtp", user, proof, faults);
    common.server("smtp", place, known, default_port, login, faults)
}

/// The mailboxes to read, and what happens to their mails.
pub(super) fn mailboxes(config: &mut ImapConfig, faults: &mut Vec<String>) -> (Vec<String>, After) {
    let inbox = || vec!["INBOX".to_owned()];
    let mailboxes = config.mailboxes.take().unwrap_or_else(inbox);
    let after = config.after.take().unwrap_or_default();
    if mailboxes.is_empty() || mailboxes.len() > MAILBOXES_MAX {
        faults.push(format!(
            "imap.mailboxes: name between 1 and {MAILBOXES_MAX}"
        ));
    }
    for (at, mailbox) in mailboxes.iter().enumerate() {
        one_line("imap.mailboxes", mailbox, faults);
        if mailbox.trim().is_empty() {
            faults.push("imap.mailboxes: a name is empty".to_owned());
        }
        if mailboxes
            .iter()
            .skip(at + 1)
            .any(|other| same_mailbox(other, mailbox))
        {
            faults.push(format!("imap.mailboxes: {mailbox:?} is named twice"));
        }
    }
    if let After::Move(target) = &after {
        one_line("imap.after.move", target, faults);
        if target.trim().is_empty() {
            faults.push("imap.after.move is empty".to_owned());
        }
        if mailboxes
            .iter()
            .any(|mailbox| same_mailbox(mailbox, target))
        {
            faults.push(format!(
                "imap.after.move: {target:?} is read by this channel, what is moved there would come again"
            ));
        }
    }
    (mailboxes, after)
}

/// `INBOX` is the one name whose case does not matter (RFC 3501, section 5.1).
pub(crate) fn same_mailbox(left: &str, right: &str) -> bool {
    let both_inbox = [left, right]
        .iter()
        .all(|name| name.eq_ignore_ascii_case("INBOX"));
    left == right || both_inbox
}

impl Common<'_> {
    fn password(&self, key: &str, password: &SecretRef, faults: &mut Vec<String>) -> Option<Proof> {
        if let Some(fault) = self.preset.and_then(Preset::fault_of_password) {
            faults.push(format!("{key}.password: {fault}"));
        }
        match self.context.secrets.resolve(password) {
            Ok(password) => Some(Proof::Password(password)),
            Err(error) => {
                faults.push(format!("{key}.password: {error}"));
                None
            }
        }
    }

    fn login(
        &self,
        key: &str,
        user: String,
        proof: Option<Proof>,
        faults: &mut Vec<String>,
    ) -> Option<Login> {
        one_line(&format!("{key}.user"), &user, faults);
        if user.trim().is_empty() {
            faults.push(format!("{key}.user is empty"));
        }
        proof.map(|proof| Login { user, proof })
    }

    fn server(
        &self,
        key: &'static str,
        (given_host, given_port, given_tls): (Option<String>, Option<u16>, Option<Tls>),
        known: Option<KnownServer>,
        default_port: impl Fn(Tls) -> u16,
        login: Option<Login>,
        faults: &mut Vec<String>,
    ) -> Server {
        let known_tls = known.as_ref().map(|known| known.tls);
        let usual_tls = given_port.and_then(Tls::usual);
        let tls = given_tls.or(usual_tls).or(known_tls).unwrap_or_default();
        // A port belongs to a way of protection: another way, another port.
        let known_port = known.as_ref().filter(|known| known.tls == tls);
        let port = given_port.or(known_port.map(|known| known.port));
        let name = given_host.or(known.map(|known| known.host.to_owned()));
        match &name {
            Some(name) => host(key, name, tls, faults),
            None => faults.push(format!("{key}.host is missing (or a preset)")),
        }
        Server {
            key,
            host: name.unwrap_or_default(),
            port: port.unwrap_or_else(|| default_port(tls)),
            tls,
            login,
            timeout: self.timeout,
            client: Arc::clone(&self.client),
        }
    }
}
