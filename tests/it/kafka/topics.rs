//! What others read: every topic on a real broker, held against the schemas that are published, and read by
//! clients that are not ours.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use connector_api::CancellationToken;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use serde_json::Value;
use switchboard::bus::kafka::{KafkaBus, Settings};
use switchboard::bus::notices::{Notice, Topic};
use switchboard::bus::{Bus, BusError, Content};
use switchboard::clock::SystemClock;
use switchboard::daemon::leased::{Holder, Leases};
use switchboard::daemon::relays::tell;
use switchboard::health::Health;
use switchboard::live::Live;
use switchboard::relay::{Events, Letters, Relay, Source};
use switchboard::store::Store;
use switchboard::store::partitions::Partitions;

mod read;

use super::{client, record};
use crate::peers;
use crate::support::kafka::{assigned, broker, settings};
use crate::support::{Desk, agent, chat, mail, queue_id, within_patience};
pub use read::{Read, check, read};

/// Relays of a process onto Kafka. Their leases go by the time that passes, whatever the desk's clock says.
struct Telling {
    stop: CancellationToken,
    running: Vec<tokio::task::JoinHandle<()>>,
}

impl Telling {
    fn start(desk: &Desk, bus: &KafkaBus, process: &str) -> Self {
        let stop = CancellationToken::new();
        let queues = Live::new(["frontline", "backoffice"].map(queue_id).to_vec());
        let ids = desk.keys.ids.clone();
        let events = Events::new(desk.store().clone(), ids, queues, true);
        let letters = Letters::new(desk.store().clone());
        let running = vec![
            run(desk, bus, events, process, &stop),
            run(desk, bus, letters, process, &stop),
        ];
        Self { stop, running }
    }

    async fn stop(self) {
        self.stop.cancel();
        for running in self.running {
            within_patience("a relay to stop", running).await.unwrap();
        }
    }

