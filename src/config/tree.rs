//! A configuration before it is typed: values as JSON, each with where it was set. Layers are laid
//! over one another here; tables merge, everything else replaces.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};
use toml::de::{DeTable, DeValue};

use super::error::{ConfigErrors, Origin};

/// One step from a value into a part of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    Key(String),
    /// Position in a list, from 0.
    Item(usize),
}

/// The way to a value, as `channels.shop-chat.secrets[0]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyPath(Vec<Step>);

impl KeyPath {
    pub fn of<'a>(keys: impl IntoIterator<Item = &'a str>) -> Self {
        Self(
            keys.into_iter()
                .map(|key| Step::Key(key.to_owned()))
                .collect(),
        )
    }

    pub fn key(&self, key: &str) -> Self {
        self.step(Step::Key(key.to_owned()))
    }

    pub fn item(&self, at: usize) -> Self {
        self.step(Step::Item(at))
    }

    pub fn step(&self, step: Step) -> Self {
        let mut path = self.clone();
        path.0.push(step);
        path
    }

    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// What the value is in, outermost first; neither the document nor the value itself.
    pub fn ancestors(&self) -> impl Iterator<Item = Self> {
        (1..self.0.len()).map(|count| Self(self.0.iter().take(count).cloned().collect()))
    }

    fn parent(&self) -> Option<Self> {
        let (_, parent) = self.0.split_last()?;
        Some(Self(parent.to_vec()))
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.0.iter().enumerate() {
            match step {
                Step::Item(item) => write!(f, "[{item}]")?,
                Step::Key(key) => write!(f, "{}{}", if at == 0 { "" } else { "." }, key_text(key))?,
            }
        }
        Ok(())
    }
}

/// A key as TOML writes it: bare where it can be.
pub fn key_text(key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !key.is_empty() && key.chars().all(bare) {
        key.to_owned()
    } else {
        format!("{key:?}")
    }
}

#[derive(Debug, Clone)]
pub struct Tree {
    value: Value,
    origins: BTreeMap<KeyPath, Origin>,
}

impl Default for Tree {
    fn default() -> Self {
        Self {
            value: Value::Object(Map::new()),
            origins: BTreeMap::new(),
        }
    }
}

impl Tree {
    /// Reads a TOML document; `origin_of` names the origin of a line. A document that is not TOML
    /// leaves errors and an unusable tree.
    pub fn from_toml(
        text: &str,
        origin_of: &dyn Fn(usize) -> Origin,
        errors: &mut ConfigErrors,
    ) -> Self {
        let lines = Lines::of(text);
        let (document, syntax_errors) = DeTable::parse_recoverable(text);
        for error in &syntax_errors {
            let line = error.span().map_or(1, |span| lines.line(span.start));
            errors.push(
                origin_of(line),
                "",
                format!("this is not TOML: {}", error.message()),
            );
        }
        let mut reader = TomlReader {
            lines,
            origin_of,
            errors,
            origins: BTreeMap::new(),
        };
        let value = reader.table(document.get_ref(), &KeyPath::default());
        Self {
            value,
            origins: reader.origins,
        }
    }

    pub fn value(&self) -> &Value {
        &self.value
    }

    pub fn get(&self, path: &KeyPath) -> Option<&Value> {
        path.0
            .iter()
            .try_fold(&self.value, |value, step| match step {
                Step::Key(key) => value.get(key),
                Step::Item(at) => value.get(at),
            })
    }

