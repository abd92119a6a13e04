//! A certificate for `localhost` and 127.0.0.1 from an authority of its own, so that TLS is checked as in real life.

use std::path::{Path, PathBuf};
use std::process::Command;

#[derive(Debug, Clone)]
pub struct Certificate {
    /// What a client must trust.
    pub authority: PathBuf,
    pub chain: PathBuf,
    pub key: PathBuf,
}

/// Makes one with the openssl program, which Dovecot's packages bring.
pub fn make(directory: &Path) -> Certificate {
    let settings = directory.join("openssl.cnf");
    std::fs::write(&settings, SETTINGS).expect("a file in a fresh directory");
    let certificate = Certificate {
        authority: directory.join("authority.pem"),
        chain: directory.join("chain.pem"),
        key: directory.join("key.pem"),
    };
    let authority_key = directory.join("authority-key.pem");
    request(
        &settings,
        "authority",
        &certificate.authority,
        &authority_key,
        None,
    );
    let issuer = Some((certificate.authority.as_path(), authority_key.as_path()));
    request(
        &settings,
        "server",
        &certificate.chain,
        &certificate.key,
        issuer,
    );
    certificate
}

fn request(
    settings: &Path,
    kind: &str,
    certificate: &Path,
    key: &Path,
    issuer: Option<(&Path, &Path)>,
) {
    let mut command = Command::new("openssl");
    command
        .args(["req", "-x509", "-nodes", "-days", "2"])
        .args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args([
            "-subj",
            &format!("/CN=switchboard test {kind}"),
            "-extensions",
            kind,
        ])
        .arg("-config")
        .arg(settings)
        .arg("-out")
        .arg(certificate)
        .arg("-keyout")
        .arg(key);
    if let Some((issuer, issuer_key)) = issuer {
        command.arg("-CA").arg(issuer).arg("-CAkey").arg(issuer_key);
    }
    let output = command.output().expect("openssl is installed with Dovecot");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cannot make a certificate: {said}");
}

const SETTINGS: &str = "\
[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[server]
basicConstraints = CA:FALSE
subjectAltName = DNS:localhost, IP:127.0.0.1
";
