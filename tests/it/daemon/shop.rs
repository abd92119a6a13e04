//! The shop's end of the webhook channel: takes deliveries, once per `webhook-id`, as the
//! contract asks of an idempotent receiver.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::post;
use serde_json::{Value, json};

use super::process::sign;

/// What arrived, by `webhook-id`; and how many times each did.
#[derive(Clone, Default)]
pub struct Received(Arc<Mutex<BTreeMap<String, (Value, usize)>>>);

pub struct Shop {
    pub url: String,
    pub received: Received,
    /// Whether it takes nothing now.
    pub closed: Arc<AtomicBool>,
    /// Whether it takes nothing for now, because it was sent too much.
    pub limited: Arc<AtomicBool>,
    /// Deliveries that it did not take.
    pub refused: Arc<AtomicUsize>,
    _runtime: tokio::runtime::Runtime,
}

impl Shop {
    pub fn open() -> Self {
        let runtime = super::own_runtime();
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
            .unwrap();
        let url = format!("http://{}/deliver", listener.local_addr().unwrap());
        let received = Received::default();
        let (closed, refused) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let limited = Arc::<AtomicBool>::default();
        let door = (closed.clone(), limited.clone(), refused.clone());
        let deliver = move |state, headers, body| async move {
            let (closed, limited, refused) = door;
            if limited.load(Ordering::SeqCst) {
                refused.fetch_add(1, Ordering::SeqCst);
                return (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "1")]).into_response();
            }
            if closed.load(Ordering::SeqCst) {
                refused.fetch_add(1, Ordering::SeqCst);
                return (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "1")]).into_response();
            }
            deliver(state, headers, body).await.into_response()
        };
        let app = Router::new()
            .route("/deliver", post(deliver))
            .with_state(received.clone());
        runtime.spawn(async move { axum::serve(listener, app).await });
        Self {
            url,
            received,
            closed,
            limited,
            refused,
            _runtime: runtime,
        }
    }

    /// How many deliveries it took, repeated ones counted.
    pub fn deliveries(&self) -> usize {
        let received = self.received.0.lock().unwrap();
        received.values().map(|(_, times)| times).sum()
    }

    /// All bodies that it took, once each, oldest first where ids rise.
    pub fn bodies(&self) -> Vec<Value> {
        let received = self.received.0.lock().unwrap();
        received.values().map(|(body, _)| body.clone()).collect()
    }

    /// Texts delivered to each customer, once each.
    pub fn texts(&self) -> Vec<(String, String)> {
        let received = self.received.0.lock().unwrap();
        let text = |body: &Value, at: &str| {
            body.pointer(at)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let mut texts: Vec<_> = received
            .values()
            .map(|(body, _)| (text(body, "/to/id"), text(body, "/text")))
            .collect();
        texts.sort();
        texts
    }
}

async fn deliver(
    State(received): State<Received>,
    headers: HeaderMap,
    body: Bytes,
) -> axum::Json<Value> {
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    let id = header("webhook-id");
    let text = String::from_utf8(body.to_vec()).unwrap();
    let expected = sign(&id, header("webhook-timestamp").parse().unwrap(), &text);
    assert_eq!(
        header("webhook-signature"),
        expected,
        "deliveries are signed"
    );
    let body: Value = serde_json::from_str(&text).unwrap();
    // The shop's own id for it: the same for every delivery of it, and in every test run.
    let word = |at: &str| body.pointer(at).and_then(Value::as_str).unwrap_or_default();
    let shop_id = format!("shop-{}-{}", word("/to/id"), word("/text"));
    let mut received = received.0.lock().unwrap();
    received.entry(id).or_insert((body, 0)).1 += 1;
    axum::Json(json!({ "id": shop_id }))
}