    /// The table at `path`; an empty one where there is none.
    pub fn table(&self, path: &KeyPath) -> impl Iterator<Item = (&String, &Value)> + use<'_> {
        self.get(path)
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
    }

    /// Where `path` was set, or what it is in.
    pub fn origin(&self, path: &KeyPath) -> Origin {
        let mut at = Some(path.clone());
        while let Some(path) = at {
            if let Some(origin) = self.origins.get(&path) {
                return origin.clone();
            }
            at = path.parent();
        }
        Origin::BuiltIn
    }

    /// Takes a section from another one, with where its values were set.
    pub fn copy_section(&mut self, section: &str, other: &Self) {
        let Some(table) = self.value.as_object_mut() else {
            return;
        };
        match other.value.get(section) {
            Some(value) => drop(table.insert(section.to_owned(), value.clone())),
            None => drop(table.remove(section)),
        }
        let within =
            |path: &KeyPath| matches!(path.steps().first(), Some(Step::Key(key)) if key == section);
        self.origins.retain(|path, _| !within(path));
        let theirs = other.origins.iter().filter(|(path, _)| within(path));
        self.origins
            .extend(theirs.map(|(path, origin)| (path.clone(), origin.clone())));
    }

    /// Lays `over` on top.
    pub fn overlay(&mut self, over: Tree) {
        let Value::Object(table) = over.value else {
            return;
        };
        self.overlay_table(&KeyPath::default(), table, &over.origins);
    }

    /// Sets one value, making the tables on the way. Says which value on the way is no table.
    pub fn set(&mut self, path: &KeyPath, value: Value, origin: Origin) -> Result<(), String> {
        if let Some(outer) = path
            .ancestors()
            .find(|outer| self.get(outer).is_some_and(|value| !value.is_object()))
        {
            return Err(format!("{outer} is no table, so it has no such key"));
        }
        let mut origins: BTreeMap<KeyPath, Origin> = path
            .ancestors()
            .map(|outer| (outer, origin.clone()))
            .collect();
        origins.insert(path.clone(), origin);
        let nested = path.0.iter().rev().fold(value, |inner, step| match step {
            Step::Key(key) => Value::Object(Map::from_iter([(key.clone(), inner)])),
            Step::Item(_) => inner,
        });
        self.overlay(Self {
            value: nested,
            origins,
        });
        Ok(())
    }

    fn overlay_table(
        &mut self,
        path: &KeyPath,
        table: Map<String, Value>,
        origins: &BTreeMap<KeyPath, Origin>,
    ) {
        for (key, value) in table {
            let at = path.key(&key);
            let merge = value.is_object() && self.get(&at).is_some_and(Value::is_object);
            if let (true, Value::Object(inner)) = (merge, &value) {
                if self.origin(&at) == Origin::BuiltIn
                    && let Some(origin) = origins.get(&at)
                {
                    self.origins.insert(at.clone(), origin.clone());
                }
                self.overlay_table(&at, inner.clone(), origins);
                continue;
            }
            self.origins.retain(|known, _| !known.0.starts_with(&at.0));
            self.origins.extend(
                origins
                    .iter()
                    .filter(|(known, _)| known.0.starts_with(&at.0))
                    .map(|(k, o)| (k.clone(), o.clone())),
            );
            if let Some(parent) = self.get_mut(path) {
                parent.insert(key, value);
            }
        }
    }

    fn get_mut(&mut self, path: &KeyPath) -> Option<&mut Map<String, Value>> {
        let mut value = &mut self.value;
        for step in &path.0 {
            value = match step {
                Step::Key(key) => value.get_mut(key)?,
                Step::Item(at) => value.get_mut(at)?,
            };
        }
        value.as_object_mut()
    }
}

/// Reads one value written as TOML (from a variable or a flag).
pub fn toml_value(text: &str) -> Result<Value, String> {
    let document = format!("value = {text}");
    let mut errors = ConfigErrors::default();
    let tree = Tree::from_toml(&document, &|_| Origin::BuiltIn, &mut errors);
    match (
        errors.iter().next(),
        tree.value.get("value"),
        tree.value.as_object().map_or(0, Map::len),
    ) {
        (None, Some(value), 1) => Ok(value.clone()),
        (Some(error), ..) => Err(error.message.clone()),
        _ => Err("this is not one TOML value".to_owned()),
    }
}

struct TomlReader<'a> {
    lines: Lines,
    origin_of: &'a dyn Fn(usize) -> Origin,
    errors: &'a mut ConfigErrors,
    origins: BTreeMap<KeyPath, Origin>,
}

impl TomlReader<'_> {
    fn table(&mut self, table: &DeTable<'_>, path: &KeyPath) -> Value {
        let mut members = Map::new();
        for (key, value) in table {
            let path = path.key(key.get_ref());
            self.note(&path, key.span().start);
            let member = self.value(value.get_ref(), &path);
            members.insert(key.get_ref().to_string(), member);
        }
        Value::Object(members)
    }

    fn value(&mut self, value: &DeValue<'_>, path: &KeyPath) -> Value {
        match value {
            DeValue::String(text) => Value::from(text.as_ref()),
            DeValue::Boolean(yes) => Value::from(*yes),
            DeValue::Integer(integer) => i64::from_str_radix(integer.as_str(), integer.radix())
                .map_or_else(
                    |_| self.refuse(path, "the number is too large"),
                    Value::from,
                ),
            DeValue::Float(float) => {
                let number = float
                    .as_str()
                    .parse()
                    .ok()
                    .and_then(serde_json::Number::from_f64);
                number.map_or_else(
                    || self.refuse(path, "the number is not finite"),
                    Value::Number,
                )
            }
            DeValue::Datetime(time) => Value::from(time.to_string()),
            DeValue::Table(table) => self.table(table, path),
            DeValue::Array(items) => {
                let mut list = Vec::with_capacity(items.len());
                for (at, item) in items.iter().enumerate() {
                    let path = path.item(at);
                    self.note(&path, item.span().start);
                    list.push(self.value(item.get_ref(), &path));
                }
                Value::Array(list)
            }
        }
    }

    fn note(&mut self, path: &KeyPath, offset: usize) {
        let origin = (self.origin_of)(self.lines.line(offset));
        self.origins.insert(path.clone(), origin);
    }

    fn refuse(&mut self, path: &KeyPath, message: &str) -> Value {
        let origin = self.origins.get(path).cloned().unwrap_or_default();
        self.errors.push(origin, path.to_string(), message);
        Value::Null
    }
}

/// Where the lines of a text start.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        Self(text.match_indices('\n').map(|(at, _)| at + 1).collect())
    }

    /// The line of a byte offset, from 1.
    fn line(&self, offset: usize) -> usize {
        self.0.partition_point(|start| *start <= offset) + 1
    }
}
