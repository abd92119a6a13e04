//! An older backup is put back, over and over, while replies in it had not left: nobody can tell which of them left since, so all of
//! them are held until somebody says so.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::crowd::Crowd;
use super::{Slices, full};
use crate::daemon::manifest::Found;
use crate::daemon::process::PATIENCE;
use crate::peers::wait_until;

/// Everybody writes for so long, by chance: before the shop takes nothing any more, then until the backup, and after it.
const WRITES_WITHIN_MS: u64 = 400;
/// One of so many times the daemon goes on until something unsent of the backup left.
const LEFT_EVERY: u64 = 2;

#[test]
fn nothing_unsent_of_an_older_backup_leaves_by_itself() {
    let slices = Slices {
        name: "restored",
        count: 5,
        seed: 5_601,
        trials: if full() { 10 } else { 2 },
    };
    slices.run(|seed| slice(seed, slices.trials));
}

fn slice(seed: u64, restores: usize) -> Vec<String> {
    let crowd = Crowd::gather(seed, |_| ());
    for number in 1..=restores {
        restore(&crowd, number);
        crowd.compare(&format!("restore {number}"));
    }
    let expected = ["restored", "held", "never left", "left since"];
    crowd.end(if full() { &expected } else { &expected[..2] })
}

fn restore(crowd: &Crowd, number: usize) {
    let write = || {
        crowd.while_they_write(|| {
            let length = 100 + crowd.chance(WRITES_WITHIN_MS);
            std::thread::sleep(Duration::from_millis(length));
        });
    };
    write();
    crowd.shop.closed.store(true, Ordering::SeqCst);
    let accepted = crowd.manifest().accepted().len();
    crowd.while_they_write(|| {
        wait_until("replies that do not leave", PATIENCE, || {
            crowd.manifest().accepted().len() > accepted + 2
        });
    });
    let (backup, before) = (format!("backup-{number}"), crowd.manifest());
    let backup = crowd.daemon.dir.path().join(backup);
    command(crowd, &["backup", "--to", text(&backup)]);
    let unsent: Vec<String> = unsent(crowd);

    // It goes on: some of them leave, in the order of their conversations, and others are written.
    crowd.shop.closed.store(false, Ordering::SeqCst);
    crowd.while_they_write(|| {
        if crowd.chance(LEFT_EVERY) == 0 {
            wait_until("one of them to leave", PATIENCE, || {
                let texts = crowd.shop.texts();
                texts.iter().any(|(_, text)| unsent.contains(text))
            });
        }
        crowd
            .shop
            .closed
            .store(crowd.chance(2) == 0, Ordering::SeqCst);
    });
    write();
    crowd.daemon.kill_9();
    crowd.shop.closed.store(false, Ordering::SeqCst);
    let data = crowd.daemon.dir.path().join("data");
    fs::rename(&data, data.with_extension(format!("lost-{number}"))).expect("what is lost");
    command(crowd, &["restore", "--from", text(&backup)]);
    crowd.restore(&before);
    let deliveries = crowd.shop.deliveries();
    crowd.daemon.run();
    crowd.count("restored");

    // Behind what is held in the same channel's lane, and it leaves.
    let fresh = crowd.manifest().accepted().len();
    crowd.while_they_write(|| {
        wait_until("a new reply to leave", PATIENCE, || {
            crowd.manifest().accepted().len() > fresh && crowd.shop.deliveries() > deliveries
        });
    });
    settle(crowd, &unsent);
}

/// Every one of them is held, and nobody else; then somebody who asked the shop says of each what became of it.
fn settle(crowd: &Crowd, unsent: &[String]) {
    let manifest = crowd.manifest();
    let found = Found::settled(&crowd.daemon, &crowd.token, |found| {
        manifest.is_decided(found)
    });
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for (_, text) in crowd.shop.texts() {
        *times.entry(text).or_default() += 1;
    }
    for (_, reply) in found.replies() {
        let (id, said) = (&reply["id"], reply["text"].as_str().expect("a text"));
        let (id, delivery) = (id.as_str().expect("an id"), &reply["delivery"]);
        let is_unsent = unsent.iter().any(|text| text == said);
        if is_unsent != (delivery == "unknown") {
            let was = if is_unsent { "unsent" } else { "sent" };
            crowd.violated(format!(
                "{said:?} was {was} in the backup, and is {delivery}"
            ));
        }
        if delivery != "unknown" {
            continue;
        }
        crowd.count("held");
        let outcome = match times.contains_key(said) {
            true => ("sent", "left since"),
            false => ("retry", "never left"),
        };
        crowd.count(outcome.1);
        command(crowd, &["outbox", "settle", id, "--as", outcome.0]);
    }
    if unsent.is_empty() {
        crowd.violated("everything had left before the backup".to_owned());
    }
}

/// Replies that have not left, by their texts.
fn unsent(crowd: &Crowd) -> Vec<String> {
    let found = Found::now(&crowd.daemon, &crowd.token);
    let open = found
        .replies()
        .filter(|(_, reply)| reply["delivery"] != "sent");
    open.map(|(_, reply)| reply["text"].as_str().expect("a text").to_owned())
        .collect()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a name")
}

fn command(crowd: &Crowd, args: &[&str]) {
    let output = crowd.daemon.command(args);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {said}");
}
