//! What a batch of decisions does to the store, as data. The store writes it; nothing here knows how.

use connector_api::{ChannelId, Namespace, QueueId};
use serde::{Deserialize, Serialize};

use crate::conversation::{Delivery, Status};
use crate::ids::{ContactId, ConversationId, IdentityId, MessageId};

use super::explain::Explanation;
use super::facts::{Change, IdentityKey, Key16};
use super::triage::Labels;

/// Everything one batch changes. Conversations and contacts themselves are in the changed
/// [`super::Facts`]; `touched_*` names which of them to write.
#[derive(Debug, Default, Clone)]
pub struct Effects {
    pub seen: Vec<NewSeen>,
    /// New ones.
    pub contacts: Vec<ContactId>,
    /// Known ones whose conversations or identities became others: their version moved.
    pub touched_contacts: Vec<ContactId>,
    pub identities: Vec<NewIdentity>,
    pub suggestions: Vec<Suggestion>,
    pub merges: Vec<Merge>,
    pub new_conversations: Vec<ConversationId>,
    pub touched_conversations: Vec<ConversationId>,
    pub messages: Vec<NewMessage>,
    pub references: Vec<NewReference>,
    pub changes: Vec<NewChange>,
    pub deliveries: Vec<DeliveryChange>,
    pub reached: Vec<RecipientChange>,
    /// Sent messages because of which their conversation came back to a person.
    pub returned: Vec<MessageId>,
    pub pending: Vec<NewPending>,
    /// Keys whose pending changes were applied.
    pub settled_pending: Vec<Key16>,
    pub acknowledgements: Vec<Acknowledgement>,
    pub fetches: Vec<NewFetch>,
    pub events: Vec<NewEvent>,
    /// What became of each record, in order; for metrics and logs.
    pub verdicts: Vec<Verdict>,
    pub dead: Vec<DeadLetter>,
}

/// What became of one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Filed,
    Duplicate,
    Changed,
    Pending,
    Dead,
}

impl Verdict {
    /// Its name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Filed => "filed",
            Self::Duplicate => "duplicate",
            Self::Changed => "changed",
            Self::Pending => "pending",
            Self::Dead => "dead",
        }
    }
}

#[derive(Debug, Clone)]
pub struct NewSeen {
    pub key: Key16,
    pub digest: u64,
    pub message: MessageId,
    /// Kept for as long as the source can show the item again, not for the horizon of pushed events.
    pub lasting: bool,
}

#[derive(Debug, Clone)]
pub struct NewIdentity {
    pub id: IdentityId,
    pub key: IdentityKey,
    pub contact: ContactId,
    /// `claimed`, or the method by which it is verified.
    pub method: &'static str,
    pub name: Option<String>,
    pub at: i64,
    /// The identity of a known contact that it was proven together with.
    pub beside: Option<IdentityId>,
}

/// An identity somebody claims for a contact: shown to people, never acted upon.
#[derive(Debug, Clone)]
pub struct Suggestion {
    pub contact: ContactId,
    pub namespace: Namespace,
    pub address: String,
    pub at: i64,
}

/// `from` turned out to be the same person as `into`.
#[derive(Debug, Clone)]
pub struct Merge {
    pub from: ContactId,
    pub into: ContactId,
    pub at: i64,
    /// Who says so; `None`: verified evidence.
    pub by: Option<By>,
}

/// The person behind a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct By {
    /// The role of the token.
    pub role: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
}

#[derive(Debug, Clone)]
pub struct NewMessage {
    pub id: MessageId,
    pub conversation: ConversationId,
    pub seq: i64,
    pub prev: Option<MessageId>,
    pub author: Author,
    pub channel: ChannelId,
    pub identity: Option<IdentityId>,
    /// Who wrote it, where that is not whose conversation it is.
    pub guest: Option<ContactId>,
    /// UTC microseconds: arrived here, and said by the provider.
    pub arrived_at: i64,
    pub sent_at: Option<i64>,
    pub deleted: bool,
    pub duplicate_of: Option<MessageId>,
    /// The same dedupe key came before with other content.
    pub conflicting: bool,
    pub automatic: bool,
    /// Said long before it arrived.
    pub history: bool,
    pub labels: Labels,
    pub explanation: Explanation,
}

