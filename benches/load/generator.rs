//! The open loop: every request has a moment at which it is meant to leave, whatever became of the earlier ones, and
//! its latency counts from that moment. A server that stalls is charged for everyone it kept waiting.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::daemon::LOAD;
use crate::http::{Connection, Response};
use crate::payload::{Customer, Payloads, Signer, mix};

/// Events in one request of the preload; the most that the webhook connector takes.
const PRELOAD_BATCH: u64 = 500;
const PRELOAD_CONNECTIONS: usize = 4;

/// One in so many requests is a redelivery: 5 %.
const REDELIVERY_EVERY: u64 = 20;

/// How many messages back a redelivery reaches: further than what is under way, nearer than any cache is small.
const REDELIVERY_REACH: u64 = 50_000;

pub struct Load {
    pub address: SocketAddr,
    pub payloads: Payloads,
    pub key: Vec<u8>,
    /// Requests a second; 0 sends as fast as the connections allow, which measures the ceiling, not the latency.
    pub rate: u64,
    pub duration: Duration,
    pub connections: usize,
}

/// What became of the requests.
pub struct Tally {
    pub sent: u64,
    /// Answered 200: first deliveries and redeliveries.
    pub accepted: u64,
    /// Refused with 429 or 503, before acceptance.
    pub overloaded: u64,
    /// Answered in any other way.
    pub refused: u64,
    /// Connection lost before the answer: nobody knows.
    pub unknown: u64,
    /// An answer that was not 200, to be shown.
    pub example: Option<String>,
    /// Microseconds from the intended moment to the answer.
    pub latency: Histogram<u64>,
    /// Microseconds by which requests left late because every connection was busy.
    pub lateness: Histogram<u64>,
    /// The moment at which the first request was meant to leave.
    pub start: Instant,
    /// From there until the last answer.
    pub elapsed: Duration,
    /// Which messages have been acknowledged at least once.
    acknowledged: Vec<bool>,
    first: u64,
}

impl Tally {
    /// Returns how many different messages were acknowledged.
    pub fn messages(&self) -> u64 {
        self.acknowledged.iter().filter(|seen| **seen).count() as u64
    }

    /// Returns how many of the acknowledged messages come from somebody new.
    pub fn new_customers(&self, payloads: &Payloads) -> u64 {
        let numbers = (self.first..)
            .zip(&self.acknowledged)
            .filter(|(_, seen)| **seen);
        numbers
            .filter(|(n, _)| matches!(payloads.customer(*n), Customer::New(_)))
            .count() as u64
    }
}

/// Runs the load for its duration and waits for the answers still to come.
pub async fn run(load: &Rc<Load>) -> Result<Tally> {
    let total = if load.rate == 0 {
        u64::MAX
    } else {
        load.rate * load.duration.as_secs()
    };
    let tally = Tally {
        sent: 0,
        accepted: 0,
        overloaded: 0,
        refused: 0,
        unknown: 0,
        example: None,
        latency: Histogram::new_with_bounds(1, 60_000_000, 3)?,
        lateness: Histogram::new_with_bounds(1, 60_000_000, 3)?,
        start: Instant::now(),
        elapsed: Duration::ZERO,
        acknowledged: Vec::new(),
        first: load.payloads.preloaded_messages,
    };
    let mut connections = Vec::new();
    for _ in 0..load.connections {
        let mut connection = Connection::new(load.address);
        connection
            .open()
            .await
            .context("cannot connect to the daemon")?;
        connections.push(connection);
    }
    let shared = Rc::new(Shared {
        load: Rc::clone(load),
        signer: Signer::new(&load.key),
        next: Cell::new(0),
        total,
        start: Instant::now() + Duration::from_millis(10),
        start_seconds: jiff::Timestamp::now().as_second(),
        tally: RefCell::new(tally),
    });
    let tasks = LocalSet::new();
    for connection in connections {
        tasks.spawn_local(worker(Rc::clone(&shared), connection));
    }
    tasks.await;
    let start = shared.start;
    let elapsed = start.elapsed();
    let shared = Rc::into_inner(shared).context("a worker is still running")?;
    let mut tally = shared.tally.into_inner();
    tally.start = start;
    tally.elapsed = elapsed;
    Ok(tally)
}

struct Shared {
    load: Rc<Load>,
    signer: Signer,
    /// The number of the next request that nobody has taken.
    next: Cell<u64>,
    total: u64,
    start: Instant,
    start_seconds: i64,
    tally: RefCell<Tally>,
}

impl Shared {
    /// Takes the next request and says when it is meant to leave.
    fn take(&self) -> Option<(u64, Instant)> {
        let request = self.next.get();
        let intended = match self.load.rate {
            0 => Instant::now(),
            rate => self.start + Duration::from_nanos(request.saturating_mul(1_000_000_000) / rate),
        };
        let over = request >= self.total || intended >= self.start + self.load.duration;
        self.next.set(request + 1);
        (!over).then_some((request, intended))
    }

