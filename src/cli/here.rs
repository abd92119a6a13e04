//! HTTP to the daemon of this configuration, on this machine: over TLS its certificate is known
//! from its file, so that its name and issuer need not fit the address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use connector_api::Clock;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

use crate::api::tls::Pair;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::daemon::tls_files;

use super::Failure;

/// A client and the daemon's address.
pub struct Here {
    pub client: reqwest::Client,
    pub base: String,
}

impl Here {
    /// Of the daemon that listens, or would listen, at `address`.
    pub fn of(config: &Config, address: SocketAddr) -> Result<Self, Failure> {
        drop(aws_lc_rs::default_provider().install_default());
        let address = reachable(address);
        let builder = reqwest::Client::builder().no_proxy();
        let Some(files) = tls_files(config) else {
            return Ok(Self {
                client: builder.build().map_err(Failure::new)?,
                base: format!("http://{address}"),
            });
        };
        let pair = Pair::read(&files, SystemClock.now());
        let pair = pair.map_err(|error| Failure::new(error.reason))?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = Known {
            certificate: pair.own(),
            provider: provider.clone(),
        };
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(Failure::new)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        let builder = builder.tls_backend_preconfigured(tls);
        Ok(Self {
            client: builder.build().map_err(Failure::new)?,
            base: format!("https://{address}"),
        })
    }
}

/// "All addresses" is none to connect to.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Believes one certificate, whose key the server must prove to have.
#[derive(Debug)]
struct Known {
    certificate: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Known {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match *end_entity == self.certificate {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(Error::General(
                "it shows another certificate than the configured one".to_owned(),
            )),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}
