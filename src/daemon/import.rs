//! Items of files into a channel: through its own parser and the same intake as what it receives,
//! a batch at a time. A batch is done when its last event is decided, so an import never has more
//! than one under way, and of that only a few events at once: what arrives live waits behind no more.

use std::sync::Arc;

use connector_api::{Bytes, Clock, ImportFormat};
use serde::{Deserialize, Serialize};

use crate::bus::{Bus, Mark};
use crate::channels::{Channel, LiveChannels};
use crate::clock::micros;
use crate::intake::Intake;
use crate::live::Live;
use crate::store::Store;

use super::settings::Kept;

mod alone;
mod take;
mod under_way;

pub use alone::Alone;
pub use under_way::{Held, UnderWay};

/// Most items in one batch: the router commits that many mails in some ten milliseconds.
pub const BATCH_ITEMS_MAX: usize = 100;
/// Most bytes in one batch; a larger item is a batch of its own.
pub const BATCH_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Largest item, in bytes: more than any mail server takes.
pub const ITEM_BYTES_MAX: u64 = 64 * 1024 * 1024;

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
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// Of the files: whoever reads them knows what it means. Null is their start.
    pub after: serde_json::Value,
    pub totals: Totals,
    /// The newest records when the batch behind it began, while that is under way; the importer's.
    #[serde(default)]
    pub since: Option<Mark>,
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
    pub bus: Arc<dyn Bus>,
    pub store: Arc<dyn Store>,
    pub clock: Arc<dyn Clock>,
    pub kept: Live<Kept>,
    pub under_way: UnderWay,
}

impl Importer {
    /// What the channel's files hold, and how far this import was when it was stopped.
    pub async fn begin(&self, begin: &Begin) -> Result<Begun, String> {
        let channel = self.channel(&begin.channel)?;
        let format = channel.connector.import_format();
        let format =
            format.ok_or_else(|| format!("the channel {} reads no files", begin.channel))?;
        Ok(Begun {
            format,
            place: self.place(begin).await?,
            kept_seconds: self.kept.now().forgotten.resolved.as_secs(),
        })
    }

    /// Files a batch and notes where to go on behind it. `place.totals` are those before it; with
    /// `begins`, it is the first of an import that goes on nowhere. That it is under way is noted before,
    /// so that whoever does it again knows what of it is its own.
    pub async fn batch(
        &self,
        begin: &Begin,
        items: Vec<Bytes>,
        mut place: Place,
        begins: bool,
    ) -> Result<Vec<Outcome>, String> {
        let channel = self.channel(&begin.channel)?;
        let stored = match begins {
            true => None,
            false => self.place(begin).await?,
        };
        let mut before = stored.unwrap_or_default();
        let again = before.since.clone();
        if again.is_none() {
            let mark = self.bus.mark().await;
            before.since = Some(mark.map_err(|error| error.to_string())?);
            self.note(begin, &before).await?;
        }
        let outcomes = self.take(&channel, begin.history, items, again).await?;
        outcomes.iter().for_each(|one| place.totals.count(one));
        place.since = None;
        self.note(begin, &place).await?;
        Ok(outcomes)
    }

    /// Forgets where it was: it is done.
    pub async fn end(&self, begin: &Begin) -> Result<(), String> {
        let ended = self.store.end_import(&begin.source).await;
        ended.map_err(|error| error.to_string())
    }

    async fn place(&self, begin: &Begin) -> Result<Option<Place>, String> {
        let place = self.store.import_place(&begin.source).await;
        let place = place.map_err(|error| error.to_string())?;
        Ok(place.and_then(|text| serde_json::from_str(&text).ok()))
    }

    async fn note(&self, begin: &Begin, place: &Place) -> Result<(), String> {
        let text = serde_json::to_string(place).map_err(|error| error.to_string())?;
        let now = micros(self.clock.now());
        let saved = self.store.save_import_place(&begin.source, text, now).await;
        saved.map_err(|error| error.to_string())
    }

    fn channel(&self, name: &str) -> Result<Arc<Channel>, String> {
        let channels = self.channels.now();
        let found = name.parse().ok().and_then(|id| channels.get(&id));
        found.cloned().ok_or_else(|| {
            let known: Vec<&str> = channels.keys().map(|id| id.as_str()).collect();
            format!("there is no channel {name}; there are {}", known.join(", "))
        })
    }
}
