//! `switchboard bus grow`: from a generation of the topic to one with more partitions, while everything runs
//! (docs/kafka.md says why in these steps). Where it stands is rows of the store: a command that was killed is
//! run again, and goes on.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rdkafka::admin::{AdminClient, AlterConfig, ConfigEntry, ConfigSource, ResourceSpecifier};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::producer::{FutureProducer, Producer as _};
use tokio::time::Instant;

use crate::store::partitions::{Generation, Partitions, topic_of};

mod steps;

use super::context::Quiet;
use super::marks::{self, Marker};
use super::settings::Settings;
use super::{explain, numbers, topic};
pub use steps::Done;
use steps::{Next, next};

/// How long processes may take to hear of a generation: they ask every two seconds, and one that says nothing
/// for twenty is gone.
const HEARD_MAX: Duration = Duration::from_secs(40);
/// How long brokers may take until a new topic is there.
const MADE_MAX: Duration = Duration::from_secs(30);
const LOOKED_EVERY: Duration = Duration::from_millis(200);

/// The processes that work with the topic.
#[async_trait]
pub trait Processes: Send + Sync {
    /// Those that do not know this generation, each in words; of 0, those that know of no generations.
    async fn lacking(&self, generation: u32) -> Result<Vec<String>, String>;
}

/// What it takes.
pub struct Growth {
    pub settings: Settings,
    pub store: Arc<dyn Partitions>,
    pub processes: Arc<dyn Processes>,
}

type Admin = AdminClient<Quiet>;

impl Growth {
    /// Returns once all is decided that was accepted before; `tell` hears of each step when it is done.
    pub async fn run(&self, partitions: u32, tell: impl Fn(Done)) -> Result<(), String> {
        let first = self.settings.topic();
        let explain = |error| explain::explain(&error, &self.settings);
        let admin = AdminClient::from_config_and_context(&self.settings.admin(), self.quiet());
        let admin = admin.map_err(explain)?;
        let producer =
            FutureProducer::from_config_and_context(&self.settings.marker(), self.quiet());
        let producer: FutureProducer<Quiet> = producer.map_err(explain)?;
        loop {
            let all = self.store.generations(&first).await.map_err(text)?;
            match next(&all, &first, partitions)? {
                Next::Make { old } => {
                    self.make(&admin, &producer, &old, partitions, &tell)
                        .await?;
                }
                Next::Turn { old, new } => {
                    self.turn(&admin, &producer, &old, &new, &tell).await?;
                }
                Next::Leave { old } => self.leave(&old, &tell).await?,
                Next::Nothing { open } => {
                    tell(Done::Nothing {
                        partitions: open.count(),
                        topic: open.topic,
                    });
                    return Ok(());
                }
            }
        }
    }

    fn quiet(&self) -> Quiet {
        Quiet::new(&self.settings)
    }

    /// Makes the next topic like the one there is, and tells the processes of it by a row.
    async fn make(
        &self,
        admin: &Admin,
        producer: &FutureProducer<Quiet>,
        old: &Generation,
        partitions: u32,
        tell: &impl Fn(Done),
    ) -> Result<(), String> {
        let lacking = self.processes.lacking(0).await?;
        if !lacking.is_empty() {
            return Err(format!(
                "not all processes know what to do when the topic changes: upgrade {}",
                lacking.join(", ")
            ));
        }
        let number = old.number + 1;
        let first = self.settings.topic();
        let new = topic_of(&first, number);
        let config = topic::describe(admin, &self.settings, &old.topic).await?;
        if value(&config, "max.message.bytes").is_some_and(|bytes| bytes <= topic::SEALED_BYTES) {
            return Err(format!(
                "the topic {} is sealed already, and the database knows nothing of that: see /readyz",
                old.topic
            ));
        }
        let config: Vec<(String, String)> = own(&config).collect();
        if self.found(producer, &new).await?.is_none() {
            topic::create(admin, &self.settings, &new, partitions, &config).await?;
        }
        let made_by = Instant::now() + MADE_MAX;
        let found = loop {
            match self.found(producer, &new).await? {
                Some((count, _)) if count > 0 => break count,
                _ if Instant::now() > made_by => {
                    return Err(format!("Kafka does not say that the topic {new} is there"));
                }
                _ => tokio::time::sleep(LOOKED_EVERY).await,
            }
        };
        let filled = marks::ends(producer, &self.settings, &new, found).await?;
        if found != partitions || filled.iter().any(|end| *end > 0) {
            return Err(format!(
                "there is a topic {new} with {found} partitions and records of others: remove it"
            ));
        }
        tell(Done::Made {
            topic: new.clone(),
            partitions,
        });
        let fits =
            self.store
                .announce_generation(&first, number, partitions, numbers::PARTITION_MAX);
        match fits.await.map_err(text)? {
            true => tell(Done::Announced { topic: new }),
            false => {
                return Err(format!(
                    "the store has numbers for {} partitions of all topics that ever were, and these are too many",
                    numbers::PARTITION_MAX
                ));
            }
        }
        Ok(())
    }

