//! An intake that remembers what it took, and that can be slow or broken on command.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use connector_api::{Cursor, Error, InboundBatch, InboundEvent, Intake, Result, async_trait};
use tokio::sync::watch;

/// Stands in for the bus. [`Intake::accept`] returns once the batch is recorded, as the real one
/// returns once it is durable.
pub struct RecordingIntake {
    state: Mutex<State>,
    /// Counts changes, so that tests wait for a state and never for a time.
    changes: watch::Sender<u64>,
    held: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    events: Vec<InboundEvent>,
    cursor: Option<Cursor>,
    failures_left: usize,
    /// Batches refused so far.
    refused: usize,
    accepting: usize,
    accepting_max: usize,
    degraded: Option<String>,
}

impl RecordingIntake {
    pub fn new() -> Self {
        Self {
            state: Mutex::default(),
            changes: watch::Sender::new(0),
            held: watch::Sender::new(false),
        }
    }

    /// Begins with the cursor of an earlier run, as after a restart.
    pub fn resuming(cursor: Option<Cursor>) -> Self {
        let intake = Self::new();
        intake.state().cursor = cursor;
        intake
    }

    /// From now on `accept` waits until [`RecordingIntake::release`].
    pub fn hold(&self) {
        self.held.send_replace(true);
    }

    pub fn release(&self) {
        self.held.send_replace(false);
    }

    /// The next `count` batches with events are refused before anything is recorded: the process
    /// died, or the disk did, before the commit. A cursor alone is still taken, so that one which
    /// was sent ahead of its events is found out.
    pub fn fail_next(&self, count: usize) {
        self.state().failures_left = count;
    }

    /// What the source last said that a person should mend.
    pub fn degraded(&self) -> Option<String> {
        self.state().degraded.clone()
    }

    pub fn events(&self) -> Vec<InboundEvent> {
        self.state().events.clone()
    }

    /// The keys in the order of acceptance.
    pub fn keys(&self) -> Vec<String> {
        let state = self.state();
        let keys = state
            .events
            .iter()
            .map(|event| event.dedupe_key.to_string());
        keys.collect()
    }

    /// The cursor of the last accepted batch that had one.
    pub fn cursor(&self) -> Option<Cursor> {
        self.state().cursor.clone()
    }

    /// The most `accept` calls that were under way at once.
    pub fn accepting_max(&self) -> usize {
        self.state().accepting_max
    }

    /// Waits until at least `count` events were accepted.
    pub async fn wait_for_events(&self, count: usize) -> std::result::Result<(), String> {
        self.wait(&format!("{count} events"), |state| {
            state.events.len() >= count
        })
        .await
    }

    /// Waits until a cursor was accepted, with events or without.
    pub async fn wait_for_cursor(&self) -> std::result::Result<(), String> {
        self.wait("a cursor", |state| state.cursor.is_some()).await
    }

    /// Waits until a call to `accept` is under way: with a held intake, until it is stuck.
    pub async fn wait_for_a_call(&self) -> std::result::Result<(), String> {
        self.wait("a call of accept", |state| state.accepting > 0)
            .await
    }

    /// Waits until `count` batches were refused.
    pub async fn wait_for_refusals(&self, count: usize) -> std::result::Result<(), String> {
        self.wait(&format!("{count} refused batches"), |state| {
            state.refused >= count
        })
        .await
    }

    async fn wait(
        &self,
        what: &str,
        reached: impl Fn(&State) -> bool,
    ) -> std::result::Result<(), String> {
        let mut changes = self.changes.subscribe();
        let wait = changes.wait_for(|_| reached(&self.state()));
        match tokio::time::timeout(wait_max(), wait).await {
            Ok(_) => Ok(()),
            Err(_) => {
                let found = self.state().events.len();
                Err(format!(
                    "waited {:?} for {what}; {found} events were accepted",
                    wait_max()
                ))
            }
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changes.send_modify(|count| *count += 1);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Longest wait for anything in this kit, in milliseconds: only a failing test waits so long.
static WAIT_MAX_MS: AtomicU64 = AtomicU64::new(30_000);

pub(crate) fn wait_max() -> Duration {
    Duration::from_millis(WAIT_MAX_MS.load(Ordering::Relaxed))
}

/// Shortens every wait of this process: for tests of the kit, where most cases fail on purpose.
#[doc(hidden)]
pub fn set_wait_max(wait_max: Duration) {
    let ms = u64::try_from(wait_max.as_millis()).unwrap_or(u64::MAX);
    WAIT_MAX_MS.store(ms, Ordering::Relaxed);
}

impl Default for RecordingIntake {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Intake for RecordingIntake {
    async fn accept(&self, batch: InboundBatch) -> Result<()> {
        self.change(|state| {
            state.accepting += 1;
            state.accepting_max = state.accepting_max.max(state.accepting);
        });
        let _leaving = Leaving(self);
        let mut held = self.held.subscribe();
        if held.wait_for(|held| !held).await.is_err() {
            return Err(Error::unavailable("the intake is gone"));
        }
        let mut refused = false;
        self.change(|state| {
            refused = state.failures_left > 0 && !batch.events.is_empty();
            if refused {
                state.failures_left -= 1;
                state.refused += 1;
                return;
            }
            state.events.extend(batch.events);
            state.cursor = batch.cursor.or_else(|| state.cursor.take());
        });
        match refused {
            true => Err(Error::unavailable("the intake was told to fail")),
            false => Ok(()),
        }
    }

    fn degraded(&self, reason: Option<&str>) {
        self.change(|state| state.degraded = reason.map(str::to_owned));
    }
}

/// Ends a call also when its future is dropped, as on a stop.
struct Leaving<'a>(&'a RecordingIntake);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.change(|state| state.accepting -= 1);
    }
}
