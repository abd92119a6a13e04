//! A database that crashes, and connections that are cut after `COMMIT` was sent.

use std::time::Duration;

use super::{Campaign, size};
use crate::daemon::cluster::{ALL, Cluster};
use crate::daemon::process::chat_config;
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
    let (cluster, shop) = durable();
    let processes: Vec<_> = (0..2).map(|_| cluster.start(ALL)).collect();
    campaign("database", 4_003, messages).run(&cluster, &processes, |_| {
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
    let (cluster, shop) = durable();
    let chaos = Chaos::start(cluster.postgres.port);
    let processes = [cluster.behind(&chaos)];
    processes[0].run();
    campaign("commits", 4_004, messages).run(&cluster, &processes, |_| {
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

fn campaign(name: &'static str, seed: u64, messages: usize) -> Campaign {
    Campaign {
        name,
        seed,
        messages,
        rate: 80,
        gap_max: None,
    }
}
