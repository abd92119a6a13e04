//! Deterministic simulation: the real intake, bus, router, store and outbox under a made-up clock, with faults by chance: ends
//! of the process at any operation of the disk, with or without its power, redeliveries, lost answers, clocks that jump,
//! slow disks, providers that do as they like. After every step an auditor looks whether the promises of the design hold.
//! Then nothing fails any more, and everything must come to its end.
//!
//! The same seed is the same day, to the letter. `SWITCHBOARD_SIM_SEEDS=100..200` asks for other ones,
//! and `SWITCHBOARD_SIM_TELL=1` for everything that happened.

mod auditor;
mod chance;
mod day;
mod disk;
mod faults;
mod heal;
mod shop;
mod world;

use std::ops::Range;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use serde_json::{Value, json};
use switchboard::blobs::{hex, sha256};

use crate::daemon::preload;
use crate::support::ManualClock;
use day::Day;
use faults::{ESSENTIAL, Faults, OF_A_DISK, OF_ANYTHING};
use world::{Ground, World};

/// Tells the process that the disk is under it, and which seeds are its own.
const INSIDE: &str = "SWITCHBOARD_SIM_INSIDE";
/// Has whole days told, and not only the end of one that went wrong.
const TELL: &str = "SWITCHBOARD_SIM_TELL";
/// Steps of a day until everything is healed.
const STEPS: usize = 120;
/// Seeds of every run, on two cores some seconds.
const SEEDS: Range<u64> = 0..32;
/// Last actions of a day that went wrong.
const TOLD: usize = 20;
const CORES: usize = 2;

/// What a day came to.
struct Told {
    hash: String,
    looks: usize,
    faults: Faults,
}

/// The test that processes of their own are asked for.
const ON_A_DISK: &str = "whatever_fails_on_one_disk_every_promise_holds_at_every_step";

#[test]
fn whatever_fails_on_one_disk_every_promise_holds_at_every_step() {
    if let Some(seeds) = inside() {
        return on_a_disk(seeds, 1);
    }
    days(seeds());
}

/// Plays these days; where there are many, every fault has to happen.
pub fn days(seeds: Range<u64>) {
    let are_many = seeds.end - seeds.start >= SEEDS.end - SEEDS.start;
    let told = under_the_disk(ON_A_DISK, &seeds);
    let expected = are_many.then(|| OF_A_DISK.iter().chain(&OF_ANYTHING));
    check(&told, expected.into_iter().flatten());
}

#[test]
fn the_same_seed_is_the_same_day() {
    if let Some(seeds) = inside() {
        return on_a_disk(seeds, 2);
    }
    let told = under_the_disk("the_same_seed_is_the_same_day", &(1_000..1_006));
    let mut hashes: Vec<(u64, String)> = told
        .iter()
        .map(|line| (line["seed"].as_u64().unwrap(), line["hash"].to_string()))
        .collect();
    hashes.sort();
    let twice: Vec<_> = hashes.chunks(2).collect();
    assert_eq!(twice.len(), 6, "every seed was played twice");
    for pair in twice {
        assert_eq!(
            pair[0], pair[1],
            "a day is not the same when it is played again"
        );
    }
    hashes.dedup();
    let distinct: std::collections::BTreeSet<_> = hashes.iter().map(|(_, hash)| hash).collect();
    assert_eq!(distinct.len(), 6, "other seeds are other days");
}

/// The store on a real server, which processes leave at any moment.
#[cfg(feature = "postgres")]
#[test]
fn whatever_fails_on_postgresql_every_promise_holds_at_every_step() {
    use crate::support::Postgres;
    if Postgres::available() {
        on_servers(2_000..2_008, STEPS, || Box::new(Postgres::new()));
    }
}

/// The same, with the bus on a real broker: to join it takes a second, so there is less of it.
#[cfg(all(feature = "kafka", feature = "postgres"))]
#[test]
fn whatever_fails_on_kafka_and_postgresql_every_promise_holds_at_every_step() {
    use crate::support::kafka::OnBoth;
    if crate::peers::enabled() {
        on_servers(3_000..3_002, STEPS / 2, || Box::new(OnBoth::new()));
    }
}

/// Plays days on servers that do not fail; what fails there is the process, and what is around it.
#[cfg(feature = "postgres")]
fn on_servers(
    seeds: Range<u64>,
    steps: usize,
    make: impl Fn() -> Box<dyn crate::support::Backend>,
) {
    let mut all = Vec::new();
    for seed in seeds {
        let ground = Ground::Server {
            backend: make(),
            blobs: tempfile::tempdir().unwrap(),
        };
        all.push(line(seed, &play(ground, seed, steps)));
    }
    check(&all, ESSENTIAL.iter());
}