/// Whose words a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Author {
    Customer,
    Agent,
    /// Written by Switchboard itself: an acknowledgement.
    Automation,
    /// Written on our side, outside Switchboard.
    Echo,
    /// Nobody's words: joined, left.
    System,
    /// An agent's note; never leaves.
    Note,
}

impl Author {
    pub const ALL: [Self; 6] = [
        Self::Customer,
        Self::Agent,
        Self::Automation,
        Self::Echo,
        Self::System,
        Self::Note,
    ];

    pub fn code(self) -> i64 {
        Self::ALL
            .iter()
            .position(|author| *author == self)
            .map_or(0, |at| at as i64)
    }

    pub fn from_code(code: i64) -> Self {
        usize::try_from(code)
            .ok()
            .and_then(|at| Self::ALL.get(at))
            .copied()
            .unwrap_or(Self::System)
    }

    pub fn is_inbound(self) -> bool {
        matches!(self, Self::Customer | Self::System)
    }
}

#[derive(Debug, Clone)]
pub struct NewReference {
    pub key: Key16,
    /// A native thread moves on to the conversation that continues it; a Message-ID stays with the
    /// message that had it first, so that reusing one takes nothing over.
    pub replace: bool,
    pub conversation: ConversationId,
    pub message: MessageId,
}

#[derive(Debug, Clone)]
pub struct NewChange {
    pub record: i64,
    pub message: MessageId,
    pub conversation: ConversationId,
    pub change: Change,
    pub at: i64,
}

#[derive(Debug, Clone, Copy)]
pub struct DeliveryChange {
    pub message: MessageId,
    pub delivery: Delivery,
}

/// How far a message of several recipients got with one of them.
#[derive(Debug, Clone)]
pub struct RecipientChange {
    pub message: MessageId,
    /// Counted from 1.
    pub place: u16,
    /// `None`: as before.
    pub delivery: Option<Delivery>,
    /// Why it was refused, or is late.
    pub reason: Option<String>,
    pub at: i64,
}

#[derive(Debug, Clone)]
pub struct NewPending {
    pub target: Key16,
    pub record: i64,
    pub change: Change,
    pub at: i64,
}

/// A file that is still at its provider, to be fetched now that its message is filed.
#[derive(Debug, Clone, Copy)]
pub struct NewFetch {
    pub message: MessageId,
    /// Among the message's attachments.
    pub place: usize,
    pub at: i64,
}

/// The one automatic answer to a human conversation.
#[derive(Debug, Clone)]
pub struct Acknowledgement {
    pub id: MessageId,
    /// Under what it is remembered.
    pub keys: Vec<Key16>,
    pub conversation: ConversationId,
    pub answers: MessageId,
    pub seq: i64,
    pub prev: Option<MessageId>,
    pub channel: ChannelId,
    pub namespace: Namespace,
    pub address: String,
    pub text: String,
    pub at: i64,
}

/// A row of the event log.
#[derive(Debug, Clone)]
pub struct NewEvent {
    pub kind: EventType,
    pub conversation: Option<ConversationId>,
    pub message: Option<MessageId>,
    pub at: i64,
    pub detail: Option<serde_json::Value>,
}

impl NewEvent {
    /// Something that happened to a conversation, or to a message of it.
    pub fn new(
        kind: EventType,
        conversation: ConversationId,
        message: Option<MessageId>,
        at: i64,
    ) -> Self {
        Self {
            kind,
            conversation: Some(conversation),
            message,
            at,
            detail: None,
        }
    }

    /// Something that happened to a contact.
    pub fn of_contact(kind: EventType, contact: ContactId, at: i64) -> Self {
        Self {
            kind,
            conversation: None,
            message: None,
            at,
            detail: Some(serde_json::json!({ "contact": contact.0 })),
        }
    }

    /// A status that no type of its own tells of.
    pub fn status(conversation: ConversationId, status: Status, at: i64) -> Self {
        Self::new(EventType::ConversationUpdated, conversation, None, at)
            .with(serde_json::json!({ "status": status }))
    }

