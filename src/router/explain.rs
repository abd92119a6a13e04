//! Why a message is where it is: the facts and the rule that each step used, kept with the
//! message, compactly. The API shows it as it stands.

use connector_api::{ChannelId, QueueId};
use serde::{Deserialize, Serialize};

use crate::conversation::{Priority, Status};
use crate::ids::{ContactId, ConversationId, MessageId};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    pub dedupe: DedupeWhy,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<IdentityWhy>,
    pub join: JoinWhy,
    /// Only where the message put the conversation into a queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueWhy>,
    /// Only of an echo, in a conversation that waited for an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered: Option<AnsweredWhy>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged: Option<AcknowledgeWhy>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DedupeWhy {
    /// The key was never seen within the horizon.
    First,
    /// The key was seen with other content: kept, and flagged.
    OtherContent { seen_as: MessageId },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IdentityWhy {
    pub contact: ContactId,
    /// `claimed`, or the method the writing identity is verified by.
    pub evidence: String,
    /// `known`, `new`, or `linked` where verified evidence made two contacts one.
    pub found: Found,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linked: Option<ContactId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Found {
    Known,
    New,
    Linked,
}

/// Which joining rule decided, and what it went by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JoinWhy {
    /// 1 to 6, as in the documentation.
    pub rule: u8,
    pub reason: JoinReason,
    /// A hint that was not followed, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<RefusedHint>,
    /// What the hint that was followed named, where the reason does not say it: a conversation that
    /// was merged into this one, a message that was moved here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub through: Option<Through>,
}

/// What a hint named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Through {
    Conversation(ConversationId),
    Message(MessageId),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JoinReason {
    /// Valid reply token, and the sender is a participant.
    ReplyToken,
    /// Refers to a known message, and the sender is a participant by verified evidence.
    Reference {
        message: MessageId,
    },
    /// Refers to a message of the claimed contact's own conversation.
    OwnReference {
        message: MessageId,
    },
    NativeThread,
    OpenConversation,
    Reopened {
        resolved_at: i64,
    },
    FirstOfContact,
    /// The conversation it belongs to was resolved too long ago, or closed.
    Continues {
        conversation: ConversationId,
    },
    /// A new subject with another known intent.
    AnotherMatter {
        intent: String,
        open: String,
    },
    /// The contact's open conversation is outside the unify window, or the policy keeps channels apart.
    NothingWithinWindow,
    Forward,
    NotAParticipant,
    History,
    /// `switchboard channel test` sent it.
    ChannelTest,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RefusedHint {
    pub hint: Hint,
    pub conversation: ConversationId,
    pub why: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hint {
    ReplyToken,
    Reference,
    NativeThread,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QueueWhy {
    pub queue: QueueId,
    pub priority: Priority,
    pub status: Status,
    /// The rule that matched, and the version of the rules; none: the channel's own queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    pub rules_version: String,
    pub channel: ChannelId,
}

/// Whether an echo was the answer that a conversation waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnsweredWhy {
    /// It names the last message.
    LastMessage { message: MessageId },
    /// It was written after the customer's last words came.
    WrittenAfter { last_inbound_at: i64 },
    /// It was written before they came.
    WrittenBefore { last_inbound_at: i64 },
    /// It went to somebody else, not to the customer.
    ToAnother,
}

impl AnsweredWhy {
    pub fn is_answer(self) -> bool {
        matches!(self, Self::LastMessage { .. } | Self::WrittenAfter { .. })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AcknowledgeWhy {
    Sent,
    /// Automatic mail is never answered automatically.
    AutomaticMessage,
    Spam,
    /// The sender asks for no automatic answers.
    NotWanted,
    /// It carries a reply token of ours: it answers something we sent.
    AnswersOurs,
    /// This address had one on this channel within 24 hours, or this text from its domain.
    Recently,
}
