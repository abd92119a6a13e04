//! Contacts: who writes.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use crate::ids::{ContactId, IdKind};

use super::App;
use super::auth::Reading;
use super::documentation::{Authenticated, NoSuchThing};
use super::problem::{ApiError, ApiResult};
use super::request::Segment;
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
        (status = 200, description = "The contact", body = ContactView),
        Authenticated, NoSuchThing
    )
)]
pub async fn get_contact(
    State(app): State<Arc<App>>,
    Reading(caller): Reading,
    Segment(id): Segment,
) -> ApiResult<Json<ContactView>> {
    let missing = || ApiError::not_found("contact");
    let id = app
        .state
        .ids
        .decode(IdKind::Contact, &id)
        .map(ContactId)
        .ok_or_else(missing)?;
    let contact = app
        .state
        .store
        .contact(caller.actor, id)
        .await?
        .ok_or_else(missing)?;
    Ok(Json(ContactView::of(&contact, &app.state.ids)))
}
