//! What operators are told of a channel that does not work: which server, where, in its own words,
//! and which key to change.

use std::net::SocketAddr;
use std::sync::Arc;

use connector_api::{BrandId, BuildContext, Check, Connector, Health};
use connector_testkit::{FakeProvider as _, FixedClock, LoopbackHttp, StaticSecrets};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::fake_mail::FakeMail;
use crate::fake_smtp::Fault;

fn build(config: Value, secrets: Vec<(String, String)>) -> Box<dyn Connector> {
    let context = BuildContext::new(
        "support-mail".parse().unwrap(),
        BrandId::default(),
        Arc::<FixedClock>::default(),
        Arc::new(LoopbackHttp::new()),
        Arc::new(StaticSecrets::new(secrets)),
    );
    (connector_email::REGISTRATION.build)(config, context).unwrap()
}

fn channel(fake: &FakeMail, spoil: impl FnOnce(&mut Value)) -> Box<dyn Connector> {
    let mut config = fake.config();
    spoil(&mut config);
    build(config, fake.secrets())
}

/// `state what: detail`, with the servers' addresses as `IMAP` and `SMTP`.
fn shown(fake: &FakeMail, checks: &[Check]) -> Vec<String> {
    let line = |check: &Check| {
        let line = format!(
            "{} {}: {}",
            check.health.as_str(),
            check.what,
            check.detail()
        );
        line.replace(&fake.imap.address.to_string(), "IMAP")
            .replace(&fake.smtp.address.to_string(), "SMTP")
    };
    checks.iter().map(line).collect()
}

#[tokio::test]
async fn each_server_is_tried_and_named_and_quoted_by_itself() {
    let fake = FakeMail::start().await;
    let connector = channel(&fake, |_| {});
    let well = [
        "ready imap IMAP: signed in, INBOX open",
        "ready smtp SMTP: signed in",
    ];
    assert_eq!(shown(&fake, &connector.check().await), well);
    let no = "535 5.7.8 Error: authentication failed";
    fake.smtp.fail_next(Fault::Answer("AUTH", no.to_owned()));
    let refused = "smtp SMTP: the server refused the login of support@shop.example: 535 5.7.8 Error: authentication failed";
    assert_eq!(
        shown(&fake, &connector.check().await),
        [well[0], &format!("unauthorized {refused}")]
    );
    fake.smtp.fail_next(Fault::Answer("AUTH", no.to_owned()));
    let Health::Unauthorized { reason } = connector.health().await else {
        panic!("a refused login is unauthorized");
    };
    let reason = reason.replace(&fake.smtp.address.to_string(), "SMTP");
    assert_eq!(reason, refused, "health says which server, too");

    fake.imap.set(|options| options.logins_refused = 1);
    let both = shown(&fake, &connector.check().await);
    assert!(both[0].starts_with(
        "unauthorized imap IMAP: the server refused the login of support@shop.example: "
    ));
    assert_eq!(both[1], well[1], "the one does not hide the other");
    let closed = connector_testkit::closed_address().port();
    let away = channel(&fake, |config| config["smtp"]["port"] = json!(closed));
    let said = shown(&fake, &away.check().await);
    assert_eq!(
        said[1],
        format!("unreachable smtp 127.0.0.1:{closed}: cannot connect: connection refused")
    );
    // Nobody logs in: nothing more was proven than that it answers.
    let open = channel(&fake, |config| {
        let smtp = config["smtp"].as_object_mut().unwrap();
        smtp.remove("user");
        smtp.remove("password");
    });
    let said = shown(&fake, &open.check().await);
    assert_eq!(
        said[1],
        "ready smtp SMTP: it answers; no login is configured"
    );
}

#[tokio::test]
async fn a_server_that_repeats_the_password_is_not_quoted() {
    let fake = FakeMail::start().await;
    let connector = channel(&fake, |_| {});
    let secrets = fake.secrets();
    let (_, password) = secrets
        .iter()
        .find(|(name, _)| name == "SMTP_PASSWORD")
        .unwrap();
    let words = format!("535 no such user or password {password}");
    fake.smtp.fail_next(Fault::Answer("AUTH", words));
    let said = shown(&fake, &connector.check().await);
    assert!(
        said[1].ends_with(
            "the server refused the login of support@shop.example: 535 (its words repeat the login and are not shown)"
        ),
        "{said:?}"
    );
}

/// How a server speaks: in the clear from the first byte, or with TLS by that certificate.
enum Speaks {
    Plain(&'static str),
    /// Waits for the client's first word.
    Nothing,
    Tls(Box<TlsAcceptor>),
}

async fn server(speaks: Speaks) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let speaks = Arc::new(speaks);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(speak(stream, speaks.clone()));
        }
    });
    address
}

async fn speak(mut stream: TcpStream, speaks: Arc<Speaks>) {
    match speaks.as_ref() {
        Speaks::Plain(greeting) => {
            stream.write_all(greeting.as_bytes()).await.ok();
            let mut lines = BufReader::new(&mut stream).lines();
            while let Ok(Some(_)) = lines.next_line().await {}
        }
        Speaks::Nothing => {
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await.ok();
        }
        Speaks::Tls(acceptor) => {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                stream.write_all(b"* OK ready\r\n").await.ok();
            }
        }
    }
}

/// An authority, and a server with a certificate that it signed.
fn tls(name: &str, year: i32) -> (String, Speaks) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(year, 1, 1);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    (pem, Speaks::Tls(Box::new(acceptor)))
}

