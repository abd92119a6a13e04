//! From the bus to the queues, over a real Kafka and a real PostgreSQL on this machine: messages a second that routers
//! decide, by how many they are and by how many conversations are open, beside a bare consume-and-produce loop and a bare
//! insert of the same rows; and how soon it goes on after its broker was killed. `make bench-cluster` runs it.
#![expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
#![allow(
    dead_code,
    unused_imports,
    reason = "the harness of the servers has more than is used here, and tests of its own"
)]

#[path = "postgres/bare.rs"]
mod bare;
#[path = "cluster/customers.rs"]
mod customers;
#[path = "load/http.rs"]
mod http;
#[path = "load/payload.rs"]
mod payload;
#[path = "../tests/peers/peers.rs"]
mod peers;
#[path = "cluster/processes.rs"]
mod processes;
#[path = "cluster/relay.rs"]
mod relay;
#[path = "load/usage.rs"]
mod usage;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;
use switchboard::store::postgres::{Config, PostgresStore};

use customers::Customers;
use processes::{DOOR, Process, ROUTER, Site};
use usage::usage;

#[derive(Parser, Debug)]
struct Options {
    /// Messages that wait on the bus when the routers start.
    #[arg(long, default_value_t = 50_000)]
    messages: u64,
    /// How many router processes.
    #[arg(long, value_delimiter = ',', default_value = "1,2,4")]
    routers: Vec<usize>,
    /// Open conversations, among whose customers the messages are.
    #[arg(long, value_delimiter = ',', default_value = "10000,100000")]
    open: Vec<u64>,
    #[arg(long, default_value_t = 300)]
    claims: usize,
    /// Also what PostgreSQL was busy with.
    #[arg(long)]
    statements: bool,
    /// Only whether it works.
    #[arg(long)]
    smoke: bool,
    /// What cargo passes to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

/// How long what waits may take to be decided.
const DECIDED_MAX: Duration = Duration::from_secs(1800);
/// Between two looks at how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// How long the killed broker stays away.
const AWAY: Duration = Duration::from_secs(2);
/// What took the server's time: seconds, calls, rows, pages.
const BUSY_WITH: &str = "SELECT round(total_exec_time / 1000) || ' s in ' || calls || ' calls, ' || rows || ' rows, '
      || shared_blks_hit + shared_blks_read || ' pages: ' || left(regexp_replace(query, '\\s+', ' ', 'g'), 120)
    FROM pg_stat_statements ORDER BY total_exec_time DESC LIMIT 20";
/// Rows of one transaction of the bare insert.
const BATCH: usize = 500;

fn main() -> Result<()> {
    let mut options = Options::parse();
    if options.smoke {
        (options.messages, options.routers) = (2_000, vec![1]);
        (options.open, options.claims) = (vec![500], 20);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut kafka = peers::kafka::KafkaCluster::start(1);
    let mut settings = vec!["shared_buffers=256MB", "max_wal_size=4GB"];
    if options.statements {
        settings.push("shared_preload_libraries=pg_stat_statements");
    }
    let postgres = peers::Postgres::start(&settings);
    println!("{:<48}{:>10}", "part", "a second");
    let mut alone = None;
    for routers in &options.routers {
        let rate = drained(&options, *routers, &kafka, &postgres, &runtime)?;
        let first = *alone.get_or_insert(rate);
        row(
            &format!("decided by {routers} router processes"),
            rate,
            &format!("{:.2} of the first", rate / first),
        );
    }
    grown(&options, &kafka, &postgres, &runtime)?;
    let recovered = recovery(&mut kafka, &postgres, &runtime)?;
    println!("from the broker's answer after its kill -9 to a message in a queue: {recovered:?}");
    Ok(())
}

fn row(what: &str, rate: f64, more: &str) {
    println!("{what:<48}{rate:>10.0}   {more}");
}

/// Messages a second that so many routers decide of what waits. The first time with the floors.
fn drained(
    options: &Options,
    routers: usize,
    kafka: &peers::kafka::KafkaCluster,
    postgres: &peers::Postgres,
    runtime: &tokio::runtime::Runtime,
) -> Result<f64> {
    let site = Site::new(kafka.brokers(), postgres)?;
    let door = site.start(DOOR)?;
    // Each writes twice: one conversation is opened, one message joins.
    let mut customers = Customers::new(options.messages / 2);
    let filled = customers.write(runtime, &door, options.messages)?;
    let accepted = options.messages as f64 / filled.as_secs_f64();
    let once = format!("accepted by one process, {} at once", customers::EVENTS);
    row(&once, accepted, "");
    if options.statements {
        postgres.run(&site.database, "CREATE EXTENSION pg_stat_statements");
    }
    let (rate, used) = decide(&site, postgres, routers, options.messages)?;
    if options.statements {
        for row in postgres.rows(&site.database, BUSY_WITH) {
            println!("  {row}");
        }
    }
    let per_million = used.cpu_seconds * 1e6 / options.messages as f64;
    println!(
        "  CPU of the routers {per_million:.0} s per million, memory of each at most {} MB",
        used.rss_max_bytes / 1_000_000
    );
    drop(door);
    if routers == options.routers.first().copied().unwrap_or_default() {
        let bus = relay::floor(runtime, &site, options.messages)?;
        let mut config = Config::new();
        config
            .host("127.0.0.1")
            .port(postgres.port)
            .user("switchboard")
            .dbname(&site.database);
        let rows = runtime.block_on(async {
            let store = PostgresStore::open(config, Vec::new(), Vec::new(), Vec::new()).await?;
            bare::insert(&store, options.messages as usize, BATCH).await
        })?;
        let rows = options.messages as f64 / rows;
        let times = |floor: f64| format!("{:.2} times as fast", floor / rate);
        row("a bare loop that consumes and produces", bus, &times(bus));
        row("a bare insert of the same rows", rows, &times(rows));
    }
    Ok(rate)
}

/// Starts routers on what waits and sees it decided: messages a second, between the first tenth and the last, and
/// what the processes used.
fn decide(
    site: &Site,
    postgres: &peers::Postgres,
    routers: usize,
    messages: u64,
) -> Result<(f64, usage::Usage)> {
    let there = site.filed(postgres)?;
    let before = site.decided(postgres)?;
    let running: Vec<Process> = (0..routers)
        .map(|_| site.start(ROUTER))
        .collect::<Result<_>>()?;
    let begun = Instant::now();
    let (mut first, mut last) = (None, None);
    loop {
        let done = site.decided(postgres)?.saturating_sub(before);
        let now = (begun.elapsed().as_secs_f64(), done);
        if done >= messages / 10 {
            first.get_or_insert(now);
        }
        if done >= messages * 9 / 10 {
            last.get_or_insert(now);
        }
        if last.is_some() && site.filed(postgres)? == there + messages {
            break;
        }
        if begun.elapsed() > DECIDED_MAX {
            bail!("{done} of {messages} were decided within {DECIDED_MAX:?}");
        }
        std::thread::sleep(LOOK_EVERY);
    }
    let mut used = usage::Usage::default();
    for router in &running {
        let one = usage(router.pid());
        used.cpu_seconds += one.cpu_seconds;
        used.rss_max_bytes = used.rss_max_bytes.max(one.rss_max_bytes);
    }
    let whole = begun.elapsed().as_secs_f64();
    let rate = match (first, last) {
        (Some((from, some)), Some((to, most))) if to > from => (most - some) as f64 / (to - from),
        _ => messages as f64 / whole,
    };
    Ok((rate, used))
}

/// How deciding and claiming slow down with what is open.
fn grown(
    options: &Options,
    kafka: &peers::kafka::KafkaCluster,
    postgres: &peers::Postgres,
    runtime: &tokio::runtime::Runtime,
) -> Result<()> {
    let site = Site::new(kafka.brokers(), postgres)?;
    let door = site.start(DOOR)?;
    let token = door.token()?;
    let mut customers = Customers::new(0);
    for open in &options.open {
        let missing = open.saturating_sub(customers.known());
        customers.become_many(*open);
        customers.write(runtime, &door, missing)?;
        decide(&site, postgres, 1, missing)?;
        postgres.run(&site.database, "ANALYZE");
        customers.write(runtime, &door, options.messages)?;
        let (rate, _) = decide(&site, postgres, 1, options.messages)?;
        let (median, slow) = customers::claims(runtime, &door, &token, options.claims)?;
        row(
            &format!("decided with {open} open"),
            rate,
            &format!("a claim p50 {median:?}, p99 {slow:?}"),
        );
    }
    Ok(())
}

/// From the moment at which a killed broker answers again until a new message waits in its queue.
fn recovery(
    kafka: &mut peers::kafka::KafkaCluster,
    postgres: &peers::Postgres,
    runtime: &tokio::runtime::Runtime,
) -> Result<Duration> {
    let site = Site::new(kafka.brokers(), postgres)?;
    let door = site.start(DOOR)?;
    let _router = site.start(ROUTER)?;
    let mut customers = Customers::new(100);
    customers.write(runtime, &door, 100)?;
    let filed = |wanted: u64| -> Result<()> {
        let begun = Instant::now();
        while site.filed(postgres)? < wanted {
            if begun.elapsed() > DECIDED_MAX {
                bail!("not decided within {DECIDED_MAX:?}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    };
    filed(100)?;
    kafka.kill_9(0);
    std::thread::sleep(AWAY);
    kafka.start_again(0);
    let begun = Instant::now();
    customers.write(runtime, &door, 1)?;
    filed(101)?;
    Ok(begun.elapsed())
}
