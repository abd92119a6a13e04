//! The log of events, on the topic for all of them and, where that is wanted, on one of each queue.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use connector_api::QueueId;
use serde::Serialize;

use crate::api::topics::{EventView, QueueRecord, cloud_event_type};
use crate::api::views::ConversationView;
use crate::api::views::message::MessageView;
use crate::bus::notices::{Notice, Notices, Topic};
use crate::ids::IdCodec;
use crate::live::Live;
use crate::store::events::{Departure, EventPage, StoredEvent};
use crate::store::relays::Told;
use crate::store::{self, Store};

use super::{Next, Source, cloud_event};

/// Events of one batch.
const PAGE_EVENTS: u32 = 500;
/// How long new events are gathered before a batch: each costs a commit.
const GATHER: Duration = Duration::from_millis(50);
/// Looks even when nobody said that there is more.
const LOOK_EVERY: Duration = Duration::from_secs(1);
pub const NAME: &str = "events";

pub struct Events {
    pub store: Arc<dyn Store>,
    pub ids: IdCodec,
    /// The queues that there are.
    pub queues: Live<Vec<QueueId>>,
    /// Whether each of them has a topic.
    pub queue_topics: bool,
    place: Mutex<Place>,
}

/// How far it is, and how far it will be with what is being told.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    epoch: i64,
    at: i64,
    next: i64,
}

impl Events {
    pub fn new(
        store: Arc<dyn Store>,
        ids: IdCodec,
        queues: Live<Vec<QueueId>>,
        queue_topics: bool,
    ) -> Self {
        Self {
            store,
            ids,
            queues,
            queue_topics,
            place: Mutex::default(),
        }
    }

    fn place(&self) -> Place {
        *self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_place(&self, place: Place) {
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = place;
    }
}

#[async_trait]
impl Source for Events {
    fn name(&self) -> &'static str {
        NAME
    }

    fn topics(&self) -> Vec<Topic> {
        let queues = self.queue_topics.then(|| self.queues.now());
        let queues = queues.iter().flat_map(|queues| queues.iter().cloned());
        [Topic::Events]
            .into_iter()
            .chain(queues.map(Topic::Queue))
            .collect()
    }

    async fn take_over(&self, epoch: i64) -> store::Result<()> {
        let at = self.store.own_relay(NAME, epoch).await?;
        self.set_place(Place {
            epoch,
            at,
            next: at,
        });
        Ok(())
    }

    async fn next(&self, notices: &dyn Notices) -> store::Result<Next> {
        let place = self.place();
        let newest = self.store.moved().borrow().last_event;
        let told = self
            .store
            .told_after(place.at, PAGE_EVENTS, self.queue_topics)
            .await?;
        let through = told.page.through;
        self.set_place(Place {
            next: through,
            ..place
        });
        let queues = self.queue_topics.then(|| self.queues.now());
        let telling = Telling {
            ids: &self.ids,
            queues: queues.as_deref().map(Vec::as_slice),
            bytes_max: notices.bytes_max(),
        };
        Ok(Next {
            notices: telling.all(&told, place.at),
            moves: through > place.at,
            behind: (newest - place.at).max(told.page.events.len() as i64),
            oldest: told.page.events.first().map(|event| event.at),
            more: through < newest,
        })
    }

    async fn told(&self) -> store::Result<()> {
        let Place { epoch, at, next } = self.place();
        self.store.move_relay(NAME, epoch, at, next).await?;
        self.set_place(Place {
            epoch,
            at: next,
            next,
        });
        Ok(())
    }

    async fn more(&self) {
        let mut moved = self.store.moved();
        let at = self.place().at;
        let further = moved.wait_for(|moved| moved.last_event > at);
        // The sender is the store's, which is held here.
        drop(tokio::time::timeout(LOOK_EVERY, further).await);
        tokio::time::sleep(GATHER).await;
    }
}

/// What a page of the log comes to.
struct Telling<'a> {
    ids: &'a IdCodec,
    /// Those that have a topic; `None`: no queue has.
    queues: Option<&'a [QueueId]>,
    bytes_max: usize,
}

