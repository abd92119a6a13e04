//! Reads the configuration again while everything runs. All of it is checked before anything
//! changes; a wrong one changes nothing and is said until a good one is read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use connector_api::{ChannelId, Clock, HttpClient, Registration};
use serde::Serialize;
use serde_json::Value;
use tracing::{error, info, warn};

use crate::api::ChannelFacts;
use crate::channels::{self, Built, Channel, LiveChannels, Moment, SecretsMark};
use crate::clock::micros;
use crate::config::{Config, ConfigErrors};
use crate::credentials::Keeper;
use crate::health::{Health, State};
use crate::live::Live;
use crate::router::Policy;
use crate::router::policy::ChannelPolicy;
use crate::store::{Store, StoreError};
use crate::telemetry;
use crate::wake::Wakes;

use super::alerting::{Targets, targets};
use super::channels::ChannelSet;
use super::elsewhere::Elsewhere;
use super::notify::Manager;
use super::settings::{self, Kept, Keys};

/// Under which name its state is kept.
pub const NAME: &str = "config";

/// Reads all sources of the configuration.
pub type Load = Box<dyn Fn() -> Result<Config, ConfigErrors> + Send + Sync>;

/// Where a daemon's configuration comes from.
pub struct Source {
    /// The file, absolute; `None`: defaults, environment and flags alone.
    pub file: Option<PathBuf>,
    pub load: Load,
}

/// What is replaced, as everybody else holds it.
#[derive(Clone)]
pub struct Parts {
    pub config: Live<Config>,
    pub channels: LiveChannels,
    pub policy: Live<Policy>,
    pub queues: Live<Vec<connector_api::QueueId>>,
    pub brands: Live<Vec<connector_api::BrandId>>,
    pub facts: Live<Vec<ChannelFacts>>,
    pub kept: Live<Kept>,
    pub targets: Live<Targets>,
}

pub struct Reload {
    pub parts: Parts,
    pub registrations: Vec<Registration>,
    pub clock: Arc<dyn Clock>,
    pub http: Arc<dyn HttpClient>,
    pub credentials: Arc<Keeper>,
    pub keys: Arc<Keys>,
    pub store: Arc<dyn Store>,
    pub health: Arc<Health>,
    pub waiting: Arc<Wakes>,
    pub set: Arc<ChannelSet>,
    pub elsewhere: Arc<Elsewhere>,
    pub secrets: Mutex<BTreeMap<ChannelId, SecretsMark>>,
    pub source: OnceLock<Source>,
    /// Told of every reload, whoever asked for it.
    pub manager: Arc<Manager>,
    /// One at a time.
    pub busy: tokio::sync::Mutex<()>,
}

/// What a reload did.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Changes {
    /// What was read: the file that the daemon was started with.
    pub file: Option<PathBuf>,
    pub channels: ChannelChanges,
    /// Sections that hold other settings now.
    pub changed: Vec<String>,
    /// What is other in the files, and stays as it was until the next start.
    pub needs_restart: Vec<String>,
    pub rules_version: String,
}

#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct ChannelChanges {
    pub added: Vec<ChannelId>,
    pub removed: Vec<ChannelId>,
    pub restarted: Vec<ChannelId>,
    pub unchanged: usize,
}

/// Keys of a channel that make no other connector of it.
const ROUTING_KEYS: [&str; 3] = ["queue", "acknowledge", "silent_after"];
/// Sections whose settings are taken over at once.
const TAKEN_OVER: [&str; 6] = [
    "brands",
    "queues",
    "rules",
    "joining",
    "retention",
    "alerts",
];
/// Sections that are read only at a start.
const FIXED: [&str; 5] = ["server", "run", "bus", "fan_out", "store"];

