//! The types that a stream sends, and what each of them tells: one list, from which the document is
//! made.

use connector_api::Timestamp;
use serde_json::Value;
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::conversation::{Delivery, Priority, Status};
use crate::router::effects::{Author, EventType};

use super::view::{CLOSED, LEFT, RESYNC};

/// Every type of the stream, by its name.
pub struct StreamType;

impl PartialSchema for StreamType {
    fn schema() -> RefOr<Schema> {
        let lines = all().into_iter().map(|(name, told)| {
            let data = told.data.iter().map(|key| format!("`{key}`"));
            let data: Vec<String> = data.collect();
            match data.is_empty() {
                true => format!("`{name}`: {}.", told.meaning),
                false => format!(
                    "`{name}`: {}. In `data`: {}.",
                    told.meaning,
                    data.join(", ")
                ),
            }
        });
        let lines: Vec<String> = lines.collect();
        let described = format!(
            "What happened. More types may come: pass over those that you do not know.\n\n{}",
            lines.join("\n\n")
        );
        ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some(described))
            .enum_values(Some(all().map(|(name, _)| name)))
            .examples(["message.created"])
            .into()
    }
}

impl ToSchema for StreamType {
    fn name() -> std::borrow::Cow<'static, str> {
        "EventType".into()
    }
}

/// What else an event tells: which of these a type has, `EventType` says. A key whose value does
/// not apply is left out or null.
#[derive(ToSchema)]
#[expect(dead_code, reason = "documents `data`, which is written key by key")]
pub struct EventData {
    /// Whose words.
    author: Option<Author>,
    /// The message's number within its conversation.
    conversation_seq: Option<i64>,
    /// Who did it; of `conversation.assigned`, whose the conversation is now.
    #[schema(example = "ada")]
    agent: Option<String>,
    /// The token of the backend that acted for the agent.
    #[schema(example = "tok_5b1c9d1e7a0f8c3d9f2a6b4c8d7e1f03")]
    acting_token: Option<String>,
    /// `edited`, `deleted`, `reaction`, `receipt` or `attachment`.
    #[schema(example = "edited")]
    change: Option<String>,
    delivery: Option<Delivery>,
    status: Option<Status>,
    priority: Option<Priority>,
    tags: Option<Vec<String>>,
    /// The shop's own facts, all of them.
    #[schema(value_type = Option<Object>)]
    attributes: Option<Value>,
    #[schema(example = "Order A-1042")]
    subject: Option<String>,
    /// Until when it sleeps.
    until: Option<Timestamp>,
    /// `queue` and `agent` before.
    #[schema(value_type = Option<Object>)]
    from: Option<Value>,
    /// `queue` and `agent` now.
    #[schema(value_type = Option<Object>)]
    to: Option<Value>,
    /// `namespace` and `address` of a participant.
    #[schema(value_type = Option<Object>)]
    added: Option<Value>,
    /// `namespace` and `address` of a participant.
    #[schema(value_type = Option<Object>)]
    removed: Option<Value>,
    /// Of a conversation `us`, where we wrote first; of a merge of contacts `evidence` or `person`.
    by: Option<String>,
    /// The contact; of a merge, the one that goes on.
    #[schema(example = "con_5b1c9d1e7a0f8c3d9f2a6b4c8d7e1f03")]
    contact_id: Option<String>,
    /// The contact that was merged into it.
    merged_contact_id: Option<String>,
    /// The conversation that was merged away, split or moved from.
    #[schema(example = "cnv_5b1c9d1e7a0f8c3d9f2a6b4c8d7e1f03")]
    from_id: Option<String>,
    /// The conversation that it was merged into, that was split off, or moved to.
    #[schema(example = "cnv_1d9e5b1c7a0f8c3d9f2a6b4c8d7e1f03")]
    into_id: Option<String>,
    /// The operation: `POST /v1/events/{id}/undo` takes it.
    #[schema(example = "evt_7d1c9d1e7a0f8c3d9f2a6b4c8d7e1f03")]
    operation_id: Option<String>,
    /// The operation that was undone.
    undoes_id: Option<String>,
    /// The number that was asked for.
    asked: Option<i64>,
    /// Of `resync`: `expired` (older than `retention.events`), `restored` (the daemon runs on a
    /// restored backup) or `unknown` (another log's). Of `closed`: `slow`, `unauthorized`,
    /// `shutdown` or `unavailable`.
    #[schema(example = "expired")]
    reason: Option<String>,
}

/// What an event of a type tells.
struct Told {
    meaning: &'static str,
    /// What `data` may have.
    data: &'static [&'static str],
}

const TYPES: usize = EventType::ALL.len() + 3;

