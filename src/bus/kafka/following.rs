//! Follows the store: which generations of the topic there are, and how far what others wait for is decided.
//! Asked now and then by one task of a process, and more often only while a topic gives way to another.

use std::time::Duration;

use tokio::time::Instant;

use super::lock;
use super::shared::Shared;

/// How long until the store is asked again: while nothing changes, while the next generation is about to open,
/// and while a partition of ours waits for another to be decided.
const QUIET: Duration = Duration::from_secs(2);
const CHANGING: Duration = Duration::from_millis(250);
const WAITING: Duration = Duration::from_millis(100);

impl Shared {
    /// Never ends. A store that does not answer says nothing new; that it does not is told elsewhere.
    pub async fn follow(&self) {
        loop {
            let known = match self.refresh(Instant::now()).await {
                Ok(()) => self.generations(),
                Err(_) => {
                    tokio::time::sleep(QUIET).await;
                    continue;
                }
            };
            let waiting = !self.all_waiting().is_empty();
            if waiting {
                self.look_how_far().await;
            }
            let again = match (waiting, known.change()) {
                (true, _) => WAITING,
                (false, Some(_)) => CHANGING,
                (false, None) => QUIET,
            };
            tokio::select! {
                () = tokio::time::sleep(again) => {}
                () = self.waiting.notified() => {}
            }
        }
    }

    /// Lets those be read that waited for what is decided now.
    async fn look_how_far(&self) {
        let before = self.all_waiting().len();
        let Ok(positions) = self.store.positions().await else {
            return;
        };
        *lock(&self.positions) = positions.into_iter().collect();
        if self.all_waiting().len() < before {
            self.arrived.notify_waiters();
        }
    }
}
