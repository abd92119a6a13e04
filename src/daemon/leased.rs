//! Work that one process at a time may do: reading a mailbox, sending over a channel, keeping house. Who does
//! it holds a lease of the store's. The others stand by and take over when it is given up or runs out.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use connector_api::{CancellationToken, Clock};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::clock::micros;
use crate::store::leases::Lease;
use crate::store::{Store, StoreError};

/// How long a lease holds: what a process did that was killed has to be done elsewhere within ten seconds.
pub const HOLDS: Duration = Duration::from_secs(6);
const HOLDS_MICROS: i64 = HOLDS.as_micros() as i64;
const RENEWED_EVERY: Duration = Duration::from_secs(2);
/// How often somebody who stands by looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Before its end a lease is not trusted any more: what begins then might still be under way when
/// somebody else begins.
const MARGIN: Duration = Duration::from_secs(1);

/// How this process gets leases.
#[derive(Clone)]
pub enum Leases {
    /// No other process works with the store.
    Unneeded,
    Of(Arc<Holder>),
}

/// A process that takes leases.
pub struct Holder {
    pub store: Arc<dyn Store>,
    pub clock: Arc<dyn Clock>,
    /// Names this process, by chance.
    pub instance: String,
}

/// A lease as its holder sees it.
#[derive(Clone)]
pub struct Held(Option<Arc<Mutex<Deadline>>>);

struct Deadline {
    lease: Lease,
    /// By this process's own clock.
    until: Instant,
}

impl Held {
    /// One that nobody else could have.
    pub fn always() -> Self {
        Self(None)
    }

    /// Whether it is ours now: a process that stood still learns it here, before it does what somebody
    /// else may have done meanwhile.
    pub fn holds(&self) -> bool {
        self.left() > MARGIN
    }

    /// The epoch of the lease; 0 where nobody else could have it.
    pub fn epoch(&self) -> i64 {
        self.deadline().map_or(0, |deadline| deadline.lease.epoch)
    }

    fn left(&self) -> Duration {
        match self.deadline() {
            Some(deadline) => deadline.until.saturating_duration_since(Instant::now()),
            None => Duration::MAX,
        }
    }

    fn deadline(&self) -> Option<MutexGuard<'_, Deadline>> {
        let deadline = self.0.as_ref()?;
        Some(deadline.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Leases {
    /// Runs `work` whenever the lease `name` is this process's, until `stop`. The work is told to stop when
    /// the lease is lost, and is waited for. `standby` is called when somebody else has it.
    pub async fn while_held<R: Future<Output = ()>>(
        &self,
        name: &str,
        stop: CancellationToken,
        standby: impl Fn(),
        work: impl Fn(Held, CancellationToken) -> R,
    ) {
        let Self::Of(holder) = self else {
            return work(Held::always(), stop).await;
        };
        let mut stands_by = false;
        while !stop.is_cancelled() {
            match holder.take(name).await {
                Ok(Some(held)) => {
                    stands_by = false;
                    let ended = holder.hold(name, &held, &stop, &work).await;
                    if ended {
                        return;
                    }
                }
                Ok(None) if stands_by => {}
                Ok(None) => {
                    stands_by = true;
                    standby();
                }
                Err(StoreError::Closed) => return,
                // The store's own state says it.
                Err(_) => {}
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }
}

impl Holder {
    fn now(&self) -> i64 {
        micros(self.clock.now())
    }

    async fn take(&self, name: &str) -> Result<Option<Held>, StoreError> {
        // From before it was asked for: the store counts from later.
        let until = Instant::now() + HOLDS;
        let taken = self
            .store
            .take_lease(name, &self.instance, HOLDS_MICROS, self.now());
        let deadline = |lease| Mutex::new(Deadline { lease, until });
        Ok(taken
            .await?
            .map(|lease| Held(Some(Arc::new(deadline(lease))))))
    }

    /// Whether it ended because it was told to.
    async fn hold<R: Future<Output = ()>>(
        &self,
        name: &str,
        held: &Held,
        stop: &CancellationToken,
        work: &impl Fn(Held, CancellationToken) -> R,
    ) -> bool {
        info!(lease = name, "this process does {name} now");
        let told = stop.child_token();
        let mut working = std::pin::pin!(work(held.clone(), told.clone()));
        loop {
            let next = RENEWED_EVERY.min(held.left().saturating_sub(MARGIN));
            tokio::select! {
                () = &mut working => break,
                () = tokio::time::sleep(next) => {}
            }
            if !self.renew(held).await {
                warn!(
                    lease = name,
                    "this process does {name} no more: another one may"
                );
                told.cancel();
                working.await;
                return stop.is_cancelled();
            }
        }
        let lease = held.deadline().map(|deadline| deadline.lease.clone());
        if let Some(lease) = lease
            && let Err(error) = self.store.give_up_lease(&lease).await
        {
            warn!(lease = name, %error, "giving {name} up failed: another process begins once it runs out");
        }
        stop.is_cancelled()
    }

    /// Whether it is still ours. While the store cannot be asked it is until its end.
    async fn renew(&self, held: &Held) -> bool {
        let Some(lease) = held.deadline().map(|deadline| deadline.lease.clone()) else {
            return true;
        };
        let until = Instant::now() + HOLDS;
        let renewed = self.store.renew_lease(&lease, HOLDS_MICROS, self.now());
        // A store that does not answer is none that can be asked.
        let renewed = match tokio::time::timeout(held.left(), renewed).await {
            Ok(Ok(renewed)) => renewed,
            Ok(Err(_)) | Err(_) => return held.holds(),
        };
        match (renewed, held.deadline()) {
            (Some(lease), Some(mut deadline)) => *deadline = Deadline { lease, until },
            (None, Some(mut deadline)) => {
                deadline.until = Instant::now();
                return false;
            }
            (_, None) => {}
        }
        true
    }
}
