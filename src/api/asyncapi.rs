//! The AsyncAPI document: the topics of a bus that others read, with the schemas of their records, made from the
//! types that write them.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};
use utoipa::OpenApi;

use crate::bus::{Envelope, INBOUND_TYPE, MARK_TYPE};

use super::events::EventView;
use super::topics::{LETTER_TYPE, QueueRecord};

const SCHEMAS: &str = "#/components/schemas/";

/// What the records of `events` and of queues' topics hold, as the API describes it.
#[derive(OpenApi)]
#[openapi(components(schemas(EventView, QueueRecord)))]
struct Views;

/// The document, AsyncAPI 3.0.
pub fn document() -> Value {
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Switchboard",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The topics of Switchboard on Kafka. Every record is a CloudEvent 1.0 in binary mode: its attributes are \
                headers, its value is the data. Switchboard reads `inbound` alone; all others are copies, told at least once: \
                whoever reads them knows a repetition by `ce_id`. Records of one key are in one partition, in order. More types of \
                events and more members may come: pass over what you do not know. Copies are personal data: they go with the \
                topic's retention.",
            "license": { "name": "Apache-2.0" }
        },
        "defaultContentType": "application/json",
        "servers": {
            "kafka": {
                "host": "{broker}",
                "protocol": "kafka",
                "variables": { "broker": { "description": "One of `bus.brokers`.", "default": "localhost:9092" } }
            }
        },
        "channels": {
            "inbound": inbound_channel("{prefix}.inbound"),
            "inboundLater": later_channel(),
            "events": channel("{prefix}.events", "Everything that changes: what `GET /v1/events` streams. The key is the conversation, or the contact.", "event"),
            "queue": queue_channel(),
            "deadLetter": channel("{prefix}.dead-letter", "Records of `inbound` that nobody could decide: bytes and headers as they were, and headers that say why, after Kafka Connect.", "deadLetter"),
        },
        "operations": {
            "accept": operation("send", "inbound", "Accepts what channels deliver."),
            "acceptLater": operation("send", "inboundLater", "The same, after the number of partitions was changed."),
            "decide": operation("receive", "inbound", "Decides what was accepted."),
            "decideLater": operation("receive", "inboundLater", "The same, after the number of partitions was changed."),
            "tellEvents": operation("send", "events", "Tells what happened."),
            "tellQueue": operation("send", "queue", "Tells what happened in a queue, with `fan_out.queue_topics`."),
            "tellDeadLetter": operation("send", "deadLetter", "Tells what could not be decided."),
        },
        "components": {
            "messages": {
                "inbound": message("Envelope", attributes(INBOUND_TYPE), "What a channel delivered."),
                "mark": mark(),
                "event": message("EventView", attributes("switchboard.message.created.v1"), "What happened."),
                "queueRecord": message("QueueRecord", attributes("switchboard.message.created.v1"), "What happened to a conversation in the queue, with the conversation as it is then. `switchboard.conversation.left.v1`: it is not in this queue any more. `switchboard.resync.v1`: records are missing; load the queue by the API."),
                "deadLetter": dead_letter(),
            },
            "schemas": schemas(),
        }
    })
}

fn channel(address: &str, description: &str, message: &str) -> Value {
    json!({
        "address": address,
        "description": description,
        "parameters": {
            "prefix": { "description": "`bus.prefix`", "default": "switchboard" }
        },
        "messages": { message: { "$ref": format!("#/components/messages/{message}") } }
    })
}

fn inbound_channel(address: &str) -> Value {
    let described = "What channels delivered, as it was accepted. The key is a keyed hash of the customer's identity. \
        Where the number of partitions was changed, each has a mark, and what was accepted later is in the next generation.";
    let mut channel = channel(address, described, "inbound");
    channel["messages"]["mark"] = json!({ "$ref": "#/components/messages/mark" });
    channel
}

fn later_channel() -> Value {
    let mut channel = inbound_channel("{prefix}.inbound.{generation}");
    channel["parameters"]["generation"] = json!({
        "description": "Which one it is since `switchboard bus grow`, from 2 on.",
        "examples": ["2"]
    });
    channel
}

fn queue_channel() -> Value {
    let described = "What happens to conversations in one queue, where `fan_out.queue_topics` is on. The key is the conversation.";
    let mut channel = channel("{prefix}.queue.{queue}", described, "queueRecord");
    channel["parameters"]["queue"] =
        json!({ "description": "The queue's id.", "examples": ["frontline"] });
    channel
}

fn operation(action: &str, channel: &str, summary: &str) -> Value {
    json!({
        "action": action,
        "channel": { "$ref": format!("#/channels/{channel}") },
        "summary": summary
    })
}

fn message(schema: &str, headers: Value, summary: &str) -> Value {
    json!({
        "summary": summary,
        "contentType": "application/json",
        "headers": headers,
        "payload": { "$ref": format!("{SCHEMAS}{schema}") },
        "bindings": { "kafka": { "key": { "type": "string" }, "bindingVersion": "0.5.0" } }
    })
}

