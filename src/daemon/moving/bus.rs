//! What the embedded bus accepted and its router has not decided goes onto the other bus, as intake would have put it
//! there: with its key, its time, its digest and its files. A record that is appended twice, because a step was
//! repeated, is dropped as every redelivery is; one that cannot be read is a second dead letter.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::runtime::Runtime;

use crate::blobs::{Blobs, sha256};
use crate::bus::kafka::look;
use crate::bus::{Bus, BusError, BusState, Content, NewRecord, RecordKey, decode};
use crate::config::{Config, Part};
use crate::store;
use crate::store::moving::{MoveError, Result, Standing, Undecided};
use crate::store::partitions::{Generation, Partitions, Stage};
use crate::store::postgres::moving::Target;
use crate::store::sqlite::moving::Source;

use crate::daemon::buses;

/// How long Kafka may take to be there, and to give us what is on the topic.
const PATIENCE: Duration = Duration::from_secs(60);
/// A topic that was just made has no leaders for a moment.
const AGAIN_AFTER: Duration = Duration::from_millis(100);
/// Records read back at once.
const READ_RECORDS: usize = 500;

/// Digests of bodies in the order of each partition, each once.
type Order = BTreeMap<u32, Vec<[u8; 32]>>;

/// Refuses a topic that cannot be used, or that others have used; makes none.
pub fn refuse_used(runtime: &Runtime, config: &Config) -> Result<()> {
    let settings =
        buses::settings(config).map_err(|error| MoveError::Refused(error.to_string()))?;
    match runtime.block_on(look::records(&settings)) {
        Ok(None | Some(0)) => Ok(()),
        Ok(Some(records)) => Err(MoveError::Refused(format!(
            "there are records on the topic `{}` already ({records}): name another bus.prefix",
            settings.topic()
        ))),
        Err(reason) => Err(MoveError::Refused(reason)),
    }
}

/// The topic that processes will read.
pub struct Inbound<'a> {
    runtime: &'a Runtime,
    bus: Arc<dyn Bus>,
    partitions: u32,
    tell: &'a dyn Fn(&str),
}

impl<'a> Inbound<'a> {
    /// Connects, and returns once the topic is there and well.
    pub fn open(
        runtime: &'a Runtime,
        config: &Config,
        blobs: Blobs,
        tell: &'a dyn Fn(&str),
    ) -> Result<Self> {
        let mut config = config.clone();
        // Only to read back what was appended.
        config.run.parts = vec![Part::Router];
        let partitions = config.bus.partitions;
        tell("waiting for Kafka");
        let opening = async {
            let numbers: Arc<dyn Partitions> = Arc::new(InOrder {
                partitions,
                begun: AtomicBool::default(),
            });
            let bus = buses::kafka(&config, numbers, blobs)
                .map_err(|error| MoveError::Refused(error.to_string()))?;
            ready(bus.as_ref()).await?;
            Ok::<_, MoveError>(bus)
        };
        Ok(Self {
            bus: runtime.block_on(opening)?,
            runtime,
            partitions,
            tell,
        })
    }

    /// Appends what is not decided, in its order, behind what was appended before.
    pub fn append(&self, source: &Source, standing: &Standing, target: &Target) -> Result<()> {
        let mut after = target.appended()?;
        let mut done = 0;
        loop {
            (self.tell)(&format!(
                "undecided records: {done} of {}",
                standing.undecided
            ));
            let records = source.undecided(after)?;
            let Some(last) = records.last().map(|last| last.record) else {
                return Ok(());
            };
            done += records.len();
            self.runtime.block_on(self.append_some(records))?;
            target.note_appended(last)?;
            after = last;
        }
    }

    async fn append_some(&self, records: Vec<Undecided>) -> Result<()> {
        let mut some = Vec::new();
        for record in records {
            match decode(&record.body) {
                Content::Envelope(envelope) => some.push(NewRecord {
                    envelope,
                    key: RecordKey(record.record_key),
                    body: record.body,
                    raw: record.raw,
                    blobs: record.blobs,
                }),
                // A dead letter with its bytes, as it would have been.
                Content::Unreadable { .. } => {
                    let before = std::mem::take(&mut some);
                    self.bus.append(before).await.map_err(failed)?;
                    let appended = self.bus.append_bytes(record.body, record.arrived_at);
                    appended.await.map_err(failed)?;
                }
                Content::Newer { major } => {
                    return Err(MoveError::Refused(format!(
                        "a message that was accepted and not decided was written by a newer version (major \
                         {major}): take that version to move it"
                    )));
                }
            }
        }
        self.bus.append(some).await.map(drop).map_err(failed)
    }

