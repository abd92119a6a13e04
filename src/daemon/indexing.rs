//! The search index is kept up with the log when there is time for it: after filing, never beside
//! it. A router that is behind has the writer for itself.

use std::sync::Arc;
use std::time::Duration;

use connector_api::{CancellationToken, Clock};
use tokio::time::Instant;

use crate::bus::Bus;
use crate::clock::micros;
use crate::health::{Health, State};
use crate::store::{Store, StoreError};

/// Under which name its state is kept; it makes nothing unready.
pub const INDEXING: &str = "work:search";
/// Events of one step: a few milliseconds of the writer, so that nobody waits for it noticeably.
const STEP_EVENTS: u32 = 64;
/// Records that the router may have before it for indexing to go on: those of one commit.
const LAG_RECORDS_MAX: i64 = 50;
/// How long to leave the writer alone while the router is behind, and after a first failure.
const PAUSE: Duration = Duration::from_millis(250);
/// The same after many failures in a row.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// Between two steps while the router works, as a multiple of what the last one took: a fifth of the
/// writer at most.
const REST_FACTOR: u32 = 4;
/// How long new events are gathered before a step: every step is a commit, and a search may know of
/// a message half a second later.
const GATHER: Duration = Duration::from_millis(500);
/// The index is told to be behind after this time.
const BEHIND_MICROS_MAX: i64 = 10 * 60 * 1_000_000;

const LAG_EVENTS: &str = "switchboard_search_lag_events";

/// What the steps came to.
#[derive(Default)]
struct SoFar {
    /// Failures in a row.
    failures: u32,
    /// How many events the index is behind, as far as is known, and the newest event then.
    behind: i64,
    newest: i64,
    /// Since when, in UTC microseconds.
    since: Option<i64>,
}

pub struct Indexing {
    pub store: Arc<dyn Store>,
    pub bus: Arc<dyn Bus>,
    pub clock: Arc<dyn Clock>,
    pub health: Arc<Health>,
}

impl Indexing {
    /// Follows the log until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        let mut moved = self.store.moved();
        let mut so_far = SoFar {
            newest: moved.borrow().last_event,
            ..SoFar::default()
        };
        loop {
            moved.borrow_and_update();
            let rest = tokio::select! {
                rest = self.step(&mut so_far) => rest,
                () = stop.cancelled() => return,
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = async {
                    match rest {
                        Some(rest) => tokio::time::sleep(rest).await,
                        // The sender is the store's, which is held here.
                        None => {
                            drop(moved.changed().await);
                            tokio::time::sleep(GATHER).await;
                        }
                    }
                } => {}
            }
        }
    }

    /// One step, where there is time for it; how long to rest, or `None` until something happens.
    async fn step(&self, so_far: &mut SoFar) -> Option<Duration> {
        let newest = self.store.moved().borrow().last_event;
        if self.bus.lag() > LAG_RECORDS_MAX {
            // It falls behind meanwhile, and says so.
            so_far.behind += newest - so_far.newest;
            so_far.newest = newest;
            metrics::gauge!(LAG_EVENTS).set(so_far.behind as f64);
            if so_far.behind > 0 {
                let now = micros(self.clock.now());
                self.tell(now - *so_far.since.get_or_insert(now));
            }
            return Some(PAUSE);
        }
        let begun = Instant::now();
        let failures = &mut so_far.failures;
        match self.store.index(STEP_EVENTS).await {
            Ok(indexed) => {
                *failures = 0;
                (so_far.behind, so_far.newest) = (indexed.behind, newest);
                metrics::gauge!(LAG_EVENTS).set(indexed.behind as f64);
                so_far.since = indexed.behind_since;
                let now = micros(self.clock.now());
                self.tell(so_far.since.map_or(0, |since| now - since));
                let factor = if self.bus.lag() > 0 { REST_FACTOR } else { 0 };
                (indexed.behind > 0).then(|| begun.elapsed() * factor)
            }
            Err(StoreError::Closed) => Some(PAUSE),
            Err(error) => {
                let reason = format!("indexing for search failed, trying again: {error}");
                self.health.set(INDEXING, State::Degraded { reason });
                let pause = PAUSE.saturating_mul(1 << (*failures).min(10));
                *failures += 1;
                Some(pause.min(PAUSE_MAX))
            }
        }
    }

    fn tell(&self, behind_micros: i64) {
        metrics::gauge!("switchboard_search_lag_seconds").set(behind_micros.max(0) as f64 / 1e6);
        let state = match behind_micros > BEHIND_MICROS_MAX {
            true => State::Degraded {
                reason: "search does not know the newest messages yet".to_owned(),
            },
            false => State::Ready,
        };
        self.health.set(INDEXING, state);
    }
}

#[cfg(test)]
mod tests {
    use crate::bus::local::LocalBus;
    use crate::clock::SystemClock;
    use crate::store::sqlite::SqliteStore;

    use super::*;

    fn of(store: &Arc<SqliteStore>, bus: LocalBus) -> Indexing {
        Indexing {
            bus: Arc::new(bus),
            store: store.clone(),
            clock: Arc::new(SystemClock),
            health: Arc::default(),
        }
    }

    #[tokio::test]
    async fn an_index_says_how_far_it_falls_behind_while_the_router_has_the_writer() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Arc::new(SqliteStore::open(dir.path(), &[], &[]).expect("a store"));
        let bus = LocalBus::open(store.clone()).await.expect("a log");
        let indexing = of(&store, bus);
        let mut so_far = SoFar::default();
        assert_eq!(indexing.step(&mut so_far).await, None);
        for _ in 0..=LAG_RECORDS_MAX {
            let accepted = indexing.bus.append_bytes(b"{}".to_vec(), 1).await;
            accepted.expect("a record");
        }
        for events in [40, 2] {
            let numbered = (store.writer()).run(0, move |tx| {
                tx.memory.next_seq += events;
                Ok(())
            });
            numbered.await.expect("numbers");
            assert_eq!(indexing.step(&mut so_far).await, Some(PAUSE));
        }
        assert_eq!(so_far.behind, 42);
    }

    #[tokio::test]
    async fn an_index_that_cannot_be_written_is_a_state_and_tried_ever_less_often_until_it_can() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Arc::new(SqliteStore::open(dir.path(), &[], &[]).expect("a store"));
        let sql = |sql: &'static str| {
            let done = (store.writer()).run(0, move |tx| Ok(tx.conn.batch(sql)?));
            async move { done.await.expect("it runs") }
        };
        let bus = LocalBus::open(store.clone()).await.expect("a log");
        let indexing = of(&store, bus);
        let state = || indexing.health.snapshot().get(INDEXING).cloned();
        let mut so_far = SoFar::default();
        sql("ALTER TABLE search_cursor RENAME TO elsewhere").await;
        let mut rests = Vec::new();
        for _ in 0..12 {
            rests.push(indexing.step(&mut so_far).await.expect("a rest"));
        }
        let said = state().expect("a state");
        assert_eq!(said.as_str(), "degraded");
        assert!(
            said.reason()
                .is_some_and(|why| why.contains("search_cursor"))
        );
        assert_eq!(rests.first(), Some(&PAUSE));
        assert!(
            rests.is_sorted() && rests.last() == Some(&PAUSE_MAX),
            "{rests:?}"
        );

        sql("ALTER TABLE elsewhere RENAME TO search_cursor").await;
        assert_eq!(indexing.step(&mut so_far).await, None);
        assert_eq!((state(), so_far.failures), (Some(State::Ready), 0));
    }
}
