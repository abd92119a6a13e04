//! What a connector delivers. Parsers are forgiving: a half-broken item becomes an event with
//! `defects`, never an error that loses it.

use bytes::Bytes;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{DedupeKey, Namespace};

/// One thing a provider told us, with the key that tells its redeliveries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct InboundEvent {
    pub dedupe_key: DedupeKey,
    /// When the provider says it happened; arrival time is the daemon's.
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub sent_at: Option<Timestamp>,
    /// Why this is no human's message, where it is not: nothing automatic answers it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub automatic: Option<Automatic>,
    /// Imported from before the channel was connected: filed closed, no queue, no automatic answer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub history: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub defects: Vec<Defect>,
    pub event: Event,
    /// Where the sender of a message wants answers instead, in the namespace of the identity that
    /// wrote. It counts only where that identity is verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// The sender asks for no automatic answer, although a person may have written.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub answers_suppressed: bool,
    /// By what the provider's own filter calls it spam: `x-spam-flag`. A label comes of it and no
    /// acknowledgement, never a loss.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_spam: Option<String>,
    /// The captured bytes, where the event cannot be made again from its own fields (a mail).
    /// JSON providers leave this empty: their unknown fields are in `extra`.
    #[serde(skip)]
    pub raw: Option<Bytes>,
    /// Provider fields that the vocabulary has no place for.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub extra: serde_json::Map<String, serde_json::Value>,
}

impl InboundEvent {
    pub fn new(dedupe_key: DedupeKey, event: Event) -> Self {
        Self {
            dedupe_key,
            sent_at: None,
            automatic: None,
            history: false,
            defects: Vec::new(),
            event,
            reply_to: None,
            answers_suppressed: false,
            provider_spam: None,
            raw: None,
            extra: serde_json::Map::new(),
        }
    }
}

/// What happened. Edits, deletions, reactions and receipts change a message and name it by
/// `target`, the `dedupe_key` of the message's own event; for a receipt of a message we sent,
/// `target` is one of the provider ids of its [`crate::SendReceipt`], or our own message id; or, in a
/// receipt that names its recipient, the reply token of the conversation (it is then of the newest
/// message there to that recipient).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    Message(Box<InboundMessage>),
    Edit {
        target: String,
        text: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        html: Option<String>,
    },
    Delete {
        target: String,
    },
    Reaction {
        target: String,
        emoji: String,
        #[serde(default)]
        removed: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<IdentityClaim>,
    },
    Receipt {
        target: String,
        /// `Accepted` with a reason: it is late and still under way.
        stage: DeliveryStage,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// Whom it speaks for, where one message had several recipients: an address, or `#3` for
        /// the third of [`crate::OutboundMessage::recipients`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        recipient: Option<String>,
    },
    /// Our own side wrote outside Switchboard (the provider's inbox app).
    Echo(Box<InboundMessage>),
    /// Something to show in the conversation that nobody wrote (joined, left, call ended).
    System {
        thread: ThreadHints,
        text: String,
    },
}

impl Event {
    pub fn kind(&self) -> EventKind {
        match self {
            Self::Message(_) => EventKind::Message,
            Self::Edit { .. } => EventKind::Edit,
            Self::Delete { .. } => EventKind::Delete,
            Self::Reaction { .. } => EventKind::Reaction,
            Self::Receipt { .. } => EventKind::Receipt,
            Self::Echo(_) => EventKind::Echo,
            Self::System { .. } => EventKind::System,
        }
    }
}

/// The event words; [`EventKind::as_str`] gives them in lower case, as in logs and in `parse`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EventKind {
    Message,
    Edit,
    Delete,
    Reaction,
    Receipt,
    Echo,
    System,
}

impl EventKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Edit => "edit",
            Self::Delete => "delete",
            Self::Reaction => "reaction",
            Self::Receipt => "receipt",
            Self::Echo => "echo",
            Self::System => "system",
        }
    }
}

/// One thing said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct InboundMessage {
    pub from: Sender,
    /// Others on the message (To and Cc of a mail), without our own addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub participants: Vec<Participant>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Plain text as the provider gave it; empty when there is only `html`.
    pub text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub html: Option<String>,
    #[serde(default)]
    pub thread: ThreadHints,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Attachment>,
}

