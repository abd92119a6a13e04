//! Reconciliation: asks providers what they have, the bus whether what it took is decided and the store what it
//! has, page by page, and has `reconcile` compare.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use connector_api::{ChannelId, Clock, Cursor, Timestamp};
use tokio::sync::{Mutex, TryLockError};

use crate::api::{NoReport as Failed, Reconciling};
use crate::bus::Bus;
use crate::channels::LiveChannels;
use crate::clock::{micros, timestamp};
use crate::live::Live;
use crate::reconcile::facts::{Body, Record, Said};
use crate::reconcile::{ProviderState, Report, Tally, Whole};
use crate::router::Policy;
use crate::router::facts::Key16;
use crate::store::Store;
use crate::store::reconcile::Start;

mod listing;

use listing::{Found, Listing};

/// How far a provider's clock may be from ours, in microseconds.
const CLOCK_SLACK_MICROS: i64 = 5 * 60 * 1_000_000;
/// Rows of one question to the store: some milliseconds.
const PAGE: u32 = 500;
/// As [`Reconciler::decided_within`]; routers are seconds behind.
pub const DECIDED_WITHIN: Duration = Duration::from_secs(10);

/// Compares; one at a time, because each reads much.
pub struct Reconciler {
    pub store: Arc<dyn Store>,
    pub channels: LiveChannels,
    pub policy: Live<Policy>,
    pub clock: Arc<dyn Clock>,
    /// Only in the daemon.
    pub bus: Option<Arc<dyn Bus>>,
    /// How long what was accepted may take to be decided, where only the bus knows of it.
    pub decided_within: Duration,
    pub turn: Mutex<()>,
}

/// Keys of what was accepted and is not filed.
type Unfiled = HashSet<Key16>;

#[async_trait]
impl Reconciling for Reconciler {
    async fn reconcile(&self, since: Timestamp, channel: Option<&str>) -> Result<Report, Failed> {
        self.run(since, channel).await
    }
}

impl Reconciler {
    /// Compares what came since; of one channel, or of all.
    pub async fn run(&self, since: Timestamp, channel: Option<&str>) -> Result<Report, Failed> {
        let _turn = self
            .turn
            .try_lock()
            .map_err(|_: TryLockError| Failed::Busy)?;
        let channels = self.channels.now();
        let is_asked = |id: &ChannelId| channel.is_none_or(|only| only == id.as_str());
        let asked = channels.values().filter(|known| is_asked(&known.id));
        let asked: Vec<_> = asked.cloned().collect();
        if let Some(missing) = channel.filter(|_| asked.is_empty()) {
            return Err(Failed::NoChannel(missing.to_owned()));
        }
        let whole = Whole {
            since: micros(since),
            now: micros(self.clock.now()),
            channel: channel.map(str::to_owned),
        };
        let mut tally = Tally::new(whole.clone(), self.policy.now().ids.clone());
        // What the cursors are past now is looked for among what is accepted from now on.
        let mut cursors: BTreeMap<&ChannelId, Option<Cursor>> = BTreeMap::new();
        for channel in &asked {
            cursors.insert(&channel.id, self.store.cursor(&channel.id).await?);
        }
        let start = self.store.reconcile_from(whole.since).await?;
        let is_decided = start.has_log || self.is_decided(&mut tally).await;
        let mut unfiled = self.records(start, &mut tally).await?;
        unfiled.extend(self.parked(&mut tally).await?);
        let mut found = Found::default();
        for channel in &asked {
            tally.channel(channel.id.as_str());
            let Some(inventory) = channel.connector.inventory() else {
                let why = "its provider keeps no list of what it pushed".to_owned();
                tally.asked(channel.id.as_str(), ProviderState::CannotBeAsked, Some(why));
                continue;
            };
            let policy = self.policy.now();
            let listing = Listing::new(&self.store, &policy, channel, &unfiled, is_decided, tally);
            let cursor = cursors.get(&channel.id).and_then(Option::as_ref);
            let listed = inventory.list_since(since, cursor, &listing).await;
            tally = listing.end(listed.err(), &mut found)?;
        }
        self.said(start, &whole, &found, &mut tally).await?;
        self.once_more(found, &mut tally).await?;
        Ok(tally.report())
    }

