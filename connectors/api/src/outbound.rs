//! What a [`crate::Sender`] is given and gives back.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::event::DeliveryStage;
use crate::ids::Namespace;

/// One message to send, already fitted to the channel's [`crate::Capabilities`]. The same value
/// is handed over on every attempt, so whatever a connector derives from it is stable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutboundMessage {
    /// Public id (`msg_…`), the same on every attempt: the key for idempotent providers.
    pub id: String,
    /// Public id of the conversation (`cnv_…`).
    pub conversation: String,
    /// MAC'd token that brings the answer back into this conversation: put it where replies carry it.
    pub reply_token: String,
    pub to: Recipient,
    /// The provider's thread, as in [`crate::ThreadHints::native`] of the message answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    pub text: String,
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
    /// Seconds since the epoch at which the reply was accepted: the date a receiver sees.
    pub accepted_at: jiff::Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipient {
    pub namespace: Namespace,
    pub address: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutboundAttachment {
    pub name: String,
    pub content_type: String,
    #[serde(skip)]
    pub bytes: Bytes,
}

/// The provider took the message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendReceipt {
    /// Ids later receipts and replies will name; empty when the provider gives none.
    pub provider_message_ids: Vec<String>,
    pub stage: DeliveryStage,
}

impl SendReceipt {
    pub fn accepted(provider_message_ids: Vec<String>) -> Self {
        Self {
            provider_message_ids,
            stage: DeliveryStage::Accepted,
        }
    }
}
