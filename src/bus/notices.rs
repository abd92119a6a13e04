//! What is told to others on topics of their own. Nobody here reads them.

use async_trait::async_trait;
use connector_api::QueueId;

use super::BusError;

/// A topic for others; its name is behind the prefix of all topics.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    Events,
    DeadLetter,
    Queue(QueueId),
}

impl Topic {
    pub fn name(&self, prefix: &str) -> String {
        match self {
            Self::Events => format!("{prefix}.events"),
            Self::DeadLetter => format!("{prefix}.dead-letter"),
            Self::Queue(queue) => format!("{prefix}.queue.{queue}"),
        }
    }
}

/// One record for others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    pub topic: Topic,
    /// Records of one key are in one partition, in order. `None`: one record in every partition.
    pub key: Option<String>,
    pub headers: Vec<(String, Vec<u8>)>,
    pub data: Vec<u8>,
}

/// Takes what is told to others, of one relay.
#[async_trait]
pub trait Notices: Send + Sync {
    /// Has these topics there: made where they are missing, and otherwise looked at.
    async fn prepare(&self, topics: &[Topic]) -> Result<(), BusError>;

    /// Returns once all are acknowledged by all in-sync replicas. After an error some of them may be there;
    /// told again, they are there twice. Brokers that do not answer are waited for, however long it takes.
    async fn publish(&self, notices: Vec<Notice>) -> Result<(), BusError>;

    /// Bytes that one of them may have.
    fn bytes_max(&self) -> usize;
}