    /// Reads back what is on the topic and holds it against what was to be there.
    pub fn compare(&self, source: &Source, standing: &Standing) -> Result<()> {
        let wanted = self.wanted(source)?;
        if standing.undecided > 0 && self.runtime.block_on(self.found())? != wanted {
            return Err(MoveError::Refused(
                "the records on the topic `inbound` are not those that were not decided: name another bus.prefix, \
                 empty the database (dropdb, createdb), and begin again"
                    .to_owned(),
            ));
        }
        self.runtime.block_on(self.bus.leave());
        Ok(())
    }

    fn wanted(&self, source: &Source) -> Result<Order> {
        let mut wanted = Once::default();
        let mut after = 0;
        loop {
            let records = source.undecided(after)?;
            let Some(last) = records.last() else {
                return Ok(wanted.order);
            };
            after = last.record;
            for record in &records {
                let at = match decode(&record.body) {
                    Content::Envelope(_) => record.record_key % u64::from(self.partitions),
                    _ => 0,
                };
                wanted.add(u32::try_from(at).unwrap_or_default() + 1, &record.body);
            }
        }
    }

    async fn found(&self) -> Result<Order> {
        let mark = self.bus.mark().await.map_err(failed)?;
        let mut assigned = self.bus.assigned();
        let all = assigned.wait_for(|assigned| assigned.len() == self.partitions as usize);
        let all = tokio::time::timeout(PATIENCE, all).await;
        if !matches!(all, Ok(Ok(_))) {
            return Err(late(
                "to give us the topic's partitions: something else reads them as we would",
            ));
        }
        let mut found = Once::default();
        for (partition, newest) in mark.0 {
            let mut position = 0;
            while position < newest {
                let read = self.bus.read(partition, position, READ_RECORDS);
                let read = tokio::time::timeout(PATIENCE, read).await;
                let records = read.map_err(|_| late("to give us what is on the topic"))?;
                for record in records.map_err(failed)? {
                    position = record.offset;
                    if let Some(carried) = record.carried {
                        found.add(partition, &carried.body);
                    }
                }
            }
        }
        Ok(found.order)
    }
}

#[derive(Default)]
struct Once {
    order: Order,
    seen: HashSet<(u32, [u8; 32])>,
}

impl Once {
    fn add(&mut self, partition: u32, body: &[u8]) {
        let digest = sha256(body);
        if self.seen.insert((partition, digest)) {
            self.order.entry(partition).or_default().push(digest);
        }
    }
}

/// Returns once the topic is there and every partition of it has a leader.
async fn ready(bus: &dyn Bus) -> Result<()> {
    let mut state = bus.state();
    let ready = async {
        while let Ok(()) = state
            .wait_for(|state| *state == BusState::Ready)
            .await
            .map(drop)
        {
            if bus.mark().await.is_ok() {
                return;
            }
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    };
    if tokio::time::timeout(PATIENCE, ready).await.is_ok() {
        return Ok(());
    }
    match &*bus.state().borrow() {
        BusState::Down(reason) => Err(MoveError::Refused(reason.clone())),
        _ => Err(late("to be reached: look at bus.brokers")),
    }
}

fn late(what: &str) -> MoveError {
    MoveError::Refused(format!(
        "Kafka took more than {} s {what}",
        PATIENCE.as_secs()
    ))
}

fn failed(error: BusError) -> MoveError {
    MoveError::Refused(format!("{error}: begin again, it goes on from here"))
}

/// Partitions of the one topic by their places: while nobody runs on the new installation, nobody needs to know their
/// numbers.
struct InOrder {
    partitions: u32,
    /// The topic was seen, and may be there or not before that.
    begun: AtomicBool,
}

#[async_trait]
impl Partitions for InOrder {
    async fn generations(&self, topic: &str) -> store::Result<Vec<Generation>> {
        if !self.begun.load(Ordering::Acquire) {
            return Ok(Vec::new());
        }
        Ok(vec![Generation {
            number: 1,
            topic: topic.to_owned(),
            stage: Stage::Open,
            partitions: (1..=self.partitions).collect(),
            base: 0,
            ends: Vec::new(),
        }])
    }

    async fn begin_generations(
        &self,
        topic: &str,
        _partitions: u32,
    ) -> store::Result<Vec<Generation>> {
        self.begun.store(true, Ordering::Release);
        self.generations(topic).await
    }

    async fn announce_generation(
        &self,
        _topic: &str,
        _number: u32,
        _partitions: u32,
        _number_max: u32,
    ) -> store::Result<bool> {
        Ok(false)
    }

    async fn turn_generation(&self, _topic: &str, _to: u32, _ends: Vec<i64>) -> store::Result<()> {
        Ok(())
    }

    async fn leave_generation(&self, _topic: &str, _number: u32) -> store::Result<()> {
        Ok(())
    }

    async fn positions(&self) -> store::Result<Vec<(u32, i64)>> {
        Ok(Vec::new())
    }
}
