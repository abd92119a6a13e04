//! What the bus's parts know together: whether Kafka can be used, which generations of the topic there are,
//! which partitions are ours, and what was fetched of them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tokio::sync::{Mutex as AsyncMutex, Notify, watch};
use tokio::time::Instant;
use tracing::debug;

use crate::bus::{BusError, BusState};
use crate::store::partitions::{Generation, Partitions};

use super::context::Context;
use super::generations::{Generations, Wait};
use super::reach::{ANEW_AFTER, Reach};
use super::refusal::Refusal;
use super::settings::Settings;
use super::statistics::lag_of;
use super::window::{Command, Found, Window};
use super::{explain, lock, numbers, record};

/// How often the store is asked what becomes of a sealed topic, while records wait to be accepted.
const TURN_ASKED_EVERY: Duration = Duration::from_millis(50);

/// librdkafka tells of a broker's error again after 30 seconds.
const TOLD_AGAIN_WITHIN: Duration = Duration::from_secs(45);

/// What the bus's parts know together.
pub struct Shared {
    pub settings: Settings,
    pub store: Arc<dyn Partitions>,
    pub state: watch::Sender<BusState>,
    /// Why the brokers cannot be used, where they said more than nothing, and when.
    cause: Mutex<Option<(String, Instant)>>,
    /// Whether the brokers were of any use yet.
    pub was_well: AtomicBool,
    /// What this user may not do.
    pub refusal: Mutex<Option<Refusal>>,
    /// Somebody found trouble: the topic is looked at.
    pub troubled: Notify,
    /// When each client was seen to have a broker.
    reach: Mutex<Reach>,
    /// A client cannot go on.
    pub broken: Notify,
    /// Empty until the topic was seen.
    pub generations: watch::Sender<Arc<Generations>>,
    /// What of a change to more partitions is not done.
    pub change: watch::Sender<Option<String>>,
    /// When the store was last asked for generations; held while it is.
    asked: AsyncMutex<Option<Instant>>,
    /// How far partitions were that others wait for.
    pub positions: Mutex<BTreeMap<u32, i64>>,
    /// How long brokers keep records, in milliseconds; 0 where that is not known.
    kept_millis: AtomicU64,
    /// Routers, whosever they are, are so far behind that nothing more may be accepted.
    pub too_far_behind: AtomicBool,
    /// Somebody reads a partition that has to wait.
    pub waiting: Notify,
    pub windows: Mutex<BTreeMap<u32, Window>>,
    pub assigned: watch::Sender<Vec<u32>>,
    pub arrived: Notify,
    pub decided: Notify,
}

impl Shared {
    pub fn new(settings: Settings, store: Arc<dyn Partitions>) -> Self {
        Self {
            settings,
            store,
            state: watch::Sender::new(BusState::Starting),
            cause: Mutex::default(),
            was_well: AtomicBool::default(),
            refusal: Mutex::default(),
            troubled: Notify::new(),
            reach: Mutex::default(),
            broken: Notify::new(),
            generations: watch::Sender::default(),
            change: watch::Sender::default(),
            asked: AsyncMutex::default(),
            positions: Mutex::default(),
            kept_millis: AtomicU64::default(),
            too_far_behind: AtomicBool::default(),
            waiting: Notify::new(),
            windows: Mutex::default(),
            assigned: watch::Sender::new(Vec::new()),
            arrived: Notify::new(),
            decided: Notify::new(),
        }
    }

    /// Notes how long the topic keeps what it has, where that ends.
    pub fn is_kept_for(&self, kept: Option<Duration>) {
        let millis = kept.map_or(0, |kept| kept.as_millis());
        let millis = u64::try_from(millis).unwrap_or(u64::MAX);
        self.kept_millis.store(millis, Ordering::Release);
    }

    /// How long a record is there at least: as long as is meant, or as the topic says where that is shorter.
    pub fn retention(&self) -> Duration {
        let meant = self.settings.retention;
        match self.kept_millis.load(Ordering::Acquire) {
            0 => meant,
            kept => meant.min(Duration::from_millis(kept)),
        }
    }

    pub fn consumer(self: &Arc<Self>) -> Result<BaseConsumer<Context>, KafkaError> {
        BaseConsumer::from_config_and_context(&self.settings.consumer(), Context(self.clone()))
    }

    /// Notes that the brokers cannot be used. What one of them said says more than that none answers.
    pub fn down(&self, reason: String) {
        let reason = self.cause().unwrap_or(reason);
        self.state.send_if_modified(|state| {
            let news = *state != BusState::Down(reason.clone());
            *state = BusState::Down(reason);
            news
        });
        self.troubled.notify_one();
    }

    /// Notes what brokers said of why they cannot be used.
    pub fn down_for(&self, reason: String) {
        *lock(&self.cause) = Some((reason.clone(), Instant::now()));
        self.down(reason);
    }

    /// Why the brokers cannot be used, where one said so lately: clients tell a thing again only after a while.
    pub fn cause(&self) -> Option<String> {
        let cause = lock(&self.cause);
        let lately = cause
            .as_ref()
            .filter(|(_, at)| at.elapsed() < TOLD_AGAIN_WITHIN);
        lately.map(|(reason, _)| reason.clone())
    }

