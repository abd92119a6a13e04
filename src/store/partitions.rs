//! Partitions of topics as the store numbers them: a record's number bears the number of its partition,
//! and names its message for ever.

use async_trait::async_trait;

use super::Result;

#[async_trait]
pub trait Partitions: Send + Sync {
    /// The numbers of a topic's first `count` partitions, from 1; new ones are given out once and for ever.
    async fn number_partitions(&self, topic: String, count: u32) -> Result<Vec<u32>>;

    /// Above which the numbers of records on a bus elsewhere begin: those below were given out by another bus, before
    /// the installation was moved to this one. 0 where it never was.
    async fn records_base(&self) -> Result<i64>;

    /// The last record decided of every partition that was ever owned.
    async fn positions(&self) -> Result<Vec<(u32, i64)>>;
}
