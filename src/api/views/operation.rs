//! Surgery as the API shows it.

use connector_api::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::clock::timestamp;
use crate::ids::{ContactId, ConversationId, IdCodec, IdKind};
use crate::store::surgery::{Operated, OperationKind, StoredOperation};

use super::{ContactView, ConversationView, PublicIds};

/// An operation that was done just now.
#[derive(Debug, Serialize, ToSchema)]
pub struct OperationView {
    /// Undoing it takes this.
    #[schema(example = "evt_7d1c9d1e7a0f8c3d9f2a6b4c8d7e1f03")]
    pub event_id: String,
    #[schema(inline)]
    pub operation: OperationKind,
    /// Both conversations as they stand now, the one operated on first; empty for contacts.
    pub conversations: Vec<ConversationView>,
    /// Both contacts, as far as the token may see them now; empty for conversations.
    pub contacts: Vec<ContactView>,
}

impl OperationView {
    pub fn of(operated: &Operated, ids: &IdCodec) -> Self {
        let conversations = operated.conversations.iter();
        let contacts = operated.contacts.iter();
        Self {
            event_id: ids.encode(IdKind::Event, operated.event),
            operation: operated.kind,
            conversations: conversations
                .map(|one| ConversationView::of(one, ids))
                .collect(),
            contacts: contacts.map(|one| ContactView::of(one, ids)).collect(),
        }
    }
}

/// An operation on a conversation.
#[derive(Debug, Serialize, ToSchema)]
pub struct StoredOperationView {
    pub event_id: String,
    #[schema(inline)]
    pub operation: OperationKind,
    pub at: Timestamp,
    /// The role of whoever did it; null: verified evidence.
    #[schema(required)]
    pub role: Option<String>,
    #[schema(required, example = "ada")]
    pub agent: Option<String>,
    /// What it was done to: merged away, split, moved from.
    pub from: String,
    /// What it was done with: merged into, split off, moved to.
    pub into: String,
    /// The event that this one undid.
    #[schema(required)]
    pub undoes: Option<String>,
    #[schema(required)]
    pub undone_by: Option<String>,
}

impl StoredOperationView {
    pub fn of(stored: &StoredOperation, ids: &IdCodec) -> Self {
        let event = |number: i64| ids.encode(IdKind::Event, number);
        let named = |number: i64| match stored.kind {
            OperationKind::MergeContacts => ids.contact(ContactId(number)),
            _ => ids.conversation(ConversationId(number)),
        };
        Self {
            event_id: event(stored.event),
            operation: stored.kind,
            at: timestamp(stored.at),
            role: stored.by.as_ref().map(|by| by.role.clone()),
            agent: stored.by.as_ref().and_then(|by| by.agent.clone()),
            from: named(stored.one),
            into: named(stored.other),
            undoes: stored.undoes.map(event),
            undone_by: stored.undone_by.map(event),
        }
    }
}
