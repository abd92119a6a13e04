//! Keeps the clients and the topic well: looks at the topic before anything is accepted and again in between,
//! makes clients anew that cannot go on, and says why nothing is accepted while nothing is.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::admin::AdminClient;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::KafkaError;
use rdkafka::producer::Producer as _;

use tokio::time::Instant;

use crate::bus::BusState;

use super::consumer::Consumer;
use super::context::Context;
use super::generations::Generations;
use super::numbers::{inside, next_offset};
use super::producer::Producer;
use super::refusal::Then;
use super::shared::Shared;
use super::{Clients, explain, lock, numbers, topic};

/// How long until Kafka is tried again that did not answer, and how often a topic that is well is looked at.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(1);
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// How long a client that cannot go on may take to leave.
const LEAVING_MAX: Duration = Duration::from_secs(5);

/// What keeping takes.
pub struct Keeper {
    pub shared: Arc<Shared>,
    pub clients: Arc<Clients>,
    pub reads: bool,
}

impl Keeper {
    pub async fn run(&self) {
        loop {
            let again = match self.look().await {
                Ok(()) => {
                    self.shared.is_well();
                    self.shared.state.send_if_modified(|state| {
                        let healed = *state != BusState::Ready;
                        *state = BusState::Ready;
                        healed
                    });
                    LOOK_AGAIN_AFTER
                }
                Err(reason) => {
                    let reason = self.shared.cause().unwrap_or(reason);
                    self.shared.state.send_replace(BusState::Down(reason));
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
        if self.shared.generations().is_empty() {
            self.shared.refresh(Instant::now()).await?;
        }
        let known = self.shared.generations();
        // What is being changed is looked at by whoever changes it.
        if settings.check_topic && known.coming().is_none() {
            self.check(&producer, &known).await?;
            self.has_what_was_decided(&producer, &known).await?;
        }
        if known.is_empty() {
            let first = settings.topic();
            let begun = self
                .shared
                .store
                .begin_generations(&first, settings.partitions);
            let begun = begun.await;
            let begun = begun.map_err(|error| format!("numbering partitions: {error}"))?;
            let mut given = begun.iter().flat_map(|one| &one.partitions);
            if given.any(|number| *number > numbers::PARTITION_MAX) {
                return Err(format!(
                    "the store has numbers for {} partitions, and all topics so far had more",
                    numbers::PARTITION_MAX
                ));
            }
            self.shared.know(begun);
        }
        if self.reads && lock(&self.clients.consumer).is_none() {
            let client = self.shared.consumer();
            let client = client.map_err(|error| explain::explain(&error, settings))?;
            let consumer = Consumer::start(client, self.shared.clone())?;
            *lock(&self.clients.consumer) = Some(consumer);
        }
        self.is_allowed().await
    }

    /// Whether brokers let us do all that we have to.
    async fn is_allowed(&self) -> Result<(), String> {
        let now = Instant::now();
        let then = lock(&self.shared.refusal).as_mut().map(|one| one.then(now));
        match then {
            None => Ok(()),
            Some(Then::Wait(reason)) => Err(reason),
            Some(Then::TryAgain(reason)) => {
                self.renew().await;
                Err(reason)
            }
            Some(Then::Forget) => {
                *lock(&self.shared.refusal) = None;
                Ok(())
            }
        }
    }

    /// Makes the topic that is appended to, or looks at it.
    async fn check(&self, producer: &Arc<Producer>, known: &Generations) -> Result<(), String> {
        let settings = &self.shared.settings;
        let first = settings.topic();
        let name = known.open().map_or(first.as_str(), |open| &open.topic);
        // What a configuration says of a topic that grew since is no mistake.
        let partitions = match known.open() {
            Some(open) if known.had(settings.partitions) => open.count(),
            _ => settings.partitions,
        };
        let mut found = self.found(producer, name).await?;
        if found.is_none() && known.open().is_some() {
            return Err(format!(
                "the topic {name} is gone, and with it what was accepted and not decided: restore it, or set another bus.prefix to begin anew"
            ));
        }
        let context = Context(self.shared.clone());
        let admin = AdminClient::from_config_and_context(&settings.admin(), context)
            .map_err(|error| explain::explain(&error, settings))?;
        let mut ensured = topic::ensure(&admin, settings, name, Some(partitions), found).await;
        if found.is_none() && ensured.is_ok() {
            found = self.found(producer, name).await?;
            ensured = match found {
                None => Err(format!("the topic {name} is being made")),
                made => topic::ensure(&admin, settings, name, Some(partitions), made).await,
            };
        }
        tokio::task::spawn_blocking(move || drop(admin)).await.ok();
        self.shared.is_kept_for(ensured?);
        Ok(())
    }

    /// Refuses a log that ends before what was decided of it: a topic that was made anew, or cut off. What is accepted onto
    /// it would be taken for decided until it is as long as the one before.
    async fn has_what_was_decided(
        &self,
        producer: &Arc<Producer>,
        known: &Generations,
    ) -> Result<(), String> {
        // Nothing is decided while the store is away.
        let Ok(positions) = self.shared.store.positions().await else {
            return Ok(());
        };
        let open: BTreeSet<u32> = known
            .open()
            .map(|open| open.partitions.iter().copied().collect())
            .unwrap_or_default();
        let decided: Vec<_> = (positions.into_iter())
            .filter(|(number, position)| *position > 0 && open.contains(number))
            .filter_map(|(number, position)| {
                let (topic, partition) = known.place(number)?;
                let next = next_offset(inside(position, known.base(number)));
                Some((topic.to_owned(), partition, next))
            })
            .collect();
        let producer = producer.clone();
        let shorter = tokio::task::spawn_blocking(move || {
            for (topic, partition, next) in decided {
                let client = producer.client.client();
                // A partition without a leader says nothing for now, and nothing against it.
                let (_, end) = client
                    .fetch_watermarks(&topic, partition, topic::ANSWER_MAX)
                    .ok()?;
                if next > end {
                    return Some((topic, partition, next, end));
                }
            }
            None
        });
        let shorter = shorter
            .await
            .map_err(|_| "asking Kafka panicked".to_owned())?;
        match shorter {
            None => Ok(()),
            Some((topic, partition, next, end)) => Err(format!(
                "partition {partition} of the topic {topic} ends at {end} and was decided to {next}: it was made anew or cut off; restore it, or set another bus.prefix to begin anew"
            )),
        }
    }

    /// Partitions and replication of a topic; `None` where there is none.
    async fn found(
        &self,
        producer: &Arc<Producer>,
        name: &str,
    ) -> Result<Option<(u32, u32)>, String> {
        let producer = producer.clone();
        let asked = tokio::task::spawn_blocking(move || topic::all(producer.client.client()));
        let asked = asked
            .await
            .map_err(|_| "asking Kafka panicked".to_owned())?;
        let all =
            asked.map_err(|error: KafkaError| explain::explain(&error, &self.shared.settings))?;
        Ok(all.get(name).copied())
    }

    /// Makes the clients anew; there is a producer all the time.
    async fn renew(&self) {
        let consumer = lock(&self.clients.consumer).take();
        let context = Context(self.shared.clone());
        let fresh = Producer::new(&self.shared.settings, context).ok();
        let producer = self.clients.producer.swap(fresh.map(Arc::new));
        let left = tokio::task::spawn_blocking(move || {
            if let Some(consumer) = consumer {
                consumer.leave();
            }
            drop(producer);
        });
        // Without a broker it may never be told that it left.
        tokio::time::timeout(LEAVING_MAX, left).await.ok();
    }
}
