//! What the bus's parts know together: whether Kafka can be used, which partitions are ours, and what was
//! fetched of them.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex};

use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::KafkaError;
use tokio::sync::{Notify, watch};

use crate::bus::BusState;

use super::context::Context;
use super::settings::Settings;
use super::window::{Command, Found, Window};
use super::{lock, numbers, record};

/// What the bus's parts know together.
pub struct Shared {
    pub settings: Settings,
    pub topic: String,
    pub state: watch::Sender<BusState>,
    /// Why the brokers cannot be used, where they said more than nothing.
    pub cause: Mutex<Option<String>>,
    /// Somebody found trouble: the topic is looked at.
    pub troubled: Notify,
    /// A client cannot go on.
    pub broken: Notify,
    /// The store's numbers of the topic's partitions; empty until the topic was seen.
    pub numbers: Mutex<Vec<u32>>,
    /// Above which the numbers of records begin outside of the bus; known before those of partitions.
    pub base: AtomicI64,
    pub windows: Mutex<BTreeMap<u32, Window>>,
    pub assigned: watch::Sender<Vec<u32>>,
    pub arrived: Notify,
    pub decided: Notify,
}

impl Shared {
    pub fn new(settings: Settings) -> Self {
        Self {
            topic: settings.topic(),
            settings,
            state: watch::Sender::new(BusState::Starting),
            cause: Mutex::default(),
            troubled: Notify::new(),
            broken: Notify::new(),
            numbers: Mutex::default(),
            base: AtomicI64::default(),
            windows: Mutex::default(),
            assigned: watch::Sender::new(Vec::new()),
            arrived: Notify::new(),
            decided: Notify::new(),
        }
    }

    pub fn consumer(self: &Arc<Self>) -> Result<BaseConsumer<Context>, KafkaError> {
        BaseConsumer::from_config_and_context(&self.settings.consumer(), Context(self.clone()))
    }

    /// Notes that the brokers cannot be used, and why.
    pub fn down(&self, reason: String) {
        *lock(&self.cause) = Some(reason.clone());
        self.state.send_if_modified(|state| {
            let news = *state != BusState::Down(reason.clone());
            *state = BusState::Down(reason);
            news
        });
        self.troubled.notify_one();
    }

    pub fn number(&self, partition: i32) -> Option<u32> {
        let at = usize::try_from(partition).ok()?;
        lock(&self.numbers).get(at).copied()
    }

    pub fn partition(&self, number: u32) -> Option<i32> {
        let numbers = lock(&self.numbers);
        let at = numbers.iter().position(|known| *known == number)?;
        i32::try_from(at).ok()
    }

    pub fn assign(&self, partitions: &[i32]) {
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

    pub fn revoke(&self, partitions: &[i32]) {
        let numbers: Vec<u32> = partitions
            .iter()
            .filter_map(|at| self.number(*at))
            .collect();
        let mut windows = lock(&self.windows);
        windows.retain(|number, _| !numbers.contains(number));
        self.tell(&windows);
    }

    pub fn tell(&self, windows: &BTreeMap<u32, Window>) {
        self.assigned
            .send_replace(windows.keys().copied().collect());
        self.arrived.notify_waiters();
    }

    pub fn partitions_of_all(&self) -> Vec<i32> {
        let numbers: Vec<u32> = lock(&self.windows).keys().copied().collect();
        numbers
            .into_iter()
            .filter_map(|number| self.partition(number))
            .collect()
    }

    pub fn read(&self, number: u32, position: i64, records_max: usize) -> (Found, Option<Command>) {
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

    pub fn take(&self, number: u32, taken: record::Taken) -> Option<Command> {
        let mut windows = lock(&self.windows);
        let count = windows.len().max(1);
        let command = windows.get_mut(&number)?.take(taken, count);
        drop(windows);
        self.arrived.notify_waiters();
        command
    }

    pub fn seated(&self, number: u32, position: i64) {
        if let Some(window) = lock(&self.windows).get_mut(&number) {
            window.seated(position);
        }
    }

    pub fn fail(&self, number: u32, reason: String) {
        if let Some(window) = lock(&self.windows).get_mut(&number) {
            window.fail(reason);
        }
        self.arrived.notify_waiters();
    }

    /// The partitions that are fetched, and from where.
    pub fn fetched(&self) -> Vec<(u32, i32, i64)> {
        let windows = lock(&self.windows);
        let fetched = windows.iter();
        fetched
            .filter_map(|(number, window)| {
                Some((*number, self.partition(*number)?, window.fetches_from()?))
            })
            .collect()
    }

    pub fn decided_offsets(&self) -> Vec<(i32, i64)> {
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
    pub fn see_ends(&self, ends: &[(i32, i64)]) -> Vec<(i32, i64)> {
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