    /// Seals the old topic, marks where each of its partitions ends, and opens the new one.
    async fn turn(
        &self,
        admin: &Admin,
        producer: &FutureProducer<Quiet>,
        old: &Generation,
        new: &Generation,
        tell: &impl Fn(Done),
    ) -> Result<(), String> {
        let heard_by = Instant::now() + HEARD_MAX;
        loop {
            let lacking = self.processes.lacking(new.number).await?;
            if lacking.is_empty() {
                break;
            }
            if Instant::now() > heard_by {
                return Err(format!(
                    "nothing is sealed: not all processes have heard of {}: look at {}, and run this again",
                    new.topic,
                    lacking.join(", ")
                ));
            }
            tokio::time::sleep(LOOKED_EVERY).await;
        }
        self.seal(admin, &old.topic).await?;
        tell(Done::Sealed {
            topic: old.topic.clone(),
        });
        let marker = Marker {
            producer,
            settings: &self.settings,
            topic: &old.topic,
            partitions: old.count(),
        };
        let marked = marker.mark().await?;
        tell(Done::Marked {
            topic: old.topic.clone(),
        });
        let last = marks::last_before(&self.settings, &old.topic, marked).await?;
        let ends = numbered(old, last);
        let first = self.settings.topic();
        let turned = self.store.turn_generation(&first, new.number, ends).await;
        turned.map_err(text)?;
        tell(Done::Opened {
            topic: new.topic.clone(),
            partitions: new.count(),
        });
        Ok(())
    }

    /// From the answer on, or a moment later, its brokers take no record of ours, whoever sends it.
    async fn seal(&self, admin: &Admin, name: &str) -> Result<(), String> {
        let config = topic::describe(admin, &self.settings, name).await?;
        let sealed = topic::SEALED_BYTES.to_string();
        let kept: Vec<(String, String)> = own(&config)
            .filter(|(key, _)| key != "max.message.bytes")
            .collect();
        // What is not said is taken back: all of it is.
        let change = kept.iter().fold(
            AlterConfig::new(ResourceSpecifier::Topic(name)),
            |change, (key, value)| change.set(key, value),
        );
        let changes = [change.set("max.message.bytes", &sealed)];
        let changed = admin.alter_configs(&changes, &topic::options()).await;
        let changed = changed.map_err(|error| explain::explain_of(&error, &self.settings, name))?;
        match changed.into_iter().next() {
            None | Some(Ok(_)) => {}
            Some(Err((_, code))) => {
                return Err(format!(
                    "the topic {name} cannot be sealed: {}",
                    explain::explain_code_of(code, &self.settings, name)
                ));
            }
        }
        // rdkafka 0.39 takes a refusal for an answer: only the topic tells.
        let sealed_by = Instant::now() + topic::ANSWER_MAX;
        loop {
            let config = topic::describe(admin, &self.settings, name).await?;
            if value(&config, "max.message.bytes") == Some(topic::SEALED_BYTES) {
                return Ok(());
            }
            if Instant::now() > sealed_by {
                let refused = explain::refused("AlterConfigs", name);
                return Err(format!("the topic {name} is not sealed: {refused}"));
            }
            tokio::time::sleep(LOOKED_EVERY).await;
        }
    }