    /// How far a message got.
    pub fn delivery(
        conversation: ConversationId,
        message: MessageId,
        delivery: Delivery,
        at: i64,
    ) -> Self {
        Self::new(EventType::MessageDelivery, conversation, Some(message), at)
            .with(serde_json::json!({ "delivery": delivery }))
    }

    pub fn with(self, detail: serde_json::Value) -> Self {
        Self {
            detail: Some(detail),
            ..self
        }
    }
}

/// Types of the event log; `as_str` is the public name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventType {
    MessageCreated,
    MessageChanged,
    MessageDelivery,
    ConversationCreated,
    ConversationQueued,
    ConversationAssigned,
    ConversationReleased,
    ConversationResolved,
    ConversationReopened,
    ContactMerged,
    ConversationUpdated,
    ConversationSnoozed,
    ConversationWoken,
    ConversationTransferred,
    ConversationParticipants,
    ContactUpdated,
    ConversationMerged,
    ConversationSplit,
    MessageMoved,
    OperationUndone,
    ContactHeld,
    ContactReleased,
    ContactErased,
}

impl EventType {
    pub const ALL: [Self; 23] = [
        Self::MessageCreated,
        Self::MessageChanged,
        Self::MessageDelivery,
        Self::ConversationCreated,
        Self::ConversationQueued,
        Self::ConversationAssigned,
        Self::ConversationReleased,
        Self::ConversationResolved,
        Self::ConversationReopened,
        Self::ContactMerged,
        Self::ConversationUpdated,
        Self::ConversationSnoozed,
        Self::ConversationWoken,
        Self::ConversationTransferred,
        Self::ConversationParticipants,
        Self::ContactUpdated,
        Self::ConversationMerged,
        Self::ConversationSplit,
        Self::MessageMoved,
        Self::OperationUndone,
        Self::ContactHeld,
        Self::ContactReleased,
        Self::ContactErased,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::MessageCreated => "message.created",
            Self::MessageChanged => "message.changed",
            Self::MessageDelivery => "message.delivery",
            Self::ConversationCreated => "conversation.created",
            Self::ConversationQueued => "conversation.queued",
            Self::ConversationAssigned => "conversation.assigned",
            Self::ConversationReleased => "conversation.released",
            Self::ConversationResolved => "conversation.resolved",
            Self::ConversationReopened => "conversation.reopened",
            Self::ContactMerged => "contact.merged",
            Self::ConversationUpdated => "conversation.updated",
            Self::ConversationSnoozed => "conversation.snoozed",
            Self::ConversationWoken => "conversation.woken",
            Self::ConversationTransferred => "conversation.transferred",
            Self::ConversationParticipants => "conversation.participants",
            Self::ContactUpdated => "contact.updated",
            Self::ConversationMerged => "conversation.merged",
            Self::ConversationSplit => "conversation.split",
            Self::MessageMoved => "message.moved",
            Self::OperationUndone => "operation.undone",
            Self::ContactHeld => "contact.held",
            Self::ContactReleased => "contact.released",
            Self::ContactErased => "contact.erased",
        }
    }

    /// The stored form; the order of [`Self::ALL`], only ever added to.
    pub fn code(self) -> i64 {
        Self::ALL
            .iter()
            .position(|kind| *kind == self)
            .map_or(0, |at| at as i64)
    }

    pub fn from_code(code: i64) -> Option<Self> {
        Self::ALL.get(usize::try_from(code).ok()?).copied()
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// Whether it tells what messages and queues say anyway. All others tell who did what, and are
    /// kept for as long as that is.
    pub fn is_routine(self) -> bool {
        matches!(
            self,
            Self::MessageCreated
                | Self::MessageChanged
                | Self::MessageDelivery
                | Self::ConversationCreated
                | Self::ConversationQueued
                | Self::ConversationUpdated
                | Self::ContactUpdated
        )
    }
}

/// A message nobody could decide.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    pub record: i64,
    pub reason: String,
    pub attempts: u32,
    pub at: i64,
}

/// The waiting row a conversation should have, from its state alone.
pub fn waits(status: Status, queue: &QueueId) -> Option<&QueueId> {
    (status == Status::Queued).then_some(queue)
}
