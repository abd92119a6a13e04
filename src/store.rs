//! What is kept: one trait, one conformance suite. Nothing above knows which store it has.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_lc_rs::digest;
use bytes::Bytes;
use connector_api::{BrandId, ChannelId, Cursor, Namespace, QueueId};
use serde::{Deserialize, Serialize};

use crate::bus::{Carried, Envelope};
use crate::conversation::{Delivery, Status};
use crate::dispatch::verbs::Attributes;
use crate::dispatch::{Actor, Refusal, Role};
use crate::ids::{ContactId, ConversationId, MessageId};
use crate::router::effects::Author;
use crate::router::facts::{Conversation, Participant};
use crate::router::{Policy, Prepared, Verdict};

pub mod alerts;
pub mod attachments;
pub mod credentials;
mod desk;
pub mod events;
pub mod imports;
pub mod leases;
pub mod macros;
pub mod moving;
mod outbox;
pub mod partitions;
#[cfg(feature = "postgres")]
pub mod postgres;
pub mod privacy;
pub mod processes;
pub mod reconcile;
pub mod relays;
pub mod retention;
pub mod rows;
pub mod search;
pub mod sql;
pub mod sqlite;
pub mod surgery;
pub mod uploads;

pub use crate::dispatch::address::Destination;
use alerts::Watched;
pub use attachments::{AttachmentState, StoredAttachment};
use attachments::{DueFetch, FetchOutcome, Fetches};
pub use desk::{
    Asked, Attached, ContactEdit, Desk, Doing, Draft, DraftFile, Idempotency, NewConversation,
    NewReply, ReadAddress, Senders, Sending, Woken, Written,
};
pub use imports::{EventName, Imports};
use macros::Macros;
pub use outbox::{
    Leased, OutboxFilter, OutboxState, Rings, SettleAs, Settled, SettledWhy, Settlement, Settling,
    StoredRecipient, Taken, UnsentReply,
};
use retention::Forgets;

/// Why the store did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Try again later; nothing was done.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// The database will not have us: an administrator has to see to it. Nothing was done.
    #[error("the database refuses us: {0}")]
    Forbidden(String),
    /// The same for its password: one that is changed heals it. Nothing was done.
    #[error("{0}")]
    Unauthorized(String),
    #[error("the store is shutting down")]
    Closed,
    /// Another router owns the partition, or it moved on: stop.
    #[error("the router's position is stale: {0}")]
    StaleEpoch(String),
    /// This work fails whenever it is tried.
    #[error("the work cannot be done: {0}")]
    Poisoned(String),
    #[error("{0}")]
    Refused(Refusal),
}

impl From<Refusal> for StoreError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// A name for an installation that gives nothing away of its key.
pub fn name_of(installation_key: &[u8]) -> String {
    let hash = digest::digest(&digest::SHA256, installation_key);
    let first = hash.as_ref().iter().take(8);
    first.map(|byte| format!("{byte:02x}")).collect()
}

pub type Result<T> = std::result::Result<T, StoreError>;

/// What other processes have, and this one has not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Declared {
    pub channels: BTreeSet<ChannelId>,
    pub queues: BTreeSet<QueueId>,
}

impl Declared {
    /// Whether the channel of that name is one of them.
    pub fn has(&self, channel: &str) -> bool {
        self.channels.iter().any(|id| id.as_str() == channel)
    }
}

/// A router's hold on a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ownership {
    pub partition: u32,
    pub epoch: i64,
    /// The last record decided.
    pub position: i64,
}

/// One batch to decide and commit with the position.
#[derive(Clone)]
pub struct RouteCommit {
    pub ownership: Ownership,
    pub batch: Arc<Vec<Prepared>>,
    pub policy: Arc<Policy>,
    /// UTC microseconds.
    pub now: i64,
}

/// What became of a batch.
#[derive(Debug, Clone)]
pub struct Routed {
    pub position: i64,
    pub verdicts: Vec<Verdict>,
    /// Queues that have more waiting than before.
    pub queues: Vec<QueueId>,
    /// Whether something waits to be sent.
    pub sends: bool,
    /// Whether files are to be fetched from their providers.
    pub fetches: bool,
}