/// Headers of a CloudEvent in binary mode.
fn attributes(kind: &str) -> Value {
    json!({
        "type": "object",
        "required": ["content-type", "ce_specversion", "ce_type", "ce_id", "ce_source"],
        "properties": {
            "content-type": { "type": "string", "const": "application/json" },
            "ce_specversion": { "type": "string", "const": "1.0" },
            "ce_type": { "type": "string", "pattern": r"^switchboard\.[a-z_.]+\.v[0-9]+$", "examples": [kind] },
            "ce_id": { "type": "string", "minLength": 1 },
            "ce_source": { "type": "string", "minLength": 1 },
            "ce_subject": { "type": "string" },
            "ce_time": { "type": "string", "format": "date-time" },
            "ce_partitionkey": { "type": "string", "description": "The record's key." }
        }
    })
}

/// Says where a partition ends.
fn mark() -> Value {
    json!({
        "summary": "Nothing more comes to this partition: the number of partitions was changed. It has no key and no data.",
        "headers": {
            "type": "object",
            "required": ["ce_specversion", "ce_type", "ce_id", "ce_source"],
            "properties": {
                "ce_specversion": { "type": "string", "const": "1.0" },
                "ce_type": { "type": "string", "const": MARK_TYPE },
                "ce_id": { "type": "string", "minLength": 1 },
                "ce_source": { "type": "string", "const": "/bus" }
            },
            "additionalProperties": false
        }
    })
}

/// One whose bytes are whatever they were.
fn dead_letter() -> Value {
    let text = |description: &str| json!({ "type": "string", "description": description });
    json!({
        "summary": "A record as it was, and why it is a dead letter.",
        "contentType": "application/octet-stream",
        "headers": {
            "type": "object",
            "required": [
                "ce_specversion", "ce_type", "ce_id", "ce_source", "ce_partitionkey",
                "__switchboard.errors.stage", "__switchboard.errors.exception.message",
                "__switchboard.errors.attempts", "__switchboard.errors.time"
            ],
            "properties": {
                "content-type": text("As it was; `application/octet-stream` of what was no CloudEvent."),
                "ce_specversion": { "type": "string", "const": "1.0" },
                "ce_type": text(&format!("As it was; `{LETTER_TYPE}` of what was no CloudEvent.")),
                "ce_id": { "type": "string", "minLength": 1 },
                "ce_source": { "type": "string", "minLength": 1 },
                "ce_partitionkey": text("The record's key."),
                "__switchboard.errors.topic": text("Where the record was."),
                "__switchboard.errors.partition": text("In which partition."),
                "__switchboard.errors.offset": text("At which offset."),
                "__switchboard.errors.stage": { "type": "string", "const": "ROUTER" },
                "__switchboard.errors.exception.message": text("What was wrong with it; no text of the message."),
                "__switchboard.errors.attempts": text("How often it was tried."),
                "__switchboard.errors.time": { "type": "string", "format": "date-time", "description": "When it was given up." },
                "__switchboard.errors.bytes": text("Only where they are not the value: `gone`, or `too many` for a record.")
            }
        },
        "bindings": { "kafka": { "key": { "type": "string" }, "bindingVersion": "0.5.0" } }
    })
}

/// The schemas of all records' data.
fn schemas() -> Value {
    let views = serde_json::to_value(Views::openapi()).unwrap_or_default();
    let mut all: Map<String, Value> = match &views["components"]["schemas"] {
        Value::Object(schemas) => schemas.clone(),
        _ => Map::new(),
    };
    let settings = SchemaSettings::draft2020_12().for_serialize();
    let path = |settings: &mut SchemaSettings| {
        settings.definitions_path = "/components/schemas".into();
    };
    let mut generator = settings.with(path).into_generator();
    generator.subschema_for::<Envelope>();
    all.extend(generator.take_definitions(true));
    Value::Object(all)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(members) => {
                for (key, member) in members {
                    match member {
                        Value::String(reference) if key == "$ref" => {
                            found.insert(reference.clone());
                        }
                        member => references(member, found),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    #[test]
    fn everything_that_the_document_refers_to_is_in_it() {
        let document = document();
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        assert!(found.len() > 20, "{found:?}");
        for reference in found {
            let path = reference.strip_prefix('#').expect("a reference within");
            assert!(document.pointer(path).is_some(), "{reference}");
        }
    }

    /// Two types of one name would be one schema.
    #[test]
    fn no_type_of_a_record_has_the_name_of_another() {
        let views = serde_json::to_value(Views::openapi()).expect("JSON");
        let views = views["components"]["schemas"].as_object().expect("schemas");
        let mut generator = SchemaSettings::draft2020_12().into_generator();
        generator.subschema_for::<Envelope>();
        let envelope = generator.take_definitions(true);
        let both: Vec<&String> = envelope
            .keys()
            .filter(|name| views.contains_key(*name))
            .collect();
        assert!(both.is_empty(), "{both:?}");
    }
}
