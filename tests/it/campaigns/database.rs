//! A database that crashes, and connections that are cut after `COMMIT` was sent.

use std::time::Duration;

use super::ledger::{Entry, close};
use super::size;
use super::traffic::{Sent, Traffic, violations, watch_positions};
use crate::daemon::cluster::{ALL, Cluster};
use crate::daemon::process::{Installation, chat_config};
use crate::daemon::shop::Shop;
use crate::peers::{self, Chaos, PATIENCE, Postgres, wait_until};
use crate::support::kafka::broker;

/// Between two crashes, and between two cuts.
const CALM: Duration = Duration::from_secs(3);
const CALM_SHORT: Duration = Duration::from_millis(400);
/// What a transaction ends with.
const COMMIT: &[u8] = b"; COMMIT";

#[test]
fn a_database_that_crashes_under_load_has_every_message_once() {
    if !peers::enabled() {
        return;
    }
    let (rounds, messages) = size((2, 400), (50, 20_000));
    let seed = 4_003;
    let (cluster, shop) = durable();
    let processes: Vec<_> = (0..2).map(|_| cluster.start(ALL)).collect();
    run("database", seed, &cluster, &processes, messages, 80, || {
        for _ in 0..rounds {
            std::thread::sleep(CALM);
            cluster.postgres.crash();
        }
        rounds
    });
    drop(shop);
}

#[test]
fn commits_whose_answer_is_cut_off_are_done_once() {
    if !peers::enabled() {
        return;
    }
    let (rounds, messages) = size((10, 400), (200, 10_000));
    let seed = 4_004;
    let (cluster, shop) = durable();
    let chaos = Chaos::start(cluster.postgres.port);
    let processes = [cluster.behind(&chaos)];
    processes[0].run();
    run("commits", seed, &cluster, &processes, messages, 80, || {
        for round in 0..rounds {
            std::thread::sleep(CALM_SHORT);
            chaos.lose_answer_to(COMMIT);
            wait_until("a commit to be cut", PATIENCE, || {
                chaos.answers_lost() > round
            });
        }
        rounds
    });
    drop(shop);
}

fn durable() -> (Cluster, Shop) {
    let shop = Shop::open();
    let postgres = std::sync::Arc::new(Postgres::durable());
    let cluster = Cluster::with(broker(), postgres, chat_config(&shop.url));
    (cluster, shop)
}

fn run(
    campaign: &'static str,
    seed: u64,
    cluster: &Cluster,
    processes: &[Installation],
    messages: usize,
    rate: usize,
    faults: impl FnOnce() -> usize,
) {
    watch_positions(&cluster.postgres, cluster.database_name());
    let token = processes[0].token("ada");
    let traffic = Traffic {
        customers: 200,
        messages,
        rate,
        seed,
    };
    let sent = Sent::default();
    let trials = std::thread::scope(|scope| {
        scope.spawn(|| traffic.send(processes, &sent));
        faults()
    });
    let database = cluster.database_name();
    let violations = violations(&processes[0], &token, &cluster.postgres, database, &sent);
    close(&Entry {
        campaign,
        seed,
        trials,
        violations,
    });
}
