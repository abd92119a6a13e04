//! Work that one process at a time may do: reading a mailbox, sending over a channel, keeping house. Who does
//! it holds a lease of the store's. The others stand by and take over when it is given up or runs out.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use connector_api::{CancellationToken, Clock};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::clock::micros;
use crate::store::StoreError;
use crate::store::leases::{Lease, Leases as Store};

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
        // Beside the work, which goes on while the store is slow to answer.
        let lost = async {
            loop {
                let next = RENEWED_EVERY.min(held.left().saturating_sub(MARGIN));
                tokio::time::sleep(next).await;
                if !self.renew(held).await {
                    return;
                }
            }
        };
        tokio::select! {
            biased;
            () = &mut working => {}
            () = lost => {
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

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use async_trait::async_trait;

    use super::*;
    use crate::clock::SystemClock;
    use crate::store::Result;

    /// What the store does when it is asked to renew.
    #[derive(Clone, Copy)]
    enum Renewal {
        At(u64),
        Refused,
        Fails,
        Hangs,
    }

    /// A store that gives a lease after so many milliseconds, and then does as it is told, the last thing for ever.
    struct Told {
        gives_after: u64,
        renewals: Mutex<VecDeque<Renewal>>,
    }

    fn lease() -> Lease {
        Lease {
            name: "one".to_owned(),
            holder: "here".to_owned(),
            epoch: 1,
            until: 0,
        }
    }

    #[async_trait]
    impl Store for Told {
        async fn take_lease(&self, _: &str, _: &str, _: i64, _: i64) -> Result<Option<Lease>> {
            tokio::time::sleep(Duration::from_millis(self.gives_after)).await;
            Ok(Some(lease()))
        }

        async fn renew_lease(&self, lease: &Lease, _: i64, _: i64) -> Result<Option<Lease>> {
            let next = {
                let mut renewals = self.renewals.lock().expect("no panic");
                match renewals.len() {
                    1 => renewals[0],
                    _ => renewals.pop_front().expect("one at least"),
                }
            };
            match next {
                Renewal::At(millis) => {
                    tokio::time::sleep(Duration::from_millis(millis)).await;
                    Ok(Some(lease.clone()))
                }
                Renewal::Refused => Ok(None),
                Renewal::Fails => Err(StoreError::Unavailable("away".to_owned())),
                Renewal::Hangs => std::future::pending().await,
            }
        }

        async fn give_up_lease(&self, _: &Lease) -> Result<()> {
            Ok(())
        }

        async fn leases(&self) -> Result<Vec<Lease>> {
            Ok(Vec::new())
        }
    }

    /// Tenths of a second since the lease was asked for: when work could first not trust it, and when it was told to stop.
    async fn check(gives_after: u64, renewals: &[Renewal], expected: Option<(u128, u128)>) {
        let holder = Arc::new(Holder {
            store: Arc::new(Told {
                gives_after,
                renewals: Mutex::new(renewals.iter().copied().collect()),
            }),
            clock: Arc::new(SystemClock),
            instance: "here".to_owned(),
        });
        let (begun, ended) = (Instant::now(), Arc::new(Mutex::new(None)));
        let (all, end) = (CancellationToken::new(), ended.clone());
        let work = |held: Held, stop: CancellationToken| {
            let (all, end) = (all.clone(), end.clone());
            async move {
                while held.holds() && !stop.is_cancelled() {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                let distrusted = begun.elapsed();
                stop.cancelled().await;
                let tenths = |time: Duration| time.as_millis() / 100;
                let found = (tenths(distrusted), tenths(begun.elapsed()));
                end.lock().expect("no panic").get_or_insert(found);
                all.cancel();
            }
        };
        let leases = Leases::Of(holder);
        let working = leases.while_held("one", all.clone(), || {}, work);
        let within = tokio::time::timeout(Duration::from_secs(60), working).await;
        assert_eq!(within.is_ok(), expected.is_some());
        assert_eq!(*ended.lock().expect("no panic"), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_is_trusted_until_a_second_before_its_end_by_the_holders_own_clock() {
        use Renewal::{At, Fails, Hangs, Refused};
        // Renewed every two seconds.
        check(0, &[At(0)], None).await;
        check(0, &[Refused], Some((20, 20))).await;
        check(0, &[Fails], Some((50, 50))).await;
        check(0, &[Fails, Fails, At(0)], None).await;
        // What hangs is given up at the end; nothing begins in the second before.
        check(0, &[Hangs], Some((50, 60))).await;
        // Renewed at 2 s, known at 4.9 s: it ends at 8 s and not at 10.9.
        check(0, &[At(2_900), Hangs], Some((70, 80))).await;
        // Asked for at 0, given at 3 s: it ends at 6 s and not at 9.
        check(3_000, &[Hangs], Some((50, 60))).await;
    }
}
