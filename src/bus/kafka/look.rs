//! A look at the topic, without making it: whether what is to be put there may be.

use rdkafka::admin::AdminClient;
use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::consumer::{BaseConsumer, Consumer as _};

use super::context::Quiet;
use super::explain;
use super::settings::Settings;
use super::topic::{self, ANSWER_MAX};

/// How many records the topic ever had; `None` where there is none yet. What a start would refuse is an error, with
/// what to do.
pub async fn records(settings: &Settings) -> Result<Option<u64>, String> {
    let name = settings.topic();
    let refused = |error| explain::explain_of(&error, settings, &name);
    let consumer = settings.consumer();
    let quiet = Quiet::new(settings);
    let asked: BaseConsumer<Quiet> = consumer
        .create_with_context(quiet.clone())
        .map_err(refused)?;
    let of = name.clone();
    let looking = tokio::task::spawn_blocking(move || {
        let found = topic::all(asked.client())?.get(&of).copied();
        let Some((partitions, _)) = found else {
            return Ok(None);
        };
        let mut records = 0;
        for partition in 0..i32::try_from(partitions).unwrap_or(i32::MAX) {
            let (_, end) = asked.fetch_watermarks(&of, partition, ANSWER_MAX)?;
            records += end.unsigned_abs();
        }
        Ok(found.map(|found| (found, records)))
    });
    let looked = looking
        .await
        .map_err(|error| format!("looking at the topic: {error}"))?;
    let Some((found, records)) = looked.map_err(refused)? else {
        return Ok(None);
    };
    let admin = AdminClient::from_config_and_context(&settings.admin(), quiet).map_err(refused)?;
    let expected = Some(settings.partitions);
    topic::ensure(&admin, settings, &name, expected, Some(found)).await?;
    Ok(Some(records))
}
