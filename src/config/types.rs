//! The sections of the configuration, typed. The built-in defaults are `config/default.toml`, so
//! that the documented and the real ones cannot differ; only tables with ids default here.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use connector_api::{BrandId, ChannelId, QueueId, SecretRef};
use schemars::JsonSchema;
use serde::Deserialize;

use super::error::Origin;
use super::text::{self, HttpUrl, Label, Language, Network, WebOrigin};
use crate::conversation::Priority;

mod bus;
mod store;

pub use bus::{Bus, BusKind, BusTls, FanOut, GroupProtocol, Passed, Sasl, UnsafeTopic};
pub use store::{Store, StoreKind, StoreTls, UnsafeDatabase};

/// The queue of a channel that names none.
pub const QUEUE_DEFAULT: &str = "frontline";

/// How the daemon is reached and where its data lies.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// IP address and port of the API and of the webhooks. Plain HTTP, unless `tls` is set.
    #[schemars(with = "text::SocketAddressText")]
    pub listen: SocketAddr,
    /// The listener's own TLS. Default: none, a proxy before it does that.
    #[serde(default)]
    pub tls: Option<Tls>,
    /// Directory of the database, the attachments and the keys; relative to the working directory.
    #[schemars(length(min = 1))]
    pub data_dir: PathBuf,
    /// URL under which providers and browsers reach this daemon.
    #[serde(default)]
    pub public_url: Option<HttpUrl>,
    /// Proxies whose `X-Forwarded-For` is believed: addresses or networks.
    pub trusted_proxies: Vec<Network>,
    /// Web origins whose pages may use the API.
    pub cors_origins: Vec<WebOrigin>,
    /// Largest request body, in bytes; larger ones get a 413.
    #[serde(deserialize_with = "text::size")]
    #[schemars(with = "text::SizeText")]
    pub body_bytes_max: u64,
    /// Largest file of an answer, in bytes; larger ones get a 413.
    #[serde(deserialize_with = "text::size")]
    #[schemars(with = "text::SizeText")]
    pub upload_bytes_max: u64,
}

/// Certificate and key of the listener; renewed files are taken over without a restart.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// PEM file of the certificate and its issuers, its own first.
    #[schemars(length(min = 1))]
    pub cert: PathBuf,
    /// PEM file of the private key.
    #[schemars(length(min = 1))]
    pub key: PathBuf,
}

/// What this process runs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// Parts of the daemon in this process. With the local bus: all five.
    #[schemars(extend("uniqueItems" = true))]
    pub parts: Vec<Part>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    Inbound,
    Router,
    Dispatch,
    Api,
    Outbound,
}

impl Part {
    pub const ALL: [Self; 5] = [
        Self::Inbound,
        Self::Router,
        Self::Dispatch,
        Self::Api,
        Self::Outbound,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Router => "router",
            Self::Dispatch => "dispatch",
            Self::Api => "api",
            Self::Outbound => "outbound",
        }
    }
}

/// When a message goes into a conversation that exists.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Joining {
    /// How long after its last message an open conversation of the contact still takes a message
    /// that names no thread.
    #[serde(deserialize_with = "text::duration")]
    #[schemars(with = "text::DurationText")]
    pub unify_window: Duration,
    /// How long after it was resolved a conversation is reopened by its customer.
    #[serde(deserialize_with = "text::duration")]
    #[schemars(with = "text::DurationText")]
    pub reopen_window: Duration,
    /// How long the same text of the same contact is marked as a duplicate.
    #[serde(deserialize_with = "text::duration")]
    #[schemars(with = "text::DurationText")]
    pub duplicate_window: Duration,
    /// Over which channels a contact's messages become one conversation.
    pub across: Across,
    /// Channels that join no other channel, whatever `across` says.
    pub apart: Vec<ChannelId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Across {
    /// All channels of the brand.
    Brand,
    /// Only messages of the same channel.
    Channel,
}

impl Joining {
    /// Whether a message that came over `message` may join a conversation held over `conversation`.
    pub fn joins(&self, message: &ChannelId, conversation: &ChannelId) -> bool {
        let apart = |channel| self.apart.contains(channel);
        let joined = self.across == Across::Brand && !apart(message) && !apart(conversation);
        message == conversation || joined
    }
}

