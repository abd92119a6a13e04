//! What channels keep of their credentials: bytes that the store cannot read.

use async_trait::async_trait;
use connector_api::ChannelId;

use super::Result;

/// Sealed credentials, by channel and name.
#[async_trait]
pub trait CredentialStore: Send + Sync {
    async fn credential(&self, channel: &ChannelId, name: &str) -> Result<Option<Vec<u8>>>;
    /// Puts `sealed` in place of what was there; durable once it returns.
    async fn save_credential(&self, channel: &ChannelId, name: &str, sealed: Vec<u8>)
    -> Result<()>;
}
