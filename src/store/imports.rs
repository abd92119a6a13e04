//! What operators' commands ask about messages: what of a file is known already, how far each file
//! was read, where a channel's test came to.

use std::time::Duration;

use async_trait::async_trait;

use crate::ids::MessageId;
use crate::router::facts::Key16;

use super::Result;

/// How long a stopped import can be continued where it was.
pub const IMPORT_PLACE_KEPT: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// What an event is known by once it is filed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventName {
    pub key: Key16,
    pub digest: u64,
    /// As a message that its channel may have sent itself.
    pub sent: Option<Key16>,
}

#[async_trait]
pub trait Imports {
    /// For each name, the record that is filed under it, as far back as keys are kept; for what its
    /// channel sent, the message.
    async fn known(&self, names: Vec<EventName>) -> Result<Vec<Option<MessageId>>>;
    /// The message that bears a test's token, once it is filed.
    async fn tested(&self, token: &str) -> Result<Option<MessageId>>;
    /// How far the import of `source` was, where it was stopped.
    async fn import_place(&self, source: &str) -> Result<Option<String>>;
    /// Notes how far it is; places of other imports older than [`IMPORT_PLACE_KEPT`] go.
    async fn save_import_place(&self, source: &str, place: String, now: i64) -> Result<()>;
    /// Forgets it: the import is done.
    async fn end_import(&self, source: &str) -> Result<()>;
}