/// How long what is kept. Erasure on request does not wait for any of these.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// Captured bytes (a mail as it arrived), after which only the readable form is left.
    #[serde(deserialize_with = "text::duration")]
    #[schemars(with = "text::DurationText")]
    pub raw: Duration,
    /// Entries of the bus; 8 to 28 days.
    #[serde(deserialize_with = "text::duration")]
    #[schemars(with = "text::DurationText")]
    pub bus: Duration,
    /// Accepts a `bus` outside of 8 to 28 days.
    pub bus_unsafe: bool,
    /// Events that a stream of `GET /v1/events` can resume after.
    #[serde(deserialize_with = "text::duration")]
    #[schemars(with = "text::DurationText")]
    pub events: Duration,
    /// Resolved conversations.
    #[serde(deserialize_with = "text::duration")]
    #[schemars(with = "text::DurationText")]
    pub resolved: Duration,
    /// Dead letters, whether they were filed or not.
    #[serde(deserialize_with = "text::duration")]
    #[schemars(with = "text::DurationText")]
    pub dead_letters: Duration,
    /// Drafts that nobody goes on with.
    #[serde(deserialize_with = "text::duration")]
    #[schemars(with = "text::DurationText")]
    pub drafts: Duration,
    /// Who did what, and revoked tokens.
    #[serde(deserialize_with = "text::duration")]
    #[schemars(with = "text::DurationText")]
    pub audit: Duration,
    /// For how long you keep backups: nothing is removed by it, reports of erasures say until when one may have a copy.
    #[serde(deserialize_with = "text::duration")]
    #[schemars(with = "text::DurationText")]
    pub backups: Duration,
}

/// What operators are told of, and who.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Alerts {
    /// How often what is still wrong is said again.
    #[serde(deserialize_with = "text::duration")]
    #[schemars(with = "text::DurationText")]
    pub remind_every: Duration,
    /// What has not been so for this long is over.
    #[serde(deserialize_with = "text::duration")]
    #[schemars(with = "text::DurationText")]
    pub over_after: Duration,
    /// How long a part may be unwell.
    #[serde(deserialize_with = "text::duration")]
    #[schemars(with = "text::DurationText")]
    pub down_after: Duration,
    /// How long an answer may wait to leave.
    #[serde(deserialize_with = "text::duration")]
    #[schemars(with = "text::DurationText")]
    pub unsent_after: Duration,
    /// How long an accepted message may wait to be decided.
    #[serde(deserialize_with = "text::duration")]
    #[schemars(with = "text::DurationText")]
    pub undecided_after: Duration,
    /// Free space of the data directory's disk, in bytes.
    #[serde(deserialize_with = "text::size")]
    #[schemars(with = "text::SizeText")]
    pub disk_free_min: u64,
    /// Whether messages that cannot be filed are said.
    pub dead_letters: bool,
    /// Whether answers that are held for a person are said.
    pub outbox_held: bool,
    /// Who is told by mail. Default: nobody.
    #[serde(default)]
    pub mail: Option<AlertMail>,
    /// Where alerts are posted. Default: nowhere.
    #[serde(default)]
    pub webhook: Option<AlertWebhook>,
}

/// Alerts by mail.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AlertMail {
    /// The channel that sends them.
    pub channel: ChannelId,
    /// Mail addresses.
    #[schemars(length(min = 1, max = 20), inner(pattern(r"^[^\s@<>,]+@[^\s@<>,]+$")))]
    pub to: Vec<String>,
}

/// Alerts by webhook.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AlertWebhook {
    /// Where they are posted.
    pub url: HttpUrl,
    /// The secret they are signed with.
    pub secret: SecretRef,
    /// Hosts on private addresses that it may be, by name or address.
    #[serde(default)]
    #[schemars(inner(pattern(r"^[A-Za-z0-9._:-]{1,253}$")), extend("default" = []))]
    pub hosts: Vec<String>,
}

/// What the daemon says on standard error.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// `text` for people, `json` (one object a line) for collectors.
    pub format: LogFormat,
    /// The least important lines shown.
    pub level: LogLevel,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl From<LogLevel> for tracing::Level {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::ERROR,
            LogLevel::Warn => Self::WARN,
            LogLevel::Info => Self::INFO,
            LogLevel::Debug => Self::DEBUG,
            LogLevel::Trace => Self::TRACE,
        }
    }
}

/// The legal controller a channel belongs to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Brand {
    /// The name people see. Default: the id.
    #[serde(default)]
    #[schemars(length(min = 1, max = 200))]
    pub name: Option<String>,
    #[serde(skip)]
    pub origin: Origin,
}

