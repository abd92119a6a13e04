//! Settling: a person says what became of an answer of which nobody knows whether it left.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::store::{SettleAs, Settling};

use super::App;
use super::auth::Working;
use super::body::ObjectBody;
use super::documentation::{Authenticated, BadBody, NoSuchThing, Unsettled};
use super::fields::{Fields, wrong};
use super::messages::{idempotency_of, message_id};
use super::problem::ApiResult;
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
    let message = message_id(&app, &id)?;
    let fields = Fields::of(&body.object, &["as"])?;
    let words = SettleAs::ALL.map(SettleAs::as_str);
    let outcome = fields.word("as", &words, SettleAs::parse)?;
    let outcome = outcome.ok_or_else(|| {
        wrong("as", format!("\"as\" must be {}", words.join(", "))).allowed(words)
    })?;
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
