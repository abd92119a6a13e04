//! Events as streams show them: an envelope after CloudEvents, with public ids. Of what the log
//! keeps beside an event only what is named here is shown: the log has row numbers in it.

use bytes::Bytes;
use connector_api::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::api::views::PublicIds;
use crate::clock::timestamp;
use crate::ids::{ContactId, ConversationId, IdCodec, IdKind};
use crate::router::effects::EventType;
use crate::store::events::{Departure, Place, StoredEvent};

use super::types::{EventData, StreamType};

/// A conversation left what the token sees.
pub const LEFT: &str = "conversation.left";
/// The stream has a gap.
pub const RESYNC: &str = "resync";
/// The stream ends, for a reason.
pub const CLOSED: &str = "closed";

/// Set beside the number of the event that a departure goes with, so that its id is another.
const LEFT_BIT: i64 = 1 << 61;
/// What of an event's detail is shown as it is, where it is text, or a list or object of texts.
const SHOWN: [&str; 12] = [
    "added", "agent", "by", "change", "delivery", "from", "priority", "removed", "status",
    "subject", "tags", "to",
];
/// The shop's own facts, whatever they are.
const ATTRIBUTES: &str = "attributes";
/// Of these, row numbers of contacts, and what they are called outside.
const CONTACTS: [(&str, &str); 3] = [
    ("contact", "contact_id"),
    ("into", "contact_id"),
    ("from", "merged_contact_id"),
];
/// The same of conversations, where an operation joined or parted them.
const CONVERSATIONS: [(&str, &str); 2] = [("from", "from_id"), ("into", "into_id")];
/// And of the events of operations.
const OPERATIONS: [(&str, &str); 2] = [("operation", "operation_id"), ("undoes", "undoes_id")];
const AUTHOR: &str = "author";
const CONVERSATION_SEQ: &str = "conversation_seq";
const ACTING_TOKEN: &str = "acting_token";
const UNTIL: &str = "until";

/// The `data` of an event of the stream.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventView {
    /// Null for `resync` and `closed`, which are about the stream.
    #[schema(required, example = "evt_5b1c9d1e7a0f8c3d9f2a6b4c8d7e1f03")]
    pub id: Option<String>,
    #[serde(rename = "type")]
    #[schema(value_type = StreamType)]
    pub kind: String,
    #[schema(required)]
    pub time: Option<Timestamp>,
    /// Its number; `Last-Event-ID` takes it.
    pub seq: i64,
    /// Where the conversation is now.
    #[schema(required, example = "frontline")]
    pub queue: Option<String>,
    #[schema(required, example = "cnv_5b1c9d1e7a0f8c3d9f2a6b4c8d7e1f03")]
    pub conversation: Option<String>,
    #[schema(required, example = "msg_1d9e5b1c7a0f8c3d9f2a6b4c8d7e1f03")]
    pub message: Option<String>,
    /// What else the type tells.
    #[schema(value_type = EventData)]
    pub data: Map<String, Value>,
}

impl EventView {
    pub fn of(event: &StoredEvent, place: Option<&Place>, ids: &IdCodec) -> Self {
        let conversation = event.conversation.as_ref();
        Self {
            id: Some(ids.encode(IdKind::Event, event.seq)),
            kind: event.kind.as_str().to_owned(),
            time: Some(timestamp(event.at)),
            seq: event.seq,
            queue: place.map(|place| place.queue.as_str().to_owned()),
            conversation: conversation.map(|(id, _)| ids.conversation(*id)),
            message: event.message.map(|id| ids.message(id)),
            data: data_of(event, ids),
        }
    }

    /// What is left to say of a conversation that is not where it was any more. It has the number of
    /// the event by which it left.
    pub fn left(departure: &Departure, ids: &IdCodec) -> Self {
        Self {
            id: Some(ids.encode(IdKind::Event, departure.seq | LEFT_BIT)),
            kind: LEFT.to_owned(),
            time: departure.at.map(timestamp),
            seq: departure.seq,
            queue: Some(departure.before.queue.as_str().to_owned()),
            conversation: Some(ids.conversation(departure.conversation)),
            message: None,
            data: Map::new(),
        }
    }

    /// Events after `asked` cannot be given; it goes on after `seq`.
    pub fn resync(asked: i64, reason: &str, seq: i64) -> Self {
        Self::about_stream(RESYNC, json!({ "asked": asked, "reason": reason }), seq)
    }

    fn about_stream(kind: &str, data: Value, seq: i64) -> Self {
        Self {
            id: None,
            kind: kind.to_owned(),
            time: None,
            seq,
            queue: None,
            conversation: None,
            message: None,
            data: match data {
                Value::Object(data) => data,
                _ => Map::new(),
            },
        }
    }
}

/// An event as it goes over the wire.
pub fn event(event: &StoredEvent, place: Option<&Place>, ids: &IdCodec) -> Bytes {
    frame(Some(event.seq), &EventView::of(event, place, ids))
}

/// The same of what the token may not see any more; `numbered` where the event by which it left is
/// not shown itself.
pub fn left(departure: &Departure, numbered: bool, ids: &IdCodec) -> Bytes {
    let view = EventView::left(departure, ids);
    frame(numbered.then_some(departure.seq), &view)
}

/// Events after `asked` cannot be given; it goes on after `seq`.
pub fn resync(asked: i64, reason: &str, seq: i64) -> Bytes {
    frame(Some(seq), &EventView::resync(asked, reason, seq))
}

