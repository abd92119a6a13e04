//! The bus that is configured.

use std::sync::Arc;

use crate::blobs::Blobs;
use crate::bus::Bus;
#[cfg(feature = "kafka")]
use crate::bus::kafka::{KafkaBus, Security, Settings, WrongSetting};
use crate::config::Config;
use crate::store::partitions::Partitions;

use super::StartError;

/// The bus on Kafka. It need not be there yet.
#[cfg(feature = "kafka")]
#[cfg_attr(
    not(feature = "postgres"),
    expect(dead_code, reason = "positions are in a store that processes share")
)]
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
    let security = security(config)?;
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
        security,
        librdkafka,
        check_topic: true,
        overheard: Default::default(),
    })
}

/// Its files are read here, so that what is wrong with one is said by the name of its key; all of it at once.
#[cfg(feature = "kafka")]
fn security(config: &Config) -> Result<Security, StartError> {
    use crate::bus::kafka::{Sasl, Tls, Tokens};
    use crate::channels::read_secret;
    use crate::config::{BusTls, Sasl as Named};

    let bus = &config.bus;
    let mut errors = crate::config::ConfigErrors::default();
    for (key, file, what) in [
        ("bus.ca_file", &bus.ca_file, "CERTIFICATE"),
        ("bus.cert_file", &bus.cert_file, "CERTIFICATE"),
        ("bus.key_file", &bus.key_file, "PRIVATE KEY"),
        ("bus.token_ca_file", &bus.token_ca_file, "CERTIFICATE"),
    ] {
        if let Some(wrong) = file.as_deref().and_then(|file| not_pem(file, what)) {
            errors.push(config.origin(key), key.to_owned(), wrong);
        }
    }
    let mut read = |key: &str, secret: &Option<connector_api::SecretRef>| {
        let secret = secret.as_ref().map(read_secret).transpose();
        secret.unwrap_or_else(|error| {
            errors.push(config.origin(key), key.to_owned(), error.to_string());
            None
        })
    };
    let password = read("bus.password", &bus.password);
    let client_secret = read("bus.client_secret", &bus.client_secret);
    if errors.iter().next().is_some() {
        return Err(StartError::Config(errors));
    }
    let by_password = |mechanism| Sasl::Password {
        mechanism,
        username: bus.username.clone().unwrap_or_default(),
        password: password.unwrap_or_default(),
    };
    Ok(Security {
        tls: (bus.tls == Some(BusTls::On)).then(|| Tls {
            ca_file: bus.ca_file.clone(),
            own: bus.cert_file.clone().zip(bus.key_file.clone()),
        }),
        sasl: bus.sasl.map(|sasl| match sasl {
            Named::Plain => by_password("PLAIN"),
            Named::ScramSha256 => by_password("SCRAM-SHA-256"),
            Named::ScramSha512 => by_password("SCRAM-SHA-512"),
            Named::OAuthBearer => Sasl::Token(Tokens {
                url: bus.token_url.as_ref().map(ToString::to_string),
                ca_file: bus.token_ca_file.clone(),
                client_id: bus.client_id.clone(),
                client_secret,
                scope: bus.scope.clone(),
            }),
        }),
    })
}

/// What is wrong with a file that should be PEM.
#[cfg(feature = "kafka")]
fn not_pem(file: &std::path::Path, what: &str) -> Option<String> {
    let name = file.display();
    match std::fs::read_to_string(file) {
        Err(error) => Some(format!("{name}: {error}")),
        Ok(text) if text.contains(&format!("{what}-----")) => None,
        Ok(_) => {
            let what = what.to_lowercase();
            Some(format!("{name}: there is no {what} in it, in PEM"))
        }
    }
}

/// A build without it refuses the configuration before this.
#[cfg(not(feature = "kafka"))]
pub fn kafka(_: &Config, _: Arc<dyn Partitions>, _: Blobs) -> Result<Arc<dyn Bus>, StartError> {
    let reason = "kafka is not built into this binary: it is the feature \"kafka\"";
    Err(StartError::Other(reason.to_owned()))
}
