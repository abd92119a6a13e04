//! The wording of what a configuration's check finds.

use jsonschema::error::ValidationErrorKind;
use serde_json::Value;

use crate::config::nearest::nearest;
use crate::config::text;
use crate::config::tree::KeyPath;

pub fn not_an_id(text: &str) -> String {
    format!("{text:?} is not an id: use 1 to 64 characters of a-z, 0-9 and -")
}

pub fn secret_wanted(found: &Value) -> String {
    let found = match found {
        Value::String(_) => "a secret never stands in the configuration itself",
        Value::Object(_) => "a secret's reference has exactly one key, env or file",
        _ => "this is to be a reference to a secret",
    };
    format!("{found}; write {{ env = \"NAME\" }} or {{ file = \"/path\" }}")
}

pub fn not_one_of(found: &Value, allowed: &[&str], path: &KeyPath) -> String {
    let Value::String(text) = found else {
        return format!(
            "expected one of {}, found {}",
            allowed.join(", "),
            kind_of(found)
        );
    };
    let near = nearest(text, allowed.iter().copied());
    let hint = near
        .map(|near| format!("; did you mean \"{near}\"?"))
        .unwrap_or_default();
    format!(
        "{} is not one of {}{hint}",
        shown(found, path),
        allowed.join(", ")
    )
}

pub fn type_wanted(types: &[&str], found: &Value) -> String {
    let wanted: Vec<&str> = types.iter().map(|name| type_name(name)).collect();
    let wanted = if wanted.is_empty() {
        "something else".to_owned()
    } else {
        wanted.join(" or ")
    };
    let brackets = types == ["array"] && matches!(found, Value::String(_));
    let hint = if brackets {
        "; put it in brackets, as [\"…\"]"
    } else {
        ""
    };
    format!("expected {wanted}, found {}{hint}", kind_of(found))
}

/// Formats and ranges.
pub fn limit(kind: &ValidationErrorKind, found: &Value, path: &KeyPath) -> String {
    let shown = shown(found, path);
    match kind {
        ValidationErrorKind::Format { format } => {
            let text = found.as_str().unwrap_or_default();
            let check = text::FORMATS
                .iter()
                .find(|(name, _)| name == format)
                .map(|(_, check)| check);
            match check.and_then(|check| check(text).err()) {
                Some(message) => message,
                None => format!("{shown} is not of the form {format}"),
            }
        }
        ValidationErrorKind::Pattern { pattern } if pattern.contains("a-z0-9-") => {
            not_an_id(found.as_str().unwrap_or_default())
        }
        ValidationErrorKind::Pattern { pattern } => format!("{shown} does not match {pattern}"),
        ValidationErrorKind::Minimum { limit } => format!("{shown} is too small: at least {limit}"),
        ValidationErrorKind::Maximum { limit } => format!("{shown} is too large: at most {limit}"),
        ValidationErrorKind::ExclusiveMinimum { limit } => {
            format!("{shown} is too small: more than {limit}")
        }
        ValidationErrorKind::ExclusiveMaximum { limit } => {
            format!("{shown} is too large: less than {limit}")
        }
        ValidationErrorKind::MinLength { limit: 1 }
        | ValidationErrorKind::MinItems { limit: 1 } => "this must not be empty".to_owned(),
        ValidationErrorKind::MinLength { limit } => {
            format!("this is too short: at least {limit} characters")
        }
        ValidationErrorKind::MaxLength { limit } => {
            format!("this is too long: at most {limit} characters")
        }
        ValidationErrorKind::MinItems { limit } => format!("too few members: at least {limit}"),
        ValidationErrorKind::MaxItems { limit } => format!("too many members: at most {limit}"),
        ValidationErrorKind::UniqueItems => "a member stands here twice".to_owned(),
        other => format!(
            "this does not fit (rule \"{}\" of the schema)",
            other.keyword()
        ),
    }
}

/// A value for a message. Texts under keys that name a secret are not repeated.
fn shown(value: &Value, path: &KeyPath) -> String {
    let named = path.to_string().to_ascii_lowercase();
    let secret = ["secret", "token", "password", "key"]
        .iter()
        .any(|word| named.contains(word));
    let credentials = value
        .as_str()
        .is_some_and(|text| text.contains('@') && text.contains("://"));
    match value {
        Value::String(_) if secret || credentials => "the given text".to_owned(),
        Value::Array(_) | Value::Object(_) => kind_of(value).to_owned(),
        other => other.to_string(),
    }
}

fn type_name(json: &str) -> &'static str {
    match json {
        "string" => "text",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "true or false",
        "array" => "a list",
        _ => "a table",
    }
}

pub fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(number) if number.is_f64() => "a number with a fraction",
        Value::Number(_) => "a whole number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a table",
    }
}
