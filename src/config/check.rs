//! Holds a configuration against its schema and says in words what does not fit. Texts that may
//! hold a secret are never repeated.

use jsonschema::error::ValidationErrorKind;
use jsonschema::{ValidationError, Validator};
use serde_json::{Map, Value};

use super::error::ConfigErrors;
use super::nearest::nearest;
use super::schema::{Node, Schemas};
use super::text;
use super::tree::{KeyPath, Step, Tree};

mod words;

use words::{kind_of, limit, not_an_id, not_one_of, secret_wanted, type_wanted};

/// Checks keys, types, formats and ranges; a channel's own keys by its connector's schema.
pub fn shape(tree: &Tree, schemas: &Schemas, errors: &mut ConfigErrors) {
    let channel_keys = schemas.channel_keys();
    let mut document = tree.value().clone();
    let mut settings: Vec<(KeyPath, Value)> = Vec::new();
    for (id, channel) in document
        .get_mut("channels")
        .and_then(Value::as_object_mut)
        .into_iter()
        .flatten()
    {
        let Value::Object(members) = channel else {
            continue;
        };
        let (shared, own): (Map<_, _>, Map<_, _>) = std::mem::take(members)
            .into_iter()
            .partition(|(key, _)| channel_keys.contains(key));
        *members = shared;
        settings.push((KeyPath::of(["channels", id]), Value::Object(own)));
    }

    let mut check = Check {
        tree,
        schemas,
        errors,
    };
    check.against(&schemas.document, &document, &KeyPath::default());
    for (channel, own) in settings {
        let Some(kind) = tree.get(&channel.key("connector")).and_then(Value::as_str) else {
            continue;
        };
        match schemas.connectors.get(kind) {
            Some(schema) => check.against(schema, &own, &channel),
            None => check.unknown_connector(&channel, kind),
        }
    }
}

struct Check<'a> {
    tree: &'a Tree,
    schemas: &'a Schemas,
    errors: &'a mut ConfigErrors,
}

impl Check<'_> {
    fn against(&mut self, schema: &Value, instance: &Value, base: &KeyPath) {
        match validator(schema) {
            Ok(validator) => {
                for error in validator.iter_errors(instance) {
                    self.report(&error, instance, base);
                }
            }
            Err(error) => {
                self.push(
                    base,
                    format!("the schema of these keys cannot be used: {error}"),
                );
            }
        }
    }

    fn report(&mut self, error: &ValidationError<'_>, document: &Value, base: &KeyPath) {
        let path = key_path(base, document, error.instance_path().as_str());
        let node = self.schemas.node(self.tree.value(), &path);
        let found = error.instance();
        if found.is_null() {
            return; // TOML has no null: this could not be read, which is said already.
        }
        match (error.kind(), node) {
            (ValidationErrorKind::PropertyNames { error }, _) => {
                let name = error.instance().as_str().unwrap_or_default();
                self.push(&path.key(name), not_an_id(name));
            }
            (ValidationErrorKind::AdditionalProperties { unexpected }, _)
            | (ValidationErrorKind::UnevaluatedProperties { unexpected }, _)
                if !node.is_some_and(Node::is_secret) =>
            {
                for key in unexpected {
                    let at = path.key(key);
                    self.push(&at, self.unknown_key(key, &path, node));
                }
            }
            (_, Some(node)) if node.is_secret() => {
                self.push(&path, secret_wanted(found));
            }
            (ValidationErrorKind::Required { property }, _) => {
                let key = property.as_str().unwrap_or_default();
                let hint = if key == "connector" {
                    format!("; known: {}", self.kinds().join(", "))
                } else {
                    String::new()
                };
                self.push(&path, format!("the key \"{key}\" is missing{hint}"));
            }
            (
                ValidationErrorKind::AnyOf { context }
                | ValidationErrorKind::OneOfNotValid { context },
                Some(node),
            ) => {
                if let Some(constants) = node.constants() {
                    self.push(&path, not_one_of(found, &constants, &path));
                } else if let Some((tag, wrong, constants)) = unknown_tag(context) {
                    let path = key_path(base, document, tag);
                    self.push(&path, not_one_of(wrong, &constants, &path));
                } else if let Some(branch) = closest_branch(context, error.instance_path().as_str())
                {
                    for inner in branch {
                        self.report(inner, document, base);
                    }
                } else {
                    self.push(&path, type_wanted(&node.types(), found));
                }
            }
            (ValidationErrorKind::Type { .. }, Some(node)) if node.holds_secrets() => {
                self.push(
                    &path,
                    format!(
                        "expected a list, found {}; write [{{ env = \"NAME\" }}]",
                        kind_of(found)
                    ),
                );
            }
            (ValidationErrorKind::Type { .. }, Some(node)) => {
                let message = match node.constants() {
                    Some(constants) => not_one_of(found, &constants, &path),
                    None => type_wanted(&node.types(), found),
                };
                self.push(&path, message);
            }
            (
                ValidationErrorKind::Enum { .. } | ValidationErrorKind::Constant { .. },
                Some(node),
            ) => {
                self.push(
                    &path,
                    not_one_of(found, &node.constants().unwrap_or_default(), &path),
                );
            }
            (kind, _) => self.push(&path, limit(kind, found, &path)),
        }
    }

    fn unknown_key(&self, key: &str, path: &KeyPath, node: Option<Node<'_>>) -> String {
        let mut known: Vec<String> = node
            .map(|node| node.keys().into_iter().collect())
            .unwrap_or_default();
        if let [Step::Key(section), Step::Key(_)] = path.steps()
            && section == "channels"
            && let Some(kind) = self
                .tree
                .get(&path.key("connector"))
                .and_then(Value::as_str)
            && let Some(settings) = self.schemas.connectors.get(kind)
        {
            known.extend(Node::root(settings).keys());
        }
        let mut message = "unknown key".to_owned();
        if let Some(near) = nearest(key, known.iter().map(String::as_str)) {
            message.push_str(&format!("; did you mean \"{near}\"?"));
        } else if let Some(section) = self.section_of(key) {
            message.push_str(&format!("; did you mean \"{section}.{key}\"?"));
        }
        known.sort_unstable();
        if !known.is_empty() {
            message.push_str(&format!(" (keys here: {})", known.join(", ")));
        }
        message
    }

    /// The section that has a key of this name, for a key that stands in the wrong one.
    fn section_of(&self, key: &str) -> Option<String> {
        let root = Node::root(&self.schemas.document);
        root.keys().into_iter().find(|section| {
            root.step(&Step::Key(section.clone()))
                .is_some_and(|node| node.keys().contains(key))
        })
    }

    fn unknown_connector(&mut self, channel: &KeyPath, kind: &str) {
        let kinds = self.kinds();
        let near = nearest(kind, kinds.iter().copied());
        let hint = near
            .map(|near| format!("; did you mean \"{near}\"?"))
            .unwrap_or_default();
        let message = format!(
            "there is no connector \"{kind}\"{hint} (known: {})",
            kinds.join(", ")
        );
        self.push(&channel.key("connector"), message);
    }

    fn kinds(&self) -> Vec<&'static str> {
        self.schemas.connectors.keys().copied().collect()
    }

    fn push(&mut self, path: &KeyPath, message: String) {
        self.errors
            .push(self.tree.origin(path), path.to_string(), message);
    }
}

