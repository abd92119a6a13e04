//! What is told to others: everything, in order, by one process at a time, and moved on only once it is
//! acknowledged. The topics are made up here; with Kafka they are in `kafka::topics`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use connector_api::{CancellationToken, async_trait};
use serde_json::Value;
use switchboard::bus::BusError;
use switchboard::bus::notices::{Notice, Notices, Topic};
use switchboard::daemon::leased::{Holder, Leases};
use switchboard::daemon::relays::tell;
use switchboard::dispatch::verbs::{Target, Verb};
use switchboard::health::{Health, State};
use switchboard::live::Live;
use switchboard::relay::{Events, Letters, Relay, Source};
use switchboard::store::events::EventFilter;
use switchboard::store::{Doing, Retention};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::support::{Desk, agent, chat, mail, queue_id, supervisor, within_patience};

/// Topics in memory, whose brokers acknowledge a batch for each permit.
struct Topics {
    told: Mutex<Vec<Notice>>,
    acknowledges: Semaphore,
    refuses: Mutex<Option<String>>,
    sent: Semaphore,
    bytes_max: usize,
}

impl Topics {
    fn new(acknowledges: usize) -> Arc<Self> {
        Self::of(acknowledges, usize::MAX)
    }

    fn of(acknowledges: usize, bytes_max: usize) -> Arc<Self> {
        Arc::new(Self {
            told: Mutex::default(),
            acknowledges: Semaphore::new(acknowledges),
            refuses: Mutex::default(),
            sent: Semaphore::new(0),
            bytes_max,
        })
    }

    fn told(&self) -> Vec<Notice> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.clone()
    }

    fn refuse(&self, why: Option<&str>) {
        *self.refuses.lock().unwrap() = why.map(str::to_owned);
    }

    /// Returns once a batch was sent.
    async fn sent(&self) {
        let sent = within_patience("a batch to be sent", self.sent.acquire()).await;
        sent.unwrap().forget();
    }

    /// The types of the records on a topic, with their keys.
    fn on(&self, topic: &Topic) -> Vec<(String, String)> {
        let told = self.told().into_iter();
        told.filter(|notice| notice.topic == *topic)
            .map(|notice| (header(&notice, "ce_type"), notice.key.unwrap_or_default()))
            .collect()
    }
}

#[async_trait]
impl Notices for Topics {
    async fn prepare(&self, _topics: &[Topic]) -> Result<(), BusError> {
        Ok(())
    }

    async fn publish(&self, notices: Vec<Notice>) -> Result<(), BusError> {
        if let Some(why) = self.refuses.lock().unwrap().clone() {
            return Err(BusError::Unavailable(why));
        }
        self.told.lock().unwrap().extend(notices);
        self.sent.add_permits(1);
        self.acknowledges.acquire().await.unwrap().forget();
        Ok(())
    }

    fn bytes_max(&self) -> usize {
        self.bytes_max
    }
}

fn header(notice: &Notice, name: &str) -> String {
    let found = notice.headers.iter().find(|(key, _)| key == name);
    let (_, value) = found.unwrap_or_else(|| panic!("{name} in {notice:?}"));
    String::from_utf8(value.clone()).unwrap()
}

fn data(notice: &Notice) -> Value {
    serde_json::from_slice(&notice.data).unwrap()
}

/// A process that tells.
struct Process {
    health: Arc<Health>,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

impl Process {
    fn start<S: Source + 'static>(
        desk: &Desk,
        source: S,
        topics: &Arc<Topics>,
        holder: &str,
    ) -> Self {
        let (health, stop) = (Arc::new(Health::default()), CancellationToken::new());
        let relay = Relay {
            source,
            notices: topics.clone(),
            clock: desk.clock.clone(),
            health: health.clone(),
        };
        let leases = Leases::Of(Arc::new(Holder {
            store: desk.store().clone(),
            clock: desk.clock.clone(),
            instance: holder.to_owned(),
        }));
        let telling = tell(relay, leases, stop.clone());
        Self {
            health,
            stop,
            running: tokio::spawn(telling),
        }
    }

    async fn stop(self) {
        self.stop.cancel();
        within_patience("a relay to stop", self.running)
            .await
            .unwrap();
    }

