//! Where a sealed topic ends. What was appended just before it was sealed may not be on all replicas yet, and
//! the end that a broker tells leaves that out. So a mark is appended to each partition, small enough for a
//! sealed topic: when all replicas have the mark, they have everything before it, and the last record before it
//! is the last one.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use rdkafka::TopicPartitionList;
use rdkafka::client::{Client, ClientContext};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
use rdkafka::topic_partition_list::Offset;
use tokio::time::Instant;

use crate::blobs::hex;

use super::context::Quiet;
use super::record;
use super::settings::Settings;
use super::{explain, topic};

/// How long brokers may take to seal, to take a mark, and to show what is before it.
const SEALED_MAX: Duration = Duration::from_secs(30);
const AGAIN_AFTER: Duration = Duration::from_millis(20);
/// Random bytes of a mark's id.
const ID_BYTES: usize = 6;
/// Bytes of what a sealed topic refuses: as many as a small record of ours, and chance, which nothing compresses.
const PROBE_BYTES: usize = 1024;
/// Records before a mark that are looked at first; then ever more.
const LOOKED_AT: i64 = 8;
const LOOKED_AT_FACTOR: i64 = 16;

/// Marks a topic that was just sealed.
pub struct Marker<'a> {
    pub producer: &'a FutureProducer<Quiet>,
    pub settings: &'a Settings,
    pub topic: &'a str,
    pub partitions: u32,
}

impl Marker<'_> {
    /// Returns, for every partition, where a mark is behind which no record of ours is taken.
    pub async fn mark(&self) -> Result<Vec<i64>, String> {
        let mut probe = vec![0; PROBE_BYTES];
        random(&mut probe)?;
        let refused = self.each("refuse records", |partition| {
            self.refuses(partition, &probe)
        });
        refused.await?;
        self.each("take a mark", |partition| self.takes(partition))
            .await
    }

    /// What is taken all the same is a mark, too.
    async fn refuses(&self, partition: i32, probe: &[u8]) -> Result<(), String> {
        match self.send(partition, "probe", Some(probe)).await {
            Ok(_) => Err("it takes them still".to_owned()),
            Err(error) if is_too_large(&error) => Ok(()),
            Err(error) => Err(self.explain(&error)),
        }
    }

    async fn takes(&self, partition: i32) -> Result<i64, String> {
        let mut id = [0; ID_BYTES];
        random(&mut id)?;
        let sent = self.send(partition, &hex(&id), None).await;
        sent.map_err(|error| self.explain(&error))
    }

    /// Tries of each partition, until it is as it has to be.
    async fn each<T, F: Future<Output = Result<T, String>>>(
        &self,
        what: &str,
        attempt: impl Fn(i32) -> F,
    ) -> Result<Vec<T>, String> {
        let until = Instant::now() + SEALED_MAX;
        let attempt = &attempt;
        let tries = (0..self.partitions).map(|partition| async move {
            loop {
                match attempt(i32::try_from(partition).unwrap_or(i32::MAX)).await {
                    Ok(done) => return Ok(done),
                    Err(reason) if Instant::now() > until => {
                        let topic = self.topic;
                        return Err(format!(
                            "partition {partition} of the sealed topic {topic} does not {what}: {reason}; until it does nothing is accepted: run this again"
                        ));
                    }
                    Err(_) => tokio::time::sleep(AGAIN_AFTER).await,
                }
            }
        });
        join_all(tries).await.into_iter().collect()
    }

    async fn send(
        &self,
        partition: i32,
        id: &str,
        value: Option<&[u8]>,
    ) -> Result<i64, KafkaError> {
        let mut record = FutureRecord::<str, [u8]>::to(self.topic)
            .partition(partition)
            .headers(record::mark(id));
        record.payload = value;
        match self.producer.send(record, Duration::ZERO).await {
            Ok(delivered) => Ok(delivered.offset),
            Err((error, _)) => Err(error),
        }
    }

    fn explain(&self, error: &KafkaError) -> String {
        explain::explain_of(error, self.settings, self.topic)
    }
}

fn random(bytes: &mut [u8]) -> Result<(), String> {
    aws_lc_rs::rand::fill(bytes).map_err(|_| "no random bytes".to_owned())
}

fn is_too_large(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageSizeTooLarge)
}

/// The offset behind the last record of each partition, whatever it is.
pub async fn ends(
    producer: &FutureProducer<Quiet>,
    settings: &Settings,
    topic: &str,
    partitions: u32,
) -> Result<Vec<i64>, String> {
    let (producer, name) = (producer.clone(), topic.to_owned());
    let asked = tokio::task::spawn_blocking(move || {
        let each = (0..partitions).map(|at| {
            let at = i32::try_from(at).unwrap_or(i32::MAX);
            let found = bounds(producer.client(), &name, at);
            found.map(|(_, end)| end)
        });
        each.collect::<Result<Vec<i64>, KafkaError>>()
    });
    let asked = asked
        .await
        .map_err(|_| "asking Kafka panicked".to_owned())?;
    asked.map_err(|error| explain::explain_of(&error, settings, topic))
}

