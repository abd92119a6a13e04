//! The bus that is configured.

use std::sync::Arc;

use crate::blobs::Blobs;
use crate::bus::Bus;
#[cfg(feature = "kafka")]
use crate::bus::kafka::{KafkaBus, Settings, WrongSetting};
use crate::config::Config;
use crate::store::partitions::Partitions;

use super::StartError;

/// The bus on Kafka. It need not be there yet.
#[cfg(feature = "kafka")]
pub fn kafka(
    config: &Config,
    store: Arc<dyn Partitions>,
    blobs: Blobs,
) -> Result<Arc<dyn Bus>, StartError> {
    use crate::config::Part;

    let reads = config.run.parts.contains(&Part::Router);
    let opened = KafkaBus::open(settings(config)?, store, blobs, reads);
    Ok(Arc::new(opened.map_err(|wrong| refused(config, wrong))?))
}

/// Says where the key stands that librdkafka does not take.
#[cfg(feature = "kafka")]
fn refused(config: &Config, wrong: WrongSetting) -> StartError {
    let secrets = &config.bus.librdkafka_secrets;
    let is_secret = (wrong.key.as_ref()).is_some_and(|key| secrets.contains_key(key));
    let table = match is_secret {
        true => "bus.librdkafka_secrets",
        false => "bus.librdkafka",
    };
    let key = wrong.key.map(|key| format!("{table}.\"{key}\""));
    let mut errors = crate::config::ConfigErrors::default();
    errors.push(
        config.origin(table),
        key.unwrap_or(table.to_owned()),
        wrong.why,
    );
    StartError::Config(errors)
}

/// Where the topics are and how they have to be.
#[cfg(feature = "kafka")]
pub fn settings(config: &Config) -> Result<Settings, StartError> {
    use crate::bus::kafka::Unsafe;
    use crate::channels::read_secret;
    use crate::config::{GroupProtocol, UnsafeTopic};
    use secrecy::ExposeSecret;

    let bus = &config.bus;
    let accepted = |one: &UnsafeTopic| match one {
        UnsafeTopic::OneInSyncReplica => Unsafe::OneInSyncReplica,
        UnsafeTopic::UncleanElection => Unsafe::UncleanElection,
        UnsafeTopic::ShortRetention => Unsafe::ShortRetention,
        UnsafeTopic::LongRetention => Unsafe::LongRetention,
        UnsafeTopic::SizeRetention => Unsafe::SizeRetention,
        UnsafeTopic::Compaction => Unsafe::Compaction,
    };
    let passed = bus.librdkafka.iter();
    let mut librdkafka: std::collections::BTreeMap<String, String> = passed
        .map(|(key, value)| (key.clone(), value.to_string()))
        .collect();
    for (key, secret) in &bus.librdkafka_secrets {
        let secret = read_secret(secret)
            .map_err(|error| StartError::Other(format!("bus.librdkafka_secrets.{key}: {error}")))?;
        librdkafka.insert(key.clone(), secret.expose_secret().to_owned());
    }
    Ok(Settings {
        brokers: bus.brokers.join(","),
        prefix: bus.prefix.clone(),
        partitions: bus.partitions,
        replication: bus.replication,
        retention: config.retention.bus,
        brokers_share_out: bus.group_protocol == GroupProtocol::Consumer,
        accepted: bus.accept_unsafe.iter().map(accepted).collect(),
        librdkafka,
        check_topic: true,
    })
}

/// A build without it refuses the configuration before this.
#[cfg(not(feature = "kafka"))]
pub fn kafka(_: &Config, _: Arc<dyn Partitions>, _: Blobs) -> Result<Arc<dyn Bus>, StartError> {
    let reason = "kafka is not built into this binary: it is the feature \"kafka\"";
    Err(StartError::Other(reason.to_owned()))
}
