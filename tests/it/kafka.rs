//! The Kafka bus alone: what only a bus of several partitions and processes has, on a real broker.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use switchboard::blobs::Blobs;
use switchboard::bus::kafka::{KafkaBus, Sasl, Security, Settings, Tls, Tokens, Unsafe};
use switchboard::bus::{
    Bus, BusError, BusState, Content, ENVELOPE_MAJOR, Envelope, INBOUND_TYPE, NewRecord, RecordKey,
};
use switchboard::store::sqlite::SqliteStore;

use crate::peers;
use crate::support::kafka::{assigned, broker, settings};
use crate::support::{chat, within_patience};

mod anew;
mod bound;
mod faults;
mod frozen;
mod grow;
#[cfg(feature = "kafka-secured")]
mod secured;
pub mod topics;

/// What several processes share: a store and files.
struct Site {
    store: Arc<SqliteStore>,
    blobs: Blobs,
    _dir: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self {
            store: Arc::new(SqliteStore::open(dir.path(), &[], &[]).unwrap()),
            blobs: Blobs::open(dir.path()).unwrap(),
            _dir: dir,
        }
    }

    fn bus(&self, settings: &Settings) -> KafkaBus {
        let (store, blobs) = (self.store.clone(), self.blobs.clone());
        KafkaBus::open(settings.clone(), store, blobs, true).unwrap()
    }
}

async fn read_back(blobs: &Blobs, sha256: [u8; 32]) -> bytes::Bytes {
    let file = blobs
        .find(sha256)
        .await
        .unwrap()
        .expect("the file is there");
    file.read_at(0, file.bytes_len()).await.unwrap()
}

/// The `number`th of a customer's messages.
fn record(customer: u64, number: usize) -> NewRecord {
    let key = format!("{customer}-{number:04}");
    let envelope = Envelope {
        major: ENVELOPE_MAJOR,
        brand: "main".parse().unwrap(),
        channel: "shop-chat".parse().unwrap(),
        arrived_at: 1_790_000_000_000_000,
        digest: 0,
        imported: false,
        event: chat("cust-7", "Hello?").key(&key).event,
        full_text: None,
    };
    NewRecord {
        body: serde_json::to_vec(&envelope).unwrap(),
        envelope: Arc::new(envelope),
        key: RecordKey(customer),
        raw: None,
        blobs: Vec::new(),
    }
}

/// Waits for a state of the bus and gives why it is down, where it is.
async fn state(bus: &KafkaBus, down: impl Fn(&str) -> bool) -> String {
    let mut state = bus.state();
    let found = state.wait_for(|state| match state {
        BusState::Down(reason) => down(reason),
        BusState::Ready => down(""),
        BusState::Starting => false,
    });
    match within_patience("a state of the bus", found)
        .await
        .unwrap()
        .clone()
    {
        BusState::Down(reason) => reason,
        _ => String::new(),
    }
}

async fn ready(bus: &KafkaBus) {
    state(bus, str::is_empty).await;
}

/// Reads all partitions that are the bus's from their start, until `count` records were read: their keys by
/// customer, in order.
async fn all(bus: &KafkaBus, count: usize) -> BTreeMap<String, Vec<String>> {
    let mut said: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let partitions = bus.assigned().borrow().clone();
    assert!(!partitions.is_empty(), "nothing is the bus's to read");
    let mut positions: BTreeMap<u32, i64> = partitions.iter().map(|one| (*one, 0)).collect();
    let mut read = 0;
    let reading = async {
        while read < count {
            for (partition, position) in &mut positions {
                let some = tokio::time::timeout(
                    Duration::from_millis(50),
                    bus.read(*partition, *position, 100),
                );
                let Ok(some) = some.await else { continue };
                for record in some.unwrap() {
                    assert!(record.offset > *position, "numbers rise");
                    assert_eq!(bus.partition_of(record.offset), *partition);
                    *position = record.offset;
                    let Content::Envelope(envelope) = record.content else {
                        panic!("{record:?}")
                    };
                    let key = envelope.event.dedupe_key.to_string();
                    let customer = key.split('-').next().unwrap_or_default().to_owned();
                    said.entry(customer).or_default().push(key);
                    read += 1;
                }
            }
        }
    };
    within_patience("reading all partitions", reading).await;
    said
}

