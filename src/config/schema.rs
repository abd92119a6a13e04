//! The JSON Schema of the configuration: made from the types, joined with what each connector says
//! about its own keys. Editors use it, and so does the check at start.

use std::collections::{BTreeMap, BTreeSet};

use connector_api::Registration;
use serde_json::{Map, Value, json};

use super::Config;
use super::layers;
use super::tree::{KeyPath, Step};

/// The schema of a whole configuration file, for editors and for `switchboard schema`.
pub fn schema(registrations: &[Registration]) -> Value {
    let mut document = document_schema();
    let built_in = layers::built_in();
    if let Some(root) = document.as_object_mut() {
        root.remove("required");
    }
    // What the daemon has a default for, a file need not say.
    for section in sections(&document) {
        let Some(Value::Object(table)) = built_in.value().get(&section) else {
            continue;
        };
        let Some(definition) = section_definition(&mut document, &section) else {
            continue;
        };
        definition.remove("required");
        for (key, default) in table {
            if let Some(Value::Object(property)) = definition
                .get_mut("properties")
                .and_then(|all| all.get_mut(key))
            {
                property.insert("default".to_owned(), default.clone());
            }
        }
    }
    join_connectors(&mut document, registrations);
    document
}

/// The schemas the check at start uses: the document's, and each connector's for its own keys.
pub struct Schemas {
    pub document: Value,
    pub connectors: BTreeMap<&'static str, Value>,
}

/// A schema together with the document its references point into.
#[derive(Clone, Copy)]
pub struct Node<'a> {
    root: &'a Value,
    schema: &'a Value,
}

impl Schemas {
    pub fn of(registrations: &[Registration]) -> Self {
        let connectors = registrations
            .iter()
            .map(|known| (known.kind, (known.schema)().to_value()));
        Self {
            document: document_schema(),
            connectors: connectors.collect(),
        }
    }

    /// The schema of the value at `path` of `tree`, where there is one.
    pub fn node(&self, tree: &Value, path: &KeyPath) -> Option<Node<'_>> {
        let steps = path.steps();
        if let [Step::Key(section), Step::Key(id), Step::Key(key), ..] = steps
            && section == "channels"
            && !self.channel_keys().contains(key)
        {
            let kind = tree.get("channels")?.get(id)?.get("connector")?.as_str()?;
            let settings = Node::root(self.connectors.get(kind)?);
            return steps
                .iter()
                .skip(2)
                .try_fold(settings, |node, step| node.step(step));
        }
        steps
            .iter()
            .try_fold(Node::root(&self.document), |node, step| node.step(step))
    }

    /// The JSON types that the value at `path` may have; none for an unknown key.
    pub fn accepts(&self, tree: &Value, path: &KeyPath) -> Vec<&str> {
        self.node(tree, path)
            .map(|node| node.types())
            .unwrap_or_default()
    }

    /// The keys of a channel that are not its connector's.
    pub fn channel_keys(&self) -> BTreeSet<String> {
        let channel = KeyPath::of(["channels", "any"]);
        let node = channel
            .steps()
            .iter()
            .try_fold(Node::root(&self.document), |node, step| node.step(step));
        node.map(|node| node.keys()).unwrap_or_default()
    }
}

impl<'a> Node<'a> {
    pub fn root(schema: &'a Value) -> Self {
        Self {
            root: schema,
            schema,
        }
    }

    /// The schema of a member.
    pub fn step(self, step: &Step) -> Option<Self> {
        self.alternatives()
            .into_iter()
            .find_map(|node| node.step_in(step))
    }

    fn step_in(self, step: &Step) -> Option<Self> {
        let schema = match step {
            Step::Item(_) => self.schema.get("items")?,
            Step::Key(key) => {
                let property = self.schema.get("properties").and_then(|all| all.get(key));
                let pattern = || {
                    self.schema
                        .get("patternProperties")?
                        .as_object()?
                        .values()
                        .next()
                };
                property
                    .or_else(pattern)
                    .or_else(|| self.schema.get("additionalProperties"))?
            }
        };
        schema.is_object().then_some(Self {
            root: self.root,
            schema,
        })
    }

    /// This schema with references followed and choices taken apart; `null` is no choice in TOML.
    pub fn alternatives(self) -> Vec<Self> {
        let mut found = Vec::new();
        self.collect_alternatives(&mut found, 0);
        found
    }

    fn collect_alternatives(self, found: &mut Vec<Self>, depth: usize) {
        // Deeper than any schema nests its choices; ends a reference to itself.
        const DEPTH_MAX: usize = 16;
        let inner = |schema| Self {
            root: self.root,
            schema,
        };
        if depth > DEPTH_MAX || self.schema.get("type") == Some(&json!("null")) {
            return;
        }
        if let Some(target) = self.schema.get("$ref").and_then(Value::as_str) {
            if let Some(schema) = target
                .strip_prefix('#')
                .and_then(|pointer| self.root.pointer(pointer))
            {
                inner(schema).collect_alternatives(found, depth + 1);
            }
            return;
        }
        let choices = ["anyOf", "oneOf", "allOf"]
            .into_iter()
            .filter_map(|word| self.schema.get(word)?.as_array());
        let choices: Vec<&Value> = choices.flatten().collect();
        // A table with keys of its own and choices beside them is itself an alternative.
        if choices.is_empty() || self.schema.get("properties").is_some() {
            found.push(self);
        }
        for choice in choices {
            inner(choice).collect_alternatives(found, depth + 1);
        }
    }

