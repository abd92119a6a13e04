//! The durability line. [`Intake::accept`] returns when the bus has the batch on disk; only then
//! does a webhook get its 2xx or a mailbox cursor move.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use aws_lc_rs::hmac;
use connector_api::{
    AttachmentBody, BrandId, ChannelId, Clock, Defect, Event, Evidence, InboundBatch, InboundEvent,
    Method,
};
use tokio::sync::{Notify, watch};

use crate::blobs::{Blobs, hex, sha256};
use crate::bus::{
    Bus, BusError, ENVELOPE_MAJOR, Envelope, NewBlob, NewRecord, RecordKey, record_key,
};
use crate::channels::Channel;
use crate::clock::micros;
use crate::config::Vouch;
use crate::normalise::{Normalised, normalise};
use crate::router::keys::{self, DigestKey};
use crate::store::{EventName, Store};

/// Takes events of any channel onto the bus.
pub struct Intake {
    bus: Arc<dyn Bus>,
    store: Arc<dyn Store>,
    blobs: Blobs,
    clock: Arc<dyn Clock>,
    keys: IntakeKeys,
    /// When each channel last heard from its provider, in UTC microseconds.
    heard: Mutex<HashMap<ChannelId, i64>>,
    hearing: Notify,
    /// Why the last batch was refused.
    refused: watch::Sender<String>,
}

/// Keys of the installation that what is taken in is hashed with.
#[derive(Clone)]
pub struct IntakeKeys {
    pub record: hmac::Key,
    pub digest: DigestKey,
}

impl Intake {
    pub fn new(
        bus: Arc<dyn Bus>,
        store: Arc<dyn Store>,
        blobs: Blobs,
        clock: Arc<dyn Clock>,
        keys: IntakeKeys,
    ) -> Self {
        Self {
            bus,
            store,
            blobs,
            clock,
            keys,
            heard: Mutex::default(),
            hearing: Notify::new(),
            refused: watch::Sender::default(),
        }
    }

    /// Returns once every event is durable, in this order.
    pub async fn accept(
        &self,
        channel: &Channel,
        events: Vec<InboundEvent>,
    ) -> Result<(), BusError> {
        // A placeholder for what the server did not hand out is no sign of life.
        let unread = |event: &InboundEvent| {
            event
                .defects
                .iter()
                .any(|defect| defect.code == "unreadable_on_server")
        };
        if !events.iter().all(unread) || events.is_empty() {
            self.hear(&channel.id);
        }
        self.take(channel, events, false).await.map(drop)
    }

    /// The same for events read from files, which say nothing about the provider's health; gives the
    /// offsets of their records.
    pub async fn import(
        &self,
        channel: &Channel,
        events: Vec<InboundEvent>,
    ) -> Result<Vec<i64>, BusError> {
        self.take(channel, events, true).await
    }

    /// What an event of a channel is known by once it is filed.
    pub fn name_of(&self, channel: &Channel, event: &InboundEvent) -> EventName {
        let key = keys::event(&channel.brand, &channel.id, event.dedupe_key.as_str());
        let ours = match &event.event {
            Event::Message(message) | Event::Echo(message) => message.thread.message_id.as_deref(),
            _ => None,
        };
        EventName {
            key,
            digest: keys::digest(&self.keys.digest, event),
            sent: ours.map(|id| keys::sent(&channel.brand, &channel.id, id)),
        }
    }

    async fn take(
        &self,
        channel: &Channel,
        events: Vec<InboundEvent>,
        imported: bool,
    ) -> Result<Vec<i64>, BusError> {
        let (source, keys) = (Source::of(channel), self.keys.clone());
        let weight = events.iter().map(weight).sum();
        let prepare = move || {
            let events = events.into_iter();
            let prepared = events.map(|event| prepare(&source, &keys, event));
            prepared.collect::<Vec<_>>()
        };
        let prepared = apart(weight, prepare)
            .await
            .map_err(|_| BusError::Unavailable("reading an event panicked".to_owned()))?;
        let count = prepared.len() as u64;
        let label = channel.id.as_str().to_owned();
        match self.keep(channel, prepared, imported).await {
            Ok(offsets) => {
                metrics::counter!("switchboard_accepted_total", "channel" => label)
                    .increment(count);
                Ok(offsets)
            }
            Err(error) => {
                metrics::counter!("switchboard_refused_total", "channel" => label).increment(count);
                self.refused.send_replace(match &error {
                    BusError::Overloaded { reason } => reason.clone(),
                    BusError::Unavailable(_) => error.to_string(),
                });
                Err(error)
            }
        }
    }

