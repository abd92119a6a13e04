//! What alerts remember over a restart, and what only the store knows of troubles.

use std::collections::BTreeMap;

use async_trait::async_trait;
use connector_api::ChannelId;

use crate::alerts::Told;

use super::Result;

#[async_trait]
pub trait Watched {
    /// When the oldest event was accepted that nobody has decided yet.
    async fn undecided_since(&self) -> Result<Option<i64>>;
    /// Since when each channel's oldest answer was to leave, of those that have not left or been held.
    async fn due_since(&self, now: i64) -> Result<BTreeMap<ChannelId, i64>>;
    /// Writes next to nothing, and returns once that is durable.
    async fn probe(&self, now: i64) -> Result<()>;
    /// What each target was told last, by key.
    async fn told(&self) -> Result<BTreeMap<String, BTreeMap<String, Told>>>;
    /// Replaces what a target was told.
    async fn save_told(&self, target: &str, told: Vec<Told>) -> Result<()>;
    /// When each channel was last heard, as last noted.
    async fn heard(&self) -> Result<BTreeMap<ChannelId, i64>>;
    async fn save_heard(&self, heard: Vec<(ChannelId, i64)>) -> Result<()>;
}
