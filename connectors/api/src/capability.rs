//! What a channel can do, with its limits. The daemon fits messages to these before it sends; the
//! testkit chooses its cases by them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    pub webhook: bool,
    pub poll: bool,
    pub stream: bool,
    pub send: bool,
    /// Sending the same message id twice delivers once: a lost answer may be retried.
    pub send_idempotent: bool,
    pub receipts: bool,
    /// A person grants it access, with `switchboard channel authorize`.
    pub authorization: bool,
    /// The provider keeps what we missed (a mailbox): reading again after a crash loses nothing.
    /// Its items are remembered for as long as the provider can show them again.
    pub replayable: bool,
    /// The provider can be asked what it has: [`crate::Inventory`].
    pub inventory: bool,
    /// Longest text of one message, in `text_unit`; `None`: no limit of its own.
    pub text_max: Option<u32>,
    pub text_unit: TextUnit,
    /// Largest attachment, in bytes; `None`: attachments cannot be sent.
    pub attachment_bytes_max: Option<u64>,
    /// All attachments of one message together, in bytes; `None`: no limit of its own.
    pub attachments_bytes_max: Option<u64>,
    /// A message may say the same in HTML.
    pub html: bool,
    /// A message has a subject.
    pub subject: bool,
    /// Most recipients of one message; 0 and 1 mean whom it answers, and nobody else.
    pub recipients_max: u16,
    /// It can write to an address that has not written before: [`crate::Sender::recipient`] reads one.
    pub starts: bool,
    /// How long after the customer's last message a reply may still be sent.
    pub reply_window: Option<Duration>,
    /// Most sends under way at once on one channel.
    pub sends_inflight_max: u16,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TextUnit {
    #[default]
    Chars,
    Bytes,
    Utf16Units,
}

/// A channel's state towards its provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Health {
    Ready,
    Degraded { reason: String },
    Unauthorized { reason: String },
    Unreachable { reason: String },
}

impl Health {
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Degraded { .. } => "degraded",
            Self::Unauthorized { .. } => "unauthorized",
            Self::Unreachable { .. } => "unreachable",
        }
    }

    /// Why it is not ready.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Ready => None,
            Self::Degraded { reason }
            | Self::Unauthorized { reason }
            | Self::Unreachable { reason } => Some(reason),
        }
    }
}

/// One thing that a channel needs of its provider, as it was found a moment ago.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Check {
    /// Which one and where, for a person, in one line: `imap imap.shop.example:993`.
    pub what: String,
    pub health: Health,
    /// What was found where it is ready, in one line: `signed in, INBOX open`.
    pub found: String,
}

impl Check {
    pub fn new(what: impl Into<String>, health: Health, found: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            health,
            found: found.into(),
        }
    }

    /// What was found, or why it is not ready.
    pub fn detail(&self) -> &str {
        self.health.reason().unwrap_or(&self.found)
    }
}
