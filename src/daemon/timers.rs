//! The clock of what sleeps: wakes snoozed conversations when their time has come.

use std::sync::Arc;
use std::time::Duration;

use connector_api::{CancellationToken, Clock};
use tracing::warn;

use crate::api::TIMERS;
use crate::clock::micros;
use crate::health::{Health, State};
use crate::store::{Store, StoreError};
use crate::wake::Wakes;

/// Under which name its state is kept; it makes nothing unready.
pub const NAME: &str = "work:timers";
/// Woken in one commit.
const WOKEN_MAX: u32 = 500;
/// Looks even when nobody rang.
const LOOK_EVERY: Duration = Duration::from_secs(60);

pub struct Timers {
    pub store: Arc<dyn Store>,
    pub clock: Arc<dyn Clock>,
    /// Rung under [`TIMERS`] when something is put off, and under a queue's id by what wakes.
    pub queues: Arc<Wakes>,
    pub health: Arc<Health>,
}

impl Timers {
    pub async fn run(&self, stop: CancellationToken) {
        let bell = self.queues.bell(TIMERS);
        while !stop.is_cancelled() {
            let rung = bell.notified();
            let rest = self.look().await;
            tokio::select! {
                () = tokio::time::sleep(rest) => {}
                () = rung => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Wakes what is due; says how long nothing is.
    async fn look(&self) -> Duration {
        let now = micros(self.clock.now());
        let woken = match self.store.wake_due(WOKEN_MAX, now).await {
            Ok(woken) => woken,
            Err(StoreError::Closed) => return LOOK_EVERY,
            Err(error) => {
                warn!(error = %error, "waking snoozed conversations failed, trying again");
                let reason = error.to_string();
                self.health.set(NAME, State::Degraded { reason });
                return LOOK_EVERY;
            }
        };
        self.health.set(NAME, State::Ready);
        for queue in &woken.rings.queues {
            self.queues.ring(queue.as_str());
        }
        let until = woken.next.map_or(i64::MAX, |next| next - now);
        Duration::from_micros(u64::try_from(until).unwrap_or(0)).min(LOOK_EVERY)
    }
}
