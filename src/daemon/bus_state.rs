//! What the bus says about itself, as a state: a bus elsewhere can be down while everything here works.

use std::sync::Arc;

use connector_api::CancellationToken;

use crate::bus::{Bus, BusState};
use crate::health::{Health, State};

/// Under which name its state is kept.
pub const NAME: &str = "bus";
/// The same of a change to more partitions; it makes nothing unready.
const CHANGE: &str = "work:bus-grow";

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

/// Tells what of a change to more partitions is not done yet, until `stop`: somebody has to go on with it.
pub async fn follow_change(bus: Arc<dyn Bus>, health: Arc<Health>, stop: CancellationToken) {
    let Some(mut change) = bus.change() else {
        return;
    };
    loop {
        match change.borrow_and_update().clone() {
            Some(reason) => health.set(CHANGE, State::Degraded { reason }),
            None => health.remove(CHANGE),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = change.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
    }
}
