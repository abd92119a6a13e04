//! What the clients are configured with. What the promises rest on is set last, so that nothing which is
//! passed through can replace it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use tokio::time::Instant;

use super::security::Security;

/// How long brokers may take to acknowledge a record: webhooks' providers give up after about ten seconds.
pub const DELIVERY_MAX: Duration = Duration::from_secs(8);
/// Largest record: a mail's text and HTML; its files and captured bytes are in the blob store.
pub const RECORD_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Bytes and records that may wait for the brokers; above these intake refuses.
pub const WAITING_BYTES_MAX: usize = 64 * 1024 * 1024;
pub const WAITING_RECORDS_MAX: usize = 50_000;
/// Bytes that the consumer fetches ahead of its windows, over all partitions.
const FETCHED_KBYTES_MAX: u32 = 8 * 1024;

/// What librdkafka does not take, without the value: it may be a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("bus.librdkafka: {}{why}", .key.as_ref().map(|key| format!("{key}: ")).unwrap_or_default())]
pub struct WrongSetting {
    /// The key of librdkafka, where one is to blame.
    pub key: Option<String>,
    pub why: String,
}

impl From<KafkaError> for WrongSetting {
    fn from(error: KafkaError) -> Self {
        let KafkaError::ClientConfig(_, said, key, value) = error else {
            let why = error.to_string();
            return Self { key: None, why };
        };
        let why = match value.as_str() {
            "" => said,
            value => said.replace(value, "…"),
        };
        let key = Some(key);
        Self { key, why }
    }
}

/// Where the topics are and how they have to be.
#[derive(Debug, Clone)]
pub struct Settings {
    pub brokers: String,
    /// Before the name of every topic and of the consumer group.
    pub prefix: String,
    pub partitions: u32,
    pub replication: u32,
    pub retention: Duration,
    /// Partitions are shared out by the brokers (KIP-848), not by the processes among themselves.
    pub brokers_share_out: bool,
    /// Settings of a topic that are taken as they are, though they can lose records.
    pub accepted: Vec<super::topic::Unsafe>,
    /// TLS and SASL.
    pub security: Security,
    /// Passed through to librdkafka.
    pub librdkafka: BTreeMap<String, String>,
    /// Whether the topic is created and checked at start; librdkafka's mock cluster cannot be asked.
    pub check_topic: bool,
    /// What clients with these settings said of brokers that do not answer.
    pub overheard: Overheard,
}

/// How long a reason is of now: clients try again at least every ten seconds, and log it again.
const OVERHEARD_MAX: Duration = Duration::from_secs(30);

/// The last reason that was logged, until somebody wants to know it.
#[derive(Debug, Clone, Default)]
pub struct Overheard(Arc<Mutex<Option<(Instant, String)>>>);

impl Overheard {
    pub fn note(&self, why: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), why));
    }

    pub fn take(&self) -> Option<String> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, why) = last.take()?;
        (at.elapsed() < OVERHEARD_MAX).then_some(why)
    }
}

impl Settings {
    pub fn topic(&self) -> String {
        format!("{}.inbound", self.prefix)
    }

    pub fn producer(&self) -> ClientConfig {
        let mut config = self.common();
        // Each is what it is called: acknowledged by all in-sync replicas, once, in order.
        config.set("acks", "all");
        config.set("enable.idempotence", "true");
        config.set("max.in.flight.requests.per.connection", "5");
        config.set("retries", i32::MAX.to_string());
        config.set("message.timeout.ms", DELIVERY_MAX.as_millis().to_string());
        config.set("message.max.bytes", RECORD_BYTES_MAX.to_string());
        // Room is kept by the bus itself; these are never reached.
        let kbytes = 2 * (WAITING_BYTES_MAX + RECORD_BYTES_MAX) / 1024;
        config.set("queue.buffering.max.kbytes", kbytes.to_string());
        let records = 2 * WAITING_RECORDS_MAX;
        config.set("queue.buffering.max.messages", records.to_string());
        config
    }

    /// Of relays: what is told to others waits for the brokers as long as it has to, since giving up on a
    /// record lets those behind it overtake it.
    pub fn relay(&self) -> ClientConfig {
        let mut config = self.producer();
        config.set("message.timeout.ms", "0");
        // As Kafka's own clients do it, by the key.
        config.set("partitioner", "murmur2_random");
        config.set("linger.ms", "5");
        // Metrics of the clients are those of the bus.
        config.set("statistics.interval.ms", "0");
        config
    }

    /// Of what is appended to a topic that is being sealed: what it refuses is refused alone.
    pub fn marker(&self) -> ClientConfig {
        let mut config = self.producer();
        config.set("enable.idempotence", "false");
        config.set("statistics.interval.ms", "0");
        config
    }

    pub fn consumer(&self) -> ClientConfig {
        let mut config = self.common();
        config.set("group.id", format!("{}.router", self.prefix));
        // Positions are the store's. A position that the log does not have is an error, and no reason to
        // begin anywhere else.
        config.set("auto.offset.reset", "error");
        config.set("enable.auto.commit", "false");
        config.set("enable.auto.offset.store", "false");
        match self.brokers_share_out {
            // After how long a member is missed is theirs to say, too; librdkafka refuses to be told.
            true => {
                config.set("group.protocol", "consumer");
                config.remove("session.timeout.ms");
                config.remove("heartbeat.interval.ms");
            }
            false => {
                config.set("partition.assignment.strategy", "cooperative-sticky");
            }
        }
        config.set("isolation.level", "read_committed");
        config.set("queued.max.messages.kbytes", FETCHED_KBYTES_MAX.to_string());
        config.set("fetch.message.max.bytes", (1024 * 1024).to_string());
        // Larger than a record; the consumer takes one that is larger than what it fetches at once alone.
        let most = RECORD_BYTES_MAX + 1024 * 1024;
        config.set("receive.message.max.bytes", (most + 1024).to_string());
        config.set("fetch.max.bytes", most.to_string());
        config.set("allow.auto.create.topics", "false");
        config
    }

    pub fn admin(&self) -> ClientConfig {
        self.common()
    }

    fn common(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set_log_level(RDKafkaLogLevel::Info);
        let defaults = [
            ("client.id", "switchboard"),
            ("compression.type", "zstd"),
            // A millisecond gathers what comes at once; a lone record does not wait for others.
            ("linger.ms", "1"),
            // The least that brokers allow unless they are told otherwise: what a process did that died is to be
            // another's within ten seconds.
            ("session.timeout.ms", "6000"),
            ("heartbeat.interval.ms", "1000"),
            ("reconnect.backoff.max.ms", "2000"),
            ("socket.keepalive.enable", "true"),
            ("fetch.wait.max.ms", "100"),
        ];
        for (key, value) in defaults {
            config.set(key, value);
        }
        for (key, value) in &self.librdkafka {
            config.set(key, value);
        }
        self.security.set(&mut config);
        config.set("bootstrap.servers", &self.brokers);
        config.set("statistics.interval.ms", "1000");
        config
    }
}
