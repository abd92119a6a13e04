//! Events: everything that changes, as it changes, by server-sent events. A client that was away
//! goes on where it was, without a gap and without anything twice.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use connector_api::QueueId;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::dispatch::Actor;
use crate::ids::{ConversationId, IdKind};
use crate::router::effects::EventType;

use super::App;
use super::auth::Reading;
use super::documentation::{Authenticated, BadParameters, NoSuchThing};
use super::problem::{ApiError, ApiResult, Kind};
use super::queues::known_queue;
use super::request::{Params, single};

mod feed;
mod stream;
mod types;
mod view;

pub use feed::Feed;
use stream::Stream;
pub use view::EventView;

/// Streams at a time, of all clients: each holds a connection and a page of events.
pub const STREAMS_MAX: usize = 1_000;
const LAST_EVENT_ID: &str = "Last-Event-ID";

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EventParams {
    /// Only of conversations in this queue.
    #[param(example = "frontline")]
    queue: Option<String>,
    /// Only of this conversation.
    #[param(example = "cnv_5b1c9d1e7a0f8c3d9f2a6b4c8d7e1f03")]
    conversation: Option<String>,
    /// Only of these types, with commas between.
    #[param(example = "message.created,message.changed")]
    r#type: Option<String>,
    /// As the header `Last-Event-ID`, for clients that cannot set it; the header wins.
    #[param(value_type = Option<u64>, example = 4711)]
    last_event_id: Option<String>,
}

/// What a stream is about.
pub struct Wish {
    queue: Option<QueueId>,
    conversation: Option<ConversationId>,
    /// `None`: all.
    types: Option<Types>,
}

#[derive(Default)]
struct Types {
    kinds: Vec<EventType>,
    /// Whether it wants to be told what left.
    left: bool,
}

impl Wish {
    fn takes_queue(&self, queue: &QueueId) -> bool {
        self.queue.as_ref().is_none_or(|wanted| wanted == queue)
    }

    /// `None` for what happened to a contact, which is in no queue.
    fn takes(&self, kind: EventType, conversation: Option<ConversationId>) -> bool {
        let types = self.types.as_ref();
        let of_type = types.is_none_or(|types| types.kinds.contains(&kind));
        let of_conversation = match conversation {
            Some(id) => self.conversation.is_none_or(|wanted| wanted == id),
            None => self.conversation.is_none() && self.queue.is_none(),
        };
        of_type && of_conversation
    }

    /// What the store is asked for.
    fn kinds(&self) -> Vec<EventType> {
        let types = self.types.as_ref();
        types.map(|types| types.kinds.clone()).unwrap_or_default()
    }

    fn takes_left(&self, conversation: ConversationId) -> bool {
        let types = self.types.as_ref();
        types.is_none_or(|types| types.left)
            && self
                .conversation
                .is_none_or(|wanted| wanted == conversation)
    }
}

/// Streams events.
///
/// Server-sent events, from now on or after `Last-Event-ID`: `id` is the event's number, `event`
/// its type, `data` an [EventView] in JSON. `EventSource` cannot send the token: read the body of
/// `fetch`. Numbers rise; without filters and for a token that
/// sees everything they have no gaps. What a token may not see does not exist for it, as it is
/// when the event is sent: a conversation that moved out of sight takes its earlier events with it,
/// and `conversation.left` says so once. Where `Last-Event-ID` is older than `retention.events`,
/// or of another log than that of a restored backup, comes one `resync`: load afresh, and go on after
/// its number. `closed` ends a stream: `slow` clients, tokens that are `unauthorized` now,
/// `shutdown`, `unavailable`; come again with the last number. A comment comes every 15 seconds. At most 1,000 streams at a time.
#[utoipa::path(
    get,
    path = "/v1/events",
    tag = "Events",
    security(("token" = [])),
    params(
        EventParams,
        ("Last-Event-ID" = Option<u64>, Header, description = "Goes on after this number", example = 4711)
    ),
    responses(
        (status = 200, description = "The stream", content_type = "text/event-stream", body = EventView),
        Authenticated, BadParameters, NoSuchThing
    )
)]
pub async fn stream_events(
    State(app): State<Arc<App>>,
    Reading(caller): Reading,
    Params(params): Params<EventParams>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let asked = asked_of(&headers, params.last_event_id.as_deref())?;
    let wish = wish_of(&app, &caller.actor, &params).await?;
    let full = |_| {
        let detail = "too many event streams are open: share one between tabs, or poll";
        ApiError::new(Kind::Overloaded, detail)
    };
    let place = app.streams.clone().try_acquire_owned().map_err(full)?;
    let stream = Stream::new(app, caller, wish, asked, place);
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        // nginx would keep events back until its buffer is full.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    let headers = headers.map(|(name, value)| (name, HeaderValue::from_static(value)));
    Ok((headers, stream.into_body()).into_response())
}

/// The number to go on after. A browser sends what it saw last, and that may be nothing.
fn asked_of(headers: &HeaderMap, parameter: Option<&str>) -> ApiResult<Option<i64>> {
    let name = HeaderName::from_static("last-event-id");
    let header = single(headers, &name, LAST_EVENT_ID)?;
    let (text, field) = match header.filter(|header| !header.is_empty()) {
        Some(header) => (header, LAST_EVENT_ID),
        None => (parameter.unwrap_or_default(), "last_event_id"),
    };
    if text.is_empty() {
        return Ok(None);
    }
    match text.parse::<u64>().map(i64::try_from) {
        Ok(Ok(number)) => Ok(Some(number)),
        _ => Err(ApiError::bad_request(
            field,
            format!("\"{field}\" must be the number of an event"),
        )),
    }
}

async fn wish_of(app: &App, actor: &Actor, params: &EventParams) -> ApiResult<Wish> {
    let mut wish = Wish {
        queue: None,
        conversation: None,
        types: None,
    };
    if let Some(text) = &params.queue {
        let queue = known_queue(app, actor, text);
        let queue = queue.ok_or_else(|| ApiError::not_found("queue"))?;
        wish.queue = Some(queue);
    }
    if let Some(text) = &params.conversation {
        let missing = || ApiError::not_found("conversation");
        let id = app.state.ids.decode(IdKind::Conversation, text);
        let id = ConversationId(id.ok_or_else(missing)?);
        let found = app.state.store.conversation(actor.clone(), id).await?;
        found.ok_or_else(missing)?;
        wish.conversation = Some(id);
    }
    for name in params.r#type.iter().flat_map(|types| types.split(',')) {
        let types = wish.types.get_or_insert_default();
        match EventType::parse(name) {
            Some(kind) => types.kinds.push(kind),
            None if name == view::LEFT => types.left = true,
            None => {
                let known = EventType::ALL.map(EventType::as_str);
                let known: Vec<&str> = known.into_iter().chain([view::LEFT]).collect();
                let detail = format!("\"type\" must be of {}", known.join(", "));
                return Err(ApiError::bad_request("type", detail).allowed(known));
            }
        }
    }
    Ok(wish)
}