fn all() -> [(&'static str, Told); TYPES] {
    std::array::from_fn(|at| match EventType::ALL.get(at) {
        Some(kind) => (kind.as_str(), told(*kind)),
        None => about_stream(at - EventType::ALL.len()),
    })
}

fn told(kind: EventType) -> Told {
    let (meaning, data): (_, &[_]) = match kind {
        EventType::MessageCreated => (
            "something was said, in either direction, or noted",
            &["author", "conversation_seq", "agent", "acting_token"],
        ),
        EventType::MessageChanged => (
            "a message was edited, deleted or reacted to, or more came of it",
            &["change"],
        ),
        EventType::MessageDelivery => (
            "an answer got further, or came back, or a person settled it",
            &["delivery", "agent", "acting_token"],
        ),
        EventType::ConversationCreated => {
            ("a conversation began", &["by", "agent", "acting_token"])
        }
        EventType::ConversationQueued => ("it waits in its queue", &[]),
        EventType::ConversationAssigned => ("it is an agent's now", &["agent", "acting_token"]),
        EventType::ConversationReleased => ("its agent gave it back", &["agent", "acting_token"]),
        EventType::ConversationResolved => ("it was resolved", &["agent", "acting_token"]),
        EventType::ConversationReopened => (
            "it was opened again, by a person or by what the customer wrote",
            &["agent", "acting_token"],
        ),
        EventType::ContactMerged => (
            "two contacts are one now",
            &[
                "contact_id",
                "merged_contact_id",
                "by",
                "operation_id",
                "agent",
                "acting_token",
            ],
        ),
        EventType::ConversationUpdated => (
            "something else of it changed: what is named, or whose it is",
            &[
                "status",
                "priority",
                "tags",
                "attributes",
                "subject",
                "agent",
                "acting_token",
            ],
        ),
        EventType::ConversationSnoozed => ("it sleeps", &["until", "agent", "acting_token"]),
        EventType::ConversationWoken => (
            "it woke, at its time or by a person",
            &["agent", "acting_token"],
        ),
        EventType::ConversationTransferred => (
            "it was handed on to a queue or an agent",
            &["from", "to", "agent", "acting_token"],
        ),
        EventType::ConversationParticipants => (
            "somebody takes part, or does not any more",
            &["added", "removed", "agent", "acting_token"],
        ),
        EventType::ContactUpdated => (
            "something of a contact changed",
            &["contact_id", "agent", "acting_token"],
        ),
        EventType::ConversationMerged => (
            "two conversations are one now; told of both",
            &[
                "from_id",
                "into_id",
                "operation_id",
                "agent",
                "acting_token",
            ],
        ),
        EventType::ConversationSplit => (
            "messages became a conversation of their own; told of both",
            &[
                "from_id",
                "into_id",
                "operation_id",
                "agent",
                "acting_token",
            ],
        ),
        EventType::MessageMoved => (
            "a message is in another conversation now; told of both",
            &[
                "from_id",
                "into_id",
                "operation_id",
                "agent",
                "acting_token",
            ],
        ),
        EventType::OperationUndone => (
            "one of these was undone, or done again; told of both, or of the contacts",
            &[
                "from_id",
                "into_id",
                "contact_id",
                "merged_contact_id",
                "operation_id",
                "undoes_id",
                "agent",
                "acting_token",
            ],
        ),
        EventType::ContactHeld => (
            "a legal hold was put on a contact: nothing of it is removed",
            &["contact_id", "agent", "acting_token"],
        ),
        EventType::ContactReleased => (
            "the legal hold on a contact was lifted",
            &["contact_id", "agent", "acting_token"],
        ),
        EventType::ContactErased => (
            "a contact and all that was said with it is gone; told on a bus, to whoever keeps copies",
            &["contact_id", "agent", "acting_token"],
        ),
    };
    Told { meaning, data }
}

/// What no log has: it is about what this stream may show.
fn about_stream(at: usize) -> (&'static str, Told) {
    let (name, meaning, data): (_, _, &[_]) = match at {
        0 => (
            LEFT,
            "the token does not see this conversation any more; said once, before nothing more of it is",
            &[],
        ),
        1 => (
            RESYNC,
            "events were missed that cannot be had: load afresh, and go on after `seq`",
            &["asked", "reason"],
        ),
        _ => (
            CLOSED,
            "the stream ends: come again with the last number, but `unauthorized` with another token",
            &["reason"],
        ),
    };
    (name, Told { meaning, data })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::api::events::view::data_keys;

    #[test]
    fn whatever_data_may_have_is_described_and_belongs_to_a_type() {
        let schema = serde_json::to_value(EventData::schema()).unwrap();
        let properties = schema["properties"].as_object().unwrap();
        let described: BTreeSet<&str> = properties.keys().map(String::as_str).collect();
        let of_types = all().into_iter().flat_map(|(_, told)| told.data);
        let of_types: BTreeSet<&str> = of_types.copied().collect();
        assert_eq!(described, of_types);
        let shown: BTreeSet<&str> = data_keys().chain(["asked", "reason"]).collect();
        assert_eq!(described, shown);
    }
}