/// What is said of an IMAP and an SMTP server that speak so, with that `tls`.
async fn check_tls(speaks: Speaks, tls: &str, ca: Option<&str>, expected: [&str; 2]) {
    let address = server(speaks).await;
    let dir = tempfile::tempdir().unwrap();
    let ca_file = ca.map(|pem| {
        let path = dir.path().join("ca.pem");
        std::fs::write(&path, pem).unwrap();
        path
    });
    let one = json!({
        "host": "localhost", "port": address.port(), "tls": tls, "user": "support",
        "password": { "env": "PASSWORD" },
    });
    let config = json!({
        "address": "support@shop.example", "imap": one, "smtp": one, "ca_file": ca_file,
        "timeout": "1s",
    });
    let secrets = vec![("PASSWORD".to_owned(), "a-password".to_owned())];
    let checks = build(config, secrets).check().await;
    let port = format!(" {}", address.port());
    for (check, expected) in checks.iter().zip(expected) {
        assert!(
            matches!(check.health, Health::Unreachable { .. }),
            "{check:?}"
        );
        let detail = check.detail().replace(&port, " PORT");
        assert_eq!(detail, expected, "{tls}");
        assert!(
            !detail.contains("InvalidContentType"),
            "rustls' own words: {detail}"
        );
    }
}

#[tokio::test]
async fn a_tls_setting_that_does_not_fit_the_port_is_named() {
    check_tls(
        Speaks::Plain("220 mx ESMTP\r\n"),
        "implicit",
        None,
        [
            "cannot begin TLS: it does not begin with TLS on port PORT: write imap.tls = \"starttls\", \
             or the port on which it does (usually 993)",
            "cannot begin TLS: it does not begin with TLS on port PORT: write smtp.tls = \"starttls\", \
             or the port on which it does (usually 465)",
        ],
    )
    .await;
    check_tls(
        Speaks::Nothing,
        "starttls",
        None,
        [
            "cannot connect: no greeting in time; if it speaks TLS from the first byte, as servers do \
             on port 993, write imap.tls = \"implicit\"",
            "cannot connect: no greeting in time; if it speaks TLS from the first byte, as servers do \
             on port 465, write smtp.tls = \"implicit\"",
        ],
    )
    .await;
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_says_what_is_wrong_with_it_and_where_to_write_it() {
    let (_, speaks) = tls("localhost", 2100);
    let unknown = |key: &str| {
        format!(
            "cannot begin TLS: its certificate is signed by nobody that is trusted here: if the server \
             is your own, write ca_file = \"/path/to/its/authority.pem\" in the channel's table, beside \
             {key}"
        )
    };
    let unknown = [unknown("imap"), unknown("smtp")];
    check_tls(speaks, "implicit", None, [&unknown[0], &unknown[1]]).await;
    let (ca, speaks) = tls("mx.elsewhere.example", 2100);
    let name = |key: &str| {
        format!(
            "cannot begin TLS: its certificate is for mx.elsewhere.example, not for localhost: write \
             a name that is in it as {key}.host"
        )
    };
    let names = [name("imap"), name("smtp")];
    check_tls(speaks, "implicit", Some(&ca), [&names[0], &names[1]]).await;
    let (ca, speaks) = tls("localhost", 2021);
    let expired = "cannot begin TLS: its certificate is past its time: the server needs a new one (or \
                   this machine's clock is wrong)";
    check_tls(speaks, "implicit", Some(&ca), [expired, expired]).await;
}

#[test]
fn a_port_that_contradicts_its_tls_setting_is_warned_of_and_decides_it_where_there_is_none() {
    let warnings = |imap: Value, smtp: Value| {
        let server = |more: Value| {
            let mut server =
                json!({ "host": "mx.shop.example", "password": { "env": "PASSWORD" } });
            let more = more.as_object().unwrap().clone();
            server.as_object_mut().unwrap().extend(more);
            server
        };
        let config = json!({
            "address": "support@shop.example", "imap": server(imap), "smtp": server(smtp),
        });
        let secrets = vec![("PASSWORD".to_owned(), "a-password".to_owned())];
        build(config, secrets).warnings()
    };
    let user = json!({ "user": "support" });
    for (imap, smtp) in [
        (json!({}), user.clone()),
        (
            json!({ "port": 143 }),
            json!({ "user": "support", "port": 587 }),
        ),
        (
            json!({ "port": 143, "tls": "starttls" }),
            json!({ "user": "support", "port": 25 }),
        ),
        (
            json!({ "port": 10143, "tls": "implicit" }),
            json!({ "user": "support", "port": 465 }),
        ),
        (
            json!({ "host": "127.0.0.1", "port": 143, "tls": "none" }),
            json!({ "user": "support", "host": "127.0.0.1", "port": 25, "tls": "none" }),
        ),
    ] {
        assert_eq!(
            warnings(imap.clone(), smtp.clone()),
            [""; 0],
            "{imap} {smtp}"
        );
    }
    let said = warnings(
        json!({ "port": 993, "tls": "starttls" }),
        json!({ "user": "support", "port": 587, "tls": "implicit" }),
    );
    assert_eq!(
        said,
        [
            "imap.tls = \"starttls\" and imap.port = 993 contradict each other: servers expect \
             \"implicit\" there",
            "smtp.tls = \"implicit\" and smtp.port = 587 contradict each other: servers expect \
             \"starttls\" there",
        ]
    );
}