    /// Returns the number of the message that a request carries.
    fn message(&self, request: u64) -> u64 {
        let redeliveries = request / REDELIVERY_EVERY;
        let fresh = request - redeliveries;
        let chosen = if request % REDELIVERY_EVERY == REDELIVERY_EVERY - 1 {
            fresh - 1 - mix(request) % fresh.min(REDELIVERY_REACH)
        } else {
            fresh
        };
        self.load.payloads.preloaded_messages + chosen
    }
}

async fn worker(shared: Rc<Shared>, mut connection: Connection) {
    let mut body = Vec::with_capacity(4096);
    let mut request = Vec::with_capacity(4096);
    while let Some((number, intended)) = shared.take() {
        sleep_until(intended).await;
        let left = Instant::now();
        let n = shared.message(number);
        body.clear();
        shared.load.payloads.write_event(n, &mut body);
        let now =
            shared.start_seconds + i64::try_from(shared.start.elapsed().as_secs()).unwrap_or(0);
        let id = format!("msg_{}_{n}", shared.load.payloads.run);
        shared
            .signer
            .write_webhook(&mut request, LOAD.channel, &id, now, &body);
        let answer = connection.call(&request).await;
        let mut tally = shared.tally.borrow_mut();
        tally.sent += 1;
        tally.latency.saturating_record(micros(intended.elapsed()));
        tally.lateness.saturating_record(micros(left - intended));
        tally.record(n, answer);
    }
}

impl Tally {
    fn record(&mut self, n: u64, answer: std::io::Result<Response>) {
        match answer {
            Ok(answer) if answer.status == 200 && !has_error(&answer.body) => {
                self.accepted += 1;
                let index = usize::try_from(n - self.first).unwrap_or(usize::MAX);
                if self.acknowledged.len() <= index {
                    self.acknowledged.resize(index + 1, false);
                }
                if let Some(seen) = self.acknowledged.get_mut(index) {
                    *seen = true;
                }
            }
            Ok(answer) => {
                if matches!(answer.status, 429 | 503) {
                    self.overloaded += 1;
                } else {
                    self.refused += 1;
                }
                self.example.get_or_insert_with(|| {
                    format!(
                        "{} {}",
                        answer.status,
                        String::from_utf8_lossy(&answer.body)
                    )
                });
            }
            Err(error) => {
                self.unknown += 1;
                self.example.get_or_insert_with(|| error.to_string());
            }
        }
    }
}

/// Puts the messages in that are to be there before the measuring, as fast as they are taken.
pub async fn preload(load: &Rc<Load>) -> Result<Duration> {
    let started = Instant::now();
    let next = Rc::new(Cell::new(0));
    let tasks = LocalSet::new();
    let mut workers = Vec::new();
    for _ in 0..PRELOAD_CONNECTIONS {
        workers.push(tasks.spawn_local(preload_worker(Rc::clone(load), Rc::clone(&next))));
    }
    tasks.await;
    for worker in workers {
        worker.await??;
    }
    Ok(started.elapsed())
}

async fn preload_worker(load: Rc<Load>, next: Rc<Cell<u64>>) -> Result<()> {
    let signer = Signer::new(&load.key);
    let mut connection = Connection::new(load.address);
    let (mut body, mut request) = (Vec::new(), Vec::new());
    while next.get() < load.payloads.preloaded_messages {
        let first = next.get();
        let end = (first + PRELOAD_BATCH).min(load.payloads.preloaded_messages);
        next.set(end);
        body.clear();
        load.payloads.write_batch(first..end, &mut body);
        let id = format!("pre_{}_{first}", load.payloads.run);
        loop {
            let now = jiff::Timestamp::now().as_second();
            signer.write_webhook(&mut request, LOAD.channel, &id, now, &body);
            let answer = connection.call(&request).await.context("cannot preload")?;
            match answer.status {
                200 if !has_error(&answer.body) => break,
                429 | 503 => {
                    sleep(Duration::from_secs(
                        answer.retry_after_seconds.unwrap_or(1).min(5),
                    ))
                    .await
                }
                status => bail!(
                    "cannot preload: {status} {}",
                    String::from_utf8_lossy(&answer.body)
                ),
            }
        }
    }
    Ok(())
}

/// Tells whether one of the results of a 200 names an error: `{"results":[{"dedupe_key":…,"error":null}]}`.
fn has_error(body: &[u8]) -> bool {
    let field = br#""error":"#;
    let values = body
        .windows(field.len() + 1)
        .filter(|window| window.starts_with(field));
    values
        .into_iter()
        .any(|window| window.last() != Some(&b'n'))
}

pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
