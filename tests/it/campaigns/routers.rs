//! Three processes that run every part, under `kill -9`, stops of some seconds and orderly restarts, which all move
//! partitions between them.

use std::time::Duration;

use super::{Campaign, full, size};
use crate::daemon::cluster::{ALL, Cluster};
use crate::daemon::process::{Installation, chat_config};
use crate::daemon::shop::Shop;
use crate::peers;
use crate::support::random;

/// Longer than a broker waits for a member, and than a lease holds: somebody else has all of it meanwhile.
const ASLEEP_LONG: Duration = Duration::from_secs(9);
const ASLEEP_SHORT: Duration = Duration::from_millis(500);
/// Between two faults.
const CALM: Duration = Duration::from_secs(2);

#[test]
fn routers_that_are_killed_and_stopped_file_each_message_once_in_order() {
    if !peers::enabled() {
        return;
    }
    let (rounds, messages) = size((3, 600), (50, 50_000));
    let seed = 4_001;
    let shop = Shop::open();
    let cluster = Cluster::new(chat_config(&shop.url));
    let processes: Vec<_> = (0..3).map(|_| cluster.start(ALL)).collect();
    let campaign = Campaign {
        name: "routers",
        seed,
        messages,
        rate: if full() { 120 } else { 60 },
        gap_max: None,
    };
    campaign.run(&cluster, &processes, |_| {
        let mut chance = seed;
        for _ in 0..rounds {
            let process = &processes[random(&mut chance) as usize % processes.len()];
            Fault::next(&mut chance).befall(process);
        }
        rounds
    });
}

/// What befalls a process.
pub enum Fault {
    Killed,
    Asleep(Duration),
    Replaced,
}

impl Fault {
    pub fn next(chance: &mut u64) -> Self {
        match random(chance) % 4 {
            0 => Self::Killed,
            1 => Self::Asleep(ASLEEP_LONG),
            2 => Self::Asleep(ASLEEP_SHORT),
            _ => Self::Replaced,
        }
    }

    /// On return the process is ready, and has been for a while.
    pub fn befall(self, process: &Installation) {
        match self {
            Self::Killed => {
                process.kill_9();
                process.run();
            }
            Self::Asleep(time) => {
                process.signal("STOP");
                std::thread::sleep(time);
                process.signal("CONT");
            }
            Self::Replaced => {
                process.terminate();
                process.run();
            }
        }
        std::thread::sleep(CALM);
    }
}
