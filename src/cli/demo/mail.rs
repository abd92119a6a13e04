//! The demo's mailbox: the real mail parser, but no server behind it. Answers are printed.

use connector_api::{
    BuildContext, Capabilities, Connector, ConnectorKind, Error, Health, InboundEvent,
    OutboundMessage, Result, SendReceipt, Sender, WebhookRequest, async_trait,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

/// The connector kind `demo-mail`; only the demo knows it.
pub struct DemoMail;

/// A mailbox without settings: its address is the demo shop's.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {}

pub const ADDRESS: &str = "support@shop.example";
/// The demo's mails carry results of this server.
pub const AUTHSERV_ID: &str = "mx.shop.example";

impl ConnectorKind for DemoMail {
    const KIND: &'static str = "demo-mail";
    const EXAMPLE: &'static str = "connector = \"demo-mail\"\n";
    type Config = Config;

    fn build(_: Config, context: BuildContext) -> Result<Box<dyn Connector>> {
        // Never connected: the parser wants the address and whose results to trust.
        let server = json!({ "host": "127.0.0.1", "port": 1, "tls": "none", "user": "demo",
                             "password": { "file": "/dev/null" } });
        let settings = json!({
            "address": ADDRESS, "authserv_id": AUTHSERV_ID, "imap": server,
            "smtp": { "host": "127.0.0.1", "port": 1, "tls": "none" },
        });
        let context = BuildContext::new(
            context.channel,
            context.brand,
            context.clock,
            context.http,
            std::sync::Arc::new(NoPassword),
        );
        let parser = crate::channels::mail_parser(settings, context)?;
        Ok(Box::new(Mailbox { parser }))
    }
}

/// Nothing is logged in to.
struct NoPassword;

impl connector_api::SecretResolver for NoPassword {
    fn resolve(&self, _: &connector_api::SecretRef) -> Result<connector_api::SecretString> {
        Ok("demo".to_owned().into())
    }
}

struct Mailbox {
    parser: Box<dyn Connector>,
}

#[async_trait]
impl Connector for Mailbox {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            stream: false,
            poll: false,
            ..self.parser.capabilities()
        }
    }

    async fn health(&self) -> Health {
        Health::Ready
    }

    fn sender(&self) -> Option<&dyn Sender> {
        Some(self)
    }

    fn parse_captured(&self, request: &WebhookRequest) -> Result<Vec<InboundEvent>> {
        self.parser.parse_captured(request)
    }
}

#[async_trait]
impl Sender for Mailbox {
    async fn send(&self, message: &OutboundMessage) -> Result<SendReceipt> {
        let (_, domain) = ADDRESS
            .split_once('@')
            .ok_or_else(|| Error::config("the demo's address has no domain"))?;
        let kind = if message.automatic {
            "automatic mail"
        } else {
            "mail"
        };
        println!("--> {kind} to {}: {}", message.to.address, message.text);
        Ok(SendReceipt::accepted(vec![format!(
            "{}.{}@{domain}",
            message.reply_token, message.id
        )]))
    }
}
