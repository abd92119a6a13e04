//! The disk under the simulation, asked by paths that only `disk.c` knows.

use std::fs;
use std::path::Path;

/// What the library is made of.
pub const SOURCE: &str = include_str!("disk.c");

/// How a photograph of the disk is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// As after `kill -9`: everything that was written is there.
    Kill,
    /// As after a power cut: what was synced, and of the rest what chance lets through.
    Power,
}

impl Loss {
    pub fn word(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Power => "power",
        }
    }
}

/// How the disk stands.
#[derive(Debug, Clone, Copy, Default)]
pub struct State {
    /// A photograph that was asked for was taken.
    pub taken: bool,
    /// A commit waits for its sync.
    pub held: bool,
    /// Of the last photograph: writes that it has nothing of, and some sectors of; names that are the old ones.
    pub dropped: u64,
    pub torn: u64,
    pub undone: u64,
}

/// From now on the disk is what lies under `root`, all of it synced.
pub fn begin(root: &Path) {
    ask(&format!("begin:{}", root.display()));
}

/// Takes a photograph before the `at`th operation from now, or at once for 0.
pub fn photograph(loss: Loss, seed: u64, at: u64, to: &Path) -> State {
    let (kind, to) = (loss.word(), to.display());
    ask(&format!("photograph:{kind}:{seed}:{at}:{to}"))
}

/// Commits wait for their syncs from now on.
pub fn hold() {
    ask("hold");
}

/// Lets the sync through that waits; the next one waits again.
pub fn step() {
    ask("step");
}

/// Lets all syncs through.
pub fn release() {
    ask("release");
}

pub fn state() -> State {
    ask("state")
}

fn ask(command: &str) -> State {
    let answer = fs::read_to_string(format!("/sim-disk/{command}")).expect("disk.c is loaded");
    let numbers: Vec<u64> = answer
        .split(' ')
        .map(|number| number.parse().expect("numbers"))
        .collect();
    let [taken, held, dropped, torn, undone] = numbers[..] else {
        panic!("disk.c answered {answer:?}");
    };
    State {
        taken: taken == 1,
        held: held == 1,
        dropped,
        torn,
        undone,
    }
}
