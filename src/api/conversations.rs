//! Conversations: finding, reading, explaining, and the actions that change their state.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::conversation::Status;
use crate::dispatch::{Action, Actor};
use crate::ids::{ContactId, ConversationId, IdKind};
use crate::router::facts::Conversation;
use crate::store::{Asked, ConversationFilter, StoredMessage};

use super::App;
use super::auth::{Caller, Reading, Working};
use super::body::NoBody;
use super::documentation::{
    Authenticated, BadParameters, Contested, KeyReused, NoSuchThing, Stands, UnexpectedBody,
};
use super::messages::{idempotency_of, page_of_messages};
use super::problem::{ApiError, ApiResult};
use super::queues::known_queue;
use super::request::{IdempotencyKey, IfMatch, Params, Segment, expands_messages, limit_of, now};
use super::verbs::stands;
use super::views::explanation::{ConversationExplanation, ExplainedMessage};
use super::views::message::MessageView;
use super::views::operation::StoredOperationView;
use super::views::{ConversationView, List};

mod order;

pub use order::ConversationOrder;

/// Messages given inside a conversation.
const EXPANDED_MESSAGES: u32 = 50;
/// Operations given with an explanation.
const EXPLAINED_OPERATIONS: u32 = 50;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ConversationParams {
    /// Only those that stand so.
    #[param(value_type = Option<Status>)]
    status: Option<String>,
    /// Only those of this queue.
    #[param(example = "frontline")]
    queue: Option<String>,
    /// Only those of this agent; `me` is the token's.
    #[param(example = "me")]
    assignee: Option<String>,
    /// Only those of this contact.
    #[param(example = "con_0d4f6a8b9c1e8e2f8a3b5c7d9e1f2a4b")]
    contact: Option<String>,
    /// `true`: also those that were merged into others.
    #[param(value_type = Option<bool>)]
    merged: Option<String>,
    /// `opened`, the default: opened last first. `waiting`: as the queue hands them out, which
    /// `queue` names.
    #[param(value_type = Option<ConversationOrder>)]
    sort: Option<String>,
    /// Items of a page, 1 to 100.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 100, example = 50)]
    limit: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Lists conversations.
///
/// Those the token may see, the ones opened last first; all given filters hold. With `sort=waiting`
/// and a `queue` those that wait there, the one that is handed out next first.
#[utoipa::path(
    get,
    path = "/v1/conversations",
    tag = "Conversations",
    security(("token" = [])),
    params(ConversationParams),
    responses(
        (status = 200, description = "A page", body = List<ConversationView>),
        Authenticated, BadParameters
    )
)]
pub async fn list_conversations(
    State(app): State<Arc<App>>,
    Reading(caller): Reading,
    Params(params): Params<ConversationParams>,
) -> ApiResult<Json<List<ConversationView>>> {
    let limit = limit_of(params.limit.as_deref())?;
    let order = ConversationOrder::of(&params)?;
    let Some(filter) = filter_of(&app, &caller.actor, &params, order, limit)? else {
        return Ok(Json(List {
            items: Vec::new(),
            next_cursor: None,
        }));
    };
    let mut found = app.state.store.conversations(caller.actor, filter).await?;
    let more = found.len() > limit as usize;
    found.truncate(limit as usize);
    let last = found.last().filter(|_| more);
    let next_cursor = last.map(|last| order.cursor_behind(&app, last));
    let items = found
        .iter()
        .map(|found| ConversationView::of(found, &app.state.ids))
        .collect();
    Ok(Json(List { items, next_cursor }))
}

