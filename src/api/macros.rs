//! Macros: answers kept for use again. Supervisors and admins keep them, agents use them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use connector_api::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::clock::timestamp;
use crate::conversation::{Priority, Status};
use crate::dispatch::verbs::Attributes;
use crate::ids::IdKind;
use crate::store::macros::{StoredMacro, UseMacro};

use super::App;
use super::auth::{Caller, Watching, Working};
use super::body::{NoBody, ObjectBody};
use super::conversations::{conversation_id, etag};
use super::documentation::{
    Authenticated, BadBody, Contested, NoSuchThing, StaleVersion, UnexpectedBody,
};
use super::fields::Fields;
use super::messages::idempotency_of;
use super::problem::{ApiError, ApiResult};
use super::request::{IdempotencyKey, IfMatch, NoIdempotencyKey, Segment, now};
use super::views::message::MessageView;
use super::views::{ConversationView, List};

mod content;

use content::content_of;

/// What a macro says and does. Texts may have places: `{{ contact.name }}`, or
/// `{{ contact.first_name | there }}` with what stands there when it is not known. Names:
/// `agent.name`, `brand.name`, `contact.address`, `contact.first_name`, `contact.name`,
/// `conversation.id`, `conversation.queue`, `conversation.subject`, `date`, `attributes.<name>`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(
    dead_code,
    reason = "documents the body; it is read field by field, to name what is wrong"
)]
pub struct MacroBody {
    #[schema(max_length = 100, example = "Parcel is late")]
    name: String,
    #[schema(
        max_length = 100_000,
        example = "Hello {{ contact.first_name | there }}, order {{ attributes.order_id }} is on its way."
    )]
    text: Option<String>,
    /// Values are put in as text, never as markup.
    #[schema(max_length = 500_000)]
    html: Option<String>,
    #[schema(max_length = 500)]
    subject: Option<String>,
    priority: Option<Priority>,
    #[schema(max_items = 50)]
    add_tags: Option<Vec<String>>,
    #[schema(max_items = 50)]
    remove_tags: Option<Vec<String>>,
    #[schema(value_type = Option<Object>)]
    attributes: Option<Value>,
    /// Hands the conversation on; not with `snooze_seconds`.
    transfer_queue: Option<String>,
    /// Puts it off by so many seconds.
    snooze_seconds: Option<u64>,
    /// Ends it; not with `transfer_queue` or `snooze_seconds`.
    resolve: Option<bool>,
    /// For whose conversations it is, and whose agents see it. Default: all.
    queues: Option<Vec<String>>,
    /// For whose conversations it is, and whose agents see it. Default: all.
    brands: Option<Vec<String>>,
}

/// A macro.
#[derive(Debug, Serialize, ToSchema)]
pub struct MacroView {
    #[schema(example = "mac_9a7b3c5d1e2f8a4b8c6d0e1f2a3b4c5d")]
    pub id: String,
    pub name: String,
    #[schema(required)]
    pub text: Option<String>,
    #[schema(required)]
    pub html: Option<String>,
    #[schema(required)]
    pub subject: Option<String>,
    #[schema(required)]
    pub priority: Option<Priority>,
    pub add_tags: Vec<String>,
    pub remove_tags: Vec<String>,
    #[schema(value_type = Object)]
    pub attributes: Attributes,
    #[schema(required)]
    pub transfer_queue: Option<String>,
    #[schema(required)]
    pub snooze_seconds: Option<u64>,
    pub resolve: bool,
    pub queues: Vec<String>,
    pub brands: Vec<String>,
    pub version: i64,
    pub changed_at: Timestamp,
}

impl MacroView {
    fn of(app: &App, stored: StoredMacro) -> Self {
        let content = stored.content;
        Self {
            id: app.state.ids.encode(IdKind::Macro, stored.id),
            name: content.name,
            text: content.text,
            html: content.html,
            subject: content.subject,
            priority: content.priority,
            add_tags: content.add_tags,
            remove_tags: content.remove_tags,
            attributes: content.attributes,
            transfer_queue: content.transfer_queue,
            snooze_seconds: content.snooze_seconds,
            resolve: content.resolve,
            queues: content.queues,
            brands: content.brands,
            version: stored.version,
            changed_at: timestamp(stored.at),
        }
    }
}

/// On which conversation a macro is used.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "documents the body")]
pub struct OnConversation {
    #[schema(example = "cnv_5b1c9d1e7a0f8c3d9f2a6b4c8d7e1f03")]
    conversation_id: String,
}

