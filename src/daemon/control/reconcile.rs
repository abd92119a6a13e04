//! The command that compares what providers have with what is stored and routed.

use connector_api::Timestamp;

use super::Control;

impl Control {
    pub(super) async fn reconcile(
        &self,
        since: Timestamp,
        channel: Option<String>,
    ) -> Result<serde_json::Value, String> {
        let report = self.reconciler.run(since, channel.as_deref()).await;
        let report = report.map_err(|failed| failed.to_string())?;
        serde_json::to_value(report).map_err(|error| error.to_string())
    }
}
