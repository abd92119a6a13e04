//! What a provider lists: by it `switchboard reconcile` tells what was lost.

use connector_api::{
    Connector, Cursor, InventoryPages, ProviderItem, Result, Standing, Timestamp, async_trait,
};
use tokio::sync::Mutex;

use crate::kit::{Kit, Verdict, ensure};
use crate::line::Line;

/// Everything that was accepted is listed under a key that it was accepted under, and as passed; what came since is
/// listed and not passed. Keys that differ would name every message as lost.
pub(crate) async fn what_was_accepted_is_listed_under_its_keys(kit: &Kit) -> Verdict {
    let line = Line::open(kit).await?;
    kit.provider.customer_says("one").await;
    kit.provider.customer_says("two").await;
    line.receive_until(2).await?;
    let accepted = line.intake.events();
    let cursor = line.stop().await?;
    kit.provider.customer_says("not read yet").await;
    let listed = list(kit.connector()?.as_ref(), cursor.as_ref()).await?;
    for event in &accepted {
        let key = &event.dedupe_key;
        let item = listed.iter().find(|item| item.keys.contains(key));
        let item =
            item.ok_or_else(|| format!("{key} was accepted and is not listed: {listed:?}"))?;
        ensure(item.standing == Standing::Passed, || {
            format!("{key} was accepted and is {:?}", item.standing)
        })?;
    }
    let ahead = listed
        .iter()
        .filter(|item| item.standing == Standing::Ahead);
    let ahead = ahead.count();
    ensure(ahead == 1, || {
        format!("one item is not read yet, {ahead} are ahead: {listed:?}")
    })
}

async fn list(connector: &dyn Connector, cursor: Option<&Cursor>) -> Verdict<Vec<ProviderItem>> {
    let inventory = connector.inventory().ok_or("no inventory")?;
    let pages = Gathered::default();
    let listed = inventory
        .list_since(Timestamp::UNIX_EPOCH, cursor, &pages)
        .await;
    listed.map_err(|error| error.message)?;
    Ok(pages.0.into_inner())
}

#[derive(Default)]
struct Gathered(Mutex<Vec<ProviderItem>>);

#[async_trait]
impl InventoryPages for Gathered {
    async fn page(&self, items: Vec<ProviderItem>) -> Result<()> {
        self.0.lock().await.extend(items);
        Ok(())
    }
}
