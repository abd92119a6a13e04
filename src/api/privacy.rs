//! What is kept of one person: held by law, handed out, or erased.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream;
use serde::Deserialize;
use tracing::warn;
use utoipa::ToSchema;

use crate::dispatch::privacy::reaches;
use crate::dispatch::{Actor, Role};
use crate::ids::IdKind;
use crate::store::privacy::{Asking, Holding};

use super::App;
use super::auth::{Caller, Reading, Working};
use super::body::{NoBody, ObjectBody};
use super::contacts::contact_id;
use super::conversations::etag;
use super::documentation::{Authenticated, BadBody, Kept, MergedAway, NoSuchThing, UnexpectedBody};
use super::export::{Export, Exporter, Piece, Place};
use super::fields::Fields;
use super::problem::{ApiError, ApiResult};
use super::request::{Segment, now};
use super::surgery::named;
use super::views::erasure::ErasureView;
use super::views::{ContactView, List};

/// Longest reason, in characters.
const REASON_CHARS_MAX: usize = 500;
/// Erasures that a list has at most.
const ERASURES_LISTED: u32 = 100;

/// Why something is done to what is kept of a person.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(
    dead_code,
    reason = "documents the body; it is read field by field, to name what is wrong"
)]
pub struct ReasonBody {
    /// For the record: a file number rather than a name. It stays when the person is erased.
    #[schema(max_length = 500, example = "Claim of 2026-03-02, file 17/26")]
    reason: String,
}

/// Puts a legal hold on a contact.
///
/// Nothing of it is removed any more, neither by retention nor by an erasure, until it is lifted. Contacts that are
/// merged with it, or parted from it, are held, too. A supervisor who sees the contact may; one that is held already
/// keeps who put it on first, and why.
#[utoipa::path(
    put,
    path = "/v1/contacts/{id}/hold",
    tag = "Contacts",
    security(("token" = [])),
    params(("id" = String, Path, description = "The contact's id")),
    request_body = ReasonBody,
    responses(
        (status = 200, description = "The contact, held", body = ContactView,
            headers(("ETag" = String, description = "Its new version"))),
        Authenticated, NoSuchThing, MergedAway, BadBody
    )
)]
pub async fn hold_contact(
    State(app): State<Arc<App>>,
    Working(caller): Working,
    Segment(id): Segment,
    body: ObjectBody,
) -> ApiResult<Response> {
    let fields = Fields::of(&body.object, &["reason"])?;
    let reason = reason(&fields)?;
    set_hold(&app, caller, &id, Some(reason)).await
}

/// Lifts the legal hold on a contact.
///
/// What retention would have removed meanwhile goes with its next look. A supervisor who sees the contact may.
#[utoipa::path(
    delete,
    path = "/v1/contacts/{id}/hold",
    tag = "Contacts",
    security(("token" = [])),
    params(("id" = String, Path, description = "The contact's id")),
    responses(
        (status = 200, description = "The contact, not held", body = ContactView,
            headers(("ETag" = String, description = "Its new version"))),
        Authenticated, NoSuchThing, MergedAway, UnexpectedBody
    )
)]
pub async fn release_contact(
    State(app): State<Arc<App>>,
    Working(caller): Working,
    Segment(id): Segment,
    _nothing: NoBody,
) -> ApiResult<Response> {
    set_hold(&app, caller, &id, None).await
}

/// Exports everything that is kept of a contact.
///
/// One JSON document over all its channels (its schema is `/export.schema.json`), written as it is read: as long as
/// it has not come to its `counts`, it is not whole. Files are named, and fetched from `/v1/attachments/{id}`, each
/// as often and from where it is needed. A supervisor whose token is of all queues may: a contact's conversations may
/// be in any. Agents' names, other participants, blind copies, and what others wrote without sending it to this
/// person are not in it.
#[utoipa::path(
    get,
    path = "/v1/contacts/{id}/export",
    tag = "Contacts",
    security(("token" = [])),
    params(("id" = String, Path, description = "The contact's id")),
    responses(
        (status = 200, description = "The export", body = Export),
        Authenticated, NoSuchThing, MergedAway
    )
)]
pub async fn export_contact(
    State(app): State<Arc<App>>,
    Reading(caller): Reading,
    Segment(id): Segment,
) -> ApiResult<Response> {
    let exporter = Exporter {
        store: app.state.store.clone(),
        ids: app.state.ids.clone(),
        contact: contact_id(&app, &id)?,
        actor: caller.actor,
        now: now(&app),
    };
    let first = exporter.piece(Place::start()).await;
    let first = first.map_err(|error| named(&app, error))?;
    let begun = (exporter, Some(Ok(first)));
    let pieces = stream::unfold(begun, |(exporter, piece)| async move {
        // A piece that cannot be had cuts the answer off: what came is no JSON, and so not taken for all of it.
        let piece: Piece = match piece? {
            Ok(piece) => piece,
            Err(error) => {
                warn!(%error, "an export broke off");
                return Some((
                    Err(std::io::Error::other("the export broke off")),
                    (exporter, None),
                ));
            }
        };
        let next = match piece.next {
            Some(place) => Some(exporter.piece(place).await),
            None => None,
        };
        Some((Ok(Bytes::from(piece.text)), (exporter, next)))
    });
    let kind = (CONTENT_TYPE, "application/json");
    let name = format!("attachment; filename=\"{id}.json\"");
    let saved = (CONTENT_DISPOSITION, name.as_str());
    Ok(([kind, saved], Body::from_stream(pieces)).into_response())
}

