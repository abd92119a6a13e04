#![doc = include_str!("../README.md")]

mod config;
mod dial;
mod imap;
mod oauth;
pub mod parse;
mod said;
mod smtp;
mod tls;
mod webhook;

use std::sync::Arc;
use std::time::Duration;

use connector_api::{
    Authorization, Backfill, BuildContext, Capabilities, Check, Connector, ConnectorKind, Error,
    ErrorKind, Health, ImportFormat, InboundEvent, Inventory, Namespace, OutboundMessage,
    Recipient, Registration, Result, Sender, StreamSource, TextUnit, WebhookRequest, WebhookSource,
    async_trait,
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

/// Reads what an IMAP or an SMTP server answers, without one: for the fuzzers of `fuzz/`.
#[doc(hidden)]
pub mod scripted {
    /// How many mails the answers to a listing and its fetches bring.
    pub async fn imap(answers: &[u8]) -> connector_api::Result<usize> {
        crate::imap::session::scripted::read(answers).await
    }

    /// How many replies there are until one that is none.
    pub async fn smtp(answers: &[u8]) -> usize {
        crate::smtp::replies(answers).await
    }
}

/// How long a server may take for one answer, and for all of a check; it stands in nobody's way, but
/// operators wait for it.
const CHECK_ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
const CHECK_TIMEOUT: Duration = Duration::from_secs(30);

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
            inventory: is_mailbox,
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
        if let Some(found) = self.check_mailbox().await
            && found.health != Health::Ready
        {
            return with_place(found);
        }
        with_place(self.check_outbox().await)
    }

    async fn check(&self) -> Vec<Check> {
        let (mailbox, outbox) = tokio::join!(self.check_mailbox(), self.check_outbox());
        mailbox.into_iter().chain([outbox]).collect()
    }

    fn warnings(&self) -> Vec<String> {
        self.settings.warnings.clone()
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

    fn inventory(&self) -> Option<&dyn Inventory> {
        match &self.inbound {
            Inbound::Mailbox(mailbox) => Some(mailbox),
            Inbound::Hook(_) => None,
        }
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

    fn backfill(&self) -> Option<Backfill> {
        let reach = self.settings.backfill?;
        Some(Backfill {
            key: "backfill",
            reach: Duration::try_from(reach).ok()?,
        })
    }

    fn own_address(&self) -> Option<Recipient> {
        Some(Recipient {
            namespace: Namespace::email(),
            address: self.settings.address.clone(),
            name: None,
        })
    }
}

impl MailChannel {
    /// `None` where mails are posted to us: there is nobody to ask.
    async fn check_mailbox(&self) -> Option<Check> {
        let Inbound::Mailbox(mailbox) = &self.inbound else {
            return None;
        };
        let place = self.settings.imap.as_ref()?.place();
        Some(checked(place, mailbox.check(CHECK_ANSWER_TIMEOUT)).await)
    }

    async fn check_outbox(&self) -> Check {
        let place = self.settings.smtp.place();
        checked(place, self.outbox.check(CHECK_ANSWER_TIMEOUT)).await
    }
}

/// What trying came to; a reason names its place once, in `what`.
async fn checked(place: String, trying: impl Future<Output = Result<String>>) -> Check {
    let tried = tokio::time::timeout(CHECK_TIMEOUT, trying).await;
    let slow = || Error::unavailable("no answer in time");
    match tried.unwrap_or_else(|_| Err(slow())) {
        Ok(found) => Check::new(place, Health::Ready, found),
        Err(error) => {
            let prefix = format!("{place}: ");
            let message = error.message.strip_prefix(&prefix);
            let message = message.unwrap_or(&error.message).to_owned();
            Check::new(place, unhealthy(error.kind, message), "")
        }
    }
}

/// The state with the place in its reason.
fn with_place(found: Check) -> Health {
    let place = |reason: String| format!("{}: {reason}", found.what);
    match found.health {
        Health::Unauthorized { reason } => Health::Unauthorized {
            reason: place(reason),
        },
        Health::Degraded { reason } => Health::Degraded {
            reason: place(reason),
        },
        Health::Unreachable { reason } => Health::Unreachable {
            reason: place(reason),
        },
        other => other,
    }
}

fn unhealthy(kind: ErrorKind, reason: String) -> Health {
    match kind {
        ErrorKind::Auth => Health::Unauthorized { reason },
        ErrorKind::Config => Health::Degraded { reason },
        _ => Health::Unreachable { reason },
    }
}
