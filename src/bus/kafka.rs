//! The bus of a cluster: topic `<prefix>.inbound` in Kafka. Every process may append; which process decides
//! which partition is the consumer group's to say, and that no two decide one is the store's. Positions are
//! read from the store alone. Kafka may be down at any time: then nothing is accepted, and it heals by itself.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use rdkafka::admin::AdminClient;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::KafkaError;
use rdkafka::producer::Producer as _;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::blobs::Blobs;
use crate::bus::{Bus, BusError, BusState, Mark, NewBlob, NewRecord, Record};
use crate::store::partitions::Partitions;

mod consumer;
mod context;
mod numbers;
mod producer;
mod record;
mod settings;
mod statistics;
mod topic;
mod window;

use consumer::Consumer;
use context::Context;
use producer::Producer;
pub use record::TYPE;
pub use settings::Settings;
pub use topic::Unsafe;
use window::{Command, Found, Window};

/// How long until Kafka is tried again that did not answer, and how often a topic that is well is looked at.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(1);
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(60);
/// How often the store is asked how far other processes are, while somebody waits for them.
const OTHERS_ASKED_EVERY: Duration = Duration::from_millis(50);
/// Records read before other tasks get their turn.
const TURN_RECORDS: usize = 50;

/// What the bus's parts know together.
pub struct Shared {
    settings: Settings,
    topic: String,
    state: watch::Sender<BusState>,
    /// Why the brokers cannot be used, where they said more than nothing.
    cause: Mutex<Option<String>>,
    /// Somebody found trouble: the topic is looked at.
    troubled: Notify,
    /// A client cannot go on.
    broken: Notify,
    /// The store's numbers of the topic's partitions; empty until the topic was seen.
    numbers: Mutex<Vec<u32>>,
    windows: Mutex<BTreeMap<u32, Window>>,
    assigned: watch::Sender<Vec<u32>>,
    arrived: Notify,
    decided: Notify,
}

