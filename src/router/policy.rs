//! The router's settings, as the pure core takes them: no files, no connectors.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use connector_api::{BrandId, ChannelId, QueueId};

use crate::conversation::Priority;
use crate::ids::IdCodec;

use super::reply_token::ReplyTokens;

/// Everything configured that a decision depends on.
#[derive(Clone)]
pub struct Policy {
    pub channels: HashMap<ChannelId, ChannelPolicy>,
    /// Takes what a channel that is no longer configured still delivers from the log.
    pub fallback_queue: QueueId,
    /// What a conversation gets in a queue when no rule says; `Normal` where missing.
    pub priorities: HashMap<QueueId, Priority>,
    pub rules: Vec<Rule>,
    /// Names the set of rules in explanations: a hash of their text.
    pub rules_version: String,
    pub joining: Joining,
    pub reply_tokens: ReplyTokens,
    pub ids: IdCodec,
}

#[derive(Debug, Clone)]
pub struct ChannelPolicy {
    pub brand: BrandId,
    pub queue: QueueId,
    /// Text of the one acknowledgement per human conversation.
    pub acknowledge: Option<String>,
    /// Keep the channel's dedupe keys for as long as the source can show an item again.
    pub replayable: bool,
}

#[derive(Debug, Clone)]
pub struct Joining {
    /// How long after the customer's last message an open conversation takes the next one.
    pub unify_window: Duration,
    /// How long after it was resolved a conversation reopens.
    pub reopen_window: Duration,
    /// Within which the same text again is marked `duplicate_of`.
    pub duplicate_window: Duration,
    /// Whether conversations are joined across channels.
    pub across_channels: bool,
    /// Channels that join no other channel.
    pub apart: HashSet<ChannelId>,
}

impl Joining {
    /// Whether a message that came over `message` may join a conversation held over `other`.
    pub fn joins(&self, message: &ChannelId, other: &ChannelId) -> bool {
        let apart = self.apart.contains(message) || self.apart.contains(other);
        message == other || (self.across_channels && !apart)
    }
}

/// First match wins; all given conditions hold; an empty list is no condition.
#[derive(Debug, Clone, Default)]
pub struct Rule {
    pub name: String,
    pub channels: Vec<ChannelId>,
    pub languages: Vec<String>,
    /// Lower case; any of them as whole words in the subject or text.
    pub keywords: Vec<String>,
    pub intents: Vec<String>,
    /// Values of any label: `urgency:high`, `spam:yes`.
    pub labels: Vec<String>,
    pub automatic: Option<bool>,
    pub queue: Option<QueueId>,
    pub priority: Option<Priority>,
    pub tags: Vec<String>,
}
