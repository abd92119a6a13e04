//! What was done to the installation, counted: a fault that never happened proves nothing.

use std::collections::BTreeMap;

/// Every fault that there is. Those of a disk happen only where there is one that can fail.
pub const OF_A_DISK: [&str; 10] = [
    "kill within an operation",
    "slow disk",
    "several in one commit",
    "power cut between operations",
    "power cut within an operation",
    "power cut within a commit of several",
    "write dropped",
    "write torn",
    "name undone",
    "checkpoint",
];
pub const OF_ANYTHING: [&str; 14] = [
    "kill between operations",
    "answer lost",
    "delivered again",
    "delivered out of order",
    "clock forward",
    "clock back",
    "reply under way at a crash",
    "sent and the answer lost",
    "not sent and the answer lost",
    "refused by the provider",
    "put off by the provider",
    "receipt before its answer",
    "sent again by a person",
    "sweep",
];
/// Those that happen on any day.
pub const ESSENTIAL: [&str; 4] = [
    "kill between operations",
    "answer lost",
    "delivered again",
    "delivered out of order",
];

#[derive(Debug, Default, Clone)]
pub struct Faults(BTreeMap<&'static str, u64>);

impl Faults {
    pub fn count(&mut self, what: &'static str) {
        self.add(what, 1);
    }

    pub fn add(&mut self, what: &'static str, times: u64) {
        assert!(
            OF_A_DISK.contains(&what) || OF_ANYTHING.contains(&what),
            "{what} is in no list of faults"
        );
        *self.0.entry(what).or_default() += times;
    }

    pub fn times(&self, what: &str) -> u64 {
        self.0.get(what).copied().unwrap_or(0)
    }
}
