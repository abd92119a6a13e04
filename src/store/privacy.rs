//! What is kept of one person: held by law, handed out, or erased.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use connector_api::{BrandId, Namespace};
use serde::{Deserialize, Serialize};

use crate::dispatch::Actor;
use crate::ids::{ContactId, ConversationId, MessageId};
use crate::router::facts::Conversation;

use super::macros::StoredDraft;
use super::{Result, StoredContact, StoredMessage};

/// Nothing of a contact is removed while it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    pub reason: String,
    /// The agent, or the role of a token that names none; `operator` by a command of this machine.
    pub who: String,
    /// UTC microseconds.
    pub at: i64,
}

/// A hold to be put on, or with `reason: None` lifted.
#[derive(Debug, Clone)]
pub struct Holding {
    pub contact: ContactId,
    pub actor: Actor,
    pub who: String,
    pub reason: Option<String>,
    pub at: i64,
}

/// A contact with what there is of it beside its conversations.
#[derive(Debug, Clone)]
pub struct WholeContact {
    pub contact: StoredContact,
    /// Every contact that was merged into it, or into one of these.
    pub merged: Vec<StoredContact>,
    /// All addresses that somebody claimed for it.
    pub suggestions: Vec<(Namespace, String)>,
}

/// A message of a conversation, with whose words it has.
#[derive(Debug, Clone)]
pub struct Spoken {
    pub message: StoredMessage,
    /// The contact who wrote it; `None`: our side, or nobody.
    pub author: Option<ContactId>,
}

/// How far an erasure is; the stored form is the place in [`Self::ALL`], only ever added to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Nothing is removed yet; then conversations and the contact are.
    Asked,
    /// What was said in them.
    Messages,
    /// In conversations of others.
    Others,
    /// Among what could not be filed.
    Letters,
    /// Copies of redeliveries.
    Log,
    Events,
    /// What search knows.
    Words,
    Files,
    /// Nothing refers to it any more; the bytes that are left are overwritten.
    Overwriting,
    Done,
}

impl Stage {
    pub const ALL: [Self; 10] = [
        Self::Asked,
        Self::Messages,
        Self::Others,
        Self::Letters,
        Self::Log,
        Self::Events,
        Self::Words,
        Self::Files,
        Self::Overwriting,
        Self::Done,
    ];

    pub fn code(self) -> i64 {
        Self::ALL
            .iter()
            .position(|stage| *stage == self)
            .map_or(0, |at| at as i64)
    }

    pub fn from_code(code: i64) -> Self {
        let at = usize::try_from(code).ok();
        let known = at.and_then(|at| Self::ALL.get(at).copied());
        known.unwrap_or(Self::Asked)
    }

    pub fn next(self) -> Self {
        Self::from_code((self.code() + 1).min(Self::Done.code()))
    }
}

/// Somebody asks for an erasure.
#[derive(Debug, Clone)]
pub struct Asking {
    pub contact: ContactId,
    pub actor: Actor,
    pub who: String,
    pub reason: String,
    pub at: i64,
}

/// An erasure as it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Erasure {
    pub id: i64,
    pub contact: ContactId,
    pub brand: BrandId,
    pub stage: Stage,
    pub asked_at: i64,
    pub done_at: Option<i64>,
    pub who: String,
    pub reason: String,
    pub report: Report,
}

/// What an erasure did, and where copies may be for how long. Times are UTC microseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// How much of each kind was removed.
    pub removed: BTreeMap<String, u64>,
    /// Other contacts with one of the addresses.
    pub same_address: Vec<i64>,
    /// Why it does not go on.
    pub waits: Option<String>,
    pub backups_until: Option<i64>,
    pub bus_until: Option<i64>,
    pub files_until: Option<i64>,
    /// What is left of it in space that the database does not use, where that cannot be overwritten.
    pub unused_space: Option<String>,
}

/// Where copies stay, and for how long.
#[derive(Debug, Clone, Default)]
pub struct Copies {
    pub backups: Duration,
    pub bus: Option<Duration>,
    pub files: Option<Duration>,
    pub unused_space: Option<String>,
}

/// What a step came to: the stage that is next, or why it does not go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub stage: Stage,
    pub waits: Option<String>,
}

/// What overwriting came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Overwritten {
    /// Nothing is left of what was deleted, or only what is said.
    Done { left: Option<String> },
    /// Not now; why.
    Later(String),
}

/// What each database does in its own way when a person is erased.
#[async_trait]
pub trait Erases: Send + Sync {
    /// One step of those stages that are of rows: a short transaction.
    async fn erase_step(&self, id: i64, messages: u32, now: i64) -> Result<Step>;
    /// One step of taking the words out of the index; whether there is more.
    async fn erase_words(&self, id: i64, now: i64) -> Result<bool>;
    /// Forgets what the erasure looked for, and overwrites what of the deleted rows is still in the database's files.
    async fn overwrite(&self, id: i64) -> Result<Overwritten>;
    /// The same where copies of what is gone came again and were dropped since the last time.
    async fn overwrite_dropped(&self) -> Result<()>;
}

/// The part of the store that answers for a person's data.
#[async_trait]
pub trait Privacy: Send + Sync {
    /// Puts a hold on a contact, or lifts it; the contact as it stands then.
    async fn hold_contact(&self, holding: Holding) -> Result<StoredContact>;
    /// The contact whose data the actor may hand out.
    async fn whole_contact(&self, actor: Actor, id: ContactId) -> Result<WholeContact>;
    /// Conversations of others that have words of the contact, in the order of their numbers.
    async fn took_part(
        &self,
        contact: ContactId,
        after: Option<ConversationId>,
        limit: u32,
    ) -> Result<Vec<Conversation>>;
    /// Messages of a conversation, newest first. Whoever asks may see it.
    async fn spoken(
        &self,
        conversation: ConversationId,
        from: Option<MessageId>,
        limit: u32,
    ) -> Result<Vec<Spoken>>;
    /// What agents have begun to write in a conversation.
    async fn drafts_in(&self, conversation: ConversationId) -> Result<Vec<StoredDraft>>;
    /// Begins to erase a contact; the erasure that there is, where one was asked for before.
    async fn ask_erasure(&self, asking: Asking) -> Result<Erasure>;
    async fn erasure(&self, id: i64) -> Result<Option<Erasure>>;
    /// Asked for last first, behind the one that was asked for then.
    async fn erasures(&self, before: Option<(i64, i64)>, limit: u32) -> Result<Vec<Erasure>>;
    /// Those that are not done, the oldest first.
    async fn open_erasures(&self, limit: u32) -> Result<Vec<Erasure>>;
    /// Files that rows of the erased named; when these are seen to they are forgotten, `removed` of them counted.
    async fn erasing_files(&self, id: i64, limit: u32) -> Result<Vec<[u8; 32]>>;
    async fn forget_erasing_files(&self, id: i64, files: Vec<[u8; 32]>, removed: u64)
    -> Result<()>;
    /// Goes on to the stage after `from`, once that is through.
    async fn advance_erasure(&self, id: i64, from: Stage) -> Result<()>;
    /// Says why it does not go on.
    async fn wait_erasure(&self, id: i64, why: Option<String>) -> Result<()>;
    async fn finish_erasure(&self, id: i64, copies: Copies, now: i64) -> Result<()>;
}