/// Who wrote, with every identity the event names and how far each is proven.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sender {
    /// The first is the identity that wrote and that a reply goes to.
    pub identities: Vec<IdentityClaim>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// An address in a namespace. Connectors normalise: mail addresses with a lower-case domain and
/// local part, phone numbers as E.164.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct IdentityClaim {
    pub namespace: Namespace,
    pub address: String,
    pub evidence: Evidence,
}

/// How far a sender is proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    Claimed,
    Verified(Method),
}

impl Evidence {
    pub fn is_verified(self) -> bool {
        matches!(self, Self::Verified(_))
    }
}

/// By what a sender is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Method {
    Dmarc,
    Platform,
    Signed,
    Vouched,
    CustomerRecord,
}

impl Method {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dmarc => "dmarc",
            Self::Platform => "platform",
            Self::Signed => "signed",
            Self::Vouched => "vouched",
            Self::CustomerRecord => "customer_record",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Participant {
    pub namespace: Namespace,
    pub address: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub role: ParticipantRole,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ParticipantRole {
    To,
    Cc,
}

/// What the provider offers to find the conversation by. Hints, never rights.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ThreadHints {
    /// The provider's own thread or chat id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub native: Option<String>,
    /// The id that later messages refer to this one by (a mail's Message-ID, without `<>`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// Ids this message refers to, nearest first (In-Reply-To, then References from last to first,
    /// then marks of threads: `thread-index:…`, `gm-thrid:…`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<String>,
    /// Everything that looks like one of our reply tokens; the router checks the MAC.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reply_tokens: Vec<String>,
    /// A forward starts a new conversation whatever it refers to.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forward: bool,
}

/// References that name a thread and no message: what Outlook and Gmail call a conversation.
const THREAD_MARKS: [&str; 2] = ["thread-index:", "gm-thrid:"];

impl ThreadHints {
    /// Those of the references that name a thread.
    pub fn marks(&self) -> impl Iterator<Item = &str> {
        let is_mark = |id: &&str| THREAD_MARKS.iter().any(|mark| id.starts_with(mark));
        self.references.iter().map(String::as_str).filter(is_mark)
    }
}

/// A file with a message. Names and types are the sender's words: data only, never paths.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Attachment {
    pub name: Option<String>,
    pub content_type: String,
    pub size_bytes: Option<u64>,
    /// Shown inside the text (`cid:` images).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_id: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub inline: bool,
    pub body: AttachmentBody,
}

/// Where an attachment's bytes are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AttachmentBody {
    /// Here, not yet stored; the daemon moves them into the blob store before intake.
    #[serde(skip)]
    Bytes(Bytes),
    /// In the blob store, by content digest (SHA-256, hex). Only the daemon makes these.
    Stored { sha256: String },
    /// At the provider: fetched by [`crate::AttachmentSource`], or by URL under the egress guard.
    Reference { reference: String },
    /// Could not be kept; the reason is shown.
    Missing { reason: String },
}

/// Why an event is no human's message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Automatic {
    /// A vacation notice or another automatic reply.
    AutoReply,
    /// A delivery status notification, standard or not.
    Bounce,
    /// A report of abuse or authentication failure (ARF).
    FeedbackReport,
    /// A disposition notification (MDN): read, deleted.
    ReadReceipt,
    /// Mailing list or bulk mail.
    Bulk,
    /// Made by a machine, otherwise unknown.
    Generated,
    /// Came from ourselves: a loop.
    Loop,
}

/// Something wrong with an item that was kept all the same: `{"code": "...", "detail": "..."}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Defect {
    /// Stable, snake_case: `no_message_id`, `charset_repaired`, `too_many_parts`.
    pub code: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

impl Defect {
    pub fn new(code: &str, detail: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            detail: detail.into(),
        }
    }
}

/// How far a sent message got, as providers report it. Order is meaning: later is further.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryStage {
    Accepted,
    Delivered,
    Read,
    Failed,
}
