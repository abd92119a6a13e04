//! Values that a configuration writes as text: durations, sizes, addresses. Each has one parser,
//! which both the schema check (for its message) and the typed configuration use.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserializer, Error};
use serde::{Deserialize, Serialize};

use super::nearest::nearest;

mod address;
mod amount;

pub use address::{HttpUrl, Network, WebOrigin};
pub use amount::{duration_text, parse_duration, parse_size};

/// Says what is wrong with a text.
pub type Check = fn(&str) -> Result<(), String>;

/// Every `format` the configuration's schema uses, with the check that says what is wrong.
pub const FORMATS: &[(&str, Check)] = &[
    ("duration-text", |text| parse_duration(text).map(drop)),
    ("size-text", |text| parse_size(text).map(drop)),
    ("socket-address", |text| {
        address::parse_socket_address(text).map(drop)
    }),
    ("network", |text| text.parse::<Network>().map(drop)),
    ("http-url", |text| text.parse::<HttpUrl>().map(drop)),
    ("web-origin", |text| text.parse::<WebOrigin>().map(drop)),
    ("language-code", |text| text.parse::<Language>().map(drop)),
    ("label-and-value", |text| text.parse::<Label>().map(drop)),
];

pub fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parse_duration(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

pub fn optional_duration<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    duration(deserializer).map(Some)
}

pub fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Size {
        Bytes(u64),
        Text(String),
    }
    match Size::deserialize(deserializer)? {
        Size::Bytes(bytes) => Ok(bytes),
        Size::Text(text) => parse_size(&text).map_err(D::Error::custom),
    }
}

/// A language as triage names it: ISO 639-1 where the language has such a code.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Language(String);

impl Language {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Language {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let code = text.len() == 2 && text.chars().all(|c| c.is_ascii_lowercase());
        if code || text == "unknown" {
            return Ok(Self(text.to_owned()));
        }
        Err(format!(
            "\"{text}\" is not a language: write its code of two letters (ISO 639-1), as \"de\", or \"unknown\""
        ))
    }
}

/// What triage labels a message with; a test holds this against triage.
pub const LABELS: [&str; 6] = [
    "automatic",
    "intent",
    "language",
    "sentiment",
    "spam",
    "urgency",
];

/// A label of triage and the value it must have: `urgency:high`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Label(String);

impl Label {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Label {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some((label, _)) if !LABELS.contains(&label) => {
                let near = nearest(label, LABELS.iter().copied());
                let hint = near.map(|near| format!("; did you mean \"{near}\"?"));
                let known = LABELS.join(", ");
                Err(format!(
                    "there is no label \"{label}\"{} (known: {known})",
                    hint.unwrap_or_default()
                ))
            }
            Some((_, value)) if !value.is_empty() => Ok(Self(text.to_owned())),
            _ => Err(format!(
                "\"{text}\" is not a label with its value: write both, as \"urgency:high\""
            )),
        }
    }
}

/// Implements `JsonSchema` as text with a format of [`FORMATS`].
macro_rules! text_schema {
    ($name:ident, $format:literal, $types:tt, $($example:literal),+) => {
        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": $types, "format": $format, "examples": [$($example),+] })
            }
        }
    };
}

impl TryFrom<String> for Language {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl TryFrom<String> for Label {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// Stands for a duration in the schema.
pub struct DurationText;
/// Stands for a size in the schema.
pub struct SizeText;
/// Stands for an address with port in the schema.
pub struct SocketAddressText;

text_schema!(
    DurationText,
    "duration-text",
    "string",
    "15m",
    "1h30m",
    "30d"
);
text_schema!(SizeText, "size-text", ["string", "integer"], "10MiB");
text_schema!(
    SocketAddressText,
    "socket-address",
    "string",
    "127.0.0.1:8480"
);
text_schema!(Network, "network", "string", "10.0.0.0/8");
text_schema!(
    HttpUrl,
    "http-url",
    "string",
    "https://support.shop.example"
);
text_schema!(
    WebOrigin,
    "web-origin",
    "string",
    "https://desk.shop.example"
);
text_schema!(Language, "language-code", "string", "de");
text_schema!(Label, "label-and-value", "string", "urgency:high");

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_text_makes_a_parser_panic(text in ".{0,40}") {
            for (_, check) in FORMATS {
                let _either_way_is_fine = check(&text);
            }
        }
    }
}
