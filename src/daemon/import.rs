//! Items of files into a channel: through its own parser and the same intake as what it receives,
//! a batch at a time. A batch is done when its last event is decided, so an import never has more
//! than one under way, and what arrives live waits behind no more than that.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use connector_api::{Bytes, Clock, Error, ImportFormat, InboundEvent, Timestamp, WebhookRequest};
use serde::{Deserialize, Serialize};

use crate::bus::BusError;
use crate::bus::local::LocalBus;
use crate::channels::{Channel, LiveChannels};
use crate::clock::micros;
use crate::intake::Intake;
use crate::live::Live;
use crate::store::{EventName, Store};

use super::settings::Kept;

mod alone;

pub use alone::Alone;

/// Most items in one batch: the router commits that many in some ten milliseconds.
pub const BATCH_ITEMS_MAX: usize = 100;
/// Most bytes in one batch; a larger item is a batch of its own.
pub const BATCH_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Largest item, in bytes: more than any mail server takes.
pub const ITEM_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// How long a batch may wait for room in the intake, and then for the router.
const ROOM_WAIT: Duration = Duration::from_secs(5 * 60);
const DECIDED_WAIT: Duration = Duration::from_secs(5 * 60);
/// First and longest pause before intake is asked again that had no room.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// What became of an item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Filed,
    /// Filed before, from a file or by the channel itself; nothing was done.
    Known,
    /// Taken, and then not filed: it is among the dead letters.
    Dead,
    /// History from before `retention.resolved`, which would be forgotten at once: nothing was done, so
    /// that it can be imported once more is kept.
    Old,
    /// Cannot be read, and why.
    Unreadable(String),
}

/// What became of all items so far, over all runs of one import.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    pub imported: u64,
    pub known: u64,
    pub dead: u64,
    #[serde(default)]
    pub old: u64,
    pub unreadable: u64,
}

impl Totals {
    pub fn count(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Filed => self.imported += 1,
            Outcome::Known => self.known += 1,
            Outcome::Dead => self.dead += 1,
            Outcome::Old => self.old += 1,
            Outcome::Unreadable(_) => self.unreadable += 1,
        }
    }

    pub fn sum(&self) -> u64 {
        self.imported + self.known + self.dead + self.old + self.unreadable
    }
}

/// Where an import goes on, and what it came to so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// Of the files: whoever reads them knows what it means.
    pub after: serde_json::Value,
    pub totals: Totals,
}

/// What an import is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begin {
    pub channel: String,
    /// Filed closed, in no queue, with no automatic answer.
    pub history: bool,
    /// Names the files, so that a stopped import of them goes on where it was.
    pub source: String,
}

/// What an import finds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Begun {
    pub format: ImportFormat,
    pub place: Option<Place>,
    /// `retention.resolved`, in seconds: what is older is not filed as history.
    pub kept_seconds: u64,
}

/// Takes items into channels.
pub struct Importer {
    pub channels: LiveChannels,
    pub intake: Arc<Intake>,
    pub bus: Arc<LocalBus>,
    pub store: Arc<dyn Store>,
    pub clock: Arc<dyn Clock>,
    pub kept: Live<Kept>,
}

impl Importer {
    /// What the channel's files hold, and how far this import was when it was stopped.
    pub async fn begin(&self, begin: &Begin) -> Result<Begun, String> {
        let channel = self.channel(&begin.channel)?;
        let format = channel.connector.import_format();
        let format =
            format.ok_or_else(|| format!("the channel {} reads no files", begin.channel))?;
        let place = self.store.import_place(&begin.source).await;
        let place = place.map_err(|error| error.to_string())?;
        Ok(Begun {
            format,
            place: place.and_then(|text| serde_json::from_str(&text).ok()),
            kept_seconds: self.kept.now().forgotten.resolved.as_secs(),
        })
    }

    /// Files a batch and notes where to go on behind it. `place.totals` are those before it.
    pub async fn batch(
        &self,
        begin: &Begin,
        items: Vec<Bytes>,
        mut place: Place,
    ) -> Result<Vec<Outcome>, String> {
        let channel = self.channel(&begin.channel)?;
        let outcomes = self.take(&channel, begin.history, items).await?;
        outcomes.iter().for_each(|one| place.totals.count(one));
        let text = serde_json::to_string(&place).map_err(|error| error.to_string())?;
        let now = micros(self.clock.now());
        let saved = self.store.save_import_place(&begin.source, text, now).await;
        saved.map_err(|error| error.to_string())?;
        Ok(outcomes)
    }

