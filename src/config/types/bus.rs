//! `[bus]`.

use std::collections::BTreeMap;

use connector_api::SecretRef;
use schemars::JsonSchema;
use serde::Deserialize;

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
