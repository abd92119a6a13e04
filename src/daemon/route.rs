//! The router's loop: reads micro-batches, has them decided and committed, and lets no message
//! that cannot be decided stop the others.

use std::sync::Arc;
use std::time::Duration;

use connector_api::{CancellationToken, Clock};
use tracing::{error, warn};

use crate::bus::local::LocalBus;
use crate::bus::{Carried, Envelope};
use crate::clock::micros;
use crate::health::{Health, State};
use crate::live::Live;
use crate::router::{Policy, Prepared, Verdict};
use crate::store::{Ownership, RouteCommit, Routed, Store, StoreError};
use crate::wake::Wakes;

mod ahead;

use ahead::{Ahead, Next};

/// Tries of a record that fails, before it becomes a dead letter.
pub const ATTEMPTS_MAX: u32 = 5;
const PAUSE: Duration = Duration::from_millis(500);

/// One router over one partition.
pub struct RouterLoop {
    pub bus: Arc<LocalBus>,
    pub store: Arc<dyn Store>,
    pub policy: Live<Policy>,
    pub clock: Arc<dyn Clock>,
    pub queues: Arc<Wakes>,
    pub outbox: Arc<Wakes>,
    pub health: Arc<Health>,
    /// [`Prepared::new`]; tests put one in its place that fails.
    pub prepare: fn(i64, Arc<Envelope>) -> Prepared,
}

/// Why the loop goes on or ends.
enum Step {
    Moved,
    /// Try the same again after a pause.
    Again,
    Stop,
}

impl RouterLoop {
    /// Decides until `stop`. Returns early only when another router owns the partition.
    pub async fn run(&self, stop: CancellationToken) {
        let Some(mut ownership) = self.own(&stop).await else {
            return;
        };
        self.health.set("router", State::Ready);
        let ahead = Ahead {
            bus: self.bus.clone(),
            policy: self.policy.clone(),
            prepare: self.prepare,
        };
        let mut found = ahead.start(&ownership);
        while !stop.is_cancelled() {
            let next = tokio::select! {
                next = found.recv() => next,
                () = stop.cancelled() => return,
            };
            let step = match next {
                Some(Next::Batch(batch)) => self.commit(&mut ownership, batch).await,
                Some(Next::Undecidable {
                    record,
                    reason,
                    carried,
                }) => self.bury(&mut ownership, record, reason, 1, carried).await,
                Some(Next::Trouble(reason)) => self.trouble(&reason),
                None => self.trouble("reading from the bus ended"),
            };
            match step {
                Step::Moved => {}
                Step::Again => {
                    pause(&stop).await;
                    found = ahead.start(&ownership);
                }
                Step::Stop => return,
            }
        }
    }

    async fn own(&self, stop: &CancellationToken) -> Option<Ownership> {
        while !stop.is_cancelled() {
            match self.store.own(0).await {
                Ok(ownership) => return Some(ownership),
                Err(error) => {
                    self.trouble(&error.to_string());
                    pause(stop).await;
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
                    self.after(&routed, &part);
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
                Err(error) => return self.failed(&error),
            }
        }
        self.health.set("router", State::Ready);
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
                Err(error) => return self.failed(&error),
            };
            let commit = RouteCommit {
                ownership: *ownership,
                batch: part.clone(),
                policy: self.policy.now(),
                now: micros(self.clock.now()),
            };
            match self.store.route(commit).await {
                Ok(routed) => {
                    self.after(&routed, &part);
                    ownership.position = routed.position;
                    return Step::Moved;
                }
                Err(StoreError::Poisoned(again)) => reason = again,
                Err(error) => return self.failed(&error),
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
                self.bus.decided(record, 1);
                ownership.position = record;
                Step::Moved
            }
            Err(error) => self.failed(&error),
        }
    }

    fn after(&self, routed: &Routed, part: &[Prepared]) {
        let now = micros(self.clock.now());
        for (record, verdict) in part.iter().zip(&routed.verdicts) {
            metrics::counter!("switchboard_routed_total", "verdict" => verdict.as_str())
                .increment(1);
            if *verdict == Verdict::Filed {
                tell_delays(&record.envelope, now);
            }
        }
        self.bus.decided(routed.position, part.len());
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

    fn failed(&self, error: &StoreError) -> Step {
        match error {
            StoreError::Closed => Step::Stop,
            StoreError::StaleEpoch(reason) => {
                self.health.set(
                    "router",
                    State::Degraded {
                        reason: reason.clone(),
                    },
                );
                Step::Stop
            }
            other => self.trouble(&other.to_string()),
        }
    }

    fn trouble(&self, reason: &str) -> Step {
        self.health.set(
            "router",
            State::Degraded {
                reason: reason.to_owned(),
            },
        );
        Step::Again
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

async fn pause(stop: &CancellationToken) {
    tokio::select! {
        () = tokio::time::sleep(PAUSE) => {}
        () = stop.cancelled() => {}
    }
}