fn validator(schema: &Value) -> Result<Validator, String> {
    let mut options = jsonschema::options().should_validate_formats(true);
    for (name, check) in text::FORMATS {
        let check = *check;
        options = options.with_format(*name, move |text: &str| check(text).is_ok());
    }
    options.build(schema).map_err(|error| error.to_string())
}

/// A JSON pointer into `document` as a path of the configuration.
fn key_path(base: &KeyPath, document: &Value, pointer: &str) -> KeyPath {
    let mut path = base.clone();
    let mut value = Some(document);
    for token in pointer.split('/').skip(1) {
        let token = token.replace("~1", "/").replace("~0", "~");
        path = match (value, token.parse()) {
            (Some(Value::Array(items)), Ok(at)) => {
                value = items.get(at);
                path.item(at)
            }
            _ => {
                value = value.and_then(|table| table.get(&token));
                path.key(&token)
            }
        };
    }
    path
}

/// Of several forms that all do not fit, the one that was meant: whose mistake lies deepest.
fn closest_branch<'e>(
    context: &'e [Vec<ValidationError<'static>>],
    here: &str,
) -> Option<&'e Vec<ValidationError<'static>>> {
    let is_type_here = |error: &ValidationError<'_>| {
        error.instance_path().as_str() == here
            && matches!(error.kind(), ValidationErrorKind::Type { .. })
    };
    let fitting = context
        .iter()
        .filter(|branch| !branch.iter().any(is_type_here));
    fitting.min_by_key(|branch| {
        let depth = branch
            .iter()
            .map(|error| error.instance_path().as_str().len())
            .max();
        (
            tag_of(branch).is_some(),
            std::cmp::Reverse(depth),
            branch.len(),
        )
    })
}

/// Of several tables told apart by a tag, none of which has the tag written: the place of the
/// tag, what is written, and the tags there are.
fn unknown_tag<'e>(
    context: &'e [Vec<ValidationError<'static>>],
) -> Option<(&'e str, &'e Value, Vec<&'e str>)> {
    let (place, wrong, _) = tag_of(context.first()?)?;
    let tags: Option<Vec<&str>> = context
        .iter()
        .map(|branch| {
            tag_of(branch)
                .filter(|(at, ..)| *at == place)
                .map(|(_, _, tag)| tag)
        })
        .collect();
    Some((place, wrong, tags?))
}

fn tag_of<'e>(branch: &'e [ValidationError<'static>]) -> Option<(&'e str, &'e Value, &'e str)> {
    branch.iter().find_map(|error| match error.kind() {
        ValidationErrorKind::Constant { expected_value } => Some((
            error.instance_path().as_str(),
            error.instance().as_ref(),
            expected_value.as_str()?,
        )),
        _ => None,
    })
}
