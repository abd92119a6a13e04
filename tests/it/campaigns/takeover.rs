//! Any one process killed: what it did is done elsewhere, soon.

use std::time::Duration;

use super::ledger::{CLUSTER, Entry, close};
use super::{full, size};
use crate::daemon::cluster::{ALL, Cluster};
use crate::daemon::process::{chat, chat_config};
use crate::daemon::shop::Shop;
use crate::peers::{self, wait_until};

/// From a process's end until all of its work is another's.
const TAKEN_OVER_MAX: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(60);
/// Of each partition some, likely.
const CUSTOMERS: usize = 48;

#[test]
fn what_a_killed_process_did_is_done_elsewhere_within_ten_seconds() {
    if !peers::enabled() {
        return;
    }
    let (rounds, _) = size((1, 0), (30, 0));
    let shop = Shop::open();
    let cluster = Cluster::new(chat_config(&shop.url));
    let processes: Vec<_> = (0..3).map(|_| cluster.start(ALL)).collect();
    let token = processes[0].token("ada");
    let mut longest = Duration::ZERO;
    let mut violations = Vec::new();
    let filed = || {
        let rows = cluster.postgres.rows(
            cluster.database_name(),
            "SELECT count(*) FROM message WHERE author = 0",
        );
        rows[0].parse::<usize>().expect("a count")
    };
    let write = |round: usize, process: usize| {
        for customer in 0..CUSTOMERS {
            let said = chat(
                &format!("m{round}-{customer}"),
                &format!("cust-{customer}"),
                "Hello?",
            );
            let answer = processes[process]
                .hook("shop-chat", &said)
                .expect("an answer");
            assert!(answer.status().is_success(), "{answer:?}");
        }
    };
    write(0, 0);
    wait_until("all to be decided", PATIENCE, || filed() == CUSTOMERS);
    let claimed = processes[0]
        .claim(&token, "frontline")
        .expect("a conversation");
    let conversation = claimed["id"].as_str().expect("an id");
    for round in 1..=rounds {
        let (victim, door) = (round % 3, (round + 1) % 3);
        processes[victim].kill_9();
        let killed = peers::now();
        let reply = processes[door].reply(&token, conversation, &format!("r{round}"), "Here.");
        let reply = reply["id"].as_str().expect("an id").to_owned();
        write(round, door);
        wait_until("all to be decided", PATIENCE, || {
            filed() == CUSTOMERS * (round + 1)
        });
        processes[door].wait_for_delivery(&token, &reply, "sent");
        let took = killed.elapsed();
        // A busy machine has no bound.
        if full() && took > TAKEN_OVER_MAX {
            violations.push(format!("round {round}: {took:?}"));
        }
        longest = longest.max(took);
        processes[victim].run();
    }
    assert_eq!(shop.deliveries(), rounds, "each answer leaves once");
    close(&Entry {
        campaign: "takeover",
        on: CLUSTER,
        seed: 0,
        trials: rounds,
        longest: Some(longest),
        violations,
    });
}
