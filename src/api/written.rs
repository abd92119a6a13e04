//! What somebody writes, as bodies say it: the same fields for an answer and for a conversation
//! that our side begins.

use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::ids::{IdKind, MessageId};
use crate::normalise::html::to_text;
use crate::store::{Attached, Written};

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

/// Files of one message.
pub const ATTACHMENTS_MAX: usize = 20;
/// Of the name of a file, and of the id under which HTML shows it, in characters.
const FILE_NAME_CHARS_MAX: usize = 255;
const CONTENT_ID_CHARS_MAX: usize = 100;

/// The fields of an answer.
pub const FIELDS: [&str; 11] = [
    "text",
    "html",
    "channel",
    "to",
    "cc",
    "bcc",
    "reply_all",
    "subject",
    "attachments",
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
    /// Files uploaded for it, at most 20: their ids, or objects that also give one another name, or
    /// the id under which the HTML shows it (`cid:`).
    #[schema(max_items = 20, value_type = Option<Vec<Object>>, example = json!(["fil_5b1c9d1e7a0f8c3d9f2a6b4c8d7e1f03", { "id": "fil_7d1e7a0f8c3d9f2a6b4c8d7e1f035b1c", "content_id": "logo" }]))]
    attachments: Option<Vec<serde_json::Value>>,
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
    /// Files uploaded for it, as in an answer.
    #[schema(max_items = 20, value_type = Option<Vec<Object>>)]
    attachments: Option<Vec<serde_json::Value>>,
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
        attachments: attached(app, &fields)?,
        send_at: fields.time("send_at")?,
        if_last_message: last_message(app, &fields)?,
    })
}

/// Files of an answer or a note, by the ids of their uploads.
pub fn attached(app: &App, fields: &Fields<'_>) -> ApiResult<Vec<Attached>> {
    let items = match fields.get("attachments") {
        None => return Ok(Vec::new()),
        Some(Value::Array(items)) if items.len() <= ATTACHMENTS_MAX => items,
        Some(Value::Array(_)) => {
            let detail = format!("\"attachments\" may have {ATTACHMENTS_MAX} items");
            return Err(wrong("attachments", detail));
        }
        Some(_) => return Err(wrong("attachments", "\"attachments\" must be a list")),
    };
    items.iter().map(|item| one_attached(app, item)).collect()
}

fn one_attached(app: &App, item: &Value) -> ApiResult<Attached> {
    let whole = match item {
        Value::String(id) => Map::from_iter([("id".to_owned(), Value::from(id.as_str()))]),
        Value::Object(whole) => whole.clone(),
        _ => {
            let detail = "each of \"attachments\" must be an id, or an object with an \"id\"";
            return Err(wrong("attachments", detail));
        }
    };
    let fields = Fields::of(&whole, &["id", "name", "content_id"])?;
    let id = fields.required_text("id", 64)?;
    let upload = app.state.ids.decode(IdKind::Upload, &id);
    let content_id = fields.line("content_id", CONTENT_ID_CHARS_MAX)?;
    if content_id.as_deref().is_some_and(|id| !is_content_id(id)) {
        return Err(wrong(
            "content_id",
            "a \"content_id\" has letters, digits, \"_\", \"-\", \".\" and \"@\"",
        ));
    }
    Ok(Attached {
        upload: upload
            .ok_or_else(|| wrong("attachments", format!("there is no uploaded file {id:?}")))?,
        name: fields.line("name", FILE_NAME_CHARS_MAX)?,
        content_id,
    })
}

fn is_content_id(id: &str) -> bool {
    id.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"_-.@".contains(&byte))
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
