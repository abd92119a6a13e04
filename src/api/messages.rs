//! Messages: reading them, answering, and notes that never leave.

use std::sync::Arc;

use aws_lc_rs::digest;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::dispatch::{Actor, Refusal};
use crate::ids::{ConversationId, IdKind, MessageId};
use crate::store::{NewReply, StoreError, StoredMessage, Written};

use super::App;
use super::auth::{Caller, Reading, Working};
use super::body::{NoBody, ObjectBody, TEXT_CHARS_MAX};
use super::conversations::{PageParams, conversation_id, cursor_of};
use super::documentation::{
    Authenticated, BadBody, BadParameters, Contested, NoSuchThing, UnexpectedBody,
};
use super::fields::Fields;
use super::problem::{ApiError, ApiResult};
use super::request::{IdempotencyKey, IfMatch, NoIdempotencyKey, Params, Segment, limit_of, now};
use super::views::List;
use super::views::message::MessageView;
use super::written::{NewMessage, NewNote, attached, written};

/// Lists the messages of a conversation.
///
/// Newest first.
#[utoipa::path(
    get,
    path = "/v1/conversations/{id}/messages",
    tag = "Messages",
    security(("token" = [])),
    params(("id" = String, Path, description = "The conversation's id"), PageParams),
    responses(
        (status = 200, description = "A page", body = List<MessageView>),
        Authenticated, BadParameters, NoSuchThing
    )
)]
pub async fn list_messages(
    State(app): State<Arc<App>>,
    Reading(caller): Reading,
    Segment(id): Segment,
    Params(params): Params<PageParams>,
) -> ApiResult<Json<List<MessageView>>> {
    let id = conversation_id(&app, &id)?;
    let (messages, next_cursor) = page_of_messages(&app, caller.actor, id, &params).await?;
    let items = messages
        .iter()
        .map(|message| MessageView::of(message, &app.state.ids))
        .collect();
    Ok(Json(List { items, next_cursor }))
}

/// A page of a conversation's messages, and where the next one begins.
pub async fn page_of_messages(
    app: &App,
    actor: Actor,
    id: ConversationId,
    params: &PageParams,
) -> ApiResult<(Vec<StoredMessage>, Option<String>)> {
    let limit = limit_of(params.limit.as_deref())?;
    let from = cursor_of(app, params.cursor.as_deref())?.map(MessageId);
    let found = app.state.store.messages(actor, id, from, limit + 1).await?;
    let mut messages = found.ok_or_else(|| ApiError::not_found("conversation"))?;
    let next = messages
        .get(limit as usize)
        .map(|next| app.state.ids.encode(IdKind::Page, next.id.0));
    messages.truncate(limit as usize);
    Ok((messages, next))
}

/// Reads a message.
///
/// The only place where a message's HTML is given; it is not sanitised.
#[utoipa::path(
    get,
    path = "/v1/messages/{id}",
    tag = "Messages",
    security(("token" = [])),
    params(("id" = String, Path, description = "The message's id")),
    responses(
        (status = 200, description = "The message", body = MessageView),
        Authenticated, NoSuchThing
    )
)]
pub async fn get_message(
    State(app): State<Arc<App>>,
    Reading(caller): Reading,
    Segment(id): Segment,
) -> ApiResult<Json<MessageView>> {
    let id = message_id(&app, &id)?;
    let message = app
        .state
        .store
        .message(caller.actor, id)
        .await?
        .ok_or_else(|| ApiError::not_found("message"))?;
    Ok(Json(MessageView::whole(&message, &app.state.ids)))
}

/// Answers a conversation.
///
/// The answer goes to whoever wrote last, on the channel they wrote on, unless the body says
/// otherwise; 202 means that it is on disk and will be sent. With the same Idempotency-Key a repeated request within 72 hours sends
/// nothing more and is answered with the message as it stands. Only the assignee or a supervisor
/// may answer. A text that is longer than the channel takes is refused with 422, an answer after
/// the channel's reply window with 409; `limit` names what was exceeded.
#[utoipa::path(
    post,
    path = "/v1/conversations/{id}/messages",
    tag = "Messages",
    security(("token" = [])),
    params(
        ("id" = String, Path, description = "The conversation's id"),
        ("Idempotency-Key" = String, Header, description = "Names this answer over all tries; 1 to 255 characters"),
        IfMatch
    ),
    request_body = NewMessage,
    responses(
        (status = 202, description = "Accepted: `delivery` is `queued`", body = MessageView,
            headers(("Location" = String, description = "Where to see what becomes of it"))),
        Authenticated, NoSuchThing, Contested, BadBody
    )
)]
pub async fn send_message(
    State(app): State<Arc<App>>,
    Working(caller): Working,
    Segment(id): Segment,
    IfMatch(version): IfMatch,
    key: IdempotencyKey,
    body: ObjectBody,
) -> ApiResult<Response> {
    let conversation = conversation_id(&app, &id)?;
    let key = key.required()?;
    let written = written(&app, &body.object, &[])?;
    let idempotency = Some(idempotency_of(&caller, &key, "messages", &id, &body.bytes));
    let holder = caller.holder();
    let actor = caller.actor;
    let reply = NewReply {
        conversation,
        actor,
        holder,
        written,
        idempotency,
        version,
        at: now(&app),
    };
    let sent = app.state.store.reply(reply).await;
    let (message, _) = sent.map_err(|failed| overtaken(&app, failed))?;
    app.state.outbox.ring(message.channel.as_str());
    Ok(created(&app, StatusCode::ACCEPTED, &message))
}

