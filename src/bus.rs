//! The bus: what was accepted, in order, until the router has decided it. One trait; `local` is
//! a log in the store's own database, so that one commit carries intake and decisions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_lc_rs::hmac;
use connector_api::{BrandId, ChannelId, Event, InboundEvent};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

#[cfg(feature = "kafka")]
pub mod kafka;
pub mod local;
pub mod notices;

/// The major version of [`Envelope`] this build writes. Additions keep it; a reader that meets a
/// higher one pauses instead of guessing.
pub const ENVELOPE_MAJOR: u32 = 1;

/// What every event on the bus is, as CloudEvents say it; the major version is in the name.
pub const INBOUND_TYPE: &str = "switchboard.inbound.v1";
/// The type of a record of `switchboard bus grow`, which says nothing to routers.
pub const MARK_TYPE: &str = "switchboard.mark.v1";

/// An event as it stands on the bus: normalised, with where and when it arrived.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Envelope {
    /// The major version of this form; 1.
    pub major: u32,
    pub brand: BrandId,
    pub channel: ChannelId,
    /// UTC microseconds.
    pub arrived_at: i64,
    /// Of the event as the connector gave it, over fields that do not change between deliveries.
    pub digest: u64,
    /// Read from a file: the file can show it again for ever.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub imported: bool,
    #[serde(flatten)]
    pub event: InboundEvent,
    /// The whole text, where the event's `text` is the writer's new words only (a reply with quotes).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full_text: Option<String>,
}

/// What intake hands to the bus: the envelope, written once, and the bytes that go beside it.
#[derive(Debug, Clone)]
pub struct NewRecord {
    pub envelope: Arc<Envelope>,
    pub key: RecordKey,
    /// The envelope as JSON: the one stored copy of the message's text.
    pub body: Vec<u8>,
    /// The captured bytes of a mail; `None` where the envelope says everything, or where a card
    /// number was found (then only the redacted form is kept).
    pub raw: Option<NewBlob>,
    /// Attachments taken out of the envelope.
    pub blobs: Vec<NewBlob>,
}

/// An attachment's bytes, already written where it is large.
#[derive(Debug, Clone)]
pub struct NewBlob {
    pub sha256: [u8; 32],
    pub bytes_len: u64,
    /// `None`: already a synced file of the blob store.
    pub inline: Option<bytes::Bytes>,
    /// Keeps the file from being swept until the row that names it is committed.
    pub hold: Option<Arc<crate::blobs::Hold>>,
}

/// Keyed hash of the customer's identity, or of the native thread where the event names nobody: a
/// pure function of the event, so equal events have one owner and one order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RecordKey(pub u64);

/// Low bits of a record's number that say of which partition it is, on a bus that has several.
pub const PARTITION_BITS: u32 = 12;

/// Computes the record key of an event under the installation's key.
pub fn record_key(
    key: &hmac::Key,
    brand: &BrandId,
    channel: &ChannelId,
    event: &InboundEvent,
) -> RecordKey {
    let mut context = hmac::Context::with_key(key);
    let mut add = |part: &str| {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    };
    add(brand.as_str());
    match &event.event {
        Event::Message(message) if !message.from.identities.is_empty() => {
            add(message.from.identities[0].namespace.as_str());
            add(&message.from.identities[0].address);
        }
        // `from` of an echo names the customer.
        Event::Echo(message)
            if message.thread.native.is_none() && !message.from.identities.is_empty() =>
        {
            add(message.from.identities[0].namespace.as_str());
            add(&message.from.identities[0].address);
        }
        Event::Message(message) | Event::Echo(message) => {
            add(channel.as_str());
            add(message.thread.native.as_deref().unwrap_or_default());
        }
        Event::Edit { target, .. }
        | Event::Delete { target }
        | Event::Reaction { target, .. }
        | Event::Receipt { target, .. } => {
            add(channel.as_str());
            add(target);
        }
        Event::System { thread, .. } => {
            add(channel.as_str());
            add(thread.native.as_deref().unwrap_or_default());
        }
        _ => add(channel.as_str()),
    }
    let tag = context.sign();
    RecordKey(
        tag.as_ref()
            .iter()
            .take(8)
            .fold(0, |value, byte| value << 8 | u64::from(*byte)),
    )
}

/// One record read back: whole, or the bytes that could not be read.
#[derive(Debug, Clone)]
pub struct Record {
    /// Its number: rises within the partition, unique in the installation, and also the id of the
    /// message it becomes. A bus of several partitions makes it of partition and offset.
    pub offset: i64,
    pub content: Content,
    /// What it brings that the store does not have yet: all of it, where the bus is not in the store's
    /// database. Written with what the record becomes.
    pub carried: Option<Arc<Carried>>,
}

/// The bytes of a record and of what belongs to it.
#[derive(Debug, Clone)]
pub struct Carried {
    /// As they are on the bus.
    pub body: bytes::Bytes,
    pub raw: Option<NewBlob>,
    pub blobs: Vec<NewBlob>,
    /// UTC microseconds; for bytes that are no envelope, when the bus took them.
    pub arrived_at: i64,
    /// What else stood beside them, as it was: a dead letter keeps it.
    pub headers: Vec<(String, Vec<u8>)>,
}

