//! A desk for tests: a store and a bus on a made-up configuration, customers who write, and the
//! outcome as text. Everything goes through the real intake, bus, router and store; only the
//! connectors and the clock are made up.

mod clock;
mod desk;
mod local;
mod said;
mod show;

use std::sync::Arc;

use connector_api::async_trait;
use switchboard::bus::Bus;
use switchboard::store::Store;

pub use clock::ManualClock;
pub use desk::{Desk, agent, agent_of, supervisor, within_patience};
pub use local::Local;
pub use show::show_sorted;
pub use said::{Said, chat, delete, echo, edit, mail, reaction, receipt, system};

/// Longest wait for anything, in seconds: only a failing test waits so long.
pub const PATIENCE_S: u64 = 30;

/// A store and the bus it is used with, and how to open the two. What a PostgreSQL store and a
/// Kafka bus give to run the same suites as the local ones.
#[async_trait]
pub trait Backend: Send + Sync {
    /// Opens what is durable, with these names configured. Called again it finds what was durable
    /// at that moment, as after a power cut: what an earlier opening still does must not be seen.
    async fn open(&self, names: &[String], queues: &[connector_api::QueueId]) -> Opened;

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