    /// Waits until the old topic is decided. A broker that came to lead in the very moment of the sealing could
    /// have taken a record behind a mark: that one is decided, too, before nobody reads any more.
    async fn leave(&self, old: &Generation, tell: &impl Fn(Done)) -> Result<(), String> {
        let mut told = 0;
        loop {
            let undecided = self.undecided(&old.partitions, &old.ends).await?;
            if undecided == 0
                && self
                    .undecided(&old.partitions, &self.last(old).await?)
                    .await?
                    == 0
            {
                break;
            }
            if undecided != told {
                told = undecided;
                tell(Done::Waits {
                    topic: old.topic.clone(),
                    partitions: undecided,
                });
            }
            tokio::time::sleep(LOOKED_EVERY).await;
        }
        let first = self.settings.topic();
        let left = self.store.leave_generation(&first, old.number).await;
        left.map_err(text)?;
        tell(Done::Left {
            topic: old.topic.clone(),
        });
        Ok(())
    }

    /// How many partitions are not decided through their end.
    async fn undecided(&self, partitions: &[u32], ends: &[i64]) -> Result<usize, String> {
        let positions = self.store.positions().await.map_err(text)?;
        let behind = |(number, end): &(&u32, &i64)| {
            let at = positions.iter().find(|(known, _)| known == *number);
            at.map_or(0, |(_, position)| *position) < **end
        };
        Ok(partitions.iter().zip(ends).filter(behind).count())
    }

    /// The last record of each partition as the brokers have it now.
    async fn last(&self, old: &Generation) -> Result<Vec<i64>, String> {
        let producer =
            FutureProducer::from_config_and_context(&self.settings.marker(), self.quiet());
        let producer: FutureProducer<Quiet> =
            producer.map_err(|error| explain::explain(&error, &self.settings))?;
        let ends = marks::ends(&producer, &self.settings, &old.topic, old.count()).await?;
        let last = marks::last_before(&self.settings, &old.topic, ends).await?;
        Ok(numbered(old, last))
    }

    async fn found(
        &self,
        producer: &FutureProducer<Quiet>,
        name: &str,
    ) -> Result<Option<(u32, u32)>, String> {
        let producer = producer.clone();
        let asked = tokio::task::spawn_blocking(move || topic::all(producer.client())).await;
        let asked = asked.map_err(|_| "asking Kafka panicked".to_owned())?;
        let all = asked.map_err(|error| explain::explain(&error, &self.settings))?;
        Ok(all.get(name).copied())
    }
}

/// The numbers of records at offsets, one for each partition.
fn numbered(of: &Generation, offsets: Vec<Option<i64>>) -> Vec<i64> {
    let each = offsets.into_iter().zip(&of.partitions);
    let number = |(offset, partition): (Option<i64>, &u32)| {
        offset.map_or(0, |at| {
            numbers::outside(numbers::record(at, *partition), of.base)
        })
    };
    each.map(number).collect()
}

/// What somebody set on a topic itself.
fn own(config: &[ConfigEntry]) -> impl Iterator<Item = (String, String)> + '_ {
    let set = config
        .iter()
        .filter(|entry| entry.source == ConfigSource::DynamicTopic);
    set.filter_map(|entry| Some((entry.name.clone(), entry.value.clone()?)))
}

fn value(config: &[ConfigEntry], key: &str) -> Option<i64> {
    let found = config.iter().find(|entry| entry.name == key)?;
    found.value.as_ref()?.parse().ok()
}

fn text(error: crate::store::StoreError) -> String {
    error.to_string()
}