#[derive(Debug, Clone)]
pub enum Content {
    Envelope(Arc<Envelope>),
    /// Not one of ours, or damaged: goes to the dead letters with its bytes.
    Unreadable {
        reason: String,
    },
    /// Written by a newer major version: the partition pauses until the software is upgraded.
    Newer {
        major: u32,
    },
}

/// Reads a stored body.
pub fn decode(body: &[u8]) -> Content {
    #[derive(Deserialize)]
    struct Major {
        major: u32,
    }
    match serde_json::from_slice::<Envelope>(body) {
        Ok(envelope) if envelope.major == ENVELOPE_MAJOR => Content::Envelope(Arc::new(envelope)),
        Ok(Envelope { major, .. }) if major > ENVELOPE_MAJOR => Content::Newer { major },
        Ok(Envelope { major, .. }) => Content::Unreadable {
            reason: format!("envelope of unknown major version {major}"),
        },
        Err(error) => match serde_json::from_slice::<Major>(body) {
            Ok(Major { major }) if major > ENVELOPE_MAJOR => Content::Newer { major },
            _ => Content::Unreadable {
                // serde's own words may quote the text.
                reason: format!(
                    "not an envelope: {:?} error at line {} column {}",
                    error.classify(),
                    error.line(),
                    error.column()
                ),
            },
        },
    }
}

/// Why the bus did not take or give records.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// Refused before acceptance; try again after the delay.
    #[error("intake is refused: {reason}")]
    Overloaded { reason: String },
    #[error("the bus is not available: {0}")]
    Unavailable(String),
}

/// How far each partition was filled at a moment. Kept as JSON where something has to know it later.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Mark(pub BTreeMap<u32, i64>);

impl Mark {
    /// Whether a record of the partition came after it.
    pub fn is_before(&self, partition: u32, record: i64) -> bool {
        self.0.get(&partition).is_none_or(|newest| record > *newest)
    }
}

/// Whether the bus takes and gives records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BusState {
    Starting,
    Ready,
    /// Why not, and what to do.
    Down(String),
}

/// Durable, ordered by record key, read from a position the store keeps. Which of its partitions
/// are this process's to decide is the bus's to say; that no other process decides them, too, is
/// the store's ([`crate::store::Ownership`]).
#[async_trait]
pub trait Bus: Send + Sync {
    /// Returns once every record is on disk (or acked by all in-sync replicas), in this order; gives
    /// their offsets.
    async fn append(&self, records: Vec<NewRecord>) -> Result<Vec<i64>, BusError>;

    /// Appends bytes as they are, whatever they are: how a foreign or damaged record comes about.
    async fn append_bytes(&self, body: Vec<u8>, arrived_at: i64) -> Result<(), BusError>;

    /// The partitions that are this process's to decide, as long as they are.
    fn assigned(&self) -> watch::Receiver<Vec<u32>>;

    /// The records of `partition` after `position`, at most `records_max`; waits until there is
    /// at least one.
    async fn read(
        &self,
        partition: u32,
        position: i64,
        records_max: usize,
    ) -> Result<Vec<Record>, BusError>;

    /// Tells the bus that records of a partition were decided, through `position`.
    fn decided(&self, partition: u32, position: i64, records: usize);

    /// Records accepted and not yet decided, of the partitions that are this process's and wait for nobody else's.
    fn lag(&self) -> i64;

    /// The newest record of every partition.
    async fn mark(&self) -> Result<Mark, BusError>;

    /// The partition that a record of this number is in.
    fn partition_of(&self, record: i64) -> u32;

    /// Returns once everything that was accepted before the call was decided, whatever comes
    /// meanwhile.
    async fn decided_so_far(&self) -> Result<(), BusError>;

    /// Returns once everything accepted was decided.
    async fn caught_up(&self) -> Result<(), BusError>;

    /// How long what was accepted may name files that no row of the store names yet.
    fn names_files_for(&self) -> Duration;

    /// Gives up its partitions, so that others take them over at once.
    async fn leave(&self);

    /// Whether it would take records, asked by nobody who has one: a disk may be full in a quiet night.
    async fn probe(&self, _now: i64) -> Result<(), BusError> {
        match &*self.state().borrow() {
            BusState::Down(reason) => Err(BusError::Unavailable(reason.clone())),
            BusState::Starting | BusState::Ready => Ok(()),
        }
    }

    /// Whether it takes and gives records, as far as is known without asking it for any.
    fn state(&self) -> watch::Receiver<BusState>;

    /// The newest generation of partitions that this process knows; `None` where their number never changes.
    fn generation(&self) -> Option<u32> {
        None
    }

    /// What of a change to more partitions is not done yet; `None` where their number never changes.
    fn change(&self) -> Option<watch::Receiver<Option<String>>> {
        None
    }

    /// Where others can be told what happens, with a client of its own; `None` where nobody else reads.
    fn notices(&self) -> Option<Arc<dyn notices::Notices>> {
        None
    }
}
