//! A desk with its API on a socket, and requests to it.

use std::sync::{Arc, Mutex, PoisonError};

use connector_api::{
    CancellationToken, Capabilities, ExposeSecret, WebhookReply, WebhookRequest, async_trait,
};
use metrics_exporter_prometheus::PrometheusBuilder;
use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};
use serde_json::Value;
use switchboard::api::{
    self, ApiState, ChannelFacts, Deadlines, FileLinks, HookAnswer, Hooks, token,
};
use switchboard::health::Health;
use switchboard::ids::{IdCodec, IdKind};
use switchboard::live::Live;
use switchboard::store::{Declared, Token};
use switchboard::wake::Wakes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::support::{Desk, Local, Said, reconciler, senders, within_patience};

/// The cap of webhook bodies here; small, so that exceeding it is quick.
pub const HOOK_BYTES_MAX: usize = 4 * 1024;

/// The cap of all webhook bodies together here.
pub const HOOKS_BYTES_MAX: usize = 2 * HOOK_BYTES_MAX;

/// What `support-mail` carries here.
pub fn mail_carries() -> Capabilities {
    Capabilities {
        send: true,
        html: true,
        subject: true,
        recipients_max: 20,
        starts: true,
        attachment_bytes_max: Some(1_000_000),
        ..Capabilities::default()
    }
}

/// The one origin whose pages may use the API here.
pub const ORIGIN: &str = "https://desk.example";

/// The cap of uploads here.
pub const UPLOAD_BYTES_MAX: u64 = 256 * 1024;

/// Event streams at a time here.
pub const STREAMS_MAX: usize = 3;

/// A desk and its API.
pub struct Served {
    pub desk: Desk,
    pub hooks: Arc<FakeHooks>,
    pub health: Arc<Health>,
    pub queues: Arc<Wakes>,
    pub outbox: Arc<Wakes>,
    pub stop: CancellationToken,
    pub address: std::net::SocketAddr,
    pub server: tokio::task::JoinHandle<()>,
    client: reqwest::Client,
}

impl Served {
    pub async fn new() -> Self {
        Self::with_deadlines(Deadlines::default()).await
    }

    pub async fn with_deadlines(deadlines: Deadlines) -> Self {
        Self::over(None, deadlines).await
    }

    pub async fn over(tls: Option<TlsAcceptor>, deadlines: Deadlines) -> Self {
        Self::on(Arc::new(Local::new()), tls, deadlines).await
    }

