//! Merging, splitting, moving, and undoing it: what was joined wrongly is put right by a person.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::dispatch::Refusal;
use crate::dispatch::surgery::{Refused, SPLIT_MAX};
use crate::ids::{IdKind, MessageId};
use crate::store::StoreError;
use crate::store::surgery::{Operated, Order};

use super::App;
use super::auth::{Caller, Working};
use super::body::{NoBody, ObjectBody};
use super::contacts::contact_id;
use super::conversations::conversation_id;
use super::documentation::{
    Authenticated, BadBody, KeyReused, NoSuchThing, Operable, UnexpectedBody,
};
use super::fields::{Fields, ID_CHARS_MAX, wrong};
use super::messages::{idempotency_of, message_id};
use super::problem::{ApiError, ApiResult};
use super::request::{IdempotencyKey, IfMatch, Segment, now};
use super::views::PublicIds;
use super::views::operation::OperationView;

/// Where a conversation or contact goes.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(
    dead_code,
    reason = "documents the body; it is read field by field, to name what is wrong"
)]
pub struct MergeInto {
    /// The one that goes on.
    into: String,
    /// Only while that one is at this version.
    into_version: Option<i64>,
}

/// Which messages become a conversation of their own.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(
    dead_code,
    reason = "documents the body; it is read field by field, to name what is wrong"
)]
pub struct SplitOff {
    /// 1 to 500 messages of the conversation; at least one has to stay.
    #[schema(min_items = 1, max_items = 500)]
    messages: Vec<String>,
}

/// Where a message goes.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(
    dead_code,
    reason = "documents the body; it is read field by field, to name what is wrong"
)]
pub struct MoveTo {
    /// A conversation of the same contact.
    conversation: String,
    /// Only while that one is at this version.
    conversation_version: Option<i64>,
}

/// Merges a conversation into another.
///
/// Both are of one contact (else merge the contacts first). The messages of both are one timeline,
/// by arrival; those that get another place get new, higher numbers. The merged conversation stays,
/// closed and empty, with `merged_into`; whatever names it from now on (its reply tokens, its
/// messages, its threads) leads to the other. That one keeps its subject, tags and recipients: who
/// took part in the merged one may go on writing and is sent nothing. Whoever holds one of them
/// holds the other; if a customer waits in one, the other waits since then. An agent merges what it
/// holds with what it holds or nobody does; a supervisor anything. Undone by its event.
#[utoipa::path(
    post,
    path = "/v1/conversations/{id}/merge",
    tag = "Surgery",
    security(("token" = [])),
    params(("id" = String, Path, description = "The conversation that ends"), IdempotencyKey, IfMatch),
    request_body = MergeInto,
    responses(
        (status = 200, description = "Merged: the conversation that ended, and the one that goes on", body = OperationView),
        Authenticated, NoSuchThing, Operable, BadBody
    )
)]
pub async fn merge_conversation(
    State(app): State<Arc<App>>,
    Working(caller): Working,
    Segment(id): Segment,
    IfMatch(version): IfMatch,
    key: IdempotencyKey,
    body: ObjectBody,
) -> ApiResult<Json<OperationView>> {
    let from = conversation_id(&app, &id)?;
    let fields = Fields::of(&body.object, &["into", "into_version"])?;
    let into = conversation_id(&app, &fields.required_text("into", ID_CHARS_MAX)?)?;
    let other_version = fields.number("into_version")?;
    let order = Order {
        version,
        other_version,
        ..order(&app, caller, "merge", &id, &body.bytes, key)
    };
    let done = app.state.store.merge_conversations(from, into, order).await;
    answer(&app, done)
}

