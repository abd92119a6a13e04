//! What campaigns came to, a line each.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

/// Which bus and store it ran on.
#[derive(Clone, Copy)]
pub struct On {
    bus: &'static str,
    store: &'static str,
}

pub const CLUSTER: On = On {
    bus: "kafka",
    store: "postgres",
};
pub const EMBEDDED: On = On {
    bus: "local",
    store: "sqlite",
};

/// What a campaign came to.
pub struct Entry {
    pub campaign: &'static str,
    pub on: On,
    pub seed: u64,
    /// Kills, cuts, rounds.
    pub trials: usize,
    /// Of what is bounded, the longest.
    pub longest: Option<Duration>,
    pub violations: Vec<String>,
}

/// Fails where something was violated. In its full length the campaign is written down first, whatever it came to.
pub fn close(entry: &Entry) {
    if super::full() {
        let mut line = json!({
            "campaign": entry.campaign,
            "bus": entry.on.bus,
            "store": entry.on.store,
            "commit": commit(),
            "seed": entry.seed,
            "trials": entry.trials,
            "violations": entry.violations.len(),
        });
        if let Some(longest) = entry.longest {
            line["longest_ms"] = u64::try_from(longest.as_millis()).expect("a time").into();
        }
        let path = path();
        fs::create_dir_all(path.parent().expect("a folder")).expect("the folder of the ledger");
        let opened = fs::File::options().create(true).append(true).open(path);
        writeln!(opened.expect("the ledger"), "{line}").expect("a line in the ledger");
    }
    let some: Vec<&String> = entry.violations.iter().take(20).collect();
    assert!(
        entry.violations.is_empty(),
        "{} violations, seed {}: {some:#?}",
        entry.violations.len(),
        entry.seed
    );
}

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("reliability/ledger.jsonl")
}

/// How many lines there are of a campaign that found nothing: one that runs in slices goes on behind them, and repeats what failed.
pub fn lines_of(campaign: &str) -> usize {
    let text = fs::read_to_string(path()).unwrap_or_default();
    let lines = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("a line of JSON"));
    let good = lines.filter(|line| line["campaign"] == campaign && line["violations"] == 0);
    good.count()
}

/// What was tried: the commit, with a mark where the tree had more.
fn commit() -> String {
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).output().expect("git runs");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    let changed = !git(&[
        "status",
        "--porcelain",
        "--",
        "src",
        "connectors",
        "Cargo.lock",
    ])
    .is_empty();
    git(&["rev-parse", "--short=12", "HEAD"]) + if changed { "+" } else { "" }
}
