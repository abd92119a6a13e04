//! What the processes of an installation know of each other: each writes into the store how it is, so that
//! whoever tells operators tells of all of them, and any of them can be asked who there is.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use connector_api::{CancellationToken, ChannelId, Clock, QueueId};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::bus::Bus;
use crate::clock::micros;
use crate::config::Config;
use crate::health::{Health, State};
use crate::intake::Intake;
use crate::live::Live;
use crate::store::processes::Process;
use crate::store::{Result, Store};

/// Under which name its state is kept; it makes nothing unready.
pub const NAME: &str = "work:processes";
/// The same of its clock beside the database's.
pub const CLOCK: &str = "work:clock";
/// More than this and times that processes wrote are in another order than what they are of.
const SKEW_MAX_MICROS: i64 = 3 * 1_000_000;
/// How often a process says how it is.
const TOLD_EVERY: Duration = Duration::from_secs(5);
/// One that said nothing for so long is gone.
pub const GONE_AFTER_MICROS: i64 = 20 * 1_000_000;
/// Its row goes later: it may only have slept.
pub const KEPT_MICROS: i64 = 60 * 60 * 1_000_000;

/// How the processes are: this one, or all of them taken together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    pub states: BTreeMap<String, State>,
    /// When each part did last what it is there for, in UTC microseconds.
    pub worked: BTreeMap<String, i64>,
    /// When each channel last heard from its provider, in UTC microseconds.
    pub heard: BTreeMap<ChannelId, i64>,
}

/// What a process says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    pub version: String,
    pub host: String,
    pub pid: u32,
    /// Where it listens, which tells those of one host apart; an earlier version does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
    pub parts: Vec<String>,
    /// How many of the bus's partitions are its to decide.
    #[serde(default)]
    pub partitions: usize,
    /// The newest generation of the bus's topic that it knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u32>,
    /// What it has; an earlier version does not say.
    #[serde(default)]
    pub channels: Vec<ChannelId>,
    #[serde(default)]
    pub queues: Vec<QueueId>,
    #[serde(flatten)]
    pub seen: Seen,
}

impl Said {
    /// Which process it is, for people.
    pub fn name(&self) -> String {
        let Self {
            host, pid, version, ..
        } = self;
        format!("process {pid} on {host} (version {version})")
    }
}

pub struct ProcessRows {
    pub store: Arc<dyn Store>,
    pub bus: Arc<dyn Bus>,
    pub intake: Arc<Intake>,
    pub clock: Arc<dyn Clock>,
    pub health: Arc<Health>,
    pub instance: String,
    /// What this process runs.
    pub parts: Vec<String>,
    pub config: Live<Config>,
    /// Whether there may be others.
    pub is_shared: bool,
}

impl ProcessRows {
    /// Says how this process is until `stop`, and then that it is gone.
    pub async fn run(&self, stop: CancellationToken) {
        let mut change = self.bus.change();
        while !stop.is_cancelled() {
            let now = micros(self.clock.now());
            let said = serde_json::to_string(&self.said()).unwrap_or_default();
            let noted = self
                .store
                .note_process(&self.instance, said, KEPT_MICROS, now);
            let state = match noted.await {
                Ok(clock) => {
                    let after = micros(self.clock.now());
                    self.health.set(CLOCK, clock_state(now, clock, after));
                    State::Ready
                }
                Err(error) => State::Degraded {
                    reason: error.to_string(),
                },
            };
            self.health.set(NAME, state);
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(TOLD_EVERY) => {}
                // Somebody waits to hear that all know of it.
                () = changed(&mut change) => {}
            }
        }
        // What cannot be said is seen: it says nothing more.
        drop(self.store.forget_process(&self.instance).await);
    }

    fn said(&self) -> Said {
        let host = rustix::system::uname();
        let config = self.config.now();
        Said {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            host: host.nodename().to_string_lossy().into_owned(),
            pid: std::process::id(),
            listen: Some(config.server.listen),
            parts: self.parts.clone(),
            partitions: self.bus.assigned().borrow().len(),
            generation: self.bus.generation(),
            channels: config.channels.keys().cloned().collect(),
            queues: config.queues.keys().cloned().collect(),
            seen: self.own(),
        }
    }

    fn own(&self) -> Seen {
        Seen {
            states: self.health.snapshot(),
            worked: self.health.last_worked(),
            heard: self.intake.last_heard().into_iter().collect(),
        }
    }

    /// All that are there, and what they said; this one as it is now.
    pub async fn all(&self) -> Result<Vec<(Process, Said)>> {
        all(self.store.as_ref(), micros(self.clock.now())).await
    }

    /// How all processes are, taken together; this one alone, and why, where the others cannot be asked.
    pub async fn seen(&self) -> (Seen, Option<String>) {
        let own = self.own();
        if !self.is_shared {
            return (own, None);
        }
        match self.all().await {
            Ok(all) => {
                let others = all
                    .into_iter()
                    .filter(|(row, _)| row.instance != self.instance)
                    .map(|(_, said)| said.seen);
                (others.fold(own, together), None)
            }
            Err(error) => (own, Some(error.to_string())),
        }
    }
}

