//! What people and their systems do with conversations: take them, answer them, begin them, and
//! change what is known of them.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use connector_api::{BrandId, Capabilities, ChannelId, QueueId, Recipient};
use serde::{Deserialize, Serialize};

use crate::conversation::Priority;
use crate::dispatch::address::Destination;
use crate::dispatch::verbs::{Attributes, Verb};
use crate::dispatch::{Action, Actor};
use crate::ids::{ContactId, ConversationId, MessageId};
use crate::router::facts::Conversation;

use super::uploads::Holder;
use super::{Result, Rings, StoredContact, StoredMessage};

/// What an agent (or an acknowledgement) wrote, with its frozen destination.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Draft {
    pub text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub html: Option<String>,
    /// `None` for a note, which goes nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Destination>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub automatic: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<DraftFile>,
    /// When it is to leave, where that was not at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send_at: Option<i64>,
    /// It leaves only while no customer has written after this message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_last_message: Option<i64>,
}

/// A file of what was written; its bytes are kept under the message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DraftFile {
    pub name: String,
    pub content_type: String,
    pub size_bytes: u64,
    /// Hex.
    pub sha256: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_id: Option<String>,
}

/// A file to send with what is written: one that was uploaded for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    pub upload: i64,
    /// What the recipient sees it called. Default: what it was uploaded as.
    pub name: Option<String>,
    /// Shown inside the HTML under this id.
    pub content_id: Option<String>,
}

/// What somebody writes, and to whom, as they say it.
#[derive(Debug, Clone, Default)]
pub struct Written {
    pub text: String,
    pub html: Option<String>,
    /// `None`: the one that the message answered came over.
    pub channel: Option<ChannelId>,
    /// Addresses as people write them; the channel reads them.
    pub to: Vec<String>,
    pub cc: Vec<String>,
    pub bcc: Vec<String>,
    pub reply_all: bool,
    /// `None`: the conversation's.
    pub subject: Option<String>,
    pub attachments: Vec<Attached>,
    /// UTC microseconds.
    pub send_at: Option<i64>,
    /// The newest message its writer had read.
    pub if_last_message: Option<MessageId>,
}

impl Written {
    pub fn text(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            ..Self::default()
        }
    }
}

/// Hash of principal and `Idempotency-Key`, and of the request.
pub type Idempotency = (Vec<u8>, Vec<u8>);

/// A reply or a note, as the API hands it over.
#[derive(Debug, Clone)]
pub struct NewReply {
    pub conversation: ConversationId,
    pub actor: Actor,
    /// Whose uploads it takes.
    pub holder: Holder,
    pub written: Written,
    pub idempotency: Option<Idempotency>,
    /// `If-Match`.
    pub version: Option<i64>,
    pub at: i64,
}

/// A conversation that our side begins.
#[derive(Debug, Clone)]
pub struct NewConversation {
    pub actor: Actor,
    /// Whose uploads it takes.
    pub holder: Holder,
    pub channel: ChannelId,
    pub written: Written,
    /// Whose it is; `None`: whoever is known under the first address, or somebody new.
    pub contact: Option<ContactId>,
    /// `None`: the channel's.
    pub queue: Option<QueueId>,
    pub priority: Priority,
    pub tags: Vec<String>,
    pub attributes: Attributes,
    /// A system wrote it: marked as such towards the receiver, and nobody's.
    pub automatic: bool,
    pub idempotency: Option<Idempotency>,
    pub at: i64,
}

/// A verb and what it is done to.
#[derive(Debug, Clone)]
pub struct Doing {
    pub conversation: ConversationId,
    pub actor: Actor,
    pub verb: Verb,
    /// `If-Match`.
    pub version: Option<i64>,
    pub at: i64,
}

/// What is asked for under an `Idempotency-Key`.
#[derive(Debug, Clone)]
pub enum Asked {
    Act {
        conversation: ConversationId,
        actor: Actor,
        action: Action,
        /// `If-Match`.
        version: Option<i64>,
        at: i64,
    },
    Perform(Doing),
}

/// What a channel can send, and where what is begun on it belongs.
#[derive(Clone)]
pub struct Sending {
    pub can: Capabilities,
    pub brand: BrandId,
    pub queue: QueueId,
    pub read: ReadAddress,
}

/// Reads an address as people write it; the error says what is wrong with it. Pure.
pub type ReadAddress = Arc<dyn Fn(&str) -> std::result::Result<Recipient, String> + Send + Sync>;

/// The channels that can send.
pub type Senders = HashMap<ChannelId, Sending>;

/// What is said about a contact; `None` leaves it as it is.
#[derive(Debug, Clone)]
pub struct ContactEdit {
    pub contact: ContactId,
    pub actor: Actor,
    pub name: Option<String>,
    /// Merged into what is there; null removes one (RFC 7396).
    pub attributes: Attributes,
    /// `If-Match`.
    pub version: Option<i64>,
    pub at: i64,
}

/// What was woken, and when to look again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Woken {
    pub rings: Rings,
    /// UTC microseconds; `None` when nothing sleeps.
    pub next: Option<i64>,
}

/// The desk's part of the store.
#[async_trait]
pub trait Desk: Send + Sync {
    /// Gives the first of the queue to the actor; `None` when nothing waits. Under a key it is the
    /// same again, while it is still the actor's.
    async fn claim(
        &self,
        queue: &QueueId,
        actor: Actor,
        idempotency: Option<Idempotency>,
        now: i64,
    ) -> Result<Option<Conversation>>;
    async fn act(
        &self,
        conversation: ConversationId,
        actor: Actor,
        action: Action,
        version: Option<i64>,
        now: i64,
    ) -> Result<Conversation>;
    async fn reply(&self, reply: NewReply) -> Result<(StoredMessage, Conversation)>;
    async fn note(&self, note: NewReply) -> Result<(StoredMessage, Conversation)>;
    /// Begins a conversation with its first message.
    async fn start(&self, new: NewConversation) -> Result<(StoredMessage, Conversation)>;
    async fn perform(&self, doing: Doing) -> Result<Conversation>;
    /// Does it once, however often it is asked for under the key. `None`: it was done before, and
    /// is not the actor's to see any more.
    async fn once(&self, key: Idempotency, asked: Asked) -> Result<Option<Conversation>>;
    /// Takes a reply back that has not left; it is refused then, and says by whom.
    async fn cancel(
        &self,
        message: MessageId,
        actor: Actor,
        now: i64,
    ) -> Result<(StoredMessage, Rings)>;
    async fn edit_contact(&self, edit: ContactEdit) -> Result<StoredContact>;
    /// Wakes what has slept long enough, at most `limit`.
    async fn wake_due(&self, limit: u32, now: i64) -> Result<Woken>;
}
