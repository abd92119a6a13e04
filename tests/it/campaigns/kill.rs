//! One process that is killed at any moment, while customers write to its shop's chat and its mailbox and an agent answers them.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::ledger::{EMBEDDED, Entry, close, lines_of};
use super::{full, size};
use crate::daemon::kill::{Scale, check};
use crate::daemon::post_office::PostOffice;
use crate::peers;

const NAME: &str = "kill";
/// Slices of the whole; each goes on where the ledger ends, so it may be run in several sittings.
const SLICES: usize = 20;
const SEED: u64 = 5_001;

#[test]
fn one_process_that_is_killed_over_and_over_loses_nothing_acknowledged_and_doubles_nothing() {
    if !peers::enabled() {
        return;
    }
    let slices = match full() {
        true => lines_of(NAME)..SLICES,
        false => 0..1,
    };
    for slice in slices {
        let (kills, messages) = size((3, 600), (25, 25_000));
        let seed = SEED + slice as u64;
        let scale = Scale {
            kills,
            messages,
            customers: if full() { 200 } else { 40 },
            mail_every: 20,
            chance: Some(seed),
        };
        let run = catch_unwind(AssertUnwindSafe(|| check(&PostOffice::open(), &scale)));
        let violations = run.err().map(|why| {
            let said = why.downcast_ref::<String>().cloned();
            said.unwrap_or_else(|| "a check failed".to_owned())
        });
        close(&Entry {
            campaign: NAME,
            on: EMBEDDED,
            seed,
            trials: kills,
            longest: None,
            violations: violations.into_iter().collect(),
        });
    }
}
