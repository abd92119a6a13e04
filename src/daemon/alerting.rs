//! Looks at what is known of the daemon and tells whoever wants to know. What was told is kept, so
//! that a restart repeats nothing; a target that does not take it is asked again, and is a state.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use connector_api::{CancellationToken, ChannelId, Clock};
use tracing::{info, warn};

use crate::alerts::{
    ChannelFact, DiskFact, Facts, Pace, PartFact, QueueFact, Told, headline, news, remember,
    settle, troubles,
};
use crate::channels::{Channel, LiveChannels};
use crate::clock::micros;
use crate::config::Config;
use crate::health::{Health, State, is_channel};
use crate::intake::Intake;
use crate::live::Live;
use crate::store::{Result, Store};

mod targets;

use targets::NAMES;
pub use targets::{Targets, targets};

/// Under which name its own state is kept; targets' names follow it.
pub const NAME: &str = "work:alerts";
/// Looks at least so often.
const LOOK_EVERY: Duration = Duration::from_secs(15);
const LOOK_MIN: Duration = Duration::from_millis(250);
/// Of a channel that fetches and says nothing else: IMAP hears its server every nine minutes.
const SILENT_AFTER: Duration = Duration::from_secs(15 * 60);
/// What was heard is noted for the next start when it is so much newer.
const HEARD_NOTED_EVERY_MICROS: i64 = 60 * 1_000_000;
/// Pauses between tries to tell a target.
const AGAIN_FIRST: Duration = Duration::from_secs(5);
const AGAIN_MAX: Duration = Duration::from_secs(10 * 60);

pub struct Alerting {
    pub store: Arc<dyn Store>,
    pub intake: Arc<Intake>,
    pub clock: Arc<dyn Clock>,
    pub health: Arc<Health>,
    pub config: Live<Config>,
    pub channels: LiveChannels,
    pub targets: Live<Targets>,
    pub data_dir: PathBuf,
}

/// What is remembered from look to look; `told` and `heard` also over a restart.
struct Memory {
    started: i64,
    told: BTreeMap<String, BTreeMap<String, Told>>,
    quiet: BTreeMap<String, BTreeMap<String, i64>>,
    /// Since when parts are unwell.
    unwell: BTreeMap<String, i64>,
    heard: BTreeMap<ChannelId, i64>,
    noted: BTreeMap<ChannelId, i64>,
    /// When a target that failed is tried again, and how often it failed.
    again: BTreeMap<&'static str, (i64, u32)>,
}