/// One configured account of a connector. Keys besides these are the connector's own.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct Channel {
    /// The connector's kind.
    pub connector: String,
    /// The brand whose customers write here.
    #[serde(default)]
    #[schemars(extend("default" = "main"))]
    pub brand: BrandId,
    /// Where conversations wait that no rule puts elsewhere.
    #[serde(default = "queue_default")]
    #[schemars(extend("default" = QUEUE_DEFAULT))]
    pub queue: QueueId,
    /// What the sender of this channel's events has checked about its customers: their claimed
    /// addresses of these kinds count as verified.
    #[serde(default)]
    #[schemars(extend("default" = [], "uniqueItems" = true))]
    pub vouches: Vec<Vouch>,
    /// Hosts on private addresses that attachments may be fetched from, by name or address, exactly
    /// as their URLs write them. Everything on the public internet may be anyway.
    #[serde(default)]
    #[schemars(inner(pattern(r"^[A-Za-z0-9._:-]{1,253}$")), extend("default" = []))]
    pub attachment_hosts: Vec<String>,
    /// Silence for longer is an alert. Default: 15m for a channel that fetches, none for one that
    /// is only pushed to.
    #[serde(default, deserialize_with = "text::optional_duration")]
    #[schemars(with = "Option<text::DurationText>")]
    pub silent_after: Option<Duration>,
    /// Text of the automatic acknowledgement. Default: none is sent.
    #[serde(default)]
    #[schemars(length(min = 1, max = 10_000))]
    pub acknowledge: Option<String>,
    /// The connector's own keys.
    #[serde(flatten)]
    #[schemars(skip)]
    pub settings: serde_json::Value,
    #[serde(skip)]
    pub origin: Origin,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Vouch {
    Email,
    Phone,
}

/// Where conversations wait for agents.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Queue {
    /// The name people see. Default: the id.
    #[serde(default)]
    #[schemars(length(min = 1, max = 200))]
    pub name: Option<String>,
    /// Priority of a conversation that no rule gives one.
    #[serde(default)]
    #[schemars(extend("default" = "normal"))]
    pub priority: Priority,
    /// How long the oldest conversation may wait before an alert. Default: any time.
    #[serde(default, deserialize_with = "text::optional_duration")]
    #[schemars(with = "Option<text::DurationText>")]
    pub oldest_wait: Option<Duration>,
    /// How agents get work: `pull` waits to be claimed.
    #[serde(default)]
    #[schemars(extend("default" = "pull"))]
    pub mode: QueueMode,
    #[serde(skip)]
    pub origin: Origin,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum QueueMode {
    #[default]
    Pull,
}

/// A routing rule.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What explanations call it. Default: `rule` and its number, from 1.
    #[serde(default)]
    #[schemars(length(max = 200))]
    pub name: String,
    /// Conditions, all of which must hold. Empty: every conversation.
    #[serde(default)]
    pub when: When,
    /// Where the conversation waits. Default: the channel's queue.
    #[serde(default)]
    pub queue: Option<QueueId>,
    /// How urgent it is. Default: the queue's priority.
    #[serde(default)]
    pub priority: Option<Priority>,
    /// Tags it gets.
    #[serde(default)]
    #[schemars(inner(length(min = 1, max = 64)), extend("default" = []))]
    pub tags: Vec<String>,
    #[serde(skip)]
    pub origin: Origin,
}

/// Conditions of a rule. A list that is not empty holds when any of its members does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct When {
    /// Channels the message came over.
    #[serde(default)]
    #[schemars(extend("default" = []))]
    pub channel: Vec<ChannelId>,
    /// Languages of the message, by code of two letters.
    #[serde(default)]
    #[schemars(extend("default" = []))]
    pub language: Vec<Language>,
    /// Words or phrases in subject or text, whatever their case.
    #[serde(default)]
    #[schemars(inner(length(min = 1, max = 200)), extend("default" = []))]
    pub keywords: Vec<String>,
    /// What triage says the customer wants.
    #[serde(default)]
    #[schemars(inner(length(min = 1, max = 64)), extend("default" = []))]
    pub intent: Vec<String>,
    /// Any labels of triage with their value, as `urgency:high`.
    #[serde(default)]
    #[schemars(extend("default" = []))]
    pub labels: Vec<Label>,
    /// Whether the message was written by a machine.
    #[serde(default)]
    pub automatic: Option<bool>,
}

impl When {
    /// Whether every conversation matches.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

pub(super) fn queue_default() -> QueueId {
    QUEUE_DEFAULT
        .parse()
        .expect("the default queue is a valid id")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_join_within_the_brand_unless_set_apart() {
        let [mail, chat, jobs] =
            ["mail", "chat", "jobs"].map(|id| id.parse::<ChannelId>().unwrap());
        let mut joining = crate::config::Config::default().joining;
        joining.apart = vec![jobs.clone()];
        assert!(joining.joins(&mail, &chat));
        assert!(joining.joins(&jobs, &jobs));
        assert!(!joining.joins(&mail, &jobs) && !joining.joins(&jobs, &mail));
        joining.across = Across::Channel;
        assert!(joining.joins(&chat, &chat));
        assert!(!joining.joins(&mail, &chat));
    }
}
