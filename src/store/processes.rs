//! The processes that work with the store: each says now and then that it is there, and how it is.

use async_trait::async_trait;

use super::Result;

/// A process as it said of itself last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Named by chance, at its start.
    pub instance: String,
    /// UTC microseconds of the store's clock.
    pub seen_at: i64,
    /// JSON; the processes know what of it means what.
    pub said: String,
}

/// Times are the store's, as those of leases.
#[async_trait]
pub trait Processes: Send + Sync {
    /// Notes what a process says of itself; forgets those that said nothing for `kept_us`. The store's clock.
    async fn note_process(
        &self,
        instance: &str,
        said: String,
        kept_us: i64,
        now: i64,
    ) -> Result<i64>;
    /// Forgets one that ends.
    async fn forget_process(&self, instance: &str) -> Result<()>;
    /// Those that said something within `within_us`, by name.
    async fn processes(&self, within_us: i64, now: i64) -> Result<Vec<Process>>;
}
