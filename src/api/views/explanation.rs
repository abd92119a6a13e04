//! Explanations as the API shows them: the stored facts of each decision, with public ids.

use connector_api::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::clock::timestamp;
use crate::conversation::{Priority, Status};
use crate::dispatch::Role;
use crate::ids::IdCodec;
use crate::router::effects::Author;
use crate::router::explain::{
    AcknowledgeWhy, AnsweredWhy, DedupeWhy, Explanation, Found, Hint, IdentityWhy, JoinReason,
    JoinWhy, QueueWhy, RefusedHint, Through,
};
use crate::store::{SettleAs, Settled, SettledWhy, StoredMessage};

use super::message::LabelsView;
use super::operation::StoredOperationView;
use super::{ConversationView, EvidenceView, PublicIds, evidence_of};

/// Why a conversation is what it is: how it stands, and what was decided for each message.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConversationExplanation {
    pub conversation: ConversationView,
    /// What was merged, split or moved here, the last 50, newest first.
    pub operations: Vec<StoredOperationView>,
    /// Newest first.
    pub items: Vec<ExplainedMessage>,
    #[schema(required)]
    pub next_cursor: Option<String>,
}

/// What was decided for a message.
#[derive(Debug, Serialize, ToSchema)]
pub struct ExplainedMessage {
    pub message_id: String,
    pub seq: i64,
    pub author: Author,
    pub arrived_at: Timestamp,
    pub automatic: bool,
    #[schema(required)]
    pub duplicate_of: Option<String>,
    pub labels: LabelsView,
    /// Null where nothing was to be decided: an answer, a note.
    #[schema(required)]
    pub explanation: Option<ExplanationView>,
    /// What persons said of an answer of which nobody knew whether it had left, oldest first.
    pub settled: Vec<SettledView>,
}

/// Who settled a held answer, how and when.
#[derive(Debug, Serialize, ToSchema)]
pub struct SettledView {
    /// `retry`: it was sent again, and may have arrived twice.
    #[serde(rename = "as")]
    pub outcome: SettleAs,
    /// Null for an operator of the machine, who settled it by command.
    #[schema(required)]
    pub role: Option<Role>,
    #[schema(required, example = "ada")]
    pub agent: Option<String>,
    pub at: Timestamp,
}

impl SettledView {
    fn of(settled: Settled) -> Self {
        Self {
            outcome: settled.outcome,
            role: settled.role,
            agent: settled.agent,
            at: timestamp(settled.at),
        }
    }
}

impl ExplainedMessage {
    pub fn of(message: &StoredMessage, ids: &IdCodec) -> Self {
        let stored = serde_json::from_value::<Explanation>(message.explanation.clone());
        let settled = serde_json::from_value::<SettledWhy>(message.explanation.clone());
        let settled = settled.unwrap_or_default().settled;
        Self {
            message_id: ids.message(message.id),
            seq: message.seq,
            author: message.author,
            arrived_at: timestamp(message.arrived_at),
            automatic: message.automatic,
            duplicate_of: message.duplicate_of.map(|id| ids.message(id)),
            labels: LabelsView::of(&message.labels),
            explanation: stored.ok().map(|stored| ExplanationView::of(&stored, ids)),
            settled: settled.into_iter().map(SettledView::of).collect(),
        }
    }
}

/// The facts and rules each step went by.
#[derive(Debug, Serialize, ToSchema)]
pub struct ExplanationView {
    pub dedupe: DedupeView,
    /// How it was found out who wrote.
    #[schema(required)]
    pub identity: Option<IdentityFoundView>,
    pub join: JoinView,
    /// Where the message put the conversation into a queue.
    #[schema(required)]
    pub queue: Option<QueueChoiceView>,
    /// Of what our own side wrote elsewhere, where the conversation waited for an answer: whether it
    /// is that answer.
    #[schema(required)]
    pub answered: Option<AnsweredView>,
    /// Whether an acknowledgement was sent, and why not.
    #[schema(required)]
    pub acknowledged: Option<AcknowledgedView>,
}

