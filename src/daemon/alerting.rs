//! Looks at what is known of the daemon and tells whoever wants to know. What was told is kept, so
//! that a restart repeats nothing; a target that does not take it is asked again, and is a state.
//! Nothing stands before telling: neither a disk that takes nothing nor a slow target.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use connector_api::{CancellationToken, ChannelId, Clock};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::Instant;
use tracing::{info, warn};

use super::processes::ProcessRows;
use crate::alerts::{Notice, Pace, Told, headline, lower, news, remember, settle, troubles};
use crate::channels::LiveChannels;
use crate::clock::micros;
use crate::config::Config;
use crate::health::{Health, State};
use crate::live::Live;
use crate::store::{self, Store};

mod facts;
mod parts;
mod targets;

use facts::Noticed;
pub use targets::{Targets, targets};

/// Under which name its own state is kept; targets' names follow it.
pub const NAME: &str = "work:alerts";
/// Looks at least so often.
const LOOK_EVERY: Duration = Duration::from_secs(15);
const LOOK_MIN: Duration = Duration::from_millis(250);
/// What was heard is noted for the next start when it is so much newer.
const HEARD_NOTED_EVERY_MICROS: i64 = 60 * 1_000_000;
/// Pauses between tries to tell a target.
const AGAIN_FIRST: Duration = Duration::from_secs(5);
const AGAIN_MAX: Duration = Duration::from_secs(10 * 60);
/// How long what is being told and written down may still take when the daemon stops.
const FINISH_MAX: Duration = Duration::from_secs(2);

pub struct Alerting {
    pub store: Arc<dyn Store>,
    pub processes: Arc<ProcessRows>,
    pub clock: Arc<dyn Clock>,
    pub health: Arc<Health>,
    pub config: Live<Config>,
    pub channels: LiveChannels,
    pub targets: Live<Targets>,
    pub data_dir: PathBuf,
}

/// What is remembered from look to look; what was told and heard also over a restart.
#[derive(Default)]
struct Memory {
    noticed: Noticed,
    /// By target, then by trouble.
    told: BTreeMap<String, BTreeMap<String, Told>>,
    quiet: BTreeMap<String, BTreeMap<String, i64>>,
    /// When a target that failed is tried again, and how often it failed.
    again: BTreeMap<String, (i64, u32)>,
    /// Targets that are being told something now.
    telling: BTreeSet<String>,
    /// Targets whose told troubles are to be written down, and what of the heard is.
    unsaved: BTreeSet<String>,
    saved: BTreeMap<ChannelId, i64>,
    /// What fails.
    unread: Option<String>,
    unwritten: Option<String>,
}

/// What a target is told.
struct Telling {
    targets: Arc<Targets>,
    /// Which of them.
    place: usize,
    key: String,
    notices: Vec<Notice>,
    at: i64,
    public_url: Option<String>,
}

/// What is written down for the next start.
struct Saving {
    told: Vec<(String, Vec<Told>)>,
    heard: Vec<(ChannelId, i64)>,
}

impl Alerting {
    pub async fn run(&self, stop: CancellationToken) {
        let Some(mut memory) = stop.run_until_cancelled(self.remembered()).await else {
            return;
        };
        self.say(&memory);
        let (mut tellings, mut savings) = (FuturesUnordered::new(), FuturesUnordered::new());
        let mut next = Instant::now() + look_every(&self.config.now());
        while !stop.is_cancelled() {
            tokio::select! {
                () = stop.cancelled() => {}
                Some((telling, outcome)) = tellings.next() => {
                    self.after_telling(&mut memory, &telling, outcome);
                }
                Some((saving, outcome)) = savings.next() => {
                    self.after_saving(&mut memory, saving, outcome);
                    if memory.unwritten.is_some() {
                        // Again with the next look.
                        continue;
                    }
                }
                () = tokio::time::sleep_until(next) => {
                    if let Some(found) = stop.run_until_cancelled(self.look(&mut memory)).await {
                        tellings.extend(found.into_iter().map(|telling| self.tell(telling)));
                    }
                    next = Instant::now() + look_every(&self.config.now());
                }
            }
            if savings.is_empty() {
                savings.extend(memory.saving().map(|saving| self.save(saving)));
            }
        }
        let finish = async {
            while let Some((telling, outcome)) = tellings.next().await {
                self.after_telling(&mut memory, &telling, outcome);
            }
            while let Some((saving, outcome)) = savings.next().await {
                self.after_saving(&mut memory, saving, outcome);
            }
            if let Some(saving) = memory.saving() {
                let (saving, outcome) = self.save(saving).await;
                self.after_saving(&mut memory, saving, outcome);
            }
        };
        if tokio::time::timeout(FINISH_MAX, finish).await.is_err() {
            warn!("what was being told did not end within {FINISH_MAX:?}, cut off");
        }
    }

