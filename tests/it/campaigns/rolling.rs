//! Processes replaced one after the other, as an upgrade does, while customers write. `SWITCHBOARD_PREVIOUS` names the
//! binary of the version before: then all begin with it.

use std::path::Path;
use std::time::Duration;

use super::{Campaign, full, size};
use crate::daemon::cluster::{ALL, Cluster};
use crate::daemon::process::{binary, chat_config};
use crate::daemon::shop::Shop;
use crate::peers;

/// Between one that is back and the next that goes.
const CALM: Duration = Duration::from_secs(1);
/// How long nothing may be taken, of everything that customers send to any of them.
const GAP_MAX: Duration = Duration::from_secs(2);

#[test]
fn processes_that_are_replaced_one_after_the_other_lose_nothing_and_go_on_taking() {
    if !peers::enabled() {
        return;
    }
    let (rounds, messages) = size((1, 600), (10, 20_000));
    let before = std::env::var("SWITCHBOARD_PREVIOUS");
    let before = before.as_deref().unwrap_or(binary());
    let shop = Shop::open();
    let cluster = Cluster::new(chat_config(&shop.url));
    let processes: Vec<_> = (0..3).map(|_| cluster.prepare(ALL)).collect();
    for process in &processes {
        process.run_binary(Path::new(before));
    }
    let campaign = Campaign {
        name: "rolling",
        seed: 4_005,
        messages,
        rate: if full() { 80 } else { 40 },
        // A busy machine has no bound.
        gap_max: full().then_some(GAP_MAX),
    };
    campaign.run(&cluster, &processes, |_| {
        for _ in 0..rounds {
            for process in &processes {
                assert!(process.terminate(), "it ends well");
                process.run();
                std::thread::sleep(CALM);
            }
        }
        rounds * processes.len()
    });
}
