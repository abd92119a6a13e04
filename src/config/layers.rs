//! The layers of a configuration: built-in < file < environment < flags. The `config` crate is not
//! used: it knows no lines, stops at the first error and cannot tell an id from a key.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::error::{ConfigErrors, Origin};
use super::schema::Schemas;
use super::tree::{KeyPath, Tree, toml_value};

/// Every key with its default: the bottom layer and its documentation in one file.
pub const BUILT_IN: &str = include_str!("../../config/default.toml");

/// Environment variables of the daemon start with this.
pub const ENV_PREFIX: &str = "SWITCHBOARD__";

/// Largest configuration file read, in bytes: far more than ten thousand channels need.
const FILE_BYTES_MAX: u64 = 8 << 20;

/// Where a configuration comes from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    pub file: Option<PathBuf>,
    /// All of the environment; what does not start with [`ENV_PREFIX`] is ignored.
    pub env: BTreeMap<String, String>,
    pub flags: Vec<Flag>,
}

/// A command-line flag that sets a key.
#[derive(Debug, Clone)]
pub struct Flag {
    /// As the user wrote it: `--data-dir`.
    pub name: String,
    /// What it sets: `server.data_dir`.
    pub key: String,
    /// Text, or TOML where the key wants no text.
    pub value: String,
}

impl Flag {
    pub fn new(name: impl Into<String>, key: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            key: key.into(),
            value: value.into(),
        }
    }
}

impl Sources {
    /// A file and flags together with this process's environment.
    pub fn of_process(file: Option<PathBuf>, flags: Vec<Flag>) -> Self {
        let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        let env = std::env::vars_os().map(|(name, value)| (text(name), text(value)));
        Self {
            file,
            env: env
                .filter(|(name, _)| name.starts_with(ENV_PREFIX))
                .collect(),
            flags,
        }
    }
}

/// Lays all sources over one another. With errors from here the tree is not worth checking.
pub fn read(sources: &Sources, schemas: &Schemas, errors: &mut ConfigErrors) -> Tree {
    let mut tree = built_in();
    if let Some(path) = &sources.file {
        tree.overlay(read_file(path, errors));
    }
    lay_environment(&mut tree, &sources.env, schemas, errors);
    for flag in &sources.flags {
        let path = KeyPath::of(flag.key.split('.'));
        lay_text(
            &mut tree,
            &path,
            &flag.value,
            Origin::Flag(flag.name.clone()),
            schemas,
            errors,
        );
    }
    tree
}

/// The bottom layer.
pub fn built_in() -> Tree {
    let mut errors = ConfigErrors::default();
    let tree = Tree::from_toml(BUILT_IN, &|_| Origin::BuiltIn, &mut errors);
    debug_assert!(errors.is_empty(), "config/default.toml: {errors}");
    tree
}

fn read_file(path: &Path, errors: &mut ConfigErrors) -> Tree {
    let shared = Arc::new(path.to_owned());
    let origin_of = |line| Origin::File {
        path: Arc::clone(&shared),
        line,
    };
    match read_text(path) {
        Ok(text) => Tree::from_toml(&text, &origin_of, errors),
        Err(message) => {
            errors.push(origin_of(0), "", message);
            Tree::default()
        }
    }
}

fn read_text(path: &Path) -> Result<String, String> {
    let read = || {
        let mut bytes = Vec::new();
        // Counted while reading: a pipe has no length to look at first.
        File::open(path)?
            .take(FILE_BYTES_MAX + 1)
            .read_to_end(&mut bytes)?;
        Ok::<_, std::io::Error>(bytes)
    };
    let bytes = read().map_err(|error| format!("cannot read the configuration: {error}"))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!(
            "the configuration has more than {FILE_BYTES_MAX} bytes"
        ));
    }
    String::from_utf8(bytes).map_err(|error| format!("the configuration is not UTF-8: {error}"))
}

fn lay_environment(
    tree: &mut Tree,
    env: &BTreeMap<String, String>,
    schemas: &Schemas,
    errors: &mut ConfigErrors,
) {
    let mut variables: Vec<(&String, &str, &String)> = env
        .iter()
        .filter_map(|(name, text)| Some((name, name.strip_prefix(ENV_PREFIX)?, text)))
        .collect();
    // A channel's connector first: it says what the channel's other keys are.
    variables.sort_by_key(|(_, key, _)| !key.ends_with("__CONNECTOR"));
    for (name, key, text) in variables {
        let origin = Origin::Env(name.clone());
        if key.split("__").any(str::is_empty) {
            errors.push(
                origin,
                "",
                format!("this names no key: write {ENV_PREFIX}SECTION__KEY"),
            );
            continue;
        }
        lay_text(tree, &env_path(key), text, origin, schemas, errors);
    }
}

/// The path an environment key names: `CHANNELS__SHOP_CHAT__QUEUE` is `channels.shop-chat.queue`.
fn env_path(key: &str) -> KeyPath {
    let lower = key.to_ascii_lowercase();
    let mut steps: Vec<String> = lower.split("__").map(str::to_owned).collect();
    let of_ids = steps
        .first()
        .is_some_and(|section| matches!(section.as_str(), "brands" | "channels" | "queues"));
    if let (true, Some(id)) = (of_ids, steps.get_mut(1)) {
        *id = id.replace('_', "-");
    }
    KeyPath::of(steps.iter().map(String::as_str))
}

fn lay_text(
    tree: &mut Tree,
    path: &KeyPath,
    text: &str,
    origin: Origin,
    schemas: &Schemas,
    errors: &mut ConfigErrors,
) {
    let accepted = schemas.accepts(tree.value(), path);
    let in_list = path
        .ancestors()
        .find(|outer| schemas.accepts(tree.value(), outer) == ["array"]);
    let laid = match in_list {
        Some(list) => Err(format!("{list} is a list: set it whole, written as TOML")),
        None => typed(text, &accepted).and_then(|value| tree.set(path, value, origin.clone())),
    };
    if let Err(message) = laid {
        errors.push(origin, path.to_string(), message);
    }
}

/// Gives text the type its key wants: text as it is, lists by commas or as TOML, the rest as TOML.
fn typed(text: &str, accepted: &[&str]) -> Result<Value, String> {
    let accepts = |kind: &str| accepted.contains(&kind);
    let trimmed = text.trim();
    let as_toml = (trimmed.starts_with('[') && accepts("array"))
        || (trimmed.starts_with('{') && accepts("object"))
        || (matches!(trimmed, "true" | "false") && accepts("boolean"));
    if as_toml {
        return toml_value(trimmed);
    }
    if (accepts("integer") || accepts("number"))
        && let Ok(number) = trimmed.parse::<serde_json::Number>()
    {
        return Ok(Value::Number(number));
    }
    if accepts("array") && !accepts("string") {
        let items = trimmed
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty());
        return Ok(items.map(Value::from).collect());
    }
    Ok(Value::from(text))
}
