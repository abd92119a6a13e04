//! Days by chance on one disk that fails (`tests/sim`), thousands of them.

use super::{Slices, full};
use crate::sim;

/// Those of every run are other ones.
const SEED: u64 = 100_000;

#[test]
fn every_promise_holds_on_thousands_of_days() {
    let slices = Slices {
        name: "simulation",
        count: 20,
        seed: SEED,
        trials: if full() { 100 } else { 4 },
    };
    slices.run(|seed| {
        let days = slices.trials as u64;
        let from = SEED + (seed - SEED) * days;
        sim::days(from..from + days);
        Vec::new()
    });
}
