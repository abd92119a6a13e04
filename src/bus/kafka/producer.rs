//! Appending: a record is accepted once all in-sync replicas acknowledged it. What the brokers do not take in
//! time was never accepted, though some of it may be on the bus: it comes again, and is known then.

use std::sync::Arc;

use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::KafkaError;
use rdkafka::producer::{FutureProducer, FutureRecord};
use tokio::sync::Semaphore;

use crate::bus::{BusError, NewRecord};

use super::context::Context;
use super::settings::{RECORD_BYTES_MAX, Settings, WAITING_BYTES_MAX, WAITING_RECORDS_MAX};
use super::{Shared, record, topic};

pub struct Producer {
    pub client: FutureProducer<Context>,
    topic: String,
    partitions: u32,
    bytes: Arc<Semaphore>,
    records: Arc<Semaphore>,
}

/// A record as it is handed to the client.
struct Sent {
    key: Option<String>,
    partition: i32,
    headers: Option<rdkafka::message::OwnedHeaders>,
    body: Vec<u8>,
}

impl Producer {
    pub fn new(settings: &Settings, context: Context) -> Result<Self, KafkaError> {
        Ok(Self {
            client: FutureProducer::from_config_and_context(&settings.producer(), context)?,
            topic: settings.topic(),
            partitions: settings.partitions,
            bytes: Arc::new(Semaphore::new(WAITING_BYTES_MAX)),
            records: Arc::new(Semaphore::new(WAITING_RECORDS_MAX)),
        })
    }

    /// Gives where each is: partition and offset.
    pub async fn append(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        records: Vec<NewRecord>,
    ) -> Result<Vec<(i32, i64)>, BusError> {
        let sent = records.into_iter().map(|record| Sent {
            key: Some(record::key(record.key)),
            partition: i32::try_from(record.key.0 % u64::from(self.partitions)).unwrap_or_default(),
            headers: Some(record::headers(&record)),
            body: record.body,
        });
        self.send(shared, sent.collect()).await
    }

    pub async fn append_bytes(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        body: Vec<u8>,
    ) -> Result<(), BusError> {
        let sent = Sent {
            key: None,
            partition: 0,
            headers: None,
            body,
        };
        self.send(shared, vec![sent]).await.map(drop)
    }

    async fn send(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        records: Vec<Sent>,
    ) -> Result<Vec<(i32, i64)>, BusError> {
        let overloaded = |reason: &str| BusError::Overloaded {
            reason: reason.to_owned(),
        };
        let largest = records.iter().map(|record| record.body.len()).max();
        if largest.is_some_and(|bytes| bytes > RECORD_BYTES_MAX - 64 * 1024) {
            return Err(BusError::Unavailable(topic::explain_code(
                rdkafka::error::RDKafkaErrorCode::MessageSizeTooLarge,
                &shared.settings,
            )));
        }
        let bytes: usize = records.iter().map(|record| record.body.len()).sum();
        // A batch larger than all of it waits alone.
        let permits =
            |wanted: usize, most: usize| u32::try_from(wanted.min(most)).unwrap_or(u32::MAX);
        let room = self.bytes.clone();
        let room = room.try_acquire_many_owned(permits(bytes, WAITING_BYTES_MAX));
        let room = room.map_err(|_| overloaded("too many bytes are waiting for Kafka"))?;
        let places = self.records.clone();
        let places = places.try_acquire_many_owned(permits(records.len(), WAITING_RECORDS_MAX));
        let places = places.map_err(|_| overloaded("too many records are waiting for Kafka"))?;
        let (producer, shared) = (self.clone(), shared.clone());
        // Goes on without its caller: one that leaves does not make room.
        let sending = tokio::spawn(async move {
            let sent = producer.deliver(&shared, records).await;
            drop((room, places));
            sent
        });
        let ended = |_| BusError::Unavailable("sending to Kafka panicked".to_owned());
        sending.await.map_err(ended)?
    }

    async fn deliver(
        &self,
        shared: &Shared,
        records: Vec<Sent>,
    ) -> Result<Vec<(i32, i64)>, BusError> {
        let mut deliveries = Vec::with_capacity(records.len());
        let mut refused: Option<BusError> = None;
        for sent in records {
            let mut record = FutureRecord::<str, [u8]>::to(&self.topic)
                .partition(sent.partition)
                .payload(&sent.body);
            record.key = sent.key.as_deref();
            record.headers = sent.headers;
            match self.client.send_result(record) {
                Ok(delivery) => deliveries.push(delivery),
                // Those behind it must not overtake it.
                Err((error, _)) => {
                    refused = Some(refusal(&error, shared));
                    break;
                }
            }
        }
        let mut offsets = Vec::with_capacity(deliveries.len());
        for delivery in deliveries {
            match delivery.await {
                Ok(Ok(delivered)) => offsets.push((delivered.partition, delivered.offset)),
                Ok(Err((error, _))) => {
                    refused.get_or_insert_with(|| refusal(&error, shared));
                }
                Err(_) => {
                    let gone = || BusError::Unavailable("the Kafka client was closed".to_owned());
                    refused.get_or_insert_with(gone);
                }
            }
        }
        match refused {
            Some(refused) => Err(refused),
            None => Ok(offsets),
        }
    }
}

fn refusal(error: &KafkaError, shared: &Shared) -> BusError {
    use rdkafka::error::RDKafkaErrorCode as Code;
    match error.rdkafka_error_code() {
        Some(Code::QueueFull) => BusError::Overloaded {
            reason: "too much is waiting for Kafka".to_owned(),
        },
        _ => BusError::Unavailable(topic::explain(error, &shared.settings)),
    }
}
