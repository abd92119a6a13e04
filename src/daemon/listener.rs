//! The listener's certificate, out of the configuration.

use std::sync::Arc;

use connector_api::Timestamp;

use crate::api::tls::{Certificates, TlsFiles};
use crate::config::{Config, ConfigErrors};

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
