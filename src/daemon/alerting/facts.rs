//! What is known of the daemon now. Where the store does not answer, the rest is known all the same.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use connector_api::ChannelId;

use crate::alerts::{ChannelFact, DiskFact, Facts, LaneFact, PartFact, QueueFact};
use crate::channels::Channel;
use crate::clock::micros;
use crate::config::Config;
use crate::health::State;
use crate::store::{Counts, Result};

use super::super::processes::Seen;
use super::parts::{Configured, is_unwell, unproven};
use super::{Alerting, in_micros};

/// Of a channel that fetches and says nothing else: IMAP hears its server every nine minutes.
const SILENT_AFTER: Duration = Duration::from_secs(15 * 60);

/// What was noticed from look to look.
#[derive(Default)]
pub struct Noticed {
    pub started: i64,
    /// Since when parts are unwell.
    unwell: BTreeMap<String, i64>,
    /// When each channel was last heard; over a restart, too.
    pub heard: BTreeMap<ChannelId, i64>,
}

/// What the store knows; `None` where it did not answer.
struct Stored {
    counts: Option<Counts>,
    undecided_since: Option<Option<i64>>,
    due_since: Option<BTreeMap<ChannelId, i64>>,
}

impl Alerting {
    /// The facts, and why some are missing.
    pub(super) async fn facts(
        &self,
        config: &Config,
        noticed: &mut Noticed,
    ) -> (Facts, Option<String>) {
        let now = micros(self.clock.now());
        let (seen, mut missing) = self.processes.seen().await;
        listen(&seen, config, noticed, now);
        let stored = Stored {
            counts: noted(self.store.counts().await, &mut missing),
            undecided_since: noted(self.store.undecided_since().await, &mut missing),
            due_since: noted(self.store.due_since(now).await, &mut missing),
        };
        let alerts = &config.alerts;
        let disk = disk(&self.data_dir, alerts.disk_free_min);
        let mut unknown = stored.unknown();
        if disk.is_none() {
            unknown.push("disk".to_owned());
        }
        let states = seen.states;
        let configured = self.configured(stored.due_since.as_ref());
        let unproven = unproven(&states, &seen.worked, &configured);
        unknown.extend(unproven.into_iter().map(|name| format!("part:{name}")));
        let counts = stored.counts.unwrap_or_default();
        let channels = self.channels.now();
        let channels = channels.values();
        let facts = Facts {
            now,
            channels: channels
                .map(|channel| channel_fact(channel, config, noticed, now))
                .collect(),
            parts: noticed.unwell(&states, now),
            down_after: in_micros(alerts.down_after),
            lanes: (stored.due_since.into_iter().flatten())
                .map(|(channel, due_since)| LaneFact {
                    channel: channel.as_str().to_owned(),
                    due_since,
                })
                .collect(),
            unsent_after: in_micros(alerts.unsent_after),
            queues: (counts.queues.iter())
                .map(|queue| QueueFact {
                    id: queue.id.as_str().to_owned(),
                    oldest_enqueued_at: queue.oldest_enqueued_at,
                    oldest_wait: (config.queues.get(&queue.id))
                        .and_then(|queue| queue.oldest_wait)
                        .map(in_micros),
                })
                .collect(),
            undecided_since: stored.undecided_since.flatten(),
            undecided_after: in_micros(alerts.undecided_after),
            dead_letters: alerts.dead_letters.then_some(counts.dead_letters),
            held: alerts
                .outbox_held
                .then(|| counts.outbox.last().copied().unwrap_or(0)),
            disk,
            unknown,
        };
        (facts, missing)
    }

    fn configured(&self, due: Option<&BTreeMap<ChannelId, i64>>) -> Vec<Configured> {
        let channels = self.channels.now();
        let channel = |channel: &std::sync::Arc<Channel>| Configured {
            id: channel.id.as_str().to_owned(),
            sends: channel.connector.sender().is_some(),
            due: due.is_none_or(|due| due.contains_key(&channel.id)),
        };
        channels.values().map(channel).collect()
    }
}

/// Notes what was heard; a channel is as good as heard when it is first seen.
fn listen(seen: &Seen, config: &Config, noticed: &mut Noticed, now: i64) {
    for id in config.channels.keys() {
        let heard = noticed.heard.entry(id.clone()).or_insert(now);
        *heard = seen.heard.get(id).copied().unwrap_or(0).max(*heard);
    }
}

impl Stored {
    /// Troubles that nothing can be said of.
    fn unknown(&self) -> Vec<String> {
        let counted: &[&str] = &["oldest_wait:", "dead_letters", "outbox_held"];
        let missing = [
            (self.counts.is_none(), counted),
            (self.undecided_since.is_none(), &["undecided"]),
            (self.due_since.is_none(), &["unsent:"]),
        ];
        let missing = missing.into_iter().filter(|(is_missing, _)| *is_missing);
        missing
            .flat_map(|(_, keys)| keys.iter().map(|key| (*key).to_owned()))
            .collect()
    }
}

impl Noticed {
    /// The parts that are unwell now, and since when.
    fn unwell(&mut self, states: &BTreeMap<String, State>, now: i64) -> Vec<PartFact> {
        let unwell = |name: &String| states.get(name).is_some_and(|state| is_unwell(name, state));
        self.unwell.retain(|name, _| unwell(name));
        for name in states.keys().filter(|name| unwell(name)) {
            self.unwell.entry(name.clone()).or_insert(now);
        }
        let part = |(name, since): (&String, &i64)| {
            let state = states.get(name)?;
            Some(PartFact {
                name: name.clone(),
                state: state.as_str(),
                reason: state.reason()?.to_owned(),
                since: *since,
            })
        };
        self.unwell.iter().filter_map(part).collect()
    }
}

fn channel_fact(channel: &Channel, config: &Config, noticed: &Noticed, now: i64) -> ChannelFact {
    let fetches = fetches(channel);
    let own = config.channels.get(&channel.id);
    let own = own.and_then(|channel| channel.silent_after);
    ChannelFact {
        id: channel.id.as_str().to_owned(),
        heard_at: noticed.heard.get(&channel.id).copied().unwrap_or(now),
        listens_since: if fetches { noticed.started } else { 0 },
        silent_after: own.or(fetches.then_some(SILENT_AFTER)).map(in_micros),
    }
}

fn disk(data_dir: &Path, free_min_bytes: u64) -> Option<DiskFact> {
    let found = rustix::fs::statvfs(data_dir).ok()?;
    Some(DiskFact {
        free_bytes: found.f_bavail.saturating_mul(found.f_frsize),
        free_min_bytes,
    })
}

fn noted<T>(answer: Result<T>, missing: &mut Option<String>) -> Option<T> {
    answer
        .map_err(|error| *missing = Some(error.to_string()))
        .ok()
}

/// Whether its provider is asked by us, so that silence means that nobody answers.
fn fetches(channel: &Channel) -> bool {
    channel.connector.stream_source().is_some() || channel.connector.poll_source().is_some()
}
