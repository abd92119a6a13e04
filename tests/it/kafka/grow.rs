//! From one generation of the topic to the next, on a real broker: what is killed between its steps goes on, what
//! slept through the sealing appends where all do, and nothing of a customer is decided before what came earlier.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use connector_api::{CancellationToken, async_trait};
use switchboard::blobs::Blobs;
use switchboard::bus::kafka::grow::{Done, Growth, Processes};
use switchboard::bus::kafka::{KafkaBus, Settings};
use switchboard::bus::{Bus, Content};
use switchboard::store::partitions::{Generation, Partitions, Stage};
use switchboard::store::sqlite::SqliteStore;
use switchboard::store::{self, Ownership, Store};
use tokio::sync::{Mutex, Notify, watch};
use tokio::task::AbortHandle;

mod read;

use super::{expected, ready, record, state};
use crate::peers;
use crate::peers::kafka::Kafka;
use crate::support::kafka::{assigned, broker, settings};
use crate::support::within_patience;

/// What the processes of a test share.
struct Shop {
    store: Arc<SqliteStore>,
    blobs: Blobs,
    settings: Settings,
    _dir: tempfile::TempDir,
    _broker: Arc<Kafka>,
}

/// What was decided, in the order of its commits: by customer.
type Log = Arc<Mutex<BTreeMap<String, Vec<String>>>>;

impl Shop {
    fn open(partitions: u32) -> Self {
        let (broker, dir) = (broker(), tempfile::tempdir().unwrap());
        Self {
            store: Arc::new(SqliteStore::open(dir.path(), &[], &[]).unwrap()),
            blobs: Blobs::open(dir.path()).unwrap(),
            settings: settings(broker.brokers(), partitions),
            _dir: dir,
            _broker: broker,
        }
    }

    fn bus_on(&self, store: Arc<dyn Partitions>, settings: &Settings) -> Arc<KafkaBus> {
        let opened = KafkaBus::open(settings.clone(), store, self.blobs.clone(), true);
        Arc::new(opened.unwrap())
    }

    async fn bus(&self) -> Arc<KafkaBus> {
        let bus = self.bus_on(self.store.clone(), &self.settings);
        ready(&bus).await;
        bus
    }

    fn growth(&self, processes: &[&Arc<KafkaBus>]) -> Growth {
        let processes = processes.iter().map(|one| (*one).clone()).collect();
        Growth {
            settings: self.settings.clone(),
            store: self.store.clone(),
            processes: Arc::new(Here(processes)),
        }
    }

    async fn stages(&self) -> Vec<Stage> {
        let all = self
            .store
            .generations(&self.settings.topic())
            .await
            .unwrap();
        all.iter().map(|one| one.stage).collect()
    }
}

/// The processes of a test, as their rows would say.
struct Here(Vec<Arc<KafkaBus>>);

#[async_trait]
impl Processes for Here {
    async fn lacking(&self, generation: u32) -> Result<Vec<String>, String> {
        let knows = |bus: &Arc<KafkaBus>| bus.generation().is_some_and(|known| known >= generation);
        let lacks = self.0.iter().filter(|bus| !knows(bus));
        Ok(lacks.map(|_| "process 7 on here".to_owned()).collect())
    }
}

/// Decides what a bus assigns, as the router does: one loop a partition, each record a commit.
fn decides(bus: &Arc<KafkaBus>, store: &Arc<SqliteStore>, log: &Log) -> AbortHandle {
    let (bus, store, log) = (bus.clone(), store.clone(), log.clone());
    let deciding = async move {
        let mut assigned = bus.assigned();
        let mut loops: BTreeMap<u32, CancellationToken> = BTreeMap::new();
        loop {
            let wanted = assigned.borrow_and_update().clone();
            loops.retain(|partition, stop| {
                let stays = wanted.contains(partition);
                if !stays {
                    stop.cancel();
                }
                stays
            });
            for partition in wanted {
                loops.entry(partition).or_insert_with(|| {
                    let stop = CancellationToken::new();
                    let (bus, store, log) = (bus.clone(), store.clone(), log.clone());
                    tokio::spawn(decide(bus, store, log, partition, stop.clone()));
                    stop
                });
            }
            if assigned.changed().await.is_err() {
                return;
            }
        }
    };
    tokio::spawn(deciding).abort_handle()
}

