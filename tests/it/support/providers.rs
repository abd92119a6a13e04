//! Providers that can be asked what they have, and who compares that with a desk.

use std::sync::Arc;
use std::time::Duration;

use connector_api::{
    Capabilities, Connector, Cursor, Error, Health, Inventory, InventoryPages, ProviderItem,
    Result, Timestamp, async_trait,
};
use switchboard::daemon::reconcile::Reconciler;
use switchboard::live::Live;

use super::Desk;
use super::setup::channels;

/// What a channel's provider answers.
pub enum Provider {
    Has(Vec<ProviderItem>),
    IsAway,
}

/// Compares the desk with these providers; those of other channels cannot be asked.
pub fn reconciler(
    desk: &Desk,
    providers: impl IntoIterator<Item = (&'static str, Provider)>,
) -> Reconciler {
    let mut channels = channels();
    for (id, provider) in providers {
        let channel = channels.get_mut(id).expect("a channel of the desk");
        channel.connector = Box::new(provider);
    }
    let channels = channels.into_values();
    let by_id = channels.map(|channel| (channel.id.clone(), Arc::new(channel)));
    // The router's loop tells its bus, and there is none.
    let ownership = desk.ownership();
    desk.bus()
        .decided(ownership.partition, ownership.position, 0);
    Reconciler {
        store: desk.store().clone(),
        channels: Live::new(by_id.collect()),
        policy: Live::from(desk.policy.clone()),
        clock: desk.clock.clone(),
        bus: Some(desk.bus().clone()),
        decided_within: Duration::from_millis(50),
        turn: Default::default(),
    }
}

#[async_trait]
impl Connector for Provider {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            inventory: true,
            ..Capabilities::default()
        }
    }

    async fn health(&self) -> Health {
        Health::Ready
    }

    fn inventory(&self) -> Option<&dyn Inventory> {
        Some(self)
    }
}

#[async_trait]
impl Inventory for Provider {
    async fn list_since(
        &self,
        _since: Timestamp,
        _read_to: Option<&Cursor>,
        pages: &dyn InventoryPages,
    ) -> Result<()> {
        match self {
            Self::Has(items) => pages.page(items.clone()).await,
            Self::IsAway => Err(Error::unavailable("connection refused")),
        }
    }
}
