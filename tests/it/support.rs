//! A desk for tests: a store and a bus on a made-up configuration, customers who write, and the
//! outcome as text. Everything goes through the real intake, bus, router and store; only the
//! connectors and the clock are made up.

mod actors;
mod authority;
#[cfg(feature = "postgres")]
mod beside;
mod clock;
mod desk;
#[cfg(feature = "kafka")]
pub mod kafka;
mod local;
#[cfg(feature = "postgres")]
mod postgres;
mod providers;
mod said;
#[cfg(feature = "kafka-secured")]
pub mod secured;
mod setup;
mod show;

use std::sync::Arc;
use std::time::Duration;

use connector_api::async_trait;
use switchboard::bus::Bus;
use switchboard::store::{IDEMPOTENCY_KEPT, Retention, Store};

pub use actors::{agent, agent_of, supervisor};
pub use authority::Authority;
pub use clock::ManualClock;
pub use desk::{Desk, holder};
pub use local::Local;
#[cfg(feature = "postgres")]
pub use postgres::Postgres;
pub use providers::{Provider, reconciler};
pub use said::{Said, chat, delete, echo, edit, mail, reaction, receipt, system};
pub use setup::{channel_id, channels, names, policy, queue_id, queues, senders};
pub use show::show_sorted;

/// A store and the bus it is used with, and how to open the two. What a PostgreSQL store and a
/// Kafka bus give to run the same suites as the local ones.
#[async_trait]
pub trait Backend: Send + Sync {
    /// Opens what is durable, with these names configured. Called again it finds what was durable
    /// at that moment, as after a power cut: what an earlier opening still does must not be seen.
    async fn open(&self, names: &[String], queues: &[connector_api::QueueId]) -> Opened;

    /// Whether the bus is a log in the store, which has what was accepted before it is decided.
    fn has_log(&self) -> bool {
        true
    }

    /// Does to the rows what no part of Switchboard does.
    async fn damage(&self, _sql: &str) {
        panic!("this backend is never damaged")
    }

    /// Rows by kind.
    async fn rows(&self) -> Vec<(String, i64)>;
}

/// One opening of a [`Backend`].
#[derive(Clone)]
pub struct Opened {
    pub store: Arc<dyn Store>,
    pub bus: Arc<dyn Bus>,
    pub installation_key: Vec<u8>,
}

const DAY: Duration = Duration::from_secs(24 * 3600);

/// How long each kind is kept, as in a configuration that says nothing of it.
pub const KEEP: Retention = Retention {
    raw: DAY.saturating_mul(30),
    bus: DAY.saturating_mul(14),
    idempotency: IDEMPOTENCY_KEPT,
    events: DAY.saturating_mul(7),
    audit: DAY.saturating_mul(365),
};

/// Longest wait for anything: only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(30);

/// Fails a test that would wait for ever.
pub async fn within_patience<T>(what: &str, work: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(PATIENCE, work).await;
    done.unwrap_or_else(|_| panic!("{what} took longer than {PATIENCE:?}"))
}

/// Asks until it is so.
#[cfg(feature = "postgres")]
pub async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let asking = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    within_patience(what, asking).await;
}

/// Small and repeatable (splitmix64).
pub fn random(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *seed;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
