//! Reply -> signed POST -> receipt. What an answer means is decided in one function, [`outcome`].

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use connector_api::{
    Check, Clock, Error, ErrorKind, Health, HttpClient, HttpMethod, HttpRequest, HttpResponse,
    Namespace, OutboundMessage, Recipient, Result, SendReceipt, Sender, async_trait,
};
use serde::Serialize;
use serde_json::Value;

use crate::signature::{SigningKey, signed_headers};
use crate::wire::WORD_CHARS_MAX;

/// Longest answer read, in bytes: it carries an id or a reason.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Longest part of a receiver's reason that an agent is shown, in characters.
const REASON_CHARS_MAX: usize = 200;

/// The sending half of a channel.
pub(crate) struct Delivery {
    pub url: String,
    pub key: SigningKey,
    pub timeout: Duration,
    /// Whether the receiver drops a repeated `webhook-id`.
    pub idempotent: bool,
    pub attachment_bytes_max: u64,
    /// In which its customers' ids are.
    pub namespace: Namespace,
    pub clock: Arc<dyn Clock>,
    pub http: Arc<dyn HttpClient>,
    /// What the last delivery found; `None` before there was one.
    pub found: Mutex<Option<Health>>,
}

impl Delivery {
    pub fn health(&self) -> Health {
        self.found().unwrap_or(Health::Ready)
    }

    /// The same as a line that does not pass for more than it is.
    pub fn check(&self) -> Check {
        match self.found() {
            Some(health) => Check::new("deliver_url", health, "the last delivery was answered"),
            None => Check::new(
                "deliver_url",
                Health::Ready,
                "nothing was delivered yet, and it cannot be asked without delivering",
            ),
        }
    }

    fn found(&self) -> Option<Health> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.clone()
    }

    async fn deliver(&self, message: &OutboundMessage) -> Result<SendReceipt> {
        let body = body(message, self.attachment_bytes_max).await?;
        // The id stays, the timestamp moves: a retry an hour later is fresh and is still the same.
        let now = self.clock.now().as_second();
        let request = HttpRequest {
            method: HttpMethod::Post,
            url: self.url.clone(),
            headers: signed_headers(&self.key, &message.id, now, &body),
            body: body.into(),
            timeout: self.timeout,
            answer_bytes_max: ANSWER_BYTES_MAX,
        };
        outcome(&self.http.execute(request).await?, self.idempotent)
    }

    fn remember(&self, result: &Result<SendReceipt>) {
        let health = match result
            .as_ref()
            .map_err(|error| (&error.kind, &error.message))
        {
            Err((ErrorKind::Auth, reason)) => Health::Unauthorized {
                reason: reason.clone(),
            },
            Err((ErrorKind::Unavailable | ErrorKind::OutcomeUnknown, reason)) => {
                Health::Unreachable {
                    reason: reason.clone(),
                }
            }
            Err((ErrorKind::RateLimited { .. }, reason)) => Health::Degraded {
                reason: reason.clone(),
            },
            // It answered, and what it refused was this one message.
            _ => Health::Ready,
        };
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(health);
    }
}

#[async_trait]
impl Sender for Delivery {
    async fn send(&self, message: &OutboundMessage) -> Result<SendReceipt> {
        let result = self.deliver(message).await;
        self.remember(&result);
        result
    }

    /// A customer's id at the receiver, as it comes in `from.id`.
    fn recipient(&self, address: &str) -> Result<Recipient> {
        let address = address.trim();
        if address.is_empty() || address.chars().nth(WORD_CHARS_MAX).is_some() {
            return Err(Error::rejected(format!(
                "a customer's id has 1 to {WORD_CHARS_MAX} characters"
            )));
        }
        Ok(Recipient {
            namespace: self.namespace.clone(),
            address: address.to_owned(),
            name: None,
        })
    }
}

/// What the receiver gets.
#[derive(Serialize)]
struct WireReply<'a> {
    r#type: &'static str,
    id: &'a str,
    conversation: &'a str,
    to: WireRecipient<'a>,
    thread: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    html: Option<&'a str>,
    /// Nobody wrote this: an acknowledgement.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    automatic: bool,
    attachments: Vec<WireAttachment<'a>>,
}

