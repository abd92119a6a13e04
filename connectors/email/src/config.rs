//! The channel's configuration: read strictly, checked as a whole, every fault named at once.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use connector_api::{BuildContext, Error, Result, SecretRef, SecretString};
use jiff::{SignedDuration, Span};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::parse::{OwnAddresses, ParseSettings, normalise_address};
use crate::smtp::VERP_LOCAL_CHARS_MAX;
use crate::tls;
use crate::webhook::config::Receiver;
pub use crate::webhook::config::{Provider, WebhookConfig};

const MAIL_BYTES_MAX_DEFAULT: u64 = 25 * 1024 * 1024;

/// Above this a mail could not be held in memory together with its parsed form.
const MAIL_BYTES_MAX_LIMIT: u64 = 150 * 1024 * 1024;

/// Mail read over IMAP or posted by a mail service, answers sent over SMTP.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Our address: From of every answer, and the base of plus addresses.
    pub address: String,
    /// Further addresses of ours that mail may arrive under.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// The name shown beside our address.
    #[serde(default)]
    pub name: Option<String>,
    /// The mailbox to read.
    #[serde(default)]
    pub imap: Option<ImapConfig>,
    /// The service that posts mails to us, instead of a mailbox.
    #[serde(default)]
    pub webhook: Option<WebhookConfig>,
    /// The server that takes our answers.
    pub smtp: SmtpConfig,
    /// Id that our mail server writes into `Authentication-Results` (usually its host name). Only
    /// set it for a server that stamps every mail: its `dmarc=pass` proves who wrote.
    #[serde(default)]
    pub authserv_id: Option<String>,
    /// How far back a first connection imports old mail, as closed history: `30d`. Default: not at all.
    #[serde(default)]
    pub backfill: Option<String>,
    /// How often the mailbox is looked at beside (or without) IDLE.
    #[serde(default = "default_poll_interval")]
    pub poll_interval: String,
    /// How long a server may take to answer; ten times as long where mails are carried.
    #[serde(default = "default_timeout")]
    pub timeout: String,
    /// PEM file with further certificate authorities, for private servers.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Largest mail read whole, in bytes; of larger ones only the headers.
    #[serde(default = "default_mail_bytes_max")]
    pub mail_bytes_max: u64,
    /// Answers come back to `local+token@domain`. Turn it off for servers without plus addressing.
    #[serde(default = "default_true")]
    pub plus_address: bool,
    /// Bounces come back to `local+message@domain` (VERP), so that those that quote nothing of the
    /// mail find their message, too. Needs plus addressing; a mail to several is sent one by one.
    #[serde(default)]
    pub verp: bool,
}

/// The mailbox to read.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImapConfig {
    /// Host name; certificates are checked against it.
    pub host: String,
    /// Default: 993 for implicit TLS, else 143.
    #[serde(default)]
    pub port: Option<u16>,
    /// How the connection is protected.
    #[serde(default)]
    pub tls: Tls,
    /// Login name.
    pub user: String,
    /// Password.
    pub password: SecretRef,
    /// The mailbox; one channel reads one.
    #[serde(default = "default_mailbox")]
    pub mailbox: String,
}

/// The server that takes our answers.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SmtpConfig {
    /// Host name; certificates are checked against it.
    pub host: String,
    /// Default: 465 for implicit TLS, 587 for STARTTLS, 25 without.
    #[serde(default)]
    pub port: Option<u16>,
    /// How the connection is protected.
    #[serde(default)]
    pub tls: Tls,
    /// Login name, if the server wants one.
    #[serde(default)]
    pub user: Option<String>,
    /// Password, if the server wants one.
    #[serde(default)]
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

/// A checked configuration with its secrets resolved.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) address: String,
    pub(crate) name: Option<String>,
    pub(crate) plus_address: bool,
    pub(crate) verp: bool,
    pub(crate) imap: Option<Server>,
    pub(crate) mailbox: String,
    pub(crate) webhook: Option<Receiver>,
    pub(crate) smtp: Server,
    pub(crate) backfill: Option<SignedDuration>,
    pub(crate) poll_interval: Duration,
    pub(crate) parse: ParseSettings,
}