    pub fn is_well(&self) {
        self.was_well.store(true, Ordering::Release);
        *lock(&self.cause) = None;
    }

    /// Notes that brokers do not let us do what we have to.
    pub fn refuse(&self, reason: String) {
        *lock(&self.refusal) = Some(Refusal::new(reason.clone(), Instant::now()));
        self.down(reason);
    }

    pub fn generations(&self) -> Arc<Generations> {
        self.generations.borrow().clone()
    }

    pub fn know(&self, all: Vec<Generation>) {
        let all = Generations::new(all);
        let change = all.change();
        let news = self.generations.send_if_modified(|known| {
            let news = **known != all;
            if news {
                *known = Arc::new(all);
            }
            news
        });
        if news {
            self.change.send_replace(change);
            self.arrived.notify_waiters();
        }
    }

    /// Asks the store which generations there are, unless it was asked since.
    pub async fn refresh(&self, since: Instant) -> Result<(), String> {
        let mut asked = self.asked.lock().await;
        if asked.is_some_and(|at| at >= since) {
            return Ok(());
        }
        let now = Instant::now();
        let found = self.store.generations(&self.settings.topic()).await;
        let found =
            found.map_err(|error| format!("asking for the topic's generations: {error}"))?;
        *asked = Some(now);
        self.know(found);
        Ok(())
    }

    /// Returns once there is an open generation behind this one, whose topic refuses what is not too large. One
    /// that is not sealed refuses what is too large indeed.
    pub async fn newer_than(&self, number: u32, until: Instant) -> Result<(), BusError> {
        loop {
            let asked = self.refresh(Instant::now()).await;
            asked.map_err(BusError::Unavailable)?;
            let known = self.generations();
            if known.open().is_some_and(|open| open.number > number) {
                return Ok(());
            }
            if known.coming().is_none() {
                let code = RDKafkaErrorCode::MessageSizeTooLarge;
                let reason = explain::explain_code(code, &self.settings);
                return Err(BusError::Unavailable(reason));
            }
            if Instant::now() >= until {
                return Err(BusError::Overloaded {
                    reason: known.change().unwrap_or_default(),
                });
            }
            tokio::time::sleep(TURN_ASKED_EVERY).await;
        }
    }

    /// Whether a partition may not be read yet.
    pub fn waits(&self, number: u32) -> bool {
        match self.generations.borrow().waits_for(number) {
            None => false,
            Some(Wait::Opening) => true,
            Some(Wait::Until { partition, end }) => {
                let positions = lock(&self.positions);
                positions.get(&partition).copied().unwrap_or(0) < end
            }
        }
    }

    /// The partitions that are ours and may not be read yet.
    pub fn all_waiting(&self) -> Vec<u32> {
        let ours = self.assigned.borrow().clone();
        ours.into_iter().filter(|one| self.waits(*one)).collect()
    }

    pub fn assign(&self, partitions: &[u32]) {
        let mut windows = lock(&self.windows);
        for number in partitions {
            windows.insert(*number, Window::new(*number));
        }
        self.tell(&windows);
    }

    pub fn revoke(&self, partitions: &[u32]) {
        let known = self.generations();
        for number in partitions {
            lag_of(&known, *number, 0);
        }
        let mut windows = lock(&self.windows);
        windows.retain(|number, _| !partitions.contains(number));
        self.tell(&windows);
    }

    pub fn tell(&self, windows: &BTreeMap<u32, Window>) {
        self.assigned
            .send_replace(windows.keys().copied().collect());
        self.arrived.notify_waiters();
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

    /// Passes a record that says nothing.
    pub fn pass(&self, number: u32, offset: i64) {
        if let Some(window) = lock(&self.windows).get_mut(&number) {
            window.pass(offset);
        }
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
    pub fn fetched(&self) -> Vec<(u32, i64)> {
        let windows = lock(&self.windows);
        let fetched = windows.iter();
        fetched
            .filter_map(|(number, window)| Some((*number, window.fetches_from()?)))
            .collect()
    }

    /// Behind what is decided, of each of our partitions that anything was decided of.
    pub fn decided_offsets(&self) -> Vec<(u32, i64)> {
        let windows = lock(&self.windows);
        let decided = windows.iter().filter(|(_, window)| window.decided > 0);
        let behind = |window: &Window| match window.lag() {
            0 => window.end_offset,
            _ => numbers::next_offset(window.decided),
        };
        decided
            .map(|(number, window)| (*number, behind(window)))
            .collect()
    }

    /// Notes whether a client has any broker; has the clients made anew where one has had none for long.
    pub fn reaches(&self, client: &str, is_connected: bool) {
        if lock(&self.reach).note(client, is_connected, Instant::now()) {
            debug!("the Kafka {client} has no broker for {ANEW_AFTER:?}: it is made anew");
            self.broken.notify_one();
        }
    }

    /// Notes where partitions end; gives how far each of ours is behind that.
    pub fn see_ends(&self, ends: &[(u32, i64)]) -> Vec<(u32, i64)> {
        let mut windows = lock(&self.windows);
        let mut lags = Vec::new();
        for (number, end) in ends {
            if let Some(window) = windows.get_mut(number) {
                window.end_offset = window.end_offset.max(*end);
                lags.push((*number, window.lag()));
            }
        }
        lags
    }
}
