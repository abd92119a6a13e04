//! What a desk does with a conversation besides answering it: what it is about, who has it, and when
//! it comes back.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use connector_api::QueueId;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::conversation::{Priority, Status};
use crate::dispatch::verbs::{
    AGENT_CHARS_MAX, Attributes, Edit, TAG_CHARS_MAX, TAGS_MAX, Target, Verb,
};
use crate::router::facts::Conversation;
use crate::store::{Asked, Doing};

use super::App;
use super::auth::{Caller, Working};
use super::body::{NoBody, ObjectBody};
use super::conversations::{conversation_id, etag};
use super::documentation::{
    Authenticated, BadBody, Contested, KeyReused, NoSuchThing, Stands, UnexpectedBody,
};
use super::fields::{Fields, wrong};
use super::messages::idempotency_of;
use super::problem::ApiResult;
use super::request::{IdempotencyKey, IfMatch, Segment, now};
use super::views::ConversationView;
use super::written::SUBJECT_CHARS_MAX;

/// What is said about a conversation. What is left out stays as it is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(
    dead_code,
    reason = "documents the body; it is read field by field, to name what is wrong"
)]
pub struct ConversationEdit {
    priority: Option<Priority>,
    /// All of them.
    #[schema(max_items = 50, example = json!(["refund", "vip"]))]
    tags: Option<Vec<String>>,
    /// Beside those it has: two agents who add one each keep both.
    #[schema(max_items = 50)]
    add_tags: Option<Vec<String>>,
    #[schema(max_items = 50)]
    remove_tags: Option<Vec<String>>,
    /// The shop's own facts, by name: texts, numbers, true or false. Merged into those it has; null
    /// removes one. At most 50.
    #[schema(value_type = Option<Object>, example = json!({ "order_id": "17", "carrier": null }))]
    attributes: Option<Value>,
    /// What it is about, for people. Mails keep the subject that they answer.
    #[schema(max_length = 500)]
    subject: Option<String>,
}

/// Until when a conversation is put off.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "documents the body")]
pub struct Snooze {
    /// In the future, at most 400 days from now.
    until: connector_api::Timestamp,
}

/// To whom a conversation is handed on: `queue`, `agent`, or an agent in another queue.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "documents the body")]
pub struct Transfer {
    #[schema(example = "returns")]
    queue: Option<String>,
    #[schema(max_length = 64, example = "bob")]
    agent: Option<String>,
}

/// Says what a conversation is about.
///
/// Priority, tags, attributes, subject; whoever sees it and works may. A new priority moves it in
/// its queue at once.
#[utoipa::path(
    patch,
    path = "/v1/conversations/{id}",
    tag = "Conversations",
    security(("token" = [])),
    params(("id" = String, Path, description = "The conversation's id"), IfMatch),
    request_body = ConversationEdit,
    responses(
        (status = 200, description = "As it stands now", body = ConversationView,
            headers(("ETag" = String, description = "Its new version"))),
        Authenticated, NoSuchThing, Contested, BadBody
    )
)]
pub async fn edit_conversation(
    State(app): State<Arc<App>>,
    Working(caller): Working,
    Segment(id): Segment,
    IfMatch(version): IfMatch,
    body: ObjectBody,
) -> ApiResult<Response> {
    let names = [
        "priority",
        "tags",
        "add_tags",
        "remove_tags",
        "attributes",
        "subject",
    ];
    let fields = Fields::of(&body.object, &names)?;
    let tags = |name: &str| fields.lines(name, TAGS_MAX, TAG_CHARS_MAX);
    let edit = Edit {
        priority: priority(&fields)?,
        tags: fields.has("tags").then(|| tags("tags")).transpose()?,
        add_tags: tags("add_tags")?,
        remove_tags: tags("remove_tags")?,
        attributes: attributes(&fields)?,
        subject: fields.line("subject", SUBJECT_CHARS_MAX)?,
    };
    let once = ("edit", body.bytes.as_ref(), IdempotencyKey(None));
    perform(&app, caller, &id, Verb::Edit(edit), version, once).await
}

/// Puts a conversation off.
///
/// It is `snoozed` until then, or until the customer writes. Then it is its agent's again, or back
/// in its queue with the rank it had.
#[utoipa::path(
    post,
    path = "/v1/conversations/{id}/snooze",
    tag = "Conversations",
    security(("token" = [])),
    params(("id" = String, Path, description = "The conversation's id"), IdempotencyKey, IfMatch),
    request_body = Snooze,
    responses(
        Stands, Authenticated, NoSuchThing, Contested, BadBody
    )
)]
pub async fn snooze_conversation(
    State(app): State<Arc<App>>,
    Working(caller): Working,
    Segment(id): Segment,
    IfMatch(version): IfMatch,
    key: IdempotencyKey,
    body: ObjectBody,
) -> ApiResult<Response> {
    let fields = Fields::of(&body.object, &["until"])?;
    let until = fields.time("until")?;
    let until = until.ok_or_else(|| wrong("until", "\"until\" is missing"))?;
    let answer = perform(
        &app,
        caller,
        &id,
        Verb::Snooze { until },
        version,
        ("snooze", &body.bytes, key),
    )
    .await?;
    app.state.queues.ring(TIMERS);
    Ok(answer)
}

