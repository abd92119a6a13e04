//! The channel's configuration: read strictly, checked as a whole, every fault named at once.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use connector_api::{BuildContext, Error, Result};
use jiff::{SignedDuration, Span};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::oauth::OAuth;
use crate::parse::{OwnAddresses, ParseSettings, normalise_address};
use crate::smtp::VERP_LOCAL_CHARS_MAX;
use crate::tls;
use crate::webhook::config::Receiver;
pub use crate::webhook::config::{Provider, WebhookConfig};

mod oauth;
mod preset;
mod servers;

pub use oauth::{GrantKind, OAuthConfig};
pub use preset::Preset;
pub use servers::{After, ImapConfig, SmtpConfig, Tls};
pub(crate) use servers::{Login, Proof, Server, same_mailbox};

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
    /// Fills in the servers and OAuth endpoints of a well-known provider; keys given here win.
    #[serde(default)]
    pub preset: Option<Preset>,
    /// Logs in with tokens: every server with a user and without a password does.
    #[serde(default)]
    pub oauth: Option<OAuthConfig>,
    /// The mailbox to read.
    #[serde(default)]
    pub imap: Option<ImapConfig>,
    /// The service that posts mails to us, instead of a mailbox.
    #[serde(default)]
    pub webhook: Option<WebhookConfig>,
    /// The server that takes our answers.
    #[serde(default)]
    pub smtp: SmtpConfig,
    /// Id that our mail server writes into `Authentication-Results` (usually its host name;
    /// "mx.google.com" at Gmail, and "microsoft365" stands for Exchange Online, which writes none).
    /// Only set it for a server that stamps every mail: its `dmarc=pass` proves who wrote.
    #[serde(default)]
    pub authserv_id: Option<String>,
    /// How far back a first connection imports old mail, as closed history: `30d`. Default: not at all.
    #[serde(default)]
    pub backfill: Option<String>,
    /// Most bytes of old mail read within 24 hours; the rest waits, new mail never. Default: no limit;
    /// 1500000000 with the preset "gmail", where all programs of an account share 2,500 MB a day.
    #[serde(default)]
    pub backfill_bytes_per_day: Option<u64>,
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

/// A checked configuration with its secrets resolved.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) address: String,
    pub(crate) name: Option<String>,
    pub(crate) plus_address: bool,
    pub(crate) verp: bool,
    /// None where mails come by webhook.
    pub(crate) imap: Option<Server>,
    pub(crate) webhook: Option<Receiver>,
    /// The mailboxes to read; the first one is watched.
    pub(crate) mailboxes: Vec<String>,
    pub(crate) after: After,
    pub(crate) smtp: Server,
    /// What both servers log in with that need a token.
    pub(crate) oauth: Option<Arc<OAuth>>,
    pub(crate) backfill: Option<SignedDuration>,
    pub(crate) backfill_bytes_per_day: Option<u64>,
    pub(crate) poll_interval: Duration,
    pub(crate) parse: ParseSettings,
    /// What is taken and is probably not meant.
    pub(crate) warnings: Vec<String>,
}

/// Checks everything that needs no network.
pub(crate) fn check(mut config: Config, context: &BuildContext) -> Result<Settings> {
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
    let has_preset = config.preset.is_some();
    match (config.imap.is_some(), config.webhook.is_some()) {
        (true, false) | (false, true) => {}
        (false, false) if has_preset => config.imap = Some(ImapConfig::default()),
        (false, false) => {
            faults.push("one of imap and webhook says how mail comes in (or a preset)".to_owned())
        }
        (true, true) => {
            faults.push("imap and webhook exclude each other: use a channel for each".to_owned())
        }
    }
    if config
        .authserv_id
        .as_deref()
        .is_some_and(|id| id.trim().is_empty())
    {
        faults.push("authserv_id is empty".to_owned());
    }
    let poll_interval = duration("poll_interval", &config.poll_interval, &mut faults);
    let timeout = duration("timeout", &config.timeout, &mut faults);
    let backfill = config
        .backfill
        .as_deref()
        .map(|text| duration("backfill", text, &mut faults));
    if config.backfill_bytes_per_day == Some(0) {
        faults.push("backfill_bytes_per_day must be more than 0".to_owned());
    }
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
    let preset = config.preset;
    let user = config.imap.as_ref().and_then(|imap| imap.user.clone());
    let user = user.unwrap_or_else(|| address.clone());
    let webhook = config
        .webhook
        .and_then(|webhook| webhook.check(context, &mut faults));
    let oauth = config.oauth.map(|oauth| {
        let settings = oauth::check(oauth, preset, &user, context, &mut faults);
        Arc::new(OAuth::new(settings, context))
    });
    let common = servers::Common {
        address: &address,
        preset,
        oauth: oauth.as_ref(),
        timeout: timeout.unsigned_abs(),
        client,
        context,
    };
    let (mut mailboxes, mut after) = (Vec::new(), After::Nothing);
    let imap = config.imap.map(|mut imap| {
        (mailboxes, after) = servers::mailboxes(&mut imap, &mut faults);
        servers::imap(imap, &common, &mut faults)
    });
    let smtp = servers::smtp(config.smtp, &user, &common, &mut faults);
    let uses_oauth = imap.as_ref().is_some_and(Server::uses_oauth) || smtp.uses_oauth();
    if oauth.is_some() && !uses_oauth {
        faults.push("oauth is given, and no server uses it: leave the password out".to_owned());
    }
    let local = address.split(['@', '+']).next().unwrap_or_default();
    if config.verp && local.len() > VERP_LOCAL_CHARS_MAX {
        faults.push(format!(
            "verp: the address has more than {VERP_LOCAL_CHARS_MAX} characters before the @"
        ));
    }
    if !faults.is_empty() {
        return Err(Error::config(faults.join("; ")));
    }
    let warnings = [imap.as_ref(), Some(&smtp)].into_iter().flatten();
    let warnings = warnings.filter_map(Server::warning).collect();
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
        webhook,
        mailboxes,
        after,
        smtp,
        oauth,
        backfill,
        backfill_bytes_per_day: config
            .backfill_bytes_per_day
            .or(config.preset.and_then(Preset::backfill_bytes_per_day)),
        poll_interval: poll_interval.unsigned_abs(),
        warnings,
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
            "{key}.tls = \"none\" is allowed on loopback only, not for {host}: write \"implicit\" or \"starttls\""
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
