//! What `switchboard bus grow` needs of an installation: its store, and what its processes say of themselves.

use std::sync::Arc;

use connector_api::{Clock, async_trait};

use crate::bus::kafka::grow::{Done, Growth, Processes};
use crate::clock::micros;
use crate::config::Config;
use crate::store::Store;

use super::{buses, processes};

/// The processes as their rows say.
struct Rows {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
}

#[async_trait]
impl Processes for Rows {
    async fn lacking(&self, generation: u32) -> Result<Vec<String>, String> {
        let now = micros(self.clock.now());
        let all = processes::all(self.store.as_ref(), now).await;
        let all = all.map_err(|error| error.to_string())?;
        let said = all.iter().map(|(_, said)| said);
        let lacks = said.filter(|said| said.generation.is_none_or(|known| known < generation));
        Ok(lacks.map(processes::Said::name).collect())
    }
}

/// Goes to more partitions; returns once that is done.
pub async fn grow(
    config: &Config,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    partitions: u32,
    tell: impl Fn(Done),
) -> Result<(), String> {
    let settings = buses::settings(config).map_err(|error| error.to_string())?;
    let processes = Arc::new(Rows {
        store: store.clone(),
        clock,
    });
    let growth = Growth {
        settings,
        store,
        processes,
    };
    growth.run(partitions, tell).await
}

/// The generations of the topic, and of one that is sealed how many partitions are not decided.
pub async fn status(config: &Config, store: &dyn Store) -> Result<serde_json::Value, String> {
    let text = |error: crate::store::StoreError| error.to_string();
    let settings = buses::settings(config).map_err(|error| error.to_string())?;
    let all = store.generations(&settings.topic()).await.map_err(text)?;
    let positions = store.positions().await.map_err(text)?;
    let views = all.iter().map(|one| {
        let mut view = serde_json::json!({
            "generation": one.number, "topic": one.topic, "partitions": one.count(), "stage": one.stage.as_str(),
        });
        let ends = one.partitions.iter().zip(&one.ends);
        let behind = ends.filter(|(number, end)| {
            let at = positions.iter().find(|(known, _)| known == *number);
            at.map_or(0, |(_, position)| *position) < **end
        });
        if !one.ends.is_empty() {
            view["undecided_partitions"] = behind.count().into();
        }
        view
    });
    Ok(views.collect())
}
