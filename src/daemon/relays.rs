//! What is told to others on topics of the bus, where others read it: by one process at a time.

use std::sync::Arc;

use connector_api::CancellationToken;

use crate::relay::{Events, Letters, Relay, Source};

use super::core::Core;
use super::leased::{Held, Leases};
use super::shutdown::Tasks;
use super::supervise::supervised;
use crate::health::State;

/// Starts the relays.
pub fn start(core: &Core, tasks: &mut Tasks) {
    let events = Events::new(
        core.store.clone(),
        core.keys.ids.clone(),
        core.parts.queues.clone(),
        core.config().fan_out.queue_topics,
    );
    one(core, tasks, events);
    one(core, tasks, Letters::new(core.store.clone()));
}

/// Each has a client of its own.
fn one<S: Source + 'static>(core: &Core, tasks: &mut Tasks, source: S) {
    let Some(notices) = core.bus.notices() else {
        return;
    };
    let relay = Relay {
        source,
        notices,
        clock: core.clock.clone(),
        health: core.health.clone(),
    };
    let telling = tell(relay, core.leases.clone(), core.stop.sending.clone());
    tasks.sending.push(tokio::spawn(telling));
}

/// Tells until `stop`, whenever the lease is this process's.
pub async fn tell<S: Source + 'static>(relay: Relay<S>, leases: Leases, stop: CancellationToken) {
    let (name, health) = (relay.name(), relay.health.clone());
    let relay = Arc::new(relay);
    let standby = || health.set(&name, State::Standby);
    let work = |held: Held, stop| {
        let relay = relay.clone();
        // The epoch fences off a process that slept through the end of its lease.
        let run = move |stop| {
            let (relay, epoch) = (relay.clone(), held.epoch());
            async move { relay.run(epoch, stop).await }
        };
        supervised(name.clone(), health.clone(), stop, run)
    };
    leases.while_held(&name, stop, standby, work).await;
}
