//! Where providers deliver. No token: the channel's connector verifies the raw request.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use connector_api::{WebhookReply, WebhookRequest};

use super::body::read_counted;
use super::documentation::HookRefused;
use super::problem::{ApiError, ApiResult, Kind};
use super::request::Segment;
use super::{App, HookAnswer};

/// Delivers events to a webhook channel.
///
/// The channel's connector verifies and reads the request. A 2xx means that every event is on
/// disk; a repeated delivery has no second effect, so deliver again whenever in doubt.
#[utoipa::path(
    post,
    path = "/hooks/{channel}",
    tag = "Hooks",
    params(("channel" = String, Path, description = "The channel's id", example = "shop-chat")),
    request_body(
        content = serde_json::Value,
        description = "What the connector expects; the generic webhook connector takes one event or `{\"events\": […]}`",
        example = json!({ "type": "message", "id": "m-1", "from": { "id": "cust-7", "name": "Ada" }, "text": "where is my order?" })
    ),
    responses(
        (status = 200, description = "Durable; the body is the connector's", body = serde_json::Value),
        HookRefused
    )
)]
pub async fn deliver_webhook(
    State(app): State<Arc<App>>,
    Segment(channel): Segment,
    request: Request,
) -> ApiResult<Response> {
    let received_at = app.state.clock.now();
    let method = request.method().as_str().to_owned();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let headers = headers_of(request.headers());
    // Held until the answer: the events made of it are about as large.
    let state = &app.state;
    let needed = usize::try_from(state.hooks.body_bytes_max(&channel)).unwrap_or(usize::MAX);
    let bytes_max = needed.min(state.hooks_bytes_max).max(state.body_bytes_max);
    let (body, _place) =
        read_counted(request, bytes_max, state.deadlines.body, &app.hook_room).await?;
    let request = WebhookRequest {
        method,
        query,
        headers,
        body,
        received_at,
    };
    match app.state.hooks.deliver(&channel, request).await {
        HookAnswer::Accepted(reply) => Ok(reply_of(reply)),
        HookAnswer::UnknownChannel => Err(ApiError::not_found("webhook channel")),
        HookAnswer::Unauthorized { detail } => Err(ApiError::unauthorized(
            detail,
            "Bearer realm=\"switchboard hooks\"",
        )),
        HookAnswer::Malformed { detail } => Err(ApiError::new(Kind::BadRequest, detail)),
        HookAnswer::TooLarge { detail } => Err(ApiError::new(Kind::TooLarge, detail)),
        HookAnswer::Refused {
            detail,
            retry_after_seconds,
        } => Err(ApiError::new(Kind::Unavailable, detail).retry_after(retry_after_seconds)),
    }
}

/// Names are lower case already: that is how `http` keeps them.
fn headers_of(headers: &HeaderMap) -> Vec<(String, Bytes)> {
    let owned = |(name, value): (&header::HeaderName, &HeaderValue)| {
        (
            name.as_str().to_owned(),
            Bytes::copy_from_slice(value.as_bytes()),
        )
    };
    headers.iter().map(owned).collect()
}

fn reply_of(reply: WebhookReply) -> Response {
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::OK);
    let content_type = HeaderValue::from_static(reply.content_type);
    (status, [(header::CONTENT_TYPE, content_type)], reply.body).into_response()
}
