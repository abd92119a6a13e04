//! What is answered before the store is open: that the process lives, and what it waits for. A database that
//! restarts keeps nobody from seeing that.

use std::sync::Arc;

use axum::extract::State;
use axum::middleware::map_response;
use axum::routing::get;
use axum::{Json, Router};
use connector_api::CancellationToken;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::health::Health;

use super::operations::{Liveness, Readiness, readiness};
use super::problem::{ApiError, ApiResult, Kind};
use super::{Deadlines, secured, serve};

/// Answers until `stop`.
pub async fn serve_waiting(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    health: Arc<Health>,
    stop: CancellationToken,
) {
    let router = Router::new()
        .route("/livez", get(|| async { Json(Liveness { live: true }) }))
        .route("/readyz", get(ready))
        .fallback(not_yet)
        .layer(map_response(secured))
        .with_state(health);
    serve::serve_router(listener, tls, router, Deadlines::default(), stop).await;
}

async fn ready(State(health): State<Arc<Health>>) -> ApiResult<Json<Readiness>> {
    readiness(&health)
}

async fn not_yet() -> ApiError {
    let detail = "the store cannot be reached yet; see /readyz";
    ApiError::new(Kind::Unavailable, detail)
}
