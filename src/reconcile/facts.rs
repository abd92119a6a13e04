//! What the comparison goes by, as the store and the connectors tell it.

use crate::conversation::{Delivery, Status};

/// What is left of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub number: i64,
    /// UTC microseconds.
    pub arrived_at: i64,
    /// Where that is known without its bytes.
    pub channel: Option<String>,
    /// The router's position is past it.
    pub decided: bool,
    /// It is a message.
    pub message: bool,
    /// It changed one.
    pub change: bool,
    /// It waits for the message that it changes.
    pub pending: bool,
    pub letter: Option<Letter>,
    /// Looked at only where nothing else says what became of it.
    pub body: Body,
}

/// How a dead letter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Letter {
    Parked,
    Filed,
}

/// The bytes of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// They went with whoever was erased, or with their time.
    Gone,
    Unasked,
    Read(Named),
    Unreadable,
}

/// What an accepted event calls itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    pub channel: String,
    pub arrived_at: i64,
    pub key: [u8; 16],
    /// The key of an answer of ours that comes back in an imported folder.
    pub sent_key: Option<[u8; 16]>,
    pub provider_id: String,
    pub message_id: Option<String>,
    /// The record that is filed under the same key and content.
    pub filed_as: Option<i64>,
}

/// A dead letter that nobody filed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parked {
    pub record: i64,
    pub at: i64,
    pub reason: String,
    /// `None`: its bytes cannot be read.
    pub named: Option<Named>,
}

/// One message as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    pub number: i64,
    pub arrived_at: i64,
    pub channel: String,
    /// A customer's words, or those of our side from elsewhere.
    pub inbound: bool,
    /// Of what leaves.
    pub delivery: Option<Delivery>,
    pub unsent: Option<Unsent>,
    pub conversation: i64,
    /// `None`: there is none.
    pub stands: Option<Stands>,
    /// It is being removed with its conversation.
    pub going: bool,
    /// The message before it, where it is not there.
    pub missing: Option<i64>,
}

/// A row of the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unsent {
    /// It waits for a person.
    pub held: bool,
    /// When it is tried next.
    pub next_at: i64,
    /// Since when it is to leave.
    pub due_since: i64,
}

/// Where a conversation stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stands {
    pub status: Status,
    pub queue: String,
    pub assignee: Option<String>,
    /// It has its place among those that wait in its queue.
    pub waits: bool,
    /// Something wakes it.
    pub wakes: bool,
}

/// What is known of an item that a provider has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// It was accepted.
    Yes,
    No,
    /// Nothing that it is known by can be told without its content.
    Untold,
    /// What was accepted and is not decided cannot be looked into.
    Perhaps,
}