    /// Forgets where it was: it is done.
    pub async fn end(&self, begin: &Begin) -> Result<(), String> {
        let ended = self.store.end_import(&begin.source).await;
        ended.map_err(|error| error.to_string())
    }

    fn channel(&self, name: &str) -> Result<Arc<Channel>, String> {
        let channels = self.channels.now();
        let found = name.parse().ok().and_then(|id| channels.get(&id));
        found.cloned().ok_or_else(|| {
            let known: Vec<&str> = channels.keys().map(|id| id.as_str()).collect();
            format!("there is no channel {name}; there are {}", known.join(", "))
        })
    }

    /// Files a batch, one outcome per item. Returns once all of it is decided; an error leaves it
    /// to be done again, which files nothing twice.
    async fn take(
        &self,
        channel: &Arc<Channel>,
        history: bool,
        items: Vec<Bytes>,
    ) -> Result<Vec<Outcome>, String> {
        let (reader, now) = (channel.clone(), self.clock.now());
        let read = move || {
            let items = items.into_iter();
            items
                .map(|item| read(&reader, item, history, now))
                .collect::<Vec<_>>()
        };
        let read = tokio::task::spawn_blocking(read).await;
        let read = read.map_err(|error| format!("reading the items: {error}"))?;
        let named = |events: &Vec<InboundEvent>| -> Vec<EventName> {
            let names = events.iter();
            names
                .map(|event| self.intake.name_of(channel, event))
                .collect()
        };
        let names: Vec<Vec<EventName>> = read
            .iter()
            .map(|item| item.as_ref().map(named).unwrap_or_default())
            .collect();
        let mut seen = self.filed(names.iter().flatten()).await?;
        let known_before = seen.clone();
        let kept = self.kept.now().forgotten.resolved;
        let is_old = |events: &[InboundEvent]| history && is_older(events, kept, now);
        let mut new = Vec::new();
        let mut refused = Vec::with_capacity(read.len());
        for (item, names) in read.into_iter().zip(&names) {
            let (events, reason) = match item {
                Ok(events) if is_old(&events) => (Vec::new(), Some(Outcome::Old)),
                Ok(events) => (events, None),
                Err(reason) => (Vec::new(), Some(Outcome::Unreadable(reason))),
            };
            refused.push(reason);
            let fresh = events.into_iter().zip(names);
            new.extend(fresh.filter_map(|(event, name)| seen.insert(*name).then_some(event)));
        }
        if !new.is_empty() {
            self.accept(channel, new).await?;
            let decided = tokio::time::timeout(DECIDED_WAIT, self.bus.decided_so_far()).await;
            decided.map_err(|_| "the router decides nothing: look at /readyz".to_owned())?;
        }
        let filed = self.filed(names.iter().flatten()).await?;
        let mut counted = known_before;
        let outcomes = names.iter().zip(refused).map(|(names, refused)| {
            let is_known = || names.iter().all(|name| filed.contains(name));
            match refused {
                Some(Outcome::Old) if is_known() => return Outcome::Known,
                Some(refused) => return refused,
                None => {}
            }
            let is_new = names.iter().filter(|name| counted.insert(**name)).count() > 0;
            match is_known() {
                false => Outcome::Dead,
                true if is_new => Outcome::Filed,
                true => Outcome::Known,
            }
        });
        Ok(outcomes.collect())
    }

    /// Those of the names that are filed.
    async fn filed(
        &self,
        names: impl Iterator<Item = &EventName>,
    ) -> Result<HashSet<EventName>, String> {
        let names: Vec<EventName> = names.copied().collect();
        let known = self.store.known(names.clone()).await;
        let known = known.map_err(|error| format!("looking up what is known: {error}"))?;
        let filed = names.into_iter().zip(known);
        Ok(filed
            .filter_map(|(name, known)| known.then_some(name))
            .collect())
    }

    /// Waits for room as long as live messages take it.
    async fn accept(&self, channel: &Channel, events: Vec<InboundEvent>) -> Result<(), String> {
        let began = tokio::time::Instant::now();
        let mut pause = PAUSE_FIRST;
        loop {
            match self.intake.import(channel, events.clone()).await {
                Ok(()) => return Ok(()),
                Err(BusError::Overloaded { .. }) if began.elapsed() < ROOM_WAIT => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
                Err(error) => return Err(error.to_string()),
            }
        }
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

/// One item as its channel reads it. A parser that panics spoils that item only.
fn read(
    channel: &Channel,
    item: Bytes,
    history: bool,
    now: Timestamp,
) -> Result<Vec<InboundEvent>, String> {
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
