//! The router's loop, one per partition that is this process's: reads micro-batches, has them decided and committed, and lets no message
//! that cannot be decided stop the others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use connector_api::{CancellationToken, Clock};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tracing::{error, warn};

use crate::bus::{Bus, Carried, Envelope};
use crate::clock::micros;
use crate::health::Health;
use crate::live::Live;
use crate::router::{Policy, Prepared, Verdict};
use crate::store::{Ownership, RouteCommit, Routed, Store, StoreError};
use crate::wake::Wakes;

mod ahead;
mod troubles;

use super::elsewhere::Elsewhere;
use super::watch::ROUTER;
use ahead::{Ahead, Next};
pub use troubles::Troubles;

/// Tries of a record that fails, before it becomes a dead letter.
pub const ATTEMPTS_MAX: u32 = 5;
const PAUSE: Duration = Duration::from_millis(500);
/// How long a partition is left alone that somebody else owned: whoever was late to hear that it is
/// not theirs any more must not take it back at once.
const OWN_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// One router over the partitions that the bus says are this process's.
pub struct RouterLoop {
    pub bus: Arc<dyn Bus>,
    pub store: Arc<dyn Store>,
    pub policy: Live<Policy>,
    pub elsewhere: Arc<Elsewhere>,
    pub clock: Arc<dyn Clock>,
    pub queues: Arc<Wakes>,
    pub outbox: Arc<Wakes>,
    pub health: Arc<Health>,
    /// [`Prepared::new`]; tests put one in its place that fails.
    pub prepare: fn(i64, Arc<Envelope>) -> Prepared,
    pub troubles: Troubles,
}

/// Why the loop goes on or ends.
enum Step {
    Moved,
    /// Try the same again after a pause.
    Again,
    /// Whether it was done is not known: ask the store how far it is, and go on from there.
    Anew,
    Stop,
}

