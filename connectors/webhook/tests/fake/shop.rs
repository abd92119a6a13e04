//! A shop with a chat: signs what its customer says, keeps what Switchboard delivers.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use connector_api::{DeliveryStage, ExposeSecret as _, Registration, WebhookRequest, async_trait};
use connector_testkit::{
    Delivered, DeliveredAttachment, FakeProvider, Fault, NOW_SECONDS, Side, closed_address,
};
use connector_webhook::{SigningKey, signed_headers};
use serde_json::{Value, json};

const SECRET: &str = "whsec_Q29uZm9ybWFuY2VTZWNyZXRPZlRoZVNob3A=";
const ADA: &str = "cust-7";

pub struct FakeShop {
    address: SocketAddr,
    idempotent: bool,
    chat: Arc<Mutex<Chat>>,
    deliveries: AtomicUsize,
}

#[derive(Default)]
struct Chat {
    /// What the shop has said to Switchboard, in order; an event's id is its place.
    events: Vec<Value>,
    delivered: Vec<(String, Delivered)>,
    attempts: usize,
    faults: VecDeque<Fault>,
    remembers_ids: bool,
}

impl FakeShop {
    pub async fn start(idempotent: bool) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let chat = Arc::new(Mutex::new(Chat {
            remembers_ids: idempotent,
            ..Chat::default()
        }));
        let app = Router::new()
            .route("/chat", post(take))
            .layer(DefaultBodyLimit::disable())
            .with_state(Arc::clone(&chat));
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self {
            address,
            idempotent,
            chat,
            deliveries: AtomicUsize::default(),
        }
    }

    fn config_at(&self, address: SocketAddr) -> Value {
        json!({
            "secrets": [{ "env": "SHOP_SECRET" }],
            "token": { "env": "SHOP_TOKEN" },
            "deliver_url": format!("http://{address}/chat"),
            "deliver_secret": { "env": "DELIVER_SECRET" },
            "idempotent_receiver": self.idempotent,
            "deliver_timeout": "5s",
        })
    }

    fn says(&self, mut event: Value) -> String {
        let mut chat = self.chat.lock().unwrap();
        let id = chat.events.len().to_string();
        event["id"] = json!(id);
        event["sent_at"] = json!("2026-01-05T08:59:30Z");
        chat.events.push(event);
        id
    }
}