/// A message with what it says.
#[derive(Debug, Clone)]
pub struct StoredMessage {
    pub id: MessageId,
    pub conversation: ConversationId,
    pub seq: i64,
    pub prev: Option<MessageId>,
    pub author: Author,
    pub channel: ChannelId,
    pub from: Option<StoredIdentity>,
    pub agent: Option<String>,
    pub arrived_at: i64,
    pub sent_at: Option<i64>,
    pub delivery: Option<Delivery>,
    pub reason: Option<String>,
    pub deleted: bool,
    pub edited: bool,
    pub duplicate_of: Option<MessageId>,
    pub automatic: bool,
    pub conflicting: bool,
    pub labels: serde_json::Value,
    pub explanation: serde_json::Value,
    pub content: StoredContent,
    /// Of the files that were still at their provider.
    pub fetches: Fetches,
    pub reactions: Vec<String>,
    /// Of what we sent to several: how far it got with each.
    pub recipients: Vec<StoredRecipient>,
}

#[derive(Debug, Clone)]
pub enum StoredContent {
    Inbound {
        first: Arc<Envelope>,
        edit: Option<Arc<Envelope>>,
    },
    Written(Box<Draft>),
    /// The body is gone, or cannot be read: the reason.
    Unreadable(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredIdentity {
    pub namespace: Namespace,
    pub address: String,
    /// `claimed`, or the method it is verified by.
    pub method: String,
    pub name: Option<String>,
}

/// A contact with its identities.
#[derive(Debug, Clone)]
pub struct StoredContact {
    pub id: ContactId,
    pub brand: BrandId,
    pub verified: bool,
    pub name: Option<String>,
    pub version: i64,
    pub created_at: i64,
    /// Facts of the shop's own, by name.
    pub attributes: Attributes,
    pub identities: Vec<StoredIdentity>,
    pub suggestions: Vec<(Namespace, String)>,
    /// Why nothing of it may be removed.
    pub hold: Option<privacy::Hold>,
    /// The contact that it was merged into.
    pub merged_into: Option<ContactId>,
    /// Contacts that were merged into it, the last ones.
    pub merged: Vec<ContactId>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueDepth {
    pub id: QueueId,
    pub waiting: i64,
    /// When the one that waits longest began to wait.
    pub oldest_enqueued_at: Option<i64>,
}

/// Filters of a conversation list; all given ones hold.
#[derive(Debug, Clone, Default)]
pub struct ConversationFilter {
    pub status: Option<Status>,
    pub queue: Option<QueueId>,
    pub assignee: Option<String>,
    pub contact: Option<ContactId>,
    /// Also those that were merged into others, which are names for these.
    pub merged: bool,
    pub sort: ConversationSort,
    pub limit: u32,
}

/// In which order conversations are listed, and behind which one a page begins.
#[derive(Debug, Clone, Copy)]
pub enum ConversationSort {
    /// Opened last first: by when, then id.
    Opened {
        before: Option<(i64, ConversationId)>,
    },
    /// As their queue hands them out, which has to be named: by rank, then id.
    Waiting {
        after: Option<(i64, ConversationId)>,
    },
}

impl Default for ConversationSort {
    fn default() -> Self {
        Self::Opened { before: None }
    }
}

/// A dead letter as listed.
#[derive(Debug, Clone)]
pub struct StoredDeadLetter {
    pub record: i64,
    /// `parked`, or `filed` once redriven.
    pub state: &'static str,
    pub reason: String,
    pub attempts: i64,
    pub at: i64,
    pub body: Option<Vec<u8>>,
}

/// An API token as listed; the secret is never stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    pub id: i64,
    pub label: String,
    pub role: String,
    pub agent: Option<String>,
    /// Empty: all.
    pub queues: Vec<String>,
    pub brands: Vec<String>,
    /// What it may do beyond its role: `act_as`.
    #[serde(default)]
    pub scopes: Vec<String>,
    pub created_at: i64,
    pub revoked_at: Option<i64>,
}

impl Token {
    /// What its holder may do. One that this build cannot read gives nothing: an empty list would
    /// be no limit.
    pub fn actor(&self) -> Option<Actor> {
        let queues = self.queues.iter().map(|queue| queue.parse().ok());
        let brands = self.brands.iter().map(|brand| brand.parse().ok());
        Some(Actor {
            role: Role::parse(&self.role)?,
            agent: self.agent.clone(),
            queues: queues.collect::<Option<_>>()?,
            brands: brands.collect::<Option<_>>()?,
            acting: None,
            // A scope of a newer version allows nothing here.
            acts: self.scopes.iter().any(|scope| scope == SCOPE_ACT_AS),
        })
    }
}

/// The scope of a backend that acts for agents, by naming them.
pub const SCOPE_ACT_AS: &str = "act_as";

/// How many rows of each kind there are; for metrics and reconciliation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    pub queues: Vec<QueueDepth>,
    /// Queued, sending, held.
    pub outbox: [i64; 3],
    /// Of the held ones, those that a restored backup left unsent.
    pub restored: i64,
    pub dead_letters: i64,
    /// Changes whose message is not there yet.
    pub pending: i64,
    /// Files that are still to be fetched.
    pub fetches: i64,
}

/// The store. Methods return once what they did is durable.
#[async_trait]
pub trait Store:
    credentials::CredentialStore
    + Desk
    + Macros
    + Forgets
    + privacy::Privacy
    + privacy::Erases
    + Watched
    + Imports
    + leases::Leases
    + processes::Processes
    + partitions::Partitions
    + reconcile::Reconciles
    + relays::Relays
    + surgery::SurgeryStore
    + events::EventLog
    + search::Search
    + uploads::Uploads
    + Send
    + Sync
{
    // The router.
    async fn own(&self, partition: u32) -> Result<Ownership>;
    /// Loads the batch's facts, decides, and commits effects and position, conditional on owner
    /// and position. On `Poisoned` nothing was written.
    async fn route(&self, commit: RouteCommit) -> Result<Routed>;
    /// Counts a try of a record before it is made.
    async fn count_attempt(&self, record: i64) -> Result<u32>;
    /// Makes a record a dead letter, with what it carried, and moves the position past it.
    async fn bury(
        &self,
        ownership: Ownership,
        record: i64,
        reason: String,
        attempts: u32,
        carried: Option<Arc<Carried>>,
        now: i64,
    ) -> Result<()>;

    // Channels.
    async fn cursor(&self, channel: &ChannelId) -> Result<Option<Cursor>>;
    async fn save_cursor(&self, channel: &ChannelId, cursor: Cursor) -> Result<()>;

    // Reading. What the actor may not see does not exist for it.
    async fn queues(&self, actor: Actor) -> Result<Vec<QueueDepth>>;
    async fn conversations(
        &self,
        actor: Actor,
        filter: ConversationFilter,
    ) -> Result<Vec<Conversation>>;
    async fn conversation(&self, actor: Actor, id: ConversationId) -> Result<Option<Conversation>>;
    /// Newest first, from `from` (or the newest) backwards.
    async fn messages(
        &self,
        actor: Actor,
        conversation: ConversationId,
        from: Option<MessageId>,
        limit: u32,
    ) -> Result<Option<Vec<StoredMessage>>>;
    async fn message(&self, actor: Actor, id: MessageId) -> Result<Option<StoredMessage>>;
    async fn contact(&self, actor: Actor, id: ContactId) -> Result<Option<StoredContact>>;
    async fn participants(&self, actor: Actor, id: ConversationId) -> Result<Vec<Participant>> {
        let conversation = self.conversation(actor, id).await?;
        Ok(conversation
            .map(|conversation| conversation.detail.participants)
            .unwrap_or_default())
    }

    // Sending.
    /// Says which channels can send, and what they take: replies that a channel cannot carry are
    /// refused, and so are those that wait on one that cannot send, unless another process has it.
    async fn set_senders(&self, senders: Senders, elsewhere: Declared, now: i64) -> Result<()>;
    /// What was being sent when the process ended: unknown, unless the channel is idempotent.
    async fn recover_outbox(&self, idempotent: Vec<ChannelId>, now: i64) -> Result<u64>;
    /// The same for one channel, whose lane broke while the process went on.
    async fn recover_lane(&self, channel: &ChannelId, idempotent: bool, now: i64) -> Result<Rings>;
    /// Takes due replies; what cannot be sent is refused on the way, so that it stops nobody.
    async fn lease(&self, channel: &ChannelId, limit: u32, now: i64) -> Result<Taken>;
    /// When the channel's next reply is due, as it looks now; `None` when none waits.
    async fn next_due(&self, channel: &ChannelId, now: i64) -> Result<Option<i64>>;
    /// The bytes of a file of what was written, where they are in the store; otherwise they are the
    /// file of the digest. `None`: no such file is known.
    async fn written_file(
        &self,
        message: MessageId,
        sha256: [u8; 32],
    ) -> Result<Option<Option<Bytes>>>;
    async fn settle(&self, id: MessageId, settlement: Settlement, now: i64) -> Result<Rings>;
    /// Files the outcome of one attempt. Where another was begun since, that one's outcome counts: only
    /// that it was sent is filed all the same.
    async fn settle_attempt(
        &self,
        id: MessageId,
        attempt: u32,
        settlement: Settlement,
        now: i64,
    ) -> Result<Rings>;
    /// Settles a held reply as a person says.
    async fn settle_held(&self, settling: Settling) -> Result<(StoredMessage, Rings)>;
    /// Settles those that a restored backup left unsent, at most `limit`; how many there were.
    async fn settle_restored(
        &self,
        outcome: SettleAs,
        channel: Option<ChannelId>,
        limit: u32,
        now: i64,
    ) -> Result<(u64, Rings)>;
    /// Holds everything unsent for a person: what a backup left may have been sent since. With
    /// `sending` also what was under way, which only a store without lanes may ask.
    async fn hold_unsent(&self, sending: bool, now: i64) -> Result<(u64, Rings)>;
    /// What is in the outbox, oldest first.
    async fn unsent(&self, filter: OutboxFilter) -> Result<Vec<UnsentReply>>;

    // Files of messages.
    /// Takes files that are due to be fetched, with the try counted and the next one timed.
    async fn lease_fetches(&self, limit: u32, now: i64) -> Result<Vec<DueFetch>>;
    /// When the next file is due; `None` when none is.
    async fn next_fetch(&self) -> Result<Option<i64>>;
    /// Files the outcome of a try; the message may be gone by now.
    async fn settle_fetch(
        &self,
        message: MessageId,
        place: usize,
        outcome: FetchOutcome,
        now: i64,
    ) -> Result<()>;
    /// The file at a place of a message that the actor may see.
    async fn attachment(
        &self,
        actor: Actor,
        message: MessageId,
        place: usize,
    ) -> Result<Option<StoredAttachment>>;
    /// Those of these files that no row names.
    async fn unnamed_files(&self, files: Vec<[u8; 32]>) -> Result<Vec<[u8; 32]>>;

    // Operating.
    async fn create_token(&self, hash: Vec<u8>, token: Token) -> Result<Token>;
    async fn tokens(&self) -> Result<Vec<Token>>;
    async fn token_by_hash(&self, hash: Vec<u8>) -> Result<Option<Token>>;
    async fn revoke_token(&self, id: i64, now: i64) -> Result<bool>;
    async fn dead_letters(&self, limit: u32) -> Result<Vec<StoredDeadLetter>>;
    async fn dead_letter(&self, record: i64) -> Result<Option<StoredDeadLetter>>;
    /// Files a parked letter; `None` when it is not parked (any more).
    async fn redrive(&self, record: i64, policy: Arc<Policy>, now: i64) -> Result<Option<Rings>>;
    async fn counts(&self) -> Result<Counts>;
    /// Says which names (of channels and brands) and queues are configured now.
    async fn declare(&self, names: Vec<String>, queues: Vec<QueueId>) -> Result<()>;
    /// What waits in a queue that nobody declares waits in the first one: nobody could claim it otherwise. Replies
    /// on a channel that nobody has any more are refused. Whom that rings.
    async fn adopt_stranded(&self, elsewhere: Declared, now: i64) -> Result<Rings>;
    /// Drops what is past its retention, a bounded part of it; whether there may be more.
    async fn sweep(&self, keep: Retention, now: i64) -> Result<bool>;
    /// Notes a number under a name, for all processes, unless there is one; gives the one there is.
    async fn agree(&self, name: &'static str, number: i64) -> Result<i64>;
    /// Random bytes of this installation: every other key is derived from them.
    fn installation_key(&self) -> &[u8];
    /// The version of the schema that this build writes.
    fn schema_version(&self) -> i64;
}

/// How long each kind is kept.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    pub raw: Duration,
    /// Log entries, and changes whose message has not come.
    pub bus: Duration,
    pub idempotency: Duration,
    /// Events that tell what messages and queues say anyway.
    pub events: Duration,
    /// Events that tell who did what.
    pub audit: Duration,
}

/// How long an `Idempotency-Key` is remembered.
pub const IDEMPOTENCY_KEPT: Duration = Duration::from_secs(72 * 60 * 60);
/// Within which an address gets no second acknowledgement.
pub const ACKNOWLEDGE_WINDOW: Duration = Duration::from_secs(24 * 60 * 60);