impl Reload {
    /// Reads the configuration and takes it over; or says everything that is wrong with it, and
    /// everything stays as it was.
    pub async fn run(&self) -> Result<Changes, String> {
        let _one_at_a_time = self.busy.lock().await;
        let _told = self.manager.reloading();
        match self.read() {
            Ok((config, built)) => {
                let changes = self.take_over(config, built).await;
                let changes = changes.map_err(|error| self.refuse(&error.to_string()))?;
                let changes = Changes {
                    file: self.file().cloned(),
                    ..changes
                };
                self.health.set(NAME, State::Ready);
                self.tell(&changes);
                Ok(changes)
            }
            Err(wrong) => Err(self.refuse(&wrong)),
        }
    }

    /// The file that is read, where there is one.
    pub fn file(&self) -> Option<&PathBuf> {
        self.source.get()?.file.as_ref()
    }

    fn read(&self) -> Result<(Config, Built), String> {
        let source = self.source.get();
        let source = source.ok_or("this daemon was not started from a configuration file")?;
        let config = (source.load)().map_err(|errors| errors.to_string())?;
        let built = channels::build_marked(
            &config,
            &self.registrations,
            &self.clock,
            &self.http,
            &self.credentials,
            Moment::Reload,
        );
        let built = built.map_err(|errors| errors.to_string())?;
        targets(&config, &built.channels, Moment::Reload).map_err(|errors| errors.to_string())?;
        settings::warn_of(&config, &built.channels);
        Ok((config, built))
    }

    fn refuse(&self, wrong: &str) -> String {
        let reason = format!(
            "the last reload was refused and changed nothing: {wrong}; correct that, then run \
             `switchboard reload`"
        );
        self.health.set(NAME, State::Degraded { reason });
        wrong.to_owned()
    }

    async fn take_over(&self, config: Config, built: Built) -> Result<Changes, StoreError> {
        let parts = &self.parts;
        let (before, running) = (parts.config.now(), parts.channels.now());
        let (channels, mut changes) = self.pick(&before, &config, &running, &built);
        let channels = Arc::new(channels);
        // Of the channels that will run, which the ones just built may not be.
        let told = targets(&config, &channels, Moment::Reload);
        let told = told.map_err(|errors| StoreError::Unavailable(errors.to_string()))?;
        changes.changed = changed(&before, &config);
        changes.needs_restart = needs_restart(&before, &config);
        let mut config = config.with_fixed_of(&before, &FIXED);
        config.log.format = before.log.format;

        let (names, queues) = settings::names(&config);
        self.store.declare(names, queues).await?;
        let elsewhere = self.elsewhere.declared().await?;
        let mut policy = settings::policy(&config, &channels, &self.keys);
        changes.rules_version = policy.rules_version.clone();
        keep_gone(&mut policy, &parts.policy.now(), &config);

        // From here on nothing fails. Who can send is known before a new lane leases, and is not any
        // more before an old one ends: what waits in it is refused and comes back to its agent.
        let senders = super::outbox::senders(&config, &channels);
        let now = micros(self.clock.now());
        let noted = self.store.set_senders(senders, elsewhere.clone(), now);
        if let Err(error) = noted.await {
            warn!(%error, "refusing what waits on channels that are gone failed");
        }
        parts.policy.set(Arc::new(policy));
        parts
            .facts
            .set(Arc::new(settings::channel_facts(&config, &channels)));
        parts
            .queues
            .set(Arc::new(config.queues.keys().cloned().collect()));
        parts.brands.set(Arc::new(settings::brands(&config)));
        parts.kept.set(Arc::new(settings::retention(&config)));
        parts.channels.set(channels.clone());
        parts.targets.set(Arc::new(told));
        telemetry::set_level(config.log.level);
        parts.config.set(Arc::new(config));
        *self.secrets.lock().unwrap_or_else(PoisonError::into_inner) = built.secrets;
        self.set.run(&channels);
        let now = micros(self.clock.now());
        match self.store.adopt_stranded(elsewhere, now).await {
            Ok(rings) => rings
                .queues
                .iter()
                .for_each(|queue| self.waiting.ring(queue.as_str())),
            Err(error) => {
                warn!(%error, "moving what waits in queues that are gone failed, trying again later")
            }
        }
        Ok(changes)
    }

