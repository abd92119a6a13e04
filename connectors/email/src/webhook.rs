//! Mail in by webhook: a service receives the mail and posts it. Wherever it gives the mail itself,
//! that is what is read; fields are put together to a mail first. So everything behind the parser
//! is the same as for a mailbox, the dedupe key included.

pub(crate) mod access;
pub(crate) mod config;
mod form;
mod in_place;
mod mailgun;
mod postmark;
mod rebuild;
mod sendgrid;
mod ses;
pub(crate) mod sns;

use std::sync::Arc;

use connector_api::{
    BuildContext, Bytes, Error, InboundEvent, Result, WebhookOutcome, WebhookReply, WebhookRequest,
    WebhookSource, async_trait,
};
use serde_json::{Map, Value};

use crate::config::Settings;
use crate::parse::{self, ParseSettings};
use crate::webhook::config::{Proof, Receiver};
use crate::webhook::form::{Field, Form};

/// Most fields of a service, of any name, that are kept beside the mail, and how long each may be,
/// in bytes. The interesting ones are short: scores, verdicts, addresses.
const EXTRA_FIELDS_MAX: usize = 32;
const EXTRA_BYTES_MAX: usize = 1_024;

/// The webhook source of one channel.
pub(crate) struct Hook {
    settings: Arc<Settings>,
    tokens: mailgun::Tokens,
    sns: sns::Topics,
}

impl Hook {
    pub(crate) fn new(settings: Arc<Settings>, context: &BuildContext) -> Self {
        Self {
            settings,
            tokens: mailgun::Tokens::default(),
            sns: sns::Topics::new(context.http.clone(), context.clock.clone()),
        }
    }

    fn receiver(&self) -> Result<&Receiver> {
        let receiver = self.settings.webhook.as_ref();
        receiver.ok_or_else(|| Error::config("the channel takes no webhooks"))
    }
}

#[async_trait]
impl WebhookSource for Hook {
    fn verify(&self, request: &WebhookRequest) -> Result<()> {
        let receiver = self.receiver()?;
        receiver.access.check(request)?;
        match &receiver.proof {
            Proof::Postmark | Proof::Sendgrid { public_key: None } => Ok(()),
            Proof::Sendgrid {
                public_key: Some(key),
            } => sendgrid::verify(request, key),
            Proof::Mailgun { keys } => self.tokens.verify(request, keys),
            Proof::Ses { topics, endpoint } => {
                self.sns.verify(request, topics, endpoint.as_deref())
            }
        }
    }

    /// In JSON a mail is base64 and has fields beside it. What SNS posts is small (256 KB).
    fn body_bytes_max(&self) -> u64 {
        if let Ok(Proof::Ses { .. }) = self.receiver().map(|receiver| &receiver.proof) {
            return 0;
        }
        let mail = self.settings.parse.mail_bytes_max;
        mail.saturating_add(mail / 5 * 2).saturating_add(64 * 1024)
    }

    fn parse(&self, request: WebhookRequest) -> Result<WebhookOutcome> {
        let settings = &self.settings.parse;
        let content_type = request.header("content-type").unwrap_or_default();
        let content_type = content_type.to_owned();
        // Whoever reads it has it alone, and decodes it in place.
        let WebhookRequest { body, .. } = request;
        let form = |body| {
            let form = Form::read(&content_type, body);
            form.ok_or_else(|| Error::malformed("the body is no form, or is cut off"))
        };
        let event = match &self.receiver()?.proof {
            Proof::Sendgrid { .. } => sendgrid::read(form(body)?, settings)?,
            Proof::Mailgun { .. } => mailgun::read(form(body)?, settings)?,
            Proof::Postmark => postmark::read(body, settings)?,
            Proof::Ses { .. } => match ses::read(&body, settings)? {
                ses::Read::Mail(event) => *event,
                ses::Read::Nothing => return Ok(WebhookOutcome::Handshake(accepted())),
            },
        };
        Ok(WebhookOutcome::Events {
            events: parse::each_recipient(event),
            reply: accepted(),
        })
    }

    async fn refresh(&self) -> Result<()> {
        match &self.receiver()?.proof {
            Proof::Ses { endpoint, .. } => self.sns.refresh(endpoint.as_deref()).await,
            _ => Ok(()),
        }
    }
}

/// Reads a captured body of any of the services; `None` when it is of none of them.
pub(crate) fn read_captured(body: &Bytes, settings: &ParseSettings) -> Option<InboundEvent> {
    if body.trim_ascii_start().starts_with(b"{") {
        return match ses::read(body, settings) {
            Ok(ses::Read::Mail(event)) => Some(*event),
            _ => postmark::read(body.clone(), settings).ok(),
        };
    }
    let form = Form::guess(body)?;
    match form.field("signature").is_some() && form.field("token").is_some() {
        true => mailgun::read(form, settings).ok(),
        false => sendgrid::read(form, settings).ok(),
    }
}

fn accepted() -> WebhookReply {
    WebhookReply {
        status: 200,
        content_type: "text/plain; charset=utf-8",
        body: Bytes::from_static(b"ok"),
    }
}

/// The form's short fields that are not `known`, as the value of one key of the event's `extra`.
fn extra(service: &str, form: &Form, known: impl Fn(&Field) -> bool) -> Map<String, Value> {
    let fields = form.fields.iter().filter(|field| {
        field.file_name.is_none() && field.bytes.len() <= EXTRA_BYTES_MAX && !known(field)
    });
    let fields = fields.take(EXTRA_FIELDS_MAX).map(|field| {
        let text = String::from_utf8_lossy(&field.bytes).into_owned();
        (field.name.clone(), Value::String(text))
    });
    under(service, fields.collect())
}

/// The members of an object that were not read, capped.
fn extra_members(service: &str, members: Map<String, Value>) -> Map<String, Value> {
    let is_short = |value: &Value| match value {
        Value::Null => false,
        Value::String(text) => text.len() <= EXTRA_BYTES_MAX,
        Value::Array(_) | Value::Object(_) => value.to_string().len() <= EXTRA_BYTES_MAX,
        _ => true,
    };
    let members = members.into_iter().filter(|(_, value)| is_short(value));
    under(service, members.take(EXTRA_FIELDS_MAX).collect())
}

fn under(service: &str, members: Map<String, Value>) -> Map<String, Value> {
    let mut extra = Map::new();
    if !members.is_empty() {
        extra.insert(service.to_owned(), Value::Object(members));
    }
    extra
}