/// Adds a note to a conversation.
///
/// For colleagues: it never leaves.
#[utoipa::path(
    post,
    path = "/v1/conversations/{id}/notes",
    tag = "Messages",
    security(("token" = [])),
    params(
        ("id" = String, Path, description = "The conversation's id"),
        ("Idempotency-Key" = Option<String>, Header, description = "Names this note over all tries; 1 to 255 characters"),
        IfMatch
    ),
    request_body = NewNote,
    responses(
        (status = 201, description = "Kept", body = MessageView,
            headers(("Location" = String, description = "The note"))),
        Authenticated, NoSuchThing, Contested, BadBody
    )
)]
pub async fn add_note(
    State(app): State<Arc<App>>,
    Working(caller): Working,
    Segment(id): Segment,
    IfMatch(version): IfMatch,
    IdempotencyKey(key): IdempotencyKey,
    body: ObjectBody,
) -> ApiResult<Response> {
    let conversation = conversation_id(&app, &id)?;
    let fields = Fields::of(&body.object, &["text", "attachments"])?;
    let text = fields.required_text("text", TEXT_CHARS_MAX)?;
    let idempotency = key.map(|key| idempotency_of(&caller, &key, "notes", &id, &body.bytes));
    let holder = caller.holder();
    let actor = caller.actor;
    let note = NewReply {
        conversation,
        actor,
        holder,
        written: Written {
            attachments: attached(&app, &fields)?,
            ..Written::text(&text)
        },
        idempotency,
        version,
        at: now(&app),
    };
    let (message, _) = app.state.store.note(note).await?;
    Ok(created(&app, StatusCode::CREATED, &message))
}

/// Takes an answer back.
///
/// Only while it has not left: one that is to leave later, or that waits to be tried again. It is
/// `refused` then, and says by whom. No Idempotency-Key is taken (400): a second try is refused with
/// 409 and the message's `delivery`.
#[utoipa::path(
    post,
    path = "/v1/messages/{id}/cancel",
    tag = "Messages",
    security(("token" = [])),
    params(("id" = String, Path, description = "The message's id")),
    responses(
        (status = 200, description = "It will not leave", body = MessageView),
        Authenticated, NoSuchThing, Contested, UnexpectedBody
    )
)]
pub async fn cancel_message(
    State(app): State<Arc<App>>,
    Working(caller): Working,
    Segment(id): Segment,
    _: NoIdempotencyKey,
    _nothing: NoBody,
) -> ApiResult<Json<MessageView>> {
    let id = message_id(&app, &id)?;
    let store = &app.state.store;
    let (message, rings) = store.cancel(id, caller.actor, now(&app)).await?;
    for queue in &rings.queues {
        app.state.queues.ring(queue.as_str());
    }
    for channel in &rings.channels {
        app.state.outbox.ring(channel.as_str());
    }
    Ok(Json(MessageView::of(&message, &app.state.ids)))
}

pub fn message_id(app: &App, text: &str) -> ApiResult<MessageId> {
    let number = app.state.ids.decode(IdKind::Message, text);
    number
        .map(MessageId)
        .ok_or_else(|| ApiError::not_found("message"))
}

/// Names the message that the writer had not read.
fn overtaken(app: &App, failed: StoreError) -> ApiError {
    let last = match &failed {
        StoreError::Refused(Refusal::Overtaken { last }) => {
            Some(app.state.ids.encode(IdKind::Message, last.0))
        }
        _ => None,
    };
    let mut error = ApiError::from(failed);
    error.problem.last_message = last;
    error
}

pub fn created(app: &App, status: StatusCode, message: &StoredMessage) -> Response {
    let view = MessageView::of(message, &app.state.ids);
    let location = HeaderValue::try_from(format!("/v1/messages/{}", view.id));
    let location: Vec<(HeaderName, HeaderValue)> = location
        .into_iter()
        .map(|value| (header::LOCATION, value))
        .collect();
    let mut response = (status, Json(view)).into_response();
    response.headers_mut().extend(location);
    response
}

/// The hash of who asks under which key, and the hash of what is asked.
pub fn idempotency_of(
    caller: &Caller,
    key: &str,
    operation: &str,
    id: &str,
    body: &[u8],
) -> (Vec<u8>, Vec<u8>) {
    // Agents that one backend acts for do not share keys.
    let agent = caller.actor.agent.as_deref().unwrap_or_default();
    let name = sha256(&[
        &caller.principal.to_be_bytes(),
        agent.as_bytes(),
        key.as_bytes(),
    ]);
    let request = sha256(&[b"POST", operation.as_bytes(), id.as_bytes(), body]);
    (name, request)
}

/// SHA-256 over length-prefixed parts.
fn sha256(parts: &[&[u8]]) -> Vec<u8> {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    context.finish().as_ref().to_vec()
}