/// Decides a partition until it is taken away; one that another owned meanwhile is owned anew.
async fn decide(
    bus: Arc<KafkaBus>,
    store: Arc<SqliteStore>,
    log: Log,
    partition: u32,
    stop: CancellationToken,
) {
    while !stop.is_cancelled() {
        let mut owned = store.own(partition).await.unwrap();
        'owned: while !stop.is_cancelled() {
            let read = tokio::select! {
                read = bus.read(partition, owned.position, 50) => read,
                () = stop.cancelled() => return,
            };
            let Ok(records) = read else {
                break;
            };
            for record in records {
                if stop.is_cancelled() || !commit(&store, &mut owned, &log, record).await {
                    break 'owned;
                }
                bus.decided(partition, owned.position, 1);
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Moves the position by one record; whether the partition is still its owner's.
async fn commit(
    store: &SqliteStore,
    owned: &mut Ownership,
    log: &Log,
    record: switchboard::bus::Record,
) -> bool {
    let Content::Envelope(envelope) = &record.content else {
        panic!("{record:?}")
    };
    let mut log = log.lock().await;
    let buried = store.bury(*owned, record.offset, String::new(), 1, None, 0);
    if buried.await.is_err() {
        return false;
    }
    owned.position = record.offset;
    let key = envelope.event.dedupe_key.to_string();
    let customer = key.split('-').next().unwrap_or_default().to_owned();
    let said = log.entry(customer).or_default();
    // A record of which it was not known whether it was taken came twice.
    if !said.contains(&key) {
        said.push(key);
    }
    true
}

const CUSTOMERS: u64 = 13;

/// How many records may wait to be decided: each is a commit, and more would only make a test wait for its end.
const WAITING_MAX: usize = 500;

/// Has each customer say one thing after the other to one of the buses, until `stop`; how many each said.
async fn write(buses: Vec<Arc<KafkaBus>>, log: Log, stop: Arc<AtomicBool>) -> usize {
    let mut number = 0;
    while !stop.load(Ordering::Acquire) {
        let decided: usize = log.lock().await.values().map(Vec::len).sum();
        if number * CUSTOMERS as usize > decided + WAITING_MAX {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        }
        for customer in 0..CUSTOMERS {
            let bus = &buses[(number + customer as usize) % buses.len()];
            while bus.append(vec![record(customer, number)]).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        number += 1;
    }
    number
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_grows_under_load_however_often_the_command_is_killed() {
    if !peers::enabled() {
        return;
    }
    let shop = Shop::open(2);
    let (first, second) = (shop.bus().await, shop.bus().await);
    let log = Log::default();
    let routers = [&first, &second].map(|bus| decides(bus, &shop.store, &log));
    let stop = Arc::new(AtomicBool::new(false));
    let writing = tokio::spawn(write(
        vec![first.clone(), second.clone()],
        log.clone(),
        stop.clone(),
    ));
    let growth = shop.growth(&[&first, &second]);
    for partitions in [4, 12] {
        let mut steps = Vec::new();
        for killed_after in 1.. {
            let (done, killed) = (std::sync::Mutex::new(Vec::new()), Notify::new());
            let tell = |one: Done| {
                let mut done = done.lock().unwrap();
                done.push(one);
                if done.len() == killed_after {
                    killed.notify_one();
                }
            };
            let ended = tokio::select! {
                biased;
                () = killed.notified() => None,
                ended = growth.run(partitions, tell) => Some(ended),
            };
            steps.extend(done.into_inner().unwrap());
            if let Some(ended) = ended {
                assert_eq!(ended, Ok(()));
                break;
            }
        }
        let is = |wanted: fn(&Done) -> bool| steps.iter().any(wanted);
        assert!(is(|done| matches!(done, Done::Made { .. })), "{steps:?}");
        assert!(is(|done| matches!(done, Done::Sealed { .. })), "{steps:?}");
        assert!(is(|done| matches!(done, Done::Marked { .. })), "{steps:?}");
        assert!(is(|done| matches!(done, Done::Nothing { .. })), "{steps:?}");
    }
    assert_eq!(shop.stages().await, [Stage::Left, Stage::Left, Stage::Open]);
    stop.store(true, Ordering::Release);
    let each = within_patience("the last records", writing).await.unwrap();
    within_patience("all to be decided", first.caught_up())
        .await
        .unwrap();
    assert_eq!(*log.lock().await, expected(CUSTOMERS, each));
    let mut change = first.change().unwrap();
    let done = change.wait_for(Option::is_none);
    within_patience("nothing to be said of it", done)
        .await
        .unwrap();
    let both = async {
        while first.lag() + second.lag() > 0
            || first.assigned().borrow().len() + second.assigned().borrow().len() != 12
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within_patience("twelve partitions without a lag", both).await;
    routers.iter().for_each(AbortHandle::abort);

    // A configuration may still say what it was made with, or what it has; another number is a mistake.
    for (partitions, said) in [(2, ""), (12, ""), (5, "set bus.partitions to 12")] {
        let other = Settings {
            partitions,
            ..shop.settings.clone()
        };
        let bus = shop.bus_on(shop.store.clone(), &other);
        let why = state(&bus, |why| why.is_empty() == said.is_empty()).await;
        assert!(why.contains(said), "{partitions}: {why}");
    }
}

/// A store whose news do not reach a process that sleeps.
struct Sleeper {
    store: Arc<SqliteStore>,
    asleep: watch::Sender<bool>,
}

#[async_trait]
impl Partitions for Sleeper {
    async fn generations(&self, topic: &str) -> store::Result<Vec<Generation>> {
        let mut asleep = self.asleep.subscribe();
        asleep.wait_for(|asleep| !asleep).await.unwrap();
        self.store.generations(topic).await
    }

    async fn begin_generations(
        &self,
        topic: &str,
        partitions: u32,
    ) -> store::Result<Vec<Generation>> {
        self.store.begin_generations(topic, partitions).await
    }

    async fn announce_generation(
        &self,
        topic: &str,
        number: u32,
        partitions: u32,
        number_max: u32,
    ) -> store::Result<bool> {
        let store = &self.store;
        store
            .announce_generation(topic, number, partitions, number_max)
            .await
    }

    async fn turn_generation(&self, topic: &str, to: u32, ends: Vec<i64>) -> store::Result<()> {
        self.store.turn_generation(topic, to, ends).await
    }

    async fn leave_generation(&self, topic: &str, number: u32) -> store::Result<()> {
        self.store.leave_generation(topic, number).await
    }

    async fn positions(&self) -> store::Result<Vec<(u32, i64)>> {
        self.store.positions().await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_process_accepts_that_slept_through_the_change_is_in_the_new_topic() {
    if !peers::enabled() {
        return;
    }
    let shop = Shop::open(2);
    let awake = shop.bus().await;
    let sleeper = Arc::new(Sleeper {
        store: shop.store.clone(),
        asleep: watch::Sender::new(false),
    });
    let slept = shop.bus_on(sleeper.clone(), &shop.settings);
    ready(&slept).await;
    sleeper.asleep.send_replace(true);
    let grown = shop.growth(&[&awake]);
    within_patience("the change", grown.run(4, |_| ()))
        .await
        .unwrap();
    assert_eq!(shop.stages().await, [Stage::Left, Stage::Open]);
    let appending = slept.append((0..8).map(|customer| record(customer, 0)).collect());
    let mut appending = std::pin::pin!(appending);
    let early = tokio::time::timeout(Duration::from_secs(1), appending.as_mut()).await;
    assert!(early.is_err(), "nobody reads that: {early:?}");
    sleeper.asleep.send_replace(false);
    let numbers = within_patience("an answer", appending).await.unwrap();
    let partitions: Vec<u32> = numbers.iter().map(|one| slept.partition_of(*one)).collect();
    assert_eq!(partitions, [3, 4, 5, 6, 3, 4, 5, 6]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_partition_is_read_once_the_old_one_of_its_customers_is_decided() {
    if !peers::enabled() {
        return;
    }
    let shop = Arc::new(Shop::open(2));
    let bus = shop.bus().await;
    assigned(bus.as_ref(), 2).await;
    let said = |number| {
        (0..4)
            .map(move |customer| record(customer, number))
            .collect()
    };
    let before = bus.append(said(0)).await.unwrap();
    let growth = shop.growth(&[&bus]);
    let opened = Arc::new(Notify::new());
    let told = opened.clone();
    let growing = tokio::spawn(async move {
        let tell = |done| {
            if matches!(done, Done::Waits { .. }) {
                told.notify_one();
            }
        };
        growth.run(4, tell).await
    });
    within_patience("the new topic", opened.notified()).await;
    let after = bus.append(said(1)).await.unwrap();
    assert!(
        after.iter().min() > before.iter().max(),
        "what came later has a higher number: {before:?} {after:?}"
    );
    assert_eq!(assigned(bus.as_ref(), 6).await, [1, 2, 3, 4, 5, 6]);
    let log = Log::default();
    let early = |partition| {
        let bus = bus.clone();
        async move {
            let read = bus.read(partition, 0, 9);
            let read = tokio::time::timeout(Duration::from_millis(500), read).await;
            assert!(read.is_err(), "partition {partition} is early: {read:?}");
        }
    };
    let take = async |partition, count: usize| {
        let mut owned = shop.store.own(partition).await.unwrap();
        let mut taken = 0;
        while taken < count {
            let read = bus.read(partition, owned.position, 9);
            let Ok(records) = within_patience("a record", read).await else {
                // It joins its group anew where what is read changes.
                within_patience("its partitions", assigned(bus.as_ref(), 4)).await;
                continue;
            };
            for record in records {
                assert!(commit(&shop.store, &mut owned, &log, record).await);
                bus.decided(partition, owned.position, 1);
                taken += 1;
            }
        }
    };
    futures::future::join_all([3, 4, 5, 6].map(early)).await;
    take(1, 2).await;
    take(3, 1).await;
    take(5, 1).await;
    assert_eq!(shop.stages().await, [Stage::Sealed, Stage::Open]);
    futures::future::join_all([4, 6].map(early)).await;
    take(2, 2).await;
    take(4, 1).await;
    take(6, 1).await;
    let ended = within_patience("the change to be done", growing).await;
    assert_eq!(ended.unwrap(), Ok(()));
    assert_eq!(*log.lock().await, expected(4, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_begun_that_not_all_processes_know_or_that_would_lose_order() {
    if !peers::enabled() {
        return;
    }
    struct Old;
    #[async_trait]
    impl Processes for Old {
        async fn lacking(&self, _: u32) -> Result<Vec<String>, String> {
            Ok(vec!["process 7 on here (version 0.0.9)".to_owned()])
        }
    }
    let shop = Shop::open(4);
    let unused = shop.growth(&[]).run(8, |_| ()).await;
    let unused = unused.expect_err("no topic");
    assert!(unused.contains("was never used"), "{unused}");
    let bus = shop.bus().await;
    for (partitions, why) in [
        (2, "has 4 partitions, and there can only be more"),
        (10, "10 is no multiple of that"),
        (10, "take 8 or 12"),
        (4000, "--partitions: 1000 is the most"),
    ] {
        let refused = shop.growth(&[&bus]).run(partitions, |_| ()).await;
        let refused = refused.expect_err(why);
        assert!(refused.contains(why), "{refused}");
    }
    let old = Growth {
        processes: Arc::new(Old),
        ..shop.growth(&[])
    };
    let refused = old.run(8, |_| ()).await.expect_err("an old process");
    assert!(
        refused.contains("upgrade process 7 on here (version 0.0.9)"),
        "{refused}"
    );
    assert_eq!(shop.stages().await, [Stage::Open]);
    shop.growth(&[&bus]).run(4, |_| ()).await.unwrap();
}
