//! One process whose disk is full, over and over: what cannot be kept is refused before it is accepted, and once there is room
//! it goes on without a hand.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::time::Duration;

use reqwest::blocking::Response;
use serde_json::Value;

use super::crowd::Crowd;
use super::disk::{Mount, may_mount, put_data};
use super::{Slices, full};
use crate::daemon::process::PATIENCE;
use crate::peers::{now, wait_until};

/// All of it is memory.
const DISK_BYTES: &str = "256m";
/// It is full by chance within so long after everybody began to write or there was room again, and stays so for as long.
const FULL_WITHIN_MS: u64 = 400;
/// After so many times everything has to be well again, and all of it is counted.
const COMPARED_EVERY: usize = 5;

#[test]
fn a_full_disk_refuses_what_it_cannot_keep_and_heals_without_a_hand() {
    if !may_mount() {
        return;
    }
    let slices = Slices {
        name: "disk-full",
        count: 10,
        seed: 5_301,
        trials: if full() { 20 } else { 2 },
    };
    slices.run(|seed| slice(seed, slices.trials));
}

fn slice(seed: u64, moments: usize) -> Vec<String> {
    let dir = tempfile::tempdir().expect("a directory");
    let disk = Mount::memory(dir.path().join("disk"), DISK_BYTES).expect("a file system");
    let crowd = Crowd::gather(seed, |daemon| put_data(daemon, disk.path()));
    let ballast = disk.path().join("ballast");
    for from in (0..moments).step_by(COMPARED_EVERY) {
        crowd.while_they_write(|| {
            for number in from..moments.min(from + COMPARED_EVERY) {
                moment(&crowd, &ballast, number == from);
            }
            // It looks every few seconds.
            wait_until("intake to be well again", PATIENCE, || {
                state(&crowd, "intake").0 == "ready"
            });
        });
        crowd.compare(&format!("moment {from} and those after it"));
    }
    crowd.end(&["full", "refused"])
}

/// Fills the disk while they write, looks at what goes on, and makes room.
fn moment(crowd: &Crowd, ballast: &Path, is_well: bool) {
    let rest = || std::thread::sleep(Duration::from_millis(crowd.chance(FULL_WITHIN_MS)));
    rest();
    let refused = crowd.counted("refused");
    fill(ballast);
    wait_until("something to be refused", PATIENCE, || {
        crowd.counted("refused") > refused
    });
    crowd.count("full");
    if is_well {
        wait_until("the refusal to be a state", PATIENCE, || {
            (state(crowd, "intake").1).starts_with("messages are refused: ")
        });
    }
    if crowd.daemon.metric("switchboard_refused_total") < 1.0 {
        crowd.violated("the metric of what is refused says nothing".to_owned());
    }
    // Reading needs no room.
    let begun = now();
    for path in ["/v1/conversations", "/v1/queues", "/v1/search?q=says"] {
        crowd.daemon.get(&crowd.token, path);
    }
    if begun.elapsed() > Duration::from_secs(5) {
        crowd.violated(format!("reading took {:?} on a full disk", begun.elapsed()));
    }
    rest();
    fs::remove_file(ballast).expect("the ballast");
    let acknowledged = crowd.manifest().acknowledged();
    wait_until("messages to be taken again", PATIENCE, || {
        crowd.manifest().acknowledged() > acknowledged
    });
}

/// What `/readyz` says of a part: its state, and why.
fn state(crowd: &Crowd, part: &str) -> (String, String) {
    let asked = crowd.daemon.http.get(crowd.daemon.url("/readyz"));
    // It has them whether it is ready or not.
    let said: Value = (asked.send().and_then(Response::json)).expect("an answer");
    let found = &said["states"][part];
    let word = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    (word("state"), word("reason"))
}

/// Writes until nothing more fits, not even a page.
fn fill(ballast: &Path) {
    let mut file = File::create(ballast).expect("the ballast");
    for bytes in [1 << 20, 1 << 12] {
        let some = vec![0; bytes];
        loop {
            match file.write_all(&some) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => panic!("filling the disk: {error}"),
            }
        }
    }
}