/// The filter that the parameters say, asking for one more than a page has; `None` where they name
/// something that is not there.
fn filter_of(
    app: &App,
    actor: &Actor,
    params: &ConversationParams,
    order: ConversationOrder,
    limit: u32,
) -> ApiResult<Option<ConversationFilter>> {
    let mut filter = ConversationFilter {
        limit: limit + 1,
        ..ConversationFilter::default()
    };
    filter.status = params.status.as_deref().map(status_of).transpose()?;
    if let Some(text) = &params.queue {
        let queue = known_queue(app, actor, text).ok_or_else(|| {
            let usable = |queue: &&connector_api::QueueId| actor.may_use_queue(queue);
            let known = app.state.known_queues.now();
            let names: Vec<&str> = known
                .iter()
                .filter(usable)
                .map(|queue| queue.as_str())
                .collect();
            let detail = format!("\"queue\" must be one of {}", names.join(", "));
            ApiError::bad_request("queue", detail).allowed(names)
        })?;
        filter.queue = Some(queue);
    }
    filter.assignee = match params.assignee.as_deref() {
        Some("me") => Some(actor.agent.clone().ok_or_else(|| {
            ApiError::bad_request("assignee", "this token names no agent, so nobody is \"me\"")
        })?),
        Some("") => {
            return Err(ApiError::bad_request(
                "assignee",
                "\"assignee\" must be an agent or me",
            ));
        }
        other => other.map(str::to_owned),
    };
    if let Some(text) = &params.contact {
        match app.state.ids.decode(IdKind::Contact, text) {
            Some(number) => filter.contact = Some(ContactId(number)),
            None => return Ok(None),
        }
    }
    filter.merged = match params.merged.as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => {
            let error = ApiError::bad_request("merged", "\"merged\" must be true or false");
            return Err(error.allowed(["true", "false"]));
        }
    };
    filter.sort = order.behind_cursor(app, params.cursor.as_deref())?;
    Ok(Some(filter))
}

pub fn status_of(text: &str) -> ApiResult<Status> {
    let names = Status::ALL.map(Status::as_str);
    Status::parse(text).ok_or_else(|| {
        let detail = format!("\"status\" must be one of {}", names.join(", "));
        ApiError::bad_request("status", detail).allowed(names)
    })
}

/// The row a cursor stands for.
pub fn cursor_of(app: &App, text: Option<&str>) -> ApiResult<Option<i64>> {
    let Some(text) = text else { return Ok(None) };
    match app.state.ids.decode(IdKind::Page, text) {
        Some(number) => Ok(Some(number)),
        None => Err(ApiError::bad_request(
            "cursor",
            "\"cursor\" must be a next_cursor of this list",
        )),
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ExpandParams {
    /// `messages`: with the newest 50 messages, newest first.
    #[param(pattern = "^messages$")]
    expand: Option<String>,
}

/// Reads a conversation.
#[utoipa::path(
    get,
    path = "/v1/conversations/{id}",
    tag = "Conversations",
    security(("token" = [])),
    params(("id" = String, Path, description = "The conversation's id"), ExpandParams),
    responses(
        (status = 200, description = "The conversation", body = ConversationView,
            headers(("ETag" = String, description = "Its version"))),
        Authenticated, BadParameters, NoSuchThing
    )
)]
pub async fn get_conversation(
    State(app): State<Arc<App>>,
    Reading(caller): Reading,
    Segment(id): Segment,
    Params(params): Params<ExpandParams>,
) -> ApiResult<Response> {
    let expand = expands_messages(params.expand.as_deref())?;
    let conversation = find(&app, &caller, &id).await?;
    let view = match expand {
        true => with_messages(&app, &caller.actor, &conversation).await?,
        false => ConversationView::of(&conversation, &app.state.ids),
    };
    Ok((etag(view.version), Json(view)).into_response())
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PageParams {
    /// Items of a page, 1 to 100.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 100, example = 50)]
    pub limit: Option<String>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

/// Explains a conversation.
///
/// For each message (newest first): whether it came before, who wrote it and how that is known,
/// why it is in this conversation, its labels with their evidence, and the rule that chose the
/// queue; how the conversation stands now; and what was merged, split or moved, with the events to
/// undo it by.
#[utoipa::path(
    get,
    path = "/v1/conversations/{id}/explain",
    tag = "Conversations",
    security(("token" = [])),
    params(("id" = String, Path, description = "The conversation's id"), PageParams),
    responses(
        (status = 200, description = "What was decided, and by what", body = ConversationExplanation),
        Authenticated, BadParameters, NoSuchThing
    )
)]
pub async fn explain_conversation(
    State(app): State<Arc<App>>,
    Reading(caller): Reading,
    Segment(id): Segment,
    Params(params): Params<PageParams>,
) -> ApiResult<Json<ConversationExplanation>> {
    let conversation = find(&app, &caller, &id).await?;
    let (messages, next_cursor) =
        page_of_messages(&app, caller.actor, conversation.id, &params).await?;
    let operations = app
        .state
        .store
        .operations(conversation.id.0, EXPLAINED_OPERATIONS)
        .await?;
    let ids = &app.state.ids;
    let operation = |stored| StoredOperationView::of(stored, ids);
    let explain = |message: &StoredMessage| ExplainedMessage::of(message, &app.state.ids);
    Ok(Json(ConversationExplanation {
        conversation: ConversationView::of(&conversation, &app.state.ids),
        operations: operations.iter().map(operation).collect(),
        items: messages.iter().map(explain).collect(),
        next_cursor,
    }))
}

