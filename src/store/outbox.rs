//! What the outbox is asked, and what it answers.

use connector_api::{ChannelId, Namespace, QueueId, RefusedRecipient};
use serde::{Deserialize, Serialize};

use crate::conversation::Delivery;
use crate::dispatch::{Actor, Role};
use crate::ids::{ConversationId, MessageId};

use super::Draft;

/// One of the recipients of a message that has several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecipient {
    pub address: String,
    /// `None`: as the message.
    pub delivery: Option<Delivery>,
    /// Why it was refused for them, or is late.
    pub reason: Option<String>,
}

/// Where an outbox row stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutboxState {
    Queued,
    Sending,
    /// The outcome of an attempt is unknown: held for a person.
    #[serde(rename = "unknown")]
    Held,
    /// Unsent in a backup that was restored, so perhaps sent since: held for a person, too.
    Restored,
}

impl OutboxState {
    pub const ALL: [Self; 4] = [Self::Queued, Self::Sending, Self::Held, Self::Restored];

    /// The stored form; the order of [`Self::ALL`]. Codes from 2 on are held.
    pub fn code(self) -> i64 {
        Self::ALL
            .iter()
            .position(|state| *state == self)
            .map_or(0, |at| at as i64)
    }

    pub fn from_code(code: i64) -> Option<Self> {
        Self::ALL.get(usize::try_from(code).ok()?).copied()
    }
}

/// A leased reply: the attempt is on disk before the first byte leaves.
#[derive(Debug, Clone)]
pub struct Leased {
    pub id: MessageId,
    pub conversation: ConversationId,
    pub channel: ChannelId,
    pub draft: Draft,
    pub accepted_at: i64,
    /// Since when it is tried: its acceptance, or a person's "try again".
    pub tried_since: i64,
    pub attempts: u32,
}

/// What a lane gets to send.
#[derive(Debug, Clone, Default)]
pub struct Taken {
    pub leased: Vec<Leased>,
    /// Of what was refused on the way.
    pub rings: Rings,
}

/// Bells to ring once a change is durable: queues with more waiting, channels with more to send.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rings {
    pub queues: Vec<QueueId>,
    pub channels: Vec<ChannelId>,
}

impl Rings {
    pub fn add(&mut self, more: Self) {
        let fresh = |queue: &QueueId| !self.queues.contains(queue);
        let queues: Vec<QueueId> = more.queues.into_iter().filter(fresh).collect();
        self.queues.extend(queues);
        let fresh = |channel: &ChannelId| !self.channels.contains(channel);
        let channels: Vec<ChannelId> = more.channels.into_iter().filter(fresh).collect();
        self.channels.extend(channels);
    }
}

/// What an attempt came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settlement {
    Sent {
        provider_ids: Vec<String>,
        namespace: Option<Namespace>,
        /// Those of several recipients whom it did not go to.
        refused: Vec<RefusedRecipient>,
    },
    Refused {
        reason: String,
    },
    Unknown {
        reason: String,
    },
    /// Certainly not sent: again at this time (UTC microseconds).
    Retry {
        at: i64,
        reason: String,
    },
}

/// What a person says of a reply of which nobody knows whether it left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SettleAs {
    /// It arrived.
    Sent,
    /// It did not arrive, and is not tried again.
    Refused,
    /// It is sent again, and may arrive twice.
    Retry,
}

impl SettleAs {
    pub const ALL: [Self; 3] = [Self::Sent, Self::Refused, Self::Retry];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Refused => "refused",
            Self::Retry => "retry",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == text)
    }
}

/// A held reply to settle.
#[derive(Debug, Clone)]
pub struct Settling {
    pub message: MessageId,
    /// `None`: an operator of the machine, by command.
    pub by: Option<Actor>,
    pub outcome: SettleAs,
    /// Hash of principal and `Idempotency-Key`, and of the request.
    pub idempotency: Option<(Vec<u8>, Vec<u8>)>,
    pub at: i64,
}

/// Why an outbound message stands as it does: what persons said of it. Kept with the message.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettledWhy {
    pub settled: Vec<Settled>,
}

/// Who settled a message, how and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    #[serde(rename = "as")]
    pub outcome: SettleAs,
    /// `None`: an operator of the machine, by command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    pub at: i64,
}

/// Which rows of the outbox to list; all given ones hold.
#[derive(Debug, Clone, Default)]
pub struct OutboxFilter {
    /// Empty: all.
    pub states: Vec<OutboxState>,
    pub channel: Option<ChannelId>,
    pub limit: u32,
}

/// A row of the outbox as operators see it: not what it says, nor to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsentReply {
    pub id: MessageId,
    pub conversation: ConversationId,
    pub channel: ChannelId,
    pub state: OutboxState,
    pub attempts: u32,
    pub accepted_at: i64,
    pub due_at: i64,
    pub reason: Option<String>,
}
