//! What is told to others on topics of the bus, where it has any.

use std::sync::Arc;

use connector_api::{CancellationToken, Clock, QueueId};
use tokio::task::JoinHandle;

use crate::bus::Bus;
use crate::health::Health;
use crate::ids::IdCodec;
use crate::live::Live;
use crate::relay::{Events, Letters, Relay, Source};
use crate::store::Store;

use super::supervise::supervise;

/// What relays need.
pub struct Relays {
    pub store: Arc<dyn Store>,
    pub clock: Arc<dyn Clock>,
    pub health: Arc<Health>,
    pub ids: IdCodec,
    pub queues: Live<Vec<QueueId>>,
    pub queue_topics: bool,
    /// This process, and no other one that ever was.
    pub instance: String,
}

impl Relays {
    /// Starts them; none, where nobody else reads the bus.
    pub fn start(self, bus: &dyn Bus, stop: &CancellationToken) -> Vec<JoinHandle<()>> {
        let events = || {
            Events::new(
                self.store.clone(),
                self.ids.clone(),
                self.queues.clone(),
                self.queue_topics,
            )
        };
        let letters = || Letters::new(self.store.clone());
        let all = [self.one(bus, events, stop), self.one(bus, letters, stop)];
        all.into_iter().flatten().collect()
    }

    /// Each has a client of its own.
    fn one<S: Source + 'static>(
        &self,
        bus: &dyn Bus,
        source: impl FnOnce() -> S,
        stop: &CancellationToken,
    ) -> Option<JoinHandle<()>> {
        let notices = bus.notices()?;
        let source = source();
        let name = Relay::state_name(&source);
        let relay = Relay {
            source,
            store: self.store.clone(),
            notices,
            clock: self.clock.clone(),
            health: self.health.clone(),
            holder: self.instance.clone(),
        };
        let run = |relay: Arc<Relay<S>>, stop| async move { relay.run(stop).await };
        Some(supervise(&name, &self.health, stop, Arc::new(relay), run))
    }
}
