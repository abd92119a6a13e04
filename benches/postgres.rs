//! What the store costs on PostgreSQL: messages a second that it decides and writes, beside a bare insert of the same
//! rows by `unnest` in the same run, and what a claim costs with few and with many conversations open.
//! `make bench-postgres` runs it.
#![expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
#![allow(
    dead_code,
    unused_imports,
    reason = "the harness of the servers has more than is used here, and tests of its own"
)]

#[path = "postgres/bare.rs"]
mod bare;
#[path = "../tests/peers/peers.rs"]
mod peers;
#[path = "postgres/records.rs"]
mod records;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;
use switchboard::daemon::Keys;
use switchboard::dispatch::{Actor, Role};
use switchboard::router::{Policy, Prepared};
use switchboard::store::postgres::{Config, PostgresStore};
use switchboard::store::{Desk as _, Ownership, RouteCommit, Store as _, StoreError};

use records::{QUEUE, names, policy, record};

#[derive(Parser, Debug)]
struct Options {
    /// Messages of the measured rounds: one of strangers, one of customers who are known.
    #[arg(long, default_value_t = 20_000)]
    messages: usize,
    #[arg(long, default_value_t = 500)]
    batch: usize,
    /// Open conversations among which is claimed.
    #[arg(long, value_delimiter = ',', default_value = "10000,100000")]
    open: Vec<usize>,
    #[arg(long, default_value_t = 500)]
    claims: usize,
    /// Only whether it works.
    #[arg(long)]
    smoke: bool,
    /// What cargo passes to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut options = Options::parse();
    if options.smoke {
        (options.messages, options.batch) = (400, 100);
        (options.open, options.claims) = (vec![100, 200], 20);
    }
    let server = peers::Postgres::start(&["shared_buffers=256MB", "max_wal_size=4GB"]);
    let mut bench = Bench::open(&server).await?;
    println!("part                                   messages/s");
    for (what, customers) in [
        ("strangers", None),
        ("known customers", Some(options.messages / 2)),
    ] {
        let seconds = bench.route(&options, customers).await?;
        println!(
            "route, {what:<20}            {:>8.0}",
            options.messages as f64 / seconds
        );
    }
    let written = 2 * options.messages;
    let seconds = bare::insert(&bench.store, bench.offset as usize, options.batch).await?;
    println!(
        "a bare insert of the same rows         {:>8.0}",
        written as f64 / seconds
    );
    println!(
        "route takes {:.2} times as long as the bare insert",
        bench.spent.as_secs_f64() / seconds
    );
    for open in &options.open {
        let there = bench.fill(*open, options.batch).await?;
        let (median, slow) = bench.claim(options.claims).await?;
        println!("a claim among {there:>7} open             p50 {median:?}, p99 {slow:?}");
    }
    Ok(())
}

struct Bench {
    store: PostgresStore,
    policy: Arc<Policy>,
    ownership: Ownership,
    /// How many records there were.
    offset: i64,
    /// In `route`.
    spent: Duration,
}

impl Bench {
    async fn open(server: &peers::Postgres) -> Result<Self> {
        let mut config = Config::new();
        let database = server.make_database();
        config
            .host("127.0.0.1")
            .port(server.port)
            .user("switchboard")
            .dbname(&database);
        let queues = vec![QUEUE.parse()?];
        let store = PostgresStore::open(config, names(), queues, Vec::new()).await?;
        let keys = Keys::derive(store.installation_key());
        let ownership = store.own(0).await?;
        Ok(Self {
            policy: Arc::new(policy(&keys)?),
            store,
            ownership,
            offset: 0,
            spent: Duration::ZERO,
        })
    }

    /// Routes messages of strangers, or of so many customers; the seconds it took.
    async fn route(&mut self, options: &Options, customers: Option<usize>) -> Result<f64> {
        let mut taken = Duration::ZERO;
        let mut left = options.messages;
        while left > 0 {
            let count = left.min(options.batch);
            left -= count;
            taken += self.route_batch(count, customers).await?;
        }
        self.spent += taken;
        Ok(taken.as_secs_f64())
    }

    async fn route_batch(&mut self, count: usize, customers: Option<usize>) -> Result<Duration> {
        let mut batch: Vec<Prepared> = Vec::with_capacity(count);
        for _ in 0..count {
            self.offset += 1;
            let who = match customers {
                Some(customers) => self.offset as usize % customers + 1,
                None => self.offset as usize,
            };
            batch.push(record(self.offset, who)?);
        }
        let commit = RouteCommit {
            ownership: self.ownership,
            batch: Arc::new(batch),
            policy: self.policy.clone(),
            now: self.offset * 1_000,
        };
        let begun = Instant::now();
        let routed = self.store.route(commit).await?;
        let taken = begun.elapsed();
        self.ownership.position = routed.position;
        Ok(taken)
    }

    /// Has strangers write until so many conversations wait; how many do.
    async fn fill(&mut self, open: usize, batch: usize) -> Result<i64> {
        let there = usize::try_from(self.waiting().await?)?;
        let mut left = open.saturating_sub(there);
        while left > 0 {
            let count = left.min(batch);
            self.route_batch(count, None).await?;
            left -= count;
        }
        self.waiting().await
    }

    async fn waiting(&self) -> Result<i64> {
        let waiting = self.store.read_raw(|conn| {
            let sql = "SELECT count(*) FROM waiting";
            Ok(conn.prepare(sql)?.query_row((), |row| row.get::<i64>(0))?)
        });
        Ok(waiting.await?)
    }

    /// Median and 99th percentile of a claim.
    async fn claim(&self, claims: usize) -> Result<(Duration, Duration)> {
        let actor = Actor {
            role: Role::Agent,
            agent: Some("ada".to_owned()),
            queues: Vec::new(),
            brands: Vec::new(),
            acting: None,
            acts: false,
        };
        let queue = QUEUE.parse()?;
        let mut taken = Vec::with_capacity(claims);
        for _ in 0..claims {
            let begun = Instant::now();
            let claimed = self
                .store
                .claim(&queue, actor.clone(), None, self.offset * 1_000)
                .await?;
            taken.push(begun.elapsed());
            claimed.context("nothing waits any more")?;
        }
        taken.sort_unstable();
        let at = |share: usize| taken.get(taken.len() * share / 100).copied();
        Ok((at(50).unwrap_or_default(), at(99).unwrap_or_default()))
    }
}
