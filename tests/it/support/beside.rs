//! A bus that is not in the store's database, as Kafka is not: what it brings, the store has to write.

use std::sync::{Arc, Mutex, PoisonError};

use connector_api::async_trait;
use switchboard::bus::{Bus, BusError, Carried, Content, NewRecord, Record};
use tokio::sync::Notify;

/// Low bits of a number that are the partition's.
const PARTITION_BITS: u32 = 12;

/// Durable for as long as it is held.
#[derive(Default)]
pub struct BesideBus {
    records: Mutex<Vec<Record>>,
    arrived: Notify,
}

#[async_trait]
impl Bus for BesideBus {
    async fn append(&self, records: Vec<NewRecord>) -> Result<Vec<i64>, BusError> {
        let mut held = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let mut numbers = Vec::new();
        for record in records {
            let offset = ((held.len() + 1) as i64) << PARTITION_BITS;
            numbers.push(offset);
            held.push(Record {
                offset,
                content: Content::Envelope(record.envelope.clone()),
                carried: Some(Arc::new(Carried {
                    body: record.body.into(),
                    raw: record.raw,
                    blobs: record.blobs,
                    arrived_at: record.envelope.arrived_at,
                })),
            });
        }
        self.arrived.notify_waiters();
        Ok(numbers)
    }

    async fn read(
        &self,
        _partition: u32,
        position: i64,
        records_max: usize,
    ) -> Result<Vec<Record>, BusError> {
        loop {
            let arrived = self.arrived.notified();
            let records: Vec<Record> = {
                let held = self.records.lock().unwrap_or_else(PoisonError::into_inner);
                let after = held.iter().filter(|record| record.offset > position);
                after.take(records_max).cloned().collect()
            };
            if !records.is_empty() {
                return Ok(records);
            }
            arrived.await;
        }
    }
}