/// One server and how to get in.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) tls: Tls,
    pub(crate) login: Option<Login>,
    /// For one answer.
    pub(crate) timeout: Duration,
    pub(crate) client: Arc<rustls::ClientConfig>,
}

/// Shows no password in `Debug`: `SecretString` does not.
#[derive(Debug)]
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) password: SecretString,
}

/// Checks everything that needs no network.
pub(crate) fn check(config: Config, context: &BuildContext) -> Result<Settings> {
    let mut faults = Vec::new();
    let address = own_address("address", &config.address, &mut faults);
    let aliases: Vec<String> = config
        .aliases
        .iter()
        .map(|alias| own_address("aliases", alias, &mut faults))
        .collect();
    one_line(
        "name",
        config.name.as_deref().unwrap_or_default(),
        &mut faults,
    );
    match (&config.imap, &config.webhook) {
        (Some(_), None) | (None, Some(_)) => {}
        (None, None) => faults.push("one of imap and webhook says how mail comes in".to_owned()),
        (Some(_), Some(_)) => {
            faults.push("imap and webhook exclude each other: use a channel for each".to_owned())
        }
    }
    let user = config.smtp.user.as_deref().unwrap_or_default();
    one_line("smtp.user", user, &mut faults);
    if let Some(imap) = &config.imap {
        for (key, text) in [("imap.user", &imap.user), ("imap.mailbox", &imap.mailbox)] {
            one_line(key, text, &mut faults);
            if text.trim().is_empty() {
                faults.push(format!("{key} is empty"));
            }
        }
        host("imap", &imap.host, imap.tls, &mut faults);
    }
    if config
        .authserv_id
        .as_deref()
        .is_some_and(|id| id.trim().is_empty())
    {
        faults.push("authserv_id is empty".to_owned());
    }
    host("smtp", &config.smtp.host, config.smtp.tls, &mut faults);
    let poll_interval = duration("poll_interval", &config.poll_interval, &mut faults);
    let timeout = duration("timeout", &config.timeout, &mut faults);
    let backfill = config
        .backfill
        .as_deref()
        .map(|text| duration("backfill", text, &mut faults));
    if !(1..=MAIL_BYTES_MAX_LIMIT).contains(&config.mail_bytes_max) {
        faults.push(format!(
            "mail_bytes_max must lie between 1 and {MAIL_BYTES_MAX_LIMIT}"
        ));
    }
    let extra_ca = config
        .ca_file
        .as_deref()
        .and_then(|path| read_ca(path, &mut faults));
    let client = tls::client_config(extra_ca.as_deref()).unwrap_or_else(|fault| {
        faults.push(fault);
        tls::without_roots()
    });
    let imap_login = config.imap.as_ref().and_then(|imap| {
        let (user, password) = (Some(&imap.user), Some(&imap.password));
        login("imap", user, password, context, &mut faults)
    });
    let webhook = config
        .webhook
        .and_then(|webhook| webhook.check(context, &mut faults));
    let smtp_login = login(
        "smtp",
        config.smtp.user.as_ref(),
        config.smtp.password.as_ref(),
        context,
        &mut faults,
    );
    let local = address.split(['@', '+']).next().unwrap_or_default();
    if config.verp && local.len() > VERP_LOCAL_CHARS_MAX {
        faults.push(format!(
            "verp: the address has more than {VERP_LOCAL_CHARS_MAX} characters before the @"
        ));
    }
    if !faults.is_empty() {
        let channel = &context.channel;
        return Err(Error::config(format!(
            "channel {channel}: {}",
            faults.join("; ")
        )));
    }
    let server = |host: String, port: Option<u16>, default_port: u16, tls, login| Server {
        host,
        port: port.unwrap_or(default_port),
        tls,
        login,
        timeout: timeout.unsigned_abs(),
        client: Arc::clone(&client),
    };
    let smtp_port = match config.smtp.tls {
        Tls::Implicit => 465,
        Tls::Starttls => 587,
        Tls::None => 25,
    };
    let mailbox = config.imap.as_ref().map(|imap| imap.mailbox.clone());
    let imap = config.imap.map(|imap| {
        let default_port = if imap.tls == Tls::Implicit { 993 } else { 143 };
        server(imap.host, imap.port, default_port, imap.tls, imap_login)
    });
    let own = aliases.iter().chain([&address]).map(String::as_str);
    Ok(Settings {
        parse: ParseSettings {
            own: OwnAddresses::new(own),
            authserv_id: config.authserv_id.map(|id| id.trim().to_owned()),
            mail_bytes_max: config.mail_bytes_max,
        },
        address,
        name: config.name.filter(|name| !name.trim().is_empty()),
        plus_address: config.plus_address,
        verp: config.verp,
        imap,
        mailbox: mailbox.unwrap_or_default(),
        webhook,
        smtp: server(
            config.smtp.host,
            config.smtp.port,
            smtp_port,
            config.smtp.tls,
            smtp_login,
        ),
        backfill,
        poll_interval: poll_interval.unsigned_abs(),
    })
}

