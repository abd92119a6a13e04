//! Certificates from an authority of its own, so that TLS is checked as in real life.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use connector_api::Clock;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType, date_time_ymd,
};
use switchboard::api::tls::{Certificates, TlsFiles};
use switchboard::clock::SystemClock;

pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// What clients must trust.
    pub pem: String,
}

/// A certificate with its issuer, and its key.
pub struct Made {
    pub cert: String,
    pub key: String,
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "switchboard test authority");
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Self { issuer, pem }
    }

    /// One for this machine's loopback, valid until the first day of that year.
    pub fn make(&self, until: i32) -> Made {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let loopback = SanType::IpAddress(std::net::Ipv4Addr::LOCALHOST.into());
        params.subject_alt_names.push(loopback);
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        Made {
            cert: format!("{}{}", cert.pem(), self.pem),
            key: key.serialize_pem(),
        }
    }
}

impl Made {
    /// As renewal programs do it: new files take the places of the old ones.
    pub fn put(&self, dir: &Path) {
        for (name, content) in [("cert.pem", &self.cert), ("key.pem", &self.key)] {
            fs::write(dir.join("new"), content).unwrap();
            fs::rename(dir.join("new"), dir.join(name)).unwrap();
        }
    }

    /// As a listener has it, in files of its own.
    pub fn open(&self) -> (tempfile::TempDir, Arc<Certificates>) {
        let dir = tempfile::tempdir().unwrap();
        self.put(dir.path());
        let files = TlsFiles {
            cert: dir.path().join("cert.pem"),
            key: dir.path().join("key.pem"),
        };
        let opened = Certificates::open(files, SystemClock.now()).unwrap();
        (dir, opened)
    }
}
