//! JSON with the place in every error. [`Fields`] takes one object apart: what is asked for must
//! have the right shape, what nobody asked for is left over and kept.

use connector_api::{Error, Result, Timestamp};
use serde_json::{Map, Value};

/// Deepest nesting read, in objects and arrays. Parsers recurse; nothing real is half as deep.
pub(crate) const JSON_DEPTH_MAX: usize = 64;

/// Longest id, name or address, in characters.
pub(crate) const WORD_CHARS_MAX: usize = 512;

/// One JSON object being read.
#[derive(Debug)]
pub(crate) struct Fields {
    /// Where it is in the body: empty, or with its closing dot (`events[3].from.`).
    place: String,
    map: Map<String, Value>,
}

impl Fields {
    pub fn new(place: String, map: Map<String, Value>) -> Self {
        Self { place, map }
    }

    /// An error about one field: `events[3].from.id: missing`.
    pub fn error(&self, key: &str, what: &str) -> Error {
        Error::malformed(format!("{}{key}: {what}", self.place))
    }

    /// Text of any length; the daemon bounds the body. Absent, null and empty are the same.
    pub fn text(&mut self, key: &str) -> Result<Option<String>> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::String(text)) if text.is_empty() => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong_shape(key, "a string", &other)),
        }
    }

    /// A short text without control characters: an id, a name, an address.
    pub fn word(&mut self, key: &str) -> Result<Option<String>> {
        let word = self.text(key)?;
        if let Some(word) = &word {
            if word.chars().nth(WORD_CHARS_MAX).is_some() {
                return Err(self.error(key, "longer than 512 characters"));
            }
            if word.chars().any(char::is_control) {
                return Err(self.error(key, "contains control characters"));
            }
        }
        Ok(word)
    }

    pub fn required_word(&mut self, key: &str) -> Result<String> {
        self.word(key)?.ok_or_else(|| self.error(key, "missing"))
    }

    /// A word that is compared: two that look the same must be the same, so it has no format
    /// characters (joiners, direction marks, soft hyphens) either.
    pub fn id(&mut self, key: &str) -> Result<Option<String>> {
        let id = self.word(key)?;
        match id {
            Some(id) if id.chars().any(is_format) => {
                Err(self.error(key, "contains invisible format characters"))
            }
            id => Ok(id),
        }
    }

    pub fn required_id(&mut self, key: &str) -> Result<String> {
        self.id(key)?.ok_or_else(|| self.error(key, "missing"))
    }

    pub fn flag(&mut self, key: &str) -> Result<bool> {
        match self.take(key) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(other) => Err(self.wrong_shape(key, "true or false", &other)),
        }
    }

    pub fn time(&mut self, key: &str) -> Result<Option<Timestamp>> {
        let Some(text) = self.word(key)? else {
            return Ok(None);
        };
        let time = text.parse();
        time.map(Some)
            .map_err(|_| self.error(key, "not a time with its offset (RFC 3339)"))
    }

    pub fn object(&mut self, key: &str) -> Result<Option<Fields>> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(Fields::new(format!("{}{key}.", self.place), map))),
            Some(other) => Err(self.wrong_shape(key, "an object", &other)),
        }
    }

    /// A list of objects, at most `items_max` of them.
    pub fn objects(&mut self, key: &str, items_max: usize) -> Result<Vec<Fields>> {
        let items = match self.take(key) {
            None => return Ok(Vec::new()),
            Some(Value::Array(items)) => items,
            Some(other) => return Err(self.wrong_shape(key, "an array", &other)),
        };
        if items.len() > items_max {
            return Err(self.error(key, &format!("more than {items_max} items")));
        }
        let mut objects = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            let name = format!("{key}[{index}]");
            match item {
                Value::Object(map) => {
                    objects.push(Fields::new(format!("{}{name}.", self.place), map));
                }
                other => return Err(self.wrong_shape(&name, "an object", &other)),
            }
        }
        Ok(objects)
    }

    /// Keeps a value that was taken but could not be used.
    pub fn put_back(&mut self, key: &str, text: String) {
        self.map.insert(key.to_owned(), Value::String(text));
    }

    /// What nobody asked for.
    pub fn rest(self) -> Map<String, Value> {
        self.map
    }

    fn take(&mut self, key: &str) -> Option<Value> {
        self.map.remove(key).filter(|value| !value.is_null())
    }

    fn wrong_shape(&self, key: &str, expected: &str, found: &Value) -> Error {
        self.error(key, &format!("expected {expected}, found {}", shape(found)))
    }
}

/// Whether brackets nest deeper than [`JSON_DEPTH_MAX`]. Runs before any parser sees the body, so
/// a body of a million brackets costs one pass over its bytes.
pub(crate) fn is_too_deep(body: &[u8]) -> bool {
    // Almost every body has too few brackets to nest that deep; counting them is quick, in pieces
    // whose count fits a byte even more so.
    let in_piece = |piece: &[u8]| {
        let brackets = piece
            .iter()
            .map(|byte| u8::from(matches!(byte, b'[' | b'{')));
        usize::from(brackets.sum::<u8>())
    };
    if body.chunks(128).map(in_piece).sum::<usize>() <= JSON_DEPTH_MAX {
        return false;
    }
    let mut depth = 0_usize;
    let mut in_string = false;
    let mut escaped = false;
    for byte in body {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                if depth > JSON_DEPTH_MAX {
                    return true;
                }
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

/// The general category Cf of Unicode 16, with the one unassigned character between (U+2065).
fn is_format(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}'
        | '\u{890}'..='\u{891}' | '\u{8e2}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}'
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0001}'
        | '\u{e0020}'..='\u{e007f}')
}

/// The kind of a JSON value. Errors name kinds, never values: a value may be a customer's text.
fn shape(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_inside_strings_do_not_count_as_depth() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        for (body, too_deep) in [
            (nested(JSON_DEPTH_MAX), false),
            (nested(JSON_DEPTH_MAX + 1), true),
            ("[".repeat(1_000_000), true),
            (format!("\"{}\"", "[".repeat(1_000)), false),
            (format!(r#""\"{}""#, "[".repeat(1_000)), false),
            (format!(r#"["\\"{}]"#, "[".repeat(1_000)), true),
            ("[]".repeat(1_000), false),
        ] {
            assert_eq!(
                is_too_deep(body.as_bytes()),
                too_deep,
                "{} bytes",
                body.len()
            );
        }
    }
}
