//! Who takes part in a conversation besides those who wrote.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use connector_api::{Namespace, Recipient};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::dispatch::verbs::Verb;
use crate::router::facts::Role;

use super::App;
use super::auth::Working;
use super::body::ObjectBody;
use super::documentation::{Authenticated, BadBody, Contested, NoSuchThing, Stands};
use super::fields::{Fields, wrong};
use super::problem::ApiResult;
use super::request::{IdempotencyKey, IfMatch, Segment};
use super::verbs::perform;
use super::written::RECIPIENT_CHARS_MAX;

/// Somebody who joins a conversation.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "documents the body")]
pub struct NewParticipant {
    #[schema(example = "email")]
    namespace: String,
    /// As people write it; kept as the channel reads it.
    #[schema(max_length = 500, example = "partner@parcel.example")]
    address: String,
    #[schema(max_length = 500)]
    name: Option<String>,
}

/// Takes somebody into a conversation.
///
/// What they answer belongs here from now on. Nobody is told by it: to write to them, name them in
/// an answer. A channel of the conversation's brand has to write to such addresses: otherwise 422,
/// where `allowed` are the namespaces in which this address could be meant.
#[utoipa::path(
    post,
    path = "/v1/conversations/{id}/participants",
    tag = "Conversations",
    security(("token" = [])),
    params(("id" = String, Path, description = "The conversation's id"), IdempotencyKey, IfMatch),
    request_body = NewParticipant,
    responses(
        Stands, Authenticated, NoSuchThing, Contested, BadBody
    )
)]
pub async fn add_participant(
    State(app): State<Arc<App>>,
    Working(caller): Working,
    Segment(id): Segment,
    IfMatch(version): IfMatch,
    key: IdempotencyKey,
    body: ObjectBody,
) -> ApiResult<Response> {
    let (namespace, address, name) = participant(&body, &["namespace", "address", "name"])?;
    let verb = Verb::AddParticipant {
        recipient: Recipient {
            namespace,
            address,
            name,
        },
        role: Role::Cc,
    };
    perform(
        &app,
        caller,
        &id,
        verb,
        version,
        ("add_participant", &body.bytes, key),
    )
    .await
}

/// Takes somebody out of a conversation.
///
/// What they write from now on opens a conversation of its own, linked to this one. A customer who
/// wrote cannot be taken out.
#[utoipa::path(
    post,
    path = "/v1/conversations/{id}/participants/remove",
    tag = "Conversations",
    security(("token" = [])),
    params(("id" = String, Path, description = "The conversation's id"), IdempotencyKey, IfMatch),
    request_body = NewParticipant,
    responses(
        Stands, Authenticated, NoSuchThing, Contested, BadBody
    )
)]
pub async fn remove_participant(
    State(app): State<Arc<App>>,
    Working(caller): Working,
    Segment(id): Segment,
    IfMatch(version): IfMatch,
    key: IdempotencyKey,
    body: ObjectBody,
) -> ApiResult<Response> {
    let (namespace, address, _) = participant(&body, &["namespace", "address"])?;
    let verb = Verb::RemoveParticipant { namespace, address };
    perform(
        &app,
        caller,
        &id,
        verb,
        version,
        ("remove_participant", &body.bytes, key),
    )
    .await
}

fn participant(
    body: &ObjectBody,
    names: &[&str],
) -> ApiResult<(Namespace, String, Option<String>)> {
    let fields = Fields::of(&body.object, names)?;
    let word = |name: &str| {
        let line = fields.line(name, RECIPIENT_CHARS_MAX)?;
        line.ok_or_else(|| wrong(name, format!("\"{name}\" is missing")))
    };
    Ok((
        Namespace::named(word("namespace")?),
        word("address")?,
        fields.line("name", RECIPIENT_CHARS_MAX)?,
    ))
}
