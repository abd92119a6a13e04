//! The newest events, in memory, for all streams together: the log is read once per commit and not
//! once per stream. No task follows the log: whichever stream is awake reads on for all of them, so
//! that nothing is done where nobody listens.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::ids::ConversationId;
use crate::store::Store;
use crate::store::events::{Departure, EventFilter, Moved, Place, StoredEvent};

/// Events kept; a stream that is further behind reads the store.
const TAIL_EVENTS_MAX: usize = 4_096;
/// Events read at once.
const PAGE_EVENTS: u32 = 1_000;

/// What streams share.
#[derive(Default)]
pub struct Feed {
    tail: Mutex<Tail>,
    /// Held by the stream that reads on.
    reading: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Tail {
    items: VecDeque<Arc<Item>>,
    /// Where conversations of `items` stand, as of `head`: what was read of one before it moved
    /// must not be shown by where it was.
    places: HashMap<ConversationId, Arc<Mutex<Place>>>,
    /// Everything in (floor, head] is in `items`.
    floor: i64,
    head: i64,
}

/// Something a stream may show.
pub struct Item {
    pub what: What,
    place: Option<Arc<Mutex<Place>>>,
    /// As it was last written out, and with which queue.
    pub written: Mutex<Option<(Place, Bytes)>>,
}

pub enum What {
    Event(StoredEvent),
    Left(Departure),
}

/// What the feed has after a number.
pub enum Next {
    Items(Vec<Arc<Item>>, i64),
    /// Nothing yet.
    Nothing,
    /// No longer in memory.
    Older,
}

impl Item {
    pub fn event(event: StoredEvent) -> Self {
        let place = event.conversation.as_ref().map(|(_, place)| place.clone());
        Self::standing(What::Event(event), place.map(Mutex::new).map(Arc::new))
    }

    pub fn left(departure: Departure) -> Self {
        let place = Arc::new(Mutex::new(departure.now.clone()));
        Self::standing(What::Left(departure), Some(place))
    }

    fn standing(what: What, place: Option<Arc<Mutex<Place>>>) -> Self {
        Self {
            what,
            place,
            written: Mutex::default(),
        }
    }

    pub fn seq(&self) -> i64 {
        match &self.what {
            What::Event(event) => event.seq,
            What::Left(departure) => departure.seq,
        }
    }

    fn conversation(&self) -> Option<ConversationId> {
        match &self.what {
            What::Event(event) => event.conversation.as_ref().map(|(id, _)| *id),
            What::Left(departure) => Some(departure.conversation),
        }
    }

    /// Where its conversation stands now; `None` for a contact's.
    pub fn place(&self) -> Option<Place> {
        let place = self.place.as_ref()?;
        Some(place.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// Events and departures of one range in order; a departure goes before the event of its number.
pub fn in_order(events: Vec<StoredEvent>, departures: Vec<Departure>) -> Vec<Item> {
    let left = departures.into_iter().map(Item::left);
    let mut items: Vec<Item> = left.chain(events.into_iter().map(Item::event)).collect();
    // Stable: what left stays before what happened.
    items.sort_by_key(Item::seq);
    items
}

impl Feed {
    /// What follows `after`, at most about `max` items.
    pub fn after(&self, after: i64, max: usize) -> Next {
        let tail = self.tail();
        if after < tail.floor {
            return Next::Older;
        }
        if after >= tail.head {
            return Next::Nothing;
        }
        let start = tail.items.partition_point(|item| item.seq() <= after);
        let mut items: Vec<_> = tail.items.range(start..).take(max).cloned().collect();
        let rest = tail.items.range(start + items.len()..);
        let Some(last) = items.last().map(|last| last.seq()) else {
            return Next::Items(items, tail.head);
        };
        // All of one number together: a stream goes on after a number.
        let same: Vec<_> = rest
            .take_while(|item| item.seq() == last)
            .cloned()
            .collect();
        items.extend(same);
        let all = start + items.len() == tail.items.len();
        Next::Items(items, if all { tail.head } else { last })
    }

    /// Reads on up to what was committed, unless another stream did meanwhile.
    pub async fn advance(&self, store: &dyn Store, moved: Moved) -> crate::store::Result<()> {
        let _reading = self.reading.lock().await;
        loop {
            let head = {
                let mut tail = self.tail();
                if tail.head >= moved.last_event {
                    return Ok(());
                }
                let behind = moved.last_event - tail.head;
                if usize::try_from(behind).is_ok_and(|behind| behind > TAIL_EVENTS_MAX) {
                    // Nobody listened for a while: begin at the end.
                    *tail = Tail {
                        floor: moved.last_event,
                        head: moved.last_event,
                        ..Tail::default()
                    };
                    return Ok(());
                }
                tail.head
            };
            let filter = EventFilter {
                limit: PAGE_EVENTS,
                ..EventFilter::default()
            };
            let page = store.events(head, filter).await?;
            let (through, swept) = (page.through, page.floor);
            let items = in_order(page.events, page.departures);
            let mut tail = self.tail();
            // What is swept was not read: it has gaps.
            if swept > head {
                tail.floor = tail.floor.max(swept);
            }
            tail.add(items, through);
        }
    }

    fn tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tail {
    fn add(&mut self, items: Vec<Item>, through: i64) {
        for mut item in items {
            if let (Some(id), Some(now)) = (item.conversation(), item.place()) {
                let place = self
                    .places
                    .entry(id)
                    .or_insert_with(|| Arc::new(Mutex::new(now.clone())));
                *place.lock().unwrap_or_else(PoisonError::into_inner) = now;
                item.place = Some(place.clone());
            }
            self.items.push_back(Arc::new(item));
        }
        self.head = self.head.max(through);
        while self.items.len() > TAIL_EVENTS_MAX
            && let Some(item) = self.items.pop_front()
        {
            self.floor = self.floor.max(item.seq());
        }
        if self.places.len() > 2 * TAIL_EVENTS_MAX {
            self.places.retain(|_, place| Arc::strong_count(place) > 1);
        }
    }
}
