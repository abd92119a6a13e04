//! Whether the database is there. One that is elsewhere can be down while everything here works.

use std::sync::Arc;
use std::time::Duration;

use connector_api::{CancellationToken, Clock};

use crate::clock::micros;
use crate::health::{Health, State};
use crate::store::{Store, StoreError};

/// Under which name its state is kept.
pub const NAME: &str = "store";
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// The same while it is away.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

pub struct StoreState {
    pub store: Arc<dyn Store>,
    pub clock: Arc<dyn Clock>,
    pub health: Arc<Health>,
}

impl StoreState {
    /// Says how it is, until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let rest = self.look().await;
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(rest) => {}
            }
        }
    }

    async fn look(&self) -> Duration {
        let state = match self.store.probe(micros(self.clock.now())).await {
            Ok(()) => State::Ready,
            Err(StoreError::Closed) => return LOOK_EVERY,
            Err(error) => state_of(&error),
        };
        let rest = match state {
            State::Unreachable { .. } => AGAIN_AFTER,
            _ => LOOK_EVERY,
        };
        self.health.set(NAME, state);
        rest
    }
}

/// Says of a database of one's own when its disk has damaged it.
pub async fn tell_damage(health: Arc<Health>, stop: CancellationToken) {
    let mut found = crate::store::sqlite::damage::found();
    let met = tokio::select! {
        () = stop.cancelled() => return,
        met = found.wait_for(Option::is_some) => met,
    };
    if let Some(reason) = met.ok().and_then(|met| met.clone()) {
        health.set(NAME, State::Degraded { reason });
    }
    // Once found it stays: no later look would find the page whole.
    stop.cancelled().await;
}

/// What a failure says of the database: that it is away, or that a person has to see to it.
pub fn state_of(error: &StoreError) -> State {
    let reason = error.to_string();
    match error {
        StoreError::Unauthorized(_) | StoreError::Forbidden(_) => State::Unauthorized { reason },
        _ => State::Unreachable { reason },
    }
}
