//! Macros: answers kept for use again, with places for what differs. Only values are put in: a
//! language that could loop could fill the memory, and nobody writes one between two customers.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::conversation::Priority;

use super::verbs::Attributes;

mod rights;

/// Longest name of a macro, in characters.
pub const NAME_CHARS_MAX: usize = 100;
/// Places of one text.
pub const PLACES_MAX: usize = 100;
/// How long a macro may put a conversation off, in seconds: as long as an agent.
pub const SNOOZE_SECONDS_MAX: u64 = 400 * 24 * 60 * 60;

/// What a macro says and does; what is left out it leaves alone.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Macro {
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub html: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub add_tags: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remove_tags: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: Attributes,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transfer_queue: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snooze_seconds: Option<u64>,
    pub resolve: bool,
    /// For whose conversations it is, and whose agents see it; empty: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub queues: Vec<String>,
    /// For whose conversations it is, and whose agents see it; empty: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub brands: Vec<String>,
}

impl Macro {
    /// Whether it sends something.
    pub fn writes(&self) -> bool {
        self.text.is_some() || self.html.is_some()
    }
}

/// The names that a macro may use besides `attributes.<name>`.
pub const NAMES: [&str; 9] = [
    "agent.name",
    "brand.name",
    "contact.address",
    "contact.first_name",
    "contact.name",
    "conversation.id",
    "conversation.queue",
    "conversation.subject",
    "date",
];
/// Before the name of an attribute of the conversation.
const ATTRIBUTES: &str = "attributes.";

/// What is known where a macro is used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Values(BTreeMap<String, String>);

impl Values {
    /// What is empty is not known.
    pub fn set(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value.map(str::trim).filter(|value| !value.is_empty()) {
            self.0.insert(name.to_owned(), value.to_owned());
        }
    }

    pub fn set_attributes(&mut self, attributes: &Attributes) {
        for (name, value) in attributes {
            let text = match value {
                serde_json::Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            self.set(&format!("{ATTRIBUTES}{name}"), Some(&text));
        }
    }
}

/// How a value is put into a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Into {
    Plain,
    /// Nothing a customer's name contains is markup.
    Html,
}

/// Why a text is no template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error("\"{{{{\" is not closed by \"}}}}\"")]
    Unclosed,
    #[error("there is nothing called {0:?}: use {names} or attributes.<name>", names = NAMES.join(", "))]
    Unknown(String),
    #[error("{0:?} is no place: write {{{{ contact.name }}}} or {{{{ contact.name | there }}}}")]
    Unreadable(String),
    #[error("a text has at most {PLACES_MAX} places")]
    TooMany,
}

/// A text with places: `{{ contact.name }}`, or with what stands there when it is not known,
/// `{{ contact.first_name | there }}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Place {
        name: String,
        otherwise: Option<String>,
    },
}

impl Template {
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let (place, after) = after.split_once("}}").ok_or(TemplateError::Unclosed)?;
            pieces.push(Piece::Text(before.to_owned()));
            pieces.push(place_of(place)?);
            if pieces.len() > 2 * PLACES_MAX {
                return Err(TemplateError::TooMany);
            }
            rest = after;
        }
        pieces.push(Piece::Text(rest.to_owned()));
        Ok(Self(pieces))
    }

    /// The text with everything in its place, and the names that are not known: their places are
    /// empty.
    pub fn render(&self, values: &Values, into: Into) -> (String, Vec<String>) {
        let mut text = String::new();
        let mut missing = Vec::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(piece) => text.push_str(piece),
                Piece::Place { name, otherwise } => {
                    match values.0.get(name).or(otherwise.as_ref()) {
                        Some(value) => put(&mut text, value, into),
                        None if missing.contains(name) => {}
                        None => missing.push(name.clone()),
                    }
                }
            }
        }
        (text, missing)
    }
}

fn place_of(place: &str) -> Result<Piece, TemplateError> {
    let unreadable = || TemplateError::Unreadable(place.trim().to_owned());
    let (name, otherwise) = match place.split_once('|') {
        Some((name, otherwise)) => (name.trim(), Some(otherwise.trim().to_owned())),
        None => (place.trim(), None),
    };
    if name.is_empty() || name.contains(['{', '}']) || name.contains(char::is_whitespace) {
        return Err(unreadable());
    }
    let attribute = name
        .strip_prefix(ATTRIBUTES)
        .is_some_and(|name| !name.is_empty());
    if !attribute && !NAMES.contains(&name) {
        return Err(TemplateError::Unknown(name.to_owned()));
    }
    Ok(Piece::Place {
        name: name.to_owned(),
        otherwise,
    })
}

