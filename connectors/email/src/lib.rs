#![doc = include_str!("../README.md")]

mod config;
mod imap;
mod oauth;
pub mod parse;
mod smtp;
mod tls;
mod webhook;

use std::sync::Arc;
use std::time::Duration;

use connector_api::{
    Authorization, BuildContext, Capabilities, Connector, ConnectorKind, Error, ErrorKind, Health,
    ImportFormat, InboundEvent, Namespace, OutboundMessage, Recipient, Registration, Result,
    Sender, StreamSource, TextUnit, WebhookRequest, WebhookSource, async_trait,
};

use crate::config::Settings;
pub use crate::config::{
    After, Config, GrantKind, ImapConfig, OAuthConfig, Preset, Provider, SmtpConfig, Tls,
    WebhookConfig,
};
use crate::imap::Mailbox;
use crate::oauth::Authorizer;
use crate::smtp::Outbox;
use crate::webhook::Hook;

/// For the list in the daemon's `channels`.
pub const REGISTRATION: Registration = Registration::of::<Email>();

/// Writes mails without a server: for tests of whole exchanges.
pub struct Composer(Settings);

/// A mail as it would be sent.
#[derive(Debug)]
pub struct Written {
    pub bytes: Vec<u8>,
    pub has_null_sender: bool,
}

impl Composer {
    pub fn new(config: Config, context: &BuildContext) -> Result<Self> {
        config::check(config, context).map(Self)
    }

    /// The bytes that a server would get.
    pub async fn write(&self, message: &OutboundMessage) -> Result<Written> {
        let mail = smtp::compose(message, &self.0)?;
        let mut bytes = Vec::new();
        let mut reader = mail.pieces.reader();
        while let Some(more) = reader.next().await? {
            bytes.extend_from_slice(&more);
        }
        Ok(Written {
            has_null_sender: message.automatic,
            bytes,
        })
    }
}

/// How long a health check may take; it stands in nobody's way, but operators wait for it.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(15);

/// The connector kind `email`.
pub struct Email;

impl ConnectorKind for Email {
    const KIND: &'static str = "email";
    const EXAMPLE: &'static str = r#"connector = "email"
queue = "frontline"
address = "support@shop.example"
imap = { host = "imap.shop.example", user = "support@shop.example", password = { env = "SUPPORT_MAIL_PASSWORD" } }
smtp = { host = "smtp.shop.example", user = "support@shop.example", password = { env = "SUPPORT_MAIL_PASSWORD" } }
"#;
    type Config = Config;

    fn build(config: Config, context: BuildContext) -> Result<Box<dyn Connector>> {
        let settings = Arc::new(config::check(config, &context)?);
        let authorizer = settings.oauth.clone().map(Authorizer);
        let inbound = match settings.webhook {
            Some(_) => Inbound::Hook(Hook::new(Arc::clone(&settings), &context)),
            None => Inbound::Mailbox(Mailbox::new(
                Arc::clone(&settings),
                Arc::clone(&context.clock),
            )),
        };
        Ok(Box::new(MailChannel {
            authorizer,
            inbound,
            outbox: Outbox::new(Arc::clone(&settings), context.clock),
            settings,
        }))
    }
}

struct MailChannel {
    settings: Arc<Settings>,
    inbound: Inbound,
    authorizer: Option<Authorizer>,
    outbox: Outbox,
}

/// How mail comes in.
enum Inbound {
    Mailbox(Mailbox),
    Hook(Hook),
}

#[async_trait]
impl Connector for MailChannel {
    fn capabilities(&self) -> Capabilities {
        let is_mailbox = self.stream_source().is_some();
        Capabilities {
            stream: is_mailbox,
            webhook: !is_mailbox,
            send: true,
            // A second mail with the same Message-ID is a second mail to most servers.
            send_idempotent: false,
            // Bounces come back as mails.
            receipts: true,
            authorization: self.authorizer.is_some(),
            replayable: is_mailbox,
            text_max: None,
            text_unit: TextUnit::Chars,
            attachment_bytes_max: Some(smtp::ATTACHMENT_BYTES_MAX),
            attachments_bytes_max: Some(smtp::ATTACHMENT_BYTES_MAX),
            html: true,
            subject: true,
            recipients_max: smtp::RECIPIENTS_MAX,
            starts: true,
            reply_window: None,
            sends_inflight_max: 4,
            ..Capabilities::default()
        }
    }

    async fn health(&self) -> Health {
        let checks = async {
            if let Inbound::Mailbox(mailbox) = &self.inbound {
                mailbox.check().await?;
            }
            self.outbox.check().await
        };
        match tokio::time::timeout(HEALTH_TIMEOUT, checks).await {
            Ok(Ok(())) => Health::Ready,
            Ok(Err(error)) => unhealthy(error),
            Err(_) => Health::Unreachable {
                reason: "no answer in time".to_owned(),
            },
        }
    }

    fn stream_source(&self) -> Option<&dyn StreamSource> {
        match &self.inbound {
            Inbound::Mailbox(mailbox) => Some(mailbox),
            Inbound::Hook(_) => None,
        }
    }

    fn webhook_source(&self) -> Option<&dyn WebhookSource> {
        match &self.inbound {
            Inbound::Mailbox(_) => None,
            Inbound::Hook(hook) => Some(hook),
        }
    }

    fn sender(&self) -> Option<&dyn Sender> {
        Some(&self.outbox)
    }

    fn authorization(&self) -> Option<&dyn Authorization> {
        let authorizer = self.authorizer.as_ref()?;
        Some(authorizer)
    }

    fn parse_captured(&self, request: &WebhookRequest) -> Result<Vec<InboundEvent>> {
        if request.body.is_empty() {
            return Err(Error::malformed("an empty file is no mail"));
        }
        let settings = &self.settings.parse;
        let posted = webhook::read_captured(&request.body, settings);
        let event = posted.unwrap_or_else(|| parse::parse(request.body.clone(), settings));
        Ok(parse::each_recipient(event))
    }

    fn import_format(&self) -> Option<ImportFormat> {
        Some(ImportFormat::Mail)
    }

    fn parse_import(&self, item: &WebhookRequest) -> Result<Vec<InboundEvent>> {
        let event = parse::parse(item.body.clone(), &self.settings.parse);
        // A mailbox holds nothing but mails; a file may be anything.
        if event.defects.iter().any(|one| one.code == "no_headers") {
            return Err(Error::malformed("no mail: it begins with no header"));
        }
        Ok(parse::each_recipient(parse::as_echo(
            event,
            &self.settings.parse,
        )))
    }

    fn own_address(&self) -> Option<Recipient> {
        Some(Recipient {
            namespace: Namespace::email(),
            address: self.settings.address.clone(),
            name: None,
        })
    }
}

fn unhealthy(error: Error) -> Health {
    let reason = error.message;
    match error.kind {
        ErrorKind::Auth => Health::Unauthorized { reason },
        ErrorKind::Config => Health::Degraded { reason },
        _ => Health::Unreachable { reason },
    }
}