/// What a macro says on a conversation.
#[derive(Debug, Serialize, ToSchema)]
pub struct MacroPreview {
    #[schema(required)]
    pub text: Option<String>,
    #[schema(required)]
    pub html: Option<String>,
    #[schema(required)]
    pub subject: Option<String>,
    /// Names that are not known here and have no other word: using it is refused.
    pub missing: Vec<String>,
}

/// What using a macro came to.
#[derive(Debug, Serialize, ToSchema)]
pub struct MacroDone {
    /// Null where it says nothing.
    #[schema(required)]
    pub message: Option<MessageView>,
    /// Null only in the answer to a repeated request, where it is not the token's to see any more.
    #[schema(required)]
    pub conversation: Option<ConversationView>,
}

/// Lists the macros.
///
/// Those of the token's queues and brands, by name, all on one page.
#[utoipa::path(
    get,
    path = "/v1/macros",
    tag = "Macros",
    security(("token" = [])),
    responses(
        (status = 200, description = "All of them", body = List<MacroView>),
        Authenticated
    )
)]
pub async fn list_macros(
    State(app): State<Arc<App>>,
    Watching(caller): Watching,
) -> ApiResult<Json<List<MacroView>>> {
    let macros = app.state.store.macros(caller.actor).await?;
    let view = |stored| MacroView::of(&app, stored);
    Ok(Json(List {
        items: macros.into_iter().map(view).collect(),
        next_cursor: None,
    }))
}

/// Keeps a new macro.
///
/// Supervisors and admins do. A token of certain queues or brands keeps macros of these alone, and
/// so has to name them. No Idempotency-Key is taken (400): a name is one macro's, so a second try is
/// refused with 422.
#[utoipa::path(
    post,
    path = "/v1/macros",
    tag = "Macros",
    security(("token" = [])),
    request_body = MacroBody,
    responses(
        (status = 201, description = "Kept", body = MacroView, headers(("ETag" = String, description = "Its version"))),
        Authenticated, BadBody
    )
)]
pub async fn create_macro(
    State(app): State<Arc<App>>,
    Watching(caller): Watching,
    _: NoIdempotencyKey,
    body: ObjectBody,
) -> ApiResult<Response> {
    let content = content_of(&app, &body.object)?;
    let store = &app.state.store;
    let kept = store
        .save_macro(caller.actor, None, content, None, now(&app))
        .await?;
    Ok((StatusCode::CREATED, shown(&app, kept)).into_response())
}

/// Reads a macro.
#[utoipa::path(
    get,
    path = "/v1/macros/{id}",
    tag = "Macros",
    security(("token" = [])),
    params(("id" = String, Path, description = "The macro's id")),
    responses(
        (status = 200, description = "The macro", body = MacroView, headers(("ETag" = String, description = "Its version"))),
        Authenticated, NoSuchThing
    )
)]
pub async fn get_macro(
    State(app): State<Arc<App>>,
    Watching(caller): Watching,
    Segment(id): Segment,
) -> ApiResult<Response> {
    let id = macro_id(&app, &id)?;
    let found = app.state.store.find_macro(caller.actor, id).await?;
    let found = found.ok_or_else(|| ApiError::not_found("macro"))?;
    Ok(shown(&app, found).into_response())
}

/// Replaces a macro.
///
/// Whoever replaces or deletes one works for all whose it is.
#[utoipa::path(
    put,
    path = "/v1/macros/{id}",
    tag = "Macros",
    security(("token" = [])),
    params(("id" = String, Path, description = "The macro's id"), IfMatch),
    request_body = MacroBody,
    responses(
        (status = 200, description = "As it stands now", body = MacroView, headers(("ETag" = String, description = "Its version"))),
        Authenticated, NoSuchThing, StaleVersion, BadBody
    )
)]
pub async fn replace_macro(
    State(app): State<Arc<App>>,
    Watching(caller): Watching,
    Segment(id): Segment,
    IfMatch(version): IfMatch,
    body: ObjectBody,
) -> ApiResult<Response> {
    let id = macro_id(&app, &id)?;
    let content = content_of(&app, &body.object)?;
    let store = &app.state.store;
    let kept = store
        .save_macro(caller.actor, Some(id), content, version, now(&app))
        .await?;
    Ok(shown(&app, kept).into_response())
}