impl Alerting {
    pub async fn run(&self, stop: CancellationToken) {
        let mut memory = loop {
            match self.remembered().await {
                Ok(memory) => break memory,
                Err(error) => self.trouble(&error.to_string()),
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        };
        self.health.set(NAME, State::Ready);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(look_every(&self.config.now())) => {}
            }
            let looked = tokio::select! {
                () = stop.cancelled() => return,
                looked = self.look(&mut memory) => looked,
            };
            match looked {
                Ok(()) => self.health.set(NAME, State::Ready),
                Err(error) => self.trouble(&error.to_string()),
            }
        }
    }

    fn trouble(&self, error: &str) {
        let reason = format!("looking for troubles failed: {error}");
        self.health.set(NAME, State::Degraded { reason });
    }

    async fn remembered(&self) -> Result<Memory> {
        let heard = self.store.heard().await?;
        Ok(Memory {
            started: micros(self.clock.now()),
            told: self.store.told().await?,
            quiet: BTreeMap::new(),
            unwell: BTreeMap::new(),
            noted: heard.clone(),
            heard,
            again: BTreeMap::new(),
        })
    }

    async fn look(&self, memory: &mut Memory) -> Result<()> {
        let config = self.config.now();
        let facts = self.facts(&config, memory).await?;
        let now = facts.now;
        let pace = Pace {
            remind_every: in_micros(config.alerts.remind_every),
            over_after: in_micros(config.alerts.over_after),
        };
        let targets = self.targets.now();
        for name in NAMES {
            if !targets.all().iter().any(|target| target.name() == name) {
                self.health.remove(&state_name(name));
            }
        }
        for target in targets.all() {
            let name = target.name();
            let told = memory.told.entry(name.to_owned()).or_default();
            let quiet = memory.quiet.entry(name.to_owned()).or_default();
            let found = troubles(&facts, |key| told.contains_key(key));
            let known: Vec<&str> = told.keys().map(String::as_str).collect();
            settle(quiet, &known, &found, now);
            let notices = news(told, &found, quiet, pace, now);
            let (next, failures) = memory.again.get(name).copied().unwrap_or_default();
            if notices.is_empty() || now < next {
                continue;
            }
            let place = config.server.public_url.as_ref().map(|url| url.as_str());
            match target.tell(&notices, place, self.clock.now()).await {
                Ok(()) => {
                    for notice in &notices {
                        info!(key = notice.key, "told {name}: {}", headline(notice));
                    }
                    memory.again.remove(name);
                    remember(told, &notices, now);
                    self.health.set(&state_name(name), State::Ready);
                    self.store
                        .save_told(name, told.values().cloned().collect())
                        .await?;
                }
                Err(reason) => {
                    warn!(target = name, reason, "telling {name} failed, trying again");
                    let pause = AGAIN_FIRST
                        .saturating_mul(1 << failures.min(10))
                        .min(AGAIN_MAX);
                    memory
                        .again
                        .insert(name, (now + in_micros(pause), failures + 1));
                    self.health
                        .set(&state_name(name), State::Unreachable { reason });
                }
            }
        }
        Ok(())
    }

    async fn facts(&self, config: &Config, memory: &mut Memory) -> Result<Facts> {
        let now = micros(self.clock.now());
        self.listen(config, memory, now).await?;
        self.unwell(memory, now);
        let counts = self.store.counts().await?;
        let alerts = &config.alerts;
        let queues = counts.queues.iter().map(|queue| QueueFact {
            id: queue.id.as_str().to_owned(),
            oldest_enqueued_at: queue.oldest_enqueued_at,
            oldest_wait: (config.queues.get(&queue.id))
                .and_then(|queue| queue.oldest_wait)
                .map(in_micros),
        });
        let channels = self.channels.now();
        let channels = channels.values().map(|channel| {
            let fetches = fetches(channel);
            let heard_at = memory.heard.get(&channel.id).copied().unwrap_or(now);
            let own = config.channels.get(&channel.id);
            let own = own.and_then(|channel| channel.silent_after);
            ChannelFact {
                id: channel.id.as_str().to_owned(),
                // While the daemon was down it could hear nothing.
                heard_at: if fetches {
                    heard_at.max(memory.started)
                } else {
                    heard_at
                },
                silent_after: own.or(fetches.then_some(SILENT_AFTER)).map(in_micros),
            }
        });
        Ok(Facts {
            now,
            channels: channels.collect(),
            parts: self.parts(memory),
            down_after: in_micros(alerts.down_after),
            queues: queues.collect(),
            undecided_since: self.store.undecided_since().await?,
            undecided_after: in_micros(alerts.undecided_after),
            dead_letters: alerts.dead_letters.then_some(counts.dead_letters),
            held: alerts
                .outbox_held
                .then(|| counts.outbox.last().copied().unwrap_or(0)),
            disk: self.disk(alerts.disk_free_min),
        })
    }

    /// Notes what was heard; a channel is as good as heard when it is first seen.
    async fn listen(&self, config: &Config, memory: &mut Memory, now: i64) -> Result<()> {
        let latest = self.intake.last_heard();
        for id in config.channels.keys() {
            let heard = memory.heard.entry(id.clone()).or_insert(now);
            *heard = latest.get(id).copied().unwrap_or(0).max(*heard);
        }
        let newer = memory.heard.iter().filter(|(id, at)| {
            let noted = memory.noted.get(*id);
            noted.is_none_or(|noted| **at - noted >= HEARD_NOTED_EVERY_MICROS)
        });
        let newer: Vec<(ChannelId, i64)> = newer.map(|(id, at)| (id.clone(), *at)).collect();
        if !newer.is_empty() {
            self.store.save_heard(newer.clone()).await?;
            memory.noted.extend(newer);
        }
        Ok(())
    }

    fn unwell(&self, memory: &mut Memory, now: i64) {
        let states = self.health.snapshot();
        let unwell = |name: &String| states.get(name).is_some_and(|state| is_unwell(name, state));
        memory.unwell.retain(|name, _| unwell(name));
        for name in states.keys().filter(|name| unwell(name)) {
            memory.unwell.entry(name.clone()).or_insert(now);
        }
    }

    fn parts(&self, memory: &Memory) -> Vec<PartFact> {
        let states = self.health.snapshot();
        let part = |(name, since): (&String, &i64)| {
            let state = states.get(name)?;
            let reason = match state {
                State::Degraded { reason }
                | State::Unauthorized { reason }
                | State::Unreachable { reason } => reason.clone(),
                State::Starting | State::Ready => return None,
            };
            Some(PartFact {
                name: name.clone(),
                state: state.as_str(),
                reason,
                since: *since,
            })
        };
        memory.unwell.iter().filter_map(part).collect()
    }

    fn disk(&self, free_min_bytes: u64) -> Option<DiskFact> {
        let found = rustix::fs::statvfs(&self.data_dir).ok()?;
        Some(DiskFact {
            free_bytes: found.f_bavail.saturating_mul(found.f_frsize),
            free_min_bytes,
        })
    }
}

