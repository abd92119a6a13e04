//! How far routers may be behind: intake refuses before what it accepts could be gone before it is decided, in
//! every process, whether it decides anything or not. The store says how far each partition is decided, the
//! brokers which record was the first since half of the retention: asked now and then, never for a record.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::Offset;
use tracing::warn;

use crate::bus::BusState;

use super::context::Quiet;
use super::generations::Generations;
use super::numbers::{inside, next_offset};
use super::shared::Shared;
use super::topic::ANSWER_MAX;

/// How often it is looked: a thousand times in a retention, within these.
const LOOKED_EVERY_MIN: Duration = Duration::from_millis(100);
const LOOKED_EVERY_MAX: Duration = Duration::from_secs(30);
/// The same while they are too far behind, or while that is not known.
const LOOKED_AGAIN_AFTER: Duration = Duration::from_secs(1);

type Reader = BaseConsumer<Quiet>;

impl Shared {
    /// Looks whether routers are too far behind; never ends.
    pub async fn watch_lag(self: &Arc<Self>) {
        let mut reader = Arc::new(Apart::default());
        // Nothing is decided while the store is away: what it said last is true.
        let mut positions = BTreeMap::new();
        let mut is_known = true;
        loop {
            let mut every = (self.retention() / 1000).clamp(LOOKED_EVERY_MIN, LOOKED_EVERY_MAX);
            // What keeps everybody out is looked at until it is over.
            if !is_known || self.too_far_behind.load(Ordering::Acquire) {
                every = every.min(LOOKED_AGAIN_AFTER);
            }
            tokio::time::sleep(every).await;
            if *self.state.borrow() != BusState::Ready {
                continue;
            }
            if let Ok(said) = self.store.positions().await {
                positions = said.into_iter().collect();
            }
            let (shared, asked, positions) = (self.clone(), reader.clone(), positions.clone());
            let looking = tokio::task::spawn_blocking(move || {
                behind(asked.of(&shared)?, &shared, &positions)
            });
            match looking.await {
                Ok(Ok(behind)) => {
                    is_known = true;
                    if behind != self.too_far_behind.swap(behind, Ordering::AcqRel) && behind {
                        warn!(
                            "the routers are too far behind: nothing is accepted until they are not"
                        );
                    }
                }
                // What was known stays true, and is told as long as the bus is there.
                Ok(Err(error)) => {
                    reader = Arc::default();
                    if std::mem::replace(&mut is_known, false) {
                        warn!(%error, "how far routers are behind is not known for now: {error}");
                    }
                }
                Err(_) => warn!("looking how far routers are behind panicked"),
            }
        }
    }
}

/// A client of its own, which reads nothing.
#[derive(Default)]
struct Apart(OnceLock<Reader>);

impl Apart {
    fn of(&self, shared: &Shared) -> Result<&Reader, KafkaError> {
        if self.0.get().is_none() {
            let settings = &shared.settings;
            let reader =
                Reader::from_config_and_context(&settings.consumer(), Quiet::new(settings))?;
            drop(self.0.set(reader));
        }
        self.0.get().ok_or(KafkaError::Canceled)
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        // Dropping a client waits for its brokers: on a thread of its own.
        let reader = self.0.take();
        std::thread::spawn(move || drop(reader));
    }
}

/// Whether a record waits to be decided that was there before half of the retention; blocks.
fn behind(
    reader: &Reader,
    shared: &Shared,
    positions: &BTreeMap<u32, i64>,
) -> Result<bool, KafkaError> {
    let known = shared.generations();
    let half = i64::try_from(shared.retention().as_millis() / 2).unwrap_or(i64::MAX);
    let since = now_millis().saturating_sub(half);
    let mut list = TopicPartitionList::new();
    // Before it is asked for young ones: what comes between the two questions is young.
    let mut bounds = BTreeMap::new();
    for number in undecided(&known, positions) {
        if let Some((topic, partition)) = known.place(number) {
            bounds.insert(
                number,
                reader.fetch_watermarks(topic, partition, ANSWER_MAX)?,
            );
            list.add_partition_offset(topic, partition, Offset::Offset(since))?;
        }
    }
    if list.count() == 0 {
        return Ok(false);
    }
    let found = reader.offsets_for_times(list, ANSWER_MAX)?;
    for one in found.elements() {
        one.error()?;
        let Some(number) = known.number(one.topic(), one.partition()) else {
            continue;
        };
        let Some((first, end)) = bounds.get(&number).copied() else {
            continue;
        };
        let young = match one.offset() {
            Offset::Offset(offset) => offset,
            // All are older.
            _ => end,
        };
        let position = positions.get(&number).copied().unwrap_or(0);
        let next = next_offset(inside(position, known.base(number)));
        if next.max(first) < young {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The partitions that may have anything to decide.
fn undecided<'a>(
    known: &'a Generations,
    positions: &'a BTreeMap<u32, i64>,
) -> impl Iterator<Item = u32> + 'a {
    let read = known.read().flat_map(|one| one.partitions.iter().copied());
    read.filter(|number| {
        let position = positions.get(number).copied().unwrap_or(0);
        known.end(*number).is_none_or(|end| position < end)
    })
}

/// By this machine's clock, which brokers' records are compared with.
#[expect(
    clippy::disallowed_methods,
    reason = "brokers stamp records by the machines' clocks, whatever a simulator says"
)]
fn now_millis() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