    /// As a process that dies: nobody gives anything up.
    fn kill(self) {
        self.running.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

fn run<S: Source + 'static>(
    desk: &Desk,
    bus: &KafkaBus,
    source: S,
    process: &str,
    stop: &CancellationToken,
) -> tokio::task::JoinHandle<()> {
    let relay = Relay {
        source,
        notices: bus.notices().unwrap(),
        clock: Arc::new(SystemClock),
        health: Arc::new(Health::default()),
    };
    let leases = Leases::Of(Arc::new(Holder {
        store: desk.store().clone(),
        clock: Arc::new(SystemClock),
        instance: process.to_owned(),
    }));
    tokio::spawn(tell(relay, leases, stop.clone()))
}

/// Waits until a topic has so many records.
async fn filled(settings: &Settings, topic: &str, count: usize) {
    let reader: BaseConsumer = client(settings).create().unwrap();
    let partitions = i32::try_from(settings.partitions).unwrap();
    let filling = async {
        loop {
            let ends = (0..partitions).map(|at| {
                let ends = reader.fetch_watermarks(topic, at, Duration::from_secs(5));
                ends.map_or(0, |(_, end)| usize::try_from(end).unwrap())
            });
            if tokio::task::block_in_place(|| ends.sum::<usize>()) >= count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within_patience("records on a topic", filling).await;
}

/// Puts a foreign and a damaged record onto the second partition of the topic that is read, and buries them as the router does.
async fn bury_foreign(desk: &Desk, bus: &KafkaBus, settings: &Settings, partition: u32) {
    let writer: FutureProducer = client(settings).create().unwrap();
    let topic = settings.topic();
    let headers = OwnedHeaders::new().insert(Header {
        key: "trace",
        value: Some(&b"\xff\x00"[..]),
    });
    let foreign = FutureRecord::<str, [u8]>::to(&topic).partition(1);
    let foreign = foreign.payload(&b"\x00not ours\xff"[..]).headers(headers);
    writer.send(foreign, Duration::ZERO).await.unwrap();
    let good = record(7, 1);
    let damaged = &good.body[..good.body.len() - 9];
    let damaged = FutureRecord::<str, [u8]>::to(&topic)
        .partition(1)
        .payload(damaged);
    writer.send(damaged, Duration::ZERO).await.unwrap();
    let mut ownership = desk.store().own(partition).await.unwrap();
    let (mut at, mut left) = (ownership.position, 2);
    while left > 0 {
        let records = within_patience("reading", bus.read(partition, at, 9)).await;
        for record in records.unwrap() {
            at = record.offset;
            // Before them are good ones.
            let Content::Unreadable { reason } = record.content else {
                continue;
            };
            let (store, now) = (desk.store(), desk.now());
            let buried = store.bury(ownership, at, reason, 1, record.carried, now);
            buried.await.unwrap();
            ownership.position = at;
            left -= 1;
        }
    }
}

fn partitions_of(store: &Arc<dyn Store>) -> Arc<dyn Partitions> {
    store.clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_read_every_topic_and_agree_with_the_schemas() {
    if !peers::enabled() {
        return;
    }
    let broker = broker();
    let settings = settings(broker.brokers(), 3);
    let mut desk = Desk::new().await;
    let store = partitions_of(desk.store());
    // This store is another bus's, too: numbers that its records do not have.
    store.begin_generations("elsewhere", 4_000).await.unwrap();
    let bus = KafkaBus::open(settings.clone(), store, desk.blobs.clone(), true).unwrap();
    let partition = assigned(&bus, 3).await[1];
    bus.append((0..6).map(|customer| record(customer, 1)).collect())
        .await
        .unwrap();
    let telling = Telling::start(&desk, &bus, "one");
    for number in 0..10 {
        desk.deliver([
            chat("cust-7", &format!("Where is order {number}?")),
            chat(&format!("cust-{}", 10 + number), "Hello?"),
            mail("ada@customer.example", "Refund"),
        ])
        .await;
    }
    desk.claim("frontline", agent("ada")).await.unwrap();
    desk.reply(1, "On its way.").await;
    desk.resolve(2).await;
    // The partition has a record that is ours: it goes first.
    let ours = desk.store().own(partition).await.unwrap();
    let records = within_patience("reading", bus.read(partition, 0, 9)).await;
    let last = records.unwrap().pop().unwrap();
    let (why, now) = ("a bug of ours".to_owned(), desk.now());
    let buried = (desk.store()).bury(ours, last.offset, why, 5, last.carried, now);
    buried.await.unwrap();
    bury_foreign(&desk, &bus, &settings, partition).await;

    let log = desk.store().told_after(0, 10_000, false).await.unwrap();
    let log = log.page.events;
    let prefix = &settings.prefix;
    filled(&settings, &Topic::Events.name(prefix), log.len()).await;
    filled(&settings, &Topic::DeadLetter.name(prefix), 3).await;
    let frontline = Topic::Queue(queue_id("frontline")).name(prefix);
    filled(&settings, &frontline, log.len()).await;
    telling.stop().await;

    let document = switchboard::api::asyncapi();
    let mut counts = BTreeMap::new();
    let mut checked = |topic: String, message: &str| {
        let partitions = read(&settings, &topic);
        let all = partitions.iter().flatten();
        all.clone().for_each(|read| check(&document, message, read));
        counts.insert(topic, all.count());
        partitions
    };
    checked(
        settings.topic().replace(".inbound", ".queue.backoffice"),
        "queueRecord",
    );
    let events = checked(Topic::Events.name(prefix), "event");
    let mut told = Vec::new();
    for partition in &events {
        let seqs: Vec<i64> = partition
            .iter()
            .map(|read| read.data()["seq"].as_i64().unwrap())
            .collect();
        assert!(seqs.is_sorted(), "{seqs:?}");
        told.extend(seqs);
    }
    told.sort_unstable();
    let expected: Vec<i64> = log.iter().map(|event| event.seq).collect();
    assert_eq!(told, expected, "each event once");
    assert!(
        events
            .iter()
            .filter(|partition| !partition.is_empty())
            .count()
            > 1
    );
    for conversation in checked(frontline, "queueRecord").iter().flatten() {
        assert_eq!(
            Some(conversation.text("ce_subject")),
            conversation.key.as_deref()
        );
    }
    let letters = checked(Topic::DeadLetter.name(prefix), "deadLetter");
    let letters: Vec<&Read> = letters.iter().flatten().collect();
    let of = |reason: &str| {
        let why = "__switchboard.errors.exception.message";
        let found = letters
            .iter()
            .find(|letter| letter.text(why).contains(reason));
        found.unwrap_or_else(|| panic!("no letter because of {reason}"))
    };
    let foreign = of("not an envelope: Syntax");
    assert_eq!(foreign.value, b"\x00not ours\xff");
    assert_eq!(foreign.headers["trace"], b"\xff\x00");
    assert_eq!(foreign.text("__switchboard.errors.topic"), settings.topic());
    assert_eq!(foreign.text("__switchboard.errors.partition"), "1");
    assert_eq!(
        of("not an envelope: Eof").text("ce_type"),
        "switchboard.dead_letter.v1"
    );
    let undecided = of("a bug of ours");
    assert_eq!(undecided.text("ce_type"), "switchboard.inbound.v1");
    check(&document, "inbound", undecided);

    // The good ones.
    for read in read(&settings, &settings.topic()).iter().flatten() {
        if read.headers.contains_key("ce_type") {
            check(&document, "inbound", read);
        }
    }
    strangers(&settings, &document, &counts);
}

/// Python's CloudEvents on Confluent's client, and kcat: they read as many as there are, and the same.
pub fn strangers(settings: &Settings, document: &Value, counts: &BTreeMap<String, usize>) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("asyncapi.json");
    std::fs::write(&file, document.to_string()).unwrap();
    let home = PathBuf::from(std::env::var_os("HOME").unwrap());
    let installed = home.join(".cache/switchboard-peers/topics");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/topics.py");
    let read = Command::new(installed.join("venv/bin/python"))
        .arg(script)
        .args([&settings.brokers, &settings.prefix])
        .args([&file, &installed.join("asyncapi-3.0.0.json")])
        .args(counts.keys())
        .output()
        .unwrap_or_else(|error| {
            panic!("starting Python: {error}; sh tests/peers/install.sh installs it")
        });
    assert!(
        read.status.success(),
        "{}{}",
        String::from_utf8_lossy(&read.stdout),
        String::from_utf8_lossy(&read.stderr)
    );
    let found: BTreeMap<String, usize> = serde_json::from_slice(&read.stdout).unwrap();
    assert_eq!(found, *counts);
    for (topic, count) in counts {
        let read = Command::new("kcat")
            .args(["-C", "-e", "-q", "-J", "-b", &settings.brokers, "-t", topic])
            .output()
            .unwrap_or_else(|error| {
                panic!("starting kcat: {error}; sh tests/peers/install.sh installs it")
            });
        assert!(
            read.status.success(),
            "{}",
            String::from_utf8_lossy(&read.stderr)
        );
        let lines = String::from_utf8_lossy(&read.stdout);
        assert_eq!(lines.lines().count(), *count, "{topic}");
        assert_eq!(
            lines.matches("\"ce_specversion\",\"1.0\"").count(),
            *count,
            "{topic}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_brokers_refuse_is_told_to_whoever_publishes_and_what_they_take_late_stays_in_order() {
    use RDKafkaRespErr as Code;
    let cluster = MockCluster::new(1).unwrap();
    let settings = Settings {
        check_topic: false,
        ..settings(cluster.bootstrap_servers(), 1)
    };
    let topic = Topic::Events.name(&settings.prefix);
    cluster.create_topic(&topic, 1, 1).unwrap();
    let desk = Desk::new().await;
    let store = partitions_of(desk.store());
    let bus = KafkaBus::open(settings.clone(), store, desk.blobs.clone(), false).unwrap();
    let notices = bus.notices().unwrap();
    let notice = |number: usize| Notice {
        topic: Topic::Events,
        key: Some("one".to_owned()),
        headers: vec![("ce_id".to_owned(), number.to_string().into_bytes())],
        data: number.to_string().into_bytes(),
    };
    let refused = [Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED];
    cluster.request_errors(RDKafkaApiKey::Produce, &refused);
    let refused = within_patience("an answer", notices.publish(vec![notice(0)])).await;
    let Err(BusError::Unavailable(why)) = refused else {
        panic!("{refused:?}")
    };
    assert!(
        why.contains(&format!("refuses this user the topic {topic}")),
        "{why}"
    );
    let passing = [
        Code::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        Code::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
        Code::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
    ];
    for batch in 0..5 {
        cluster.request_errors(RDKafkaApiKey::Produce, &passing);
        let batch: Vec<Notice> = (0..10).map(|number| notice(batch * 10 + number)).collect();
        let told = within_patience("an answer", notices.publish(batch)).await;
        told.unwrap();
    }
    cluster.broker_down(1).unwrap();
    let late = notices.publish(vec![notice(50)]);
    let up = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        cluster.broker_up(1).unwrap();
    };
    let (late, ()) = within_patience("an answer", async { tokio::join!(late, up) }).await;
    late.unwrap();
    let read = read(&settings, &topic);
    let said: Vec<String> = read[0]
        .iter()
        .map(|read| String::from_utf8_lossy(&read.value).into_owned())
        .collect();
    let expected: Vec<String> = (0..=50).map(|number| number.to_string()).collect();
    assert_eq!(said, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_a_process_dies_that_tells_another_goes_on_within_ten_seconds_and_nothing_is_missing()
{
    if !peers::enabled() {
        return;
    }
    let broker = broker();
    let settings = settings(broker.brokers(), 3);
    let mut desk = Desk::new().await;
    let open = || {
        let store = partitions_of(desk.store());
        KafkaBus::open(settings.clone(), store, desk.blobs.clone(), false).unwrap()
    };
    let buses = [open(), open()];
    let topic = Topic::Events.name(&settings.prefix);
    let mut telling = Telling::start(&desk, &buses[0], "0");
    for process in 1..4 {
        let said = (0..30).map(|number| chat(&format!("cust-{number}"), &format!("{process}")));
        desk.deliver(said).await;
        let log = desk.store().told_after(0, 10_000, false).await.unwrap();
        // Some of it is told, and some on its way.
        filled(&settings, &topic, log.page.events.len() / 2).await;
        telling.kill();
        let killed = tokio::time::Instant::now();
        desk.deliver([chat("cust-7", "Is anybody there?")]).await;
        telling = Telling::start(&desk, &buses[process % 2], &process.to_string());
        let log = desk.store().told_after(0, 10_000, false).await.unwrap();
        let log: Vec<i64> = log.page.events.iter().map(|event| event.seq).collect();
        filled(&settings, &topic, log.len()).await;
        let told = async {
            loop {
                let partitions = tokio::task::block_in_place(|| read(&settings, &topic));
                let mut all = Vec::new();
                for partition in &partitions {
                    all.extend(in_order(partition));
                }
                all.sort_unstable();
                if all == log {
                    return;
                }
                assert!(all.len() < log.len(), "each once, but for repetitions");
            }
        };
        within_patience("everything to be told", told).await;
        assert!(
            killed.elapsed() < Duration::from_secs(10),
            "{:?}",
            killed.elapsed()
        );
    }
    telling.stop().await;
}

/// The events of a partition without repetitions: for each key they rise.
fn in_order(partition: &[Read]) -> Vec<i64> {
    let mut newest: BTreeMap<&str, i64> = BTreeMap::new();
    let mut known = std::collections::BTreeSet::new();
    for read in partition {
        let seq = read.data()["seq"].as_i64().unwrap();
        if known.insert(seq) {
            let key = read.key.as_deref().unwrap();
            let before = newest.insert(key, seq);
            assert!(before < Some(seq), "{key}: {before:?} before {seq}");
        }
    }
    known.into_iter().collect()
}
