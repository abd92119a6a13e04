//! The listener's certificate: out of the configuration, and followed as it is renewed.

use std::sync::Arc;

use connector_api::{CancellationToken, Clock, Timestamp};
use tokio::task::JoinHandle;

use crate::api::tls::{self, Certificates, TlsFiles};
use crate::config::{Config, ConfigErrors};
use crate::health::Health;

use super::supervise::supervised;

/// The certificate that the configuration names; what is wrong with it is a mistake in there.
pub fn certificates(
    config: &Config,
    now: Timestamp,
) -> Result<Option<Arc<Certificates>>, ConfigErrors> {
    let Some(files) = tls_files(config) else {
        return Ok(None);
    };
    Certificates::open(files, now).map(Some).map_err(|error| {
        let key = match error.is_key {
            true => "server.tls.key",
            false => "server.tls.cert",
        };
        let mut errors = ConfigErrors::default();
        errors.push(config.origin(key), key, error.reason);
        errors
    })
}

/// Where the listener's certificate and key lie.
pub fn tls_files(config: &Config) -> Option<TlsFiles> {
    config.server.tls.as_ref().map(|tls| TlsFiles {
        cert: tls.cert.clone(),
        key: tls.key.clone(),
    })
}

/// Takes renewed files over until `stop`.
pub fn follow(
    certificates: Arc<Certificates>,
    clock: &Arc<dyn Clock>,
    health: &Arc<Health>,
    stop: CancellationToken,
) -> JoinHandle<()> {
    let (clock, told) = (clock.clone(), health.clone());
    let run = move |stop| {
        let (certificates, clock, health) = (certificates.clone(), clock.clone(), told.clone());
        async move {
            let every = tls::LOOK_EVERY;
            certificates
                .follow(every, clock.as_ref(), &health, &stop)
                .await;
        }
    };
    let name = tls::HEALTH.to_owned();
    tokio::spawn(supervised(name, health.clone(), stop, run))
}