    /// What earlier processes told and heard.
    async fn remembered(&self) -> Memory {
        let started = micros(self.clock.now());
        loop {
            let read =
                async { store::Result::Ok((self.store.told().await?, self.store.heard().await?)) };
            match read.await {
                Ok((told, heard)) => {
                    let mut memory = Memory {
                        told,
                        saved: heard.clone(),
                        ..Memory::default()
                    };
                    (memory.noticed.started, memory.noticed.heard) = (started, heard);
                    return memory;
                }
                Err(error) => self.say(&Memory {
                    unread: Some(error.to_string()),
                    ..Memory::default()
                }),
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn say(&self, memory: &Memory) {
        let reason = match (&memory.unread, &memory.unwritten) {
            (Some(error), _) => format!("looking for troubles failed: {error}"),
            (None, Some(error)) => {
                format!("what was told cannot be noted, a restart may repeat it: {error}")
            }
            (None, None) => return self.health.set(NAME, State::Ready),
        };
        self.health.set(NAME, State::Degraded { reason });
    }

    /// What is news to whom.
    async fn look(&self, memory: &mut Memory) -> Vec<Telling> {
        let config = self.config.now();
        let (facts, missing) = self.facts(&config, &mut memory.noticed).await;
        memory.unread = missing;
        self.say(memory);
        let now = facts.now;
        let pace = Pace {
            remind_every: in_micros(config.alerts.remind_every),
            over_after: in_micros(config.alerts.over_after),
        };
        let targets = self.targets.now();
        self.forget_others(memory, &targets);
        let mut tellings = Vec::new();
        for (place, target) in targets.all().iter().enumerate() {
            let key = target.key();
            let told = memory.told.entry(key.clone()).or_default();
            let quiet = memory.quiet.entry(key.clone()).or_default();
            let found = troubles(&facts, told);
            let known: Vec<&str> = told.keys().map(String::as_str).collect();
            settle(quiet, &known, &found, now);
            if lower(told, &found) {
                memory.unsaved.insert(key.clone());
            }
            let notices = news(told, &found, quiet, pace, now);
            let (next, _) = memory.again.get(&key).copied().unwrap_or_default();
            if notices.is_empty() || now < next || !memory.telling.insert(key.clone()) {
                continue;
            }
            let public_url = config.server.public_url.as_ref();
            tellings.push(Telling {
                targets: targets.clone(),
                place,
                key,
                notices,
                at: now,
                public_url: public_url.map(|url| url.as_str().to_owned()),
            });
        }
        tellings
    }

    /// Whoever is no target any more knows nothing when they are one again.
    fn forget_others(&self, memory: &mut Memory, targets: &Targets) {
        let keys: BTreeSet<String> = targets.all().iter().map(|target| target.key()).collect();
        let gone = memory.told.keys().filter(|key| !keys.contains(*key));
        for key in gone.cloned().collect::<Vec<_>>() {
            memory.told.remove(&key);
            memory.quiet.remove(&key);
            memory.again.remove(&key);
            let name = key.split(':').next().unwrap_or_default();
            self.health.remove(&state_name(name));
            memory.unsaved.insert(key);
        }
    }

    async fn tell(&self, telling: Telling) -> (Telling, Result<(), String>) {
        let Some(target) = telling.targets.all().get(telling.place) else {
            return (telling, Ok(()));
        };
        let (notices, place) = (&telling.notices, telling.public_url.as_deref());
        let outcome = target.tell(notices, place, self.clock.now()).await;
        (telling, outcome)
    }

    fn after_telling(&self, memory: &mut Memory, telling: &Telling, outcome: Result<(), String>) {
        let key = &telling.key;
        memory.telling.remove(key);
        let (Some(told), Some(target)) = (
            memory.told.get_mut(key),
            telling.targets.all().get(telling.place),
        ) else {
            return;
        };
        let name = target.name();
        match outcome {
            Ok(()) => {
                for notice in &telling.notices {
                    info!(key = notice.key, "told {name}: {}", headline(notice));
                }
                memory.again.remove(key);
                remember(told, &telling.notices, telling.at);
                memory.unsaved.insert(key.clone());
                self.health.set(&state_name(name), State::Ready);
            }
            Err(reason) => {
                warn!(target = name, reason, "telling {name} failed, trying again");
                let (_, failures) = memory.again.get(key).copied().unwrap_or_default();
                let pause = AGAIN_FIRST
                    .saturating_mul(1 << failures.min(10))
                    .min(AGAIN_MAX);
                let next = micros(self.clock.now()) + in_micros(pause);
                memory.again.insert(key.clone(), (next, failures + 1));
                self.health
                    .set(&state_name(name), State::Unreachable { reason });
            }
        }
    }

    async fn save(&self, saving: Saving) -> (Saving, store::Result<()>) {
        let write = async {
            for (target, told) in &saving.told {
                self.store.save_told(target, told.clone()).await?;
            }
            match saving.heard.is_empty() {
                true => Ok(()),
                false => self.store.save_heard(saving.heard.clone()).await,
            }
        };
        let outcome = write.await;
        (saving, outcome)
    }

    fn after_saving(&self, memory: &mut Memory, saving: Saving, outcome: store::Result<()>) {
        memory.unwritten = outcome.err().map(|error| error.to_string());
        match memory.unwritten {
            None => memory.saved.extend(saving.heard),
            Some(_) => {
                let again = saving.told.into_iter().map(|(target, _)| target);
                memory.unsaved.extend(again);
            }
        }
        self.say(memory);
    }
}

impl Memory {
    /// What is to be written down now.
    fn saving(&mut self) -> Option<Saving> {
        let told = mem::take(&mut self.unsaved).into_iter().map(|target| {
            let told = self.told.get(&target);
            let told = told.map(|told| told.values().cloned().collect());
            (target, told.unwrap_or_default())
        });
        let told: Vec<_> = told.collect();
        let newer = self.noticed.heard.iter().filter(|(id, at)| {
            let saved = self.saved.get(*id);
            saved.is_none_or(|saved| **at - saved >= HEARD_NOTED_EVERY_MICROS)
        });
        let heard: Vec<_> = newer.map(|(id, at)| (id.clone(), *at)).collect();
        (!told.is_empty() || !heard.is_empty()).then_some(Saving { told, heard })
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
    let own = [
        alerts.over_after,
        alerts.down_after,
        alerts.unsent_after,
        alerts.undecided_after,
    ];
    let shortest = own.into_iter().chain(silences).chain(waits).min();
    let often = shortest.map_or(LOOK_EVERY, |shortest| shortest / 4);
    often.clamp(LOOK_MIN, LOOK_EVERY)
}

fn in_micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
