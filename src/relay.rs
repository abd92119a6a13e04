//! Tells others what happens, on topics of the bus: at least once, by one process at a time. How far a relay is,
//! is a row that it moves once everything before is acknowledged, under the epoch of its lease. It reads what is
//! committed and holds up nobody: where it cannot tell, that is a state and a lag.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use connector_api::{CancellationToken, Clock};

use crate::bus::BusError;
use crate::bus::notices::{Notice, Notices, Topic};
use crate::clock::micros;
use crate::health::{Health, State};
use crate::store::{self, StoreError};

mod events;
mod letters;

pub use events::{Events, NAME as EVENTS};
pub use letters::Letters;

/// How long brokers may take before that is said.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(5);
/// After a first failure, and after many in a row.
const PAUSE: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// What a relay copies.
#[async_trait]
pub trait Source: Send + Sync {
    /// In the name of its lease and of its state.
    fn name(&self) -> &'static str;
    fn topics(&self) -> Vec<Topic>;
    /// Begins under an epoch, where the last one left off.
    async fn take_over(&self, epoch: i64) -> store::Result<()>;
    async fn next(&self, notices: &dyn Notices) -> store::Result<Next>;
    /// Notes that what was next is acknowledged.
    async fn told(&self) -> store::Result<()>;
    /// Returns when there may be more.
    async fn more(&self);
}

/// What is to be told next.
#[derive(Debug, Default)]
pub struct Next {
    pub notices: Vec<Notice>,
    /// Whether anything moves on with these, or without them.
    pub moves: bool,
    /// Events or letters that are not told yet, and when the oldest of these was, in UTC microseconds.
    pub behind: i64,
    pub oldest: Option<i64>,
    /// Whether to go on at once.
    pub more: bool,
}

pub struct Relay<S> {
    pub source: S,
    pub notices: Arc<dyn Notices>,
    pub clock: Arc<dyn Clock>,
    pub health: Arc<Health>,
}

/// Why a relay stops for a while.
enum Trouble {
    /// Another process has it.
    Deposed,
    /// What is wrong, and where.
    Store(String),
    Bus(String),
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::StaleEpoch(_) => Self::Deposed,
            error => Self::Store(error.to_string()),
        }
    }
}

impl<S: Source> Relay<S> {
    /// The name of its state and of its lease.
    pub fn name(&self) -> String {
        format!("work:relay-{}", self.source.name())
    }

    /// Tells until `stop`, under an epoch of the lease.
    pub async fn run(&self, epoch: i64, stop: CancellationToken) {
        let working = async {
            self.work(epoch).await;
            // Another process has it: the lease will say so.
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = working => {}
            () = stop.cancelled() => {}
        }
        self.lag(0, None);
    }

    /// Tells what there is; returns once the relay is another's.
    async fn work(&self, epoch: i64) {
        let mut failures = 0;
        let mut taken = false;
        let mut prepared = Vec::new();
        loop {
            let trouble = match self.step(epoch, &mut taken, &mut prepared).await {
                Ok(more) => {
                    failures = 0;
                    self.set(State::Ready);
                    if !more {
                        self.source.more().await;
                    }
                    continue;
                }
                Err(trouble) => trouble,
            };
            match trouble {
                Trouble::Deposed => return,
                Trouble::Store(reason) => self.set(State::Degraded { reason }),
                Trouble::Bus(reason) => self.set(State::Unreachable { reason }),
            }
            let pause = PAUSE.saturating_mul(1 << failures.min(10));
            failures += 1;
            tokio::time::sleep(pause.min(PAUSE_MAX)).await;
        }
    }

    /// Tells a batch; whether there is more at once.
    async fn step(
        &self,
        epoch: i64,
        taken: &mut bool,
        prepared: &mut Vec<Topic>,
    ) -> Result<bool, Trouble> {
        if !*taken {
            self.source.take_over(epoch).await?;
            *taken = true;
        }
        let topics = self.source.topics();
        if *prepared != topics {
            self.waited(self.notices.prepare(&topics)).await?;
            *prepared = topics;
        }
        let next = self.source.next(self.notices.as_ref()).await?;
        self.lag(next.behind, next.oldest);
        if !next.notices.is_empty() {
            self.waited(self.notices.publish(next.notices)).await?;
        }
        if next.moves {
            self.source.told().await?;
        }
        if !next.more {
            self.lag(0, None);
        }
        Ok(next.more)
    }

    /// Waits for the brokers, and says so.
    async fn waited(
        &self,
        asked: impl Future<Output = Result<(), BusError>>,
    ) -> Result<(), Trouble> {
        let mut asked = std::pin::pin!(asked);
        loop {
            tokio::select! {
                answered = &mut asked => {
                    return answered.map_err(|error| Trouble::Bus(error.to_string()));
                }
                () = tokio::time::sleep(ACKNOWLEDGED_WITHIN) => {
                    let reason = "the brokers do not acknowledge what is told to others: look at them".to_owned();
                    self.set(State::Unreachable { reason });
                }
            }
        }
    }

    fn set(&self, state: State) {
        self.health.set(&self.name(), state);
    }

    fn lag(&self, behind: i64, oldest: Option<i64>) {
        let name = || self.source.name();
        let waits = oldest.map_or(0, |at| (micros(self.clock.now()) - at).max(0));
        metrics::gauge!("switchboard_relay_lag_records", "relay" => name()).set(behind as f64);
        metrics::gauge!("switchboard_relay_lag_seconds", "relay" => name()).set(waits as f64 / 1e6);
    }
}

/// Headers of a CloudEvent in binary mode.
fn cloud_event<'a>(
    attributes: impl IntoIterator<Item = (&'static str, &'a str)>,
) -> Vec<(String, Vec<u8>)> {
    let attributes = attributes.into_iter();
    attributes
        .map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()))
        .collect()
}