/// Erases a contact.
///
/// All that is kept of it, in steps: its conversations with everything that was said, noted and begun in them, its
/// addresses, what it wrote in conversations of others, files, words in search, what events tell. It begins at once
/// and goes on over restarts; the erasure that is answered says how far it is, and at its end what was removed and
/// where copies may be until when. Whoever writes under one of the addresses afterwards is somebody new; what a
/// provider delivers again brings nothing back. Asked again, it is the same erasure. A supervisor whose token is of
/// all queues may; a legal hold refuses it.
#[utoipa::path(
    post,
    path = "/v1/contacts/{id}/erase",
    tag = "Contacts",
    security(("token" = [])),
    params(("id" = String, Path, description = "The contact's id")),
    request_body = ReasonBody,
    responses(
        (status = 202, description = "It is begun, or was before", body = ErasureView),
        Authenticated, NoSuchThing, Kept, BadBody
    )
)]
pub async fn erase_contact(
    State(app): State<Arc<App>>,
    Working(caller): Working,
    Segment(id): Segment,
    body: ObjectBody,
) -> ApiResult<Response> {
    let fields = Fields::of(&body.object, &["reason"])?;
    let asking = Asking {
        contact: contact_id(&app, &id)?,
        who: who(&caller),
        actor: caller.actor,
        reason: reason(&fields)?,
        at: now(&app),
    };
    let asked = app.state.store.ask_erasure(asking).await;
    let erasure = asked.map_err(|error| named(&app, error))?;
    let view = ErasureView::of(&erasure, &app.state.ids);
    Ok((StatusCode::ACCEPTED, Json(view)).into_response())
}

/// Reads an erasure and its report.
///
/// A supervisor or an admin may: it tells nothing of the person.
#[utoipa::path(
    get,
    path = "/v1/erasures/{id}",
    tag = "Contacts",
    security(("token" = [])),
    params(("id" = String, Path, description = "The erasure's id")),
    responses(
        (status = 200, description = "The erasure", body = ErasureView),
        Authenticated, NoSuchThing
    )
)]
pub async fn get_erasure(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segment(id): Segment,
) -> ApiResult<Json<ErasureView>> {
    may_report(&caller.actor)?;
    let missing = || ApiError::not_found("erasure");
    let number = app.state.ids.decode(IdKind::Erasure, &id);
    let found = app.state.store.erasure(number.ok_or_else(missing)?).await?;
    let found = found.filter(|found| reaches(&caller.actor, &found.brand));
    let found = found.ok_or_else(missing)?;
    Ok(Json(ErasureView::of(&found, &app.state.ids)))
}

/// Lists the newest erasures.
///
/// At most 100, asked for last first.
#[utoipa::path(
    get,
    path = "/v1/erasures",
    tag = "Contacts",
    security(("token" = [])),
    responses(
        (status = 200, description = "Erasures", body = List<ErasureView>),
        Authenticated
    )
)]
pub async fn list_erasures(
    State(app): State<Arc<App>>,
    caller: Caller,
) -> ApiResult<Json<List<ErasureView>>> {
    may_report(&caller.actor)?;
    let found = app.state.store.erasures(None, ERASURES_LISTED).await?;
    let seen = found
        .iter()
        .filter(|one| reaches(&caller.actor, &one.brand));
    Ok(Json(List {
        items: seen
            .map(|one| ErasureView::of(one, &app.state.ids))
            .collect(),
        next_cursor: None,
    }))
}

fn may_report(actor: &Actor) -> ApiResult<()> {
    match actor.role {
        Role::Supervisor | Role::Admin => Ok(()),
        role => Err(ApiError::role(role)),
    }
}

async fn set_hold(
    app: &App,
    caller: Caller,
    id: &str,
    reason: Option<String>,
) -> ApiResult<Response> {
    let holding = Holding {
        contact: contact_id(app, id)?,
        who: who(&caller),
        actor: caller.actor,
        reason,
        at: now(app),
    };
    let held = app.state.store.hold_contact(holding).await;
    let contact = held.map_err(|error| named(app, error))?;
    let view = ContactView::of(&contact, &app.state.ids);
    Ok((etag(view.version), Json(view)).into_response())
}

/// Who asks, as it is kept.
fn who(caller: &Caller) -> String {
    let agent = caller.actor.agent.clone();
    agent.unwrap_or_else(|| caller.actor.role.as_str().to_owned())
}

fn reason(fields: &Fields<'_>) -> ApiResult<String> {
    let reason = fields.line("reason", REASON_CHARS_MAX)?;
    let reason = reason.filter(|reason| !reason.trim().is_empty());
    reason.ok_or_else(|| super::fields::wrong("reason", "\"reason\" must say why, in one line"))
}
