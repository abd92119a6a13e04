//! What a [`crate::Sender`] is given and gives back.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::event::DeliveryStage;
use crate::ids::Namespace;

/// One message to send, already fitted to the channel's [`crate::Capabilities`]. The same value
/// is handed over on every attempt, so whatever a connector derives from it is stable.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OutboundMessage {
    /// Public id (`msg_…`), the same on every attempt: the key for idempotent providers.
    pub id: String,
    /// Public id of the conversation (`cnv_…`).
    pub conversation: String,
    /// MAC'd token that brings the answer back into this conversation: put it where replies carry it.
    pub reply_token: String,
    pub to: Recipient,
    /// Who else gets it, on channels whose `recipients_max` is more than one: beside `to`, as a
    /// copy, and as a copy that the others do not see.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also_to: Vec<Recipient>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cc: Vec<Recipient>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bcc: Vec<Recipient>,
    /// The provider's thread, as in [`crate::ThreadHints::native`] of the message answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    pub text: String,
    /// The same in HTML, on channels that say `html`. `cid:` names an attachment's `content_id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub html: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<OutboundAttachment>,
    /// Message ids of the conversation so far, oldest first, the answered one last (for References).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<String>,
    /// Written by nobody (an acknowledgement): marked as such towards the receiver (RFC 3834).
    #[serde(default)]
    pub automatic: bool,
    /// When the reply was accepted, or was to leave: the date a receiver sees.
    pub accepted_at: jiff::Timestamp,
}

impl OutboundMessage {
    /// Everybody it goes to, `to` first.
    pub fn recipients(&self) -> impl Iterator<Item = &Recipient> {
        let others = self.also_to.iter().chain(&self.cc).chain(&self.bcc);
        std::iter::once(&self.to).chain(others)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipient {
    pub namespace: Namespace,
    pub address: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// A file to send. Its bytes are read when they are needed, so that a large one is never whole in
/// memory where the provider takes it in pieces.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OutboundAttachment {
    pub name: String,
    pub content_type: String,
    pub size_bytes: u64,
    /// Shown inside the HTML under this id (`cid:`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_id: Option<String>,
    #[serde(skip)]
    pub content: FileContent,
}

impl OutboundAttachment {
    /// A file whose bytes are at hand.
    pub fn of(name: &str, content_type: &str, bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self {
            name: name.to_owned(),
            content_type: content_type.to_owned(),
            size_bytes: bytes.len() as u64,
            content_id: None,
            content: FileContent::from(bytes),
        }
    }
}

/// The bytes of a file, wherever they are.
#[derive(Clone)]
pub struct FileContent(Arc<dyn ReadFile>);

/// Reads a stored file piece by piece.
#[async_trait]
pub trait ReadFile: Send + Sync {
    /// At most `bytes_max` bytes from `offset` on; empty at the end. Reading again gives the same.
    /// A file that cannot be read is `Unavailable`.
    async fn read_at(&self, offset: u64, bytes_max: usize) -> Result<Bytes>;
}

/// Read at a time by [`FileContent::whole`].
const CHUNK_BYTES: usize = 256 * 1024;

impl FileContent {
    pub fn new(file: Arc<dyn ReadFile>) -> Self {
        Self(file)
    }

    pub async fn read_at(&self, offset: u64, bytes_max: usize) -> Result<Bytes> {
        self.0.read_at(offset, bytes_max).await
    }

    /// All of it, for providers that take nothing in pieces; `TooLarge` beyond `bytes_max`.
    pub async fn whole(&self, bytes_max: u64) -> Result<Bytes> {
        let mut all = BytesMut::new();
        loop {
            let chunk = self.read_at(all.len() as u64, CHUNK_BYTES).await?;
            if chunk.is_empty() {
                return Ok(all.freeze());
            }
            if (all.len() + chunk.len()) as u64 > bytes_max {
                return Err(Error::too_large(format!(
                    "a file is larger than {bytes_max} bytes"
                )));
            }
            all.extend_from_slice(&chunk);
        }
    }
}

impl Default for FileContent {
    fn default() -> Self {
        Self::from(Bytes::new())
    }
}

impl From<Bytes> for FileContent {
    fn from(bytes: Bytes) -> Self {
        Self(Arc::new(AtHand(bytes)))
    }
}

impl fmt::Debug for FileContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FileContent")
    }
}

struct AtHand(Bytes);

#[async_trait]
impl ReadFile for AtHand {
    async fn read_at(&self, offset: u64, bytes_max: usize) -> Result<Bytes> {
        let len = self.0.len();
        let from = usize::try_from(offset).unwrap_or(len).min(len);
        Ok(self.0.slice(from..len.min(from.saturating_add(bytes_max))))
    }
}

/// The provider took the message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendReceipt {
    /// Ids later receipts and replies will name; empty when the provider gives none.
    pub provider_message_ids: Vec<String>,
    pub stage: DeliveryStage,
    /// Those of several recipients whom the provider would not take it for, or may not have. When
    /// it takes it for none, that is an error (`Rejected`) and no receipt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<RefusedRecipient>,
}

/// A recipient that a message did not go to, or perhaps not, although it went to others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedRecipient {
    pub address: String,
    /// The provider's words, without addresses.
    pub reason: String,
    /// Nobody knows whether it went there: the answer was lost after it had left.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unknown: bool,
}

impl RefusedRecipient {
    pub fn new(address: String, reason: String) -> Self {
        Self {
            address,
            reason,
            unknown: false,
        }
    }

    /// One of whom nobody knows whether they got it.
    pub fn unknown(address: String, reason: String) -> Self {
        Self {
            unknown: true,
            ..Self::new(address, reason)
        }
    }
}

impl SendReceipt {
    pub fn accepted(provider_message_ids: Vec<String>) -> Self {
        Self {
            provider_message_ids,
            stage: DeliveryStage::Accepted,
            refused: Vec::new(),
        }
    }
}
