//! Appending: a record is accepted once all in-sync replicas acknowledged it. What the brokers do not take in
//! time was never accepted, though some of it may be on the bus: it comes again, and is known then.

use std::sync::Arc;

use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Message, OwnedHeaders, OwnedMessage};
use rdkafka::producer::future_producer::Delivery;
use rdkafka::producer::{FutureProducer, FutureRecord};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::bus::{BusError, NewRecord};
use crate::store::partitions::Generation;

use super::context::Context;
use super::settings::{
    DELIVERY_MAX, RECORD_BYTES_MAX, Settings, WAITING_BYTES_MAX, WAITING_RECORDS_MAX,
};
use super::{Shared, explain, numbers, record};

pub struct Producer {
    pub client: FutureProducer<Context>,
    bytes: Arc<Semaphore>,
    records: Arc<Semaphore>,
}

/// A record as it is handed to the client.
struct Sent {
    /// Its place in the batch.
    at: usize,
    /// Which partition of the topic, by however many it has.
    hash: u64,
    key: Option<String>,
    headers: Option<OwnedHeaders>,
    body: Vec<u8>,
}

impl Sent {
    /// What comes back was not taken.
    fn again(at: usize, hash: u64, mut message: OwnedMessage) -> Self {
        Self {
            at,
            hash,
            key: (message.key()).map(|key| String::from_utf8_lossy(key).into_owned()),
            headers: message.detach_headers(),
            body: message.payload().unwrap_or_default().to_vec(),
        }
    }
}

impl Producer {
    pub fn new(settings: &Settings, context: Context) -> Result<Self, KafkaError> {
        Ok(Self {
            client: FutureProducer::from_config_and_context(&settings.producer(), context)?,
            bytes: Arc::new(Semaphore::new(WAITING_BYTES_MAX)),
            records: Arc::new(Semaphore::new(WAITING_RECORDS_MAX)),
        })
    }

    /// Gives their numbers; 0 of one that was acknowledged when it was sent again, and whose offset is not known.
    pub async fn append(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        records: Vec<NewRecord>,
    ) -> Result<Vec<i64>, BusError> {
        let sent = records.into_iter().enumerate().map(|(at, record)| Sent {
            at,
            hash: record.key.0,
            key: Some(record::key(record.key)),
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
            at: 0,
            hash: 0,
            key: None,
            headers: None,
            body,
        };
        self.send(shared, vec![sent]).await.map(drop)
    }

    async fn send(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        records: Vec<Sent>,
    ) -> Result<Vec<i64>, BusError> {
        let overloaded = |reason: &str| BusError::Overloaded {
            reason: reason.to_owned(),
        };
        let largest = records.iter().map(|record| record.body.len()).max();
        if largest.is_some_and(|bytes| bytes > RECORD_BYTES_MAX - 64 * 1024) {
            return Err(BusError::Unavailable(explain::explain_code(
                RDKafkaErrorCode::MessageSizeTooLarge,
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

    /// Where the topic is sealed meanwhile, what it did not take goes to the next one, and only that: what it took
    /// is decided first. All of one partition behind the first that it refuses is refused, too, so a customer's
    /// order stays.
    async fn deliver(&self, shared: &Shared, mut records: Vec<Sent>) -> Result<Vec<i64>, BusError> {
        let until = Instant::now() + DELIVERY_MAX;
        let mut given = vec![0; records.len()];
        loop {
            let known = shared.generations();
            let starting = || BusError::Unavailable("the topic is not known yet".to_owned());
            let generation = known.open().ok_or_else(starting)?;
            let sealed = self.deliver_to(generation, records, shared, &mut given);
            records = sealed.await?;
            if records.is_empty() {
                return Ok(given);
            }
            shared.newer_than(generation.number, until).await?;
        }
    }

    /// Gives what the topic refuses as too large.
    async fn deliver_to(
        &self,
        generation: &Generation,
        records: Vec<Sent>,
        shared: &Shared,
        given: &mut [i64],
    ) -> Result<Vec<Sent>, BusError> {
        let partitions = u64::from(generation.count()).max(1);
        let mut deliveries = Vec::with_capacity(records.len());
        let mut refused: Option<BusError> = None;
        for sent in records {
            let partition = i32::try_from(sent.hash % partitions).unwrap_or_default();
            let mut record = FutureRecord::<str, [u8]>::to(&generation.topic)
                .partition(partition)
                .payload(&sent.body);
            record.key = sent.key.as_deref();
            record.headers = sent.headers;
            match self.client.send_result(record) {
                Ok(delivery) => deliveries.push((sent.at, sent.hash, delivery)),
                // Those behind it must not overtake it.
                Err((error, _)) => {
                    refused = Some(refusal(&error, shared, &generation.topic));
                    break;
                }
            }
        }
        let mut sealed = Vec::new();
        for (at, hash, delivery) in deliveries {
            match delivery.await {
                Ok(Ok(delivered)) => {
                    if let Some(place) = given.get_mut(at) {
                        *place = number(generation, &delivered);
                    }
                }
                Ok(Err((error, message))) if is_too_large(&error) => {
                    sealed.push(Sent::again(at, hash, message));
                }
                Ok(Err((error, _))) => {
                    refused.get_or_insert_with(|| refusal(&error, shared, &generation.topic));
                }
                Err(_) => {
                    let gone = || BusError::Unavailable("the Kafka client was closed".to_owned());
                    refused.get_or_insert_with(gone);
                }
            }
        }
        match refused {
            Some(refused) => Err(refused),
            None => Ok(sealed),
        }
    }
}

fn number(generation: &Generation, delivered: &Delivery) -> i64 {
    let at = usize::try_from(delivered.partition).unwrap_or(usize::MAX);
    let partition = generation.partitions.get(at);
    partition
        .filter(|_| delivered.offset >= 0)
        .map_or(0, |partition| {
            let record = numbers::record(delivered.offset, *partition);
            numbers::outside(record, generation.base)
        })
}

fn is_too_large(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageSizeTooLarge)
}

fn refusal(error: &KafkaError, shared: &Shared, topic: &str) -> BusError {
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::TopicAuthorizationFailed) => {
            let reason = explain::refused("Write", topic);
            shared.refuse(reason.clone());
            BusError::Unavailable(reason)
        }
        Some(RDKafkaErrorCode::QueueFull) => BusError::Overloaded {
            reason: "too much is waiting for Kafka".to_owned(),
        },
        _ => BusError::Unavailable(explain::explain(error, &shared.settings)),
    }
}
