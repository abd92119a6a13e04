//! TLS as a mail client needs it: the public roots, private ones from `ca_file`, names checked.

mod advice;

use std::sync::Arc;

use base64::Engine;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};

pub(crate) use advice::advice;

/// A client that trusts the public roots and the certificates in `extra_pem`.
pub(crate) fn client_config(extra_pem: Option<&str>) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    if let Some(pem) = extra_pem {
        let certificates = certificates(pem);
        if certificates.is_empty() {
            return Err("ca_file holds no certificate".to_owned());
        }
        for certificate in certificates {
            roots
                .add(CertificateDer::from(certificate))
                .map_err(|error| format!("ca_file holds a broken certificate: {error}"))?;
        }
    }
    Ok(with_roots(roots))
}

/// A client that trusts nobody: the stand-in while a configuration is refused.
pub(crate) fn without_roots() -> Arc<ClientConfig> {
    with_roots(RootCertStore::empty())
}

fn with_roots(roots: RootCertStore) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider's default versions are supported by itself")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

fn certificates(pem: &str) -> Vec<Vec<u8>> {
    pem.split("-----BEGIN CERTIFICATE-----")
        .skip(1)
        .filter_map(|block| block.split("-----END CERTIFICATE-----").next())
        .filter_map(|block| {
            let text: String = block.split_whitespace().collect();
            base64::engine::general_purpose::STANDARD.decode(text).ok()
        })
        .collect()
}
