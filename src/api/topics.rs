//! What others read on the bus's topics, in the API's own words: the same views, so that a backend that reads
//! a queue from Kafka and one that asks this API see the same.

use serde::Serialize;
use utoipa::ToSchema;

pub use super::events::EventView;
use super::views::ConversationView;
use super::views::message::MessageView;

/// A record on a queue's topic: what happened to a conversation in the queue, and how that is now.
#[derive(Debug, Serialize, ToSchema)]
pub struct QueueRecord {
    pub event: EventView,
    /// The number of the conversation's newest message; every one below it is in the conversation, too.
    #[schema(required, example = 7)]
    pub conversation_seq: Option<i64>,
    /// As it was when this was written, after the event; null once it left the queue or is gone.
    #[schema(required)]
    pub conversation: Option<ConversationView>,
    /// Of an event about a message: that message, without its HTML; null where it is too large for a record.
    #[schema(required)]
    pub message: Option<MessageView>,
}

/// The type of a dead letter that was no CloudEvent when it was read.
pub const LETTER_TYPE: &str = "switchboard.dead_letter.v1";

/// Behind the types of the API's events as CloudEvents have them: `switchboard.message.created.v1`.
pub fn cloud_event_type(kind: &str) -> String {
    format!("switchboard.{kind}.v1")
}
