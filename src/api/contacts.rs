//! Contacts: who writes.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::ids::{ContactId, IdKind};
use crate::store::{ContactEdit, StoredContact};

use super::App;
use super::auth::{Reading, Working};
use super::body::ObjectBody;
use super::conversations::etag;
use super::documentation::{Authenticated, BadBody, MergedAway, NoSuchThing, StaleVersion};
use super::fields::Fields;
use super::problem::{ApiError, ApiResult};
use super::request::{IfMatch, Segment, now};
use super::surgery::named;
use super::verbs::attributes;
use super::views::ContactView;

/// Reads a contact.
///
/// One that has a conversation the token may see.
#[utoipa::path(
    get,
    path = "/v1/contacts/{id}",
    tag = "Contacts",
    security(("token" = [])),
    params(("id" = String, Path, description = "The contact's id")),
    responses(
        (status = 200, description = "The contact", body = ContactView,
            headers(("ETag" = String, description = "Its version"))),
        Authenticated, NoSuchThing
    )
)]
pub async fn get_contact(
    State(app): State<Arc<App>>,
    Reading(caller): Reading,
    Segment(id): Segment,
) -> ApiResult<Response> {
    let missing = || ApiError::not_found("contact");
    let id = contact_id(&app, &id)?;
    let contact = app
        .state
        .store
        .contact(caller.actor, id)
        .await?
        .ok_or_else(missing)?;
    Ok(shown(&app, &contact))
}

/// What is said about a contact. What is left out stays as it is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(
    dead_code,
    reason = "documents the body; it is read field by field, to name what is wrong"
)]
pub struct ContactBody {
    /// What people call them; nothing is found or joined by it.
    #[schema(max_length = 500, example = "Ada Lovelace")]
    name: Option<String>,
    /// The shop's own facts, by name: texts, numbers, true or false. Merged into those it has; null
    /// removes one. At most 50.
    #[schema(value_type = Option<Object>, example = json!({ "customer_no": "4711" }))]
    attributes: Option<serde_json::Value>,
}

/// Says who a contact is.
///
/// Name and attributes; whoever sees it and works may. Its identities are only changed by what
/// customers prove, and by merging.
#[utoipa::path(
    patch,
    path = "/v1/contacts/{id}",
    tag = "Contacts",
    security(("token" = [])),
    params(("id" = String, Path, description = "The contact's id"), IfMatch),
    request_body = ContactBody,
    responses(
        (status = 200, description = "As it stands now", body = ContactView,
            headers(("ETag" = String, description = "Its new version"))),
        Authenticated, NoSuchThing, MergedAway, StaleVersion, BadBody
    )
)]
pub async fn edit_contact(
    State(app): State<Arc<App>>,
    Working(caller): Working,
    Segment(id): Segment,
    IfMatch(version): IfMatch,
    body: ObjectBody,
) -> ApiResult<Response> {
    let fields = Fields::of(&body.object, &["name", "attributes"])?;
    let edit = ContactEdit {
        contact: contact_id(&app, &id)?,
        actor: caller.actor,
        name: fields.line("name", NAME_CHARS_MAX)?,
        attributes: attributes(&fields)?,
        version,
        at: now(&app),
    };
    let edited = app.state.store.edit_contact(edit).await;
    let contact = edited.map_err(|error| named(&app, error))?;
    Ok(shown(&app, &contact))
}

/// Longest name, in characters.
const NAME_CHARS_MAX: usize = 500;

pub fn contact_id(app: &App, text: &str) -> ApiResult<ContactId> {
    let number = app.state.ids.decode(IdKind::Contact, text);
    number
        .map(ContactId)
        .ok_or_else(|| ApiError::not_found("contact"))
}

fn shown(app: &App, contact: &StoredContact) -> Response {
    let view = ContactView::of(contact, &app.state.ids);
    (etag(view.version), Json(view)).into_response()
}
