//! Health, metrics, version: what operators and their tools ask for. No token.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::health;

use super::App;
use super::documentation::NotReady;
use super::problem::{ApiError, ApiResult, Kind};

/// That the process answers.
#[derive(Debug, Serialize, ToSchema)]
pub struct Liveness {
    pub live: bool,
}

/// The states of the daemon's parts.
#[derive(Debug, Serialize, ToSchema)]
pub struct Readiness {
    pub ready: bool,
    /// By name: `router`, `channel:support-mail` …
    pub states: BTreeMap<String, health::State>,
}

/// Which build this is.
#[derive(Debug, Serialize, ToSchema)]
pub struct Version {
    #[schema(example = "switchboard")]
    pub name: &'static str,
    #[schema(example = "0.1.0")]
    pub version: &'static str,
    /// The commit it was built from, where the build was told.
    #[schema(required)]
    pub commit: Option<&'static str>,
    /// The version of the store's schema.
    pub schema: i64,
    /// Names the process that answers: another one after every start.
    pub instance: String,
}

/// Says that the process answers.
#[utoipa::path(
    get,
    path = "/livez",
    tag = "Operations",
    responses((status = 200, description = "It does", body = Liveness))
)]
pub async fn get_liveness() -> Json<Liveness> {
    Json(Liveness { live: true })
}

/// Says whether the daemon can do its work.
///
/// A channel that is unauthorised or unreachable does not make the daemon unready, nor does work
/// beside the life of a message, as `work:retention`.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "Operations",
    responses((status = 200, description = "It can", body = Readiness), NotReady)
)]
pub async fn get_readiness(State(app): State<Arc<App>>) -> ApiResult<Json<Readiness>> {
    readiness(&app.state.health)
}

pub fn readiness(health: &health::Health) -> ApiResult<Json<Readiness>> {
    let states = health.snapshot();
    if health.is_ready() {
        return Ok(Json(Readiness {
            ready: true,
            states,
        }));
    }
    let waiting =
        |state: &health::State| !matches!(state, health::State::Ready | health::State::Standby);
    let parts: Vec<String> = states
        .iter()
        .filter(|(name, state)| health::is_core(name) && waiting(state))
        .map(|(name, state)| format!("{name} is {}", state.as_str()))
        .collect();
    let detail = match parts.as_slice() {
        [] => "no part has started yet".to_owned(),
        parts => format!("{}; `switchboard doctor` says what to do", parts.join(", ")),
    };
    let mut unready = ApiError::new(Kind::NotReady, detail);
    unready.problem.states = Some(states);
    Err(unready)
}

/// Gives the metrics.
///
/// In the text format of Prometheus.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "Operations",
    responses((status = 200, description = "The metrics", body = String, content_type = "text/plain"))
)]
pub async fn get_metrics(State(app): State<Arc<App>>) -> Response {
    let content_type = (
        header::CONTENT_TYPE,
        "text/plain; version=0.0.4; charset=utf-8",
    );
    ([content_type], app.state.metrics.render()).into_response()
}

/// Names the build.
#[utoipa::path(
    get,
    path = "/version",
    tag = "Operations",
    responses((status = 200, description = "The build", body = Version))
)]
pub async fn get_version(State(app): State<Arc<App>>) -> Json<Version> {
    Json(Version {
        name: env!("CARGO_PKG_NAME"),
        version: env!("CARGO_PKG_VERSION"),
        commit: option_env!("SWITCHBOARD_COMMIT"),
        schema: app.state.schema_version,
        instance: app.state.instance.clone(),
    })
}
