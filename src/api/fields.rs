//! Reading the fields of a body one by one, so that an error names the one that is wrong and what
//! would be right.

use connector_api::Timestamp;
use serde_json::{Map, Value};

use crate::clock::micros;

use super::body::unknown_field;
use super::problem::{ApiError, ApiResult, Kind};

/// Longest public id, in characters: a prefix, and a UUID.
pub const ID_CHARS_MAX: usize = 64;

/// A body whose fields are all known.
pub struct Fields<'a>(&'a Map<String, Value>);

impl<'a> Fields<'a> {
    /// Refuses a body with a field that is not among `allowed`.
    pub fn of(object: &'a Map<String, Value>, allowed: &[&str]) -> ApiResult<Self> {
        let unknown = object.keys().find(|name| !allowed.contains(&name.as_str()));
        match unknown {
            Some(name) => Err(unknown_field(name, allowed)),
            None => Ok(Self(object)),
        }
    }

    /// The value, where there is one that is not null.
    pub fn get(&self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// A text of at least one visible character.
    pub fn text(&self, name: &str, chars_max: usize) -> ApiResult<Option<String>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) if text.trim().is_empty() => {
                Err(wrong(name, format!("\"{name}\" is empty")))
            }
            Some(Value::String(text)) if text.chars().nth(chars_max).is_some() => Err(wrong(
                name,
                format!("\"{name}\" may have {chars_max} characters"),
            )),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(wrong(name, format!("\"{name}\" must be a string"))),
        }
    }

    /// A text that has to be there.
    pub fn required_text(&self, name: &str, chars_max: usize) -> ApiResult<String> {
        let text = self.text(name, chars_max)?;
        text.ok_or_else(|| wrong(name, format!("\"{name}\" is missing")))
    }

    /// A text on one line: a subject, a name.
    pub fn line(&self, name: &str, chars_max: usize) -> ApiResult<Option<String>> {
        let text = self.text(name, chars_max)?;
        if text
            .as_ref()
            .is_some_and(|text| text.chars().any(char::is_control))
        {
            return Err(wrong(name, format!("\"{name}\" must be one line")));
        }
        Ok(text)
    }

    /// A list of texts, or one text.
    pub fn lines(&self, name: &str, items_max: usize, chars_max: usize) -> ApiResult<Vec<String>> {
        let one_each = || wrong(name, format!("\"{name}\" must be a list of strings"));
        let items: Vec<&Value> = match self.get(name) {
            None => return Ok(Vec::new()),
            Some(Value::Array(items)) => items.iter().collect(),
            Some(one) => vec![one],
        };
        if items.len() > items_max {
            let detail = format!("\"{name}\" may have {items_max} items");
            return Err(wrong(name, detail));
        }
        let mut lines = Vec::with_capacity(items.len());
        for item in items {
            let Value::String(text) = item else {
                return Err(one_each());
            };
            let fits = !text.trim().is_empty()
                && text.chars().nth(chars_max).is_none()
                && !text.chars().any(char::is_control);
            if !fits {
                let detail =
                    format!("each of \"{name}\" must be one line of 1 to {chars_max} characters");
                return Err(wrong(name, detail));
            }
            lines.push(text.clone());
        }
        Ok(lines)
    }

    pub fn number(&self, name: &str) -> ApiResult<Option<i64>> {
        match self.get(name).map(Value::as_i64) {
            None => Ok(None),
            Some(Some(number)) => Ok(Some(number)),
            Some(None) => Err(wrong(name, format!("\"{name}\" must be a whole number"))),
        }
    }

    pub fn flag(&self, name: &str) -> ApiResult<bool> {
        match self.get(name) {
            None => Ok(false),
            Some(Value::Bool(value)) => Ok(*value),
            Some(_) => Err(wrong(name, format!("\"{name}\" must be true or false"))),
        }
    }

    /// A time as RFC 3339, in UTC microseconds.
    pub fn time(&self, name: &str) -> ApiResult<Option<i64>> {
        let Some(text) = self.text(name, 64)? else {
            return Ok(None);
        };
        match text.parse::<Timestamp>() {
            Ok(time) => Ok(Some(micros(time))),
            Err(_) => Err(wrong(
                name,
                format!("\"{name}\" must be a time as in 2026-01-05T09:00:00Z"),
            )),
        }
    }

    /// One of a few words, read by `parse`.
    pub fn word<T>(
        &self,
        name: &str,
        allowed: &[&str],
        parse: impl Fn(&str) -> Option<T>,
    ) -> ApiResult<Option<T>> {
        let Some(text) = self.text(name, 64)? else {
            return Ok(None);
        };
        parse(&text).map(Some).ok_or_else(|| {
            wrong(name, format!("\"{name}\" must be {}", allowed.join(", ")))
                .allowed(allowed.iter().copied())
        })
    }
}

/// 422 with the field.
pub fn wrong(name: &str, detail: impl Into<String>) -> ApiError {
    ApiError::new(Kind::Unprocessable, detail).field(name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(body: Value, read: impl Fn(&Fields<'_>) -> ApiResult<String>) -> String {
        let object = body.as_object().unwrap();
        let read = Fields::of(object, &["field", "other"]).and_then(|fields| read(&fields));
        match read {
            Ok(value) => value,
            Err(error) => format!("{}: {}", error.problem.field.unwrap(), error.problem.detail),
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_what_would_be_right() {
        let line = |fields: &Fields<'_>| Ok(format!("{:?}", fields.line("field", 3)?));
        let lines = |fields: &Fields<'_>| Ok(format!("{:?}", fields.lines("field", 2, 3)?));
        let time = |fields: &Fields<'_>| Ok(format!("{:?}", fields.time("field")?));
        let flag = |fields: &Fields<'_>| Ok(format!("{:?}", fields.flag("field")?));
        type Read = fn(&Fields<'_>) -> ApiResult<String>;
        let cases: [(Value, Read, &str); 14] = [
            (json!({}), line, "None"),
            (json!({ "field": null }), line, "None"),
            (json!({ "field": "abc" }), line, "Some(\"abc\")"),
            (
                json!({ "field": "abcd" }),
                line,
                "field: \"field\" may have 3 characters",
            ),
            (
                json!({ "field": "a\nb" }),
                line,
                "field: \"field\" must be one line",
            ),
            (json!({ "field": " " }), line, "field: \"field\" is empty"),
            (
                json!({ "felid": 1 }),
                line,
                "felid: there is no field \"felid\": use field, other",
            ),
            (json!({ "field": "a" }), lines, "[\"a\"]"),
            (
                json!({ "field": ["a", 1] }),
                lines,
                "field: \"field\" must be a list of strings",
            ),
            (
                json!({ "field": ["a", "b", "c"] }),
                lines,
                "field: \"field\" may have 2 items",
            ),
            (
                json!({ "field": ["a\r\nBcc: x"] }),
                lines,
                "field: each of \"field\" must be one line of 1 to 3 characters",
            ),
            (
                json!({ "field": "1970-01-01T00:00:01Z" }),
                time,
                "Some(1000000)",
            ),
            (
                json!({ "field": "tomorrow" }),
                time,
                "field: \"field\" must be a time as in 2026-01-05T09:00:00Z",
            ),
            (
                json!({ "field": "yes" }),
                flag,
                "field: \"field\" must be true or false",
            ),
        ];
        for (body, read, expected) in cases {
            assert_eq!(check(body.clone(), read), expected, "{body}");
        }
    }
}