fn seeds() -> Range<u64> {
    let asked = std::env::var("SWITCHBOARD_SIM_SEEDS").ok();
    let asked = asked
        .as_deref()
        .map(|asked| range(asked).expect("SWITCHBOARD_SIM_SEEDS is like 100..200"));
    asked.unwrap_or(SEEDS)
}

fn range(text: &str) -> Option<Range<u64>> {
    let (from, to) = text.split_once("..")?;
    Some(from.parse().ok()?..to.parse().ok()?)
}

fn inside() -> Option<Range<u64>> {
    range(&std::env::var(INSIDE).ok()?)
}

/// Plays the days, in this process, over the disk that was loaded into it.
fn on_a_disk(seeds: Range<u64>, times: usize) {
    for seed in seeds {
        for _ in 0..times {
            let memory = Path::new("/dev/shm");
            let dir = match memory.is_dir() {
                true => tempfile::tempdir_in(memory),
                false => tempfile::tempdir(),
            };
            let told = play(Ground::Disk(dir.unwrap()), seed, STEPS);
            println!("\nday {}", line(seed, &told));
        }
    }
}

fn line(seed: u64, told: &Told) -> Value {
    let faults: serde_json::Map<String, Value> = OF_A_DISK
        .iter()
        .chain(&OF_ANYTHING)
        .map(|what| ((*what).to_owned(), told.faults.times(what).into()))
        .collect();
    json!({ "seed": seed, "hash": told.hash, "looks": told.looks, "faults": faults })
}

/// Plays one day to its end; a broken promise ends it with what happened last.
fn play(ground: Ground, seed: u64, steps: usize) -> Told {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let world = World::open(ground, Arc::new(ManualClock::new()), seed).await;
        let mut day = Day::new(world, seed);
        let mut went = Ok(());
        for _ in 0..steps {
            went = day.step().await;
            if went.is_err() {
                break;
            }
        }
        if went.is_ok() {
            day.note("nothing fails any more".to_owned());
            went = day.heal().await;
        }
        if let Err(broken) = went {
            let last = day.trace.len().saturating_sub(TOLD);
            panic!(
                "seed {seed}: {broken}\nafter\n{}",
                day.trace[last..].join("\n")
            );
        }
        if std::env::var_os(TELL).is_some() {
            println!("{}", day.trace.join("\n"));
        }
        Told {
            hash: hex(&sha256(day.trace.join("\n").as_bytes())),
            looks: day.auditor.looks,
            faults: day.faults,
        }
    })
}

/// Runs the very test in processes of their own with the disk under them, and gives what their days came to.
fn under_the_disk(test: &str, seeds: &Range<u64>) -> Vec<Value> {
    let dir = tempfile::tempdir().unwrap();
    let library = preload::library(dir.path(), disk::SOURCE);
    let (_, module) = module_path!().split_once("::").unwrap();
    let share = (seeds.end - seeds.start).div_ceil(CORES as u64).max(1);
    let processes: Vec<_> = seeds
        .clone()
        .step_by(share as usize)
        .map(|from| {
            let mine = format!("{from}..{}", (from + share).min(seeds.end));
            let mut process = Command::new(std::env::current_exe().unwrap());
            process
                .args([&format!("{module}::{test}"), "--exact", "--nocapture"])
                .env(INSIDE, mine)
                .env("LD_PRELOAD", &library)
                .stdout(Stdio::piped())
                .stderr(Stdio::piped());
            process.spawn().unwrap()
        })
        .collect();
    let mut days = Vec::new();
    for process in processes {
        let ended = process.wait_with_output().unwrap();
        let (said, why) = (
            String::from_utf8_lossy(&ended.stdout),
            String::from_utf8_lossy(&ended.stderr),
        );
        assert!(ended.status.success(), "{}\n{why}", ended.status);
        let lines = said.lines().filter_map(|line| line.strip_prefix("day "));
        days.extend(lines.map(|line| serde_json::from_str::<Value>(line).unwrap()));
    }
    days
}

/// Every fault happened.
fn check<'a>(days: &[Value], expected: impl Iterator<Item = &'a &'static str>) {
    let mut all = Vec::new();
    for what in expected {
        let times: u64 = days
            .iter()
            .filter_map(|day| day["faults"][what].as_u64())
            .sum();
        all.push((times, *what));
    }
    println!("{} days: {all:?}", days.len());
    let never: Vec<_> = all.iter().filter(|(times, _)| *times == 0).collect();
    assert!(never.is_empty(), "these faults never happened: {never:?}");
}