/// The stream ends; another one goes on after `seq`.
pub fn closed(reason: &str, seq: i64) -> Bytes {
    let view = EventView::about_stream(CLOSED, json!({ "reason": reason }), seq);
    frame(None, &view)
}

/// Nothing happened; a client that reconnects goes on from here.
pub fn keep_alive(seq: i64) -> Bytes {
    format!(": keep-alive\nid: {seq}\n\n").into()
}

/// One event of a stream (WHATWG HTML, section 9.2.6). JSON of serde has no line breaks.
fn frame(id: Option<i64>, view: &EventView) -> Bytes {
    let json = serde_json::to_string(view).unwrap_or_default();
    let kind = &view.kind;
    match id {
        Some(id) => format!("id: {id}\nevent: {kind}\ndata: {json}\n\n").into(),
        None => format!("event: {kind}\ndata: {json}\n\n").into(),
    }
}

fn data_of(event: &StoredEvent, ids: &IdCodec) -> Map<String, Value> {
    let mut data = Map::new();
    if let (EventType::MessageCreated, Some((author, number))) = (event.kind, event.said) {
        data.insert(AUTHOR.to_owned(), json!(author));
        data.insert(CONVERSATION_SEQ.to_owned(), number.into());
    }
    let pairs: &[(&str, &str)] = match event.conversation {
        Some(_) => &CONVERSATIONS,
        None => &CONTACTS,
    };
    let mut name = |(key, public): &(&str, &str), id: &dyn Fn(i64) -> String| {
        if let Some(number) = event.detail.get(key).and_then(Value::as_i64) {
            data.insert((*public).to_owned(), id(number).into());
        }
    };
    for pair in pairs {
        name(pair, &|number| match event.conversation {
            Some(_) => ids.conversation(ConversationId(number)),
            None => ids.contact(ContactId(number)),
        });
    }
    for pair in &OPERATIONS {
        name(pair, &|number| ids.encode(IdKind::Event, number));
    }
    // Whose backend acted for the agent.
    name(&(ACTING_TOKEN, ACTING_TOKEN), &|number| {
        ids.encode(IdKind::Token, number)
    });
    let settled = event.detail.get("settled");
    for detail in std::iter::once(&event.detail).chain(settled) {
        if let Some(attributes) = detail.get(ATTRIBUTES) {
            data.insert(ATTRIBUTES.to_owned(), attributes.clone());
        }
        if let Some(until) = detail.get(UNTIL).and_then(Value::as_i64) {
            data.insert(UNTIL.to_owned(), json!(timestamp(until)));
        }
        for key in SHOWN {
            if let Some(value) = detail.get(key).filter(|value| is_text(value)) {
                data.insert(key.to_owned(), value.clone());
            }
        }
    }
    data
}

fn is_text(value: &Value) -> bool {
    match value {
        Value::String(_) | Value::Null => true,
        Value::Array(items) => items.iter().all(Value::is_string),
        Value::Object(members) => members
            .values()
            .all(|member| member.is_string() || member.is_null()),
        _ => false,
    }
}

/// What the `data` of an event of the log may have.
#[cfg(test)]
pub fn data_keys() -> impl Iterator<Item = &'static str> {
    let named = CONTACTS.iter().chain(&CONVERSATIONS).chain(&OPERATIONS);
    let own = [AUTHOR, CONVERSATION_SEQ, ACTING_TOKEN, ATTRIBUTES, UNTIL];
    named.map(|(_, public)| *public).chain(own).chain(SHOWN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_numbers_of_the_log_are_never_shown() {
        let ids = IdCodec::new(b"key");
        let merged = StoredEvent {
            seq: 7,
            kind: EventType::ContactMerged,
            at: 0,
            conversation: None,
            message: None,
            said: None,
            detail: json!({
                "from": 4711, "into": 4712, "by": "evidence", "identities": [4713],
                "conversations": [[4714, 0]], "agent": null, "queue": 4715,
            }),
        };
        let shown = event(&merged, None, &ids);
        let text = std::str::from_utf8(&shown).unwrap();
        assert!(!text.contains("471"), "{text}");
        assert!(text.contains(&ids.contact(ContactId(4712))), "{text}");
        assert!(text.contains("\"by\":\"evidence\""), "{text}");
        assert!(text.starts_with("id: 7\nevent: contact.merged\ndata: {"));
        let place = Place {
            brand: "main".parse().unwrap(),
            queue: "frontline".parse().unwrap(),
            assignee: None,
        };
        let undone = StoredEvent {
            kind: EventType::OperationUndone,
            conversation: Some((ConversationId(4711), place.clone())),
            detail: json!({
                "operation": 4716, "undoes": 4717, "from": 4711, "into": 4712, "messages": 4718,
            }),
            ..merged
        };
        let shown = event(&undone, Some(&place), &ids);
        let text = std::str::from_utf8(&shown).unwrap();
        assert!(!text.contains("471"), "{text}");
        let (_, json) = text.split_once("data: ").unwrap();
        let shown: Value = serde_json::from_str(json).unwrap();
        assert_eq!(
            shown["data"],
            json!({
                "from_id": ids.conversation(ConversationId(4711)),
                "into_id": ids.conversation(ConversationId(4712)),
                "operation_id": ids.encode(IdKind::Event, 4716),
                "undoes_id": ids.encode(IdKind::Event, 4717),
            })
        );
    }
}
