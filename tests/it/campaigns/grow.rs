//! A topic that goes to more partitions under load: the command is killed after each of its steps and run again, and one
//! process sleeps from before the topic is sealed until after it is left.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::traffic::{Sent, Traffic};
use super::{Campaign, full, size};
use crate::daemon::cluster::{ALL, Cluster, PARTITIONS};
use crate::daemon::process::{Installation, binary, chat_config};
use crate::daemon::shop::Shop;
use crate::peers;

/// Lines of the command after which it is killed, one run after the other; then it is left alone.
const KILLED_AFTER: [usize; 7] = [1, 2, 1, 2, 3, 1, 2];
const AGAIN_AFTER: Duration = Duration::from_millis(50);
/// The number of the customer who knows the sleeper only, behind all others.
const LOYAL: usize = 1_000_000;

#[test]
fn a_topic_that_grows_under_load_loses_doubles_and_disorders_nothing() {
    if !peers::enabled() {
        return;
    }
    let (rounds, messages) = size((1, 1_200), (5, 30_000));
    let shop = Shop::open();
    let cluster = Cluster::new(chat_config(&shop.url));
    let processes: Vec<_> = (0..2).map(|_| cluster.start(ALL)).collect();
    let sleeper = cluster.start(ALL);
    let campaign = Campaign {
        name: "grow",
        seed: 4_005,
        messages,
        rate: if full() { 100 } else { 30 },
        gap_max: None,
    };
    campaign.run(&cluster, &processes, |sent| {
        let mut loyal = Loyal {
            sleeper: &sleeper,
            sent,
            said: 0,
        };
        let mut kills = 0;
        for round in 1..=rounds {
            loyal.says(10);
            sleeper.signal("STOP");
            std::thread::scope(|scope| {
                // It is answered once the sleeper is awake.
                scope.spawn(|| loyal.says(1));
                kills += grow(&processes[0], PARTITIONS << round);
                sleeper.signal("CONT");
            });
            loyal.says(10);
        }
        kills
    });
}

/// Who writes to the sleeper alone.
struct Loyal<'a> {
    sleeper: &'a Installation,
    sent: &'a Sent,
    said: usize,
}

impl Loyal<'_> {
    fn says(&mut self, count: usize) {
        for _ in 0..count {
            let said = Traffic::said(LOYAL, self.said);
            let taken = || {
                let answer = self.sleeper.hook("shop-chat", &said);
                answer.is_ok_and(|answer| answer.status().is_success())
            };
            while !taken() {
                std::thread::sleep(AGAIN_AFTER);
            }
            self.said += 1;
            self.sent.acknowledged.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Returns once the topic has so many partitions and the one before is left; how often the command was killed.
fn grow(process: &Installation, partitions: u32) -> usize {
    let partitions = partitions.to_string();
    let line = ["bus", "grow", "--partitions", &partitions];
    for killed_after in KILLED_AFTER {
        let mut command = process.command_line(Path::new(binary()), &line);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let told = BufReader::new(child.stdout.take().unwrap());
        told.lines()
            .take(killed_after)
            .for_each(|line| drop(line.unwrap()));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let ended = process.command(&line);
    let told = String::from_utf8_lossy(&ended.stdout).into_owned();
    let wrong = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(ended.status.success(), "{told}{wrong}");
    let done = format!("has {partitions} partitions, and no change is under way");
    assert!(told.trim_end().ends_with(&done), "{told}");
    let status = process.command(&["bus", "grow", "--status"]);
    let status = String::from_utf8(status.stdout).unwrap();
    let open = format!("\"partitions\":{partitions},\"stage\":\"open\"");
    assert_eq!(status.matches(&open).count(), 1, "{status}");
    KILLED_AFTER.len()
}
