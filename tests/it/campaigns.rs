//! Campaigns: faults over and over, on one process with what is built in and on several with one Kafka and one PostgreSQL. `make test` runs a
//! few rounds of each; the lengths of docs/reliability.md are asked for with `SWITCHBOARD_CAMPAIGN=full`, and then
//! each leaves a line in `reliability/ledger.jsonl`.

mod bit_flips;
mod brokers;
mod claims;
mod crowd;
mod database;
mod disk;
mod disk_full;
mod grow;
mod io_errors;
mod kill;
pub mod ledger;
mod moving;
mod power_cut;
mod restored;
mod rolling;
mod routers;
mod simulation;
mod stopped;
mod takeover;
mod traffic;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use ledger::{CLUSTER, EMBEDDED, Entry, close, lines_of};
use traffic::{Sent, Traffic, violations, watch_positions};

use crate::daemon::cluster::Cluster;
use crate::daemon::process::Installation;

/// Whether campaigns run in the length that the ledger is for.
fn full() -> bool {
    std::env::var("SWITCHBOARD_CAMPAIGN").is_ok_and(|value| value == "full")
}

/// Rounds and messages: a taste of it, or the whole.
fn size(taste: (usize, usize), whole: (usize, usize)) -> (usize, usize) {
    if full() { whole } else { taste }
}

/// A campaign on one process, in slices: each has a line in the ledger, and the next sitting goes on behind the last. Otherwise
/// the first of a taste.
struct Slices {
    name: &'static str,
    count: usize,
    seed: u64,
    /// Kills, cuts, rounds of one.
    trials: usize,
}

impl Slices {
    /// `run` gives what was violated in one with that seed; what it panics with is a violation, too.
    fn run(&self, run: impl Fn(u64) -> Vec<String>) {
        let todo = match full() {
            true => lines_of(self.name)..self.count,
            false => 0..1,
        };
        for slice in todo {
            let seed = self.seed + slice as u64;
            println!("{}: slice {slice}, seed {seed}", self.name);
            let violations = catch_unwind(AssertUnwindSafe(|| run(seed))).unwrap_or_else(|why| {
                let said = why.downcast_ref::<String>().cloned();
                vec![said.unwrap_or_else(|| "a check failed".to_owned())]
            });
            close(&Entry {
                campaign: self.name,
                on: EMBEDDED,
                seed,
                trials: self.trials,
                longest: None,
                violations,
            });
        }
    }
}

/// A campaign's name and chance, and what customers write meanwhile.
struct Campaign {
    name: &'static str,
    seed: u64,
    messages: usize,
    /// Messages a second.
    rate: usize,
    /// The longest time that may pass without anything being taken.
    gap_max: Option<Duration>,
}

impl Campaign {
    /// Has customers write to the processes while `faults` happen, of which it gives the number; then counts.
    fn run(
        self,
        cluster: &Cluster,
        processes: &[Installation],
        faults: impl FnOnce(&Sent) -> usize,
    ) {
        let database = cluster.database_name();
        watch_positions(&cluster.postgres, database);
        let token = processes[0].token("ada");
        let traffic = Traffic {
            customers: 200,
            messages: self.messages,
            rate: self.rate,
            seed: self.seed,
        };
        let sent = Sent::default();
        let trials = std::thread::scope(|scope| {
            scope.spawn(|| traffic.send(processes, &sent));
            faults(&sent)
        });
        let mut violations = violations(&processes[0], &token, &cluster.postgres, database, &sent);
        let gap = sent.longest_gap();
        if self.gap_max.is_some_and(|most| gap > most) {
            violations.push(format!("nothing was taken for {gap:?}"));
        }
        close(&Entry {
            campaign: self.name,
            on: CLUSTER,
            seed: self.seed,
            trials,
            longest: self.gap_max.is_some().then_some(gap),
            violations,
        });
    }
}