pub struct KafkaBus {
    shared: Arc<Shared>,
    store: Arc<dyn Partitions>,
    blobs: Blobs,
    clients: Arc<Clients>,
    keeping: JoinHandle<()>,
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
    ) -> Result<Self, String> {
        let shared = Arc::new(Shared::new(settings));
        let clients = Arc::new(Clients::default());
        let wrong = |error: KafkaError| format!("bus.librdkafka: {error}");
        let context = || Context(shared.clone());
        let producer = Producer::new(&shared.settings, context()).map_err(wrong)?;
        clients.producer.store(Some(Arc::new(producer)));
        // Only to see what is wrong with its settings now.
        shared.consumer().map_err(wrong)?;
        let keeper = Keeper {
            shared: shared.clone(),
            store: store.clone(),
            clients: clients.clone(),
            reads,
        };
        Ok(Self {
            shared,
            store,
            blobs,
            clients,
            keeping: tokio::spawn(async move { keeper.run().await }),
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

    /// Intake refuses before the router is half of the retention behind.
    fn refuse_lag(&self, now: i64) -> Result<(), BusError> {
        let most =
            i64::try_from(self.shared.settings.retention.as_micros() / 2).unwrap_or(i64::MAX);
        let windows = lock(&self.shared.windows);
        let oldest = windows.values().filter_map(Window::oldest).min();
        match oldest.is_some_and(|oldest| now.saturating_sub(oldest) > most) {
            true => Err(BusError::Overloaded {
                reason: "the router is too far behind".to_owned(),
            }),
            false => Ok(()),
        }
    }

    async fn reached(&self, mark: &Mark) -> Result<(), BusError> {
        loop {
            let decided = self.shared.decided.notified();
            let positions = self.store.positions().await;
            let positions = positions.map_err(|error| BusError::Unavailable(error.to_string()))?;
            let positions: BTreeMap<u32, i64> = positions.into_iter().collect();
            let at = |partition: &u32| positions.get(partition).copied().unwrap_or(0);
            if mark
                .0
                .iter()
                .all(|(partition, newest)| at(partition) >= *newest)
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
        let Some(first) = records.first() else {
            return Ok(Vec::new());
        };
        let producer = self.producer()?;
        self.refuse_lag(first.envelope.arrived_at)?;
        self.put_beside(&mut records).await?;
        // Their files are held until they are acknowledged.
        let held: Vec<NewBlob> = records
            .iter()
            .flat_map(|record| record.raw.iter().chain(&record.blobs).cloned())
            .collect();
        let sent = producer.append(&self.shared, records).await;
        drop(held);
        let number = |(partition, offset): (i32, i64)| {
            let number = self.shared.number(partition);
            // Of one that was acknowledged when it was sent again the offset may not be known.
            number
                .filter(|_| offset >= 0)
                .map_or(0, |number| numbers::record(offset, number))
        };
        Ok(sent?.into_iter().map(number).collect())
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
        let taken = loop {
            let arrived = self.shared.arrived.notified();
            let mut arrived = std::pin::pin!(arrived);
            arrived.as_mut().enable();
            let (found, command) = self.shared.read(partition, position, records_max);
            if let Some(command) = command
                && let Some(consumer) = &*lock(&self.clients.consumer)
            {
                consumer.tell(partition, command);
            }
            match found {
                Found::Records(taken) => break taken,
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
                offset: numbers::record(taken.offset, partition),
                content,
                carried: Some(Arc::new(carried)),
            });
        }
        Ok(records)
    }

    fn decided(&self, partition: u32, position: i64, _records: usize) {
        if let Some(window) = lock(&self.shared.windows).get_mut(&partition) {
            window.decided = window.decided.max(position);
        }
        self.shared.decided.notify_waiters();
    }

    fn lag(&self) -> i64 {
        lock(&self.shared.windows).values().map(Window::lag).sum()
    }

    async fn mark(&self) -> Result<Mark, BusError> {
        let producer = self.producer()?;
        let shared = self.shared.clone();
        let ends = tokio::task::spawn_blocking(move || {
            let mut newest = BTreeMap::new();
            let partitions = lock(&shared.numbers).clone();
            for (at, number) in partitions.into_iter().enumerate() {
                let at = i32::try_from(at).unwrap_or(i32::MAX);
                let client = producer.client.client();
                let (_, end) = client.fetch_watermarks(&shared.topic, at, topic::ANSWER_MAX)?;
                let record = if end > 0 {
                    numbers::record(end - 1, number)
                } else {
                    0
                };
                newest.insert(number, record);
            }
            Ok(Mark(newest))
        });
        let ends = ends
            .await
            .map_err(|_| BusError::Unavailable("asking Kafka panicked".to_owned()))?;
        ends.map_err(|error: KafkaError| {
            BusError::Unavailable(topic::explain(&error, &self.shared.settings))
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
        let consumer = lock(&self.clients.consumer).take();
        let leaving = tokio::task::spawn_blocking(move || consumer.map(Consumer::leave));
        leaving.await.ok();
    }

    fn state(&self) -> watch::Receiver<BusState> {
        self.shared.state.subscribe()
    }
}

/// Keeps the clients and the topic well.
struct Keeper {
    shared: Arc<Shared>,
    store: Arc<dyn Partitions>,
    clients: Arc<Clients>,
    reads: bool,
}

impl Keeper {
    async fn run(&self) {
        loop {
            let again = match self.look().await {
                Ok(()) => {
                    *lock(&self.shared.cause) = None;
                    self.shared.state.send_if_modified(|state| {
                        let healed = *state != BusState::Ready;
                        *state = BusState::Ready;
                        healed
                    });
                    LOOK_AGAIN_AFTER
                }
                Err(reason) => {
                    let cause = lock(&self.shared.cause).take();
                    self.shared
                        .state
                        .send_replace(BusState::Down(cause.unwrap_or(reason)));
                    TRY_AGAIN_AFTER
                }
            };
            tokio::select! {
                () = tokio::time::sleep(again) => {}
                () = self.shared.troubled.notified(), if again == LOOK_AGAIN_AFTER => {}
                () = self.shared.broken.notified() => self.renew().await,
            }
        }
    }

    /// Looks at the topic, and has it read once it is well.
    async fn look(&self) -> Result<(), String> {
        let Some(producer) = self.clients.producer.load_full() else {
            return Err("the Kafka client is made anew".to_owned());
        };
        let settings = &self.shared.settings;
        let mut found = self.partitions(&producer).await?;
        if settings.check_topic {
            let context = Context(self.shared.clone());
            let admin = AdminClient::from_config_and_context(&settings.admin(), context)
                .map_err(|error| topic::explain(&error, settings))?;
            let mut ensured = topic::ensure(&admin, settings, found).await;
            if found.is_none() && ensured.is_ok() {
                found = self.partitions(&producer).await?;
                ensured = match found {
                    None => Err(format!("the topic {} is being made", self.shared.topic)),
                    made => topic::ensure(&admin, settings, made).await,
                };
            }
            tokio::task::spawn_blocking(move || drop(admin)).await.ok();
            ensured?;
        }
        if lock(&self.shared.numbers).is_empty() {
            let given = self
                .store
                .number_partitions(self.shared.topic.clone(), settings.partitions);
            let given = given
                .await
                .map_err(|error| format!("numbering partitions: {error}"))?;
            if given.iter().any(|number| *number > numbers::PARTITION_MAX) {
                return Err(format!(
                    "the store has numbers for {} partitions, and all topics so far had more",
                    numbers::PARTITION_MAX
                ));
            }
            *lock(&self.shared.numbers) = given;
        }
        if self.reads && lock(&self.clients.consumer).is_none() {
            let client = self.shared.consumer();
            let client = client.map_err(|error| topic::explain(&error, settings))?;
            let consumer = Consumer::start(client, self.shared.clone())?;
            *lock(&self.clients.consumer) = Some(consumer);
        }
        Ok(())
    }

    /// Partitions and replication of the topic; `None` where there is none.
    async fn partitions(&self, producer: &Arc<Producer>) -> Result<Option<(u32, u32)>, String> {
        let (producer, shared) = (producer.clone(), self.shared.clone());
        let asked = tokio::task::spawn_blocking(move || {
            // Asked for by name, some brokers would make it.
            let client = producer.client.client();
            let metadata = client.fetch_metadata(None, topic::ANSWER_MAX)?;
            let found = metadata
                .topics()
                .iter()
                .find(|topic| topic.name() == shared.topic);
            let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
            Ok(found.map(|topic| {
                let partitions = topic.partitions();
                let replicas = partitions
                    .iter()
                    .map(|partition| partition.replicas().len());
                (count(partitions.len()), count(replicas.min().unwrap_or(0)))
            }))
        });
        let asked = asked
            .await
            .map_err(|_| "asking Kafka panicked".to_owned())?;
        asked.map_err(|error: KafkaError| topic::explain(&error, &self.shared.settings))
    }

    /// Makes the clients anew.
    async fn renew(&self) {
        let consumer = lock(&self.clients.consumer).take();
        let producer = self.clients.producer.swap(None);
        let left = tokio::task::spawn_blocking(move || {
            if let Some(consumer) = consumer {
                consumer.leave();
            }
            drop(producer);
        });
        left.await.ok();
        let context = Context(self.shared.clone());
        if let Ok(producer) = Producer::new(&self.shared.settings, context) {
            self.clients.producer.store(Some(Arc::new(producer)));
        }
    }
}

impl Shared {
    fn new(settings: Settings) -> Self {
        Self {
            topic: settings.topic(),
            settings,
            state: watch::Sender::new(BusState::Starting),
            cause: Mutex::default(),
            troubled: Notify::new(),
            broken: Notify::new(),
            numbers: Mutex::default(),
            windows: Mutex::default(),
            assigned: watch::Sender::new(Vec::new()),
            arrived: Notify::new(),
            decided: Notify::new(),
        }
    }

    fn consumer(self: &Arc<Self>) -> Result<BaseConsumer<Context>, KafkaError> {
        BaseConsumer::from_config_and_context(&self.settings.consumer(), Context(self.clone()))
    }

    /// Notes that the brokers cannot be used, and why.
    fn down(&self, reason: String) {
        *lock(&self.cause) = Some(reason.clone());
        self.state.send_if_modified(|state| {
            let news = *state != BusState::Down(reason.clone());
            *state = BusState::Down(reason);
            news
        });
        self.troubled.notify_one();
    }

    fn number(&self, partition: i32) -> Option<u32> {
        let at = usize::try_from(partition).ok()?;
        lock(&self.numbers).get(at).copied()
    }

    fn partition(&self, number: u32) -> Option<i32> {
        let numbers = lock(&self.numbers);
        let at = numbers.iter().position(|known| *known == number)?;
        i32::try_from(at).ok()
    }

    fn assign(&self, partitions: &[i32]) {
        let numbers: Vec<u32> = partitions
            .iter()
            .filter_map(|at| self.number(*at))
            .collect();
        let mut windows = lock(&self.windows);
        for number in numbers {
            windows.insert(number, Window::new(number));
        }
        self.tell(&windows);
    }

    fn revoke(&self, partitions: &[i32]) {
        let numbers: Vec<u32> = partitions
            .iter()
            .filter_map(|at| self.number(*at))
            .collect();
        let mut windows = lock(&self.windows);
        windows.retain(|number, _| !numbers.contains(number));
        self.tell(&windows);
    }

    fn tell(&self, windows: &BTreeMap<u32, Window>) {
        self.assigned
            .send_replace(windows.keys().copied().collect());
        self.arrived.notify_waiters();
    }

    fn partitions_of_all(&self) -> Vec<i32> {
        let numbers: Vec<u32> = lock(&self.windows).keys().copied().collect();
        numbers
            .into_iter()
            .filter_map(|number| self.partition(number))
            .collect()
    }

    fn read(&self, number: u32, position: i64, records_max: usize) -> (Found, Option<Command>) {
        let mut windows = lock(&self.windows);
        let count = windows.len().max(1);
        match windows.get_mut(&number) {
            Some(window) => window.read(position, records_max, count),
            None => {
                let reason = "this partition is another process's".to_owned();
                (Found::Trouble(reason), None)
            }
        }
    }

    fn take(&self, number: u32, taken: record::Taken) -> Option<Command> {
        let mut windows = lock(&self.windows);
        let count = windows.len().max(1);
        let command = windows.get_mut(&number)?.take(taken, count);
        drop(windows);
        self.arrived.notify_waiters();
        command
    }

    fn seated(&self, number: u32, position: i64) {
        if let Some(window) = lock(&self.windows).get_mut(&number) {
            window.seated(position);
        }
    }

    fn fail(&self, number: u32, reason: String) {
        if let Some(window) = lock(&self.windows).get_mut(&number) {
            window.fail(reason);
        }
        self.arrived.notify_waiters();
    }

    /// The partitions that are fetched, and from where.
    fn fetched(&self) -> Vec<(u32, i32, i64)> {
        let windows = lock(&self.windows);
        let fetched = windows.iter();
        fetched
            .filter_map(|(number, window)| {
                Some((*number, self.partition(*number)?, window.fetches_from()?))
            })
            .collect()
    }

    fn decided_offsets(&self) -> Vec<(i32, i64)> {
        let windows = lock(&self.windows);
        let decided = windows.iter().filter(|(_, window)| window.decided > 0);
        decided
            .filter_map(|(number, window)| {
                Some((
                    self.partition(*number)?,
                    numbers::next_offset(window.decided),
                ))
            })
            .collect()
    }

    /// Notes where partitions end; gives how far each of ours is behind that.
    fn see_ends(&self, ends: &[(i32, i64)]) -> Vec<(i32, i64)> {
        let mut windows = lock(&self.windows);
        let mut lags = Vec::new();
        for (partition, end) in ends {
            let number = self.number(*partition);
            if let Some(window) = number.and_then(|number| windows.get_mut(&number)) {
                window.end_offset = window.end_offset.max(*end);
                lags.push((*partition, window.lag()));
            }
        }
        lags
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