    async fn keep(
        &self,
        channel: &Channel,
        prepared: Vec<PreparedEvent>,
        imported: bool,
    ) -> Result<Vec<i64>, BusError> {
        let mut records = Vec::with_capacity(prepared.len());
        for prepared in prepared {
            records.push(self.record(channel, prepared, imported).await?);
        }
        self.bus.append(records).await
    }

    /// Why batches are refused, each time one is: no message is to blame for it.
    pub fn refusals(&self) -> watch::Receiver<String> {
        self.refused.subscribe()
    }

    /// Notes that a channel's provider is alive.
    pub fn hear(&self, channel: &ChannelId) {
        let now = micros(self.clock.now());
        self.heard
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(channel.clone(), now);
        self.hearing.notify_waiters();
    }

    /// Returns once a channel hears from its provider after `before`, in UTC microseconds.
    pub async fn heard_after(&self, channel: &ChannelId, before: i64) {
        loop {
            let hearing = self.hearing.notified();
            let mut hearing = std::pin::pin!(hearing);
            hearing.as_mut().enable();
            if self
                .last_heard()
                .get(channel)
                .is_some_and(|at| *at > before)
            {
                return;
            }
            hearing.await;
        }
    }

    /// When each channel last heard from its provider, in UTC microseconds.
    pub fn last_heard(&self) -> HashMap<ChannelId, i64> {
        self.heard
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Puts what is large into the blob store, and gives everything that is written.
    async fn record(
        &self,
        channel: &Channel,
        prepared: PreparedEvent,
        imported: bool,
    ) -> Result<NewRecord, BusError> {
        let PreparedEvent {
            mut event,
            digest,
            key,
            normalised,
        } = prepared;
        let not_kept = |error: std::io::Error| {
            BusError::Unavailable(format!("keeping an attachment: {error}"))
        };
        let blobs = self.take_attachments(&mut event).await.map_err(not_kept)?;
        let raw = match event.raw.take() {
            Some(raw) if normalised.card_numbers > 0 => {
                event
                    .defects
                    .push(Defect::new("raw_not_kept", hex(&sha256(&raw))));
                None
            }
            Some(raw) => Some(self.blobs.keep(raw).await.map_err(not_kept)?),
            None => None,
        };
        let envelope = Envelope {
            major: ENVELOPE_MAJOR,
            brand: channel.brand.clone(),
            channel: channel.id.clone(),
            arrived_at: micros(self.clock.now()),
            digest,
            imported,
            event,
            full_text: normalised.full_text,
        };
        let envelope = Arc::new(envelope);
        let shared = envelope.clone();
        let write = move || serde_json::to_vec(shared.as_ref());
        let unwritten = |error: &dyn std::fmt::Display| {
            BusError::Unavailable(format!("writing an envelope: {error}"))
        };
        let body = apart(weight(&envelope.event), write)
            .await
            .map_err(|error| unwritten(&error))?
            .map_err(|error| unwritten(&error))?;
        Ok(NewRecord {
            envelope,
            key,
            body,
            raw,
            blobs,
        })
    }

    /// Moves attachments' bytes out of the event; it refers to them by digest.
    async fn take_attachments(&self, event: &mut InboundEvent) -> std::io::Result<Vec<NewBlob>> {
        let (Event::Message(message) | Event::Echo(message)) = &mut event.event else {
            return Ok(Vec::new());
        };
        let mut blobs = Vec::new();
        for attachment in &mut message.attachments {
            let AttachmentBody::Bytes(bytes) = &attachment.body else {
                continue;
            };
            let blob = self.blobs.keep(bytes.clone()).await?;
            attachment.size_bytes = Some(blob.bytes_len);
            attachment.body = AttachmentBody::Stored {
                sha256: hex(&blob.sha256),
            };
            blobs.push(blob);
        }
        Ok(blobs)
    }
}

/// Above this many bytes work is done on a thread for such work: a core that reads ten MiB of a
/// stranger's HTML for half a second would answer nobody else meanwhile.
const INLINE_WORK_BYTES_MAX: usize = 256 * 1024;

/// Does `work` over that many bytes, where it stands in nobody's way. An error is a panic of it.
pub async fn apart<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, tokio::task::JoinError> {
    match bytes > INLINE_WORK_BYTES_MAX {
        true => tokio::task::spawn_blocking(work).await,
        false => Ok(work()),
    }
}

/// Bytes that clean-up reads.
fn weight(event: &InboundEvent) -> usize {
    let of_html = |html: &Option<String>| html.as_ref().map_or(0, String::len);
    match &event.event {
        Event::Message(message) | Event::Echo(message) => {
            message.text.len() + of_html(&message.html)
        }
        Event::Edit { text, html, .. } => text.len() + of_html(html),
        Event::System { text, .. } => text.len(),
        _ => 0,
    }
}

/// What preparing an event needs to know of its channel.
struct Source {
    channel: ChannelId,
    brand: BrandId,
    vouches: Vec<Vouch>,
}

impl Source {
    fn of(channel: &Channel) -> Self {
        Self {
            channel: channel.id.clone(),
            brand: channel.brand.clone(),
            vouches: channel.vouches.clone(),
        }
    }
}

/// An event with what is computed from it alone.
struct PreparedEvent {
    event: InboundEvent,
    digest: u64,
    key: RecordKey,
    normalised: Normalised,
}

fn prepare(source: &Source, keys: &IntakeKeys, mut event: InboundEvent) -> PreparedEvent {
    vouch(&source.vouches, &mut event);
    trust_reply_to(&mut event);
    // Before any clean-up of ours, which may change from version to version.
    let digest = keys::digest(&keys.digest, &event);
    let key = record_key(&keys.record, &source.brand, &source.channel, &event);
    let normalised = normalise(&mut event);
    PreparedEvent {
        event,
        digest,
        key,
        normalised,
    }
}

/// A channel whose sender proves the customer's mail address or phone number makes them verified,
/// where the event itself is authenticated.
fn vouch(vouches: &[Vouch], event: &mut InboundEvent) {
    let (Event::Message(message) | Event::Echo(message)) = &mut event.event else {
        return;
    };
    let identities = &mut message.from.identities;
    if !identities
        .first()
        .is_some_and(|first| first.evidence.is_verified())
    {
        return;
    }
    for identity in identities {
        let vouched = vouches.iter().any(|vouch| match vouch {
            Vouch::Email => identity.namespace.as_str() == "email",
            Vouch::Phone => identity.namespace.as_str() == "phone",
        });
        if vouched && identity.evidence == Evidence::Claimed {
            identity.evidence = Evidence::Verified(Method::Vouched);
        }
    }
}

/// Another address to answer to counts only from an author who is proven: anybody else would have
/// us write to strangers.
fn trust_reply_to(event: &mut InboundEvent) {
    let author = match &event.event {
        Event::Message(message) => message.from.identities.first(),
        _ => None,
    };
    let proven = author.is_some_and(|author| author.evidence.is_verified());
    let other = |address: &String| {
        proven
            && author.is_some_and(|author| author.address != *address)
            && !address.contains(char::is_control)
    };
    event.reply_to = event.reply_to.take().filter(other);
}

/// The intake of one channel, as its stream sees it.
pub struct ChannelIntake {
    pub intake: Arc<Intake>,
    pub channel: Arc<Channel>,
}

#[async_trait]
impl connector_api::Intake for ChannelIntake {
    async fn accept(&self, batch: InboundBatch) -> connector_api::Result<()> {
        let not_taken = |error: BusError| connector_api::Error::unavailable(error.to_string());
        self.intake
            .accept(&self.channel, batch.events)
            .await
            .map_err(not_taken)?;
        if let Some(cursor) = batch.cursor {
            let saved = self
                .intake
                .store
                .save_cursor(&self.channel.id, cursor)
                .await;
            saved.map_err(|error| {
                connector_api::Error::unavailable(format!("saving the cursor: {error}"))
            })?;
        }
        Ok(())
    }

    fn heard(&self) {
        self.intake.hear(&self.channel.id);
    }
}
