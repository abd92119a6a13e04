//! Three brokers, of which two have to have a record, killed one after the other: leaders move under load.

use std::time::Duration;

use super::ledger::{Entry, close};
use super::size;
use super::traffic::{Sent, Traffic, violations, watch_positions};
use crate::daemon::cluster::{ALL, Cluster};
use crate::daemon::process::chat_config;
use crate::daemon::shop::Shop;
use crate::peers;
use crate::peers::kafka::KafkaCluster;

/// How long a broker stays away, and how long all are there before the next one goes.
const AWAY: Duration = Duration::from_secs(4);
const CALM: Duration = Duration::from_secs(6);

#[test]
fn brokers_that_are_killed_in_turn_lose_nothing_acknowledged() {
    if !peers::enabled() {
        return;
    }
    let (rounds, messages) = size((1, 400), (10, 30_000));
    let seed = 4_002;
    let shop = Shop::open();
    let mut brokers = KafkaCluster::start(3);
    let cluster = Cluster::on(brokers.brokers(), 3, chat_config(&shop.url));
    let processes: Vec<_> = (0..2).map(|_| cluster.start(ALL)).collect();
    watch_positions(&cluster.postgres, cluster.database_name());
    let token = processes[0].token("ada");
    let traffic = Traffic {
        customers: 200,
        messages,
        rate: if super::full() { 80 } else { 30 },
        seed,
    };
    let sent = Sent::default();
    let mut trials = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| traffic.send(&processes, &sent));
        for _ in 0..rounds {
            for broker in 0..brokers.len() {
                brokers.kill_9(broker);
                std::thread::sleep(AWAY);
                brokers.start_again(broker);
                std::thread::sleep(CALM);
                trials += 1;
            }
        }
    });
    let violations = violations(
        &processes[0],
        &token,
        &cluster.postgres,
        cluster.database_name(),
        &sent,
    );
    close(&Entry {
        campaign: "brokers",
        seed,
        trials,
        violations,
    });
}