/// The shop's endpoint: checks the signature as any Standard Webhooks receiver does.
async fn take(State(chat): State<Arc<Mutex<Chat>>>, headers: HeaderMap, body: Bytes) -> Response {
    let mut chat = chat.lock().unwrap();
    chat.attempts += 1;
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    let key = SigningKey::new("another secret, for replies").unwrap();
    let timestamp: i64 = header("webhook-timestamp").parse().unwrap();
    let expected = key.sign(&header("webhook-id"), timestamp, &body);
    if header("webhook-signature") != expected || timestamp < NOW_SECONDS {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let fault = chat.faults.pop_front();
    match &fault {
        Some(Fault::RateLimit { retry_after }) => {
            let seconds = retry_after.as_secs().to_string();
            return (StatusCode::TOO_MANY_REQUESTS, [("retry-after", seconds)]).into_response();
        }
        Some(Fault::ServerError) => return StatusCode::BAD_GATEWAY.into_response(),
        Some(Fault::RejectCredentials) => return StatusCode::FORBIDDEN.into_response(),
        Some(Fault::Refuse { reason }) => {
            let body = axum::Json(json!({ "error": reason }));
            return (StatusCode::UNPROCESSABLE_ENTITY, body).into_response();
        }
        Some(Fault::DropAfterAccept | Fault::Garbage) | None => {}
        Some(Fault::RefuseRecipient { .. }) => panic!("a reply has one recipient"),
    }
    let id = chat.keep(&header("webhook-id"), &body);
    match fault {
        Some(Fault::DropAfterAccept) => {
            drop(chat);
            // Unwinding ends the connection without an answer.
            std::panic::resume_unwind(Box::new("the shop fell over"))
        }
        Some(_) => "<html>thank you".into_response(),
        None => axum::Json(json!({ "id": id })).into_response(),
    }
}

impl Chat {
    /// Takes a message once where the shop remembers ids, and answers with the shop's own id.
    fn keep(&mut self, webhook_id: &str, body: &[u8]) -> String {
        let known = self.delivered.iter().find(|(id, _)| id == webhook_id);
        if let Some((_, known)) = known.filter(|_| self.remembers_ids) {
            return known.provider_id.clone();
        }
        let message: Value = serde_json::from_slice(body).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let attachments = message["attachments"].as_array().unwrap();
        let delivered = Delivered {
            provider_id: format!("shop-{}", self.delivered.len()),
            to: vec![text(&message["to"]["id"])],
            thread: message["thread"].as_str().map(str::to_owned),
            text: text(&message["text"]),
            html: message["html"].as_str().map(str::to_owned),
            seen: Vec::new(),
            attachments: attachments
                .iter()
                .map(|file| DeliveredAttachment {
                    name: text(&file["name"]),
                    content_type: text(&file["content_type"]),
                    content_id: file["content_id"].as_str().map(str::to_owned),
                    bytes: STANDARD.decode(text(&file["base64"])).unwrap().into(),
                })
                .collect(),
        };
        let id = delivered.provider_id.clone();
        self.delivered.push((webhook_id.to_owned(), delivered));
        id
    }
}

#[async_trait]
impl FakeProvider for FakeShop {
    fn registration(&self) -> Registration {
        connector_webhook::REGISTRATION
    }

    fn config(&self) -> Value {
        self.config_at(self.address)
    }

    fn unreachable_config(&self) -> Value {
        self.config_at(closed_address())
    }

    fn secrets(&self) -> Vec<(String, String)> {
        [
            ("SHOP_SECRET", SECRET),
            ("SHOP_TOKEN", "a-token-for-those-who-cannot-sign"),
            ("DELIVER_SECRET", "another secret, for replies"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }

    async fn customer_says(&self, text: &str) -> String {
        let from = json!({ "id": ADA, "name": "Ada", "email": "Ada@Shop.Example" });
        self.says(json!({ "type": "message", "thread": "t-1", "from": from, "text": text }))
    }

    async fn customer_answers(&self, sent: &Delivered, text: &str) -> String {
        let from = json!({ "id": sent.to[0] });
        let thread = &sent.thread;
        self.says(
            json!({ "type": "message", "thread": thread, "from": from, "text": text,
            "reply_to": sent.provider_id }),
        )
    }

    fn webhook_for(&self, id: &str) -> WebhookRequest {
        let body = self.chat.lock().unwrap().events[id.parse::<usize>().unwrap()].to_string();
        let key = SigningKey::new(SECRET).unwrap();
        // Every delivery has an id of its own: it authenticates and is never the dedupe key.
        let delivery = format!(
            "delivery-{}",
            self.deliveries.fetch_add(1, Ordering::Relaxed)
        );
        let headers = signed_headers(&key, &delivery, NOW_SECONDS, body.as_bytes());
        let headers = headers
            .iter()
            .map(|(name, value)| (name, value.expose_secret().to_owned()));
        connector_testkit::post(headers, body)
    }

    async fn delivered(&self) -> Vec<Delivered> {
        let chat = self.chat.lock().unwrap();
        chat.delivered
            .iter()
            .map(|(_, message)| message.clone())
            .collect()
    }

    async fn send_attempts(&self) -> usize {
        self.chat.lock().unwrap().attempts
    }

    async fn fail_next(&self, side: Side, fault: Fault) {
        assert_eq!(side, Side::Send, "a shop is not fetched from");
        self.chat.lock().unwrap().faults.push_back(fault);
    }

    async fn reports(&self, sent: &Delivered, stage: DeliveryStage) -> String {
        self.says(json!({ "type": "receipt", "target": sent.provider_id, "stage": stage }))
    }
}
