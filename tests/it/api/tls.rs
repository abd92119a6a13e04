//! The listener over TLS: what it speaks, and how long it waits.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use switchboard::api::Deadlines;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::served::Served;
use crate::support::{Authority, within_patience};

const SOON: Duration = Duration::from_millis(50);

fn connector(
    authority: &Authority,
    version: &'static SupportedProtocolVersion,
    protocols: &[&str],
) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap();
    roots.add(root).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols
        .iter()
        .map(|one| one.as_bytes().to_vec())
        .collect();
    TlsConnector::from(Arc::new(config))
}

#[tokio::test]
async fn it_speaks_tls_1_2_and_1_3_and_http_1_1() {
    let authority = Authority::new();
    let (_dir, certificates) = authority.make(2100).open();
    let acceptor = certificates.acceptor().unwrap();
    let served = Served::over(Some(acceptor), Deadlines::default()).await;
    for version in [&TLS12, &TLS13] {
        for (protocols, chosen) in [(&["h2", "http/1.1"][..], Some("http/1.1")), (&[], None)] {
            let stream = TcpStream::connect(served.address).await.unwrap();
            let name = ServerName::try_from("localhost").unwrap();
            let connector = connector(&authority, version, protocols);
            let mut stream = connector.connect(name, stream).await.unwrap();
            let (_, session) = stream.get_ref();
            assert_eq!(session.alpn_protocol(), chosen.map(str::as_bytes));
            let request = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
            stream.write_all(request).await.unwrap();
            let mut answer = Vec::new();
            let read = within_patience("the answer", stream.read_to_end(&mut answer)).await;
            read.unwrap();
            assert!(answer.starts_with(b"HTTP/1.1 200"), "{version:?}");
        }
    }
}

#[tokio::test]
async fn a_client_that_does_not_speak_tls_in_time_or_at_all_is_closed() {
    let (_dir, certificates) = Authority::new().make(2100).open();
    let deadlines = Deadlines {
        handshake: SOON,
        ..Deadlines::default()
    };
    let served = Served::over(Some(certificates.acceptor().unwrap()), deadlines).await;
    for sent in ["", "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n", "\u{16}\u{3}"] {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // Reset or closed, as it comes; never an answer in the clear.
        drop(within_patience("closing", stream.read_to_end(&mut answer)).await);
        assert!(!answer.starts_with(b"HTTP"), "{sent:?}");
    }
}
