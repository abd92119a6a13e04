//! What is done now and then, beside everything else: gauges, files that nothing names.

use std::sync::Arc;
use std::time::Duration;

use connector_api::{CancellationToken, Clock};
use metrics_exporter_prometheus::PrometheusHandle;
use tracing::warn;

use crate::blobs::{self, Blobs};
use crate::bus::Bus;
use crate::clock::micros;
use crate::health::{Health, State};
use crate::intake::Intake;
use crate::store::Store;

use super::outbox;

/// Under which names its states are kept; they make nothing unready.
pub const KEEPING: &str = "work:housekeeping";
pub const FILES: &str = "work:files";

/// How often files that nothing names are looked for.
const FILES_SWEPT_EVERY: Duration = Duration::from_secs(60 * 60);
/// As often as metrics are commonly scraped: counting what waits is a walk over all of it.
const GAUGES_EVERY: Duration = Duration::from_secs(15);

/// Everything it looks at.
pub struct Housekeeping {
    pub store: Arc<dyn Store>,
    pub bus: Arc<dyn Bus>,
    pub intake: Arc<Intake>,
    pub blobs: Blobs,
    pub metrics: PrometheusHandle,
    pub clock: Arc<dyn Clock>,
    pub health: Arc<Health>,
}

impl Housekeeping {
    /// Gauges, until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        self.health.set(KEEPING, State::Ready);
        let mut gauges = tokio::time::interval(GAUGES_EVERY);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = gauges.tick() => {
                    self.metrics.run_upkeep();
                    let now = micros(self.clock.now());
                    gauge(self.store.as_ref(), self.bus.as_ref(), &self.intake, &self.health, now).await;
                }
            }
        }
    }

    /// Removes files that no row names, until `stop`: a walk over all of them.
    pub async fn sweep_files(&self, stop: CancellationToken) {
        self.health.set(FILES, State::Ready);
        let unnamed = |files| {
            let store = self.store.clone();
            async move {
                let unnamed = store.unnamed_files(files).await;
                unnamed.map_err(std::io::Error::other)
            }
        };
        let mut due = tokio::time::interval(FILES_SWEPT_EVERY);
        loop {
            let swept = tokio::select! {
                swept = async { due.tick().await; blobs::sweep(&self.blobs, self.bus.names_files_for(), unnamed).await } => swept,
                () = stop.cancelled() => return,
            };
            match swept {
                Ok(removed) => {
                    metrics::counter!("switchboard_files_removed_total").increment(removed);
                }
                Err(error) => {
                    warn!(%error, "removing files that nothing names failed, trying again later");
                }
            }
        }
    }
}

async fn gauge(store: &dyn Store, bus: &dyn Bus, intake: &Intake, health: &Health, now: i64) {
    let seconds = |since: i64| (now - since).max(0) as f64 / 1e6;
    metrics::gauge!("switchboard_router_lag_records").set(bus.lag() as f64);
    for (channel, heard) in intake.last_heard() {
        metrics::gauge!("switchboard_channel_heard_age_seconds", "channel" => channel.as_str().to_owned())
            .set(seconds(heard));
    }
    let Ok(counts) = store.counts().await else {
        return;
    };
    outbox::tell(health, &counts);
    for queue in counts.queues {
        let name = queue.id.as_str().to_owned();
        metrics::gauge!("switchboard_queue_waiting", "queue" => name.clone())
            .set(queue.waiting as f64);
        metrics::gauge!("switchboard_queue_oldest_age_seconds", "queue" => name)
            .set(queue.oldest_enqueued_at.map_or(0.0, seconds));
    }
    for (state, count) in ["queued", "sending", "unknown"]
        .into_iter()
        .zip(counts.outbox)
    {
        metrics::gauge!("switchboard_outbox", "state" => state).set(count as f64);
    }
    metrics::gauge!("switchboard_pending_changes").set(counts.pending as f64);
    metrics::gauge!("switchboard_attachments_pending").set(counts.fetches as f64);
    metrics::gauge!("switchboard_dead_letters").set(counts.dead_letters as f64);
}
