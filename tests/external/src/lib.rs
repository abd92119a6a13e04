#![doc = include_str!("../README.md")]

use std::sync::Arc;
use std::time::Duration;

use connector_api::{
    BuildContext, Capabilities, Connector, ConnectorKind, DedupeKey, Error, ErrorKind, Event,
    Evidence, ExposeSecret as _, Health, HttpClient, HttpMethod, HttpRequest, IdentityClaim,
    InboundEvent, InboundMessage, MessageSender, Method, Namespace, OutboundMessage, Registration,
    Result, SecretRef, SecretString, SendReceipt, Sender, ThreadHints, WebhookOutcome,
    WebhookReply, WebhookRequest, WebhookSource, async_trait,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

pub const REGISTRATION: Registration = Registration::of::<Pager>();

/// What fits on the display, in characters.
const WORDS_MAX: u32 = 80;

const GATEWAY_TIMEOUT: Duration = Duration::from_secs(10);

const ANSWER_BYTES_MAX: usize = 4 * 1024;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The key that the pager network shares with us, in both directions.
    pub key: SecretRef,
    /// Where pages are sent.
    pub gateway_url: String,
}

/// The connector kind `pager`.
pub struct Pager;

impl ConnectorKind for Pager {
    const KIND: &'static str = "pager";
    const EXAMPLE: &'static str = r#"connector = "pager"
queue = "frontline"
key = { env = "PAGER_KEY" }
gateway_url = "https://pager.example/send"
"#;
    type Config = Config;

    fn build(config: Config, context: BuildContext) -> Result<Box<dyn Connector>> {
        let key = context.secrets.resolve(&config.key)?;
        if key.expose_secret().is_empty() {
            return Err(Error::config("key: is empty"));
        }
        Ok(Box::new(Channel {
            namespace: Namespace::account(Self::KIND, context.channel.as_str()),
            authorization: format!("Bearer {}", key.expose_secret()).into(),
            gateway_url: config.gateway_url,
            http: context.http,
        }))
    }
}

struct Channel {
    namespace: Namespace,
    /// The whole header value, the same in both directions.
    authorization: SecretString,
    gateway_url: String,
    http: Arc<dyn HttpClient>,
}

#[async_trait]
impl Connector for Channel {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            webhook: true,
            send: true,
            text_max: Some(WORDS_MAX),
            sends_inflight_max: 1,
            ..Capabilities::default()
        }
    }

    /// The network has nothing to ask.
    async fn health(&self) -> Health {
        Health::Ready
    }

    fn webhook_source(&self) -> Option<&dyn WebhookSource> {
        Some(self)
    }

    fn sender(&self) -> Option<&dyn Sender> {
        Some(self)
    }
}

/// What the network pushes.
#[derive(Deserialize)]
struct Page {
    page: String,
    pager: String,
    words: String,
}

impl WebhookSource for Channel {
    fn verify(&self, request: &WebhookRequest) -> Result<()> {
        let given = request.header("authorization").unwrap_or_default();
        match same(
            given.as_bytes(),
            self.authorization.expose_secret().as_bytes(),
        ) {
            true => Ok(()),
            false => Err(Error::auth("authorization: not this channel's key")),
        }
    }

    fn parse(&self, request: WebhookRequest) -> Result<WebhookOutcome> {
        let page: Page = serde_json::from_slice(&request.body)
            .map_err(|error| Error::malformed(format!("not a page, line {}", error.line())))?;
        let writer = IdentityClaim {
            namespace: self.namespace.clone(),
            address: page.pager.clone(),
            evidence: Evidence::Verified(Method::Platform),
        };
        let message = InboundMessage {
            from: MessageSender {
                identities: vec![writer],
                name: None,
            },
            participants: Vec::new(),
            subject: None,
            text: page.words,
            html: None,
            thread: ThreadHints {
                native: Some(page.pager),
                ..ThreadHints::default()
            },
            attachments: Vec::new(),
        };
        let event = Event::Message(Box::new(message));
        Ok(WebhookOutcome::Events {
            events: vec![InboundEvent::new(DedupeKey::new(page.page), event)],
            reply: WebhookReply::json(&json!({ "ok": true })),
        })
    }
}

#[async_trait]
impl Sender for Channel {
    async fn send(&self, message: &OutboundMessage) -> Result<SendReceipt> {
        let page = json!({ "pager": message.to.address, "words": message.text });
        let request = HttpRequest {
            method: HttpMethod::Post,
            url: self.gateway_url.clone(),
            headers: vec![
                ("authorization".to_owned(), self.authorization.clone()),
                (
                    "content-type".to_owned(),
                    "application/json".to_owned().into(),
                ),
            ],
            body: page.to_string().into(),
            timeout: GATEWAY_TIMEOUT,
            answer_bytes_max: ANSWER_BYTES_MAX,
        };
        let status = self.http.execute(request).await?.status;
        let kind = match status {
            200..=299 => return Ok(SendReceipt::accepted(Vec::new())),
            401 | 403 => ErrorKind::Auth,
            429 => ErrorKind::RateLimited { retry_after: None },
            503 => ErrorKind::Unavailable,
            // It knows no keys for repeats, so what may have been sent is not sent again.
            500..=599 => ErrorKind::OutcomeUnknown,
            _ => ErrorKind::Rejected,
        };
        Err(Error::new(kind, format!("the gateway answered {status}")))
    }
}

/// Compares in a time that depends on the lengths alone.
fn same(left: &[u8], right: &[u8]) -> bool {
    let differing = left
        .iter()
        .zip(right)
        .fold(0, |seen, (a, b)| seen | (a ^ b));
    left.len() == right.len() && differing == 0
}
