//! Pages of other origins: the configured ones may use the API, with a token and never with cookies.

use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, Method, header};
use tower_http::cors::{AllowOrigin, CorsLayer};

/// How long a browser believes a preflight: a reload of the configuration shows within ten minutes.
const PREFLIGHT_HOLDS: Duration = Duration::from_secs(10 * 60);

/// Lets the pages of these origins in, each named exactly; `None` without any.
pub fn layer(origins: &[String]) -> Option<CorsLayer> {
    let origins: Vec<HeaderValue> = origins
        .iter()
        .filter_map(|origin| HeaderValue::try_from(origin).ok())
        .collect();
    if origins.is_empty() {
        return None;
    }
    let own = HeaderName::from_static;
    let layer = CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods([
            Method::GET,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
        ])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::IF_MATCH,
            header::IF_RANGE,
            header::RANGE,
            own("idempotency-key"),
            own("last-event-id"),
            own("switchboard-agent"),
        ])
        .expose_headers([
            header::ACCEPT_RANGES,
            header::CONTENT_DISPOSITION,
            header::CONTENT_RANGE,
            header::ETAG,
            header::LOCATION,
            header::RETRY_AFTER,
            header::WWW_AUTHENTICATE,
        ])
        .max_age(PREFLIGHT_HOLDS);
    Some(layer)
}