    /// Whether the bus says that everything which was accepted is decided.
    async fn is_decided(&self, tally: &mut Tally) -> bool {
        let Some(bus) = &self.bus else {
            tally.note(
                "what was accepted and is not decided is known to the running daemon alone: start it"
                    .to_owned(),
            );
            return false;
        };
        let why = match tokio::time::timeout(self.decided_within, bus.decided_so_far()).await {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => error.to_string(),
            Err(_) => match self.behind(bus.as_ref()).await {
                Ok(behind) => {
                    (behind.into_iter()).for_each(|(record, why)| tally.undecided(record, why));
                    return false;
                }
                Err(why) => why,
            },
        };
        tally.note(format!(
            "not everything that was accepted is known to be decided: {why}; look at bus and router in /readyz"
        ));
        false
    }

    /// The newest record of each partition that is not decided through, and how far that is.
    async fn behind(&self, bus: &dyn Bus) -> Result<Vec<(i64, String)>, String> {
        let mark = bus.mark().await.map_err(|error| error.to_string())?;
        let positions = self.store.positions().await;
        let positions = positions.map_err(|error| error.to_string())?;
        let positions: BTreeMap<u32, i64> = positions.into_iter().collect();
        let behind = mark.0.into_iter().filter_map(|(partition, newest)| {
            let position = positions.get(&partition).copied().unwrap_or(0);
            let why = format!(
                "partition {partition}: accepted through {newest}, decided through {position}"
            );
            (position < newest).then_some((newest, why))
        });
        Ok(behind.collect())
    }

    async fn records(&self, start: Start, tally: &mut Tally) -> Result<Unfiled, Failed> {
        let mut unfiled = Unfiled::new();
        let mut after = Some(start.after);
        while let Some(from) = after {
            let page = self.store.records_after(from, PAGE).await?;
            for record in &page.items {
                unfiled.extend(undecided_key(record));
                tally.record(record);
            }
            after = page.next;
        }
        Ok(unfiled)
    }

    async fn parked(&self, tally: &mut Tally) -> Result<Unfiled, Failed> {
        let mut unfiled = Unfiled::new();
        let mut after = Some(i64::MIN);
        while let Some(from) = after {
            let page = self.store.parked_after(from, PAGE).await?;
            for parked in &page.items {
                unfiled.extend(parked.named.as_ref().map(|named| named.key));
                tally.parked(parked);
            }
            after = page.next;
        }
        Ok(unfiled)
    }

    async fn said(
        &self,
        start: Start,
        whole: &Whole,
        found: &Found,
        tally: &mut Tally,
    ) -> Result<(), Failed> {
        let mut after = Some(start.after);
        while let Some(from) = after {
            let page = self.store.said_after(from, whole.since, PAGE).await?;
            for said in &page.items {
                tally.said(said, copied(said, found, whole.since));
            }
            after = page.next;
        }
        Ok(())
    }

    /// What a provider has and nobody knew may have been filed while everything else was looked at.
    async fn once_more(&self, found: Found, tally: &mut Tally) -> Result<(), Failed> {
        for some in found.unknown.chunks(PAGE as usize) {
            let keys = some.iter().flat_map(|unknown| unknown.keys.iter().copied());
            let filed = self.store.filed_keys(keys.collect()).await?;
            for unknown in some {
                match unknown.keys.iter().any(|key| filed.contains(key)) {
                    true => tally.accepted_after_all(&unknown.channel),
                    false => tally.gap(unknown.gap.clone()),
                }
            }
        }
        Ok(())
    }
}

/// Whether a copy of a reply was found, where its provider keeps copies at all. One that was accepted just after
/// `since` may have a copy dated before it, by the provider's clock.
fn copied(said: &Said, found: &Found, since: i64) -> Option<bool> {
    let copies = found.copies.get(&said.channel)?;
    let is_there = copies.contains(&said.number);
    let is_early = said.arrived_at.saturating_sub(since) < CLOCK_SLACK_MICROS;
    (is_there || !is_early).then_some(is_there)
}

fn undecided_key(record: &Record) -> Option<Key16> {
    match &record.body {
        Body::Read(named) if !record.decided => Some(named.key),
        _ => None,
    }
}

/// The time so long ago.
pub fn ago(clock: &dyn Clock, reach: Duration) -> Timestamp {
    let reach = i64::try_from(reach.as_micros()).unwrap_or(i64::MAX);
    timestamp(micros(clock.now()).saturating_sub(reach))
}
