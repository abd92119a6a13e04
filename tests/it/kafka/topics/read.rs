//! What stands on a topic, and whether it is what the document says.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, Headers, Message};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Value, json};
use switchboard::bus::kafka::Settings;

use crate::kafka::client;

/// A record as it was read.
pub struct Read {
    pub key: Option<String>,
    pub headers: BTreeMap<String, Vec<u8>>,
    pub value: Vec<u8>,
}

impl Read {
    pub fn data(&self) -> Value {
        serde_json::from_slice(&self.value).unwrap()
    }

    pub fn text(&self, header: &str) -> &str {
        let value = self.headers.get(header);
        std::str::from_utf8(value.unwrap_or_else(|| panic!("no header {header}"))).unwrap()
    }
}

/// Everything on a topic, partition by partition.
pub fn read(settings: &Settings, topic: &str) -> Vec<Vec<Read>> {
    let reader: BaseConsumer = client(settings)
        .set("group.id", "another")
        .create()
        .unwrap();
    let within = Duration::from_secs(20);
    let (mut list, mut partitions, mut left) = (TopicPartitionList::new(), Vec::new(), 0);
    for at in 0..i32::try_from(settings.partitions).unwrap() {
        left += reader.fetch_watermarks(topic, at, within).unwrap().1;
        list.add_partition_offset(topic, at, Offset::Beginning)
            .unwrap();
        partitions.push(Vec::new());
    }
    reader.assign(&list).unwrap();
    for read in 0..left {
        let message = reader.poll(within);
        let message = message.unwrap_or_else(|| panic!("{read} of {left} records of {topic}"));
        let message = message.unwrap();
        let headers = message.headers().map_or_else(BTreeMap::new, |headers| {
            let headers = headers.iter();
            let pair = |header: Header<'_, &[u8]>| {
                let value = header.value.unwrap_or_default();
                (header.key.to_owned(), value.to_vec())
            };
            headers.map(pair).collect()
        });
        let key = message.key();
        partitions[usize::try_from(message.partition()).unwrap()].push(Read {
            key: key.map(|key| String::from_utf8_lossy(key).into_owned()),
            headers,
            value: message.payload().unwrap_or_default().to_vec(),
        });
    }
    partitions
}

/// What a document says of a message: its headers and its payload.
pub fn check(document: &Value, message: &str, read: &Read) {
    let said = &document["components"]["messages"][message];
    let headers: serde_json::Map<String, Value> = read
        .headers
        .iter()
        .filter_map(|(name, value)| Some((name.clone(), std::str::from_utf8(value).ok()?.into())))
        .collect();
    let valid = |schema: &Value, value: &Value| {
        let schema = json!({ "allOf": [schema], "components": document["components"] });
        let validator = jsonschema::validator_for(&schema).unwrap();
        let wrong: Vec<String> = validator
            .iter_errors(value)
            .map(|error| format!("{error} at {}", error.instance_path()))
            .collect();
        assert!(wrong.is_empty(), "{message}: {wrong:?} in {value:#}");
    };
    valid(&said["headers"], &Value::Object(headers));
    if let Some(payload) = said.get("payload") {
        valid(payload, &read.data());
    }
}
