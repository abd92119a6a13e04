//! One measured run against an address: load and probes together, then the counts, held against the daemon's own.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::daemon::LOAD;
use crate::generator::{self, Load, Tally};
use crate::http::{self, Connection};
use crate::payload::Payloads;
use crate::probe::{self, Findings, Probe};
use crate::usage::{Usage, usage};

/// How long the daemon may need to file and queue what it has accepted.
const DRAIN_MAX: Duration = Duration::from_secs(300);
/// The same until search knows it: the index is made after filing, with what is left of the writer.
const INDEXED_MAX: Duration = Duration::from_secs(30 * 60);

pub struct Trial {
    pub address: SocketAddr,
    /// Of the daemon, where it is a process of its own.
    pub pid: Option<u32>,
    pub key: Vec<u8>,
    pub load_token: String,
    pub probe_token: String,
    pub payloads: Payloads,
    pub rate: u64,
    pub duration: Duration,
    pub connections: usize,
    pub probe_rate: u64,
}

pub struct Outcome {
    pub tally: Tally,
    pub probes: Findings,
    /// From the first request until the last accepted message was filed and queued.
    pub until_filed: Duration,
    pub messages: Count,
    pub duplicates: Count,
    pub conversations: Count,
    /// Used during the run by the daemon and by this driver.
    pub daemon: Usage,
    pub driver: Usage,
    pub wal_bytes: Option<f64>,
    /// Counted by the kernel for the daemon, checkpoints included.
    pub disk_bytes: u64,
}

/// What the driver knows should be, and what the daemon says.
#[derive(Debug, Clone, Copy)]
pub struct Count {
    pub wanted: u64,
    /// More by as many requests whose answer was lost may be right, too.
    pub lost_answers: u64,
    pub found: Option<u64>,
}

impl Count {
    pub fn agrees(&self) -> bool {
        self.found
            .is_none_or(|found| (self.wanted..=self.wanted + self.lost_answers).contains(&found))
    }
}

/// What the daemon says about itself; its counters are this long: since its start.
#[derive(Debug, Clone, Copy)]
struct Standing {
    waiting: u64,
    filed: Option<f64>,
    duplicates: Option<f64>,
    wal_bytes: Option<f64>,
}