    pub async fn on(backend: Arc<Local>, tls: Option<TlsAcceptor>, deadlines: Deadlines) -> Self {
        let desk = Desk::on(backend).await;
        let hooks = Arc::new(FakeHooks::default());
        let (queues, outbox) = (Arc::new(Wakes::default()), Arc::new(Wakes::default()));
        let (health, stop) = (Arc::new(Health::default()), CancellationToken::new());
        let known = ["frontline", "backoffice", "outlet"];
        let state = ApiState {
            served: api::Served {
                api: true,
                hooks: true,
            },
            store: desk.store().clone(),
            ids: desk.keys.ids.clone(),
            clock: desk.clock.clone(),
            queues: queues.clone(),
            outbox: outbox.clone(),
            hooks: hooks.clone(),
            health: health.clone(),
            reconciling: Arc::new(reconciler(&desk, [])),
            metrics: PrometheusBuilder::new().build_recorder().handle(),
            body_bytes_max: HOOK_BYTES_MAX,
            hooks_bytes_max: HOOKS_BYTES_MAX,
            upload_bytes_max: UPLOAD_BYTES_MAX,
            links: FileLinks::new(desk.keys.links.clone(), Some("https://desk.example/")),
            streams_max: STREAMS_MAX,
            cors_origins: vec![ORIGIN.to_owned()],
            blobs: desk.blobs.clone(),
            known_brands: Live::new(vec!["main".parse().unwrap(), "outlet".parse().unwrap()]),
            known_queues: Live::new(known.map(|queue| queue.parse().unwrap()).to_vec()),
            channels: Live::new(vec![ChannelFacts {
                id: "support-mail".parse().unwrap(),
                brand: "main".parse().unwrap(),
                connector: "email".to_owned(),
                can: mail_carries(),
            }]),
            schema_version: switchboard::store::rows::migrations::SCHEMA_VERSION,
            instance: "an-instance".to_owned(),
            stop: stop.clone(),
            deadlines,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(api::serve(listener, tls, state));
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self {
            desk,
            hooks,
            health,
            queues,
            outbox,
            stop,
            address,
            server,
            client,
        }
    }

    /// A token of a role that names an agent, for these queues and brands (none: all).
    pub async fn token(&self, role: &str, agent: &str, queues: &[&str], brands: &[&str]) -> String {
        self.scoped(role, agent, queues, brands, &[]).await
    }

    /// A token of a backend that acts for agents.
    pub async fn backend(&self, role: &str, queues: &[&str]) -> String {
        self.scoped(role, "", queues, &[], &["act_as"]).await
    }

    async fn scoped(
        &self,
        role: &str,
        agent: &str,
        queues: &[&str],
        brands: &[&str],
        scopes: &[&str],
    ) -> String {
        let (secret, hash) = token::mint();
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let new = Token {
            id: 0,
            label: agent.to_owned(),
            role: role.to_owned(),
            agent: (!agent.is_empty()).then(|| agent.to_owned()),
            queues: owned(queues),
            brands: owned(brands),
            scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
            created_at: self.desk.now(),
            revoked_at: None,
        };
        self.desk.store().create_token(hash, new).await.unwrap();
        secret.expose_secret().to_owned()
    }

    /// An agent of everything.
    pub async fn agent(&self, name: &str) -> String {
        self.token("agent", name, &[], &[]).await
    }

    pub async fn supervisor(&self) -> String {
        self.token("supervisor", "sue", &[], &[]).await
    }

    pub async fn revoke(&self, token: &str) {
        let store = self.desk.store();
        let found = store
            .token_by_hash(token::hash(token))
            .await
            .unwrap()
            .unwrap();
        assert!(store.revoke_token(found.id, self.desk.now()).await.unwrap());
    }

    /// Has customers write, routes it, and rings the queues as the router's loop does.
    pub async fn deliver(&mut self, said: impl IntoIterator<Item = Said>) {
        self.desk.deliver(said).await;
        for queue in ["frontline", "backoffice", "outlet"] {
            self.queues.ring(queue);
        }
    }

    pub fn ids(&self) -> &IdCodec {
        &self.desk.keys.ids
    }

    /// Lets `support-mail` and `shop-chat` send, as their connectors say they can.
    pub async fn can_send(&self) {
        let chat = Capabilities {
            send: true,
            ..Capabilities::default()
        };
        let senders = senders([("support-mail", mail_carries()), ("shop-chat", chat)]);
        let store = self.desk.store();
        store
            .set_senders(senders, Declared::default(), self.desk.now())
            .await
            .unwrap();
    }

    /// The public id of the `number`th conversation.
    pub async fn conversation(&self, number: usize) -> String {
        self.ids().encode(
            IdKind::Conversation,
            self.desk.conversation(number).await.id.0,
        )
    }

    pub fn get(&self, token: &str, path: &str) -> Call {
        self.call(Method::GET, token, path)
    }

    pub fn post(&self, token: &str, path: &str) -> Call {
        self.call(Method::POST, token, path)
    }

    pub fn call(&self, method: Method, token: &str, path: &str) -> Call {
        let request = self.client.request(method, self.url(path));
        let request = if token.is_empty() {
            request
        } else {
            request.bearer_auth(token)
        };
        Call {
            request,
            what: path.to_owned(),
        }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn client(&self) -> &reqwest::Client {
        &self.client
    }

    /// Claims at once; what is expected to be there.
    pub async fn claim(&self, token: &str, queue: &str) -> Value {
        self.post(token, &format!("/v1/queues/{queue}/claim"))
            .send()
            .await
            .ok()
    }

    /// A claim that waits, under way: returns once it listens to the queue's bell, which tells by
    /// who holds it.
    pub async fn waiting_claim(
        &self,
        token: &str,
        queue: &str,
        wait: &str,
    ) -> tokio::task::JoinHandle<Answer> {
        let holders = self.holders(queue);
        let call = self.post(token, &format!("/v1/queues/{queue}/claim?wait={wait}"));
        let answer = tokio::spawn(call.send());
        self.until_held(queue, holders + 1).await;
        answer
    }

    pub fn holders(&self, queue: &str) -> usize {
        Arc::strong_count(&self.queues.bell(queue)) - 2
    }

    pub async fn until_held(&self, queue: &str, holders: usize) {
        let reached = async {
            while self.holders(queue) != holders {
                tokio::task::yield_now().await;
            }
        };
        within_patience(
            &format!("having {holders} claims wait for {queue}"),
            reached,
        )
        .await;
    }

    /// Sends bytes as they are and gives the status of the answer, and its text.
    pub async fn raw(&self, request: &[u8]) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        let mut chunk = [0; 4096];
        let reading = async {
            // A connection cut after the answer is as good as one that is closed.
            while let Ok(count @ 1..) = stream.read(&mut chunk).await {
                answer.extend_from_slice(chunk.split_at(count).0);
                if answer.ends_with(b"}") {
                    break;
                }
            }
        };
        within_patience("an answer", reading).await;
        let text = String::from_utf8(answer).unwrap();
        let status = text
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        (
            status.unwrap_or_else(|| panic!("no answer but {text:?}")),
            text,
        )
    }
}

/// A request.
pub struct Call {
    request: reqwest::RequestBuilder,
    what: String,
}

impl Call {
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.request = self.request.header(name, value);
        self
    }