impl RouterLoop {
    /// Decides until `stop`. Returns early only when another router owns all that it had.
    pub async fn run(&self, stop: CancellationToken) {
        let mut assigned = self.bus.assigned();
        let mut deciding: BTreeMap<u32, CancellationToken> = BTreeMap::new();
        let mut loops = FuturesUnordered::new();
        let once = |partition, stop: CancellationToken, after| async move {
            if wait(&stop, after).await {
                self.decide(partition, stop).await;
            }
            partition
        };
        self.tell();
        loop {
            let wanted = assigned.borrow_and_update().clone();
            deciding.retain(|partition, stop| {
                let stays = wanted.contains(partition);
                if !stays {
                    stop.cancel();
                }
                stays
            });
            for partition in wanted {
                deciding.entry(partition).or_insert_with(|| {
                    let stop = stop.child_token();
                    loops.push(once(partition, stop.clone(), Duration::ZERO));
                    stop
                });
            }
            let ended = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(partition) = loops.next() => Some(partition),
                changed = assigned.changed() => match changed {
                    Ok(()) => None,
                    Err(_) => break,
                },
            };
            // One that was taken away, or began anew meanwhile, ended because it was told to.
            let ended = ended.and_then(|partition| Some((partition, deciding.get(&partition)?)));
            if let Some((partition, token)) = ended.filter(|(_, token)| !token.is_cancelled()) {
                if deciding.len() == 1 {
                    return;
                }
                loops.push(once(partition, token.clone(), OWN_AGAIN_AFTER));
            }
        }
        deciding.values().for_each(CancellationToken::cancel);
        while loops.next().await.is_some() {}
    }

    /// Decides one partition until `stop`, or until another router owns it.
    async fn decide(&self, partition: u32, stop: CancellationToken) {
        let Some(mut ownership) = self.own(partition, &stop).await else {
            return self.well(partition);
        };
        self.well(partition);
        let ahead = Ahead {
            bus: self.bus.clone(),
            policy: self.policy.clone(),
            elsewhere: self.elsewhere.clone(),
            prepare: self.prepare,
        };
        let mut found = ahead.start(&ownership);
        while !stop.is_cancelled() {
            let next = tokio::select! {
                next = found.recv() => next,
                () = stop.cancelled() => break,
            };
            let step = match next {
                Some(Next::Batch(batch)) => self.commit(&mut ownership, batch).await,
                Some(Next::Undecidable {
                    record,
                    reason,
                    carried,
                }) => self.bury(&mut ownership, record, reason, 1, carried).await,
                // It is another router's, and this one is about to be told.
                Some(Next::Trouble(_)) if !self.bus.assigned().borrow().contains(&partition) => {
                    Step::Again
                }
                Some(Next::Trouble(reason)) => self.trouble(partition, &reason),
                None => self.trouble(partition, "reading from the bus ended"),
            };
            match step {
                Step::Moved => {}
                Step::Again => {
                    wait(&stop, PAUSE).await;
                    found = ahead.start(&ownership);
                }
                Step::Anew => {
                    wait(&stop, PAUSE).await;
                    let Some(owned) = self.own(partition, &stop).await else {
                        break;
                    };
                    ownership = owned;
                    found = ahead.start(&ownership);
                }
                Step::Stop => return,
            }
        }
        self.well(partition);
    }

    async fn own(&self, partition: u32, stop: &CancellationToken) -> Option<Ownership> {
        while !stop.is_cancelled() {
            match self.store.own(partition).await {
                Ok(ownership) => return Some(ownership),
                Err(error) => {
                    self.trouble(partition, &error.to_string());
                    wait(stop, PAUSE).await;
                }
            }
        }
        None
    }

    /// Commits a batch; one that fails is halved until the record to blame stands alone.
    /// `ownership` keeps up with what is committed, also where a later part fails.
    async fn commit(&self, ownership: &mut Ownership, batch: Vec<Prepared>) -> Step {
        let mut parts = vec![Arc::new(batch)];
        while let Some(part) = parts.pop() {
            let alone = part.len() == 1;
            let offset = part.first().map_or(0, |first| first.offset);
            let commit = RouteCommit {
                ownership: *ownership,
                batch: part.clone(),
                policy: self.policy.now(),
                now: micros(self.clock.now()),
            };
            match self.store.route(commit).await {
                Ok(routed) => {
                    self.after(ownership, &routed, &part);
                    ownership.position = routed.position;
                }
                Err(StoreError::Poisoned(_)) if !alone => {
                    let (left, right) = part.split_at(part.len() / 2);
                    parts.push(Arc::new(right.to_vec()));
                    parts.push(Arc::new(left.to_vec()));
                }
                Err(StoreError::Poisoned(reason)) => {
                    warn!(
                        record = offset,
                        reason, "record {offset} cannot be decided: {reason}"
                    );
                    match self.try_again(ownership, part, offset, reason).await {
                        Step::Moved => {}
                        step => return step,
                    }
                }
                Err(error) => return self.failed(ownership.partition, &error),
            }
        }
        self.well(ownership.partition);
        Step::Moved
    }

    /// Tries a failing record again, each try counted in the store before it is made, and buries
    /// it after the last one.
    async fn try_again(
        &self,
        ownership: &mut Ownership,
        part: Arc<Vec<Prepared>>,
        offset: i64,
        mut reason: String,
    ) -> Step {
        let mut attempts = 1;
        while attempts < ATTEMPTS_MAX {
            attempts = match self.store.count_attempt(offset).await {
                Ok(retries) => retries + 1,
                Err(error) => return self.failed(ownership.partition, &error),
            };
            let commit = RouteCommit {
                ownership: *ownership,
                batch: part.clone(),
                policy: self.policy.now(),
                now: micros(self.clock.now()),
            };
            match self.store.route(commit).await {
                Ok(routed) => {
                    self.after(ownership, &routed, &part);
                    ownership.position = routed.position;
                    return Step::Moved;
                }
                Err(StoreError::Poisoned(again)) => reason = again,
                Err(error) => return self.failed(ownership.partition, &error),
            }
        }
        let carried = part.first().and_then(|first| first.carried.clone());
        self.bury(ownership, offset, reason, attempts, carried)
            .await
    }

    async fn bury(
        &self,
        ownership: &mut Ownership,
        record: i64,
        reason: String,
        attempts: u32,
        carried: Option<Arc<Carried>>,
    ) -> Step {
        error!(
            record,
            attempts, reason, "record {record} is a dead letter: {reason}"
        );
        let now = micros(self.clock.now());
        match self
            .store
            .bury(*ownership, record, reason, attempts, carried, now)
            .await
        {
            Ok(()) => {
                metrics::counter!("switchboard_routed_total", "verdict" => "dead").increment(1);
                self.health.worked(ROUTER, now);
                self.bus.decided(ownership.partition, record, 1);
                ownership.position = record;
                Step::Moved
            }
            Err(error) => self.failed(ownership.partition, &error),
        }
    }

    fn after(&self, ownership: &Ownership, routed: &Routed, part: &[Prepared]) {
        let now = micros(self.clock.now());
        self.health.worked(ROUTER, now);
        for (record, verdict) in part.iter().zip(&routed.verdicts) {
            metrics::counter!("switchboard_routed_total", "verdict" => verdict.as_str())
                .increment(1);
            if *verdict == Verdict::Filed {
                tell_delays(&record.envelope, now);
            }
        }
        self.bus
            .decided(ownership.partition, routed.position, part.len());
        for queue in &routed.queues {
            self.queues.ring(queue.as_str());
        }
        if routed.fetches {
            self.outbox.ring(crate::inbound::attachments::BELL);
        }
        if routed.sends {
            for channel in self.policy.now().channels.keys() {
                self.outbox.ring(channel.as_str());
            }
        }
    }

    fn failed(&self, partition: u32, error: &StoreError) -> Step {
        match error {
            StoreError::Closed => Step::Stop,
            StoreError::StaleEpoch(reason) => {
                self.trouble(partition, reason);
                Step::Stop
            }
            other => {
                self.trouble(partition, &other.to_string());
                Step::Anew
            }
        }
    }

    fn trouble(&self, partition: u32, reason: &str) -> Step {
        self.troubles.note(partition, Some(reason));
        self.tell();
        Step::Again
    }

    fn well(&self, partition: u32) {
        self.troubles.note(partition, None);
        self.tell();
    }

    fn tell(&self) {
        self.health.set(ROUTER, self.troubles.state());
    }
}

/// How long a message took to come to us, by the time that its sender or provider gave it, and from
/// then on to be decided: an operator sees on which side of the door a delay is.
fn tell_delays(envelope: &Envelope, now: i64) {
    if envelope.imported || envelope.event.history {
        return;
    }
    let seconds = |from: i64, to: i64| (to - from).max(0) as f64 / 1e6;
    let channel = envelope.channel.as_str();
    if let Some(sent_at) = envelope.event.sent_at {
        metrics::histogram!("switchboard_delay_arrival_seconds", "channel" => channel.to_owned())
            .record(seconds(micros(sent_at), envelope.arrived_at));
    }
    metrics::histogram!("switchboard_delay_decision_seconds", "channel" => channel.to_owned())
        .record(seconds(envelope.arrived_at, now));
}

/// Whether the time passed before `stop`.
async fn wait(stop: &CancellationToken, time: Duration) -> bool {
    tokio::select! {
        biased;
        () = stop.cancelled() => false,
        () = tokio::time::sleep(time) => true,
    }
}
