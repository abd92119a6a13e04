//! What providers have, what was accepted, stored and routed: for whoever runs the installation.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use connector_api::Timestamp;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::clock::{micros, timestamp};
use crate::reconcile::Report;
use crate::store::StoreError;

use super::App;
use super::auth::Administering;
use super::documentation::{Authenticated, BadParameters, TooMany};
use super::problem::{ApiError, ApiResult, Kind};
use super::request::{Params, now};

/// How far back it looks where nothing is said, in microseconds: a day.
const SINCE_MICROS: i64 = 24 * 60 * 60 * 1_000_000;
/// Most take some seconds.
const RETRY_AFTER_SECONDS: u32 = 10;

/// Who compares.
#[async_trait::async_trait]
pub trait Reconciling: Send + Sync {
    async fn reconcile(&self, since: Timestamp, channel: Option<&str>) -> Result<Report, NoReport>;
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum NoReport {
    #[error("there is no channel {0}")]
    NoChannel(String),
    #[error("another reconciliation is running: wait for it")]
    Busy,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<NoReport> for ApiError {
    fn from(why: NoReport) -> Self {
        let words = why.to_string();
        match why {
            NoReport::NoChannel(_) => Self::bad_request("channel", words),
            NoReport::Busy => Self::new(Kind::TooMany, words).retry_after(RETRY_AFTER_SECONDS),
            NoReport::Store(error) => error.into(),
        }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ReconciliationParams {
    /// From when on; a day ago where it is not given.
    #[param(value_type = Option<Timestamp>)]
    since: Option<String>,
    /// Only this channel.
    #[param(example = "support-mail")]
    channel: Option<String>,
}

/// Compares what providers have with what was accepted, stored and routed.
///
/// Every gap is named, with what to do; so are channels whose provider cannot be asked. Mailboxes are read for it by
/// their headers alone, and nothing in them changes. It takes as long as its providers do, and one at a time is
/// made (429). For admin tokens of all brands and queues; it shows ids and no words of anybody.
#[utoipa::path(
    get,
    path = "/v1/reconciliation",
    tag = "Administration",
    security(("token" = [])),
    params(ReconciliationParams),
    responses(
        (status = 200, description = "What was found", body = Report),
        Authenticated, BadParameters, TooMany
    )
)]
pub async fn reconcile(
    State(app): State<Arc<App>>,
    Administering(caller): Administering,
    Params(params): Params<ReconciliationParams>,
) -> ApiResult<Json<Report>> {
    if !caller.actor.brands.is_empty() || !caller.actor.queues.is_empty() {
        let detail = "a report is of the whole installation: use a token of all brands and queues";
        return Err(ApiError::new(Kind::Forbidden, detail));
    }
    let since = match params.since.as_deref().map(str::parse::<Timestamp>) {
        None => timestamp(now(&app) - SINCE_MICROS),
        Some(Ok(since)) if micros(since) <= now(&app) => since,
        Some(_) => {
            let detail = "\"since\" must be a time that is over, as in 2026-03-01T09:00:00Z";
            return Err(ApiError::bad_request("since", detail));
        }
    };
    let reconciling = &app.state.reconciling;
    let report = reconciling
        .reconcile(since, params.channel.as_deref())
        .await?;
    Ok(Json(report))
}
