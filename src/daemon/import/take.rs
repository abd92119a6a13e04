//! A batch of items into a channel: read, appended a few events at a time, and counted by what the
//! router made of them.

use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use connector_api::{Bytes, Error, InboundEvent, Timestamp, WebhookRequest};

use crate::bus::{BusError, Mark};
use crate::channels::Channel;
use crate::clock::micros;
use crate::ids::MessageId;
use crate::store::EventName;

use super::{Importer, Outcome};

/// Most events appended at once, and about the most that are in memory: what arrives live waits
/// behind no more. An item may hold hundreds of events.
const EVENTS_MAX: usize = 100;
/// How long events may wait for room in the intake, and then for the router.
const ROOM_WAIT: Duration = Duration::from_secs(5 * 60);
const DECIDED_WAIT: Duration = Duration::from_secs(5 * 60);
/// First and longest pause before intake is asked again that had no room.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// An item's events, or why it cannot be read.
type Item = Result<Vec<InboundEvent>, String>;

impl Importer {
    /// Files a batch, one outcome per item. Returns once all of it is decided; an error leaves it
    /// to be done again, which files nothing twice. `since`: it may be done again, and what was
    /// filed after it counts as its own.
    pub(super) async fn take(
        &self,
        channel: &Arc<Channel>,
        history: bool,
        items: Vec<Bytes>,
        since: Option<Mark>,
    ) -> Result<Vec<Outcome>, String> {
        let now = self.clock.now();
        let mut outcomes = Vec::with_capacity(items.len());
        let mut own = Own {
            since,
            ..Own::default()
        };
        let mut rest = items.into_iter();
        while rest.len() > 0 {
            let reader = channel.clone();
            let read = tokio::task::spawn_blocking(move || {
                let some = read_some(&reader, &mut rest, history, now);
                (rest, some)
            });
            let (unread, some) = read
                .await
                .map_err(|error| format!("reading the items: {error}"))?;
            rest = unread;
            outcomes.extend(self.file(channel, history, some, now, &mut own).await?);
        }
        Ok(outcomes)
    }

    async fn file(
        &self,
        channel: &Channel,
        history: bool,
        items: Vec<Item>,
        now: Timestamp,
        own: &mut Own,
    ) -> Result<Vec<Outcome>, String> {
        let named = |events: &Vec<InboundEvent>| -> Vec<EventName> {
            let names = events.iter();
            names
                .map(|event| self.intake.name_of(channel, event))
                .collect()
        };
        let names: Vec<Vec<EventName>> = items
            .iter()
            .map(|item| item.as_ref().map(named).unwrap_or_default())
            .collect();
        let known = self.filed(names.iter().flatten()).await?;
        let mut seen: HashSet<EventName> = known.into_keys().collect();
        let kept = self.kept.now().forgotten.resolved;
        let is_old = |events: &[InboundEvent]| history && is_older(events, kept, now);
        let mut new = Vec::new();
        let mut refused = Vec::with_capacity(items.len());
        for (item, names) in items.into_iter().zip(&names) {
            let (events, reason) = match item {
                Ok(events) if is_old(&events) => (Vec::new(), Some(Outcome::Old)),
                Ok(events) => (events, None),
                Err(reason) => (Vec::new(), Some(Outcome::Unreadable(reason))),
            };
            refused.push(reason);
            let fresh = events.into_iter().zip(names);
            new.extend(fresh.filter_map(|(event, name)| seen.insert(*name).then_some(event)));
        }
        while !new.is_empty() {
            let rest = new.split_off(new.len().min(EVENTS_MAX));
            let events = std::mem::replace(&mut new, rest);
            own.records.extend(self.accept(channel, events).await?);
            let decided = tokio::time::timeout(DECIDED_WAIT, self.bus.decided_so_far()).await;
            decided
                .map_err(|_| "the router decides nothing: look at /readyz".to_owned())?
                .map_err(|error| error.to_string())?;
        }
        let filed = self.filed(names.iter().flatten()).await?;
        let outcomes = names.iter().zip(refused).map(|(names, refused)| {
            let is_known = names.iter().all(|name| filed.contains_key(name));
            match refused {
                Some(Outcome::Old) if is_known => return Outcome::Known,
                Some(refused) => return refused,
                None => {}
            }
            let records = names.iter().filter_map(|name| filed.get(name));
            let is_own = records
                .filter(|record| own.counts(**record, self.bus.partition_of(record.0)))
                .count()
                > 0;
            match is_known {
                false => Outcome::Dead,
                true if is_own => Outcome::Filed,
                true => Outcome::Known,
            }
        });
        Ok(outcomes.collect())
    }

