//! What somebody writes, as bodies say it: the same fields for an answer and for a conversation
//! that our side begins.

use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::ids::{IdKind, MessageId};
use crate::normalise::html::to_text;
use crate::store::Written;

use super::App;
use super::body::TEXT_CHARS_MAX;
use super::fields::{Fields, wrong};
use super::problem::ApiResult;

/// Longest HTML of an answer, in characters.
pub const HTML_CHARS_MAX: usize = 500_000;
pub const SUBJECT_CHARS_MAX: usize = 500;
/// Recipients named in one field, and the longest of them, in characters (RFC 5321 allows 254 for
/// an address; a name may stand before it).
pub const RECIPIENTS_MAX: usize = 50;
pub const RECIPIENT_CHARS_MAX: usize = 500;

/// The fields of an answer.
pub const FIELDS: [&str; 10] = [
    "text",
    "html",
    "channel",
    "to",
    "cc",
    "bcc",
    "reply_all",
    "subject",
    "send_at",
    "if_last_message",
];

/// An answer. Everything but `text` (or `html`) may be left out.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(
    dead_code,
    reason = "documents the body; it is read field by field, to name what is wrong"
)]
pub struct NewMessage {
    /// 1 to 100,000 characters. Made from `html` where only that is given.
    #[schema(
        min_length = 1,
        max_length = 100_000,
        example = "Your parcel left yesterday."
    )]
    text: Option<String>,
    /// The same in HTML, on channels that carry it; sent as it is.
    #[schema(max_length = 500_000)]
    html: Option<String>,
    /// The channel to answer over. Default: the one that the customer wrote on last.
    #[schema(example = "support-mail")]
    channel: Option<String>,
    /// Instead of whoever wrote last: addresses as people write them (`Ada <ada@example.com>`).
    /// Who is named here or in `cc` becomes a participant: what they answer belongs here.
    #[schema(max_items = 50, example = json!(["ada@customer.example"]))]
    to: Option<Vec<String>>,
    #[schema(max_items = 50)]
    cc: Option<Vec<String>>,
    /// Seen by nobody else, and no participants.
    #[schema(max_items = 50)]
    bcc: Option<Vec<String>>,
    /// Everybody who was on the message that is answered gets a copy. Never so by itself.
    reply_all: Option<bool>,
    /// Default: the conversation's.
    #[schema(max_length = 500)]
    subject: Option<String>,
    /// When it is to leave, at most 400 days from now.
    send_at: Option<connector_api::Timestamp>,
    /// The newest message its writer had read: refused with 409 (`customer-wrote`) when the customer
    /// wrote after it. With `send_at` it is compared again before it leaves.
    #[schema(example = "msg_9a7b3c5d1e2f8a4b8c6d0e1f2a3b4c5d")]
    if_last_message: Option<String>,
}

/// A note for colleagues.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(
    dead_code,
    reason = "documents the body; it is read field by field, to name what is wrong"
)]
pub struct NewNote {
    /// 1 to 100,000 characters.
    #[schema(
        min_length = 1,
        max_length = 100_000,
        example = "Promised a refund by phone."
    )]
    text: String,
}

/// Reads what is written; `more` are the fields that the operation has besides.
pub fn written(app: &App, object: &Map<String, Value>, more: &[&str]) -> ApiResult<Written> {
    let allowed: Vec<&str> = FIELDS.iter().chain(more).copied().collect();
    let fields = Fields::of(object, &allowed)?;
    let html = fields.text("html", HTML_CHARS_MAX)?;
    let text = match (fields.text("text", TEXT_CHARS_MAX)?, &html) {
        (Some(text), _) => text,
        (None, Some(html)) => from_html(html)?,
        (None, None) => return Err(wrong("text", "\"text\" is missing")),
    };
    let channel = fields.line("channel", 64)?;
    let channel = channel.map(|channel| {
        let parsed = channel.parse();
        parsed.map_err(|_| wrong("channel", format!("there is no channel {channel:?}")))
    });
    let recipients = |name: &str| fields.lines(name, RECIPIENTS_MAX, RECIPIENT_CHARS_MAX);
    Ok(Written {
        text,
        html,
        channel: channel.transpose()?,
        to: recipients("to")?,
        cc: recipients("cc")?,
        bcc: recipients("bcc")?,
        reply_all: fields.flag("reply_all")?,
        subject: fields.line("subject", SUBJECT_CHARS_MAX)?,
        attachments: Vec::new(),
        send_at: fields.time("send_at")?,
        if_last_message: last_message(app, &fields)?,
    })
}

/// The text of those who read no HTML.
pub fn from_html(html: &str) -> ApiResult<String> {
    let text = to_text(html);
    if text.trim().is_empty() {
        return Err(wrong("html", "\"html\" shows no words: give \"text\", too"));
    }
    if text.chars().nth(TEXT_CHARS_MAX).is_some() {
        let detail = format!("\"html\" shows more than {TEXT_CHARS_MAX} characters");
        return Err(wrong("html", detail));
    }
    Ok(text)
}

fn last_message(app: &App, fields: &Fields<'_>) -> ApiResult<Option<MessageId>> {
    let Some(id) = fields.line("if_last_message", 64)? else {
        return Ok(None);
    };
    let number = app.state.ids.decode(IdKind::Message, &id);
    number.map(|number| Some(MessageId(number))).ok_or_else(|| {
        wrong(
            "if_last_message",
            "\"if_last_message\" must be the id of a message, as in msg_…",
        )
    })
}
