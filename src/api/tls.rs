//! TLS of the listener: a certificate and its key from files, read again when they are renewed.
//! Connections that are open go on with what they began with; a pair that does not fit changes
//! nothing and is a state.

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use connector_api::{CancellationToken, Clock, Timestamp};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use tokio_rustls::TlsAcceptor;
use x509_cert::Certificate;
use x509_cert::der::Decode;

use crate::health::{Health, State};

/// Under which name its state is kept.
pub const HEALTH: &str = "tls";
/// Looked at so often: two calls of stat(2).
pub const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Longest file read, in bytes: a chain of some certificates.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// What is to expire within this time is said; renewal programs act weeks before.
pub const EXPIRY_SOON: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Where a certificate and its key lie, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's own certificate first, then those of its issuers.
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// Why a pair cannot be used, and which of the files is to blame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairError {
    pub is_key: bool,
    pub reason: String,
}

/// A certificate that fits its key.
#[derive(Debug, Clone)]
pub struct Pair {
    certified: Arc<CertifiedKey>,
    /// When it ends.
    pub not_after: Timestamp,
}

impl Pair {
    /// Reads both files; they must fit each other and be valid at `now`.
    pub fn read(files: &TlsFiles, now: Timestamp) -> Result<Self, PairError> {
        let of_cert = |reason: String| PairError {
            is_key: false,
            reason,
        };
        let of_key = |reason: String| PairError {
            is_key: true,
            reason,
        };
        let (cert, key) = (files.cert.display(), files.key.display());
        let pem = read(&files.cert).map_err(of_cert)?;
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&pem)
            .collect::<Result<_, _>>()
            .map_err(|error| {
                of_cert(format!(
                    "{cert} is no PEM of certificates: {}",
                    wrong(&error)
                ))
            })?;
        let Some(own) = chain.first() else {
            return Err(of_cert(format!("{cert} holds no certificate")));
        };
        let (not_before, not_after) = validity(own)
            .ok_or_else(|| of_cert(format!("the certificate in {cert} cannot be read")))?;
        let pem = read(&files.key).map_err(of_key)?;
        let private = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| {
            of_key(format!(
                "{key} holds no private key in PEM: {}",
                wrong(&error)
            ))
        })?;
        let certified = CertifiedKey::from_der(chain, private, &aws_lc_rs::default_provider());
        let certified = certified.map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => of_key(format!(
                "the key in {key} does not fit the certificate in {cert}"
            )),
            other => of_key(format!("the key in {key} cannot be used: {other}")),
        })?;
        if now < not_before {
            let reason = format!("the certificate in {cert} is valid only from {not_before} on");
            return Err(of_cert(reason));
        }
        if now >= not_after {
            let reason = format!("the certificate in {cert} expired at {not_after}: renew it");
            return Err(of_cert(reason));
        }
        Ok(Self {
            certified: Arc::new(certified),
            not_after,
        })
    }

    /// The server's own certificate.
    pub fn own(&self) -> CertificateDer<'static> {
        let own = self.certified.cert.first().cloned();
        own.unwrap_or_else(|| CertificateDer::from(Vec::new()))
    }
}

/// The pair that new connections are met with.
#[derive(Debug)]
pub struct Certificates {
    files: TlsFiles,
    current: RwLock<Current>,
}

#[derive(Debug)]
struct Current {
    pair: Pair,
    stamp: Option<Stamp>,
}

impl Certificates {
    pub fn open(files: TlsFiles, now: Timestamp) -> Result<Arc<Self>, PairError> {
        // Before the reading: what is written meanwhile is read again.
        let stamp = Stamp::of(&files);
        let pair = Pair::read(&files, now)?;
        Ok(Arc::new(Self {
            files,
            current: RwLock::new(Current { pair, stamp }),
        }))
    }