impl Telling<'_> {
    fn all(&self, told: &Told, after: i64) -> Vec<Notice> {
        let mut notices = Vec::new();
        if let Some(reason) = gap(&told.page, after) {
            let view = EventView::resync(after, reason, told.page.floor);
            let topics = self.queues.into_iter().flatten().cloned();
            notices.push(self.record(Topic::Events, None, &view, &view));
            for queue in topics {
                let record = QueueRecord {
                    event: EventView::resync(after, reason, told.page.floor),
                    conversation_seq: None,
                    conversation: None,
                    message: None,
                };
                notices.push(self.record(Topic::Queue(queue), None, &record, &view));
            }
        }
        let mut departures = told.page.departures.iter().peekable();
        for event in &told.page.events {
            while let Some(left) = departures.next_if(|left| left.seq <= event.seq) {
                notices.extend(self.left(left));
            }
            let place = event.conversation.as_ref().map(|(_, place)| place);
            let view = EventView::of(event, place, self.ids);
            notices.push(self.record(Topic::Events, Some(&key(&view)), &view, &view));
            notices.extend(self.in_queue(event, told));
        }
        notices.extend(departures.filter_map(|left| self.left(left)));
        notices
    }

    fn has_topic(&self, queue: &QueueId) -> bool {
        self.queues.is_some_and(|queues| queues.contains(queue))
    }

    /// What happened to a conversation, on the topic of the queue where it is now.
    fn in_queue(&self, event: &StoredEvent, told: &Told) -> Option<Notice> {
        let (id, place) = event.conversation.as_ref()?;
        let queue = Some(&place.queue).filter(|queue| self.has_topic(queue))?;
        let view = EventView::of(event, Some(place), self.ids);
        let conversation = told.conversations.get(id);
        let message = event.message.and_then(|id| told.messages.get(&id));
        let mut record = QueueRecord {
            event: EventView::of(event, Some(place), self.ids),
            conversation_seq: conversation.map(|found| found.last_seq),
            conversation: conversation.map(|found| ConversationView::of(found, self.ids)),
            message: message.map(|message| MessageView::of(message, self.ids)),
        };
        let topic = || Topic::Queue(queue.clone());
        let notice = self.record(topic(), Some(&key(&view)), &record, &view);
        if notice.data.len() <= self.bytes_max {
            return Some(notice);
        }
        record.message = None;
        Some(self.record(topic(), Some(&key(&view)), &record, &view))
    }

    /// That a conversation is not in a queue any more, on the topic of that queue.
    fn left(&self, left: &Departure) -> Option<Notice> {
        let queue = Some(&left.before.queue).filter(|queue| **queue != left.now.queue)?;
        let queue = Some(queue).filter(|queue| self.has_topic(queue))?;
        let view = EventView::left(left, self.ids);
        let record = QueueRecord {
            event: EventView::left(left, self.ids),
            conversation_seq: None,
            conversation: None,
            message: None,
        };
        let key = key(&view);
        Some(self.record(Topic::Queue(queue.clone()), Some(&key), &record, &view))
    }

    fn record<T: Serialize>(
        &self,
        topic: Topic,
        key: Option<&str>,
        data: &T,
        about: &EventView,
    ) -> Notice {
        let source = match &about.conversation {
            Some(_) => "/conversations",
            None if about.id.is_some() => "/contacts",
            None => "/events",
        };
        let resync = format!("resync-{}", about.seq);
        let (kind, time) = (
            cloud_event_type(&about.kind),
            about.time.map(|at| at.to_string()),
        );
        let subject = about.conversation.as_deref().or(key);
        let attributes = [
            ("content-type", Some("application/json")),
            ("ce_specversion", Some("1.0")),
            ("ce_type", Some(kind.as_str())),
            ("ce_id", Some(about.id.as_deref().unwrap_or(&resync))),
            ("ce_source", Some(source)),
            ("ce_subject", subject),
            ("ce_time", time.as_deref()),
            ("ce_partitionkey", key),
        ];
        let given = attributes.into_iter();
        Notice {
            topic,
            key: key.map(str::to_owned),
            headers: cloud_event(given.filter_map(|(name, value)| Some((name, value?)))),
            data: serde_json::to_vec(data).unwrap_or_default(),
        }
    }
}

/// Why events after a position are missing, where they are.
fn gap(page: &EventPage, after: i64) -> Option<&'static str> {
    if after == 0 || page.floor <= after {
        return None;
    }
    Some(match page.resumed > after {
        true => "restored",
        false => "expired",
    })
}

/// What happens to one conversation, or one contact, stays in order.
fn key(view: &EventView) -> String {
    let contact = || view.data.get("contact_id").and_then(|id| id.as_str());
    let named = view.conversation.as_deref().or_else(contact);
    named.or(view.id.as_deref()).unwrap_or_default().to_owned()
}