impl ExplanationView {
    fn of(stored: &Explanation, ids: &IdCodec) -> Self {
        Self {
            dedupe: DedupeView::of(&stored.dedupe, ids),
            identity: stored
                .identity
                .as_ref()
                .map(|why| IdentityFoundView::of(why, ids)),
            join: JoinView::of(&stored.join, ids),
            queue: stored.queue.as_ref().map(QueueChoiceView::of),
            answered: stored.answered.map(|why| AnsweredView::of(why, ids)),
            acknowledged: stored.acknowledged.map(AcknowledgedView::of),
        }
    }
}

/// Whether the event was seen before.
#[derive(Debug, Serialize, ToSchema)]
pub struct DedupeView {
    pub decision: DedupeDecision,
    /// The message that its key came with before, with other content.
    #[schema(required)]
    pub seen_as: Option<String>,
}

#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DedupeDecision {
    First,
    OtherContent,
}

impl DedupeView {
    fn of(why: &DedupeWhy, ids: &IdCodec) -> Self {
        match why {
            DedupeWhy::First => Self {
                decision: DedupeDecision::First,
                seen_as: None,
            },
            DedupeWhy::OtherContent { seen_as } => Self {
                decision: DedupeDecision::OtherContent,
                seen_as: Some(ids.message(*seen_as)),
            },
        }
    }
}

/// Whose message it is, and how that is known.
#[derive(Debug, Serialize, ToSchema)]
pub struct IdentityFoundView {
    pub contact_id: String,
    pub evidence: EvidenceView,
    #[schema(required)]
    pub method: Option<String>,
    pub found: FoundView,
    /// The contact that turned out to be the same person.
    #[schema(required)]
    pub linked_contact_id: Option<String>,
}

/// `linked`: verified evidence made two contacts one.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FoundView {
    Known,
    New,
    Linked,
}

impl IdentityFoundView {
    fn of(why: &IdentityWhy, ids: &IdCodec) -> Self {
        let (evidence, method) = evidence_of(&why.evidence);
        Self {
            contact_id: ids.contact(why.contact),
            evidence,
            method,
            found: match why.found {
                Found::Known => FoundView::Known,
                Found::New => FoundView::New,
                Found::Linked => FoundView::Linked,
            },
            linked_contact_id: why.linked.map(|id| ids.contact(id)),
        }
    }
}

/// Why the message is in this conversation. The members after `reason` are the facts it went by.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct JoinView {
    /// The joining rule, 1 to 6.
    pub rule: u8,
    #[schema(example = "open_conversation")]
    pub reason: &'static str,
    /// The message it refers to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// The conversation it continues.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conversation_id: Option<String>,
    /// When the reopened conversation had been resolved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolved_at: Option<Timestamp>,
    /// What this message is about, where that made it another matter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intent: Option<String>,
    /// What the open conversation is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_intent: Option<String>,
    /// What the hint named, where that was merged or moved: a conversation or a message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub through: Option<String>,
    /// Hints that were not followed.
    pub refused: Vec<RefusedHintView>,
}

impl JoinView {
    fn of(why: &JoinWhy, ids: &IdCodec) -> Self {
        let facts = match &why.reason {
            JoinReason::ReplyToken => Self::because("reply_token"),
            JoinReason::Reference { message } => Self {
                message_id: Some(ids.message(*message)),
                ..Self::because("reference")
            },
            JoinReason::OwnReference { message } => Self {
                message_id: Some(ids.message(*message)),
                ..Self::because("own_reference")
            },
            JoinReason::NativeThread => Self::because("native_thread"),
            JoinReason::OpenConversation => Self::because("open_conversation"),
            JoinReason::Reopened { resolved_at } => Self {
                resolved_at: Some(timestamp(*resolved_at)),
                ..Self::because("reopened")
            },
            JoinReason::FirstOfContact => Self::because("first_of_contact"),
            JoinReason::Continues { conversation } => Self {
                conversation_id: Some(ids.conversation(*conversation)),
                ..Self::because("continues")
            },
            JoinReason::AnotherMatter { intent, open } => Self {
                intent: Some(intent.clone()),
                open_intent: Some(open.clone()),
                ..Self::because("another_matter")
            },
            JoinReason::NothingWithinWindow => Self::because("nothing_within_window"),
            JoinReason::Forward => Self::because("forward"),
            JoinReason::NotAParticipant => Self::because("not_a_participant"),
            JoinReason::History => Self::because("history"),
            JoinReason::ChannelTest => Self::because("channel_test"),
        };
        let refused = why
            .refused
            .iter()
            .map(|hint| RefusedHintView::of(hint, ids))
            .collect();
        Self {
            rule: why.rule,
            refused,
            through: why.through.map(|through| match through {
                Through::Conversation(id) => ids.conversation(id),
                Through::Message(id) => ids.message(id),
            }),
            ..facts
        }
    }

