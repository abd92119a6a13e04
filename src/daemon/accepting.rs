//! Whether messages are accepted. What is refused because nothing can be written (a full disk) is a
//! state at once, and until something can be: whoever was refused may come back only hours later.

use std::sync::Arc;
use std::time::Duration;

use connector_api::{CancellationToken, Clock};

use crate::bus::Bus;
use crate::clock::micros;
use crate::health::{Health, State};
use crate::intake::Intake;

/// Under which name its state is kept.
pub const NAME: &str = "intake";
/// Between two tries to write while nobody brings anything: a disk may be full in a quiet night.
const TRIED_EVERY: Duration = Duration::from_secs(60);
/// The same while messages are refused.
const TRIED_AGAIN_EVERY: Duration = Duration::from_secs(5);

pub struct Accepting {
    pub intake: Arc<Intake>,
    pub bus: Arc<dyn Bus>,
    pub clock: Arc<dyn Clock>,
    pub health: Arc<Health>,
}

impl Accepting {
    /// Says how it is, until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        let mut refusals = self.intake.refusals();
        let mut rest = self.try_writing().await;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                // The sender is the intake's, which is held here.
                changed = refusals.changed() => {
                    drop(changed);
                    let reason = refusals.borrow_and_update().clone();
                    // The first reason of many: under load they would fill the log.
                    if rest != TRIED_AGAIN_EVERY {
                        rest = self.refused(&reason);
                    }
                }
                () = tokio::time::sleep(rest) => rest = self.try_writing().await,
            }
        }
    }

    fn refused(&self, reason: &str) -> Duration {
        let reason = format!("messages are refused: {reason}");
        self.health.set(NAME, State::Degraded { reason });
        TRIED_AGAIN_EVERY
    }

    /// Says how long to rest.
    async fn try_writing(&self) -> Duration {
        match self.bus.probe(micros(self.clock.now())).await {
            Ok(()) => self.health.set(NAME, State::Ready),
            Err(error) => return self.refused(&error.to_string()),
        }
        TRIED_EVERY
    }
}
