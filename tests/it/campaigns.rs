//! Campaigns: faults over and over, on one process with what is built in and on several with one Kafka and one PostgreSQL. `make test` runs a
//! few rounds of each; the lengths of docs/reliability.md are asked for with `SWITCHBOARD_CAMPAIGN=full`, and then
//! each leaves a line in `reliability/ledger.jsonl`.

mod brokers;
mod claims;
mod database;
mod grow;
mod kill;
mod ledger;
mod moving;
mod rolling;
mod routers;
mod takeover;
mod traffic;

use std::time::Duration;

use ledger::{CLUSTER, Entry, close};
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
