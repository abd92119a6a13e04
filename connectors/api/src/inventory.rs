//! What a provider still has: `switchboard reconcile` compares it with what was accepted.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::error::Result;
use crate::ids::DedupeKey;
use crate::surface::Cursor;

/// Most items of one page: they are held in memory while they are looked up.
pub const INVENTORY_PAGE_MAX: usize = 500;

/// Lists what the provider has. A connector whose provider can be asked hands it out from
/// [`crate::Connector::inventory`]; of any other one is said that it cannot be asked.
///
/// Nothing at the provider may change by it: no mark, no acknowledgement, no cursor. It runs beside the source
/// of the same channel, over a connection of its own.
#[async_trait]
pub trait Inventory: Send + Sync {
    /// Hands over everything that came to the provider since then, and copies of what was sent where the
    /// provider keeps these, in pages of at most [`INVENTORY_PAGE_MAX`].
    ///
    /// `read_to` is the cursor as it was stored a moment ago: it says which items the channel has passed. An
    /// error says that the provider could not be asked; pages before it count all the same.
    async fn list_since(
        &self,
        since: Timestamp,
        read_to: Option<&Cursor>,
        pages: &dyn InventoryPages,
    ) -> Result<()>;
}

/// Who takes the pages.
#[async_trait]
pub trait InventoryPages: Send + Sync {
    /// Returns once the page is dealt with; an error ends the listing and is to be passed on.
    async fn page(&self, items: Vec<ProviderItem>) -> Result<()>;
}

/// One item as the provider lists it: never its content.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProviderItem {
    /// How a person finds it at the provider: `INBOX, UID 41`.
    pub provider_id: String,
    /// Its Message-ID, where it has one.
    pub message_id: Option<String>,
    /// The keys that its event was accepted under, if it was: any of them will do.
    pub keys: Vec<DedupeKey>,
    /// It may have been accepted under another key, too, which cannot be told without the content.
    pub keys_incomplete: bool,
    /// When the provider got it.
    pub at: Option<Timestamp>,
    pub standing: Standing,
}

impl ProviderItem {
    pub fn new(provider_id: impl Into<String>, standing: Standing) -> Self {
        Self {
            provider_id: provider_id.into(),
            message_id: None,
            keys: Vec::new(),
            keys_incomplete: false,
            at: None,
            standing,
        }
    }
}

/// Where an item stands towards the channel's cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Standing {
    /// The cursor is past it: it was accepted, or never will be.
    Passed,
    /// It is news, and was not read yet.
    Ahead,
    /// It is old, and read in the background when its turn comes.
    Behind,
    /// It is not this channel's to accept: it was there before the channel was connected.
    Outside,
    /// It is a copy of what left through this channel.
    Copy,
}
