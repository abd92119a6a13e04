//! The part of a connector's README that is made from its schema, so that it cannot go stale.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::fixtures::write_whole;

const START: &str = "<!-- configuration: made from the schema, UPDATE=1 writes it -->";
const END: &str = "<!-- end of configuration -->";

/// Every key of a configuration as a Markdown table, those of inner tables with a dot.
pub fn config_table(schema: &Value) -> String {
    let mut table = "| key | value | default | meaning |\n| --- | --- | --- | --- |\n".to_owned();
    add_rows(&mut table, schema, schema, "");
    table
}

fn add_rows(table: &mut String, schema: &Value, part: &Value, prefix: &str) {
    let required = |key: &String| {
        let keys = part["required"].as_array();
        keys.is_some_and(|keys| keys.iter().any(|required| required == key))
    };
    for (key, property) in part["properties"].as_object().into_iter().flatten() {
        let default = match &property["default"] {
            _ if required(key) => "required".to_owned(),
            Value::Null => String::new(),
            default => format!("`{default}`"),
        };
        let meaning = property["description"].as_str().unwrap_or_default();
        let meaning = meaning.replace('\n', " ").replace('|', "\\|");
        let value = value_of(schema, property);
        *table += &format!("| `{prefix}{key}` | {value} | {default} | {meaning} |\n");
        let inner = resolve(schema, property);
        if inner["properties"].is_object() {
            add_rows(table, schema, inner, &format!("{prefix}{key}."));
        }
    }
}

/// Follows a reference, and the one alternative of an optional value that is not null.
pub(crate) fn resolve<'a>(schema: &'a Value, property: &'a Value) -> &'a Value {
    if let Some(name) = property["$ref"].as_str() {
        let name = name.rsplit('/').next().unwrap_or(name);
        return &schema["$defs"][name];
    }
    let some = |alternatives: &'a Vec<Value>| {
        let mut some = alternatives.iter().filter(|kind| kind["type"] != "null");
        some.next().filter(|_| some.next().is_none())
    };
    match property["anyOf"].as_array().and_then(some) {
        Some(some) => resolve(schema, some),
        None => property,
    }
}

/// What may stand there, in a word or two.
fn value_of(schema: &Value, property: &Value) -> String {
    let property = resolve(schema, property);
    if property == resolve(schema, &json!({ "$ref": "#/$defs/SecretRef" })) {
        return "secret".to_owned();
    }
    let choices = property["oneOf"].as_array().or(property["enum"].as_array());
    if let Some(choices) = choices {
        let words = choices.iter().map(|choice| match choice {
            Value::Object(choice) => choice.get("const").unwrap_or(&Value::Null).to_string(),
            word => word.to_string(),
        });
        return words.collect::<Vec<_>>().join(", ");
    }
    let types = match &property["type"] {
        Value::Array(types) => types.iter().find(|kind| *kind != "null"),
        kind => Some(kind),
    };
    match types.and_then(Value::as_str) {
        Some("array") => format!("list of {}", value_of(schema, &property["items"])),
        Some("object") => "table".to_owned(),
        Some(kind) => kind.to_owned(),
        None => String::new(),
    }
}

/// Compares the table in a README with the schema, or writes it where `UPDATE` is set.
pub(crate) fn check_readme(file: &Path, schema: &Value) -> Result<String, String> {
    let shown = file.display();
    let text = fs::read_to_string(file).map_err(|error| format!("cannot read {shown}: {error}"))?;
    let parts = text.split_once(START).and_then(|(before, rest)| {
        let (found, after) = rest.split_once(END)?;
        Some((before, found, after))
    });
    let Some((before, found, after)) = parts else {
        return Err(format!(
            "{shown} has no place for the table: {START} and {END}"
        ));
    };
    let expected = format!("\n{}", config_table(schema));
    if found == expected {
        return Ok(text);
    }
    if std::env::var_os("UPDATE").is_none() {
        return Err(format!(
            "the table in {shown} is stale (UPDATE=1 writes it)"
        ));
    }
    let text = format!("{before}{START}{expected}{END}{after}");
    write_whole(file, &text)?;
    Ok(text)
}
