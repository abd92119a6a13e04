//! The bus of a cluster: topic `<prefix>.inbound` in Kafka. Every process may append; which process decides
//! which partition is the consumer group's to say, and that no two decide one is the store's. Positions are
//! read from the store alone. Kafka may be down at any time: then nothing is accepted, and it heals by itself.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use rdkafka::error::KafkaError;
use rdkafka::producer::Producer as _;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::blobs::Blobs;
use crate::bus::notices::Notices;
use crate::bus::{Bus, BusError, BusState, Mark, NewBlob, NewRecord, Record};
use crate::store::partitions::Partitions;

mod bound;
mod consumer;
mod context;
mod explain;
mod following;
mod generations;
pub mod grow;
mod keeper;
pub mod look;
mod marks;
mod numbers;
mod producer;
mod publisher;
mod reach;
mod record;
mod refusal;
mod security;
mod settings;
mod shared;
mod statistics;
mod topic;
mod window;

use consumer::Consumer;
use context::Context;
use keeper::Keeper;
use producer::Producer;
use publisher::Publisher;
pub use security::{Sasl, Security, Tls, Tokens};
pub use settings::{Settings, WrongSetting};
use shared::Shared;
pub use topic::Unsafe;
use window::Found;

/// How often the store is asked how far other processes are, while somebody waits for them.
const OTHERS_ASKED_EVERY: Duration = Duration::from_millis(50);
/// Records read before other tasks get their turn.
const TURN_RECORDS: usize = 50;

pub struct KafkaBus {
    shared: Arc<Shared>,
    blobs: Blobs,
    clients: Arc<Clients>,
    keeping: JoinHandle<()>,
    following: JoinHandle<()>,
}

/// The clients, made anew when they cannot go on.
#[derive(Default)]
struct Clients {
    producer: ArcSwapOption<Producer>,
    consumer: Mutex<Option<Consumer>>,
}

impl KafkaBus {
    /// Begins; returns at once, whether Kafka is there or not. An error is one of the settings.
    /// `reads`: whether partitions are this process's to decide at all.
    pub fn open(
        settings: Settings,
        store: Arc<dyn Partitions>,
        blobs: Blobs,
        reads: bool,
    ) -> Result<Self, WrongSetting> {
        let shared = Arc::new(Shared::new(settings, store));
        let clients = Arc::new(Clients::default());
        let context = || Context(shared.clone());
        let producer = Producer::new(&shared.settings, context())?;
        clients.producer.store(Some(Arc::new(producer)));
        // Only to see what is wrong with its settings now.
        shared.consumer()?;
        let keeper = Keeper {
            shared: shared.clone(),
            clients: clients.clone(),
            reads,
        };
        let followed = shared.clone();
        Ok(Self {
            shared,
            blobs,
            clients,
            keeping: tokio::spawn(async move { keeper.run().await }),
            following: tokio::spawn(async move {
                tokio::join!(followed.follow(), followed.watch_lag());
            }),
        })
    }

    fn producer(&self) -> Result<Arc<Producer>, BusError> {
        if let BusState::Down(reason) = &*self.shared.state.borrow() {
            return Err(BusError::Unavailable(reason.clone()));
        }
        let starting = || BusError::Unavailable("Kafka is not reached yet".to_owned());
        if *self.shared.state.borrow() == BusState::Starting {
            return Err(starting());
        }
        self.clients.producer.load_full().ok_or_else(starting)
    }

    /// Everything that goes beside a record is a file before the record names it.
    async fn put_beside(&self, records: &mut [NewRecord]) -> Result<(), BusError> {
        let beside = records
            .iter_mut()
            .flat_map(|record| record.raw.iter_mut().chain(&mut record.blobs));
        let kept = beside.map(|blob: &mut NewBlob| async {
            if let Some(bytes) = blob.inline.take() {
                *blob = self.blobs.keep_as_file(bytes).await?;
            }
            Ok::<_, std::io::Error>(())
        });
        let kept = futures::future::try_join_all(kept).await;
        kept.map(drop)
            .map_err(|error| BusError::Unavailable(format!("keeping an attachment: {error}")))
    }

    async fn reached(&self, mark: &Mark) -> Result<(), BusError> {
        loop {
            let decided = self.shared.decided.notified();
            let positions = self.shared.store.positions().await;
            let positions = positions.map_err(|error| BusError::Unavailable(error.to_string()))?;
            let positions: BTreeMap<u32, i64> = positions.into_iter().collect();
            let at = |partition: &u32| positions.get(partition).copied().unwrap_or(0);
            let known = self.shared.generations();
            // Behind the end of one that is sealed there is nothing to decide.
            let wanted = |partition: &u32, newest: &i64| {
                let end = known.end(*partition).unwrap_or(i64::MAX);
                end.min(*newest)
            };
            if mark
                .0
                .iter()
                .all(|(partition, newest)| at(partition) >= wanted(partition, newest))
            {
                return Ok(());
            }
            tokio::select! {
                () = decided => {}
                () = tokio::time::sleep(OTHERS_ASKED_EVERY) => {}
            }
        }
    }
}

impl Drop for KafkaBus {
    fn drop(&mut self) {
        self.keeping.abort();
        self.following.abort();
        // Dropping a client waits for its brokers: on a thread of its own.
        let clients = self.clients.clone();
        std::thread::spawn(move || {
            lock(&clients.consumer).take();
            clients.producer.store(None);
        });
    }
}

