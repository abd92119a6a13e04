//! Where requests are read: beside everything else while they are small, apart from it when not.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;

use connector_api::{
    Capabilities, Connector, Health, WebhookOutcome, WebhookReply, WebhookRequest, WebhookSource,
    async_trait,
};
use switchboard::api::{HookAnswer, Hooks};
use switchboard::channels::Channel;
use switchboard::inbound::Webhooks;

use crate::support::Desk;

/// Notes on which thread it reads.
#[derive(Default, Clone)]
struct Reader(Arc<Mutex<Vec<ThreadId>>>);

#[async_trait]
impl Connector for Reader {
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    async fn health(&self) -> Health {
        Health::Ready
    }

    fn webhook_source(&self) -> Option<&dyn WebhookSource> {
        Some(self)
    }
}

#[async_trait]
impl WebhookSource for Reader {
    fn verify(&self, request: &WebhookRequest) -> connector_api::Result<()> {
        match request.body.starts_with(b"forged") {
            true => Err(connector_api::Error::auth("not ours")),
            false => Ok(()),
        }
    }

    fn parse(&self, request: &WebhookRequest) -> connector_api::Result<WebhookOutcome> {
        self.0.lock().unwrap().push(std::thread::current().id());
        assert!(!request.body.starts_with(b"bug"), "a bug");
        let reply = WebhookReply::json(&serde_json::json!({}));
        Ok(WebhookOutcome::Handshake(reply))
    }
}

#[tokio::test]
async fn a_large_request_is_read_on_a_thread_of_its_own() {
    let desk = Desk::new().await;
    let reader = Reader::default();
    let channel = Channel {
        id: "shop-chat".parse().unwrap(),
        brand: "main".parse().unwrap(),
        vouches: Vec::new(),
        attachment_hosts: Vec::new(),
        connector: Box::new(reader.clone()),
        capabilities: Capabilities::default(),
    };
    let channels = BTreeMap::from([(channel.id.clone(), Arc::new(channel))]);
    let webhooks = Webhooks {
        channels: Arc::new(channels).into(),
        intake: desk.intake().clone(),
    };
    let deliver = async |start: &str, bytes: usize| {
        let mut body = start.as_bytes().to_vec();
        body.resize(bytes, b' ');
        let request = WebhookRequest {
            body: body.into(),
            ..WebhookRequest::default()
        };
        webhooks.deliver("shop-chat", request).await
    };
    let (small, large) = (1_000, 300 * 1024);
    for bytes in [small, large] {
        let answer = deliver("{}", bytes).await;
        assert!(matches!(answer, HookAnswer::Accepted(_)), "{answer:?}");
        let forged = deliver("forged", bytes).await;
        assert!(
            matches!(forged, HookAnswer::Unauthorized { .. }),
            "{forged:?}"
        );
    }
    let buggy = deliver("bug", large).await;
    assert!(matches!(buggy, HookAnswer::Malformed { .. }), "{buggy:?}");
    let here = std::thread::current().id();
    let elsewhere: Vec<bool> = reader
        .0
        .lock()
        .unwrap()
        .iter()
        .map(|id| *id != here)
        .collect();
    assert_eq!(elsewhere, [false, true, true]);
}