fn default_poll_interval() -> String {
    "60s".to_owned()
}

fn default_timeout() -> String {
    "30s".to_owned()
}

fn default_mail_bytes_max() -> u64 {
    MAIL_BYTES_MAX_DEFAULT
}

fn default_mailbox() -> String {
    "INBOX".to_owned()
}

fn default_true() -> bool {
    true
}

fn own_address(key: &str, text: &str, faults: &mut Vec<String>) -> String {
    let address = normalise_address(text);
    let is_sendable = address
        .as_deref()
        .is_some_and(|address| address.parse::<lettre::Address>().is_ok());
    if !is_sendable {
        faults.push(format!("{key}: {text:?} is no mail address"));
    }
    address.unwrap_or_default()
}

fn one_line(key: &str, text: &str, faults: &mut Vec<String>) {
    if text.contains(char::is_control) {
        faults.push(format!("{key} contains control characters"));
    }
}

fn host(key: &str, host: &str, tls: Tls, faults: &mut Vec<String>) {
    if rustls::pki_types::ServerName::try_from(host).is_err() {
        faults.push(format!("{key}.host: {host:?} is no host name"));
    } else if tls == Tls::None && !is_loopback(host) {
        faults.push(format!(
            "{key}.tls = \"none\" is allowed on loopback only, not for {host}"
        ));
    }
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host
            .parse()
            .is_ok_and(|address: IpAddr| address.is_loopback())
}

/// `60s`, `5m`, `30d`; a day has 24 hours.
fn duration(key: &str, text: &str, faults: &mut Vec<String>) -> SignedDuration {
    let parsed = text.parse::<Span>().ok();
    let length = parsed.and_then(|span| {
        span.to_duration(jiff::SpanRelativeTo::days_are_24_hours())
            .ok()
    });
    match length {
        Some(length) if length >= SignedDuration::from_secs(1) => length,
        _ => {
            faults.push(format!(
                "{key}: {text:?} is no duration of at least a second, write 60s, 5m or 30d"
            ));
            SignedDuration::ZERO
        }
    }
}

fn read_ca(path: &Path, faults: &mut Vec<String>) -> Option<String> {
    match std::fs::read_to_string(path) {
        Ok(pem) => Some(pem),
        Err(error) => {
            faults.push(format!("cannot read ca_file {}: {error}", path.display()));
            None
        }
    }
}

fn login(
    key: &str,
    user: Option<&String>,
    password: Option<&SecretRef>,
    context: &BuildContext,
    faults: &mut Vec<String>,
) -> Option<Login> {
    let (user, password) = match (user, password) {
        (Some(user), Some(password)) => (user, password),
        (None, None) => return None,
        _ => {
            faults.push(format!("{key}.user and {key}.password belong together"));
            return None;
        }
    };
    match context.secrets.resolve(password) {
        Ok(password) => Some(Login {
            user: user.clone(),
            password,
        }),
        Err(error) => {
            faults.push(format!("{key}.password: {error}"));
            None
        }
    }
}