#[async_trait]
impl Bus for KafkaBus {
    async fn append(&self, mut records: Vec<NewRecord>) -> Result<Vec<i64>, BusError> {
        if records.is_empty() {
            return Ok(Vec::new());
        }
        let producer = self.producer()?;
        if self.shared.too_far_behind.load(Ordering::Acquire) {
            return Err(BusError::Overloaded {
                reason: "the routers are too far behind".to_owned(),
            });
        }
        self.put_beside(&mut records).await?;
        // Their files are held until they are acknowledged.
        let held: Vec<NewBlob> = records
            .iter()
            .flat_map(|record| record.raw.iter().chain(&record.blobs).cloned())
            .collect();
        let given = producer.append(&self.shared, records).await;
        drop(held);
        given
    }

    async fn append_bytes(&self, body: Vec<u8>, _arrived_at: i64) -> Result<(), BusError> {
        self.producer()?.append_bytes(&self.shared, body).await
    }

    fn assigned(&self) -> watch::Receiver<Vec<u32>> {
        self.shared.assigned.subscribe()
    }

    async fn read(
        &self,
        partition: u32,
        position: i64,
        records_max: usize,
    ) -> Result<Vec<Record>, BusError> {
        let mut waits = false;
        let (taken, base) = loop {
            let arrived = self.shared.arrived.notified();
            let mut arrived = std::pin::pin!(arrived);
            arrived.as_mut().enable();
            if self.shared.waits(partition) {
                if !std::mem::replace(&mut waits, true) {
                    self.shared.waiting.notify_one();
                }
                arrived.await;
                continue;
            }
            let base = self.shared.generations().base(partition);
            let inside = numbers::inside(position, base);
            let (found, command) = self.shared.read(partition, inside, records_max);
            if let Some(command) = command
                && let Some(consumer) = &*lock(&self.clients.consumer)
            {
                consumer.tell(partition, command);
            }
            match found {
                Found::Records(taken) => break (taken, base),
                Found::Nothing => arrived.await,
                Found::Trouble(reason) => return Err(BusError::Unavailable(reason)),
            }
        };
        let mut records = Vec::with_capacity(taken.len());
        for taken in taken {
            if records.len() % TURN_RECORDS == TURN_RECORDS - 1 {
                tokio::task::yield_now().await;
            }
            let (content, carried) = taken.read(&self.blobs);
            records.push(Record {
                offset: numbers::outside(numbers::record(taken.offset, partition), base),
                content,
                carried: Some(Arc::new(carried)),
            });
        }
        Ok(records)
    }

    fn decided(&self, partition: u32, position: i64, _records: usize) {
        let position = numbers::inside(position, self.shared.generations().base(partition));
        if let Some(window) = lock(&self.shared.windows).get_mut(&partition) {
            window.decided = window.decided.max(position);
        }
        self.shared.decided.notify_waiters();
    }

    fn lag(&self) -> i64 {
        let windows = lock(&self.shared.windows);
        let ours = windows.iter();
        let ours = ours.filter(|(number, _)| !self.shared.waits(**number));
        ours.map(|(_, window)| window.lag()).sum()
    }

    async fn mark(&self) -> Result<Mark, BusError> {
        let producer = self.producer()?;
        let shared = self.shared.clone();
        let ends = tokio::task::spawn_blocking(move || {
            let mut newest = BTreeMap::new();
            let known = shared.generations();
            let read = known.read().flat_map(|one| &one.partitions);
            for number in read.copied() {
                let Some((topic, at)) = known.place(number) else {
                    continue;
                };
                let record = match known.end(number) {
                    Some(end) => end,
                    None => {
                        let client = producer.client.client();
                        let (_, end) = client.fetch_watermarks(topic, at, topic::ANSWER_MAX)?;
                        match end {
                            0 => 0,
                            end => {
                                let record = numbers::record(end - 1, number);
                                numbers::outside(record, known.base(number))
                            }
                        }
                    }
                };
                newest.insert(number, record);
            }
            Ok(Mark(newest))
        });
        let ends = ends
            .await
            .map_err(|_| BusError::Unavailable("asking Kafka panicked".to_owned()))?;
        ends.map_err(|error: KafkaError| {
            BusError::Unavailable(explain::explain(&error, &self.shared.settings))
        })
    }

    fn partition_of(&self, record: i64) -> u32 {
        numbers::partition_of(record)
    }

    async fn decided_so_far(&self) -> Result<(), BusError> {
        let mark = self.mark().await?;
        self.reached(&mark).await
    }

    async fn caught_up(&self) -> Result<(), BusError> {
        loop {
            let mark = self.mark().await?;
            self.reached(&mark).await?;
            if self.mark().await? == mark {
                return Ok(());
            }
        }
    }

    fn names_files_for(&self) -> Duration {
        let longest = Duration::from_secs(28 * 24 * 60 * 60);
        self.shared.settings.retention.max(longest)
    }

    async fn leave(&self) {
        self.keeping.abort();
        self.following.abort();
        let consumer = lock(&self.clients.consumer).take();
        let leaving = tokio::task::spawn_blocking(move || consumer.map(Consumer::leave));
        leaving.await.ok();
    }

    fn state(&self) -> watch::Receiver<BusState> {
        self.shared.state.subscribe()
    }

    fn generation(&self) -> Option<u32> {
        Some(self.shared.generations().newest())
    }

    fn change(&self) -> Option<watch::Receiver<Option<String>>> {
        Some(self.shared.change.subscribe())
    }

    fn notices(&self) -> Option<Arc<dyn Notices>> {
        Some(Arc::new(Publisher::new(self.shared.settings.clone())))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
