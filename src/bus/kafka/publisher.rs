//! Telling others: a producer of its own, so that what waits here holds up no intake, and topics that are made
//! and checked as the one that is read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rdkafka::admin::AdminClient;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::Instant;

use crate::bus::BusError;
use crate::bus::notices::{Notice, Notices, Topic};

use super::context::Quiet;
use super::settings::{RECORD_BYTES_MAX, Settings, WrongSetting};
use super::{explain, topic};

/// How often a topic that is well is looked at.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// A client waits as long as it has to; one that waits for so long may have lost all its brokers, and is made anew. What
/// it had is told again, in order, before anything that comes later.
const ACKNOWLEDGED_MAX: Duration = Duration::from_secs(60);

type Client = FutureProducer<Quiet>;

pub struct Publisher {
    settings: Settings,
    /// Held until everything that was sent is acknowledged or refused, whether its caller waits or not.
    sending: Arc<Mutex<Sending>>,
}

#[derive(Default)]
struct Sending {
    client: Option<Client>,
    /// Partitions of topics that are well, and when they were looked at.
    known: BTreeMap<Topic, (u32, Instant)>,
}

impl Publisher {
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            sending: Arc::default(),
        }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        // Dropping a client waits for its brokers: on a thread of its own.
        let sending = std::mem::take(&mut self.sending);
        std::thread::spawn(move || drop(sending));
    }
}

#[async_trait]
impl Notices for Publisher {
    async fn prepare(&self, topics: &[Topic]) -> Result<(), BusError> {
        let mut sending = self.sending.lock().await;
        look(&self.settings, &mut sending, topics)
            .await
            .map_err(BusError::Unavailable)
    }

    async fn publish(&self, notices: Vec<Notice>) -> Result<(), BusError> {
        let mut sending = self.sending.clone().lock_owned().await;
        let settings = self.settings.clone();
        // Goes on without its caller: those after it must not be sent beside it.
        let sent = tokio::spawn(async move {
            let topics: Vec<Topic> = notices.iter().map(|notice| notice.topic.clone()).collect();
            look(&settings, &mut sending, &topics).await?;
            deliver(&settings, sending, &notices).await
        });
        let sent = sent.await;
        let sent = sent.unwrap_or_else(|_| Err("sending to Kafka panicked".to_owned()));
        sent.map_err(BusError::Unavailable)
    }

    fn bytes_max(&self) -> usize {
        RECORD_BYTES_MAX - 64 * 1024
    }
}

/// Makes or checks those of the topics that were not looked at lately.
async fn look(settings: &Settings, sending: &mut Sending, topics: &[Topic]) -> Result<(), String> {
    let known = &sending.known;
    let fresh = |topic: &&Topic| {
        known
            .get(topic)
            .is_none_or(|(_, at)| at.elapsed() > LOOK_AGAIN_AFTER)
    };
    let mut due: Vec<Topic> = topics.iter().filter(fresh).cloned().collect();
    due.sort();
    due.dedup();
    if due.is_empty() {
        return Ok(());
    }
    let client = client(settings, sending)?;
    let mut there = all(settings, &client).await?;
    if settings.check_topic {
        let admin = AdminClient::from_config_and_context(&settings.admin(), Quiet::new(settings))
            .map_err(|error| explain::explain(&error, settings))?;
        let ensured = ensure(settings, &admin, &client, &due, &mut there).await;
        tokio::task::spawn_blocking(move || drop(admin)).await.ok();
        ensured?;
    }
    for topic in due {
        let partitions = there.get(&topic.name(&settings.prefix));
        let partitions = partitions.map_or(settings.partitions, |(count, _)| *count);
        sending.known.insert(topic, (partitions, Instant::now()));
    }
    Ok(())
}

async fn ensure(
    settings: &Settings,
    admin: &AdminClient<Quiet>,
    client: &Client,
    due: &[Topic],
    there: &mut BTreeMap<String, (u32, u32)>,
) -> Result<(), String> {
    let names: Vec<String> = due
        .iter()
        .map(|topic| topic.name(&settings.prefix))
        .collect();
    let mut made = false;
    for name in names.iter().filter(|name| !there.contains_key(*name)) {
        topic::ensure(admin, settings, name, None, None).await?;
        made = true;
    }
    if made {
        *there = all(settings, client).await?;
    }
    for name in &names {
        let found = there.get(name).copied();
        found.ok_or_else(|| format!("the topic {name} is being made"))?;
        topic::ensure(admin, settings, name, None, found).await?;
    }
    Ok(())
}

async fn all(settings: &Settings, client: &Client) -> Result<BTreeMap<String, (u32, u32)>, String> {
    let client = client.clone();
    let asked = tokio::task::spawn_blocking(move || topic::all(client.client())).await;
    let asked = asked.map_err(|_| "asking Kafka panicked".to_owned())?;
    asked.map_err(|error| explain::explain(&error, settings))
}

/// The client, made anew where it could not go on.
fn client(settings: &Settings, sending: &mut Sending) -> Result<Client, String> {
    if let Some(client) = &sending.client {
        return Ok(client.clone());
    }
    let made = Client::from_config_and_context(&settings.relay(), Quiet::new(settings))
        .map_err(|error| WrongSetting::from(error).to_string())?;
    Ok(sending.client.insert(made).clone())
}

async fn deliver(
    settings: &Settings,
    mut sending: OwnedMutexGuard<Sending>,
    notices: &[Notice],
) -> Result<(), String> {
    let client = client(settings, &mut sending)?;
    let mut deliveries = Vec::with_capacity(notices.len());
    let mut refused = None;
    'all: for notice in notices {
        let name = notice.topic.name(&settings.prefix);
        let partitions = match notice.key {
            Some(_) => vec![None],
            None => {
                let known = sending.known.get(&notice.topic);
                let count = known.map_or(settings.partitions, |(count, _)| *count);
                (0..count).map(|at| i32::try_from(at).ok()).collect()
            }
        };
        for partition in partitions {
            let mut record = FutureRecord::<str, [u8]>::to(&name)
                .payload(&notice.data)
                .headers(headers(notice));
            record.key = notice.key.as_deref();
            record.partition = partition;
            match client.send_result(record) {
                Ok(delivery) => deliveries.push((name.clone(), delivery)),
                // Those behind it must not overtake it.
                Err((error, _)) => {
                    refused = Some(explain::explain_of(&error, settings, &name));
                    break 'all;
                }
            }
        }
    }
    let all = async {
        for (name, delivery) in deliveries {
            match delivery.await {
                Ok(Ok(_)) => {}
                Ok(Err((error, _))) => {
                    refused.get_or_insert_with(|| explain::explain_of(&error, settings, &name));
                }
                Err(_) => {
                    refused.get_or_insert_with(|| "the Kafka client was closed".to_owned());
                }
            }
        }
    };
    if tokio::time::timeout(ACKNOWLEDGED_MAX, all).await.is_err() {
        refused = Some(format!(
            "no broker acknowledged within {ACKNOWLEDGED_MAX:?}"
        ));
    }
    let Some(refused) = refused else {
        return Ok(());
    };
    // It may be one that cannot go on, or a topic that is not what it was.
    sending.known.clear();
    let left = sending.client.take();
    drop(client);
    tokio::task::spawn_blocking(move || drop(left)).await.ok();
    Err(refused)
}

fn headers(notice: &Notice) -> OwnedHeaders {
    let headers = OwnedHeaders::new_with_capacity(notice.headers.len());
    notice
        .headers
        .iter()
        .fold(headers, |headers, (key, value)| {
            let value = Some(value);
            headers.insert(Header { key, value })
        })
}
