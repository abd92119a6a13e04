//! How fast mail is taken from a real Dovecot by the release binary: a full mailbox, mail that comes while nothing
//! else does, one very large mail, and mail that comes while an old mailbox is imported. `make bench-mail` runs it.
#![expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
#![allow(
    dead_code,
    unused_imports,
    reason = "the harness of the servers has more than is used here, and tests of its own"
)]

#[path = "load/usage.rs"]
mod usage;

#[path = "mail/desk.rs"]
mod desk;
#[path = "mail/mails.rs"]
mod mails;
#[path = "../tests/peers/peers.rs"]
mod peers;
#[path = "mail/trials.rs"]
mod trials;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use desk::Desk;
use trials::{Latency, large_mail, live_mail, whole_mailbox};

/// Without options it measures what the gates ask for.
#[derive(Parser, Debug)]
struct Options {
    /// Mails that lie in the mailbox before the daemon looks.
    #[arg(long, default_value_t = 10_000)]
    mails: usize,
    /// Mails a second that come in while nothing else does, and while an old mailbox is imported.
    #[arg(long, default_value_t = 20)]
    rate: u32,
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Size of the large mail, in MB of 1,000,000 bytes.
    #[arg(long, default_value_t = 25)]
    large_mb: usize,
    /// Old mails that are imported while others come in.
    #[arg(long, default_value_t = 100_000)]
    backfill: usize,
    /// The daemon. Default: the one that cargo built with this driver.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// A run of seconds that only proves that counts agree.
    #[arg(long)]
    smoke: bool,
    /// Ends with 1 when a figure misses its gate, too.
    #[arg(long)]
    gate: bool,
    /// What cargo passes to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    match measure(Options::parse().smaller()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("mail: {error:#}");
            ExitCode::FAILURE
        }
    }
}

impl Options {
    fn smaller(self) -> Self {
        match self.smoke {
            false => self,
            true => Self {
                mails: self.mails.min(200),
                seconds: self.seconds.min(5),
                backfill: self.backfill.min(500),
                ..self
            },
        }
    }
}

fn measure(options: Options) -> Result<bool> {
    let binary = options.binary.clone();
    let binary = binary.unwrap_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_switchboard")));
    let mut missed = Vec::new();
    let mut gate = |holds: bool, what: &str| {
        if !holds {
            missed.push(what.to_owned());
        }
    };

    let burst = whole_mailbox(&Desk::new(&binary, None)?, options.mails)?;
    println!(
        "whole mailbox               {} mails in {:.1} s: {:.0}/s parsed, filed and queued; {:.2} ms of CPU each, RSS {:.0} MB at most",
        options.mails,
        burst.took.as_secs_f64(),
        burst.per_second(options.mails),
        burst.cpu_seconds * 1000.0 / options.mails as f64,
        burst.rss_max_bytes as f64 / 1e6
    );
    gate(
        options.smoke || burst.per_second(options.mails) >= 300.0,
        "whole mailbox: wanted 300/s",
    );

    let desk = Desk::new(&binary, None)?;
    let alone = live_mail(&desk, options.rate, options.seconds, || Ok(()))?;
    report("live mail", &alone);
    gate(
        alone.p99_ms <= 2_000.0,
        "live mail: wanted delivered to claimable in 2 s at p99",
    );

    let grown = large_mail(&desk, options.large_mb * 1_000_000)?;
    println!(
        "one mail of {} MB            RSS grew by {:.1} MB at most",
        options.large_mb,
        grown as f64 / 1e6
    );
    gate(
        grown <= 60_000_000,
        "a large mail: wanted at most 60 MB of memory",
    );
    drop(desk);

    let desk = Desk::new(&binary, None)?;
    let alone = trials::beside_old_mail(&desk, options.backfill, options.rate, options.seconds)?;
    report("live mail beside old mail", &alone);
    drop(desk);

    let desk = Desk::new(&binary, Some("3650d"))?;
    let beside = trials::beside_a_backfill(&desk, options.backfill, options.rate, options.seconds)?;
    report("live mail beside a backfill", &beside.live);
    println!(
        "backfill                    {} of {} old mails were imported meanwhile; p50 is {:.2} and p99 {:.2} of what they are alone",
        beside.imported,
        options.backfill,
        beside.live.p50_ms / alone.p50_ms,
        beside.live.p99_ms / alone.p99_ms
    );
    gate(
        options.smoke || beside.live.p50_ms <= 1.2 * alone.p50_ms,
        "beside a backfill: wanted live mail slowed by 1.2 at most (p50)",
    );
    // At p99 a look or a commit that fell badly is most of it: the promise of 2 s holds there, too.
    gate(
        beside.live.p99_ms <= 2_000.0,
        "beside a backfill: wanted delivered to claimable in 2 s at p99",
    );
    match missed.is_empty() {
        true => println!("gates missed                none"),
        false => println!("gates missed                {}", missed.join("; ")),
    }
    Ok(missed.is_empty() || !options.gate)
}

fn report(what: &str, latency: &Latency) {
    println!(
        "{what:<28}{} mails, delivered to claimable: p50 {:.0} ms, p99 {:.0} ms, max {:.0} ms",
        latency.mails, latency.p50_ms, latency.p99_ms, latency.max_ms
    );
}
