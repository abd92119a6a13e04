//! What goes when its time is over, and how far that has got.

use std::time::Duration;

use async_trait::async_trait;

use super::Result;

/// How long each kind is kept that goes in steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Periods {
    /// Conversations that ended, from their end or from the last thing said in them.
    pub resolved: Duration,
    pub dead_letters: Duration,
    pub drafts: Duration,
    /// Tokens that were revoked.
    pub audit: Duration,
}

/// What one step removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Forgotten {
    pub conversations: u64,
    pub messages: u64,
    pub contacts: u64,
    /// Of these the ones that were never filed are customers' messages nobody dealt with.
    pub dead_letters: u64,
    pub parked: u64,
    pub drafts: u64,
    pub tokens: u64,
    /// Whether another step would find more.
    pub more: bool,
    /// For how long the oldest conversation that is due has been, in microseconds.
    pub overdue: Option<i64>,
}

/// The part of the store that forgets.
#[async_trait]
pub trait Forgets {
    /// Removes what is due, some `messages` of it: one short transaction. What a conversation said
    /// goes with it; the digests that know its redeliveries stay.
    async fn forget(&self, periods: Periods, messages: u32, now: i64) -> Result<Forgotten>;
}
