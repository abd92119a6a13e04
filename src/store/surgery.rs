//! Surgery as the store is asked for it: each operation is one transaction that reads, decides,
//! writes, and keeps with its event what undoing it needs.

use async_trait::async_trait;
use connector_api::QueueId;

use crate::dispatch::Actor;
use crate::ids::{ContactId, ConversationId, MessageId};
use crate::router::effects::By;
use crate::router::facts::Conversation;

use super::{Idempotency, Result, StoredContact};

/// What was done; the stored form is the place in [`Self::ALL`], only ever added to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OperationKind {
    Merge,
    Split,
    Move,
    MergeContacts,
    Undo,
}

impl OperationKind {
    pub const ALL: [Self; 5] = [
        Self::Merge,
        Self::Split,
        Self::Move,
        Self::MergeContacts,
        Self::Undo,
    ];

    pub fn code(self) -> i64 {
        Self::ALL
            .iter()
            .position(|kind| *kind == self)
            .map_or(0, |at| at as i64)
    }

    pub fn from_code(code: i64) -> Option<Self> {
        Self::ALL.get(usize::try_from(code).ok()?).copied()
    }
}

/// Who orders an operation, and on which versions.
#[derive(Debug, Clone)]
pub struct Order {
    pub actor: Actor,
    /// `If-Match`: of the conversation or contact that is operated on.
    pub version: Option<i64>,
    /// Of the one that it is done with.
    pub other_version: Option<i64>,
    /// Under which it is done once, however often it is ordered.
    pub idempotency: Option<Idempotency>,
    pub at: i64,
}

/// An operation that was done.
#[derive(Debug, Clone)]
pub struct Operated {
    /// Its number in the event log; undoing it takes this.
    pub event: i64,
    pub kind: OperationKind,
    /// Both conversations as they stand now: the one operated on first. Empty for contacts; told
    /// again, those that the actor can see.
    pub conversations: Vec<Conversation>,
    /// The contacts that the actor can see now.
    pub contacts: Vec<StoredContact>,
    /// Queues that may have more waiting than before.
    pub queues: Vec<QueueId>,
}

/// An operation as listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredOperation {
    pub event: i64,
    pub kind: OperationKind,
    /// What it was done to, and with: conversations, or contacts of a contact merge.
    pub one: i64,
    pub other: i64,
    pub at: i64,
    /// `None`: verified evidence.
    pub by: Option<By>,
    /// The operation that an undo took back.
    pub undoes: Option<i64>,
    pub undone_by: Option<i64>,
}

#[async_trait]
pub trait SurgeryStore: Send + Sync {
    /// Merges a conversation into another of the same contact.
    async fn merge_conversations(
        &self,
        from: ConversationId,
        into: ConversationId,
        order: Order,
    ) -> Result<Operated>;
    /// Makes a new conversation of messages.
    async fn split_conversation(
        &self,
        source: ConversationId,
        messages: Vec<MessageId>,
        order: Order,
    ) -> Result<Operated>;
    /// Moves a message to another conversation of the same contact.
    async fn move_message(
        &self,
        message: MessageId,
        to: ConversationId,
        order: Order,
    ) -> Result<Operated>;
    async fn merge_contacts(
        &self,
        from: ContactId,
        into: ContactId,
        order: Order,
    ) -> Result<Operated>;
    /// Undoes the merge of a contact that was merged away, whoever or whatever merged it.
    async fn unmerge_contact(&self, contact: ContactId, order: Order) -> Result<Operated>;
    /// Undoes an operation; undoing an undo does the operation again.
    async fn undo(&self, event: i64, order: Order) -> Result<Operated>;
    /// What was done to a conversation or contact, newest first. Whoever asks has seen it.
    async fn operations(&self, on: i64, limit: u32) -> Result<Vec<StoredOperation>>;
}