    fn state(&self, name: &str) -> Option<State> {
        self.health.snapshot().get(name).cloned()
    }

    async fn until_state(&self, name: &str, fits: impl Fn(&State) -> bool) {
        let waiting = async {
            while !self.state(name).is_some_and(|state| fits(&state)) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        within_patience("a state", waiting).await;
    }
}

fn events(desk: &Desk, queue_topics: bool) -> Events {
    let queues = ["frontline", "backoffice"].map(queue_id).to_vec();
    let ids = desk.keys.ids.clone();
    Events::new(desk.store().clone(), ids, Live::new(queues), queue_topics)
}

fn seq(notice: &Notice) -> i64 {
    data(notice)["seq"].as_i64().unwrap()
}

/// How far the relay of events is, asked as the last of its holders would.
async fn position(desk: &Desk) -> i64 {
    desk.store().own_relay("events", i64::MAX).await.unwrap()
}

/// Returns once the relay has told all that is in the log.
async fn caught_up(desk: &Desk, topics: &Topics) -> Vec<Notice> {
    let filter = EventFilter {
        limit: 10_000,
        ..EventFilter::default()
    };
    let log = desk.store().events(0, filter).await.unwrap().events;
    let last = log.last().map_or(0, |event| event.seq);
    let telling = async {
        loop {
            let told = topics.told();
            let of_events = told.iter().filter(|notice| notice.topic == Topic::Events);
            let newest = of_events.map(seq).max();
            if newest == Some(last) {
                return told;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within_patience("the relay to catch up", telling).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_told_once_in_order_and_goes_on_where_it_was() {
    let mut desk = Desk::new().await;
    desk.deliver([
        chat("cust-7", "Where is my order?"),
        mail("ada@customer.example", "Refund"),
        chat("cust-7", "Hello?"),
    ])
    .await;
    let topics = Topics::new(Semaphore::MAX_PERMITS);
    let first = Process::start(&desk, events(&desk, false), &topics, "first");
    caught_up(&desk, &topics).await;
    first.stop().await;
    desk.claim("frontline", agent("ada")).await.unwrap();
    desk.reply(1, "On its way.").await;
    let second = Process::start(&desk, events(&desk, false), &topics, "second");
    let told = caught_up(&desk, &topics).await;
    second.stop().await;

    let filter = EventFilter {
        limit: 10_000,
        ..EventFilter::default()
    };
    let log = desk.store().events(0, filter).await.unwrap().events;
    let expected: Vec<(i64, String)> = log
        .iter()
        .map(|event| (event.seq, format!("switchboard.{}.v1", event.kind.as_str())))
        .collect();
    let got: Vec<(i64, String)> = told
        .iter()
        .map(|notice| (seq(notice), header(notice, "ce_type")))
        .collect();
    assert_eq!(got, expected, "each once, in order");
    let mut keys: BTreeMap<String, usize> = BTreeMap::new();
    for notice in &told {
        let key = notice.key.clone().unwrap();
        assert_eq!(header(notice, "ce_partitionkey"), key);
        assert_eq!(Value::from(key.clone()), data(notice)["conversation"]);
        *keys.entry(key).or_default() += 1;
    }
    assert_eq!(keys.len(), 2, "one key for each conversation");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_moves_on_before_it_is_acknowledged_and_what_is_refused_is_told_again() {
    let mut desk = Desk::new().await;
    desk.deliver([chat("cust-7", "Where is my order?")]).await;
    let topics = Topics::new(0);
    topics.refuse(Some("no broker"));
    let process = Process::start(&desk, events(&desk, false), &topics, "first");
    let name = "work:relay-events";
    process
        .until_state(
            name,
            |state| matches!(state, State::Unreachable { reason } if reason.contains("no broker")),
        )
        .await;
    topics.refuse(None);
    topics.sent().await;
    process.stop().await;
    let first = topics.told();

    let topics = Topics::new(Semaphore::MAX_PERMITS);
    let process = Process::start(&desk, events(&desk, false), &topics, "second");
    let told = caught_up(&desk, &topics).await;
    assert_eq!(told, first, "nobody acknowledged it, so it is told again");
    process
        .until_state("work:relay-events", |state| *state == State::Ready)
        .await;
    process.stop().await;
    assert_eq!(Some(position(&desk).await), told.last().map(seq));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_process_tells_and_one_that_slept_moves_nothing() {
    let mut desk = Desk::new().await;
    desk.deliver([chat("cust-7", "Where is my order?")]).await;
    let (asleep, awake) = (Topics::new(0), Topics::new(Semaphore::MAX_PERMITS));
    let first = Process::start(&desk, events(&desk, false), &asleep, "first");
    asleep.sent().await;
    let second = Process::start(&desk, events(&desk, false), &awake, "second");
    second
        .until_state("work:relay-events", |state| *state == State::Standby)
        .await;
    assert!(awake.told().is_empty(), "the first has the lease");
    // Its lease is over by the store's clock, and another's before it could renew it.
    loop {
        desk.hours_later(1);
        let now = desk.now();
        let taken = desk
            .store()
            .take_lease("work:relay-events", "second", 1, now);
        if taken.await.unwrap().is_some() {
            break;
        }
    }
    let told = caught_up(&desk, &awake).await;
    desk.deliver([chat("cust-7", "Hello?")]).await;
    let both = caught_up(&desk, &awake).await;
    assert!(both.len() > told.len());
    asleep.acknowledges.add_permits(9);
    first.stop().await;
    second.stop().await;
    let seqs: Vec<i64> = both.iter().map(seq).collect();
    assert!(seqs.windows(2).all(|two| two[0] < two[1]), "{seqs:?}");
    assert_eq!(Some(&position(&desk).await), seqs.last());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queues_topic_has_what_happens_in_it_with_the_conversation_and_its_messages() {
    let mut desk = Desk::new().await;
    desk.deliver([
        chat("cust-7", "Where is my order?"),
        chat("cust-7", "Hello?"),
        mail("ada@customer.example", "Refund"),
    ])
    .await;
    let topics = Topics::new(Semaphore::MAX_PERMITS);
    let process = Process::start(&desk, events(&desk, true), &topics, "first");
    caught_up(&desk, &topics).await;
    let frontline = Topic::Queue(queue_id("frontline"));
    let told = topics.told();
    let records: Vec<Value> = told
        .iter()
        .filter(|notice| notice.topic == frontline)
        .map(data)
        .collect();
    let all = told.iter().filter(|notice| notice.topic == Topic::Events);
    assert_eq!(
        records.len(),
        all.count(),
        "everything happened in frontline"
    );
    let said: Vec<(&str, i64)> = records
        .iter()
        .filter(|record| record["event"]["type"] == "message.created")
        .map(|record| {
            let message = &record["message"];
            (
                message["text"].as_str().unwrap(),
                message["seq"].as_i64().unwrap(),
            )
        })
        .collect();
    assert!(
        said.contains(&("Where is my order?", 1)) && said.contains(&("Hello?", 2)),
        "{said:?}"
    );
    for record in &records {
        let conversation = &record["conversation"];
        assert_eq!(conversation["id"], record["event"]["conversation"]);
        assert_eq!(conversation["queue"], "frontline");
        assert!(record["conversation_seq"].as_i64().unwrap() >= 1);
    }

    let transfer = Doing {
        conversation: desk.conversation(1).await.id,
        actor: supervisor(),
        verb: Verb::Transfer(Target::Queue(queue_id("backoffice"))),
        version: None,
        at: desk.now(),
    };
    desk.store().perform(transfer).await.unwrap();
    let told = caught_up(&desk, &topics).await;
    let of = |topic: Topic| told.iter().rfind(|notice| notice.topic == topic).unwrap();
    let left = of(frontline);
    assert_eq!(header(left, "ce_type"), "switchboard.conversation.left.v1");
    assert_eq!(data(left)["conversation"], Value::Null);
    let there = data(of(Topic::Queue(queue_id("backoffice"))));
    assert_eq!(
        there["conversation"]["id"],
        data(left)["event"]["conversation"]
    );
    assert_eq!(there["conversation"]["queue"], "backoffice");
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_too_large_for_a_record_is_left_out_of_it() {
    let mut desk = Desk::new().await;
    let text = "word ".repeat(4_000);
    desk.deliver([chat("cust-7", &text)]).await;
    let topics = Topics::of(Semaphore::MAX_PERMITS, 10_000);
    let process = Process::start(&desk, events(&desk, true), &topics, "first");
    let told = caught_up(&desk, &topics).await;
    process.stop().await;
    let frontline = Topic::Queue(queue_id("frontline"));
    let records = told.iter().filter(|notice| notice.topic == frontline);
    let records: Vec<Value> = records.map(data).collect();
    assert!(!records.is_empty());
    assert!(records.iter().all(|record| record["message"].is_null()));
    assert!(
        records
            .iter()
            .all(|record| !record["conversation"].is_null())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_dead_letter_is_told_with_its_bytes_until_that_is_acknowledged() {
    let mut desk = Desk::new().await;
    desk.accept([chat("cust-7", "Where is my order?")])
        .await
        .unwrap();
    let commit = desk.next_commit(1).await;
    let record = commit.batch[0].offset;
    let buried = desk.store().bury(
        commit.ownership,
        record,
        "a bug of ours".to_owned(),
        5,
        commit.batch[0].carried.clone(),
        desk.now(),
    );
    buried.await.unwrap();
    let topics = Topics::new(0);
    let source = || Letters::new(desk.store().clone());
    let first = Process::start(&desk, source(), &topics, "first");
    topics.sent().await;
    first.stop().await;
    let topics = Topics::new(1);
    let second = Process::start(&desk, source(), &topics, "second");
    topics.sent().await;
    let waiting = async {
        while desk.store().uncopied_letters(9).await.unwrap().1 > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within_patience("the letter to be told", waiting).await;
    second.stop().await;
    let [notice] = &topics.told()[..] else {
        panic!("one letter: {:?}", topics.told())
    };
    assert_eq!(topics.on(&Topic::DeadLetter).len(), 1);
    let body = desk
        .store()
        .dead_letter(record)
        .await
        .unwrap()
        .unwrap()
        .body;
    assert_eq!(Some(notice.data.clone()), body);
    assert_eq!(
        header(notice, "__switchboard.errors.exception.message"),
        "a bug of ours"
    );
    assert_eq!(header(notice, "__switchboard.errors.attempts"), "5");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_that_went_before_they_were_told_are_a_gap_that_every_partition_is_told_of() {
    let mut desk = Desk::new().await;
    desk.deliver([chat("cust-7", "Where is my order?")]).await;
    let topics = Topics::new(Semaphore::MAX_PERMITS);
    let first = Process::start(&desk, events(&desk, true), &topics, "first");
    let known = caught_up(&desk, &topics).await;
    first.stop().await;
    desk.deliver([chat("cust-8", "Hello?"), chat("cust-9", "Hello?")])
        .await;
    desk.hours_later(48);
    let day = Duration::from_secs(24 * 3600);
    let keep = Retention {
        raw: day,
        bus: day,
        idempotency: day,
        events: day,
        audit: day,
    };
    desk.store().sweep(keep, desk.now()).await.unwrap();
    desk.deliver([chat("cust-9", "Still there?")]).await;

    let topics = Topics::new(Semaphore::MAX_PERMITS);
    let second = Process::start(&desk, events(&desk, true), &topics, "second");
    let told = caught_up(&desk, &topics).await;
    second.stop().await;
    let gaps: Vec<&Notice> = told
        .iter()
        .take_while(|notice| notice.key.is_none())
        .collect();
    let of: Vec<&Topic> = gaps.iter().map(|notice| &notice.topic).collect();
    let queue = |name| Topic::Queue(queue_id(name));
    assert_eq!(
        of,
        [&Topic::Events, &queue("frontline"), &queue("backoffice")]
    );
    for gap in gaps {
        assert_eq!(header(gap, "ce_type"), "switchboard.resync.v1");
    }
    let asked = known.iter().filter(|notice| notice.topic == Topic::Events);
    let resync = data(&told[0]);
    assert_eq!(resync["data"]["asked"].as_i64(), asked.map(seq).max());
    assert_eq!(resync["data"]["reason"], "expired");
}
