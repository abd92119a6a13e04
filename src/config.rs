//! The configuration of the daemon: built-in defaults < file < `SWITCHBOARD__SECTION__KEY` <
//! flags. Everything is parsed and checked at load, every mistake is said at once, and each says
//! where it is. Secrets are references; their values are never here.

use std::collections::BTreeMap;
use std::path::PathBuf;

use connector_api::{BrandId, ChannelId, QueueId, Registration};
use schemars::JsonSchema;
use serde::Deserialize;

pub mod bucket;
mod check;
pub mod database;
mod effective;
mod error;
pub mod kafka_keys;
mod layers;
mod meaning;
mod nearest;
mod schema;
mod text;
mod tree;
mod types;

pub use effective::effective;
pub use error::{ConfigError, ConfigErrors, Origin};
pub use layers::{ENV_PREFIX, Flag, Sources};
pub use schema::schema;
pub use text::{
    HttpUrl, LABELS, Label, Language, Network, WebOrigin, duration_text, parse_duration, parse_size,
};
pub use types::{
    Across, AlertMail, AlertWebhook, Alerts, Brand, Bus, BusKind, BusTls, Channel, FanOut,
    GroupProtocol, Joining, Log, LogFormat, LogLevel, Part, Passed, QUEUE_DEFAULT, Queue,
    QueueMode, Retention, Rule, Run, Sasl, Server, Store, StoreKind, StoreTls, UnsafeDatabase,
    UnsafeTopic, Vouch, When,
};

use tree::{KeyPath, Tree};

/// A checked configuration.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Switchboard configuration")]
pub struct Config {
    pub server: Server,
    pub run: Run,
    pub bus: Bus,
    pub fan_out: FanOut,
    pub store: Store,
    pub joining: Joining,
    pub retention: Retention,
    pub alerts: Alerts,
    pub log: Log,
    /// The shops this installation serves; nothing crosses from one to another. `main` always exists.
    #[serde(default)]
    #[schemars(extend("propertyNames" = ids()))]
    pub brands: BTreeMap<BrandId, Brand>,
    /// The configured accounts of connectors.
    #[serde(default)]
    #[schemars(extend("propertyNames" = ids()))]
    pub channels: BTreeMap<ChannelId, Channel>,
    /// Where conversations wait for agents. A file that declares none has one, `frontline`.
    #[serde(default)]
    #[schemars(extend("propertyNames" = ids()))]
    pub queues: BTreeMap<QueueId, Queue>,
    /// In order; the first that matches decides, otherwise the channel's queue does.
    #[serde(default)]
    pub rules: Vec<Rule>,
    /// All of it as written, with where each value was set.
    #[serde(skip)]
    tree: Tree,
}

impl Default for Config {
    /// What an installation without file, variables and flags has.
    fn default() -> Self {
        typed(layers::built_in())
            .expect("config/default.toml is a valid configuration; a test loads it")
    }
}

impl Config {
    /// A section as it was written, defaults included.
    pub fn section(&self, name: &str) -> Option<&serde_json::Value> {
        self.tree.value().get(name)
    }

    /// Itself with these sections as they are in another one.
    pub fn with_fixed_of(mut self, other: &Self, sections: &[&str]) -> Self {
        for section in sections {
            self.tree.copy_section(section, &other.tree);
        }
        self.server = other.server.clone();
        self.run = other.run.clone();
        self.bus = other.bus.clone();
        self.fan_out = other.fan_out.clone();
        self.store = other.store.clone();
        self
    }

    /// Where the value of a key (`server.listen`) was set.
    pub fn origin(&self, key: &str) -> Origin {
        self.tree.origin(&KeyPath::of(key.split('.')))
    }
}

/// Reads, checks and types a configuration. What a connector says only when it is built (the
/// value behind a secret's reference) is not checked here.
pub fn load(sources: &Sources, registrations: &[Registration]) -> Result<Config, ConfigErrors> {
    let schemas = schema::Schemas::of(registrations);
    let mut errors = ConfigErrors::default();
    let tree = layers::read(sources, &schemas, &mut errors);
    if errors.iter().any(|error| error.key.is_empty()) {
        // A source that could not be read at all: what it would have set is not missing.
        return Err(errors);
    }
    check::shape(&tree, &schemas, &mut errors);
    meaning::check(&tree, &mut errors);
    errors.unless_any(tree).and_then(typed)
}

/// The data directory that a configuration names, however much else of it is wrong: where a daemon
/// may run that can be told.
pub fn data_dir(sources: &Sources, registrations: &[Registration]) -> Option<PathBuf> {
    let schemas = schema::Schemas::of(registrations);
    let tree = layers::read(sources, &schemas, &mut ConfigErrors::default());
    let named = tree.get(&KeyPath::of(["server", "data_dir"]))?;
    named.as_str().map(PathBuf::from)
}

fn typed(tree: Tree) -> Result<Config, ConfigErrors> {
    let mut config: Config = serde_json::from_value(tree.value().clone()).map_err(|error| {
        let mut errors = ConfigErrors::default();
        errors.push(
            Origin::BuiltIn,
            "",
            format!("cannot read the configuration: {error}"),
        );
        errors
    })?;
    config.brands.entry(BrandId::default()).or_default();
    if config.queues.is_empty() {
        config
            .queues
            .insert(types::queue_default(), Queue::default());
    }
    for (id, brand) in &mut config.brands {
        brand.origin = tree.origin(&KeyPath::of(["brands", id.as_str()]));
    }
    for (id, channel) in &mut config.channels {
        channel.origin = tree.origin(&KeyPath::of(["channels", id.as_str()]));
    }
    for (id, queue) in &mut config.queues {
        queue.origin = tree.origin(&KeyPath::of(["queues", id.as_str()]));
    }
    for (at, rule) in config.rules.iter_mut().enumerate() {
        rule.origin = tree.origin(&KeyPath::of(["rules"]).item(at));
        if rule.name.is_empty() {
            rule.name = format!("rule {}", at + 1);
        }
    }
    config.tree = tree;
    Ok(config)
}

/// The schema of an id that is a key.
fn ids() -> serde_json::Value {
    serde_json::json!({ "pattern": "^[a-z0-9-]{1,64}$" })
}
