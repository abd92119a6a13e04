//! Keeps a part running: one that breaks is a state that health tells, and starts again.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use connector_api::CancellationToken;
use futures::FutureExt;

use crate::health::{Health, State};

/// How long a part that broke waits before it starts again.
const RESTART_AFTER: Duration = Duration::from_secs(1);

/// Runs a part until `stop`. One that ends by itself, or panics, is a state and starts again.
pub async fn supervised<F, R>(name: String, health: Arc<Health>, stop: CancellationToken, run: F)
where
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

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn a_part_that_panics_or_ends_is_a_state_and_starts_again() {
        let (health, stop) = (Arc::new(Health::default()), CancellationToken::new());
        let (starts, runs) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let run = {
            let (health, starts, runs) = (health.clone(), starts.clone(), runs.clone());
            move |stop: CancellationToken| {
                let (health, starts, runs) = (health.clone(), starts.clone(), runs.clone());
                async move {
                    let told = |how: &str| format!("{:?}", health.snapshot()).contains(how);
                    match starts.fetch_add(1, Ordering::SeqCst) {
                        0 => panic!("a bug"),
                        1 => assert!(told("panicked"), "the panic is told"),
                        _ => {
                            assert!(told("ended by itself"), "and the end");
                            health.set("lane", State::Ready);
                            runs.notify_one();
                            stop.cancelled().await;
                        }
                    }
                }
            }
        };
        let part = supervised("lane".to_owned(), health.clone(), stop.clone(), run);
        let part = tokio::spawn(part);
        let started = tokio::time::timeout(Duration::from_secs(30), runs.notified()).await;
        assert!(started.is_ok(), "it starts again");
        stop.cancel();
        part.await.unwrap();
        assert_eq!(
            starts.load(Ordering::SeqCst),
            3,
            "and ends when it is told to"
        );
        assert_eq!(health.snapshot()["lane"], State::Ready);
    }
}
