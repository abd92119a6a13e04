//! What the API shows: the store's rows with public ids and RFC 3339 times. Fields are always
//! there; what is not known is null.

use std::collections::BTreeMap;

use connector_api::{Namespace, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

use crate::clock::timestamp;
use crate::conversation::{Priority, Status};
use crate::ids::{ContactId, ConversationId, IdCodec, IdKind, MessageId};
use crate::router::facts::{Conversation, LinkReason, Participant, Role};
use crate::router::triage::UNKNOWN;
use crate::store::privacy::Hold;
use crate::store::{QueueDepth, StoredContact, StoredIdentity};

pub mod erasure;
pub mod explanation;
pub mod message;
pub mod operation;

use message::MessageView;

/// Public ids, as every view writes them.
pub trait PublicIds {
    fn conversation(&self, id: ConversationId) -> String;
    fn message(&self, id: MessageId) -> String;
    fn contact(&self, id: ContactId) -> String;
}

impl PublicIds for IdCodec {
    fn conversation(&self, id: ConversationId) -> String {
        self.encode(IdKind::Conversation, id.0)
    }

    fn message(&self, id: MessageId) -> String {
        self.encode(IdKind::Message, id.0)
    }

    fn contact(&self, id: ContactId) -> String {
        self.encode(IdKind::Contact, id.0)
    }
}

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct List<T> {
    pub items: Vec<T>,
    /// Give it as `cursor` for the next page; null on the last one.
    #[schema(required)]
    pub next_cursor: Option<String>,
}

/// A queue and how much waits in it.
#[derive(Debug, Serialize, ToSchema)]
pub struct QueueView {
    #[schema(example = "frontline")]
    pub id: String,
    /// Conversations waiting to be claimed.
    pub waiting: i64,
    /// For how long the oldest one waits; null when none does.
    #[schema(required)]
    pub oldest_waiting_seconds: Option<i64>,
}

impl QueueView {
    pub fn of(depth: &QueueDepth, now: i64) -> Self {
        let waited = |since: i64| (now - since).max(0) / 1_000_000;
        Self {
            id: depth.id.as_str().to_owned(),
            waiting: depth.waiting,
            oldest_waiting_seconds: depth.oldest_enqueued_at.map(waited),
        }
    }
}

/// How far an identity is proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EvidenceView {
    Verified,
    Claimed,
}

impl EvidenceView {
    fn of(verified: bool) -> Self {
        if verified {
            Self::Verified
        } else {
            Self::Claimed
        }
    }
}

/// Stored for identities that nothing verifies.
const CLAIMED: &str = "claimed";

/// Splits what the store keeps as one word.
fn evidence_of(method: &str) -> (EvidenceView, Option<String>) {
    let verified = method != CLAIMED;
    (
        EvidenceView::of(verified),
        verified.then(|| method.to_owned()),
    )
}

/// One matter of one contact.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConversationView {
    #[schema(example = "cnv_5b1c9d1e7a0f8c3d9f2a6b4c8d7e1f03")]
    pub id: String,
    #[schema(example = "main")]
    pub brand: String,
    pub status: Status,
    #[schema(example = "frontline")]
    pub queue: String,
    pub priority: Priority,
    /// The agent who holds it.
    #[schema(required, example = "ada")]
    pub assignee: Option<String>,
    #[schema(example = "con_0d4f6a8b9c1e8e2f8a3b5c7d9e1f2a4b")]
    pub contact_id: String,
    pub participants: Vec<ParticipantView>,
    #[schema(required)]
    pub subject: Option<String>,
    pub tags: Vec<String>,
    /// The shop's own facts, by name.
    #[schema(value_type = Object, example = json!({ "order_id": "17" }))]
    pub attributes: BTreeMap<String, serde_json::Value>,
    /// Over which it came, in the order they were first used.
    pub channels: Vec<String>,
    pub labels: ConversationLabels,
    /// When it last began to wait; a release keeps it.
    pub enqueued_at: Timestamp,
    pub opened_at: Timestamp,
    pub last_inbound_at: Timestamp,
    #[schema(required)]
    pub resolved_at: Option<Timestamp>,
    /// Until when, while it is snoozed.
    #[schema(required)]
    pub snoozed_until: Option<Timestamp>,
    /// Grows with every change; the number in the ETag.
    pub version: i64,
    pub links: Vec<LinkView>,
    /// The conversation that its messages went to and that stands for it; this one stays closed.
    #[schema(required)]
    pub merged_into: Option<String>,
    /// Newest first, at most 50; only with `expand=messages`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages: Option<Vec<MessageView>>,
    /// Give it as `cursor` to the conversation's messages for older ones; only with `messages`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages_next_cursor: Option<String>,
}

