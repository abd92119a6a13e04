//! Keeps the clients and the topic well: looks at the topic before anything is accepted and again in between,
//! makes clients anew that cannot go on, and says why nothing is accepted while nothing is.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rdkafka::admin::AdminClient;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::KafkaError;
use rdkafka::producer::Producer as _;

use crate::bus::BusState;
use crate::store::partitions::Partitions;

use super::consumer::Consumer;
use super::context::Context;
use super::producer::Producer;
use super::shared::Shared;
use super::{Clients, lock, numbers, topic};

/// How long until Kafka is tried again that did not answer, and how often a topic that is well is looked at.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(1);
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// What keeping takes.
pub struct Keeper {
    pub shared: Arc<Shared>,
    pub store: Arc<dyn Partitions>,
    pub clients: Arc<Clients>,
    pub reads: bool,
}

impl Keeper {
    pub async fn run(&self) {
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
            let name = &self.shared.topic;
            let mut ensured = topic::ensure(&admin, settings, name, found).await;
            if found.is_none() && ensured.is_ok() {
                found = self.partitions(&producer).await?;
                ensured = match found {
                    None => Err(format!("the topic {name} is being made")),
                    made => topic::ensure(&admin, settings, name, made).await,
                };
            }
            tokio::task::spawn_blocking(move || drop(admin)).await.ok();
            ensured?;
        }
        if lock(&self.shared.numbers).is_empty() {
            let base = self.store.records_base().await;
            let base = base.map_err(|error| format!("numbering records: {error}"))?;
            self.shared.base.store(base, Ordering::Release);
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
            let all = topic::all(producer.client.client())?;
            Ok(all.get(&shared.topic).copied())
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
