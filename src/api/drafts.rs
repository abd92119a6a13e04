//! What an agent has begun to write: one draft for each agent in each conversation, kept until it
//! is sent or given up, on whatever screen it was begun.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use connector_api::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::clock::timestamp;
use crate::store::macros::StoredDraft;

use super::App;
use super::auth::Working;
use super::body::{NoBody, ObjectBody};
use super::conversations::{conversation_id, etag};
use super::documentation::{Authenticated, BadBody, NoSuchThing, StaleVersion, UnexpectedBody};
use super::fields::Fields;
use super::problem::{ApiError, ApiResult};
use super::request::{IfMatch, Segment, now};
use super::written::{FIELDS, NewMessage};

/// A draft.
#[derive(Debug, Serialize, ToSchema)]
pub struct DraftView {
    /// The fields of an answer, as they were last kept: not checked yet.
    #[schema(value_type = NewMessage)]
    pub content: Map<String, Value>,
    pub version: i64,
    pub saved_at: Timestamp,
}

/// Reads one's own draft.
///
/// 404 where there is none. It is gone once the agent has answered.
#[utoipa::path(
    get,
    path = "/v1/conversations/{id}/draft",
    tag = "Messages",
    security(("token" = [])),
    params(("id" = String, Path, description = "The conversation's id")),
    responses(
        (status = 200, description = "The draft", body = DraftView, headers(("ETag" = String, description = "Its version"))),
        Authenticated, NoSuchThing
    )
)]
pub async fn get_draft(
    State(app): State<Arc<App>>,
    Working(caller): Working,
    Segment(id): Segment,
) -> ApiResult<Response> {
    let id = conversation_id(&app, &id)?;
    let found = app.state.store.draft(caller.actor, id).await?;
    let found = found.ok_or_else(|| ApiError::not_found("draft"))?;
    Ok(shown(found))
}

/// Keeps one's own draft.
///
/// The fields of an answer, all of them optional, checked only by name: what is half written may be
/// wrong. With If-Match only over the version given; `"0"` where there must be none. Versions only
/// grow, also over a draft that was sent.
#[utoipa::path(
    put,
    path = "/v1/conversations/{id}/draft",
    tag = "Messages",
    security(("token" = [])),
    params(
        ("id" = String, Path, description = "The conversation's id"),
        ("If-Match" = Option<String>, Header, description = "Only over this version", example = "\"3\"")
    ),
    request_body = NewMessage,
    responses(
        (status = 200, description = "Kept", body = DraftView, headers(("ETag" = String, description = "Its version"))),
        Authenticated, NoSuchThing, StaleVersion, BadBody
    )
)]
pub async fn save_draft(
    State(app): State<Arc<App>>,
    Working(caller): Working,
    Segment(id): Segment,
    IfMatch(version): IfMatch,
    body: ObjectBody,
) -> ApiResult<Response> {
    let id = conversation_id(&app, &id)?;
    Fields::of(&body.object, &FIELDS)?;
    let store = &app.state.store;
    let kept = store
        .save_draft(caller.actor, id, body.object, version, now(&app))
        .await?;
    Ok(shown(kept))
}

/// Gives one's own draft up.
///
/// With If-Match only the version given: what another screen has kept since stays.
#[utoipa::path(
    delete,
    path = "/v1/conversations/{id}/draft",
    tag = "Messages",
    security(("token" = [])),
    params(
        ("id" = String, Path, description = "The conversation's id"),
        ("If-Match" = Option<String>, Header, description = "Only this version", example = "\"3\"")
    ),
    responses(
        (status = 204, description = "There is none (any more)"),
        Authenticated, NoSuchThing, StaleVersion, UnexpectedBody
    )
)]
pub async fn delete_draft(
    State(app): State<Arc<App>>,
    Working(caller): Working,
    Segment(id): Segment,
    IfMatch(version): IfMatch,
    _nothing: NoBody,
) -> ApiResult<StatusCode> {
    let id = conversation_id(&app, &id)?;
    let store = &app.state.store;
    store.delete_draft(caller.actor, id, version).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn shown(draft: StoredDraft) -> Response {
    let view = DraftView {
        content: draft.content,
        version: draft.version,
        saved_at: timestamp(draft.at),
    };
    (etag(view.version), Json(view)).into_response()
}