    /// TLS 1.2 and 1.3, HTTP/1.1.
    pub fn acceptor(self: &Arc<Self>) -> Result<TlsAcceptor, rustls::Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    /// Follows the files until `stop`.
    pub async fn follow(
        &self,
        every: Duration,
        clock: &dyn Clock,
        health: &Health,
        stop: &CancellationToken,
    ) {
        let mut broken = None;
        while !stop.is_cancelled() {
            let renewed = self.renew(clock.now());
            // Certificate and key are written one after the other: what is broken once may be
            // half of a renewal.
            let again = broken.is_some();
            broken = renewed.err();
            if broken.is_none() || again {
                health.set(HEALTH, self.state(clock.now(), broken.as_ref()));
            }
            stop.run_until_cancelled(tokio::time::sleep(every)).await;
        }
    }

    /// Takes the files over where they are others; an error keeps what there is.
    fn renew(&self, now: Timestamp) -> Result<(), PairError> {
        let stamp = Stamp::of(&self.files);
        if stamp.is_some() && stamp == self.read().stamp {
            return Ok(());
        }
        let pair = Pair::read(&self.files, now)?;
        tracing::info!(
            until = %pair.not_after,
            "the certificate was renewed, valid until {}", pair.not_after
        );
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        *current = Current { pair, stamp };
        Ok(())
    }

    fn state(&self, now: Timestamp, broken: Option<&PairError>) -> State {
        let until = self.read().pair.not_after;
        let left = until.duration_since(now);
        let reason = match broken {
            Some(broken) => format!(
                "the renewed certificate cannot be used, the one before is: {}",
                broken.reason
            ),
            None if left.is_negative() || left.is_zero() => {
                format!("the certificate expired at {until}: renew it")
            }
            None if left.unsigned_abs() < EXPIRY_SOON => {
                format!("the certificate expires at {until}: renew it")
            }
            None => return State::Ready,
        };
        State::Degraded { reason }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Current> {
        self.current.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.read().pair.certified.clone())
    }
}

/// By what renewed files are told: of each its time of change, its size and its inode.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp([(i64, i64, u64, u64); 2]);

impl Stamp {
    fn of(files: &TlsFiles) -> Option<Self> {
        let of = |path: &Path| {
            let file = fs::metadata(path).ok()?;
            Some((file.mtime(), file.mtime_nsec(), file.size(), file.ino()))
        };
        Some(Self([of(&files.cert)?, of(&files.key)?]))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let shown = path.display();
    let failed = |error: std::io::Error| format!("cannot read {shown}: {error}");
    let file = fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    let mut limited = file.take(FILE_BYTES_MAX + 1);
    limited.read_to_end(&mut bytes).map_err(failed)?;
    match bytes.len() as u64 > FILE_BYTES_MAX {
        true => Err(format!("{shown} is larger than {FILE_BYTES_MAX} bytes")),
        false => Ok(bytes),
    }
}

/// What is wrong with a PEM, in words: the library shows markers as lists of numbers, and lines as
/// they stand, which may be a key's.
fn wrong(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { end_marker } => format!(
            "its end is missing (-----END {}-----): it is written in part only",
            String::from_utf8_lossy(end_marker)
        ),
        pem::Error::IllegalSectionStart { .. } => {
            "a line that begins a section is damaged or cut off".to_owned()
        }
        pem::Error::Base64Decode(_) => "a section is no base64".to_owned(),
        pem::Error::NoItemsFound => "nothing of the kind is in it".to_owned(),
        other => other.to_string(),
    }
}

/// From when until when a certificate is valid.
fn validity(certificate: &CertificateDer<'_>) -> Option<(Timestamp, Timestamp)> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let validity = *certificate.tbs_certificate().validity();
    let time = |time: x509_cert::time::Time| {
        let seconds = i64::try_from(time.to_unix_duration().as_secs()).ok()?;
        // A certificate may say the year 9999; a time that has no place is the last there is.
        Some(Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX))
    };
    Some((time(validity.not_before)?, time(validity.not_after)?))
}