/// The offsets of the first record of a partition and behind its last one; blocks. Of one that was just made, or whose
/// leader changes, brokers say so only after a moment.
fn bounds<C: ClientContext>(
    client: &Client<C>,
    name: &str,
    partition: i32,
) -> Result<(i64, i64), KafkaError> {
    let until = Instant::now() + SEALED_MAX;
    loop {
        match client.fetch_watermarks(name, partition, topic::ANSWER_MAX) {
            Err(_) if Instant::now() < until => std::thread::sleep(AGAIN_AFTER),
            answer => return answer,
        }
    }
}

/// The offset of the last record that is no mark before these offsets, one for each partition; `None` where
/// there is none any more.
pub async fn last_before(
    settings: &Settings,
    topic: &str,
    before: Vec<i64>,
) -> Result<Vec<Option<i64>>, String> {
    let (settings, topic) = (settings.clone(), topic.to_owned());
    let looking = tokio::task::spawn_blocking(move || {
        let reader =
            BaseConsumer::from_config_and_context(&settings.consumer(), Quiet::new(&settings));
        let reader: BaseConsumer<Quiet> =
            reader.map_err(|error| explain::explain_of(&error, &settings, &topic))?;
        look(&reader, &settings, &topic, &before)
    });
    let found = looking.await;
    found.map_err(|_| "reading from Kafka panicked".to_owned())?
}

/// One partition that is looked through backwards.
struct Looked {
    /// From here on everything is known.
    from: i64,
    first: i64,
    last: Option<i64>,
}

fn look(
    reader: &BaseConsumer<Quiet>,
    settings: &Settings,
    topic: &str,
    before: &[i64],
) -> Result<Vec<Option<i64>>, String> {
    let explain = |error: KafkaError| explain::explain_of(&error, settings, topic);
    let mut looked = BTreeMap::new();
    for (at, end) in before.iter().enumerate() {
        let at = i32::try_from(at).unwrap_or(i32::MAX);
        let found = bounds(reader.client(), topic, at);
        let (first, _) = found.map_err(explain)?;
        looked.insert(
            at,
            Looked {
                from: *end,
                first,
                last: None,
            },
        );
    }
    let mut many = LOOKED_AT;
    loop {
        let mut list = TopicPartitionList::new();
        let mut ends: BTreeMap<i32, i64> = BTreeMap::new();
        for (at, one) in &mut looked {
            if one.last.is_some() || one.from <= one.first {
                continue;
            }
            ends.insert(*at, one.from);
            one.from = (one.from - many).max(one.first);
            let added = list.add_partition_offset(topic, *at, Offset::Offset(one.from));
            added.map_err(explain)?;
        }
        if ends.is_empty() {
            return Ok(looked.into_values().map(|one| one.last).collect());
        }
        many *= LOOKED_AT_FACTOR;
        reader.assign(&list).map_err(explain)?;
        read_to(reader, &mut ends, &mut looked).map_err(|reason| {
            format!("the end of {topic} cannot be read: {reason}; run this again")
        })?;
    }
}

/// Reads until each partition was read to its end.
fn read_to(
    reader: &BaseConsumer<Quiet>,
    ends: &mut BTreeMap<i32, i64>,
    looked: &mut BTreeMap<i32, Looked>,
) -> Result<(), String> {
    let until = Instant::now() + SEALED_MAX;
    let mut reason = "it is not shown".to_owned();
    while !ends.is_empty() {
        if Instant::now() > until {
            return Err(reason);
        }
        let message = match reader.poll(Duration::from_millis(100)) {
            None => continue,
            Some(Err(error)) => {
                reason = error.to_string();
                continue;
            }
            Some(Ok(message)) => message,
        };
        let (at, offset) = (message.partition(), message.offset());
        let Some(end) = ends.get(&at).copied() else {
            continue;
        };
        let is_mark = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let headers = message.headers();
            headers.is_some_and(|headers| {
                let mut headers = headers.iter();
                headers.any(|header| record::says_mark(header.key, header.value))
            })
        }));
        // The crate panics at a header whose name is no UTF-8, and ours is.
        if offset < end
            && !is_mark.unwrap_or(false)
            && let Some(one) = looked.get_mut(&at)
        {
            one.last = one.last.max(Some(offset));
        }
        if offset >= end - 1 {
            ends.remove(&at);
        }
    }
    Ok(())
}