/// Under which name the clock of what sleeps is woken.
pub const TIMERS: &str = "#timers";

/// Brings a snoozed conversation back before its time.
#[utoipa::path(
    post,
    path = "/v1/conversations/{id}/wake",
    tag = "Conversations",
    security(("token" = [])),
    params(("id" = String, Path, description = "The conversation's id"), IdempotencyKey, IfMatch),
    responses(
        Stands, Authenticated, NoSuchThing, Contested, UnexpectedBody, KeyReused
    )
)]
pub async fn wake_conversation(
    State(app): State<Arc<App>>,
    Working(caller): Working,
    Segment(id): Segment,
    IfMatch(version): IfMatch,
    key: IdempotencyKey,
    _nothing: NoBody,
) -> ApiResult<Response> {
    perform(&app, caller, &id, Verb::Wake, version, ("wake", &[], key)).await
}

/// Hands a conversation on.
///
/// To a queue, where it waits with the rank it has: nobody loses their place by being sent to the
/// wrong desk first. Or to an agent, whose it is then: one with a token for the conversation's
/// brand, or 422. A token with the scope `act_as` may name any, for its agents have none.
#[utoipa::path(
    post,
    path = "/v1/conversations/{id}/transfer",
    tag = "Conversations",
    security(("token" = [])),
    params(("id" = String, Path, description = "The conversation's id"), IdempotencyKey, IfMatch),
    request_body = Transfer,
    responses(
        Stands, Authenticated, NoSuchThing, Contested, BadBody
    )
)]
pub async fn transfer_conversation(
    State(app): State<Arc<App>>,
    Working(caller): Working,
    Segment(id): Segment,
    IfMatch(version): IfMatch,
    key: IdempotencyKey,
    body: ObjectBody,
) -> ApiResult<Response> {
    let fields = Fields::of(&body.object, &["queue", "agent"])?;
    let queue = known_queue(&app, &fields)?;
    let target = match (fields.line("agent", AGENT_CHARS_MAX)?, queue) {
        (Some(name), queue) => Target::Agent { name, queue },
        (None, Some(queue)) => Target::Queue(queue),
        (None, None) => return Err(wrong("queue", "name a \"queue\", an \"agent\", or both")),
    };
    perform(
        &app,
        caller,
        &id,
        Verb::Transfer(target),
        version,
        ("transfer", &body.bytes, key),
    )
    .await
}

/// `once`: what is asked for, its body, and the key under which it is done once.
pub async fn perform(
    app: &App,
    caller: Caller,
    id: &str,
    verb: Verb,
    version: Option<i64>,
    (operation, body, IdempotencyKey(key)): (&str, &[u8], IdempotencyKey),
) -> ApiResult<Response> {
    let key = key.map(|key| idempotency_of(&caller, &key, operation, id, body));
    let doing = Doing {
        conversation: conversation_id(app, id)?,
        actor: caller.actor,
        verb,
        version,
        at: now(app),
    };
    let store = &app.state.store;
    let done = match key {
        Some(key) => store.once(key, Asked::Perform(doing)).await?,
        None => Some(store.perform(doing).await?),
    };
    Ok(stands(app, done))
}

/// How a conversation stands after what was done to it; 204 where that is not the caller's to see
/// any more.
pub fn stands(app: &App, done: Option<Conversation>) -> Response {
    let Some(done) = done else {
        return StatusCode::NO_CONTENT.into_response();
    };
    if done.status == Status::Queued {
        app.state.queues.ring(done.queue.as_str());
    }
    let view = ConversationView::of(&done, &app.state.ids);
    (etag(view.version), Json(view)).into_response()
}

/// A queue that is configured.
pub fn known_queue(app: &App, fields: &Fields<'_>) -> ApiResult<Option<QueueId>> {
    let Some(name) = fields.line("queue", 64)? else {
        return Ok(None);
    };
    let known = app.state.known_queues.now();
    let found = known.iter().find(|queue| queue.as_str() == name);
    found.cloned().map(Some).ok_or_else(|| {
        wrong("queue", format!("there is no queue {name:?}"))
            .allowed(known.iter().map(QueueId::as_str))
    })
}

pub fn priority(fields: &Fields<'_>) -> ApiResult<Option<Priority>> {
    let words = Priority::ALL.map(Priority::as_str);
    let parse = |text: &str| {
        let mut all = Priority::ALL.into_iter();
        all.find(|priority| priority.as_str() == text)
    };
    fields.word("priority", &words, parse)
}

pub fn attributes(fields: &Fields<'_>) -> ApiResult<Attributes> {
    match fields.get("attributes") {
        None => Ok(Attributes::new()),
        Some(Value::Object(object)) => Ok(object.clone().into_iter().collect()),
        Some(_) => Err(wrong("attributes", "\"attributes\" must be an object")),
    }
}
