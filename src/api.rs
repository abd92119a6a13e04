//! The queue API: what helpdesk UIs and webhook senders talk to.
//!
//! A handler extracts, authorises, makes one call of the store and gives a view. Routes and their
//! documentation are one thing: [`openapi`] is what [`router`] serves.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::{Next, from_fn, map_response};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use connector_api::{BrandId, CancellationToken, Clock, QueueId, WebhookRequest};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::Semaphore;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::blobs::Blobs;
use crate::health::Health;
use crate::ids::IdCodec;
use crate::live::Live;
use crate::store::Store;
use crate::wake::Wakes;

mod asyncapi;
mod attachments;
mod auth;
mod body;
mod channels;
mod claims;
mod contacts;
mod conversations;
mod cors;
mod docs;
mod documentation;
mod drafts;
mod events;
pub mod export;
mod fields;
mod hooks;
mod macros;
mod messages;
mod operations;
mod participants;
mod privacy;
mod problem;
mod queues;
mod reconciliation;
mod request;
mod search;
mod serve;
mod settle;
mod start;
mod surgery;
pub mod tls;
pub mod token;
pub(crate) mod topics;
mod uploads;
mod verbs;
pub(crate) mod views;
mod waiting;
mod written;

pub use attachments::FileLinks;
pub use channels::ChannelFacts;
pub use events::STREAMS_MAX;
use problem::{ApiError, Kind};
pub use reconciliation::{NoReport, Reconciling};
pub use serve::serve;
pub use verbs::TIMERS;
pub use waiting::serve_waiting;

/// What the handlers work with.
#[derive(Clone)]
pub struct ApiState {
    pub store: Arc<dyn Store>,
    pub ids: IdCodec,
    pub clock: Arc<dyn Clock>,
    /// Rung under a queue's id when it has more waiting.
    pub queues: Arc<Wakes>,
    /// Rung under a channel's id when its outbox has something.
    pub outbox: Arc<Wakes>,
    pub hooks: Arc<dyn Hooks>,
    pub health: Arc<Health>,
    pub reconciling: Arc<dyn Reconciling>,
    pub metrics: PrometheusHandle,
    /// What this process answers besides operators.
    pub served: Served,
    /// The largest body of a webhook request.
    pub body_bytes_max: usize,
    /// Bytes of webhook requests in memory at once, of all together; more are refused with 503.
    pub hooks_bytes_max: usize,
    /// Web origins whose pages may use the API.
    pub cors_origins: Vec<String>,
    /// The largest file of an answer.
    pub upload_bytes_max: u64,
    /// Signs links to files.
    pub links: FileLinks,
    /// Event streams at a time; more are refused with 503.
    pub streams_max: usize,
    /// Where the files of messages are.
    pub blobs: Blobs,
    /// The configured queues.
    pub known_queues: Live<Vec<QueueId>>,
    /// The configured brands.
    pub known_brands: Live<Vec<BrandId>>,
    /// The channels, with what each carries.
    pub channels: Live<Vec<ChannelFacts>>,
    /// The version of the store's schema.
    pub schema_version: i64,
    /// Names this process, by chance: who asks `/version` through proxies knows whom it reached.
    pub instance: String,
    /// Ends the requests that wait.
    pub stop: CancellationToken,
    pub deadlines: Deadlines,
}

/// Which parts of the HTTP surface a process has (`run.parts`).
#[derive(Debug, Clone, Copy)]
pub struct Served {
    /// `/v1` and its documentation.
    pub api: bool,
    /// `/hooks`.
    pub hooks: bool,
}

/// How long a client may take to send a request: slow ones hold nothing for long.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// For the TLS handshake, where there is one.
    pub handshake: Duration,
    /// For the head of a request, and for the pause between two requests of a connection.
    pub head: Duration,
    /// For the whole of a body.
    pub body: Duration,
    /// For taking the next piece of an event stream: who is slower is told, and dropped.
    pub unread: Duration,
    /// For taking anything at all of an answer; then the connection is cut.
    pub stalled: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(60),
            body: Duration::from_secs(30),
            unread: Duration::from_secs(10),
            stalled: Duration::from_secs(30),
        }
    }
}

/// Where webhook requests go: `inbound`, behind the channel's connector.
#[async_trait::async_trait]
pub trait Hooks: Send + Sync {
    /// Verifies, parses, makes durable, and only then gives the answer to send.
    async fn deliver(&self, channel: &str, request: WebhookRequest) -> HookAnswer;
    /// Largest request that the provider of a channel sends, in bytes, as far as its connector says.
    fn body_bytes_max(&self, channel: &str) -> u64;
}

/// What a webhook sender is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookAnswer {
    Accepted(connector_api::WebhookReply),
    /// No such webhook channel: 404.
    UnknownChannel,
    /// 401; nothing was stored.
    Unauthorized {
        detail: String,
    },
    /// 400 with the place.
    Malformed {
        detail: String,
    },
    /// 413.
    TooLarge {
        detail: String,
    },
    /// 503 with `Retry-After`: not durable, not accepted.
    Refused {
        detail: String,
        retry_after_seconds: u32,
    },
}

/// What handlers share: the state, and what the API itself remembers.
struct App {
    state: ApiState,
    tokens: auth::Tokens,
    claims: claims::Claims,
    document: Bytes,
    /// Free room among the bytes of webhook requests.
    hook_room: Arc<Semaphore>,
    /// The newest events, for all streams.
    feed: events::Feed,
    /// Free places for event streams.
    streams: Arc<Semaphore>,
    /// Searches under way.
    searches: search::Searches,
}