    /// The JSON types accepted.
    pub fn types(self) -> Vec<&'a str> {
        let mut types = Vec::new();
        for node in self.alternatives() {
            match node.schema.get("type") {
                Some(Value::String(one)) => types.push(one.as_str()),
                Some(Value::Array(several)) => {
                    types.extend(several.iter().filter_map(Value::as_str))
                }
                _ if node.constants().is_some() => types.push("string"),
                _ if node.schema.get("properties").is_some() => types.push("object"),
                _ => {}
            }
        }
        types.sort_unstable();
        types.dedup();
        types.retain(|name| *name != "null");
        types
    }

    /// Every accepted value, where they are listed.
    pub fn constants(self) -> Option<Vec<&'a str>> {
        let mut constants = Vec::new();
        for node in self.alternatives() {
            match (node.schema.get("const"), node.schema.get("enum")) {
                (Some(Value::String(one)), _) => constants.push(one.as_str()),
                (_, Some(Value::Array(several))) => {
                    constants.extend(several.iter().filter_map(Value::as_str))
                }
                _ => return None,
            }
        }
        (!constants.is_empty()).then_some(constants)
    }

    /// The keys of the table described.
    pub fn keys(self) -> BTreeSet<String> {
        let tables = self
            .alternatives()
            .into_iter()
            .filter_map(|node| node.schema.get("properties")?.as_object());
        tables.flat_map(Map::keys).cloned().collect()
    }

    /// Whether a list of [`connector_api::SecretRef`] belongs here.
    pub fn holds_secrets(self) -> bool {
        self.step(&Step::Item(0)).is_some_and(Self::is_secret)
    }

    /// Whether a [`connector_api::SecretRef`] belongs here.
    pub fn is_secret(self) -> bool {
        let required = |node: &Self| node.schema.get("required").cloned();
        let forms: Vec<Value> = self.alternatives().iter().filter_map(required).collect();
        forms == [json!(["env"]), json!(["file"])]
    }
}

fn document_schema() -> Value {
    schemars::schema_for!(Config).to_value()
}

/// The names of all sections.
fn sections(document: &Value) -> Vec<String> {
    let properties = document.get("properties").and_then(Value::as_object);
    properties
        .map(|all| all.keys().cloned().collect())
        .unwrap_or_default()
}

fn section_definition<'a>(
    document: &'a mut Value,
    section: &str,
) -> Option<&'a mut Map<String, Value>> {
    let reference = document
        .get("properties")?
        .get(section)?
        .get("$ref")?
        .as_str()?;
    let pointer = reference.strip_prefix('#')?.to_owned();
    document.pointer_mut(&pointer)?.as_object_mut()
}

/// Makes a channel's schema depend on its connector.
fn join_connectors(document: &mut Value, registrations: &[Registration]) {
    let Some(channel) = document.pointer("/$defs/Channel").cloned() else {
        return;
    };
    let mut definitions = Map::new();
    let mut choices = Vec::new();
    for registration in registrations {
        let name = format!("{}-channel", registration.kind);
        let mut settings = (registration.schema)().to_value();
        rename_references(&mut settings, registration.kind);
        let Some(settings) = settings.as_object_mut() else {
            continue;
        };
        settings.remove("$schema");
        settings.remove("title");
        if let Some(Value::Object(inner)) = settings.remove("$defs") {
            definitions.extend(
                inner
                    .into_iter()
                    .map(|(key, value)| (format!("{}-{key}", registration.kind), value)),
            );
        }
        add_members(settings, &channel);
        definitions.insert(name.clone(), Value::Object(settings.clone()));
        choices.push(json!({
            "if": { "properties": { "connector": { "const": registration.kind } }, "required": ["connector"] },
            "then": { "$ref": format!("#/$defs/{name}") },
        }));
    }
    let kinds: Vec<&str> = registrations
        .iter()
        .map(|registration| registration.kind)
        .collect();
    if let Some(Value::Object(channel)) = document.pointer_mut("/$defs/Channel") {
        channel.insert("allOf".to_owned(), Value::Array(choices));
        if let Some(Value::Object(connector)) = channel
            .get_mut("properties")
            .and_then(|all| all.get_mut("connector"))
        {
            connector.insert("enum".to_owned(), json!(kinds));
        }
    }
    if let Some(Value::Object(all)) = document.pointer_mut("/$defs") {
        all.extend(definitions);
    }
}

/// Adds the keys every channel has to the keys of a connector.
fn add_members(settings: &mut Map<String, Value>, channel: &Value) {
    let Some(Value::Object(shared)) = channel.get("properties") else {
        return;
    };
    let properties = settings.entry("properties").or_insert_with(|| json!({}));
    if let Some(properties) = properties.as_object_mut() {
        properties.extend(
            shared
                .iter()
                .map(|(key, schema)| (key.clone(), schema.clone())),
        );
    }
}

/// Points the references of a connector's schema at its definitions' new names.
fn rename_references(schema: &mut Value, kind: &str) {
    match schema {
        Value::Array(items) => items
            .iter_mut()
            .for_each(|item| rename_references(item, kind)),
        Value::Object(members) => {
            if let Some(Value::String(target)) = members.get_mut("$ref") {
                *target = target.replace("#/$defs/", &format!("#/$defs/{kind}-"));
            }
            members
                .values_mut()
                .for_each(|member| rename_references(member, kind));
        }
        _ => {}
    }
}
