//! Fetching: one thread polls the client, so that it never leaves its group because somebody is slow, and puts
//! what comes into the windows of the partitions. Everything that moves a partition's position happens on this
//! thread; what the client gives afterwards is then of after.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::topic_partition_list::Offset;
use rdkafka::types::RDKafkaRespErr;
use tokio::sync::watch;
use tracing::{debug, warn};

use super::Shared;
use super::context::Context;
use super::generations::Generations;
use super::numbers::next_offset;
use super::record::{self, Beside, Taken};
use super::window::Command;
use super::{explain, topic};

/// How long a poll waits for something: readers that go elsewhere wait as long.
const POLL: Duration = Duration::from_millis(20);
/// Polls between two commits of offsets to Kafka, where lag tools look; about five seconds where it is idle.
const POLLS_BETWEEN_HINTS: u32 = 250;
/// Tries of telling the client where to fetch from: right after an assignment it is not ready for that.
const SEATS_MAX: u32 = 100;
/// Tries after which a partition that cannot be sought in is begun anew.
const SEATS_OF_ONE_STOPPED: u32 = 10;

impl ConsumerContext for Context {
    /// Partitions come and go one by one. Those that come wait until somebody reads from a position.
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        what: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        let known = self.0.generations();
        let list = partitions.elements();
        let ours = list.iter();
        let ours = ours.filter_map(|one| known.number(one.topic(), one.partition()));
        let ours: Vec<u32> = ours.collect();
        drop(list);
        let done = match what {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                let assigned = partitions
                    .set_all_offsets(Offset::Beginning)
                    .and_then(|()| consumer.incremental_assign(partitions))
                    .and_then(|()| consumer.pause(partitions));
                self.0.assign(&ours);
                assigned
            }
            _ => {
                self.0.revoke(&ours);
                consumer.incremental_unassign(partitions)
            }
        };
        if let Err(error) = done {
            warn!(%error, "a change of this process's Kafka partitions failed, joining anew: {error}");
            self.0.broken.notify_one();
        }
    }
}

