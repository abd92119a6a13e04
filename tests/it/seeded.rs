//! Bugs put in on purpose (`src/seeded.rs`): the table in docs/reliability.md says which tests find each.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::architecture::{quoted, rust_files};

/// At least so many there are.
const BUGS_MIN: usize = 25;

/// Each bug, and the tests that find it.
fn table() -> Vec<(String, Vec<String>)> {
    let text = fs::read_to_string("docs/reliability.md").unwrap();
    let (_, section) = text.split_once("## Bugs put in on purpose").unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').collect();
        let bug = quoted(cells[1]).next().unwrap().to_owned();
        (bug, quoted(cells[3]).map(str::to_owned).collect())
    })
    .collect()
}

#[test]
fn every_bug_of_the_code_is_in_the_table_with_tests_that_are_there() {
    let sources: String = rust_files(Path::new("src"))
        .iter()
        .filter(|file| !file.ends_with("seeded.rs"))
        .map(|file| fs::read_to_string(file).unwrap())
        .collect();
    let sources = sources.replace("debug!(", "");
    let names = sources.split("bug!(\"").skip(1);
    let in_code: BTreeSet<&str> = names.map(|rest| rest.split('"').next().unwrap()).collect();
    let table = table();
    let in_table: BTreeSet<&str> = table.iter().map(|(bug, _)| bug.as_str()).collect();
    assert_eq!(in_code, in_table);
    assert!(in_table.len() >= BUGS_MIN, "{} bugs", in_table.len());
    for (bug, tests) in &table {
        assert!(!tests.is_empty(), "{bug}: which test finds it?");
    }
}

#[cfg(all(feature = "seeded-bugs", feature = "kafka", feature = "postgres"))]
mod caught {
    use std::collections::BTreeSet;
    use std::process::{Command, Stdio};
    use std::time::Duration;

    use super::table;
    use crate::campaigns::ledger::{EMBEDDED, Entry, close};

    /// A test that takes so long has not passed.
    const PATIENCE: Duration = Duration::from_secs(300);

    #[test]
    fn every_bug_is_found_by_each_test_that_is_named_for_it() {
        let table = table();
        let tests: BTreeSet<&String> = table.iter().flat_map(|(_, tests)| tests).collect();
        let mut wrong = Vec::new();
        for test in tests {
            if !passes(test, "none") {
                wrong.push(format!("{test} fails without any bug"));
            }
        }
        for (bug, tests) in &table {
            for test in tests {
                let found = !passes(test, bug);
                println!(
                    "{bug}: {} by {test}",
                    if found { "found" } else { "NOT FOUND" }
                );
                if !found {
                    wrong.push(format!("{bug} is not found by {test}"));
                }
            }
        }
        close(&Entry {
            campaign: "seeded-bugs",
            on: EMBEDDED,
            seed: 0,
            trials: table.len(),
            longest: None,
            violations: wrong,
        });
    }

    /// Whether a test passes, in a process of its own, with a bug in it.
    fn passes(test: &str, bug: &str) -> bool {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args([test, "--exact"])
            .env(switchboard::seeded::ASKED, bug)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            if let Some(ended) = process.try_wait().unwrap() {
                return ended.success();
            }
            if tokio::time::Instant::now() > until {
                process.kill().unwrap();
                process.wait().unwrap();
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
