//! Three brokers, of which two have to have a record, killed one after the other: leaders move under load.

use std::time::Duration;

use super::{Campaign, full, size};
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
    let shop = Shop::open();
    let mut brokers = KafkaCluster::start(3);
    let cluster = Cluster::on(brokers.brokers(), 3, chat_config(&shop.url));
    let processes: Vec<_> = (0..2).map(|_| cluster.start(ALL)).collect();
    let campaign = Campaign {
        name: "brokers",
        seed: 4_002,
        messages,
        rate: if full() { 80 } else { 30 },
        gap_max: None,
    };
    campaign.run(&cluster, &processes, |_| {
        for _ in 0..rounds {
            for broker in 0..brokers.len() {
                brokers.kill_9(broker);
                std::thread::sleep(AWAY);
                brokers.start_again(broker);
                std::thread::sleep(CALM);
            }
        }
        rounds * brokers.len()
    });
}