/// Deletes a macro.
#[utoipa::path(
    delete,
    path = "/v1/macros/{id}",
    tag = "Macros",
    security(("token" = [])),
    params(("id" = String, Path, description = "The macro's id"), IfMatch),
    responses(
        (status = 204, description = "Gone"),
        Authenticated, NoSuchThing, StaleVersion, UnexpectedBody
    )
)]
pub async fn delete_macro(
    State(app): State<Arc<App>>,
    Watching(caller): Watching,
    Segment(id): Segment,
    IfMatch(version): IfMatch,
    _nothing: NoBody,
) -> ApiResult<StatusCode> {
    let id = macro_id(&app, &id)?;
    let store = &app.state.store;
    store.delete_macro(caller.actor, id, version).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Shows what a macro would say.
///
/// Only on conversations of its queues and brands. Nothing is done, so an Idempotency-Key makes no
/// difference.
#[utoipa::path(
    post,
    path = "/v1/macros/{id}/preview",
    tag = "Macros",
    security(("token" = [])),
    params(("id" = String, Path, description = "The macro's id")),
    request_body = OnConversation,
    responses(
        (status = 200, description = "What it would say there", body = MacroPreview),
        Authenticated, NoSuchThing, BadBody
    )
)]
pub async fn preview_macro(
    State(app): State<Arc<App>>,
    Working(caller): Working,
    Segment(id): Segment,
    body: ObjectBody,
) -> ApiResult<Json<MacroPreview>> {
    let using = using(&app, caller, &id, &body, None, None)?;
    let said = app.state.store.preview_macro(using).await?;
    Ok(Json(MacroPreview {
        text: said.text,
        html: said.html,
        subject: said.subject,
        missing: said.missing,
    }))
}

/// Uses a macro.
///
/// Answers with its text and does what else it does: all of it, or nothing; only on conversations
/// of its queues and brands. What it would need to
/// know and does not is a 422. One that answers needs an Idempotency-Key; used again under one, it
/// says and does nothing more, and is answered with what came of it.
#[utoipa::path(
    post,
    path = "/v1/macros/{id}/apply",
    tag = "Macros",
    security(("token" = [])),
    params(
        ("id" = String, Path, description = "The macro's id"),
        ("Idempotency-Key" = Option<String>, Header, description = "Names this use over all tries; required where it answers"),
        ("If-Match" = Option<String>, Header, description = "Only at this version of the conversation", example = "\"3\"")
    ),
    request_body = OnConversation,
    responses(
        (status = 200, description = "Said and done", body = MacroDone),
        Authenticated, NoSuchThing, Contested, BadBody
    )
)]
pub async fn apply_macro(
    State(app): State<Arc<App>>,
    Working(caller): Working,
    Segment(id): Segment,
    IfMatch(version): IfMatch,
    key: IdempotencyKey,
    body: ObjectBody,
) -> ApiResult<Json<MacroDone>> {
    let store = &app.state.store;
    let number = macro_id(&app, &id)?;
    let found = store.find_macro(caller.actor.clone(), number).await?;
    // One that is gone may have been used before under the key.
    let key = match (found, key.0) {
        (_, Some(key)) => Some(key),
        (None, None) => return Err(ApiError::not_found("macro")),
        (Some(found), None) if found.content.writes() => {
            return Err(IdempotencyKey::missing());
        }
        (Some(_), None) => None,
    };
    let idempotency = key.map(|key| idempotency_of(&caller, &key, "macros", &id, &body.bytes));
    let using = using(&app, caller, &id, &body, idempotency, version)?;
    let (message, conversation) = store.use_macro(using).await?;
    if let Some(message) = &message {
        app.state.outbox.ring(message.channel.as_str());
    }
    match &conversation {
        Some(found) if found.status == Status::Queued => {
            app.state.queues.ring(found.queue.as_str());
        }
        Some(found) if found.status == Status::Snoozed => app.state.queues.ring(super::TIMERS),
        _ => {}
    }
    let ids = &app.state.ids;
    Ok(Json(MacroDone {
        message: message.map(|message| MessageView::of(&message, ids)),
        conversation: conversation.map(|found| ConversationView::of(&found, ids)),
    }))
}

fn using(
    app: &App,
    caller: Caller,
    id: &str,
    body: &ObjectBody,
    idempotency: Option<crate::store::Idempotency>,
    version: Option<i64>,
) -> ApiResult<UseMacro> {
    let fields = Fields::of(&body.object, &["conversation_id"])?;
    let shown_as = fields.required_text("conversation_id", 64)?;
    let at = now(app);
    Ok(UseMacro {
        id: macro_id(app, id)?,
        conversation: conversation_id(app, &shown_as)?,
        holder: caller.holder(),
        actor: caller.actor,
        idempotency,
        version,
        shown_as,
        date: timestamp(at).strftime("%Y-%m-%d").to_string(),
        at,
    })
}

fn shown(app: &App, stored: StoredMacro) -> impl IntoResponse {
    (etag(stored.version), Json(MacroView::of(app, stored)))
}

fn macro_id(app: &App, text: &str) -> ApiResult<i64> {
    let number = app.state.ids.decode(IdKind::Macro, text);
    number.ok_or_else(|| ApiError::not_found("macro"))
}
