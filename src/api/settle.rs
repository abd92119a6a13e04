//! Settling: a person says what became of an answer of which nobody knows whether it left.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::ids::{IdKind, MessageId};
use crate::store::{SettleAs, Settling};

use super::App;
use super::auth::Working;
use super::body::{ObjectBody, unknown_field};
use super::documentation::{Authenticated, BadBody, NoSuchThing, Unsettled};
use super::messages::idempotency_of;
use super::problem::{ApiError, ApiResult, Kind};
use super::request::{IdempotencyKey, Segment, now};
use super::views::message::MessageView;

/// What became of the message.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(
    dead_code,
    reason = "documents the body; it is read field by field, to name what is wrong"
)]
pub struct Settlement {
    /// `sent`: it arrived. `refused`: it did not arrive and is not sent again. `retry`: it is sent
    /// again, and may arrive twice.
    #[serde(rename = "as")]
    outcome: SettleAs,
}

/// Settles a held message.
///
/// An answer is held, with `delivery` `unknown`, where nobody knows whether it left: the provider's
/// reply was lost and the provider would take it twice, or a restored backup had it unsent. Only
/// the assignee or a supervisor may settle it; who did, how and when is part of the conversation's
/// explanation. `retry` sends it again, so it needs an Idempotency-Key, and the customer may get it
/// twice. A message is settled once: a second attempt is refused with 409 and its `delivery`.
/// `refused` brings the conversation back to a person; otherwise it stays where it is.
#[utoipa::path(
    post,
    path = "/v1/messages/{id}/settle",
    tag = "Messages",
    security(("token" = [])),
    params(
        ("id" = String, Path, description = "The message's id"),
        ("Idempotency-Key" = Option<String>, Header, description = "Names this settlement over all tries; 1 to 255 characters. Required for `retry`")
    ),
    request_body = Settlement,
    responses(
        (status = 200, description = "The message as it stands now; `queued` after `retry`", body = MessageView),
        Authenticated, NoSuchThing, Unsettled, BadBody
    )
)]
pub async fn settle_message(
    State(app): State<Arc<App>>,
    Working(caller): Working,
    Segment(id): Segment,
    key: IdempotencyKey,
    body: ObjectBody,
) -> ApiResult<Json<MessageView>> {
    let message = app.state.ids.decode(IdKind::Message, &id);
    let message = message
        .map(MessageId)
        .ok_or_else(|| ApiError::not_found("message"))?;
    let outcome = outcome_of(&body.object)?;
    let key = match outcome {
        SettleAs::Retry => Some(key.required()?),
        SettleAs::Sent | SettleAs::Refused => key.0,
    };
    let idempotency = key.map(|key| idempotency_of(&caller, &key, "settle", &id, &body.bytes));
    let settling = Settling {
        message,
        by: Some(caller.actor),
        outcome,
        idempotency,
        at: now(&app),
    };
    let (message, rings) = app.state.store.settle_held(settling).await?;
    for queue in &rings.queues {
        app.state.queues.ring(queue.as_str());
    }
    for channel in &rings.channels {
        app.state.outbox.ring(channel.as_str());
    }
    Ok(Json(MessageView::of(&message, &app.state.ids)))
}

/// The one field of the body.
fn outcome_of(object: &Map<String, Value>) -> ApiResult<SettleAs> {
    if let Some(unknown) = object.keys().find(|name| *name != "as") {
        return Err(unknown_field(unknown, &["as"]));
    }
    let names = SettleAs::ALL.map(SettleAs::as_str);
    let given = object.get("as").and_then(Value::as_str);
    given.and_then(SettleAs::parse).ok_or_else(|| {
        let detail = format!("\"as\" must be one of {}", names.join(", "));
        ApiError::new(Kind::Unprocessable, detail)
            .field("as")
            .allowed(names)
    })
}
