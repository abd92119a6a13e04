//! `[bus]`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use connector_api::SecretRef;
use schemars::JsonSchema;
use serde::Deserialize;

use super::super::text::HttpUrl;

/// Holds what was accepted until the router has decided it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bus {
    /// `local` is a log in the store's own database; needs no other server. `kafka` is for several
    /// processes.
    pub kind: BusKind,
    /// Kafka: before the name of every topic and of the consumer group.
    #[schemars(regex(pattern = r"^[A-Za-z0-9._-]{1,200}$"))]
    pub prefix: String,
    /// Kafka: brokers to begin with, `host:port`.
    #[schemars(inner(regex(pattern = r"^[^\s,]+:[0-9]{1,5}$")))]
    pub brokers: Vec<String>,
    /// Kafka: partitions that the topic is made with; `switchboard bus grow` goes to more of them.
    #[schemars(range(min = 1, max = 1000))]
    pub partitions: u32,
    /// Kafka: brokers that each record is kept on.
    #[schemars(range(min = 1, max = 9))]
    pub replication: u32,
    /// Kafka: how processes share out partitions. `classic` works on all brokers, and misses a process after six
    /// seconds; `consumer` (KIP-848) leaves the sharing, and after how long a process is missed, to brokers of Kafka 4.
    pub group_protocol: GroupProtocol,
    /// Kafka: settings of the topic that are taken as they are, though they can lose records or keep
    /// them too long.
    pub accept_unsafe: Vec<UnsafeTopic>,
    /// Kafka: whether connections are encrypted, and the brokers' names and certificates checked. Default:
    /// `off`, for brokers on this machine or in a network of their own.
    #[serde(default)]
    pub tls: Option<BusTls>,
    /// Kafka: PEM file of the authority that the brokers' certificates are from. Default: those of the
    /// system.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub ca_file: Option<PathBuf>,
    /// Kafka: PEM file of our own certificate and its issuers, where brokers ask for one.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub cert_file: Option<PathBuf>,
    /// Kafka: PEM file of its private key.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub key_file: Option<PathBuf>,
    /// Kafka: how we say who we are. Default: not at all, or by `cert_file`.
    #[serde(default)]
    pub sasl: Option<Sasl>,
    /// Kafka: the user's name, for `plain` and `scram-sha-…`.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub username: Option<String>,
    /// Kafka: the user's password.
    #[serde(default)]
    pub password: Option<SecretRef>,
    /// Kafka: accepts that `plain` and `oauthbearer` send the password or the token unencrypted, without
    /// `tls` to brokers on other hosts.
    #[serde(default)]
    #[schemars(extend("default" = false))]
    pub sasl_unencrypted: bool,
    /// Kafka: where `oauthbearer` gets its tokens (OAuth 2.0, client credentials). `https`, or `http` on
    /// this machine.
    #[serde(default)]
    pub token_url: Option<HttpUrl>,
    /// Kafka: PEM file of the authority that the certificate of `token_url` is from. Default: those of
    /// the system.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub token_ca_file: Option<PathBuf>,
    /// Kafka: whom `token_url` knows.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub client_id: Option<String>,
    /// Kafka: the secret of `client_id`.
    #[serde(default)]
    pub client_secret: Option<SecretRef>,
    /// Kafka: what the token is asked for. Default: what `token_url` gives unasked.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub scope: Option<String>,
    /// Kafka: passed through to librdkafka, except for what Switchboard sets itself.
    #[serde(default)]
    pub librdkafka: BTreeMap<String, Passed>,
    /// Kafka: the same, for keys that hold secrets.
    #[serde(default)]
    pub librdkafka_secrets: BTreeMap<String, SecretRef>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum GroupProtocol {
    Classic,
    Consumer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BusTls {
    Off,
    On,
}

/// How brokers are told who we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum Sasl {
    #[serde(rename = "plain")]
    Plain,
    #[serde(rename = "scram-sha-256")]
    ScramSha256,
    #[serde(rename = "scram-sha-512")]
    ScramSha512,
    #[serde(rename = "oauthbearer")]
    OAuthBearer,
}

/// What a topic can have wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum UnsafeTopic {
    OneInSyncReplica,
    UncleanElection,
    ShortRetention,
    LongRetention,
    SizeRetention,
    Compaction,
}

/// A value of librdkafka's.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Passed {
    Flag(bool),
    Number(i64),
    Text(String),
}

impl JsonSchema for Passed {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Passed".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": ["string", "integer", "boolean"] })
    }
}

impl std::fmt::Display for Passed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Flag(flag) => flag.fmt(f),
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BusKind {
    Local,
    Kafka,
}

/// What is told to others on the bus, beside the topic of all events.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FanOut {
    /// Kafka: a topic of each agent queue, so that a backend can read a queue without asking the API.
    pub queue_topics: bool,
}
