//! A part that breaks is a state and starts again: the others go on, and operators see it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use connector_api::CancellationToken;
use futures::FutureExt;
use tokio::task::JoinHandle;

use crate::health::{Health, State};

/// How long a part that broke waits before it starts again.
const RESTART_AFTER: Duration = Duration::from_secs(1);

/// Starts a part under its name.
pub(super) fn supervise<P, F, R>(
    name: &str,
    health: &Arc<Health>,
    stop: &CancellationToken,
    part: Arc<P>,
    run: F,
) -> JoinHandle<()>
where
    P: Send + Sync + 'static,
    F: Fn(Arc<P>, CancellationToken) -> R + Send + Sync + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let run = move |stop| run(part.clone(), stop);
    let kept = supervised(name.to_owned(), health.clone(), stop.clone(), run);
    tokio::spawn(kept)
}

/// Runs a part until `stop`. One that ends by itself, or panics, is a state and starts again.
pub(super) async fn supervised<F, R>(
    name: String,
    health: Arc<Health>,
    stop: CancellationToken,
    run: F,
) where
    F: Fn(CancellationToken) -> R,
    R: Future<Output = ()>,
{
    while !stop.is_cancelled() {
        let ended = AssertUnwindSafe(run(stop.clone())).catch_unwind().await;
        if stop.is_cancelled() {
            return;
        }
        let how = if ended.is_err() {
            "panicked"
        } else {
            "ended by itself"
        };
        let reason = format!("it {how}, starting again");
        health.set(&name, State::Unreachable { reason });
        tokio::select! {
            () = tokio::time::sleep(RESTART_AFTER) => {}
            () = stop.cancelled() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Runs a part that breaks at its first start, and gives its name's state while it is down and
    /// once it runs again.
    async fn states(breaks: fn()) -> [Option<State>; 2] {
        let (health, stop) = (Arc::new(Health::default()), CancellationToken::new());
        let (starts, running) = (Arc::new(AtomicUsize::new(0)), CancellationToken::new());
        let state = |health: &Health| health.snapshot().get("lane").cloned();
        let (inner, begun) = (health.clone(), running.clone());
        let part = supervised(
            "lane".to_owned(),
            health.clone(),
            stop.clone(),
            move |stop| {
                let (health, starts, begun) = (inner.clone(), starts.clone(), begun.clone());
                async move {
                    if starts.fetch_add(1, Ordering::SeqCst) == 0 {
                        return breaks();
                    }
                    let down = state(&health);
                    health.set("lane", State::Ready);
                    health.set("before", down.unwrap_or(State::Starting));
                    begun.cancel();
                    stop.cancelled().await;
                }
            },
        );
        let part = tokio::spawn(part);
        let patience = RESTART_AFTER * 10;
        tokio::time::timeout(patience, running.cancelled())
            .await
            .expect("it starts again");
        stop.cancel();
        tokio::time::timeout(patience, part)
            .await
            .expect("it ends when told to")
            .expect("what breaks in a part breaks nothing else");
        [health.snapshot().get("before").cloned(), state(&health)]
    }

    /// A worker that stopped at random, in silence.
    #[tokio::test]
    async fn freescout_661_a_part_that_panics_or_ends_is_unreachable_until_it_runs_again() {
        for (breaks, how) in [
            ((|| panic!("a bug")) as fn(), "panicked"),
            (|| (), "ended by itself"),
        ] {
            let reason = format!("it {how}, starting again");
            let expected = [Some(State::Unreachable { reason }), Some(State::Ready)];
            assert_eq!(states(breaks).await, expected);
        }
    }
}