    /// The channels that are to run: those that are the same go on as they are.
    fn pick(
        &self,
        before: &Config,
        after: &Config,
        running: &BTreeMap<ChannelId, Arc<Channel>>,
        built: &Built,
    ) -> (BTreeMap<ChannelId, Arc<Channel>>, Changes) {
        let secrets = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changes = Changes::default();
        let mut picked = BTreeMap::new();
        for (id, new) in built.channels.iter() {
            let own = |config: &Config| own_settings(config, id);
            let channel = match running.get(id) {
                Some(now)
                    if own(before) == own(after) && secrets.get(id) == built.secrets.get(id) =>
                {
                    changes.channels.unchanged += 1;
                    now
                }
                Some(_) => {
                    changes.channels.restarted.push(id.clone());
                    new
                }
                None => {
                    changes.channels.added.push(id.clone());
                    new
                }
            };
            picked.insert(id.clone(), channel.clone());
        }
        let gone = running.keys().filter(|id| !picked.contains_key(*id));
        changes.channels.removed = gone.cloned().collect();
        (picked, changes)
    }

    fn tell(&self, changes: &Changes) {
        let told = serde_json::to_string(changes).unwrap_or_default();
        info!(changes = told, "the configuration was read again");
        if !changes.needs_restart.is_empty() {
            let keys = changes.needs_restart.join(", ");
            warn!("these are read at the next start only: {keys}");
        }
    }
}

/// Says that a reload failed, for whoever asked by a signal.
pub fn log_refusal(wrong: &str) {
    error!(
        "the configuration is wrong, the old one stays until this is corrected and read again:\n{wrong}"
    );
}

/// A channel's settings without those that only routing reads.
fn own_settings(config: &Config, id: &ChannelId) -> Option<Value> {
    let mut own = config.section("channels")?.get(id.as_str())?.clone();
    if let Some(own) = own.as_object_mut() {
        own.retain(|key, _| !ROUTING_KEYS.contains(&key.as_str()));
    }
    Some(own)
}

fn changed(before: &Config, after: &Config) -> Vec<String> {
    let other = |section: &&&str| before.section(section) != after.section(section);
    let mut changed: Vec<String> = TAKEN_OVER
        .iter()
        .filter(other)
        .map(|section| (*section).to_owned())
        .collect();
    // Those that only route otherwise now; others are restarted and named as such.
    for id in after.channels.keys() {
        let all = |config: &Config| config.section("channels")?.get(id.as_str()).cloned();
        if own_settings(before, id) == own_settings(after, id) && all(before) != all(after) {
            changed.push(format!("channels.{id}"));
        }
    }
    if before.log.level != after.log.level {
        changed.push("log.level".to_owned());
    }
    changed
}

/// The keys that are other and cannot be taken over.
fn needs_restart(before: &Config, after: &Config) -> Vec<String> {
    let mut keys = Vec::new();
    for section in FIXED {
        let of = |config: &Config| {
            let table = config.section(section).and_then(Value::as_object);
            table.cloned().unwrap_or_default()
        };
        let (before, after) = (of(before), of(after));
        let all: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        let other = all
            .into_iter()
            .filter(|key| before.get(*key) != after.get(*key));
        keys.extend(other.map(|key| format!("{section}.{key}")));
    }
    if before.log.format != after.log.format {
        keys.push("log.format".to_owned());
    }
    keys
}

/// What channels that are gone have sent is still decided: it was accepted.
fn keep_gone(policy: &mut Policy, before: &Policy, config: &Config) {
    for (id, gone) in &before.channels {
        let queue = match config.queues.contains_key(&gone.queue) {
            true => gone.queue.clone(),
            false => policy.fallback_queue.clone(),
        };
        policy.channels.entry(id.clone()).or_insert(ChannelPolicy {
            queue,
            acknowledge: None,
            ..gone.clone()
        });
    }
}
