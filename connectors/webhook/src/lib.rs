#![doc = include_str!("../README.md")]

mod config;
mod inbound;
mod outbound;
mod signature;
mod wire;

use connector_api::{
    BuildContext, Capabilities, Check, Connector, ConnectorKind, Health, InboundEvent, Namespace,
    Registration, Result, Sender, WebhookOutcome, WebhookRequest, WebhookSource, async_trait,
};

pub use crate::config::Config;
use crate::outbound::Delivery;
use crate::signature::Verifier;
pub use crate::signature::{SIGNATURE_AGE_SECONDS_MAX, SigningKey, sign, signed_headers};

/// The line that `src/channels.rs` lists.
pub const REGISTRATION: Registration = Registration::of::<Webhook>();

/// Most deliveries under way at once on one channel: enough to hide a receiver's latency, few
/// enough that a small shop's server is not flooded when an outage ends.
const SENDS_INFLIGHT_MAX: u16 = 8;

/// Largest attachment of a reply, in bytes. Base64 makes a third more of it in one JSON body,
/// which common web servers and frameworks still take.
const ATTACHMENT_BYTES_MAX: u64 = 10 * 1024 * 1024;

/// The connector kind `webhook`.
pub struct Webhook;

impl ConnectorKind for Webhook {
    const KIND: &'static str = "webhook";
    const EXAMPLE: &'static str = r#"connector = "webhook"
queue = "frontline"
secrets = [{ env = "SHOP_CHAT_SECRET" }]
deliver_url = "https://shop.example/switchboard"
"#;
    type Config = Config;

    fn build(config: Config, context: BuildContext) -> Result<Box<dyn Connector>> {
        let keys = config.read_secrets(&context)?;
        let namespace = Namespace::account(Self::KIND, context.channel.as_str());
        let delivery = match (config.deliver_url, keys.deliver) {
            (Some(url), Some(key)) => Some(Delivery {
                url,
                key,
                timeout: config.deliver_timeout,
                idempotent: config.idempotent_receiver,
                attachment_bytes_max: ATTACHMENT_BYTES_MAX,
                namespace: namespace.clone(),
                clock: context.clock,
                http: context.http,
                found: None.into(),
            }),
            _ => None,
        };
        Ok(Box::new(Channel {
            namespace,
            verifier: keys.verifier,
            delivery,
        }))
    }
}

/// One configured webhook channel.
struct Channel {
    namespace: Namespace,
    verifier: Verifier,
    delivery: Option<Delivery>,
}

#[async_trait]
impl Connector for Channel {
    fn capabilities(&self) -> Capabilities {
        let Some(delivery) = &self.delivery else {
            return Capabilities {
                webhook: true,
                ..Capabilities::default()
            };
        };
        Capabilities {
            webhook: true,
            send: true,
            send_idempotent: delivery.idempotent,
            receipts: true,
            attachment_bytes_max: Some(ATTACHMENT_BYTES_MAX),
            attachments_bytes_max: Some(ATTACHMENT_BYTES_MAX),
            html: true,
            subject: true,
            recipients_max: 1,
            starts: true,
            sends_inflight_max: SENDS_INFLIGHT_MAX,
            ..Capabilities::default()
        }
    }

    /// A receiver offers nothing to ask without delivering, so this is what the last delivery
    /// found; a channel that only receives is always ready.
    async fn health(&self) -> Health {
        match &self.delivery {
            Some(delivery) => delivery.health(),
            None => Health::Ready,
        }
    }

    async fn check(&self) -> Vec<Check> {
        let taken = "requests are taken with a valid signature or token; nobody has to be asked";
        let requests = Check::new("webhook", Health::Ready, taken);
        let delivery = self.delivery.as_ref().map(Delivery::check);
        std::iter::once(requests).chain(delivery).collect()
    }

    fn webhook_source(&self) -> Option<&dyn WebhookSource> {
        Some(self)
    }

    fn sender(&self) -> Option<&dyn Sender> {
        self.delivery.as_ref().map(|delivery| delivery as _)
    }

    fn parse_import(&self, item: &WebhookRequest) -> Result<Vec<InboundEvent>> {
        inbound::parse_all(&self.namespace, &item.body)
    }
}

impl WebhookSource for Channel {
    fn verify(&self, request: &WebhookRequest) -> Result<()> {
        self.verifier.verify(request)
    }

    fn parse(&self, request: WebhookRequest) -> Result<WebhookOutcome> {
        inbound::parse(&self.namespace, &request.body)
    }
}
