//! What a reconciliation found.

use connector_api::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::gap::Gap;

/// What providers have, what was accepted, stored and routed since a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Report {
    pub since: Timestamp,
    pub as_of: Timestamp,
    pub outcome: Outcome,
    pub channels: Vec<ChannelReport>,
    /// Records of which nothing is kept any more: somebody was erased, or their time is over.
    pub gone: u64,
    /// What was not compared, in a line each.
    pub notes: Vec<String>,
    /// The first thousand.
    pub gaps: Vec<Gap>,
    /// All of them, as a number.
    pub gaps_total: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Everything was asked, and there is no gap.
    Clean,
    Gaps,
    /// No gap was found, and something could not be asked.
    Incomplete,
}

/// One channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChannelReport {
    #[schema(example = "support-mail")]
    pub channel: String,
    pub provider: Provider,
    pub accepted: Records,
    pub routed: Routed,
    pub replies: Replies,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProviderState {
    Asked,
    /// It keeps no list of what it pushed.
    #[default]
    CannotBeAsked,
    /// It could be asked, and did not answer.
    Failed,
}

/// What the provider has.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Provider {
    pub state: ProviderState,
    /// Why it could not be asked.
    #[schema(required)]
    pub reason: Option<String>,
    pub items: u64,
    pub accepted: u64,
    pub under_way: u64,
    /// From before the channel was connected.
    pub outside: u64,
    /// Copies of what left through the channel.
    pub copies: u64,
    /// What is known by nothing but its content.
    pub not_compared: u64,
}

/// What was accepted, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Records {
    pub messages: u64,
    pub changes: u64,
    /// Changes of messages that have not come.
    pub waiting: u64,
    /// The same event once more.
    pub redeliveries: u64,
    pub dead_letters: u64,
    pub under_way: u64,
}

/// Where the conversations of the messages are that came in.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Routed {
    pub in_queues: u64,
    pub with_agents: u64,
    /// They wait for the customer.
    pub with_customers: u64,
    pub snoozed: u64,
    pub automation: u64,
    pub ended: u64,
    /// They are being removed, by an erasure or by retention.
    pub going: u64,
}

/// What was to leave.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Replies {
    pub waiting: u64,
    pub under_way: u64,
    pub sent: u64,
    pub delivered: u64,
    pub refused: u64,
    pub unknown: u64,
}
