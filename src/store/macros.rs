//! Macros, and what agents have begun to write.

use async_trait::async_trait;
use serde_json::{Map, Value};

use crate::dispatch::Actor;
use crate::dispatch::macros::Macro;
use crate::ids::ConversationId;
use crate::router::facts::Conversation;

use super::uploads::Holder;
use super::{Idempotency, Result, StoredMessage};

/// Macros of an installation, at most: an agent looks through them all.
pub const MACROS_MAX: i64 = 2_000;

/// A macro as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredMacro {
    pub id: i64,
    pub content: Macro,
    pub version: i64,
    /// When it was last changed; UTC microseconds.
    pub at: i64,
}

/// A macro to be used on a conversation.
#[derive(Debug, Clone)]
pub struct UseMacro {
    pub id: i64,
    pub conversation: ConversationId,
    pub actor: Actor,
    pub holder: Holder,
    pub idempotency: Option<Idempotency>,
    /// `If-Match`, of the conversation.
    pub version: Option<i64>,
    /// The conversation's public id, for `conversation.id`.
    pub shown_as: String,
    /// Today, for `date`.
    pub date: String,
    pub at: i64,
}

/// What a macro says here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rendered {
    pub text: Option<String>,
    pub html: Option<String>,
    pub subject: Option<String>,
    /// Names that are not known here.
    pub missing: Vec<String>,
}

/// What an agent has begun to write; the fields are the API's own.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredDraft {
    pub content: Map<String, Value>,
    pub version: i64,
    pub at: i64,
}

#[async_trait]
pub trait Macros: Send + Sync {
    /// Those the actor may use, by name.
    async fn macros(&self, actor: Actor) -> Result<Vec<StoredMacro>>;
    async fn find_macro(&self, actor: Actor, id: i64) -> Result<Option<StoredMacro>>;
    /// Keeps a new one, or another version of one that is there.
    async fn save_macro(
        &self,
        actor: Actor,
        id: Option<i64>,
        content: Macro,
        version: Option<i64>,
        now: i64,
    ) -> Result<StoredMacro>;
    async fn delete_macro(&self, actor: Actor, id: i64, version: Option<i64>) -> Result<()>;
    /// What it would say.
    async fn preview_macro(&self, using: UseMacro) -> Result<Rendered>;
    /// Says and does it, all of it or nothing. A repeated request is given no conversation that its
    /// actor may not see any more.
    async fn use_macro(
        &self,
        using: UseMacro,
    ) -> Result<(Option<StoredMessage>, Option<Conversation>)>;

    /// The actor's own draft.
    async fn draft(
        &self,
        actor: Actor,
        conversation: ConversationId,
    ) -> Result<Option<StoredDraft>>;
    /// `version`: only over that one; 0 where there must be none. Versions of one agent's drafts
    /// in one conversation never come again.
    async fn save_draft(
        &self,
        actor: Actor,
        conversation: ConversationId,
        content: Map<String, Value>,
        version: Option<i64>,
        now: i64,
    ) -> Result<StoredDraft>;
    async fn delete_draft(
        &self,
        actor: Actor,
        conversation: ConversationId,
        version: Option<i64>,
    ) -> Result<()>;
}
