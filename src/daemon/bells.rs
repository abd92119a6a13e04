//! Bells that other processes would have rung: where several work with one store, what a router queued or an
//! agent wrote in one of them is known to the others from the event log alone.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use connector_api::CancellationToken;
use tracing::debug;

use crate::api::TIMERS;
use crate::channels::LiveChannels;
use crate::health::{Health, State};
use crate::inbound::attachments;
use crate::router::effects::{Author, EventType};
use crate::store::events::{EventFilter, StoredEvent};
use crate::store::{Result, Store};
use crate::wake::Wakes;

/// Under which name its state is kept; it makes nothing unready.
pub const NAME: &str = "work:bells";
/// Events read at once.
const PAGE: u32 = 500;
/// Between two tries while the store is away.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// What somebody may wait for, or has to look at.
const KINDS: [EventType; 10] = [
    EventType::MessageCreated,
    EventType::MessageDelivery,
    EventType::ConversationQueued,
    EventType::ConversationReleased,
    EventType::ConversationReopened,
    EventType::ConversationSnoozed,
    EventType::ConversationWoken,
    EventType::ConversationTransferred,
    EventType::ConversationMerged,
    EventType::ConversationSplit,
];

pub struct Bells {
    pub store: Arc<dyn Store>,
    pub channels: LiveChannels,
    pub queues: Arc<Wakes>,
    pub outbox: Arc<Wakes>,
    pub health: Arc<Health>,
}

/// Whom events concern.
#[derive(Debug, Default, PartialEq, Eq)]
struct Rung {
    queues: BTreeSet<String>,
    lanes: bool,
    timers: bool,
    files: bool,
}

impl Bells {
    /// Rings until `stop`. What is missed while the store is away is made up for by what everybody looks
    /// for from time to time anyway.
    pub async fn run(&self, stop: CancellationToken) {
        let mut moved = self.store.moved();
        let mut after = moved.borrow_and_update().last_event;
        while !stop.is_cancelled() {
            let rest = match self.look(&mut after).await {
                Ok(()) => {
                    self.health.set(NAME, State::Ready);
                    None
                }
                Err(error) => {
                    debug!(%error, "following the event log failed, trying again");
                    let reason = error.to_string();
                    self.health.set(NAME, State::Degraded { reason });
                    Some(AGAIN_AFTER)
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                // The sender is the store's, which is held here.
                changed = moved.changed(), if rest.is_none() => drop(changed),
                () = tokio::time::sleep(rest.unwrap_or_default()), if rest.is_some() => {}
            }
        }
    }

    async fn look(&self, after: &mut i64) -> Result<()> {
        loop {
            let newest = self.store.moved().borrow().last_event;
            if *after >= newest {
                return Ok(());
            }
            let filter = EventFilter {
                kinds: KINDS.to_vec(),
                limit: PAGE,
                ..EventFilter::default()
            };
            let page = self.store.events(*after, filter).await?;
            self.ring(&rung(&page.events));
            *after = page.through.max(page.floor);
        }
    }

    fn ring(&self, rung: &Rung) {
        for queue in &rung.queues {
            self.queues.ring(queue);
        }
        if rung.timers {
            self.queues.ring(TIMERS);
        }
        if rung.files {
            self.outbox.ring(attachments::BELL);
        }
        if rung.lanes {
            for channel in self.channels.now().keys() {
                self.outbox.ring(channel.as_str());
            }
        }
    }
}

fn rung(events: &[StoredEvent]) -> Rung {
    let mut rung = Rung::default();
    for event in events {
        match event.kind {
            EventType::MessageCreated => match event.said {
                Some((Author::Customer, _)) => rung.files = true,
                _ => rung.lanes = true,
            },
            EventType::MessageDelivery => rung.lanes = true,
            EventType::ConversationSnoozed => rung.timers = true,
            _ => {
                let place = event.conversation.as_ref().map(|(_, place)| place);
                rung.queues
                    .extend(place.map(|place| place.queue.as_str().to_owned()));
            }
        }
    }
    rung
}
