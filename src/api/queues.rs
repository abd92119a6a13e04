//! Queues: what waits in them, and taking the first.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use connector_api::QueueId;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::dispatch::{Actor, Role};

use super::App;
use super::auth::{Watching, Working};
use super::claims::{WAIT_MAX, claim};
use super::conversations::{etag, with_messages};
use super::documentation::{Authenticated, BadParameters, ClaimedBefore, NoSuchThing};
use super::messages::idempotency_of;
use super::problem::{ApiError, ApiResult};
use super::request::{IdempotencyKey, Params, Segment, expands_messages, now, wait_of};
use super::views::{ConversationView, List, QueueView};

/// Lists the queues.
///
/// Those the token may use, with how much of its brands waits and for how long.
#[utoipa::path(
    get,
    path = "/v1/queues",
    tag = "Queues",
    security(("token" = [])),
    responses((status = 200, description = "All of them", body = List<QueueView>), Authenticated)
)]
pub async fn list_queues(
    State(app): State<Arc<App>>,
    Watching(caller): Watching,
) -> ApiResult<Json<List<QueueView>>> {
    let depths = app.state.store.queues(caller.actor).await?;
    let at = now(&app);
    let items = depths
        .iter()
        .map(|depth| QueueView::of(depth, at))
        .collect();
    Ok(Json(List {
        items,
        next_cursor: None,
    }))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ClaimParams {
    /// How long to wait for a conversation, at most 60 seconds: `30s`, `500ms`.
    #[param(example = "30s")]
    wait: Option<String>,
    /// `messages`: with the newest 50 messages, newest first.
    #[param(pattern = "^messages$")]
    expand: Option<String>,
}

/// Claims the next conversation of a queue.
///
/// Gives the conversation that waits longest (by rank) to the token's agent: nobody else gets it.
/// With `wait` the request stays open until there is one. An agent whose connection broke finds
/// what was claimed meanwhile under `GET /v1/conversations?assignee=me`; or it tries again under
/// the same Idempotency-Key, and is given the same conversation and never a second one. Once that is
/// not the agent's any more (released, handed on, resolved), the key is refused with 409: claim the
/// next one under another. A claim that found nothing is not kept.
#[utoipa::path(
    post,
    path = "/v1/queues/{id}/claim",
    tag = "Queues",
    security(("token" = [])),
    params(
        ("id" = String, Path, description = "The queue's id", example = "frontline"),
        ("Idempotency-Key" = Option<String>, Header, description = "Names this claim over all tries; 1 to 255 characters"),
        ClaimParams
    ),
    responses(
        (status = 200, description = "The conversation, now yours", body = ConversationView,
            headers(("ETag" = String, description = "Its version"))),
        (status = 204, description = "Nothing waits"),
        Authenticated, BadParameters, NoSuchThing, ClaimedBefore
    )
)]
pub async fn claim_conversation(
    State(app): State<Arc<App>>,
    Working(caller): Working,
    Segment(queue): Segment,
    Params(params): Params<ClaimParams>,
    IdempotencyKey(key): IdempotencyKey,
) -> ApiResult<Response> {
    let wait = wait_of(params.wait.as_deref(), WAIT_MAX)?;
    let expand = expands_messages(params.expand.as_deref())?;
    if caller.actor.agent.is_none() {
        return Err(nameless(caller.actor.role));
    }
    let queue =
        known_queue(&app, &caller.actor, &queue).ok_or_else(|| ApiError::not_found("queue"))?;
    let key = key.map(|key| idempotency_of(&caller, &key, "claim", queue.as_str(), &[]));
    let Some(conversation) = claim(&app, &caller, &queue, key.as_ref(), wait).await? else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    let view = match expand {
        true => with_messages(&app, &caller.actor, &conversation).await?,
        false => ConversationView::of(&conversation, &app.state.ids),
    };
    Ok((etag(view.version), Json(view)).into_response())
}

/// A queue of that name that the actor may use.
pub fn known_queue(app: &App, actor: &Actor, text: &str) -> Option<QueueId> {
    let queues = app.state.known_queues.now();
    let known = queues.iter().find(|queue| queue.as_str() == text)?;
    actor.may_use_queue(known).then(|| known.clone())
}

fn nameless(role: Role) -> ApiError {
    let mut refusal = ApiError::role(role);
    refusal.problem.detail =
        "this token names no agent: whom should the conversation be given to?".to_owned();
    refusal
}