impl Trial {
    /// Puts in what is to be there before, and waits until all of it is queued.
    pub async fn preload(&self) -> Result<Duration> {
        let before = self.standing().await?;
        let time = generator::preload(&self.load()).await?;
        let started = Instant::now();
        let wanted = before.waiting + self.payloads.preloaded_customers;
        let messages = self.payloads.preloaded_messages as f64;
        loop {
            let now = self.standing().await?;
            let filed = grown(now.filed, before.filed).is_none_or(|filed| filed >= messages);
            if now.waiting == wanted && filed {
                return Ok(time + started.elapsed());
            }
            if started.elapsed() > DRAIN_MAX || now.waiting > wanted {
                bail!(
                    "{} conversations wait after the preload instead of {wanted}",
                    now.waiting
                );
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    pub async fn run(&self) -> Result<Outcome> {
        let before = self.standing().await?;
        let (daemon_before, driver_before) = (self.daemon_usage(), usage(std::process::id()));
        let probes = tokio::task::spawn_local(probe::run(Probe {
            address: self.address,
            key: self.key.clone(),
            token: self.probe_token.clone(),
            run: self.payloads.run.clone(),
            rate: self.probe_rate,
            duration: self.duration,
        }));
        let tally = generator::run(&self.load()).await?;
        let messages = tally.messages();
        let conversations = tally.new_customers(&self.payloads);
        // Probes are messages, too, and their own conversations are claimed, so none of them waits with the others.
        let mut after = self.standing().await?;
        while tally.start.elapsed() < self.duration + DRAIN_MAX {
            let told = |now, before, wanted: u64| {
                grown(now, before).is_none_or(|counted| counted >= wanted as f64)
            };
            let filed = told(after.filed, before.filed, messages)
                && told(
                    after.duplicates,
                    before.duplicates,
                    tally.accepted - messages,
                );
            if filed && after.waiting >= before.waiting + conversations {
                break;
            }
            sleep(Duration::from_millis(20)).await;
            after = self.standing().await?;
        }
        let until_filed = tally.start.elapsed();
        let probes = probes.await??;
        let (daemon_after, driver_after) = (self.daemon_usage(), usage(std::process::id()));
        let after = self.standing().await?;
        let count = |wanted, found| Count {
            wanted,
            lost_answers: tally.unknown,
            found,
        };
        Ok(Outcome {
            messages: count(
                messages + probes.sent,
                grown(after.filed, before.filed).map(whole),
            ),
            duplicates: count(
                tally.accepted - messages,
                grown(after.duplicates, before.duplicates).map(whole),
            ),
            conversations: count(before.waiting + conversations, Some(after.waiting)),
            wal_bytes: grown(after.wal_bytes, before.wal_bytes),
            disk_bytes: daemon_after.written_bytes - daemon_before.written_bytes,
            daemon: spent(daemon_before, daemon_after),
            driver: spent(driver_before, driver_after),
            until_filed,
            probes,
            tally,
        })
    }

    fn load(&self) -> Rc<Load> {
        Rc::new(Load {
            address: self.address,
            payloads: self.payloads.clone(),
            key: self.key.clone(),
            rate: self.rate,
            duration: self.duration,
            connections: self.connections,
        })
    }

    fn daemon_usage(&self) -> Usage {
        self.pid.map(usage).unwrap_or_default()
    }

    async fn standing(&self) -> Result<Standing> {
        let authorization = format!("Bearer {}", self.load_token);
        let queues = self
            .get("/v1/queues", &[("authorization", &authorization)])
            .await?;
        let queues: Value = serde_json::from_slice(&queues).context("the queues are not JSON")?;
        let mut items = queues
            .get("items")
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        let queue = items.find(|item| item.get("id").and_then(Value::as_str) == Some(LOAD.queue));
        let waiting = queue
            .and_then(|queue| queue.get("waiting"))
            .and_then(Value::as_u64);
        let metrics = String::from_utf8(self.get("/metrics", &[]).await?)?;
        Ok(Standing {
            waiting: waiting.with_context(|| format!("no queue {} in {queues}", LOAD.queue))?,
            filed: metric(&metrics, "switchboard_routed_total", r#"verdict="filed""#),
            duplicates: metric(
                &metrics,
                "switchboard_routed_total",
                r#"verdict="duplicate""#,
            ),
            wal_bytes: metric(&metrics, "switchboard_wal_bytes_total", ""),
        })
    }

    /// Waits until search knows all that was filed; returns how long that took. A daemon that is still
    /// indexing is not an idle one.
    pub async fn indexed(&self) -> Result<Duration> {
        let begun = Instant::now();
        loop {
            let metrics = String::from_utf8(self.get("/metrics", &[]).await?)?;
            if metric(&metrics, "switchboard_search_lag_events", "") == Some(0.0) {
                return Ok(begun.elapsed());
            }
            if begun.elapsed() > INDEXED_MAX {
                bail!("search does not know all messages after {INDEXED_MAX:?}");
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Result<Vec<u8>> {
        let mut request = Vec::new();
        http::write_request(&mut request, "GET", path, headers, b"");
        let answer = Connection::new(self.address)
            .call(&request)
            .await
            .with_context(|| format!("cannot get {path}"))?;
        if answer.status != 200 {
            bail!(
                "{path} was answered {} {}",
                answer.status,
                String::from_utf8_lossy(&answer.body)
            );
        }
        Ok(answer.body)
    }
}

/// Sums the series of a metric that have this label, in Prometheus' text form; `None` where there is none yet.
fn metric(text: &str, name: &str, label: &str) -> Option<f64> {
    let values = text.lines().filter_map(|line| {
        let rest = line
            .strip_prefix(name)
            .filter(|rest| rest.starts_with(['{', ' ']))?;
        rest.contains(label)
            .then(|| rest.rsplit(' ').next()?.parse::<f64>().ok())?
    });
    values.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
}

/// How far a counter has come; one that nothing was counted in yet does not exist.
fn grown(now: Option<f64>, before: Option<f64>) -> Option<f64> {
    now.map(|now| now - before.unwrap_or(0.0))
}

fn whole(number: f64) -> u64 {
    number.round() as u64
}

fn spent(before: Usage, after: Usage) -> Usage {
    Usage {
        cpu_seconds: after.cpu_seconds - before.cpu_seconds,
        ..after
    }
}
