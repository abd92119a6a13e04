//! Partitions of topics as the store numbers them: a record's number bears the number of its partition,
//! and names its message for ever.

use async_trait::async_trait;

use super::Result;

#[async_trait]
pub trait Partitions: Send + Sync {
    /// The numbers of a topic's first `count` partitions, from 1; new ones are given out once and for ever.
    async fn number_partitions(&self, topic: String, count: u32) -> Result<Vec<u32>>;

    /// The last record decided of every partition that was ever owned.
    async fn positions(&self) -> Result<Vec<(u32, i64)>>;
}
