//! Files of messages. They are strangers' bytes under this API's own origin, so a browser may only
//! save them, or show them where they are pictures: never guessed at, with no type that it would run.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;
use connector_api::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::clock::timestamp;
use crate::dispatch::Actor;
use crate::ids::{IdKind, MessageId};
use crate::store::StoredAttachment;

use super::App;
use super::auth::{Reading, actor_of};
use super::body::NoBody;
use super::documentation::{
    Authenticated, BadLink, BadParameters, NoSuchThing, NotStored, OutOfRange, UnexpectedBody,
};
use super::problem::{ApiError, ApiResult, Kind};
use super::request::{NoIdempotencyKey, Params, Segment, duration_of, now};

mod content;
mod links;

use content::{Use, respond};
pub use links::FileLinks;
use links::Link;

/// How long a link holds, and at most.
const LINK_HOLDS: Duration = Duration::from_secs(60 * 60);
const LINK_HOLDS_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Bytes, as the document shows them.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
#[expect(dead_code, reason = "documents the body")]
struct FileBytes(Vec<u8>);

/// Reads a file of a message.
///
/// The bytes as they came, to be saved and not to be shown: the type is the sender's word, given
/// only where it is harmless. Takes one `Range`. 409 while the file is not here; `state` of the
/// message's attachment says why.
#[utoipa::path(
    get,
    path = "/v1/attachments/{id}",
    tag = "Messages",
    security(("token" = [])),
    params(
        ("id" = String, Path, description = "The attachment's id, from its message"),
        ("Range" = Option<String>, Header, description = "A part of it", example = "bytes=0-1023")
    ),
    responses(
        (status = 200, description = "The bytes", content_type = "application/octet-stream",
            body = inline(FileBytes),
            headers(("Content-Disposition" = String, description = "`attachment`, with the sender's name for it"))),
        (status = 206, description = "A part of them", content_type = "application/octet-stream",
            body = inline(FileBytes)),
        Authenticated, NoSuchThing, NotStored, OutOfRange
    )
)]
pub async fn get_attachment(
    State(app): State<Arc<App>>,
    Reading(caller): Reading,
    Segment(id): Segment,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let found = find(&app, caller.actor, &id).await?;
    respond(&app, found, &headers, Use::Saved).await
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LinkParams {
    /// How long the link holds, at most 24 hours: `15m`, `1h`.
    #[param(example = "1h")]
    expires_in: Option<String>,
}

/// A link to a file.
#[derive(Debug, Serialize, ToSchema)]
pub struct LinkView {
    /// Below `server.public_url`; where that is not set, a path of this daemon.
    pub url: String,
    pub expires_at: Timestamp,
}

/// Makes a link to a file that needs no token.
///
/// For `<img>` and `<a>`: whoever has the link reads the file, for an hour if `expires_in` does not
/// say otherwise, and for as long as this token is not revoked and may see the message, in the name of
/// the agent that it acts for where it does. Nothing is kept, so no Idempotency-Key is taken (400).
#[utoipa::path(
    post,
    path = "/v1/attachments/{id}/link",
    tag = "Messages",
    security(("token" = [])),
    params(("id" = String, Path, description = "The attachment's id, from its message"), LinkParams),
    responses(
        (status = 200, description = "The link", body = LinkView),
        Authenticated, BadParameters, NoSuchThing, UnexpectedBody
    )
)]
pub async fn link_attachment(
    State(app): State<Arc<App>>,
    Reading(caller): Reading,
    Segment(id): Segment,
    Params(params): Params<LinkParams>,
    _: NoIdempotencyKey,
    _nothing: NoBody,
) -> ApiResult<Json<LinkView>> {
    let holds = duration_of("expires_in", params.expires_in.as_deref(), LINK_HOLDS_MAX)?;
    let holds = holds.unwrap_or(LINK_HOLDS);
    if holds < Duration::from_secs(1) {
        let detail = "\"expires_in\" must be a time from 1s to 24h";
        return Err(ApiError::bad_request("expires_in", detail));
    }
    let acting = caller.actor.acting.is_some();
    let agent = caller.actor.agent.clone().filter(|_| acting);
    find(&app, caller.actor, &id).await?;
    let seconds = i64::try_from(holds.as_secs()).unwrap_or(i64::MAX);
    let expires = now(&app) / 1_000_000 + seconds;
    let url = app.state.links.url(Link {
        attachment: &id,
        token: &app.state.ids.encode(IdKind::Token, caller.principal),
        agent: agent.as_deref(),
        expires,
    });
    Ok(Json(LinkView {
        url,
        expires_at: timestamp(expires * 1_000_000),
    }))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct FileParams {
    /// The token that made the link.
    by: String,
    /// The agent that it acted for.
    r#for: Option<String>,
    /// Until when it holds, in seconds since 1970.
    expires: i64,
    /// Says that we made it.
    mac: String,
}

/// Reads a file by its link.
///
/// Pictures (GIF, JPEG, PNG, WebP) may be shown, all else is saved. Takes one `Range`.
#[utoipa::path(
    get,
    path = "/files/{id}",
    tag = "Messages",
    params(
        ("id" = String, Path, description = "The attachment's id"),
        FileParams,
        ("Range" = Option<String>, Header, description = "A part of it", example = "bytes=0-1023")
    ),
    responses(
        (status = 200, description = "The bytes", content_type = "application/octet-stream",
            body = inline(FileBytes)),
        (status = 206, description = "A part of them", content_type = "application/octet-stream",
            body = inline(FileBytes)),
        BadParameters, BadLink, NotStored
    )
)]
pub async fn get_file(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    Params(params): Params<FileParams>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let missing = || ApiError::not_found("file");
    let link = Link {
        attachment: &id,
        token: &params.by,
        agent: params.r#for.as_deref(),
        expires: params.expires,
    };
    if !app.state.links.is_ours(link, &params.mac) {
        return Err(missing());
    }
    if now(&app) / 1_000_000 >= params.expires {
        let detail = "this link is past its time: ask for another one";
        return Err(ApiError::new(Kind::LinkExpired, detail));
    }
    let token = app.state.ids.decode(IdKind::Token, &params.by);
    let token = token.ok_or_else(missing)?;
    let actor = actor_of(&app, token, params.r#for.as_deref()).await?;
    let found = find(&app, actor.ok_or_else(missing)?, &id).await?;
    let mut response = respond(&app, found, &headers, Use::Shown).await?;
    // The page that shows it is another origin's.
    response.headers_mut().insert(
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("cross-origin"),
    );
    Ok(response)
}

async fn find(app: &App, actor: Actor, id: &str) -> ApiResult<StoredAttachment> {
    let missing = || ApiError::not_found("attachment");
    let place: Option<(MessageId, usize)> = app.state.ids.decode_attachment(id);
    let (message, place) = place.ok_or_else(missing)?;
    let found = app.state.store.attachment(actor, message, place).await?;
    found.ok_or_else(missing)
}
