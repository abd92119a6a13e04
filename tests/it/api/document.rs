//! The OpenAPI document: complete, and as it was reviewed.

use std::collections::HashSet;
use std::path::Path;

use serde_json::Value;
use switchboard::router::effects::EventType;

use super::served::Served;

fn document() -> Value {
    serde_json::from_str(&switchboard::api::openapi().to_json().unwrap()).unwrap()
}

/// Method, path and operation of everything in the document.
fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let paths = document["paths"].as_object().unwrap();
    let operations = paths.iter().flat_map(|(path, item)| {
        item.as_object()
            .unwrap()
            .iter()
            .map(|(method, operation)| (method.to_uppercase(), path.clone(), operation.clone()))
    });
    operations.collect()
}

#[test]
fn the_document_is_the_one_that_was_reviewed() {
    reviewed("docs/openapi.json", &document());
}

#[test]
fn the_document_is_the_one_that_was_reviewed_of_exports_too() {
    reviewed(
        "docs/export.schema.json",
        &switchboard::api::export::schema(),
    );
}

#[test]
fn the_document_is_the_one_that_was_reviewed_of_the_topics_too() {
    reviewed("docs/asyncapi.json", &switchboard::api::asyncapi());
}

fn reviewed(file: &str, document: &Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let built = format!("{document:#}\n");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &built).unwrap();
    }
    let reviewed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        reviewed == built,
        "{file} is stale: UPDATE=1 cargo test the_document_is rewrites it"
    );
}

#[test]
fn every_operation_has_a_name_a_place_and_its_problems() {
    let document = document();
    assert_eq!(document["openapi"], "3.1.0");
    let tags: HashSet<&str> = document["tags"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tag| tag["name"].as_str().unwrap())
        .collect();
    // What cannot go wrong but by the daemon not being there.
    let safe = [
        "get_liveness",
        "get_metrics",
        "get_version",
        "get_openapi",
        "get_asyncapi",
        "get_export_schema",
        "get_docs",
    ];
    let mut names = HashSet::new();
    let operations = operations(&document);
    assert_eq!(operations.len(), 63);
    for (method, path, operation) in operations {
        let what = format!("{method} {path}");
        let name = operation["operationId"]
            .as_str()
            .unwrap_or_else(|| panic!("{what} has no operationId"));
        assert!(names.insert(name.to_owned()), "{what}: {name} is taken");
        assert!(
            !operation["summary"].as_str().unwrap_or_default().is_empty(),
            "{what} has no summary"
        );
        let its_tags = operation["tags"].as_array().unwrap();
        assert!(
            its_tags.len() == 1 && tags.contains(its_tags[0].as_str().unwrap()),
            "{what}"
        );
        let parameters = operation["parameters"].as_array();
        let acts = parameters.is_some_and(|parameters| {
            let agent = "#/components/parameters/Switchboard-Agent";
            parameters.iter().any(|known| known["$ref"] == agent)
        });
        assert_eq!(acts, path.starts_with("/v1/"), "{what}: Switchboard-Agent");
        let responses = operation["responses"].as_object().unwrap();
        let problems: Vec<&String> = responses
            .keys()
            .filter(|status| status.as_str() >= "400")
            .collect();
        assert_eq!(
            problems.is_empty(),
            safe.contains(&name),
            "{what}: {problems:?}"
        );
        for status in problems {
            let schema =
                &responses[status]["content"]["application/problem+json"]["schema"]["$ref"];
            assert_eq!(*schema, "#/components/schemas/Problem", "{what} {status}");
        }
        let secured = path.starts_with("/v1/");
        assert_eq!(
            operation["security"][0]["token"].is_array(),
            secured,
            "{what}"
        );
        for status in ["401", "403"].iter().filter(|_| secured) {
            assert!(responses.contains_key(*status), "{what} has no {status}");
        }
        for parameter in path
            .split('/')
            .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
        {
            let documented = |known: &Value| known["name"] == parameter && known["in"] == "path";
            assert!(
                operation["parameters"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .any(documented),
                "{what}: {parameter}"
            );
        }
    }
}

#[test]
fn every_reference_leads_somewhere() {
    fn references(value: &Value, found: &mut HashSet<String>) {
        match value {
            Value::Object(members) => {
                if let Some(reference) = members.get("$ref").and_then(Value::as_str) {
                    found.insert(reference.to_owned());
                }
                members
                    .values()
                    .for_each(|member| references(member, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }
    let document = document();
    let mut found = HashSet::new();
    references(&document, &mut found);
    assert!(found.len() > 20);
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

#[tokio::test]
async fn every_documented_operation_is_served_and_every_route_is_documented() {
    let served = Served::new().await;
    for (method, path, _) in operations(&document()) {
        let path = path
            .split('/')
            .map(|part| if part.starts_with('{') { "x" } else { part })
            .collect::<Vec<_>>()
            .join("/");
        let answer = served.call(method.parse().unwrap(), "", &path).send().await;
        assert_ne!(answer.status.as_u16(), 405, "{method} {path}");
        let unrouted = answer.text.contains("there is nothing at this path");
        assert!(!unrouted, "{method} {path}");
    }
    // Routes are made from documented handlers only.
    let source = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/api.rs"));
    assert!(source.contains(".routes(routes!(") && !source.contains(".route("));
    assert!(
        !source.contains(".nest(") && !source.contains(".merge(") && !source.contains("_service(")
    );
}

#[test]
fn every_type_of_the_stream_is_described_in_a_line() {
    let document = document();
    let types = &document["components"]["schemas"]["EventType"];
    let described = types["description"].as_str().unwrap();
    let names = types["enum"].as_array().unwrap();
    let known = EventType::ALL.map(EventType::as_str);
    let own = ["conversation.left", "resync", "closed"];
    assert_eq!(names.len(), known.len() + own.len());
    for name in known.into_iter().chain(own) {
        assert!(names.iter().any(|known| known == name), "{name}");
        assert!(described.contains(&format!("\n\n`{name}`: ")), "{name}");
    }
    let view = &document["components"]["schemas"]["EventView"]["properties"];
    let references = [&view["type"], &view["data"]].map(|one| one.to_string());
    assert!(references[0].contains("#/components/schemas/EventType"));
    assert!(references[1].contains("#/components/schemas/EventData"));
}

#[test]
fn every_view_is_described() {
    let document = document();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    for name in [
        "ConversationView",
        "MessageView",
        "ContactView",
        "QueueView",
        "ConversationExplanation",
        "Problem",
        "NewMessage",
        "Status",
        "Delivery",
    ] {
        assert!(schemas.contains_key(name), "{name}");
    }
    for (name, schema) in schemas {
        let described = schema["description"]
            .as_str()
            .is_some_and(|text| !text.is_empty());
        let list = name.starts_with("List");
        assert!(
            described || list || schema["enum"].is_array(),
            "{name} has no description"
        );
    }
}