/// The whole HTTP surface.
pub fn router(state: ApiState) -> axum::Router {
    let served = state.served;
    let (router, document) = routes().split_for_parts();
    let document = documentation::with_agent(document)
        .to_json()
        .expect("a document of strings is JSON");
    let cors = cors::layer(&state.cors_origins);
    let hook_room = Arc::new(Semaphore::new(state.hooks_bytes_max));
    let streams = Arc::new(Semaphore::new(state.streams_max));
    let app = App {
        state,
        hook_room,
        feed: events::Feed::default(),
        streams,
        searches: search::Searches::default(),
        tokens: auth::Tokens::default(),
        claims: claims::Claims::default(),
        document: document.into(),
    };
    let router = router
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method);
    let router = router.layer(from_fn(move |request: Request, next: Next| async move {
        match missing_part(served, request.uri().path()) {
            Some(refusal) => refusal.into_response(),
            None => next.run(request).await,
        }
    }));
    let router = match cors {
        Some(cors) => router.layer(cors),
        None => router,
    };
    router
        .layer(map_response(secured))
        .with_state(Arc::new(app))
}

/// The OpenAPI document of [`router`].
pub fn openapi() -> utoipa::openapi::OpenApi {
    documentation::with_agent(routes().into_openapi())
}

/// The AsyncAPI document of what others read on the topics of a bus.
pub fn asyncapi() -> serde_json::Value {
    asyncapi::document()
}

fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::with_openapi(documentation::Document::openapi())
        // Helpdesk UIs.
        .routes(routes!(queues::list_queues))
        .routes(routes!(queues::claim_conversation))
        .routes(routes!(
            conversations::list_conversations,
            start::start_conversation
        ))
        .routes(routes!(
            conversations::get_conversation,
            verbs::edit_conversation
        ))
        .routes(routes!(conversations::explain_conversation))
        .routes(routes!(conversations::release_conversation))
        .routes(routes!(conversations::resolve_conversation))
        .routes(routes!(conversations::reopen_conversation))
        .routes(routes!(verbs::snooze_conversation))
        .routes(routes!(verbs::wake_conversation))
        .routes(routes!(verbs::transfer_conversation))
        .routes(routes!(participants::add_participant))
        .routes(routes!(participants::remove_participant))
        .routes(routes!(messages::list_messages, messages::send_message))
        .routes(routes!(messages::add_note))
        .routes(routes!(
            drafts::get_draft,
            drafts::save_draft,
            drafts::delete_draft
        ))
        .routes(routes!(messages::get_message))
        .routes(routes!(messages::cancel_message))
        .routes(routes!(settle::settle_message))
        .routes(routes!(attachments::get_attachment))
        .routes(routes!(attachments::link_attachment))
        .routes(routes!(attachments::get_file))
        .routes(routes!(uploads::upload_file))
        .routes(routes!(macros::list_macros, macros::create_macro))
        .routes(routes!(
            macros::get_macro,
            macros::replace_macro,
            macros::delete_macro
        ))
        .routes(routes!(macros::preview_macro))
        .routes(routes!(macros::apply_macro))
        .routes(routes!(contacts::get_contact, contacts::edit_contact))
        .routes(routes!(privacy::hold_contact, privacy::release_contact))
        .routes(routes!(privacy::export_contact))
        .routes(routes!(privacy::erase_contact))
        .routes(routes!(privacy::list_erasures))
        .routes(routes!(privacy::get_erasure))
        .routes(routes!(channels::list_channels))
        .routes(routes!(surgery::merge_conversation))
        .routes(routes!(surgery::split_conversation))
        .routes(routes!(surgery::move_message))
        .routes(routes!(surgery::merge_contact))
        .routes(routes!(surgery::unmerge_contact))
        .routes(routes!(surgery::undo_operation))
        .routes(routes!(events::stream_events))
        .routes(routes!(search::search))
        // Administrators.
        .routes(routes!(reconciliation::reconcile))
        // Providers.
        .routes(routes!(hooks::deliver_webhook))
        // Operators.
        .routes(routes!(operations::get_liveness))
        .routes(routes!(operations::get_readiness))
        .routes(routes!(operations::get_metrics))
        .routes(routes!(operations::get_version))
        .routes(routes!(docs::get_openapi))
        .routes(routes!(docs::get_asyncapi))
        .routes(routes!(docs::get_export_schema))
        .routes(routes!(docs::get_docs))
        .routes(routes!(docs::get_docs_asset))
}

/// What is said where another process answers. A proxy that sends requests here is to be set otherwise.
fn missing_part(served: Served, path: &str) -> Option<ApiError> {
    let (part, has) = match path.split('/').nth(1)? {
        "hooks" => ("inbound", served.hooks),
        "v1" | "docs" | "openapi.json" | "export.schema.json" => ("api", served.api),
        _ => return None,
    };
    let detail =
        format!("this process does not run the part {part} (run.parts): ask one that does");
    (!has).then(|| ApiError::new(Kind::NotFound, detail))
}

async fn no_such_path() -> ApiError {
    ApiError::new(Kind::NotFound, "there is nothing at this path; see /docs")
}

async fn no_such_method(request: Request) -> ApiError {
    let detail = format!("this path does not take {}; see Allow", request.method());
    ApiError::new(Kind::MethodNotAllowed, detail)
}

/// Sets the headers that keep a browser from doing more with an answer than showing it.
async fn secured(mut response: Response) -> Response {
    const DEFAULTS: [(HeaderName, &str); 5] = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'",
        ),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ];
    let headers = response.headers_mut();
    for (name, value) in DEFAULTS {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
    response
}