/// Whether its provider is asked by us, so that silence means that nobody answers.
fn fetches(channel: &Channel) -> bool {
    channel.connector.stream_source().is_some() || channel.connector.poll_source().is_some()
}

/// A channel that is degraded works; any other part that is does less than it should. Restored
/// answers are held ones, which are told by themselves.
fn is_unwell(name: &str, state: &State) -> bool {
    match state {
        State::Starting | State::Ready => false,
        State::Degraded { .. } => !is_channel(name) && name != "outbox",
        State::Unauthorized { .. } | State::Unreachable { .. } => true,
    }
}

fn state_name(target: &str) -> String {
    format!("{NAME}:{target}")
}

/// Often enough for the shortest time that is configured.
fn look_every(config: &Config) -> Duration {
    let alerts = &config.alerts;
    let silences = config
        .channels
        .values()
        .filter_map(|channel| channel.silent_after);
    let waits = config.queues.values().filter_map(|queue| queue.oldest_wait);
    let own = [alerts.over_after, alerts.down_after, alerts.undecided_after];
    let shortest = own.into_iter().chain(silences).chain(waits).min();
    let often = shortest.map_or(LOOK_EVERY, |shortest| shortest / 4);
    often.clamp(LOOK_MIN, LOOK_EVERY)
}

fn in_micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_does_less_than_it_should_is_told_but_a_channel_that_works() {
        let reason = || "why".to_owned();
        let degraded = State::Degraded { reason: reason() };
        let unreachable = State::Unreachable { reason: reason() };
        let unauthorized = State::Unauthorized { reason: reason() };
        let works_beside = [
            NAME,
            crate::daemon::timers::NAME,
            crate::daemon::forgetting::NAME,
            crate::daemon::indexing::INDEXING,
            crate::daemon::housekeeping::KEEPING,
            crate::daemon::housekeeping::FILES,
        ];
        let others = ["router", "tls", "config"];
        for name in works_beside.into_iter().chain(others) {
            assert!(is_unwell(name, &degraded), "{name}");
        }
        for name in ["channel:support-mail", "outbox"] {
            assert!(!is_unwell(name, &degraded), "{name}");
        }
        for name in works_beside
            .into_iter()
            .chain(["channel:support-mail", "router"])
        {
            assert!(
                is_unwell(name, &unreachable) && is_unwell(name, &unauthorized),
                "{name}"
            );
            assert!(
                !is_unwell(name, &State::Ready) && !is_unwell(name, &State::Starting),
                "{name}"
            );
        }
    }
}
