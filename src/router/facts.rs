//! What the router decides from: rows of the store that a batch touches, loaded at once. Deciding
//! changes these values in memory, so the next message of the batch sees what the one before it did.

use std::collections::{BTreeMap, HashMap, HashSet};

use connector_api::{BrandId, ChannelId, Namespace, QueueId};
use serde::{Deserialize, Serialize};

use crate::conversation::receipt::Reached;
use crate::conversation::{Delivery, Priority, Status};
use crate::ids::{ContactId, ConversationId, IdentityId, MessageId};

/// A 16-byte hash of names (see [`super::keys`]).
pub type Key16 = [u8; 16];

/// Everything a batch needs to know; see [`super::Needs`] for how it is asked for.
#[derive(Debug, Default, Clone)]
pub struct Facts {
    /// Events already filed under a dedupe key, with their digests.
    pub seen: HashMap<Key16, Vec<Seen>>,
    pub identities: HashMap<IdentityKey, Identity>,
    pub contacts: HashMap<ContactId, Contact>,
    pub conversations: HashMap<ConversationId, Conversation>,
    /// Native threads, mail Message-IDs and provider ids of sent messages.
    pub references: HashMap<Key16, Reference>,
    pub messages: HashMap<MessageId, Message>,
    /// What left in a conversation, newest first, for reports that name no more than that.
    pub sent_in: HashMap<ConversationId, Vec<Sent>>,
    /// Changes that arrived before their message, by the message's dedupe key.
    pub pending: HashMap<Key16, Vec<PendingChange>>,
    /// (channel, address) pairs that got an acknowledgement within the window.
    pub acknowledged: HashSet<Key16>,
    /// Contacts that a person told apart, smaller id first: evidence links them no more.
    pub apart: HashSet<(ContactId, ContactId)>,
}

/// Merges that are followed from what a token names; who merged deeper begins a new conversation.
pub const MERGES_FOLLOWED_MAX: usize = 32;