impl ConversationView {
    pub fn of(conversation: &Conversation, ids: &IdCodec) -> Self {
        let detail = &conversation.detail;
        let known = |label: &Option<String>| label.clone().unwrap_or_else(|| UNKNOWN.to_owned());
        let link = |link: &crate::router::facts::Link| LinkView {
            conversation_id: ids.conversation(link.conversation),
            reason: link.reason,
        };
        Self {
            id: ids.conversation(conversation.id),
            brand: conversation.brand.as_str().to_owned(),
            status: conversation.status,
            queue: conversation.queue.as_str().to_owned(),
            priority: conversation.priority,
            assignee: conversation.assignee.clone(),
            contact_id: ids.contact(conversation.contact),
            participants: detail
                .participants
                .iter()
                .map(ParticipantView::of)
                .collect(),
            subject: detail.subject.clone(),
            tags: detail.tags.clone(),
            attributes: detail.attributes.clone(),
            channels: conversation
                .channels()
                .into_iter()
                .map(|channel| channel.as_str().to_owned())
                .collect(),
            labels: ConversationLabels {
                intent: known(&detail.intent),
                language: known(&detail.language),
            },
            enqueued_at: timestamp(conversation.enqueued_at),
            opened_at: timestamp(conversation.opened_at),
            last_inbound_at: timestamp(conversation.last_inbound_at),
            resolved_at: conversation.resolved_at.map(timestamp),
            snoozed_until: detail
                .snoozed_until
                .filter(|_| conversation.status == Status::Snoozed)
                .map(timestamp),
            version: conversation.version,
            links: detail.links.iter().map(link).collect(),
            merged_into: detail.merged_into.map(|into| ids.conversation(into)),
            messages: None,
            messages_next_cursor: None,
        }
    }
}

/// Somebody in the conversation.
#[derive(Debug, Serialize, ToSchema)]
pub struct ParticipantView {
    #[schema(example = "email")]
    pub namespace: String,
    #[schema(example = "ada@customer.example")]
    pub address: String,
    #[schema(required)]
    pub name: Option<String>,
    pub evidence: EvidenceView,
    #[schema(inline)]
    pub role: Role,
}

impl ParticipantView {
    fn of(participant: &Participant) -> Self {
        Self {
            namespace: participant.namespace.as_str().to_owned(),
            address: participant.address.clone(),
            name: participant.name.clone(),
            evidence: EvidenceView::of(participant.verified),
            role: participant.role,
        }
    }
}

/// What triage made of the whole conversation; `unknown` where it cannot tell.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConversationLabels {
    #[schema(example = "refund")]
    pub intent: String,
    /// ISO 639-1.
    #[schema(example = "en")]
    pub language: String,
}

/// Another conversation this one has to do with.
#[derive(Debug, Serialize, ToSchema)]
pub struct LinkView {
    pub conversation_id: String,
    pub reason: LinkReason,
}

