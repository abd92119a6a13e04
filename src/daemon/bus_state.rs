//! What the bus says about itself, as a state: a bus elsewhere can be down while everything here works.

use std::sync::Arc;

use connector_api::CancellationToken;

use crate::bus::{Bus, BusState};
use crate::health::{Health, State};

/// Under which name its state is kept.
pub const NAME: &str = "bus";

/// Tells the bus's state until `stop`. Of one that was never anything but ready nothing is told.
pub async fn follow(bus: Arc<dyn Bus>, health: Arc<Health>, stop: CancellationToken) {
    let mut state = bus.state();
    let mut told = false;
    loop {
        let now = state.borrow_and_update().clone();
        if told || now != BusState::Ready {
            told = true;
            health.set(
                NAME,
                match now {
                    BusState::Starting => State::Starting,
                    BusState::Ready => State::Ready,
                    BusState::Down(reason) => State::Unreachable { reason },
                },
            );
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = state.changed() => {
                if changed.is_err() {
                    return stop.cancelled().await;
                }
            }
        }
    }
}