/// Splits messages off into a new conversation.
///
/// It is the same contact's, a matter of its own, standing as the one they come from stands; those
/// who take part are those whom its messages name. What refers to the messages leads to it. Only
/// the assignee or a supervisor may split. Undone by its event.
#[utoipa::path(
    post,
    path = "/v1/conversations/{id}/split",
    tag = "Surgery",
    security(("token" = [])),
    params(("id" = String, Path, description = "The conversation's id"), IdempotencyKey, IfMatch),
    request_body = SplitOff,
    responses(
        (status = 200, description = "Split: the conversation that they were in, and the new one", body = OperationView),
        Authenticated, NoSuchThing, Operable, BadBody
    )
)]
pub async fn split_conversation(
    State(app): State<Arc<App>>,
    Working(caller): Working,
    Segment(id): Segment,
    IfMatch(version): IfMatch,
    key: IdempotencyKey,
    body: ObjectBody,
) -> ApiResult<Json<OperationView>> {
    let source = conversation_id(&app, &id)?;
    let fields = Fields::of(&body.object, &["messages"])?;
    let messages = messages_of(&app, &fields)?;
    let order = Order {
        version,
        ..order(&app, caller, "split", &id, &body.bytes, key)
    };
    let done = app
        .state
        .store
        .split_conversation(source, messages, order)
        .await;
    answer(&app, done)
}

/// Moves a message to another conversation of its contact.
///
/// It takes its place there by arrival. If-Match is the version of the conversation that it leaves.
/// Undone by its event.
#[utoipa::path(
    post,
    path = "/v1/messages/{id}/move",
    tag = "Surgery",
    security(("token" = [])),
    params(("id" = String, Path, description = "The message's id"), IdempotencyKey, IfMatch),
    request_body = MoveTo,
    responses(
        (status = 200, description = "Moved: the conversation it was in, and the one it is in", body = OperationView),
        Authenticated, NoSuchThing, Operable, BadBody
    )
)]
pub async fn move_message(
    State(app): State<Arc<App>>,
    Working(caller): Working,
    Segment(id): Segment,
    IfMatch(version): IfMatch,
    key: IdempotencyKey,
    body: ObjectBody,
) -> ApiResult<Json<OperationView>> {
    let message = message_id(&app, &id)?;
    let fields = Fields::of(&body.object, &["conversation", "conversation_version"])?;
    let to = fields.required_text("conversation", ID_CHARS_MAX)?;
    let to = conversation_id(&app, &to)?;
    let other_version = fields.number("conversation_version")?;
    let order = Order {
        version,
        other_version,
        ..order(&app, caller, "move", &id, &body.bytes, key)
    };
    let done = app.state.store.move_message(message, to, order).await;
    answer(&app, done)
}

/// Merges a contact into another.
///
/// A supervisor says that two contacts are one person. What the one has is the other's; their open
/// conversations are settled as when evidence links them. Nothing is verified by it: a sender who
/// only claims an address still joins nothing but what such senders wrote.
#[utoipa::path(
    post,
    path = "/v1/contacts/{id}/merge",
    tag = "Surgery",
    security(("token" = [])),
    params(("id" = String, Path, description = "The contact that ends"), IdempotencyKey, IfMatch),
    request_body = MergeInto,
    responses(
        (status = 200, description = "Merged: the contact that ended, and the one that goes on", body = OperationView),
        Authenticated, NoSuchThing, Operable, BadBody
    )
)]
pub async fn merge_contact(
    State(app): State<Arc<App>>,
    Working(caller): Working,
    Segment(id): Segment,
    IfMatch(version): IfMatch,
    key: IdempotencyKey,
    body: ObjectBody,
) -> ApiResult<Json<OperationView>> {
    let from = contact_id(&app, &id)?;
    let fields = Fields::of(&body.object, &["into", "into_version"])?;
    let into = contact_id(&app, &fields.required_text("into", ID_CHARS_MAX)?)?;
    let other_version = fields.number("into_version")?;
    let order = Order {
        version,
        other_version,
        ..order(&app, caller, "merge_contact", &id, &body.bytes, key)
    };
    let done = app.state.store.merge_contacts(from, into, order).await;
    answer(&app, done)
}