/// An address somebody writes from.
#[derive(Debug, Serialize, ToSchema)]
pub struct IdentityView {
    #[schema(example = "email")]
    pub namespace: String,
    #[schema(example = "ada@customer.example")]
    pub address: String,
    pub evidence: EvidenceView,
    /// By what it is verified: `dmarc`, `platform`, `signed`, `vouched`, `customer_record`.
    #[schema(required)]
    pub method: Option<String>,
    #[schema(required)]
    pub name: Option<String>,
}

impl IdentityView {
    fn of(identity: &StoredIdentity) -> Self {
        let (evidence, method) = evidence_of(&identity.method);
        Self {
            namespace: identity.namespace.as_str().to_owned(),
            address: identity.address.clone(),
            evidence,
            method,
            name: identity.name.clone(),
        }
    }
}

/// A person: one or more identities.
#[derive(Debug, Serialize, ToSchema)]
pub struct ContactView {
    #[schema(example = "con_0d4f6a8b9c1e8e2f8a3b5c7d9e1f2a4b")]
    pub id: String,
    pub brand: String,
    #[schema(required)]
    pub name: Option<String>,
    /// Whether any evidence but the sender's word says who this is.
    pub evidence: EvidenceView,
    pub created_at: Timestamp,
    /// The shop's own facts, by name.
    #[schema(value_type = Object, example = json!({ "customer_no": "4711" }))]
    pub attributes: BTreeMap<String, serde_json::Value>,
    pub version: i64,
    pub identities: Vec<IdentityView>,
    /// Addresses somebody claims for this contact; nothing is done by them.
    pub suggestions: Vec<SuggestionView>,
    /// The legal hold on it: while there is one, nothing of it is removed.
    #[schema(required)]
    pub hold: Option<HoldView>,
    /// The contact that it was merged into and that stands for it.
    #[schema(required)]
    pub merged_into: Option<String>,
    /// Contacts that were merged into this one, the last 100, newest first.
    pub merged: Vec<String>,
}

impl ContactView {
    /// Names all addresses that are claimed for it, where it is read with the first ones only.
    pub fn suggest(&mut self, all: &[(Namespace, String)]) {
        let all = all.iter().map(|(namespace, address)| SuggestionView {
            namespace: namespace.as_str().to_owned(),
            address: address.clone(),
        });
        self.suggestions = all.collect();
    }
}

/// Why nothing of a contact may be removed.
#[derive(Debug, Serialize, ToSchema)]
pub struct HoldView {
    #[schema(example = "Claim of 2026-03-02, file 17/26")]
    pub reason: String,
    /// The agent who put it on, or the role of a token without one.
    #[schema(example = "ada")]
    pub by: String,
    pub since: Timestamp,
}

impl HoldView {
    fn of(hold: &Hold) -> Self {
        Self {
            reason: hold.reason.clone(),
            by: hold.who.clone(),
            since: timestamp(hold.at),
        }
    }
}

/// An address that may belong to a contact.
#[derive(Debug, Serialize, ToSchema)]
pub struct SuggestionView {
    pub namespace: String,
    pub address: String,
}

impl ContactView {
    pub fn of(contact: &StoredContact, ids: &IdCodec) -> Self {
        let suggestions = contact
            .suggestions
            .iter()
            .map(|(namespace, address)| SuggestionView {
                namespace: namespace.as_str().to_owned(),
                address: address.clone(),
            });
        Self {
            id: ids.contact(contact.id),
            brand: contact.brand.as_str().to_owned(),
            name: contact.name.clone(),
            evidence: EvidenceView::of(contact.verified),
            created_at: timestamp(contact.created_at),
            attributes: contact.attributes.clone(),
            version: contact.version,
            identities: contact.identities.iter().map(IdentityView::of).collect(),
            suggestions: suggestions.collect(),
            hold: contact.hold.as_ref().map(HoldView::of),
            merged_into: contact.merged_into.map(|into| ids.contact(into)),
            merged: contact.merged.iter().map(|id| ids.contact(*id)).collect(),
        }
    }
}
