//! Claims that wait. A waiting claim listens to its queue's bell before it looks, so nothing that
//! comes in between is missed. Of the claims that would find the same, only a few look at a time,
//! longest waiting first: a bell does not send ten thousand claims to the store.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use connector_api::{BrandId, QueueId};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::router::facts::Conversation;
use crate::store::Idempotency;

use super::App;
use super::auth::Caller;
use super::problem::{ApiError, ApiResult, Kind};
use super::request::now;

/// The longest a claim waits.
pub const WAIT_MAX: Duration = Duration::from_secs(60);
/// Claims waiting at a time, over all queues: each holds a connection.
const WAITING_MAX: usize = 10_000;
/// Claims of one lane that look at a time: enough to share a commit.
const LOOKING_MAX: usize = 4;

/// What a claim finds depends on these alone.
type Lane = (QueueId, Vec<BrandId>);

/// The claims waiting now.
pub struct Claims {
    places: Semaphore,
    lanes: Mutex<HashMap<Lane, Arc<Semaphore>>>,
}

impl Default for Claims {
    fn default() -> Self {
        Self::with_places(WAITING_MAX)
    }
}

/// Takes the first conversation of a queue, waiting for one at most for `wait`.
///
/// A look is never cut short: what it took would be held by an agent who was never told. An agent
/// whose connection breaks during a look finds the conversation under `assignee=me`.
pub async fn claim(
    app: &App,
    caller: &Caller,
    queue: &QueueId,
    key: Option<&Idempotency>,
    wait: Duration,
) -> ApiResult<Option<Conversation>> {
    let found = look(app, caller, queue, key).await?;
    if found.is_some() || wait.is_zero() {
        return Ok(found);
    }
    let _place = app.claims.place()?;
    let mut deadline = pin!(tokio::time::sleep(wait));
    let mut stopped = pin!(app.state.stop.cancelled());
    let lane = app.claims.lane(queue, &caller.actor.brands);
    let _turn = tokio::select! {
        turn = lane.turn.acquire() => turn,
        () = &mut deadline => return Ok(None),
        () = &mut stopped => return Ok(None),
    };
    let bell = app.state.queues.bell(queue.as_str());
    loop {
        let mut rung = pin!(bell.notified());
        rung.as_mut().enable();
        // Whoever waits may have lost the right to what comes.
        let caller = caller.renewed(app).await?;
        if let Some(found) = look(app, &caller, queue, key).await? {
            return Ok(Some(found));
        }
        tokio::select! {
            () = &mut rung => {}
            () = &mut deadline => return Ok(None),
            () = &mut stopped => return Ok(None),
        }
    }
}

async fn look(
    app: &App,
    caller: &Caller,
    queue: &QueueId,
    key: Option<&Idempotency>,
) -> ApiResult<Option<Conversation>> {
    Ok(app
        .state
        .store
        .claim(queue, caller.actor.clone(), key.cloned(), now(app))
        .await?)
}

impl Claims {
    fn with_places(places: usize) -> Self {
        Self {
            places: Semaphore::new(places),
            lanes: Mutex::default(),
        }
    }

    fn place(&self) -> ApiResult<Place<'_>> {
        let full = "too many claims are waiting: claim without waiting";
        let permit = self.places.try_acquire();
        let permit = permit.map_err(|_| ApiError::new(Kind::Overloaded, full))?;
        metrics::gauge!("switchboard_claims_waiting").increment(1);
        Ok(Place { _permit: permit })
    }

    fn lane(&self, queue: &QueueId, brands: &[BrandId]) -> LaneGuard<'_> {
        let mut brands = brands.to_vec();
        brands.sort();
        let key = (queue.clone(), brands);
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(Semaphore::new(LOOKING_MAX));
        let turn = lanes.entry(key.clone()).or_insert_with(new).clone();
        LaneGuard {
            claims: self,
            key,
            turn,
        }
    }
}

/// Where a claim waits.
struct Place<'a> {
    _permit: SemaphorePermit<'a>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        metrics::gauge!("switchboard_claims_waiting").decrement(1);
    }
}

/// A claim's hold on its lane; the last one takes the lane away.
struct LaneGuard<'a> {
    claims: &'a Claims,
    key: Lane,
    turn: Arc<Semaphore>,
}

impl Drop for LaneGuard<'_> {
    fn drop(&mut self) {
        let mut lanes = self
            .claims
            .lanes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // One in the map, one here.
        if Arc::strong_count(&self.turn) <= 2 {
            lanes.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_that_finds_no_place_to_wait_is_told_so() {
        let claims = Claims::with_places(1);
        let place = claims.place().unwrap();
        assert!(claims.place().is_err_and(|full| full.problem.status == 503));
        drop(place);
        assert!(claims.place().is_ok());
    }

    #[test]
    fn lanes_are_gone_once_nobody_waits_in_them() {
        let claims = Claims::default();
        let queue: QueueId = "frontline".parse().unwrap();
        let [main, other]: [BrandId; 2] = ["main", "other"].map(|brand| brand.parse().unwrap());
        let first = claims.lane(&queue, &[main.clone(), other.clone()]);
        let second = claims.lane(&queue, &[other, main]);
        assert!(Arc::ptr_eq(&first.turn, &second.turn));
        drop(first);
        assert_eq!(claims.lanes.lock().unwrap().len(), 1);
        drop(second);
        assert!(claims.lanes.lock().unwrap().is_empty());
    }
}
