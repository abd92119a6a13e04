//! The floor of the bus: a loop that consumes the records and produces them again, with the guarantees of ours.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::runtime::Runtime;

use crate::processes::Site;

const PATIENCE: Duration = Duration::from_secs(60);

/// Records a second.
pub fn floor(runtime: &Runtime, site: &Site, records: u64) -> Result<f64> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &site.brokers);
    let consumer: BaseConsumer = config
        .clone()
        .set("group.id", "floor")
        .set("enable.auto.commit", "false")
        .create()?;
    let producer: BaseProducer = config
        .clone()
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("linger.ms", "5")
        .set("compression.type", "zstd")
        .create()?;
    let topic = format!("{}.inbound", site.prefix);
    let known = consumer.fetch_metadata(Some(&topic), PATIENCE)?;
    let found = known.topics().first().context("no topic")?;
    let mut from = TopicPartitionList::new();
    for partition in found.partitions() {
        from.add_partition_offset(&topic, partition.id(), Offset::Beginning)?;
    }
    let to = format!("{}.floor", site.prefix);
    let admin: AdminClient<DefaultClientContext> = config.create()?;
    let partitions = i32::try_from(found.partitions().len())?;
    let made = NewTopic::new(&to, partitions, TopicReplication::Fixed(1));
    for outcome in runtime.block_on(admin.create_topics([&made], &AdminOptions::new()))? {
        outcome.map_err(|(topic, code)| anyhow::anyhow!("{topic}: {code}"))?;
    }
    consumer.assign(&from)?;
    let begun = Instant::now();
    let mut relayed = 0;
    while relayed < records {
        if begun.elapsed() > PATIENCE * 5 {
            bail!("{relayed} of {records} records were there");
        }
        let Some(message) = consumer.poll(Duration::from_millis(100)) else {
            producer.poll(Duration::ZERO);
            continue;
        };
        let message = message?;
        let mut record = BaseRecord::to(&to)
            .key(message.key().unwrap_or_default())
            .payload(message.payload().unwrap_or_default());
        loop {
            match producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    producer.poll(Duration::from_millis(1));
                }
                Err((error, _)) => return Err(error.into()),
            }
        }
        producer.poll(Duration::ZERO);
        relayed += 1;
    }
    producer.flush(PATIENCE)?;
    Ok(records as f64 / begun.elapsed().as_secs_f64())
}
