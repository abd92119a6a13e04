//! A Kafka bus on a broker of its own, beside a SQLite store: a pair that a daemon refuses, and enough to hold
//! the bus against its suite.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use connector_api::{QueueId, async_trait};
use switchboard::blobs::Blobs;
use switchboard::bus::Bus;
use switchboard::bus::kafka::{KafkaBus, Settings};
use switchboard::store::partitions::Partitions;

use super::{Backend, Local, Opened, within_patience};
use crate::peers::kafka::Kafka;

/// The broker, which all tests that run at a time share: one starts in seconds.
pub fn broker() -> Arc<Kafka> {
    static RUNNING: Mutex<Weak<Kafka>> = Mutex::new(Weak::new());
    let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    running.upgrade().unwrap_or_else(|| {
        let started = Arc::new(Kafka::start());
        *running = Arc::downgrade(&started);
        started
    })
}

/// Of a topic of the test's own.
pub fn settings(brokers: String, partitions: u32) -> Settings {
    Settings {
        brokers,
        prefix: format!("test-{}", uuid::Uuid::now_v7().simple()),
        partitions,
        replication: 1,
        retention: Duration::from_secs(14 * 24 * 60 * 60),
        brokers_share_out: false,
        accepted: Vec::new(),
        security: Default::default(),
        librdkafka: Default::default(),
        check_topic: true,
        overheard: Default::default(),
    }
}

/// Returns once all of these partitions are the bus's to decide.
pub async fn assigned(bus: &dyn Bus, count: usize) -> Vec<u32> {
    let mut assigned = bus.assigned();
    let all = async {
        let found = assigned.wait_for(|assigned| assigned.len() == count).await;
        found.expect("the bus is there").clone()
    };
    within_patience("partitions to be assigned", all).await
}

pub struct OnKafka {
    settings: Settings,
    local: Local,
    blobs: Blobs,
    bus: Mutex<Option<Arc<KafkaBus>>>,
    _dir: tempfile::TempDir,
    _broker: Arc<Kafka>,
}

impl OnKafka {
    pub fn new() -> Self {
        let broker = broker();
        let dir = tempfile::tempdir().expect("a temporary directory");
        Self {
            settings: settings(broker.brokers(), 1),
            local: Local::new(),
            blobs: Blobs::open(dir.path()).expect("a directory for files"),
            bus: Mutex::default(),
            _dir: dir,
            _broker: broker,
        }
    }
}

#[async_trait]
impl Backend for OnKafka {
    async fn open(&self, names: &[String], queues: &[QueueId]) -> Opened {
        let opened = self.local.open(names, queues).await;
        let bus = join(&self.settings, &self.bus, opened.store.clone(), &self.blobs).await;
        Opened { bus, ..opened }
    }

    async fn rows(&self) -> Vec<(String, i64)> {
        self.local.rows().await
    }
}

/// The same bus beside PostgreSQL: the pair that several processes share.
#[cfg(feature = "postgres")]
pub struct OnBoth {
    settings: Settings,
    postgres: super::Postgres,
    blobs: Blobs,
    bus: Mutex<Option<Arc<KafkaBus>>>,
    _dir: tempfile::TempDir,
    _broker: Arc<Kafka>,
}

#[cfg(feature = "postgres")]
impl OnBoth {
    pub fn new() -> Self {
        let broker = broker();
        let dir = tempfile::tempdir().expect("a temporary directory");
        Self {
            settings: settings(broker.brokers(), 1),
            postgres: super::Postgres::new(),
            blobs: Blobs::open(dir.path()).expect("a directory for files"),
            bus: Mutex::default(),
            _dir: dir,
            _broker: broker,
        }
    }
}

#[cfg(feature = "postgres")]
#[async_trait]
impl Backend for OnBoth {
    async fn open(&self, names: &[String], queues: &[QueueId]) -> Opened {
        let opened = self.postgres.open(names, queues).await;
        let bus = join(&self.settings, &self.bus, opened.store.clone(), &self.blobs).await;
        Opened { bus, ..opened }
    }

    fn has_log(&self) -> bool {
        false
    }

    async fn rows(&self) -> Vec<(String, i64)> {
        self.postgres.rows().await
    }
}

/// Leaves the group as the process before did, and joins it as another one.
async fn join(
    settings: &Settings,
    running: &Mutex<Option<Arc<KafkaBus>>>,
    store: Arc<dyn Partitions>,
    blobs: &Blobs,
) -> Arc<KafkaBus> {
    let before = running
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    if let Some(before) = before {
        before.leave().await;
    }
    let bus = KafkaBus::open(settings.clone(), store, blobs.clone(), true);
    let bus = Arc::new(bus.expect("good settings"));
    *running.lock().unwrap_or_else(PoisonError::into_inner) = Some(bus.clone());
    assigned(bus.as_ref(), 1).await;
    bus
}
