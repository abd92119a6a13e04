//! Partitions of topics as the store numbers them: a record's number bears the number of its partition,
//! and names its message for ever. How many a topic has is fixed, so more of them are another generation of
//! the topic, whose rows say how far the change from one to the next is.

use async_trait::async_trait;

use super::Result;

/// How a generation of a topic stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Made; nothing is appended to it yet.
    Coming,
    /// What is accepted is appended to it.
    Open,
    /// Nothing is appended to it any more; what it has is being decided.
    Sealed,
    /// All of it is decided, and nobody reads it.
    Left,
}

impl Stage {
    pub const ALL: [Self; 4] = [Self::Coming, Self::Open, Self::Sealed, Self::Left];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Coming => "coming",
            Self::Open => "open",
            Self::Sealed => "sealed",
            Self::Left => "left",
        }
    }
}

/// A topic with a number of partitions of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    /// From 1.
    pub number: u32,
    pub topic: String,
    pub stage: Stage,
    /// The store's numbers of its partitions, in their order.
    pub partitions: Vec<u32>,
    /// Above which the numbers of its records begin: those of the generation before are below. Not known while it is
    /// coming.
    pub base: i64,
    /// The last record of each of them, once it is sealed; 0 where there is none. Empty before.
    pub ends: Vec<i64>,
}

impl Generation {
    pub fn count(&self) -> u32 {
        u32::try_from(self.partitions.len()).unwrap_or(u32::MAX)
    }
}

/// The topic of a generation; the first one has the name alone.
pub fn topic_of(first: &str, generation: u32) -> String {
    match generation {
        0 | 1 => first.to_owned(),
        later => format!("{first}.{later}"),
    }
}

/// A topic is named by that of its first generation.
#[async_trait]
pub trait Partitions: Send + Sync {
    /// All generations of a topic, oldest first; none where it was never used.
    async fn generations(&self, topic: &str) -> Result<Vec<Generation>>;

    /// The same, once there is a first one, open, with so many partitions. Numbers of partitions are from 1,
    /// given out once and for ever.
    async fn begin_generations(&self, topic: &str, partitions: u32) -> Result<Vec<Generation>>;

    /// Adds the generation behind the newest one, which has to be open, and the only one in use: else nothing
    /// is done. False where a number of a partition would be above `number_max`.
    async fn announce_generation(
        &self,
        topic: &str,
        number: u32,
        partitions: u32,
        number_max: u32,
    ) -> Result<bool>;

    /// Opens the generation that is coming and seals the one before it, whose partitions end with these records, in
    /// one transaction. Nothing is done where that was done before.
    async fn turn_generation(&self, topic: &str, to: u32, ends: Vec<i64>) -> Result<()>;

    /// A sealed generation is read no more.
    async fn leave_generation(&self, topic: &str, number: u32) -> Result<()>;

    /// The last record decided of every partition that was ever owned.
    async fn positions(&self) -> Result<Vec<(u32, i64)>>;
}
