//! Customers who write by webhook, many events in a request, and agents who claim.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::runtime::Runtime;
use tokio::task::LocalSet;

use crate::http::{self, Connection};
use crate::payload::{Payloads, Signer};
use crate::processes::{CHANNEL, KEY, Process};

/// Events of one request; the most that the webhook connector takes.
pub const EVENTS: u64 = 500;
const CONNECTIONS: usize = 4;
/// After a refusal.
const AGAIN_AFTER: Duration = Duration::from_millis(50);

pub struct Customers {
    payloads: Payloads,
    /// The number of the next message.
    next: u64,
}

impl Customers {
    pub fn new(many: u64) -> Self {
        let payloads = Payloads {
            run: uuid::Uuid::now_v7().simple().to_string(),
            // All of them are known ones, who write in turn.
            preloaded_messages: u64::MAX,
            preloaded_customers: many,
            new_customers_percent: 0,
            first_sent_at_ms: jiff::Timestamp::now().as_millisecond() - 3_600_000,
        };
        Self { payloads, next: 0 }
    }

    pub fn known(&self) -> u64 {
        self.payloads.preloaded_customers
    }

    /// From now on so many write, the new ones first.
    pub fn become_many(&mut self, many: u64) {
        let known = self.known();
        self.payloads.preloaded_customers = many;
        let rounds = self.next / many.max(1) + 1;
        self.next = rounds * many + known;
    }

    /// Has the next so many messages taken; how long that took.
    pub fn write(&mut self, runtime: &Runtime, door: &Process, messages: u64) -> Result<Duration> {
        let end = self.next + messages;
        let writing = Rc::new(Writing {
            payloads: self.payloads.clone(),
            next: Cell::new(self.next),
            end,
        });
        self.next = end;
        let begun = Instant::now();
        LocalSet::new().block_on(runtime, async {
            let workers = (0..CONNECTIONS).map(|_| {
                let connection = Connection::new(door.address);
                tokio::task::spawn_local(writing.clone().work(connection))
            });
            for worker in workers.collect::<Vec<_>>() {
                worker.await??;
            }
            anyhow::Ok(())
        })?;
        Ok(begun.elapsed())
    }
}

struct Writing {
    payloads: Payloads,
    next: Cell<u64>,
    end: u64,
}

impl Writing {
    async fn work(self: Rc<Self>, mut connection: Connection) -> Result<()> {
        let signer = Signer::new(KEY);
        let (mut body, mut request) = (Vec::new(), Vec::new());
        while self.next.get() < self.end {
            let first = self.next.get();
            let end = (first + EVENTS).min(self.end);
            self.next.set(end);
            body.clear();
            self.payloads.write_batch(first..end, &mut body);
            let id = format!("fill_{}_{first}", self.payloads.run);
            loop {
                let now = jiff::Timestamp::now().as_second();
                signer.write_webhook(&mut request, CHANNEL, &id, now, &body);
                match connection.call(&request).await.map(|answer| answer.status) {
                    Ok(200) => break,
                    Ok(429 | 503) | Err(_) => tokio::time::sleep(AGAIN_AFTER).await,
                    Ok(status) => bail!("a webhook was answered with {status}"),
                }
            }
        }
        Ok(())
    }
}

/// Claims one after the other over HTTP; the median and the 99th percentile.
pub fn claims(
    runtime: &Runtime,
    door: &Process,
    token: &str,
    claims: usize,
) -> Result<(Duration, Duration)> {
    let mut request = Vec::new();
    let authorization = format!("Bearer {token}");
    let headers = [("authorization", authorization.as_str())];
    http::write_request(
        &mut request,
        "POST",
        "/v1/queues/frontline/claim",
        &headers,
        b"",
    );
    let mut connection = Connection::new(door.address);
    let mut taken = Vec::with_capacity(claims);
    for _ in 0..claims {
        let begun = Instant::now();
        let answer = runtime.block_on(connection.call(&request))?;
        taken.push(begun.elapsed());
        if answer.status != 200 {
            bail!("a claim was answered with {}", answer.status);
        }
    }
    taken.sort_unstable();
    let at = |share: usize| taken.get(taken.len() * share / 100).copied();
    Ok((at(50).context("no claim")?, at(99).context("no claim")?))
}
