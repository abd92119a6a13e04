//! Tells others what happens, on topics of the bus: at least once, by one process at a time. A relay holds a
//! lease; how far it is, is a row that it moves once everything before is acknowledged, under the epoch of its
//! lease. It reads what is committed and holds up nobody: where it cannot tell, that is a state and a lag.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use connector_api::{CancellationToken, Clock};
use tokio::time::Instant;

use crate::bus::BusError;
use crate::bus::notices::{Notice, Notices, Topic};
use crate::clock::micros;
use crate::health::{Health, State};
use crate::store::leases::Lease;
use crate::store::{self, Store, StoreError};

mod events;
mod letters;

pub use events::Events;
pub use letters::Letters;

/// How long a relay's lease holds without being renewed, and how often it is renewed or asked for: the work of
/// a process that died is elsewhere within ten seconds.
const LEASE: Duration = Duration::from_secs(6);
const RENEW_EVERY: Duration = Duration::from_secs(2);
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
    pub store: Arc<dyn Store>,
    pub notices: Arc<dyn Notices>,
    pub clock: Arc<dyn Clock>,
    pub health: Arc<Health>,
    /// This process, and no other one that ever was.
    pub holder: String,
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
    /// The name of its state.
    pub fn state_name(source: &S) -> String {
        format!("work:relay-{}", source.name())
    }

    /// Tells until `stop`, whenever the lease is this process's.
    pub async fn run(&self, stop: CancellationToken) {
        loop {
            let asked = Instant::now();
            let rest = match self.take().await {
                Ok(Some(lease)) => {
                    tokio::select! {
                        () = self.keep(&lease, asked) => {}
                        () = self.work(lease.epoch) => {}
                        () = stop.cancelled() => {
                            // Otherwise it is over by itself, a little later.
                            self.store.give_up_lease(&lease).await.ok();
                            return;
                        }
                    }
                    PAUSE
                }
                Ok(None) => {
                    // Another process tells, and says how far it is.
                    self.set(State::Ready);
                    self.lag(0, None);
                    RENEW_EVERY
                }
                Err(StoreError::Closed) => RENEW_EVERY,
                Err(error) => {
                    let reason = format!("asking for its lease failed, trying again: {error}");
                    self.set(State::Degraded { reason });
                    RENEW_EVERY
                }
            };
            tokio::select! {
                () = tokio::time::sleep(rest) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    async fn take(&self) -> store::Result<Option<Lease>> {
        let name = format!("relay-{}", self.source.name());
        let (lease_us, now) = (LEASE.as_micros() as i64, micros(self.clock.now()));
        self.store
            .take_lease(&name, &self.holder, lease_us, now)
            .await
    }

    /// Renews the lease; returns once it is, or may be, another's.
    async fn keep(&self, lease: &Lease, asked: Instant) {
        let mut over = asked + LEASE;
        loop {
            tokio::time::sleep(RENEW_EVERY).await;
            let asked = Instant::now();
            let (lease_us, now) = (LEASE.as_micros() as i64, micros(self.clock.now()));
            let renewing = self.store.renew_lease(lease, lease_us, now);
            match tokio::time::timeout_at(over, renewing).await {
                Ok(Ok(Some(_))) => over = asked + LEASE,
                Ok(Err(_)) if Instant::now() < over => {}
                _ => return,
            }
        }
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
            self.notices.prepare(&topics).await.map_err(bus)?;
            *prepared = topics;
        }
        let next = self.source.next(self.notices.as_ref()).await?;
        self.lag(next.behind, next.oldest);
        if !next.notices.is_empty() {
            self.publish(next.notices).await?;
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
    async fn publish(&self, notices: Vec<Notice>) -> Result<(), Trouble> {
        let mut publishing = std::pin::pin!(self.notices.publish(notices));
        loop {
            tokio::select! {
                published = &mut publishing => return published.map_err(bus),
                () = tokio::time::sleep(ACKNOWLEDGED_WITHIN) => {
                    let reason = "the brokers do not acknowledge what is told to others: look at them".to_owned();
                    self.set(State::Unreachable { reason });
                }
            }
        }
    }

    fn set(&self, state: State) {
        self.health.set(&Self::state_name(&self.source), state);
    }

    fn lag(&self, behind: i64, oldest: Option<i64>) {
        let name = || self.source.name();
        let waits = oldest.map_or(0, |at| (micros(self.clock.now()) - at).max(0));
        metrics::gauge!("switchboard_relay_lag_records", "relay" => name()).set(behind as f64);
        metrics::gauge!("switchboard_relay_lag_seconds", "relay" => name()).set(waits as f64 / 1e6);
    }
}

fn bus(error: BusError) -> Trouble {
    Trouble::Bus(error.to_string())
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
