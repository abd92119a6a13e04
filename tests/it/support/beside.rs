//! A bus that is not in the store's database, as Kafka is not: what it brings, the store has to write.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use connector_api::async_trait;
use switchboard::bus::{
    Bus, BusError, BusState, Carried, Content, Mark, NewRecord, Record, decode,
};
use tokio::sync::{Notify, watch};

/// Low bits of a number that are the partition's.
const PARTITION_BITS: u32 = 12;

/// Durable for as long as it is held. One partition, number 0.
pub struct BesideBus {
    records: Mutex<Vec<Record>>,
    changed: Notify,
    position: AtomicI64,
    assigned: watch::Sender<Vec<u32>>,
    state: watch::Sender<BusState>,
}

impl Default for BesideBus {
    fn default() -> Self {
        Self {
            records: Mutex::default(),
            changed: Notify::new(),
            position: AtomicI64::new(0),
            assigned: watch::Sender::new(vec![0]),
            state: watch::Sender::new(BusState::Ready),
        }
    }
}

impl BesideBus {
    fn hold(&self) -> MutexGuard<'_, Vec<Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, content: Content, carried: Carried) -> i64 {
        let mut held = self.hold();
        let offset = ((held.len() + 1) as i64) << PARTITION_BITS;
        held.push(Record {
            offset,
            content,
            carried: Some(Arc::new(carried)),
        });
        self.changed.notify_waiters();
        offset
    }

    fn newest(&self) -> i64 {
        self.hold().last().map_or(0, |record| record.offset)
    }

    async fn decided_through(&self, newest: impl Fn(&Self) -> i64) {
        loop {
            let changed = self.changed.notified();
            if self.position.load(Ordering::SeqCst) >= newest(self) {
                return;
            }
            changed.await;
        }
    }
}

#[async_trait]
impl Bus for BesideBus {
    async fn append(&self, records: Vec<NewRecord>) -> Result<Vec<i64>, BusError> {
        let numbers = records.into_iter().map(|record| {
            let carried = Carried {
                body: record.body.into(),
                raw: record.raw,
                blobs: record.blobs,
                arrived_at: record.envelope.arrived_at,
                headers: Vec::new(),
            };
            self.push(Content::Envelope(record.envelope), carried)
        });
        Ok(numbers.collect())
    }

    async fn append_bytes(&self, body: Vec<u8>, arrived_at: i64) -> Result<(), BusError> {
        let content = decode(&body);
        let carried = Carried {
            body: body.into(),
            raw: None,
            blobs: Vec::new(),
            arrived_at,
            headers: Vec::new(),
        };
        self.push(content, carried);
        Ok(())
    }

    fn assigned(&self) -> watch::Receiver<Vec<u32>> {
        self.assigned.subscribe()
    }

    async fn read(
        &self,
        _partition: u32,
        position: i64,
        records_max: usize,
    ) -> Result<Vec<Record>, BusError> {
        loop {
            let changed = self.changed.notified();
            let records: Vec<Record> = {
                let held = self.hold();
                let after = held.iter().filter(|record| record.offset > position);
                after.take(records_max).cloned().collect()
            };
            if !records.is_empty() {
                return Ok(records);
            }
            changed.await;
        }
    }

    fn decided(&self, _partition: u32, position: i64, _records: usize) {
        self.position.fetch_max(position, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    fn lag(&self) -> i64 {
        (self.newest() - self.position.load(Ordering::SeqCst)) >> PARTITION_BITS
    }

    async fn mark(&self) -> Result<Mark, BusError> {
        Ok(Mark([(0, self.newest())].into()))
    }

    fn partition_of(&self, _record: i64) -> u32 {
        0
    }

    async fn decided_so_far(&self) -> Result<(), BusError> {
        let newest = self.newest();
        self.decided_through(|_| newest).await;
        Ok(())
    }

    async fn caught_up(&self) -> Result<(), BusError> {
        self.decided_through(Self::newest).await;
        Ok(())
    }

    fn names_files_for(&self) -> Duration {
        Duration::ZERO
    }

    async fn leave(&self) {
        self.assigned.send_replace(Vec::new());
    }

    fn state(&self) -> watch::Receiver<BusState> {
        self.state.subscribe()
    }
}