fn clock_state(before: i64, clock: i64, after: i64) -> State {
    match skewed(before, clock, after) {
        None => State::Ready,
        Some(reason) => State::Degraded { reason },
    }
}

/// What is wrong, and what to do about it, where the database said what time it is between two looks at our clock.
pub fn skewed(before: i64, clock: i64, after: i64) -> Option<String> {
    let ahead = (before - clock).max(0) - (clock - after).max(0);
    let way = match ahead {
        0.. => "ahead of",
        _ => "behind",
    };
    (ahead.abs() > SKEW_MAX_MICROS).then(|| {
        let seconds = ahead.abs() / 1_000_000;
        format!(
            "the clock of this host is {seconds} s {way} the database's: have NTP set both (chrony, \
             systemd-timesyncd); until then times and deadlines are wrong by as much"
        )
    })
}

/// All that are there, and what they said.
pub async fn all(store: &dyn Store, now: i64) -> Result<Vec<(Process, Said)>> {
    let rows = store.processes(GONE_AFTER_MICROS, now).await?;
    let read = |row: Process| {
        // Of another version, perhaps: what cannot be read says nothing.
        let said = serde_json::from_str(&row.said).ok()?;
        Some((row, said))
    };
    Ok(rows.into_iter().filter_map(read).collect())
}

/// Returns when there is something new of the bus's partitions.
async fn changed(change: &mut Option<watch::Receiver<Option<String>>>) {
    if let Some(change) = change
        && change.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

/// Of a part that several have, the state of the one that is worst; of what one of them does, that one's.
fn together(mut all: Seen, one: Seen) -> Seen {
    for (name, state) in one.states {
        match all.states.get(&name) {
            Some(known) if weight(known) >= weight(&state) => {}
            _ => drop(all.states.insert(name, state)),
        }
    }
    let latest = |known: &mut i64, at: i64| *known = at.max(*known);
    for (name, at) in one.worked {
        latest(all.worked.entry(name).or_default(), at);
    }
    for (channel, at) in one.heard {
        latest(all.heard.entry(channel).or_default(), at);
    }
    all
}

fn weight(state: &State) -> u8 {
    match state {
        State::Standby => 0,
        State::Ready => 1,
        State::Starting => 2,
        State::Degraded { .. } => 3,
        State::Unreachable { .. } => 4,
        State::Unauthorized { .. } => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_wrong_only_by_more_than_asking_took_and_a_few_seconds() {
        let second = 1_000_000;
        for (before, clock, after, said) in [
            (0, 0, 0, None),
            (0, 20 * second, 40 * second, None),
            (100 * second, 97 * second, 101 * second, None),
            (
                100 * second,
                95 * second,
                101 * second,
                Some("is 5 s ahead of"),
            ),
            (100 * second, 104 * second, 101 * second, None),
            (
                100 * second,
                3_700 * second,
                100 * second,
                Some("is 3600 s behind"),
            ),
        ] {
            let told = skewed(before, clock, after);
            let fits = match (&told, said) {
                (Some(told), Some(said)) => told.contains(said),
                (told, said) => told.is_none() && said.is_none(),
            };
            assert!(fits, "{told:?}, not {said:?}");
        }
    }

    #[test]
    fn of_several_processes_the_one_that_is_worst_or_does_it_is_told() {
        let because = || "why".to_owned();
        let degraded = State::Degraded { reason: because() };
        let unreachable = State::Unreachable { reason: because() };
        for (states, told) in [
            (
                vec![State::Standby, State::Ready, State::Standby],
                State::Ready,
            ),
            (
                vec![State::Standby, unreachable.clone()],
                unreachable.clone(),
            ),
            (
                vec![State::Ready, degraded.clone(), State::Ready],
                degraded.clone(),
            ),
            (vec![degraded, unreachable.clone()], unreachable),
            (vec![State::Starting, State::Ready], State::Starting),
        ] {
            let seen = |state: &State| Seen {
                states: [("part".to_owned(), state.clone())].into(),
                ..Seen::default()
            };
            let forth = states.iter().map(seen).fold(Seen::default(), together);
            let back = states
                .iter()
                .rev()
                .map(seen)
                .fold(Seen::default(), together);
            assert_eq!(forth.states["part"], told, "{states:?}");
            assert_eq!(forth, back, "whoever asks");
        }
    }
}