impl Facts {
    /// The conversation that `named` stands for: itself, or the one that its messages went to.
    pub fn stands_for<'a>(&'a self, named: &'a Conversation) -> &'a Conversation {
        let mut stands = named;
        for _ in 0..MERGES_FOLLOWED_MAX {
            let next = stands.detail.merged_into.as_ref();
            match next.and_then(|id| self.conversations.get(id)) {
                Some(next) => stands = next,
                None => break,
            }
        }
        stands
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    pub digest: u64,
    pub message: MessageId,
}

/// Where an identity is unique. `scope` is the channel for a claimed sender, `None` for a verified one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IdentityKey {
    pub brand: BrandId,
    pub scope: Option<ChannelId>,
    pub namespace: Namespace,
    pub address: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub id: IdentityId,
    pub contact: ContactId,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contact {
    pub id: ContactId,
    pub brand: BrandId,
    /// Known by verified evidence; a claimed contact never gets a verified identity.
    pub verified: bool,
    pub name: Option<String>,
    pub version: i64,
    /// Its open conversations and those resolved last, oldest first.
    pub conversations: Vec<ConversationId>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Conversation {
    pub id: ConversationId,
    pub brand: BrandId,
    pub contact: ContactId,
    /// Empty, or the founding message where the contact already had one open.
    pub matter: Option<MessageId>,
    pub status: Status,
    pub queue: QueueId,
    pub priority: Priority,
    pub assignee: Option<String>,
    pub version: i64,
    /// `conversation_seq` of the newest message.
    pub last_seq: i64,
    pub last_message: Option<MessageId>,
    pub opened_at: i64,
    /// When it last began to wait; kept on release, so the rank is kept.
    pub enqueued_at: i64,
    /// When the customer last wrote.
    pub last_inbound_at: i64,
    pub resolved_at: Option<i64>,
    pub detail: Detail,
}

impl Conversation {
    /// The message that opened it; a conversation bears its number.
    pub fn founding_message(&self) -> MessageId {
        MessageId(self.id.0)
    }

    /// Whether somebody takes part here, or took part in what was merged into it.
    pub fn has_participant(&self, namespace: &Namespace, address: &str) -> bool {
        let same = |known: &Participant| known.namespace == *namespace && known.address == address;
        self.everybody().any(same)
    }

    /// Who takes part here, then who took part in what was merged into it.
    pub fn everybody(&self) -> impl Iterator<Item = &Participant> {
        let absorbed = self.detail.absorbed.iter();
        let absorbed = absorbed.flat_map(|absorbed| &absorbed.participants);
        self.detail.participants.iter().chain(absorbed)
    }

    /// The channels it came over, those of what was merged into it after its own.
    pub fn channels(&self) -> Vec<&ChannelId> {
        let mut channels: Vec<&ChannelId> = self.detail.channels.iter().collect();
        for channel in (self.detail.absorbed.iter()).flat_map(|absorbed| &absorbed.channels) {
            if !channels.contains(&channel) {
                channels.push(channel);
            }
        }
        channels
    }

    /// Whether only claimed senders ever wrote here as its customer.
    pub fn is_only_claimed(&self) -> bool {
        let mut customers = (self.detail.participants.iter())
            .filter(|known| known.role == Role::Customer)
            .peekable();
        customers.peek().is_some() && customers.all(|known| !known.verified)
    }
}

/// What is read with a conversation but never searched by; one column.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Detail {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    #[serde(default)]
    pub participants: Vec<Participant>,
    #[serde(default)]
    pub channels: Vec<ChannelId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Facts of the shop's own, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, serde_json::Value>,
    /// While it is snoozed: until when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snoozed_until: Option<i64>,
    /// Conversations this one stems from or was mistaken for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<Link>,
    /// Fingerprints of the last texts, to mark a text sent twice.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recent: Vec<RecentText>,
    /// Where its messages went: it takes no more, and stands for that conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merged_into: Option<ConversationId>,
    /// What was merged into it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub absorbed: Vec<Absorbed>,
}

/// What was merged into a conversation, or moved there: who took part in it may go on writing, by
/// its tokens and references, but becomes no recipient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Absorbed {
    pub conversation: ConversationId,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub participants: Vec<Participant>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub channels: Vec<ChannelId>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Participant {
    pub namespace: Namespace,
    pub address: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub verified: bool,
    pub role: Role,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Customer,
    To,
    Cc,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    pub conversation: ConversationId,
    pub reason: LinkReason,
}

/// Why two conversations are linked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LinkReason {
    /// Continues one resolved longer ago than the reopen window, or closed.
    Continues,
    /// Named it by a token or reference without being allowed to join it.
    NotAParticipant,
    /// Forwarded from it.
    Forwarded,
    /// Another matter of the same contact.
    AnotherMatter,
    /// Belonged to a contact that was found to be the same person.
    SamePerson,
    /// Merged into it, or it into this one.
    Merged,
    /// Messages of one were split off into the other.
    Split,
    /// A message was moved from one to the other.
    Moved,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecentText(pub u64, pub MessageId, pub i64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reference {
    /// Where the message is now.
    pub conversation: ConversationId,
    pub message: MessageId,
    /// Whether it was elsewhere when it was first referred to.
    pub moved: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub id: MessageId,
    pub conversation: ConversationId,
    pub channel: ChannelId,
    /// `None` for an inbound one.
    pub delivery: Option<Delivery>,
    /// Of a sent one that has several.
    pub recipients: Vec<Reached>,
}

/// A message of ours, and everybody it went to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    pub message: MessageId,
    /// When it was written.
    pub at: i64,
    pub to: Vec<String>,
}

/// What an edit, deletion, reaction or receipt does to a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum Change {
    Edited,
    Deleted,
    Reaction {
        emoji: String,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        removed: bool,
    },
    Receipt {
        stage: connector_api::DeliveryStage,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// Whom it speaks for: an address, or `#3`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        recipient: Option<String>,
    },
}

/// A change waiting for its message. `record` is the offset it arrived at, where its body is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingChange {
    pub record: i64,
    pub change: Change,
}