#[derive(Serialize)]
struct WireRecipient<'a> {
    id: &'a str,
}

#[derive(Serialize)]
struct WireAttachment<'a> {
    name: &'a str,
    content_type: &'a str,
    /// Under which the HTML shows it (`cid:`).
    #[serde(skip_serializing_if = "Option::is_none")]
    content_id: Option<&'a str>,
    base64: String,
}

/// The same bytes on every attempt, as the message is the same.
async fn body(message: &OutboundMessage, attachment_bytes_max: u64) -> Result<Vec<u8>> {
    let mut attachments = Vec::with_capacity(message.attachments.len());
    let sizes = message.attachments.iter().map(|file| file.size_bytes);
    if sizes.fold(0, u64::saturating_add) > attachment_bytes_max {
        return Err(Error::too_large(format!(
            "cannot deliver {}: its attachments are larger than {attachment_bytes_max} bytes",
            message.id
        )));
    }
    for attachment in &message.attachments {
        attachments.push(WireAttachment {
            name: &attachment.name,
            content_type: &attachment.content_type,
            content_id: attachment.content_id.as_deref(),
            base64: STANDARD.encode(attachment.content.whole(attachment_bytes_max).await?),
        });
    }
    let reply = WireReply {
        r#type: "message",
        id: &message.id,
        conversation: &message.conversation,
        to: WireRecipient {
            id: &message.to.address,
        },
        thread: message.thread.as_deref(),
        subject: message.subject.as_deref(),
        text: &message.text,
        html: message.html.as_deref(),
        automatic: message.automatic,
        attachments,
    };
    serde_json::to_vec(&reply)
        .map_err(|error| Error::rejected(format!("cannot write {} as JSON: {error}", message.id)))
}

/// The one place where an answer gets its meaning.
///
/// After a 500, 502 or 504 the receiver may have taken the message before it failed. Where it
/// drops repeats that does not matter; where it does not, only a person can tell.
fn outcome(answer: &HttpResponse, idempotent: bool) -> Result<SendReceipt> {
    let status = answer.status;
    let kind = match status {
        200..=299 => {
            return Ok(SendReceipt::accepted(
                provider_id(&answer.body).into_iter().collect(),
            ));
        }
        401 | 403 => ErrorKind::Auth,
        408 | 425 => ErrorKind::Unavailable,
        429 => ErrorKind::RateLimited {
            retry_after: answer.retry_after(),
        },
        503 => match answer.retry_after() {
            Some(delay) => ErrorKind::RateLimited {
                retry_after: Some(delay),
            },
            None => ErrorKind::Unavailable,
        },
        500..=599 if idempotent => ErrorKind::Unavailable,
        500..=599 => ErrorKind::OutcomeUnknown,
        // Redirects are not followed: a signed body goes to the configured address only.
        _ => ErrorKind::Rejected,
    };
    let reason = reason(&answer.body)
        .map(|reason| format!(": {reason}"))
        .unwrap_or_default();
    Err(Error::new(
        kind,
        format!("the receiver answered {status}{reason}"),
    ))
}

/// The id in a 2xx answer `{"id": "…"}`. Any other answer still means that it was taken.
fn provider_id(body: &[u8]) -> Option<String> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    let id = answer.get("id")?.as_str()?;
    let usable = !id.is_empty() && id.chars().nth(WORD_CHARS_MAX).is_none();
    usable.then(|| id.to_owned())
}

/// What the receiver says about a refusal: the usual members, `detail` and `title` by RFC 9457.
fn reason(body: &[u8]) -> Option<String> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    let said = ["error", "reason", "detail", "message", "title"]
        .iter()
        .find_map(|member| answer.get(member)?.as_str())?;
    let printable = said.chars().map(|c| if c.is_control() { ' ' } else { c });
    Some(printable.take(REASON_CHARS_MAX).collect())
}

#[cfg(test)]
mod tests;