/// Takes the merge of a contact back.
///
/// Whoever merged it: a person, or evidence. Where it was evidence, the same evidence links the two
/// no more.
#[utoipa::path(
    post,
    path = "/v1/contacts/{id}/unmerge",
    tag = "Surgery",
    security(("token" = [])),
    params(
        ("id" = String, Path, description = "The contact that was merged into another"),
        IdempotencyKey,
        IfMatch
    ),
    responses(
        (status = 200, description = "Two contacts again", body = OperationView),
        Authenticated, NoSuchThing, Operable, UnexpectedBody, KeyReused
    )
)]
pub async fn unmerge_contact(
    State(app): State<Arc<App>>,
    Working(caller): Working,
    Segment(id): Segment,
    IfMatch(version): IfMatch,
    key: IdempotencyKey,
    _nothing: NoBody,
) -> ApiResult<Json<OperationView>> {
    let contact = contact_id(&app, &id)?;
    let order = Order {
        version,
        ..order(&app, caller, "unmerge", &id, &[], key)
    };
    answer(&app, app.state.store.unmerge_contact(contact, order).await)
}

/// Undoes an operation.
///
/// A merge, a split, a move or a merge of contacts, by its event (see a conversation's `explain`).
/// Everything it changed is as it was; what came since stays, and goes where it belongs: a message
/// with what it answers, a state that somebody changed as it is. An undo is an operation itself:
/// undoing that does it again. Where a later operation builds on it, that one has to be undone
/// first: 409 with `undo_first`. Whoever may do an operation may undo it.
#[utoipa::path(
    post,
    path = "/v1/events/{id}/undo",
    tag = "Surgery",
    security(("token" = [])),
    params(("id" = String, Path, description = "The event of the operation"), IdempotencyKey),
    responses(
        (status = 200, description = "Undone", body = OperationView),
        Authenticated, NoSuchThing, Operable, UnexpectedBody, KeyReused
    )
)]
pub async fn undo_operation(
    State(app): State<Arc<App>>,
    Working(caller): Working,
    Segment(id): Segment,
    key: IdempotencyKey,
    _nothing: NoBody,
) -> ApiResult<Json<OperationView>> {
    let event = app.state.ids.decode(IdKind::Event, &id);
    let event = event.ok_or_else(|| ApiError::not_found("operation"))?;
    let order = order(&app, caller, "undo", &id, &[], key);
    answer(&app, app.state.store.undo(event, order).await)
}

fn order(
    app: &App,
    caller: Caller,
    operation: &str,
    id: &str,
    body: &[u8],
    IdempotencyKey(key): IdempotencyKey,
) -> Order {
    let idempotency = key.map(|key| idempotency_of(&caller, &key, operation, id, body));
    Order {
        actor: caller.actor,
        version: None,
        other_version: None,
        idempotency,
        at: now(app),
    }
}

fn answer(app: &App, done: Result<Operated, StoreError>) -> ApiResult<Json<OperationView>> {
    let done = done.map_err(|error| named(app, error))?;
    for queue in &done.queues {
        app.state.queues.ring(queue.as_str());
    }
    Ok(Json(OperationView::of(&done, &app.state.ids)))
}

/// The problem, with the ids of what it is about.
pub fn named(app: &App, error: StoreError) -> ApiError {
    let ids = &app.state.ids;
    let event = |number: i64| Some(ids.encode(IdKind::Event, number));
    let (mut merged_into, mut undo_first, mut undone_by) = (None, None, None);
    if let StoreError::Refused(Refusal::Surgery(refused)) = &error {
        match refused {
            Refused::Gone { into } => merged_into = Some(ids.conversation(*into)),
            Refused::ContactGone { into } => merged_into = Some(ids.contact(*into)),
            Refused::UndoFirst { event: first } => undo_first = event(*first),
            Refused::AlreadyUndone { by } => undone_by = event(*by),
            _ => {}
        }
    }
    let mut answer = ApiError::from(error);
    answer.problem.merged_into = merged_into;
    answer.problem.undo_first = undo_first;
    answer.problem.undone_by = undone_by;
    answer
}

fn messages_of(app: &App, fields: &Fields<'_>) -> ApiResult<Vec<MessageId>> {
    let detail = || format!("\"messages\" must be a list of 1 to {SPLIT_MAX} ids of messages");
    let ids = fields.lines("messages", SPLIT_MAX, ID_CHARS_MAX)?;
    if ids.is_empty() {
        return Err(wrong("messages", detail()));
    }
    ids.iter().map(|id| message_id(app, id)).collect()
}
