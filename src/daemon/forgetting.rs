//! What is past its retention goes, in short steps with long pauses: a first run over years of
//! conversations takes hours, and nobody who writes or works meanwhile waits for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use connector_api::{CancellationToken, Clock};
use tracing::warn;

use crate::clock::micros;
use crate::config::duration_text;
use crate::health::{Health, State};
use crate::live::Live;
use crate::store::retention::Forgotten;
use crate::store::{Result, Store};
use crate::wake::Wakes;

use super::elsewhere::Elsewhere;
use super::settings::Kept;

/// Under which name its state is kept; it makes nothing unready.
pub const NAME: &str = "work:retention";
/// Looks for what is due.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Messages that one step removes: some milliseconds of the writer.
const STEP_MESSAGES: u32 = 50;
/// After each step it rests so many times as long as the step took, its wait for the writer
/// included: at most a tenth of the writer is taken, and less where others wait for it.
const REST_TIMES: u32 = 9;
const REST_MIN: Duration = Duration::from_millis(10);
/// Conversations that are due for longer than this are said: the steps do not keep up.
const OVERDUE_MAX: Duration = Duration::from_secs(2 * 24 * 60 * 60);

pub struct Forgetting {
    pub store: Arc<dyn Store>,
    pub elsewhere: Arc<Elsewhere>,
    pub clock: Arc<dyn Clock>,
    pub health: Arc<Health>,
    pub keep: Live<Kept>,
    /// Rung under a queue's id when it has more waiting.
    pub queues: Arc<Wakes>,
}

impl Forgetting {
    pub async fn run(&self, stop: CancellationToken) {
        self.health.set(NAME, State::Ready);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            self.look(&stop).await;
            self.adopt().await;
        }
    }

    /// What came back into a queue after the queue was taken out of the configuration, and answers on a channel that
    /// the last process has given up.
    async fn adopt(&self) {
        let adopted = async {
            let elsewhere = self.elsewhere.declared().await?;
            let now = micros(self.clock.now());
            self.store.adopt_stranded(elsewhere, now).await
        };
        match adopted.await {
            Ok(rings) => (rings.queues.iter()).for_each(|queue| self.queues.ring(queue.as_str())),
            Err(error) => {
                warn!(%error, "moving what waits in queues that are gone failed, trying again")
            }
        }
    }

    /// Step by step, until nothing is due.
    async fn look(&self, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            let begun = now();
            match self.step().await {
                Ok(false) => return,
                Ok(true) => {}
                Err(error) => {
                    warn!(%error, "dropping what is past its retention failed, trying again");
                    let reason = error.to_string();
                    return self.health.set(NAME, State::Degraded { reason });
                }
            }
            let rest = (begun.elapsed() * REST_TIMES).max(REST_MIN);
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(rest) => {}
            }
        }
    }

    /// Whether there is more.
    async fn step(&self) -> Result<bool> {
        let at = || micros(self.clock.now());
        let keep = self.keep.now();
        let swept = self.store.sweep(keep.swept, at()).await?;
        let gone = self
            .store
            .forget(keep.forgotten, STEP_MESSAGES, at())
            .await?;
        count(&gone);
        self.health.set(NAME, state(&gone));
        Ok(swept || gone.more)
    }
}

fn count(gone: &Forgotten) {
    for (kind, removed) in [
        ("conversation", gone.conversations),
        ("message", gone.messages),
        ("contact", gone.contacts),
        ("dead_letter", gone.dead_letters),
        ("draft", gone.drafts),
        ("token", gone.tokens),
    ] {
        metrics::counter!("switchboard_forgotten_total", "kind" => kind).increment(removed);
    }
    let overdue = gone.overdue.unwrap_or(0) as f64 / 1e6;
    metrics::gauge!("switchboard_retention_overdue_seconds").set(overdue);
    if gone.parked > 0 {
        let parked = gone.parked;
        warn!(
            parked,
            "{parked} dead letters were never filed and are past retention.dead_letters: they are gone"
        );
    }
}

fn state(gone: &Forgotten) -> State {
    let overdue =
        Duration::from_micros(gone.overdue.and_then(|by| by.try_into().ok()).unwrap_or(0));
    if overdue <= OVERDUE_MAX {
        return State::Ready;
    }
    // By whole days, or every step would say another state.
    let days = Duration::from_secs(overdue.as_secs() / 86_400 * 86_400);
    State::Degraded {
        reason: format!(
            "conversations are kept {} longer than retention.resolved says; they are being removed",
            duration_text(days)
        ),
    }
}

#[expect(clippy::disallowed_methods, reason = "measures how long a step takes")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_removed_too_late_is_said_by_whole_days() {
        let day = 24 * 60 * 60 * 1_000_000;
        let said = |overdue| {
            let gone = Forgotten {
                overdue,
                ..Forgotten::default()
            };
            match state(&gone) {
                State::Degraded { reason } => reason,
                other => other.as_str().to_owned(),
            }
        };
        for (overdue, expected) in [
            (None, "ready"),
            (Some(day), "ready"),
            (Some(2 * day + 1), "conversations are kept 2d longer"),
            (Some(400 * day + 7), "conversations are kept 400d longer"),
        ] {
            assert!(said(overdue).starts_with(expected), "{}", said(overdue));
        }
    }
}
