//! How fast the release binary is: signed 2 KB webhooks at a constant rate, 5 % of them delivered again, on a store
//! that is already full, with the floor that the disk sets measured in the same run. `make bench` runs it.
//!
//! Without `--bench` (as `cargo test` starts it) it checks the driver itself against a stand-in for the daemon.
#![expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]

#[path = "load/daemon.rs"]
mod daemon;
#[path = "load/floor.rs"]
mod floor;
#[path = "load/generator.rs"]
mod generator;
#[path = "load/http.rs"]
mod http;
#[path = "load/payload.rs"]
mod payload;
#[path = "load/probe.rs"]
mod probe;
#[path = "load/report.rs"]
mod report;
#[path = "load/self_check.rs"]
mod self_check;
#[path = "load/stub.rs"]
mod stub;
#[path = "load/trial.rs"]
mod trial;
#[path = "load/usage.rs"]
mod usage;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use tokio::task::LocalSet;
use tokio::time::sleep;

use daemon::{Installation, LOAD, PROBE};
use payload::Payloads;
use report::Report;
use trial::Trial;
use usage::usage;

/// Without options it measures what the gate asks for: 5,000/s for 2 minutes on a million messages.
#[derive(Parser, Debug)]
struct Options {
    /// Requests a second; 0 for as fast as the connections allow (the ceiling). The default is a little above
    /// the gate: the last ones are filed some time after the last one was sent, and that time counts.
    #[arg(long, default_value_t = 5_100)]
    rate: u64,
    #[arg(long, default_value_t = 120)]
    seconds: u64,
    /// Requests under way at once. At the gate's rate 256 would be used up by answers that take 50 ms.
    #[arg(long, default_value_t = 512)]
    connections: usize,
    /// Messages in the store before the measuring.
    #[arg(long, default_value_t = 1_000_000)]
    preload_messages: u64,
    /// Open conversations in the store before the measuring.
    #[arg(long, default_value_t = 100_000)]
    preload_conversations: u64,
    /// How many of the messages come from somebody who has no conversation yet.
    #[arg(long, default_value_t = 20)]
    new_customers_percent: u64,
    /// Conversations a second that agents claim, to measure how soon that is possible.
    #[arg(long, default_value_t = 20)]
    probe_rate: u64,
    /// The longest that the floor may take.
    #[arg(long, default_value_t = 15)]
    floor_seconds: u64,
    /// The daemon. Default: SWITCHBOARD_BIN, or the one that cargo built with this driver.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Keeps the store here, and uses it again when it was preloaded as asked. Default: a temporary one.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Prints one JSON object instead of a table.
    #[arg(long)]
    json: bool,
    /// A short run on a small store that only proves that counts agree.
    #[arg(long)]
    smoke: bool,
    /// Ends with 1 when a figure misses its gate, too, and not only when counts disagree.
    #[arg(long)]
    gate: bool,
    /// What cargo passes to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let outcome = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) if std::env::args().any(|argument| argument == "--bench") => {
            LocalSet::new().block_on(&runtime, measure(Options::parse().smaller()))
        }
        Ok(runtime) => LocalSet::new().block_on(&runtime, self_check::run()),
        Err(error) => Err(error.into()),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("load: {error:#}");
            ExitCode::FAILURE
        }
    }
}

impl Options {
    fn smaller(self) -> Options {
        if !self.smoke {
            return self;
        }
        Options {
            rate: self.rate.min(200),
            seconds: self.seconds.min(5),
            connections: self.connections.min(32),
            preload_messages: self.preload_messages.min(5_000),
            preload_conversations: self.preload_conversations.min(500),
            floor_seconds: self.floor_seconds.min(2),
            ..self
        }
    }
}

/// Returns whether all is as it should be.
async fn measure(options: Options) -> Result<bool> {
    let directory = match &options.data_dir {
        Some(directory) => directory.clone(),
        None => Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("load-{}", std::process::id())),
    };
    std::fs::create_dir_all(&directory)
        .with_context(|| format!("cannot create {}", directory.display()))?;
    let outcome = measure_in(&directory, &options).await;
    if options.data_dir.is_none() && outcome.is_ok() {
        std::fs::remove_dir_all(&directory).ok();
    }
    let report = outcome?;
    if options.json {
        println!("{}", report.json());
    } else {
        println!("{}", report.table());
    }
    Ok(report.counts_agree() && (!options.gate || report.gates_missed().is_empty()))
}

fn built() -> PathBuf {
    PathBuf::from(
        std::env::var_os("SWITCHBOARD_BIN")
            .unwrap_or_else(|| env!("CARGO_BIN_EXE_switchboard").into()),
    )
}

async fn measure_in(directory: &Path, options: &Options) -> Result<Report> {
    let installation = Installation {
        binary: options.binary.clone().unwrap_or_else(built),
        data: directory.join("data"),
        key: b"a load test's key of 32 bytes...".to_vec(),
    };
    let now = jiff::Timestamp::now();
    let preloaded = i64::try_from(options.preload_messages).context("too many messages")?;
    let payloads = Payloads {
        run: format!("{:x}", now.as_second()),
        preloaded_messages: options.preload_messages,
        preloaded_customers: options.preload_conversations.min(options.preload_messages),
        new_customers_percent: options.new_customers_percent.min(100),
        first_sent_at_ms: now.as_millisecond() - preloaded - 60_000,
    };

    let daemon = installation.start().await?;
    let ready_empty = daemon.ready;
    // What start-up leaves behind is given back within moments.
    sleep(Duration::from_secs(2)).await;
    let idle_empty = usage(daemon.pid());
    let tokens = (
        installation.token("load-1", LOAD.queue)?,
        installation.token("probe-1", PROBE.queue)?,
    );
    let trial = |daemon: &daemon::Daemon| Trial {
        address: daemon.address,
        pid: Some(daemon.pid()),
        key: installation.key.clone(),
        load_token: tokens.0.clone(),
        probe_token: tokens.1.clone(),
        payloads: payloads.clone(),
        rate: options.rate,
        duration: Duration::from_secs(options.seconds),
        connections: options.connections,
        probe_rate: options.probe_rate,
    };
    let marker = directory.join("preloaded");
    let wanted = format!(
        "{} {}",
        options.preload_messages, options.preload_conversations
    );
    let there = std::fs::read_to_string(&marker).is_ok_and(|text| text == wanted);
    let preload = if there || options.preload_messages == 0 {
        None
    } else {
        let time = trial(&daemon).preload().await?;
        std::fs::write(&marker, wanted)?;
        Some(time)
    };
    let indexed = trial(&daemon).indexed().await?;
    let stopped = daemon.stop().await?;

    let daemon = installation.start().await?;
    let ready_full = daemon.ready;
    sleep(Duration::from_secs(2)).await;
    let idle_full = usage(daemon.pid());
    let outcome = trial(&daemon).run().await?;
    let loaded = usage(daemon.pid());
    daemon.stop().await?;

    let rows_max = (options.rate * options.seconds).max(100_000);
    let floor = floor::measure(
        directory,
        &payloads,
        rows_max,
        Duration::from_secs(options.floor_seconds),
    )?;
    Ok(Report {
        rate: options.rate,
        preloaded: (options.preload_messages, payloads.preloaded_customers),
        preload,
        indexed,
        ready_empty,
        ready_full,
        stopped,
        idle_empty,
        idle_full,
        loaded,
        outcome,
        floor: Some(floor),
    })
}