/// Makes the three actions that take nothing but the conversation.
macro_rules! action {
    ($(#[$doc:meta])* $name:ident, $path:literal, $action:expr) => {
        $(#[$doc])*
        #[utoipa::path(
            post,
            path = $path,
            tag = "Conversations",
            security(("token" = [])),
            params(
                ("id" = String, Path, description = "The conversation's id"),
                IdempotencyKey,
                IfMatch
            ),
            responses(
                Stands, Authenticated, NoSuchThing, Contested, UnexpectedBody, KeyReused
            )
        )]
        pub async fn $name(
            State(app): State<Arc<App>>,
            Working(caller): Working,
            Segment(id): Segment,
            IfMatch(version): IfMatch,
            key: IdempotencyKey,
            _nothing: NoBody,
        ) -> ApiResult<Response> {
            act(&app, caller, &id, $action, version, key).await
        }
    };
}

action!(
    /// Puts a conversation back into its queue.
    ///
    /// It keeps the rank it had: a released conversation is not sent to the end.
    release_conversation,
    "/v1/conversations/{id}/release",
    Action::Release
);
action!(
    /// Resolves a conversation.
    ///
    /// A customer's message within the reopen window puts it back into its queue.
    resolve_conversation,
    "/v1/conversations/{id}/resolve",
    Action::Resolve
);
action!(
    /// Puts a resolved conversation back into its queue.
    reopen_conversation,
    "/v1/conversations/{id}/reopen",
    Action::Reopen
);

async fn act(
    app: &App,
    caller: Caller,
    id: &str,
    action: Action,
    version: Option<i64>,
    IdempotencyKey(key): IdempotencyKey,
) -> ApiResult<Response> {
    let key = key.map(|key| idempotency_of(&caller, &key, action.as_str(), id, &[]));
    let (conversation, actor, at) = (conversation_id(app, id)?, caller.actor, now(app));
    let store = &app.state.store;
    let Some(key) = key else {
        let done = store.act(conversation, actor, action, version, at).await?;
        return Ok(stands(app, Some(done)));
    };
    let asked = Asked::Act {
        conversation,
        actor,
        action,
        version,
        at,
    };
    Ok(stands(app, store.once(key, asked).await?))
}

pub fn conversation_id(app: &App, text: &str) -> ApiResult<ConversationId> {
    let number = app.state.ids.decode(IdKind::Conversation, text);
    number
        .map(ConversationId)
        .ok_or_else(|| ApiError::not_found("conversation"))
}

async fn find(app: &App, caller: &Caller, id: &str) -> ApiResult<Conversation> {
    let id = conversation_id(app, id)?;
    let found = app
        .state
        .store
        .conversation(caller.actor.clone(), id)
        .await?;
    found.ok_or_else(|| ApiError::not_found("conversation"))
}

/// The conversation with its newest messages.
pub async fn with_messages(
    app: &App,
    actor: &Actor,
    conversation: &Conversation,
) -> ApiResult<ConversationView> {
    let limit = EXPANDED_MESSAGES + 1;
    let found = app
        .state
        .store
        .messages(actor.clone(), conversation.id, None, limit)
        .await?;
    let mut messages = found.unwrap_or_default();
    let ids = &app.state.ids;
    let older = messages
        .get(EXPANDED_MESSAGES as usize)
        .map(|older| older.id.0);
    messages.truncate(EXPANDED_MESSAGES as usize);
    Ok(ConversationView {
        messages: Some(
            messages
                .iter()
                .map(|message| MessageView::of(message, ids))
                .collect(),
        ),
        messages_next_cursor: older.map(|older| ids.encode(IdKind::Page, older)),
        ..ConversationView::of(conversation, ids)
    })
}

/// The version as an entity tag (RFC 9110, section 8.8.3).
pub fn etag(version: i64) -> [(HeaderName, HeaderValue); 1] {
    let value = HeaderValue::try_from(format!("\"{version}\""));
    [(
        header::ETAG,
        value.unwrap_or(HeaderValue::from_static("\"\"")),
    )]
}
