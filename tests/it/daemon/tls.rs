//! The daemon with a certificate of its own: renewed under open connections, and broken.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;

use super::process::{Installation, PATIENCE, chat_config, json_of};
use crate::peers::wait_until;
use crate::support::Authority;

const TLS: &str = "[server]\ntls = { cert = \"{dir}/cert.pem\", key = \"{dir}/key.pem\" }\n";

fn config() -> String {
    format!("{TLS}{}", chat_config("http://127.0.0.1:9/"))
}

fn start(authority: &Authority) -> Installation {
    let daemon = Installation::new(&config()).over_tls(&authority.pem);
    authority.make(2100).put(daemon.dir.path());
    daemon.run();
    daemon
}

type Connection = StreamOwned<ClientConnection, TcpStream>;

fn connect(daemon: &Installation, authority: &Authority) -> Connection {
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap();
    roots.add(root).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let session = ClientConnection::new(Arc::new(config), name).unwrap();
    let stream = TcpStream::connect(&daemon.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut connection = StreamOwned::new(session, stream);
    ask(&mut connection);
    connection
}

/// One request on a connection that stays open.
fn ask(connection: &mut Connection) {
    let request = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n";
    connection.write_all(request).unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"}") {
        let mut bytes = [0; 1024];
        let read = connection.read(&mut bytes).unwrap();
        assert!(read > 0, "closed after {answer:?}");
        answer.extend_from_slice(&bytes[..read]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{answer:?}");
}

/// The certificate that a new connection is shown.
fn shown(daemon: &Installation, authority: &Authority) -> Vec<u8> {
    let connection = connect(daemon, authority);
    let certificates = connection.conn.peer_certificates().unwrap();
    certificates[0].to_vec()
}

fn tls_state(daemon: &Installation) -> Value {
    let answer = daemon.http.get(daemon.url("/readyz")).send().unwrap();
    json_of(answer)["states"]["tls"].clone()
}

#[test]
fn a_renewed_certificate_is_shown_to_new_connections_and_open_ones_go_on() {
    let authority = Authority::new();
    let daemon = start(&authority);
    let first = shown(&daemon, &authority);
    let mut open = connect(&daemon, &authority);
    assert_eq!(tls_state(&daemon)["state"], "ready");

    // The certificate without its key: the pair before it stays, and it is said.
    let renewed = authority.make(2101);
    let half = daemon.dir.path().join("cert.pem");
    fs::write(&half, &renewed.cert).unwrap();
    wait_until("the broken pair to be said", PATIENCE, || {
        tls_state(&daemon)["state"] == "degraded"
    });
    let reason = tls_state(&daemon)["reason"].to_string();
    assert!(reason.contains("does not fit the certificate"), "{reason}");
    assert_eq!(shown(&daemon, &authority), first);

    renewed.put(daemon.dir.path());
    wait_until("the renewed certificate", PATIENCE, || {
        shown(&daemon, &authority) != first
    });
    wait_until("the state to be well again", PATIENCE, || {
        tls_state(&daemon)["state"] == "ready"
    });
    ask(&mut open);
    assert!(daemon.terminate());
}

#[test]
fn a_certificate_that_cannot_be_used_is_a_mistake_in_the_configuration() {
    let authority = Authority::new();
    let daemon = Installation::new(&config());
    let dir = daemon.dir.path().to_owned();
    let good = authority.make(2100);
    let check = |key: &str, reason: &str| {
        for command in ["check-config", "run"] {
            let output = daemon.command(&[command]);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(78), "{command}: {said}");
            assert!(said.contains(key) && said.contains(reason), "{said}");
            assert!(
                said.contains("switchboard.toml:2"),
                "it names the line: {said}"
            );
        }
    };
    check("server.tls.cert", "No such file");
    good.put(&dir);
    fs::write(dir.join("key.pem"), authority.make(2100).key).unwrap();
    check("server.tls.key", "does not fit the certificate");
    fs::write(dir.join("key.pem"), "nothing").unwrap();
    check("server.tls.key", "holds no private key");
    fs::write(dir.join("cert.pem"), "nothing").unwrap();
    check("server.tls.cert", "holds no certificate");
    let (half, _) = good.cert.split_once("-----END").unwrap();
    fs::write(dir.join("cert.pem"), half).unwrap();
    check(
        "server.tls.cert",
        "its end is missing (-----END CERTIFICATE-----)",
    );
    authority.make(2021).put(&dir);
    check("server.tls.cert", "expired at 2021-01-01");
    good.put(&dir);
    assert!(daemon.command(&["check-config"]).status.success());
}

#[test]
fn commands_reach_a_daemon_over_tls_by_its_own_certificate() {
    let authority = Authority::new();
    let daemon = Installation::new("").over_tls(&authority.pem);
    daemon.write_config(&config().replace(
        "[server]\n",
        &format!("[server]\nlisten = \"{}\"\n", daemon.address),
    ));
    authority.make(2100).put(daemon.dir.path());
    daemon.run();
    let said = daemon.command(&["send", "shop-chat", "--from", "cust-7", "Hello?"]);
    let error = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.status.success(), "{error}");
    // Somebody else's certificate in its place: it is not the daemon that is meant.
    let other = Authority::new().make(2100);
    let kept = fs::read(daemon.dir.path().join("cert.pem")).unwrap();
    fs::write(daemon.dir.path().join("cert.pem"), &other.cert).unwrap();
    fs::write(daemon.dir.path().join("key.pem"), "").unwrap();
    let said = daemon.command(&["send", "shop-chat", "--from", "cust-7", "Hello?"]);
    assert!(!said.status.success());
    fs::write(daemon.dir.path().join("cert.pem"), kept).unwrap();
}