    pub fn key(self, key: &str) -> Self {
        self.header("Idempotency-Key", key)
    }

    pub fn json(mut self, body: &Value) -> Self {
        self.request = self.request.json(body);
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.request = self.request.body(body.into());
        self
    }

    /// Sends it, and checks what holds of every answer.
    pub async fn send(self) -> Answer {
        let sent = within_patience(&self.what, self.request.send()).await;
        let response = sent.unwrap_or_else(|error| panic!("{}: {error}", self.what));
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = response.bytes().await.unwrap();
        let what = format!("{} {status}", self.what);
        for name in [
            "x-content-type-options",
            "content-security-policy",
            "referrer-policy",
        ] {
            assert!(headers.contains_key(name), "{what} lacks {name}");
        }
        assert!(!headers.contains_key("server"), "{what} names its server");
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        if status.is_client_error() || status.is_server_error() {
            assert_eq!(
                headers["content-type"], "application/problem+json",
                "{what}"
            );
            assert_eq!(body["status"], status.as_u16(), "{what}");
            let named = |member: &str| body[member].as_str().is_some_and(|text| !text.is_empty());
            assert!(
                ["type", "title", "detail"].into_iter().all(named),
                "{what}: {body}"
            );
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Answer {
            status,
            headers,
            body,
            text,
            what,
        }
    }
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Value,
    pub text: String,
    what: String,
}

impl Answer {
    /// The body of an answer that should be 200.
    pub fn ok(self) -> Value {
        self.is(200)
    }

    pub fn is(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}: {}", self.what, self.text);
        self.body
    }

    /// The body of a problem that should be this one.
    pub fn problem(self, status: u16, name: &str) -> Value {
        let body = self.is(status);
        assert_eq!(body["type"], format!("/docs#problem-{name}"), "{body}");
        body
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map(|value| value.to_str().unwrap())
            .unwrap_or_default()
    }
}

/// Answers webhooks as told, and remembers what came.
#[derive(Default)]
pub struct FakeHooks {
    pub next: Mutex<Option<HookAnswer>>,
    pub seen: Mutex<Vec<(String, WebhookRequest)>>,
    /// By channel, what its provider may send; nothing of the others.
    pub body_bytes_max: Mutex<std::collections::HashMap<String, u64>>,
}

#[async_trait]
impl Hooks for FakeHooks {
    fn body_bytes_max(&self, channel: &str) -> u64 {
        let known = self.body_bytes_max.lock();
        let known = known.unwrap_or_else(PoisonError::into_inner);
        known.get(channel).copied().unwrap_or(0)
    }

    async fn deliver(&self, channel: &str, request: WebhookRequest) -> HookAnswer {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.push((channel.to_owned(), request));
        let next = self
            .next
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let reply = WebhookReply::json(&serde_json::json!({ "results": [] }));
        next.unwrap_or(HookAnswer::Accepted(reply))
    }
}

/// Text with its public ids numbered as they first occur, for snapshots.
pub fn numbered(value: &Value) -> String {
    const KINDS: [&str; 5] = ["cnv_", "msg_", "con_", "cur_", "att_"];
    let mut known: Vec<String> = Vec::new();
    let text = serde_json::to_string_pretty(value).unwrap();
    let pieces =
        text.split('"').map(
            |piece| match KINDS.iter().find(|kind| piece.starts_with(**kind)) {
                Some(kind) => {
                    let at = known
                        .iter()
                        .position(|known| known == piece)
                        .unwrap_or_else(|| {
                            known.push(piece.to_owned());
                            known.len() - 1
                        });
                    format!("{kind}{}", at + 1)
                }
                None => piece.to_owned(),
            },
        );
    pieces.collect::<Vec<_>>().join("\"")
}
