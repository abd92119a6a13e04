//! One process that stands still for a while, over and over, as a machine does that swaps, or is moved to another host.

use std::time::Duration;

use super::crowd::Crowd;
use super::power_cut::stop;
use super::{Slices, full};

/// Between two stops, by chance.
const RUNS_WITHIN_MS: u64 = 500;
/// One of so many is a long one.
const LONG_EVERY: usize = 10;
const STOPPED_WITHIN_MS: u64 = 800;
/// Longer than anything sleeps here, and than what is sent waits before it is tried again.
const LONG: Duration = Duration::from_secs(6);
const COMPARED_EVERY: usize = 5;

#[test]
fn a_process_that_was_stopped_for_a_while_loses_and_doubles_nothing() {
    let slices = Slices {
        name: "stopped",
        count: 4,
        seed: 5_501,
        trials: if full() { 25 } else { 3 },
    };
    slices.run(|seed| slice(seed, slices.trials));
}

fn slice(seed: u64, stops: usize) -> Vec<String> {
    let crowd = Crowd::gather(seed, |_| ());
    for from in (0..stops).step_by(COMPARED_EVERY) {
        crowd.while_they_write(|| {
            for number in from..stops.min(from + COMPARED_EVERY) {
                std::thread::sleep(Duration::from_millis(50 + crowd.chance(RUNS_WITHIN_MS)));
                stop(&crowd.daemon);
                let length = match full() && number % LONG_EVERY == LONG_EVERY - 1 {
                    true => LONG,
                    false => Duration::from_millis(crowd.chance(STOPPED_WITHIN_MS)),
                };
                std::thread::sleep(length);
                crowd.daemon.signal("CONT");
                crowd.count("stopped");
            }
        });
        crowd.compare(&format!("stop {from} and those after it"));
    }
    crowd.end(&["stopped", "snoozed"])
}
