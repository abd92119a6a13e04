//! A broker that asks who one is, shared by the tests that run at a time; and a server that gives tokens for it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::post;
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::Authority;
use crate::peers::kafka::{Allowed, Papers, Secured};

/// Of the broker's user, and of whoever asks for tokens.
pub const PASSWORD: &str = "opens-sesame";

pub struct Guarded {
    pub broker: Secured,
    pub authority: Authority,
    signer: Arc<Signer>,
}

/// The broker, which is started in seconds.
pub fn guarded() -> Arc<Guarded> {
    static RUNNING: Mutex<Weak<Guarded>> = Mutex::new(Weak::new());
    let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    running.upgrade().unwrap_or_else(|| {
        let (authority, signer) = (Authority::new(), Arc::new(Signer::new()));
        let made = authority.make(2090);
        let broker = Secured::start(&Papers {
            cert: &made.cert,
            key: &made.key,
            authority: &authority.pem,
            password: PASSWORD,
            keys: &signer.public(),
        });
        let started = Arc::new(Guarded {
            broker,
            authority,
            signer,
        });
        *running = Arc::downgrade(&started);
        started
    })
}

/// What docs/kafka.md says that a user has to be allowed, on topics by prefix and on the group.
pub fn listed(prefix: &str) -> Vec<Allowed> {
    let document = include_str!("../../../docs/kafka.md");
    let rows = document.lines().filter_map(|line| {
        let mut cells = line.split('|').map(str::trim).skip(1);
        let (what, name, operations) = (cells.next()?, cells.next()?, cells.next()?);
        let what = match what {
            "topic" => "TOPIC",
            "group" => "GROUP",
            _ => return None,
        };
        let name = name.split('`').nth(1)?.replace("<prefix>", prefix);
        Some((what, name, operations))
    });
    let each = rows.flat_map(|(what, name, operations)| {
        operations.split(", ").map(move |operation| Allowed {
            what,
            is_prefix: name.ends_with('.'),
            name: name.clone(),
            operation: operation_of(operation),
        })
    });
    let listed: Vec<Allowed> = each.collect();
    assert!(listed.len() > 5, "docs/kafka.md has the list: {listed:?}");
    listed
}

fn operation_of(name: &str) -> &'static str {
    let known = [
        ("Create", "CREATE"),
        ("Read", "READ"),
        ("Write", "WRITE"),
        ("DescribeConfigs", "DESCRIBE_CONFIGS"),
        ("AlterConfigs", "ALTER_CONFIGS"),
    ];
    let found = known.iter().find(|(known, _)| *known == name);
    found
        .unwrap_or_else(|| panic!("docs/kafka.md has the operation {name:?}"))
        .1
}

/// Signs tokens (ES256).
struct Signer(EcdsaKeyPair);

impl Signer {
    fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    /// As brokers read keys.
    fn public(&self) -> String {
        // 4, x and y.
        let (x, y) = self.0.public_key().as_ref()[1..].split_at(32);
        let [x, y] = [x, y].map(|bytes| BASE64_URL_SAFE_NO_PAD.encode(bytes));
        let key = json!({ "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "one", "x": x, "y": y });
        json!({ "keys": [key] }).to_string()
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "brokers judge tokens by the machine's clock"
    )]
    fn token(&self, seconds: u64) -> String {
        let now = jiff::Timestamp::now().as_second();
        let part = |value: serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let header = part(json!({ "alg": "ES256", "kid": "one", "typ": "JWT" }));
        let claims = json!({ "sub": "switchboard", "scope": "kafka", "iat": now, "exp": now.unsigned_abs() + seconds });
        let signed = format!("{header}.{}", part(claims));
        let signature = self
            .0
            .sign(&SystemRandom::new(), signed.as_bytes())
            .unwrap();
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }
}

/// How long the tokens are good for that nobody waits for the end of.
const LIFE: Duration = Duration::from_secs(600);

/// Gives tokens to whom it knows (RFC 6749, 4.4), over TLS.
pub struct TokenServer {
    pub url: String,
    _runtime: tokio::runtime::Runtime,
}

impl TokenServer {
    pub fn open(broker: &Guarded) -> Self {
        Self::giving(broker, &broker.signer, LIFE)
    }

    /// Its tokens are over soon; the broker takes nothing more of a client then that has no new one.
    pub fn short(broker: &Guarded, life: Duration) -> Self {
        Self::giving(broker, &broker.signer, life)
    }

    /// Its tokens are signed with a key that no broker knows.
    pub fn unknown(broker: &Guarded) -> Self {
        Self::giving(broker, &Arc::new(Signer::new()), LIFE)
    }

    fn giving(broker: &Guarded, signer: &Arc<Signer>, life: Duration) -> Self {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
            .unwrap();
        let url = format!("https://{}/token", listener.local_addr().unwrap());
        let (signer, seconds) = (signer.clone(), life.as_secs());
        let give = move |headers: HeaderMap, body: String| async move {
            let known = format!(
                "Basic {}",
                BASE64_STANDARD.encode(format!("switchboard:{PASSWORD}"))
            );
            let is_known = headers
                .get("authorization")
                .is_some_and(|said| *said == known);
            if !is_known || !body.contains("grant_type=client_credentials") {
                let no = json!({ "error": "invalid_client" });
                return (StatusCode::UNAUTHORIZED, axum::Json(no)).into_response();
            }
            let token = signer.token(seconds);
            axum::Json(
                json!({ "access_token": token, "token_type": "Bearer", "expires_in": seconds }),
            )
            .into_response()
        };
        let app = axum::Router::new().route("/token", post(give));
        let (_files, certificates) = broker.authority.make(2090).open();
        let tls = OverTls(listener, certificates.acceptor().unwrap());
        runtime.spawn(async move { axum::serve(tls, app).await });
        Self {
            url,
            _runtime: runtime,
        }
    }
}

struct OverTls(TcpListener, TlsAcceptor);

impl axum::serve::Listener for OverTls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, address) = self.0.accept().await.unwrap();
            // Who does not believe us goes.
            if let Ok(stream) = self.1.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.0.local_addr()
    }
}