fn expected(customers: u64, each: usize) -> BTreeMap<String, Vec<String>> {
    let of = |customer| {
        (0..each)
            .map(move |number| format!("{customer}-{number:04}"))
            .collect()
    };
    (0..customers)
        .map(|customer| (customer.to_string(), of(customer)))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_are_shared_out_and_taken_over_and_each_record_is_in_one_of_them() {
    if !peers::enabled() {
        return;
    }
    for brokers_share_out in [false, true] {
        shared_out_and_taken_over(brokers_share_out).await;
    }
}

async fn shared_out_and_taken_over(brokers_share_out: bool) {
    let (broker, site) = (broker(), Site::new());
    let settings = Settings {
        brokers_share_out,
        ..settings(broker.brokers(), 3)
    };
    let first = site.bus(&settings);
    assert_eq!(assigned(&first, 3).await, [1, 2, 3]);
    for number in 0..20 {
        let numbers = first.append((0..9).map(|customer| record(customer, number)).collect());
        let numbers = numbers.await.unwrap();
        assert!(numbers.iter().all(|number| *number > 0), "{numbers:?}");
    }
    assert_eq!(all(&first, 180).await, expected(9, 20));
    let second = site.bus(&settings);
    let (mine, mut other) = (first.assigned(), second.assigned());
    let shared = async {
        loop {
            let (mine, other) = (mine.borrow().clone(), other.borrow_and_update().clone());
            let mut both: Vec<u32> = mine.iter().chain(&other).copied().collect();
            both.sort_unstable();
            if !other.is_empty() && both == [1, 2, 3] {
                return (mine, other);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let (_, theirs) = within_patience("the second to get a share", shared).await;
    let lost = first.read(theirs[0], 0, 1).await;
    assert!(matches!(lost, Err(BusError::Unavailable(_))), "{lost:?}");
    first.leave().await;
    assert_eq!(assigned(&second, 3).await, [1, 2, 3]);
    assert_eq!(all(&second, 180).await, expected(9, 20));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_is_made_safe_and_refused_by_name_while_it_is_not() {
    if !peers::enabled() {
        return;
    }
    let (broker, site) = (broker(), Site::new());
    let settings = settings(broker.brokers(), 2);
    ready(&site.bus(&settings)).await;
    let admin: AdminClient<DefaultClientContext> = client(&settings).create().unwrap();
    let topic = settings.topic();
    let asked = [ResourceSpecifier::Topic(&topic)];
    let described = admin.describe_configs(&asked, &AdminOptions::new()).await;
    let described = described.unwrap().remove(0).unwrap();
    let value = |key: &str| described.get(key).and_then(|entry| entry.value.clone());
    assert_eq!(value("retention.ms").as_deref(), Some("1209600000"));
    assert_eq!(
        value("unclean.leader.election.enable").as_deref(),
        Some("false")
    );
    assert_eq!(value("cleanup.policy").as_deref(), Some("delete"));

    let set = |key: &'static str, value: &'static str| {
        let change = AlterConfig::new(ResourceSpecifier::Topic(&topic))
            .set("max.message.bytes", "33554432")
            .set("retention.ms", "1209600000")
            .set(key, value);
        let admin = &admin;
        async move {
            let changed = admin.alter_configs(&[change], &AdminOptions::new()).await;
            changed.unwrap().remove(0).unwrap();
        }
    };
    set("unclean.leader.election.enable", "true").await;
    let refused = site.bus(&settings);
    let why = state(&refused, |why| !why.is_empty()).await;
    assert!(
        why.contains("unclean-election (set unclean.leader.election.enable to false)"),
        "{why}"
    );
    let refusal = refused.append(vec![record(1, 1)]).await;
    assert_eq!(refusal, Err(BusError::Unavailable(why)));
    assert!(refused.assigned().borrow().is_empty());
    ready(&site.bus(&Settings {
        accepted: vec![Unsafe::UncleanElection],
        ..settings.clone()
    }))
    .await;
    set("unclean.leader.election.enable", "false").await;
    ready(&refused).await;

    let fewer = site.bus(&Settings {
        partitions: 5,
        ..settings.clone()
    });
    let why = state(&fewer, |why| !why.is_empty()).await;
    assert!(
        why.contains("has 2 partitions and bus.partitions is 5"),
        "{why}"
    );
    let wide = Settings {
        replication: 3,
        ..crate::support::kafka::settings(broker.brokers(), 1)
    };
    let why = state(&site.bus(&wide), |why| !why.is_empty()).await;
    assert!(
        why.contains("bus.replication is 3, and the cluster has fewer brokers"),
        "{why}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_read_cloudevents_and_what_others_write_is_unreadable_with_its_bytes() {
    if !peers::enabled() {
        return;
    }
    let (broker, site) = (broker(), Site::new());
    let settings = settings(broker.brokers(), 1);
    let bus = site.bus(&settings);
    assigned(&bus, 1).await;
    let mut mail = record(7, 1);
    mail.raw = Some(
        site.blobs
            .keep(bytes::Bytes::from_static(b"From: a\r\n"))
            .await
            .unwrap(),
    );
    bus.append(vec![mail.clone()]).await.unwrap();

    let reader: BaseConsumer = client(&settings)
        .set("group.id", "another")
        .create()
        .unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&settings.topic(), 0, Offset::Beginning)
        .unwrap();
    reader.assign(&list).unwrap();
    let read = reader.poll(Duration::from_secs(20)).unwrap().unwrap();
    assert_eq!(read.payload(), Some(mail.body.as_slice()));
    assert_eq!(read.key(), Some(&b"0000000000000007"[..]));
    let headers = read.headers().unwrap();
    let text = |name: &str| {
        let header = headers.iter().find(|header| header.key == name)?;
        Some(String::from_utf8_lossy(header.value?).into_owned())
    };
    let digest = switchboard::blobs::hex(&switchboard::blobs::sha256(b"From: a\r\n"));
    for (name, value) in [
        ("content-type", "application/json"),
        ("ce_specversion", "1.0"),
        ("ce_type", INBOUND_TYPE),
        ("ce_id", "7-0001"),
        ("ce_source", "/brands/main/channels/shop-chat"),
        ("ce_time", "2026-09-21T14:13:20Z"),
        ("ce_partitionkey", "0000000000000007"),
        ("ce_raw", &format!("{digest}:9")),
    ] {
        assert_eq!(text(name).as_deref(), Some(value), "{name}");
    }

    let writer: FutureProducer = client(&settings).create().unwrap();
    let topic = settings.topic();
    let none: FutureRecord<'_, str, [u8]> = FutureRecord::to(&topic);
    let wrong = OwnedHeaders::new().insert(Header {
        key: "ce_raw",
        value: Some("nothing"),
    });
    let foreign = FutureRecord::<str, [u8]>::to(&topic)
        .payload(&mail.body)
        .headers(wrong);
    for record in [none, foreign] {
        writer.send(record, Duration::ZERO).await.unwrap();
    }
    let mut records = Vec::new();
    let mut position = 0;
    while records.len() < 3 {
        let read = within_patience("reading", bus.read(1, position, 9))
            .await
            .unwrap();
        position = read.last().unwrap().offset;
        records.extend(read);
    }
    let raw = records[0].carried.clone().unwrap().raw.clone().unwrap();
    assert_eq!(
        read_back(&site.blobs, raw.sha256).await,
        &b"From: a\r\n"[..]
    );
    for (record, why, body) in [
        (&records[1], "it has no value", &b""[..]),
        (
            &records[2],
            "its header ce_raw names no bytes",
            mail.body.as_slice(),
        ),
    ] {
        let Content::Unreadable { reason } = &record.content else {
            panic!("{record:?}")
        };
        assert_eq!(
            (
                reason.as_str(),
                record.carried.as_ref().unwrap().body.as_ref()
            ),
            (why, body)
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_position_that_the_log_does_not_have_is_trouble_and_no_reason_to_begin_elsewhere() {
    if !peers::enabled() {
        return;
    }
    let (broker, site) = (broker(), Site::new());
    let settings = settings(broker.brokers(), 1);
    let bus = site.bus(&settings);
    assigned(&bus, 1).await;
    let numbers = bus
        .append((0..5).map(|number| record(7, number)).collect())
        .await
        .unwrap();
    let far = numbers.last().unwrap() + (90 << 12);
    let read = within_patience("reading from nowhere", bus.read(1, far, 9)).await;
    let Err(BusError::Unavailable(why)) = read else {
        panic!("{read:?}")
    };
    assert!(
        why.contains("has offsets 0 to 5 and was decided to 95"),
        "{why}"
    );
    let again = within_patience("reading from the start", bus.read(1, numbers[3], 9)).await;
    assert_eq!(again.unwrap()[0].offset, numbers[4]);
}

pub fn client(settings: &Settings) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &settings.brokers);
    config
}

/// What Switchboard sets itself cannot be passed through, and what can is not replaced.
#[test]
fn every_key_that_the_clients_set_after_what_is_passed_through_is_refused_by_its_name() {
    let tls = Tls {
        ca_file: Some("a.pem".into()),
        own: Some(("b.pem".into(), "b.key".into())),
    };
    let by_password = Sasl::Password {
        mechanism: "PLAIN",
        username: "u".to_owned(),
        password: "p".into(),
    };
    let by_token = Sasl::Token(Tokens {
        url: Some("https://login.example/token".to_owned()),
        ca_file: Some("c.pem".into()),
        client_id: Some("c".to_owned()),
        client_secret: Some("p".into()),
        scope: Some("kafka".to_owned()),
    });
    for sasl in [by_password, by_token] {
        let tls = Some(tls.clone());
        let sasl = Some(sasl);
        check_owned(Settings {
            security: Security { tls, sasl },
            ..settings("kafka:9092".to_owned(), 1)
        });
    }
}

fn check_owned(plain: Settings) {
    let keys = |config: &ClientConfig| -> Vec<String> {
        config
            .config_map()
            .keys()
            .map(|key| (*key).to_owned())
            .collect()
    };
    let (producer, consumer) = (plain.producer(), plain.consumer());
    let all: std::collections::BTreeSet<String> =
        keys(&producer).into_iter().chain(keys(&consumer)).collect();
    assert!(all.len() > 20);
    let passed = Settings {
        librdkafka: all
            .iter()
            .map(|key| (key.clone(), "passed".to_owned()))
            .collect(),
        ..plain
    };
    let (producer, consumer) = (passed.producer(), passed.consumer());
    for key in &all {
        let set = [&producer, &consumer].map(|client| client.get(key) != Some("passed"));
        let refused = switchboard::config::kafka_keys::owned(key).is_some();
        assert_eq!(set.contains(&true), refused, "{key}");
    }
}

#[test]
fn a_key_that_librdkafka_does_not_take_is_named_and_its_value_is_not() {
    for (key, value) in [
        ("sasl.pasword", "tell nobody"),
        ("broker.address.family", "tell nobody"),
        ("socket.timeout.ms", "-17117"),
    ] {
        let mut settings = settings("kafka:9092".to_owned(), 1);
        settings.librdkafka.insert(key.to_owned(), value.to_owned());
        let site = Site::new();
        let opened = KafkaBus::open(settings, site.store.clone(), site.blobs.clone(), true);
        let wrong = opened.err().expect(key);
        let said = format!("{wrong} {wrong:?}");
        assert_eq!(wrong.key.as_deref(), Some(key), "{said}");
        assert!(!wrong.why.is_empty() && !said.contains(value), "{said}");
    }
}
