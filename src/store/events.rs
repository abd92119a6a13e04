//! The event log as it is read: in pages, by `seq`. Each event comes with where its conversation
//! stands now, because that decides who may be told of it.

use async_trait::async_trait;
use connector_api::{BrandId, QueueId};
use tokio::sync::watch;

use crate::dispatch::Actor;
use crate::ids::{ConversationId, MessageId};
use crate::router::effects::{Author, EventType};

use super::Result;

/// How far the store has moved: whoever follows the log, or believes a token, looks again when
/// this changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moved {
    pub last_event: i64,
    pub token_changes: u64,
}

/// Where a conversation stands, as far as that decides who may see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub brand: BrandId,
    pub queue: QueueId,
    pub assignee: Option<String>,
}

impl Place {
    pub fn is_seen_by(&self, actor: &Actor) -> bool {
        actor.may_see_at(&self.brand, &self.queue, self.assignee.as_deref())
    }
}

#[derive(Debug, Clone)]
pub struct StoredEvent {
    pub seq: i64,
    pub kind: EventType,
    /// UTC microseconds.
    pub at: i64,
    /// `None` for what happened to a contact.
    pub conversation: Option<(ConversationId, Place)>,
    pub message: Option<MessageId>,
    /// Of the message: whose words, and its number within the conversation.
    pub said: Option<(Author, i64)>,
    pub detail: serde_json::Value,
}

/// A conversation left a place; told of before the event of the same number.
#[derive(Debug, Clone)]
pub struct Departure {
    pub seq: i64,
    pub at: Option<i64>,
    pub conversation: ConversationId,
    pub before: Place,
    pub now: Place,
}

#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    /// Only what this one may see; `None` is for those who ask for everybody.
    pub actor: Option<Actor>,
    pub queue: Option<QueueId>,
    pub conversation: Option<ConversationId>,
    /// Empty: all.
    pub kinds: Vec<EventType>,
    pub limit: u32,
}

#[derive(Debug, Clone)]
pub struct EventPage {
    pub events: Vec<StoredEvent>,
    /// All of the range, whoever may see them.
    pub departures: Vec<Departure>,
    /// Everything up to this number was looked at.
    pub through: i64,
    /// Events up to this one are past their retention, or of before a backup was restored.
    pub floor: i64,
    /// Where numbers went on after a backup was restored; 0 if none ever was.
    pub resumed: i64,
}

/// The log of everything that changed. Numbers rise in the order of commits; an event that can be
/// read is never followed by one with a smaller number.
#[async_trait]
pub trait EventLog: Send + Sync {
    /// Wakes after every commit that has events or changes tokens.
    fn moved(&self) -> watch::Receiver<Moved>;
    /// The events after number `after` that fit `filter`, from one snapshot.
    async fn events(&self, after: i64, filter: EventFilter) -> Result<EventPage>;
}
