//! A handshake that failed, in words that say which key to change. rustls names its own states.

use std::io;

use rustls::{AlertDescription, CertificateError, Error};

use crate::config::{Server, Tls};

/// Why there is no TLS with that server, and what to do.
pub(crate) fn advice(server: &Server, error: &io::Error) -> String {
    let key = server.key;
    let inner = error.get_ref().and_then(|inner| {
        let inner: &(dyn std::error::Error + 'static) = inner;
        inner
            .downcast_ref::<Error>()
            .or_else(|| inner.source()?.downcast_ref())
    });
    match inner {
        Some(Error::InvalidCertificate(fault)) => certificate(server, fault),
        // The first bytes were something else: its greeting, in plain text.
        Some(
            Error::InvalidMessage(_)
            | Error::InappropriateMessage { .. }
            | Error::PeerSentOversizedRecord,
        ) => no_tls(server),
        Some(
            Error::PeerIncompatible(_)
            | Error::AlertReceived(
                AlertDescription::ProtocolVersion
                | AlertDescription::HandshakeFailure
                | AlertDescription::InsufficientSecurity,
            ),
        ) => {
            "it has neither TLS 1.2 nor 1.3 with today's ciphers: its operator has to renew its TLS"
                .to_owned()
        }
        Some(Error::AlertReceived(AlertDescription::UnrecognisedName)) => format!(
            "it knows no host {}: write the name that it has as {key}.host",
            server.host
        ),
        Some(other) => format!("the TLS handshake failed: {other}"),
        None if server.tls == Tls::Implicit && error.kind() == io::ErrorKind::UnexpectedEof => {
            format!(
                "it hung up when TLS began: with port {}, is {key}.tls = \"starttls\" meant?",
                server.port
            )
        }
        None => format!("the TLS handshake failed: {}", error.kind()),
    }
}

fn no_tls(server: &Server) -> String {
    let Server { key, port, .. } = server;
    match server.tls {
        Tls::Starttls => {
            "it agreed to STARTTLS, and what came then is no TLS: ask its operator".to_owned()
        }
        _ => format!(
            "it does not begin with TLS on port {port}: write {key}.tls = \"starttls\", or the port \
             on which it does (usually {})",
            if *key == "imap" { 993 } else { 465 }
        ),
    }
}

fn certificate(server: &Server, fault: &CertificateError) -> String {
    let Server { key, host, .. } = server;
    match fault {
        CertificateError::UnknownIssuer => {
            format!(
                "its certificate is signed by nobody that is trusted here: if the server is your own, \
                 write ca_file = \"/path/to/its/authority.pem\" in the channel's table, beside {key}"
            )
        }
        CertificateError::NotValidForName => {
            format!("its certificate is not for {host}: write a name that is in it as {key}.host")
        }
        CertificateError::NotValidForNameContext { presented, .. } => {
            let names: Vec<&str> = presented.iter().take(5).map(|name| bare(name)).collect();
            match names.is_empty() {
                true => format!("its certificate is for no host at all, so not for {host}"),
                false => format!(
                    "its certificate is for {}, not for {host}: write a name that is in it as \
                     {key}.host",
                    names.join(", ")
                ),
            }
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate is past its time: the server needs a new one (or this machine's clock \
             is wrong)"
                .to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet: is this machine's clock right?".to_owned()
        }
        CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
            "its certificate is an authority's: give it one that this authority signed, and name \
             the authority's PEM file in ca_file"
                .to_owned()
        }
        other => format!("its certificate cannot be used: {other}"),
    }
}

/// `DnsName("mx.example.org")`, as webpki shows it.
fn bare(name: &str) -> &str {
    let inner = name.split_once("(\"").map(|(_, rest)| rest);
    let inner = inner.and_then(|rest| rest.strip_suffix("\")"));
    inner.unwrap_or(name)
}
