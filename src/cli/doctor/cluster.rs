//! The processes that share a database: who there is, who does what, and what nobody does.

use std::collections::BTreeSet;

use connector_api::Clock as _;

use crate::clock::{SystemClock, micros};
use crate::config::{Config, Part, StoreKind};
use crate::daemon::processes::{GONE_AFTER_MICROS, KEPT_MICROS, Said, skewed};
use crate::daemon::shared;
use crate::health::State;
use crate::store::leases::Lease;
use crate::store::postgres::look::{Look, look as look_at};
use crate::store::processes::Process;
use crate::store::rows::migrations::Found;

use super::{Finding, of_version};

/// What is lacking while no process runs a part.
const PARTS: [(Part, &str); 5] = [
    (
        Part::Inbound,
        "webhooks are not taken and mailboxes not read",
    ),
    (Part::Router, "what was accepted is not decided"),
    (
        Part::Dispatch,
        "nothing wakes, nothing is forgotten and nobody is alerted",
    ),
    (Part::Api, "helpdesks are not answered"),
    (Part::Outbound, "nothing is sent"),
];

pub async fn look(config: &Config) -> Vec<Finding> {
    if config.store.kind != StoreKind::Postgres {
        return Vec::new();
    }
    let database = match shared::database(config) {
        Ok(database) => database,
        Err(error) => {
            let hint = "mend it, or run this where it can be read";
            return vec![Finding::fail("database", error.to_string(), hint)];
        }
    };
    let before = micros(SystemClock.now());
    match look_at(database, KEPT_MICROS).await {
        Ok(look) => found(&look, before, micros(SystemClock.now())),
        Err(error) => vec![Finding::fail(
            "database",
            error.to_string(),
            "look whether it is up and reached from here, and at store.url, store.password and store.tls",
        )],
    }
}

fn found(look: &Look, before: i64, after: i64) -> Vec<Finding> {
    let mut findings = vec![schema(look.schema)];
    findings.push(match skewed(before, look.clock, after) {
        None => Finding::ok("database clock", "it agrees with this host's"),
        Some(detail) => Finding::fail(
            "database clock",
            detail,
            "set the clocks, then look again on every host",
        ),
    });
    if !look.schema.is_some_and(Found::can_be_used) {
        return findings;
    }
    let mut runs: BTreeSet<String> = BTreeSet::new();
    let mut there: Vec<Said> = Vec::new();
    for process in &look.processes {
        let Ok(said) = serde_json::from_str::<Said>(&process.said) else {
            findings.push(Finding::warn(
                "process",
                format!("{} says nothing that this version knows", process.instance),
                "run the doctor of its version",
            ));
            continue;
        };
        let silent = look.clock - process.seen_at;
        if silent <= GONE_AFTER_MICROS {
            runs.extend(said.parts.iter().cloned());
        }
        findings.push(one(process, &said, silent, look));
        if silent <= GONE_AFTER_MICROS {
            there.push(said);
        }
    }
    findings.extend(differing(&there));
    for (part, lacking) in PARTS {
        if !runs.contains(part.as_str()) {
            findings.push(Finding::fail(
                "part",
                format!("no process runs {}: {lacking}", part.as_str()),
                format!("start one whose run.parts has {:?}", part.as_str()),
            ));
        }
    }
    findings
}

/// Processes that lack what others have. One of an earlier version says nothing of what it has.
fn differing(there: &[Said]) -> Vec<Finding> {
    let has = |said: &Said| -> BTreeSet<String> {
        let channels = said.channels.iter().map(|id| format!("channel {id}"));
        let queues = said.queues.iter().map(|id| format!("queue {id}"));
        channels.chain(queues).collect()
    };
    let saying = there.iter().filter(|said| !said.queues.is_empty());
    let all: Vec<(&Said, BTreeSet<String>)> = saying.map(|said| (said, has(said))).collect();
    let any: BTreeSet<&String> = all.iter().flat_map(|(_, has)| has).collect();
    let lacking = all.iter().filter_map(|(said, has)| {
        let lacks: Vec<&str> = (any.iter().filter(|one| !has.contains(**one)))
            .map(|one| one.as_str())
            .collect();
        (!lacks.is_empty()).then(|| {
            Finding::warn(
                "config",
                format!(
                    "{} does not have {}, which others have",
                    said.name(),
                    lacks.join(", ")
                ),
                "give every process the same configuration, and reload each",
            )
        })
    });
    lacking.collect()
}

fn schema(found: Option<Found>) -> Finding {
    match found {
        Some(found) => of_version("database", found),
        None => Finding::warn(
            "database",
            "it has no tables yet",
            "the first process that starts makes them",
        ),
    }
}

/// One process: where it is, what it runs, and what only it does now.
fn one(process: &Process, said: &Said, silent: i64, look: &Look) -> Finding {
    let holds = |lease: &&Lease| lease.holder == process.instance && lease.until > look.clock;
    let held: Vec<&str> = (look.leases.iter().filter(holds))
        .map(|lease| lease.name.as_str())
        .collect();
    let held = match held.is_empty() {
        true => "holds no lease".to_owned(),
        false => format!("holds {}", held.join(", ")),
    };
    let (host, pid, version, parts) = (&said.host, said.pid, &said.version, said.parts.join(", "));
    let listens = said
        .listen
        .map_or_else(String::new, |at| format!(" at {at}"));
    let decides = match said.partitions {
        0 => String::new(),
        count => format!("; decides {count} partitions"),
    };
    let detail =
        format!("{host} process {pid}{listens} of version {version} runs {parts}{decides}; {held}");
    if silent > GONE_AFTER_MICROS {
        let detail = format!("{detail}; it said nothing for {} s", silent / 1_000_000);
        let hint = "it died, hangs or cannot reach the database: look at its host and its log; others take over";
        return Finding::warn("process", detail, hint);
    }
    let unwell = |(name, state): (&String, &State)| {
        let reason = state.reason()?;
        Some(format!("{name} is {}: {reason}", state.as_str()))
    };
    let unwell: Vec<String> = said.seen.states.iter().filter_map(unwell).collect();
    match unwell.is_empty() {
        true => Finding::ok("process", detail),
        false => Finding::warn(
            "process",
            format!("{detail}; {}", unwell.join("; ")),
            "its log says since when",
        ),
    }
}