    fn because(reason: &'static str) -> Self {
        Self {
            reason,
            ..Self::default()
        }
    }
}

/// A thread hint that gave no right to join.
#[derive(Debug, Serialize, ToSchema)]
pub struct RefusedHintView {
    pub hint: HintView,
    pub conversation_id: String,
    pub why: String,
}

#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HintView {
    ReplyToken,
    Reference,
    NativeThread,
}

impl RefusedHintView {
    fn of(refused: &RefusedHint, ids: &IdCodec) -> Self {
        Self {
            hint: match refused.hint {
                Hint::ReplyToken => HintView::ReplyToken,
                Hint::Reference => HintView::Reference,
                Hint::NativeThread => HintView::NativeThread,
            },
            conversation_id: ids.conversation(refused.conversation),
            why: refused.why.clone(),
        }
    }
}

/// Why the conversation waits in this queue.
#[derive(Debug, Serialize, ToSchema)]
pub struct QueueChoiceView {
    pub queue: String,
    pub priority: Priority,
    pub status: Status,
    /// The rule that matched; null: the channel's own queue.
    #[schema(required)]
    pub rule: Option<String>,
    pub rules_version: String,
    pub channel: String,
}

impl QueueChoiceView {
    fn of(why: &QueueWhy) -> Self {
        Self {
            queue: why.queue.as_str().to_owned(),
            priority: why.priority,
            status: why.status,
            rule: why.rule.clone(),
            rules_version: why.rules_version.clone(),
            channel: why.channel.as_str().to_owned(),
        }
    }
}

/// Whether an echo was the answer that its conversation waited for.
#[derive(Debug, Serialize, ToSchema)]
pub struct AnsweredView {
    /// `last_message` and `written_after`: it is, and the conversation is `pending`.
    pub decision: AnsweredDecision,
    /// The last message, which it names.
    #[schema(required)]
    pub message_id: Option<String>,
    /// When the customer's last words had come, which it was written after or before.
    #[schema(required)]
    pub last_inbound_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AnsweredDecision {
    LastMessage,
    WrittenAfter,
    WrittenBefore,
    ToAnother,
}

impl AnsweredView {
    fn of(why: AnsweredWhy, ids: &IdCodec) -> Self {
        let (decision, message, last_inbound_at) = match why {
            AnsweredWhy::LastMessage { message } => {
                (AnsweredDecision::LastMessage, Some(message), None)
            }
            AnsweredWhy::WrittenAfter { last_inbound_at } => {
                (AnsweredDecision::WrittenAfter, None, Some(last_inbound_at))
            }
            AnsweredWhy::WrittenBefore { last_inbound_at } => {
                (AnsweredDecision::WrittenBefore, None, Some(last_inbound_at))
            }
            AnsweredWhy::ToAnother => (AnsweredDecision::ToAnother, None, None),
        };
        Self {
            decision,
            message_id: message.map(|id| ids.message(id)),
            last_inbound_at: last_inbound_at.map(timestamp),
        }
    }
}

#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AcknowledgedView {
    Sent,
    AutomaticMessage,
    Spam,
    NotWanted,
    AnswersOurs,
    Recently,
}

impl AcknowledgedView {
    fn of(why: AcknowledgeWhy) -> Self {
        match why {
            AcknowledgeWhy::Sent => Self::Sent,
            AcknowledgeWhy::AutomaticMessage => Self::AutomaticMessage,
            AcknowledgeWhy::Spam => Self::Spam,
            AcknowledgeWhy::NotWanted => Self::NotWanted,
            AcknowledgeWhy::AnswersOurs => Self::AnswersOurs,
            AcknowledgeWhy::Recently => Self::Recently,
        }
    }
}
