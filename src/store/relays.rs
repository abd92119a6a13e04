//! What is copied to topics for others, and how far each relay is. A relay is one process's at a time, by a
//! lease; its epoch fences off one that only slept.

use std::collections::BTreeMap;

use async_trait::async_trait;

use crate::ids::{ConversationId, MessageId};
use crate::router::facts::Conversation;

use super::events::EventPage;
use super::{Result, StoredMessage};

/// A page of the log with what it is about, from one snapshot.
#[derive(Debug, Clone)]
pub struct Told {
    pub page: EventPage,
    /// As they are now; those of the page's events that are still there.
    pub conversations: BTreeMap<ConversationId, Conversation>,
    pub messages: BTreeMap<MessageId, StoredMessage>,
}

/// Where a record was on a bus elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    pub topic: String,
    pub partition: i64,
    pub offset: i64,
}

/// A dead letter that is to be copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    pub record: i64,
    pub origin: Option<Origin>,
    pub reason: String,
    pub attempts: i64,
    pub at: i64,
    /// `None`: its bytes are gone.
    pub body: Option<Vec<u8>>,
    /// As they stood beside it.
    pub headers: Vec<(String, Vec<u8>)>,
}

#[async_trait]
pub trait Relays: Send + Sync {
    /// Takes a relay over under an epoch of its lease; up to where it has copied. An epoch below one that had
    /// it is stale.
    async fn own_relay(&self, name: &str, epoch: i64) -> Result<i64>;

    /// Notes how far it has copied; stale, where it is not at `from` or another epoch's.
    async fn move_relay(&self, name: &str, epoch: i64, from: i64, to: i64) -> Result<()>;

    /// The events after a number; with `whole` also their conversations and messages, as many as fit in memory.
    async fn told_after(&self, after: i64, limit: u32, whole: bool) -> Result<Told>;

    /// Letters that were not copied since they were buried, oldest first, as many as fit in memory; and how
    /// many there are.
    async fn uncopied_letters(&self, limit: u32) -> Result<(Vec<Letter>, i64)>;

    /// Notes that these were copied, unless they were buried again meanwhile.
    async fn letters_copied(&self, letters: Vec<Letter>) -> Result<()>;
}