fn put(text: &mut String, value: &str, into: Into) {
    if into == Into::Plain {
        return text.push_str(value);
    }
    for c in value.chars() {
        match c {
            '&' => text.push_str("&amp;"),
            '<' => text.push_str("&lt;"),
            '>' => text.push_str("&gt;"),
            '"' => text.push_str("&quot;"),
            '\'' => text.push_str("&#39;"),
            '\n' => text.push_str("<br>"),
            other => text.push(other),
        }
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => f.write_str(text)?,
                Piece::Place {
                    name,
                    otherwise: None,
                } => write!(f, "{{{{ {name} }}}}")?,
                Piece::Place {
                    name,
                    otherwise: Some(otherwise),
                } => write!(f, "{{{{ {name} | {otherwise} }}}}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn values() -> Values {
        let mut values = Values::default();
        values.set("contact.name", Some("Ada <b>\"Countess\"</b>\n& Co"));
        values.set("contact.first_name", Some("  "));
        values.set_attributes(&Attributes::from([
            ("order_id".to_owned(), json!("17")),
            ("paid".to_owned(), json!(true)),
        ]));
        values
    }

    fn check(text: &str, into: Into) -> String {
        match Template::parse(text) {
            Ok(template) => match template.render(&values(), into) {
                (text, missing) if missing.is_empty() => text,
                (text, missing) => format!("{text} (missing {})", missing.join(", ")),
            },
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn values_are_put_into_their_places_and_what_is_not_known_is_named() {
        for (text, expected) in [
            ("Order {{attributes.order_id}}.", "Order 17."),
            ("{{ attributes.paid }}", "true"),
            (
                "Dear {{ contact.first_name | customer }},",
                "Dear customer,",
            ),
            ("{{ contact.first_name | }}!", "!"),
            (
                "{{ contact.first_name }} {{ attributes.x }}{{ attributes.x }}",
                "  (missing contact.first_name, attributes.x)",
            ),
            ("no places } { }}", "no places } { }}"),
            ("{{ contact.name", "\"{{\" is not closed by \"}}\""),
            (
                "{{ }}",
                "\"\" is no place: write {{ contact.name }} or {{ contact.name | there }}",
            ),
            (
                "{{ contact.name.upper() }}",
                "there is nothing called \"contact.name.upper()\": use agent.name, brand.name, contact.address, contact.first_name, contact.name, conversation.id, conversation.queue, conversation.subject, date or attributes.<name>",
            ),
        ] {
            assert_eq!(check(text, Into::Plain), expected, "{text}");
        }
    }

    #[test]
    fn a_value_is_never_markup() {
        assert_eq!(
            check("<p>{{ contact.name }}</p>", Into::Html),
            "<p>Ada &lt;b&gt;&quot;Countess&quot;&lt;/b&gt;<br>&amp; Co</p>"
        );
    }

    #[test]
    fn a_text_has_so_many_places_and_no_more() {
        let text = "{{date}}".repeat(PLACES_MAX);
        assert!(Template::parse(&text).is_ok());
        assert_eq!(
            Template::parse(&(text + "{{date}}")),
            Err(TemplateError::TooMany)
        );
    }

    proptest! {
        #[test]
        fn any_text_is_a_template_or_an_error_and_no_value_is_read_again(text in "[{}|a-z. ]{0,60}", value in ".{0,20}") {
            if let Ok(template) = Template::parse(&text) {
                let shown = template.to_string();
                prop_assert_eq!(Template::parse(&shown).unwrap().render(&Values::default(), Into::Plain), template.render(&Values::default(), Into::Plain));
            }
            let mut values = Values::default();
            values.set("date", Some(&format!("{{{{ contact.name }}}}{value}")));
            let (rendered, missing) = Template::parse("{{ date }}").unwrap().render(&values, Into::Plain);
            prop_assert!(missing.is_empty());
            prop_assert!(rendered.starts_with("{{ contact.name }}"));
        }
    }
}
