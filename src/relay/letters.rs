//! Dead letters, each as it was on the bus, with why it is one. The shape is Kafka Connect's: bytes and headers
//! stay as they are, and headers of ours tell where the record was and what was wrong with it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::api::topics::LETTER_TYPE;
use crate::bus::notices::{Notice, Notices, Topic};
use crate::clock::timestamp;
use crate::store::relays::Letter;
use crate::store::{self, Store};

use super::{Next, Source, cloud_event};

/// Before the names of headers that tell of the letter, as Connect has `__connect.errors.`.
const ERRORS: &str = "__switchboard.errors.";
/// Letters of one batch.
const LETTERS: u32 = 100;
/// Nothing says that there is a new one.
const LOOK_EVERY: Duration = Duration::from_secs(1);

pub struct Letters {
    store: Arc<dyn Store>,
    /// Those being told.
    next: Mutex<Vec<Letter>>,
}

impl Letters {
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            next: Mutex::default(),
        }
    }

    fn take(&self) -> Vec<Letter> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *next)
    }
}

#[async_trait]
impl Source for Letters {
    fn name(&self) -> &'static str {
        "dead-letter"
    }

    fn topics(&self) -> Vec<Topic> {
        vec![Topic::DeadLetter]
    }

    /// Each letter is marked once it is told, and a mark is true whoever sets it: there is nothing to fence.
    async fn take_over(&self, _epoch: i64) -> store::Result<()> {
        Ok(())
    }

    async fn next(&self, notices: &dyn Notices) -> store::Result<Next> {
        let (letters, behind) = self.store.uncopied_letters(LETTERS).await?;
        let next = Next {
            notices: letters
                .iter()
                .map(|letter| notice(letter, notices.bytes_max()))
                .collect(),
            moves: !letters.is_empty(),
            behind,
            oldest: letters.first().map(|letter| letter.at),
            more: behind > letters.len() as i64,
        };
        let told = letters.into_iter();
        let told = told.map(|letter| Letter {
            body: None,
            ..letter
        });
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = told.collect();
        Ok(next)
    }

    async fn told(&self) -> store::Result<()> {
        let letters = self.take();
        self.store.letters_copied(letters).await
    }

    async fn more(&self) {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn notice(letter: &Letter, bytes_max: usize) -> Notice {
    let origin = letter.origin.as_ref();
    let name = origin.map_or_else(
        || format!("record-{}", letter.record),
        |origin| format!("{}-{}-{}", origin.topic, origin.partition, origin.offset),
    );
    let is_event = is_cloud_event(&letter.headers);
    let mut headers = match is_event {
        true => letter.headers.clone(),
        false => {
            let own = cloud_event([
                ("content-type", "application/octet-stream"),
                ("ce_specversion", "1.0"),
                ("ce_type", LETTER_TYPE),
                ("ce_id", name.as_str()),
                ("ce_source", "/dead-letters"),
                ("ce_time", &timestamp(letter.at).to_string()),
            ]);
            // Two of a name would be no CloudEvent.
            let others = letter
                .headers
                .iter()
                .filter(|(key, _)| !is_attribute(key))
                .cloned();
            own.into_iter().chain(others).collect()
        }
    };
    let key = partition_key(&letter.headers).filter(|_| is_event);
    if key.is_none() {
        headers.push(("ce_partitionkey".to_owned(), name.clone().into_bytes()));
    }
    let mut say = |what: &str, value: String| {
        headers.push((format!("{ERRORS}{what}"), value.into_bytes()));
    };
    if let Some(origin) = origin {
        say("topic", origin.topic.clone());
        say("partition", origin.partition.to_string());
        say("offset", origin.offset.to_string());
    }
    say("stage", "ROUTER".to_owned());
    say("exception.message", letter.reason.clone());
    say("attempts", letter.attempts.to_string());
    say("time", timestamp(letter.at).to_string());
    let body = letter.body.as_deref();
    let fits = body.filter(|body| body.len() <= bytes_max);
    if fits.is_none() {
        say("bytes", body.map_or("gone", |_| "too many").to_owned());
    }
    Notice {
        topic: Topic::DeadLetter,
        key: Some(key.unwrap_or(name)),
        headers,
        data: fits.unwrap_or_default().to_vec(),
    }
}

fn is_attribute(header: &str) -> bool {
    header == "content-type" || header.starts_with("ce_")
}

/// Whether headers are those of a CloudEvent 1.0, each attribute once.
fn is_cloud_event(headers: &[(String, Vec<u8>)]) -> bool {
    let one = |name: &str| {
        let mut values = headers.iter().filter(|(key, _)| key == name);
        match (values.next(), values.next()) {
            (Some((_, value)), None) => std::str::from_utf8(value).ok(),
            _ => None,
        }
    };
    let given = |name| one(name).is_some_and(|value| !value.is_empty());
    one("ce_specversion") == Some("1.0") && ["ce_type", "ce_id", "ce_source"].into_iter().all(given)
}

fn partition_key(headers: &[(String, Vec<u8>)]) -> Option<String> {
    let found = headers.iter().find(|(key, _)| key == "ce_partitionkey");
    found.and_then(|(_, value)| String::from_utf8(value.clone()).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(headers: &[(&str, &str)]) -> Letter {
        let headers = headers.iter();
        Letter {
            record: 7 << 12 | 3,
            origin: Some(crate::store::relays::Origin {
                topic: "shop.inbound".to_owned(),
                partition: 2,
                offset: 7,
            }),
            reason: "not an envelope".to_owned(),
            attempts: 1,
            at: 0,
            body: Some(b"\xff\x00".to_vec()),
            headers: headers
                .map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec()))
                .collect(),
        }
    }

    fn told(letter: &Letter, bytes_max: usize) -> String {
        let notice = notice(letter, bytes_max);
        let headers = notice.headers.iter();
        let lines: Vec<String> = headers
            .map(|(key, value)| format!("{key}: {}", String::from_utf8_lossy(value)))
            .collect();
        let key = notice.key.unwrap_or_default();
        format!("{key} {:?}\n{}\n", notice.data, lines.join("\n"))
    }

    #[test]
    fn a_foreign_record_becomes_a_cloud_event_and_one_that_is_one_stays_what_it_is() {
        let foreign = letter(&[("ce_type", "theirs"), ("trace", "1")]);
        expect_test::expect![[r#"
            shop.inbound-2-7 [255, 0]
            content-type: application/octet-stream
            ce_specversion: 1.0
            ce_type: switchboard.dead_letter.v1
            ce_id: shop.inbound-2-7
            ce_source: /dead-letters
            ce_time: 1970-01-01T00:00:00Z
            trace: 1
            ce_partitionkey: shop.inbound-2-7
            __switchboard.errors.topic: shop.inbound
            __switchboard.errors.partition: 2
            __switchboard.errors.offset: 7
            __switchboard.errors.stage: ROUTER
            __switchboard.errors.exception.message: not an envelope
            __switchboard.errors.attempts: 1
            __switchboard.errors.time: 1970-01-01T00:00:00Z
        "#]]
        .assert_eq(&told(&foreign, 9));
        let ours = letter(&[
            ("content-type", "application/json"),
            ("ce_specversion", "1.0"),
            ("ce_type", "switchboard.inbound.v1"),
            ("ce_id", "m-1"),
            ("ce_source", "/brands/main/channels/shop-chat"),
            ("ce_partitionkey", "0a"),
        ]);
        expect_test::expect![[r#"
            0a []
            content-type: application/json
            ce_specversion: 1.0
            ce_type: switchboard.inbound.v1
            ce_id: m-1
            ce_source: /brands/main/channels/shop-chat
            ce_partitionkey: 0a
            __switchboard.errors.topic: shop.inbound
            __switchboard.errors.partition: 2
            __switchboard.errors.offset: 7
            __switchboard.errors.stage: ROUTER
            __switchboard.errors.exception.message: not an envelope
            __switchboard.errors.attempts: 1
            __switchboard.errors.time: 1970-01-01T00:00:00Z
            __switchboard.errors.bytes: too many
        "#]]
        .assert_eq(&told(&ours, 1));
    }
}
