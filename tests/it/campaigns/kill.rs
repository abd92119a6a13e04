//! One process that is killed at any moment, while customers write to its shop's chat and its mailbox and an agent answers them.

use super::{Slices, full, size};
use crate::daemon::kill::{Scale, check};
use crate::daemon::post_office::PostOffice;
use crate::peers;

#[test]
fn one_process_that_is_killed_over_and_over_loses_nothing_acknowledged_and_doubles_nothing() {
    if !peers::enabled() {
        return;
    }
    let (kills, messages) = size((3, 600), (25, 25_000));
    let slices = Slices {
        name: "kill",
        count: 20,
        seed: 5_001,
        trials: kills,
    };
    slices.run(|seed| {
        let scale = Scale {
            kills,
            messages,
            customers: if full() { 200 } else { 40 },
            mail_every: 20,
            chance: Some(seed),
        };
        check(&PostOffice::open(), &scale);
        Vec::new()
    });
}
