//! Conversations that our side begins.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::conversation::Priority;
use crate::dispatch::verbs::{TAG_CHARS_MAX, TAGS_MAX};
use crate::ids::{ContactId, IdKind};
use crate::store::NewConversation;

use super::App;
use super::auth::Working;
use super::body::ObjectBody;
use super::documentation::{Authenticated, BadBody, Contested};
use super::fields::{Fields, wrong};
use super::messages::{created, idempotency_of};
use super::problem::ApiResult;
use super::request::{IdempotencyKey, now};
use super::surgery::named;
use super::verbs::{attributes, known_queue, priority};
use super::views::message::MessageView;
use super::written::written;

/// The fields besides those of an answer.
const FIELDS: [&str; 6] = [
    "contact_id",
    "queue",
    "priority",
    "tags",
    "attributes",
    "automatic",
];

/// A conversation that our side begins: an answer's fields without `reply_all` and
/// `if_last_message`, and those of the conversation.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(
    dead_code,
    reason = "documents the body; it is read field by field, to name what is wrong"
)]
pub struct NewConversationBody {
    #[schema(example = "support-mail")]
    channel: String,
    /// To whom, as the channel reads addresses; may be left out with `contact_id`.
    #[schema(max_items = 50, example = json!(["Ada <ada@customer.example>"]))]
    to: Option<Vec<String>>,
    #[schema(max_items = 50)]
    cc: Option<Vec<String>>,
    #[schema(max_items = 50)]
    bcc: Option<Vec<String>>,
    /// Whose it is; 409 (`merged-away`) where that one was merged into another. Default: whoever
    /// is known under the first address, else a new contact.
    #[schema(example = "con_0d4f6a8b9c1e8e2f8a3b5c7d9e1f2a4b")]
    contact_id: Option<String>,
    #[schema(max_length = 500, example = "Your order 17")]
    subject: Option<String>,
    #[schema(max_length = 100_000)]
    text: Option<String>,
    #[schema(max_length = 500_000)]
    html: Option<String>,
    /// As in an answer.
    #[schema(max_items = 20, value_type = Option<Vec<Object>>)]
    attachments: Option<Vec<serde_json::Value>>,
    send_at: Option<connector_api::Timestamp>,
    /// Where it waits when the customer answers and nobody holds it. Default: the channel's queue.
    queue: Option<String>,
    priority: Option<Priority>,
    #[schema(max_items = 50)]
    tags: Option<Vec<String>>,
    #[schema(value_type = Option<Object>, example = json!({ "order_id": "17" }))]
    attributes: Option<serde_json::Value>,
    /// A system wrote it: marked as such towards the receiver, held by nobody.
    automatic: Option<bool>,
}

/// Begins a conversation.
///
/// On any channel that can write first (`starts` of `/v1/channels`). It is pending: the customer's
/// answer brings it to the agent who began it, or into its queue where a system did. With the same
/// Idempotency-Key a repeated request within 72 hours begins nothing more.
#[utoipa::path(
    post,
    path = "/v1/conversations",
    tag = "Conversations",
    security(("token" = [])),
    params(("Idempotency-Key" = String, Header, description = "Names this conversation over all tries; 1 to 255 characters")),
    request_body = NewConversationBody,
    responses(
        (status = 202, description = "Begun; its first message is `queued`", body = MessageView,
            headers(("Location" = String, description = "Where to see what becomes of the message"))),
        Authenticated, Contested, BadBody
    )
)]
pub async fn start_conversation(
    State(app): State<Arc<App>>,
    Working(caller): Working,
    key: IdempotencyKey,
    body: ObjectBody,
) -> ApiResult<Response> {
    let key = key.required()?;
    let written = written(&app, &body.object, &FIELDS)?;
    for (given, name) in [
        (written.reply_all, "reply_all"),
        (written.if_last_message.is_some(), "if_last_message"),
    ] {
        if given {
            return Err(wrong(
                name,
                format!("there is nothing to answer yet: leave \"{name}\" out"),
            ));
        }
    }
    let mut allowed = FIELDS.to_vec();
    allowed.extend(super::written::FIELDS);
    let fields = Fields::of(&body.object, &allowed)?;
    let channel = written
        .channel
        .clone()
        .ok_or_else(|| wrong("channel", "\"channel\" is missing"))?;
    let idempotency = idempotency_of(&caller, &key, "conversations", "", &body.bytes);
    let new = NewConversation {
        channel,
        contact: contact(&app, &fields)?,
        queue: known_queue(&app, &fields)?,
        priority: priority(&fields)?.unwrap_or_default(),
        tags: fields.lines("tags", TAGS_MAX, TAG_CHARS_MAX)?,
        attributes: attributes(&fields)?,
        automatic: fields.flag("automatic")?,
        idempotency: Some(idempotency),
        at: now(&app),
        holder: caller.holder(),
        actor: caller.actor,
        written,
    };
    let begun = app.state.store.start(new).await;
    let (message, _) = begun.map_err(|error| named(&app, error))?;
    app.state.outbox.ring(message.channel.as_str());
    Ok(created(&app, StatusCode::ACCEPTED, &message))
}

fn contact(app: &App, fields: &Fields<'_>) -> ApiResult<Option<ContactId>> {
    let Some(id) = fields.line("contact_id", 64)? else {
        return Ok(None);
    };
    let number = app.state.ids.decode(IdKind::Contact, &id);
    number
        .map(|number| Some(ContactId(number)))
        .ok_or_else(|| wrong("contact_id", "there is no such contact"))
}