    /// Those of the names that are filed, and as which record.
    async fn filed(
        &self,
        names: impl Iterator<Item = &EventName>,
    ) -> Result<HashMap<EventName, MessageId>, String> {
        let names: Vec<EventName> = names.copied().collect();
        let known = self.store.known(names.clone()).await;
        let known = known.map_err(|error| format!("looking up what is known: {error}"))?;
        let filed = names.into_iter().zip(known);
        Ok(filed
            .filter_map(|(name, record)| record.map(|record| (name, record)))
            .collect())
    }

    /// Waits for room as long as live messages take it; gives the records that the events are.
    async fn accept(
        &self,
        channel: &Channel,
        events: Vec<InboundEvent>,
    ) -> Result<Vec<i64>, String> {
        let began = tokio::time::Instant::now();
        let mut pause = PAUSE_FIRST;
        loop {
            match self.intake.import(channel, events.clone()).await {
                Ok(records) => return Ok(records),
                Err(BusError::Overloaded { .. }) if began.elapsed() < ROOM_WAIT => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
                Err(error) => return Err(error.to_string()),
            }
        }
    }
}

/// The records that this batch appended: only they are counted as imported, once each, whoever
/// else files the same at the same time.
#[derive(Default)]
struct Own {
    records: HashSet<i64>,
    since: Option<Mark>,
    counted: HashSet<i64>,
}

impl Own {
    fn counts(&mut self, record: MessageId, partition: u32) -> bool {
        let is_own = self.records.contains(&record.0);
        let since = self.since.as_ref();
        let may_be = since.is_some_and(|since| since.is_before(partition, record.0));
        (is_own || may_be) && self.counted.insert(record.0)
    }
}

/// Whether all of an item was said longer ago than it would be kept.
fn is_older(events: &[InboundEvent], kept: Duration, now: Timestamp) -> bool {
    let before = micros(now).saturating_sub(i64::try_from(kept.as_micros()).unwrap_or(i64::MAX));
    events.iter().all(|event| {
        let said_at = event.sent_at;
        said_at.is_some_and(|said_at| micros(said_at) < before)
    })
}

/// The next items, until they hold enough events.
fn read_some(
    channel: &Channel,
    items: &mut std::vec::IntoIter<Bytes>,
    history: bool,
    now: Timestamp,
) -> Vec<Item> {
    let (mut some, mut events) = (Vec::new(), 0);
    while events < EVENTS_MAX
        && let Some(item) = items.next()
    {
        let item = read(channel, item, history, now);
        events += item.as_ref().map_or(0, Vec::len);
        some.push(item);
    }
    some
}

/// One item as its channel reads it. A parser that panics spoils that item only.
fn read(channel: &Channel, item: Bytes, history: bool, now: Timestamp) -> Item {
    let item = WebhookRequest {
        method: "POST".to_owned(),
        body: item,
        received_at: now,
        ..WebhookRequest::default()
    };
    let read = catch_unwind(AssertUnwindSafe(|| channel.connector.parse_import(&item)));
    let read = read.unwrap_or_else(|_| Err(Error::malformed("the parser failed at it")));
    let mut events = read.map_err(|error| error.message)?;
    if events.is_empty() {
        return Err("it holds no event".to_owned());
    }
    for event in &mut events {
        event.history = history;
    }
    Ok(events)
}

#[cfg(test)]
mod tests;