/// The thread's handle; it leaves the group and ends when this is dropped.
pub struct Consumer {
    commands: mpsc::Sender<(u32, Command)>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Consumer {
    pub fn start(client: BaseConsumer<Context>, shared: Arc<Shared>) -> Result<Self, String> {
        let said = |error: KafkaError| explain::explain(&error, &shared.settings);
        let mut generations = shared.generations.subscribe();
        let known = generations.borrow_and_update().clone();
        subscribe(&client, &known).map_err(said)?;
        let (commands, receiver) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let poller = Poller {
            client,
            shared: shared.clone(),
            generations,
            topics: known.topics(),
            commands: receiver,
            seats: Vec::new(),
        };
        let stopped = stop.clone();
        let thread = std::thread::Builder::new()
            .name("kafka-consumer".to_owned())
            .spawn(move || poller.run(&stopped))
            .map_err(|error| format!("starting a thread for Kafka: {error}"))?;
        Ok(Self {
            commands,
            stop,
            thread: Some(thread),
        })
    }

    pub fn tell(&self, partition: u32, command: Command) {
        if self.commands.send((partition, command)).is_err() {
            debug!("a Kafka consumer that ended was told to {command:?}");
        }
    }

    /// Leaves the group and waits for that: blocks.
    pub fn leave(mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            warn!("the Kafka consumer's thread panicked");
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

/// Has everything fetched that is read.
fn subscribe(client: &BaseConsumer<Context>, known: &Generations) -> Result<(), KafkaError> {
    let topics = known.topics();
    let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
    client.subscribe(&topics)
}

struct Poller {
    client: BaseConsumer<Context>,
    shared: Arc<Shared>,
    generations: watch::Receiver<Arc<Generations>>,
    /// What is subscribed to.
    topics: Vec<String>,
    commands: mpsc::Receiver<(u32, Command)>,
    /// Partitions that are to be fetched from a position, with the tries so far.
    seats: Vec<(u32, i64, u32)>,
}

impl Poller {
    fn run(mut self, stop: &AtomicBool) {
        let mut polls = 0;
        while !stop.load(Ordering::Acquire) {
            self.follow();
            self.obey();
            match self.client.poll(POLL) {
                Some(Ok(message)) => self.take(&message),
                Some(Err(error)) => self.failed(&error),
                None => {
                    polls += 1;
                    if polls % POLLS_BETWEEN_HINTS == 0 {
                        self.hint();
                    }
                }
            }
        }
        let all = self.shared.assigned.borrow().clone();
        self.shared.revoke(&all);
    }

    /// Begins to fetch a generation that came, and ends with one that was left.
    fn follow(&mut self) {
        if !self.generations.has_changed().unwrap_or(false) {
            return;
        }
        let known = self.generations.borrow_and_update().clone();
        let wanted = known.topics();
        if wanted == self.topics {
            return;
        }
        if let Err(error) = self.join_anew(&known) {
            warn!(%error, "reading {wanted:?} failed, joining anew: {error}");
            self.shared.broken.notify_one();
        }
        self.topics = wanted;
    }

    /// Leaves the group and joins it as another member. A subscription is not changed: where a member without an id
    /// is just joining, librdkafka 2.12 ends the process (an assertion in `rd_kafka_cgrp_modify_subscription`).
    fn join_anew(&mut self, known: &Generations) -> Result<(), KafkaError> {
        let client = self.shared.consumer()?;
        let left = std::mem::replace(&mut self.client, client);
        drop(left);
        let all = self.shared.assigned.borrow().clone();
        self.shared.revoke(&all);
        self.seats.clear();
        subscribe(&self.client, known)
    }

    fn obey(&mut self) {
        while let Ok((partition, command)) = self.commands.try_recv() {
            if let Command::Seat(position) = command {
                self.seats.retain(|(known, _, _)| *known != partition);
                self.seats.push((partition, position, 0));
                continue;
            }
            let Some(list) = self.list(partition) else {
                continue;
            };
            let done = match command {
                Command::Pause => self.client.pause(&list),
                _ => self.client.resume(&list),
            };
            if let Err(error) = done {
                self.shared
                    .fail(partition, format!("pausing or going on: {error}"));
            }
        }
        for (partition, position, tries) in std::mem::take(&mut self.seats) {
            let Err(error) = self.seat(partition, position, tries) else {
                continue;
            };
            match tries < SEATS_MAX {
                true => self.seats.push((partition, position, tries + 1)),
                false => self
                    .shared
                    .fail(partition, format!("reading from its position: {error}")),
            }
        }
    }

    /// Has a partition fetched from behind a position. The client drops what it fetched before.
    fn seat(&self, number: u32, position: i64, tries: u32) -> Result<(), KafkaError> {
        let known = self.shared.generations();
        let (Some(mut list), Some((topic, partition))) = (self.list(number), known.place(number))
        else {
            return Ok(());
        };
        // Also where nothing was decided yet: of a log that begins later, records are gone that nobody decided.
        let offset = Offset::Offset(next_offset(position));
        self.client.resume(&list)?;
        let within = Duration::from_secs(1);
        if let Err(error) = self.client.seek(topic, partition, offset, within) {
            // After a position that the log does not have, nothing is fetched and nothing can be sought.
            if tries < SEATS_OF_ONE_STOPPED {
                return Err(error);
            }
            self.client.incremental_unassign(&list)?;
            list.set_all_offsets(offset)?;
            self.client.incremental_assign(&list)?;
        }
        self.shared.seated(number, position);
        Ok(())
    }

    fn take(&self, message: &BorrowedMessage<'_>) {
        let known = self.shared.generations();
        let Some(number) = known.number(message.topic(), message.partition()) else {
            return;
        };
        // The crate panics at a header whose name is no UTF-8, and anybody may write one.
        let read = catch_unwind(AssertUnwindSafe(|| match message.headers() {
            None => (Ok(Beside::default()), Vec::new()),
            Some(headers) => {
                let all = || headers.iter().map(|header| (header.key, header.value));
                (Beside::read(all()), record::fitting(all()))
            }
        }));
        let unread = |_| (Err("its headers cannot be read".to_owned()), Vec::new());
        let (beside, headers) = read.unwrap_or_else(unread);
        if record::is_mark(&headers) {
            return self.shared.pass(number, message.offset());
        }
        let taken = Taken {
            offset: message.offset(),
            value: message.payload().map(Bytes::copy_from_slice),
            beside,
            headers,
            taken_at: message
                .timestamp()
                .to_millis()
                .unwrap_or(0)
                .saturating_mul(1000),
        };
        if self.shared.take(number, taken) == Some(Command::Pause)
            && let Some(list) = self.list(number)
            && let Err(error) = self.client.pause(&list)
        {
            warn!(%error, "pausing a partition that is far ahead failed: {error}");
        }
    }

    fn failed(&self, error: &KafkaError) {
        use RDKafkaErrorCode as Code;
        match error.rdkafka_error_code() {
            Some(Code::AutoOffsetReset | Code::OffsetOutOfRange) => self.look_for_positions(),
            Some(
                code @ (Code::UnknownTopicOrPartition
                | Code::UnknownTopic
                | Code::Authentication
                | Code::SaslAuthenticationFailed
                | Code::AllBrokersDown),
            ) => self
                .shared
                .down(explain::explain_code(code, &self.shared.settings)),
            Some(code @ (Code::TopicAuthorizationFailed | Code::GroupAuthorizationFailed)) => {
                let settings = &self.shared.settings;
                let reason = match code {
                    Code::TopicAuthorizationFailed => explain::refused("Read", &settings.topic()),
                    code => explain::explain_code(code, settings),
                };
                self.shared.refuse(reason);
            }
            Some(Code::Fatal) => self.shared.broken.notify_one(),
            _ => debug!(%error, "the Kafka consumer goes on after: {error}"),
        }
    }

    /// Finds the partitions whose position the log does not have: which ones, the client does not say.
    fn look_for_positions(&self) {
        let known = self.shared.generations();
        for (number, offset) in self.shared.fetched() {
            let Some((topic, partition)) = known.place(number) else {
                continue;
            };
            let ends = self
                .client
                .fetch_watermarks(topic, partition, topic::ANSWER_MAX);
            let Ok((first, end)) = ends else { continue };
            if offset < first || offset > end {
                self.shared.fail(
                    number,
                    format!(
                        "partition {partition} of the topic {topic} has offsets {first} to {end} and was decided to {offset}: records were removed before they were decided, or the topic was made anew; restore it, or set another bus.prefix"
                    ),
                );
            }
        }
    }

    /// Says how far everything is decided, for tools that look at the group's offsets. Nobody reads from them.
    fn hint(&self) {
        let mut list = TopicPartitionList::new();
        let known = self.shared.generations();
        for (number, offset) in self.shared.decided_offsets() {
            let Some((topic, partition)) = known.place(number) else {
                continue;
            };
            let added = list.add_partition_offset(topic, partition, Offset::Offset(offset));
            drop(added);
        }
        if list.count() > 0
            && let Err(error) = self.client.commit(&list, CommitMode::Async)
        {
            debug!(%error, "telling Kafka how far we are failed: {error}");
        }
    }

    fn list(&self, number: u32) -> Option<TopicPartitionList> {
        let known = self.shared.generations();
        let (topic, partition) = known.place(number)?;
        let mut list = TopicPartitionList::new();
        list.add_partition(topic, partition);
        Some(list)
    }
}
