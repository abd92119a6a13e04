//! What a run found, for people and as JSON, and which gates it missed.

use std::fmt::Write as _;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::floor::Floor;
use crate::trial::{Count, Outcome};
use crate::usage::Usage;

const MEGABYTE: f64 = 1_000_000.0;

pub struct Report {
    /// Requests a second that were intended; 0 for as many as possible.
    pub rate: u64,
    /// Messages and open conversations that were there before.
    pub preloaded: (u64, u64),
    pub preload: Option<Duration>,
    /// From the end of the preload until search knew it.
    pub indexed: Duration,
    pub ready_empty: Duration,
    pub ready_full: Duration,
    pub stopped: Duration,
    pub idle_empty: Usage,
    pub idle_full: Usage,
    pub loaded: Usage,
    pub outcome: Outcome,
    pub floor: Option<Floor>,
}

impl Report {
    /// A report of a run alone, without a process that was watched.
    pub fn of(
        outcome: Outcome,
        rate: u64,
        preloaded: (u64, u64),
        preload: Option<Duration>,
    ) -> Report {
        Report {
            rate,
            preloaded,
            preload,
            indexed: Duration::ZERO,
            ready_empty: Duration::ZERO,
            ready_full: Duration::ZERO,
            stopped: Duration::ZERO,
            idle_empty: Usage::default(),
            idle_full: Usage::default(),
            loaded: Usage::default(),
            outcome,
            floor: None,
        }
    }

    /// Tells whether the daemon has what the driver knows it acknowledged, and every probe was claimed.
    pub fn counts_agree(&self) -> bool {
        let outcome = &self.outcome;
        outcome.messages.agrees()
            && outcome.duplicates.agrees()
            && outcome.conversations.agrees()
            && outcome.tally.refused == 0
            && outcome.probes.claimed == outcome.probes.sent
    }

    /// Names the gates that apply to this run and were missed.
    pub fn gates_missed(&self) -> Vec<String> {
        let mut missed = Vec::new();
        let mut gate = |holds: bool, what: String| {
            if !holds {
                missed.push(what);
            }
        };
        let filed = self.filed_per_second();
        if self.rate == 0 || self.rate >= 5_000 {
            gate(
                filed >= 4_900.0,
                format!("filed and queued: {filed:.0}/s, wanted 5,000/s"),
            );
        } else {
            let wanted = self.rate as f64 * 0.98;
            gate(
                filed >= wanted,
                format!("filed and queued: {filed:.0}/s, wanted {}/s", self.rate),
            );
        }
        if self.rate == 1_000 {
            let accept = milliseconds(&self.outcome.tally.latency, 0.99);
            gate(
                accept <= 50.0,
                format!("accept p99: {accept:.1} ms, wanted 50 ms"),
            );
            let claimable = milliseconds(&self.outcome.probes.since_accepted, 0.99);
            gate(
                claimable <= 100.0,
                format!("claimable p99: {claimable:.1} ms, wanted 100 ms"),
            );
        }
        let idle = self.idle_empty.rss_bytes.max(self.idle_full.rss_bytes) as f64 / MEGABYTE;
        gate(
            idle <= 40.0,
            format!("idle RSS: {idle:.1} MB, wanted 40 MB"),
        );
        let ready = self.ready_empty.max(self.ready_full).as_secs_f64() * 1000.0;
        gate(
            ready <= 200.0,
            format!("ready: {ready:.0} ms, wanted 200 ms"),
        );
        missed
    }

    pub fn json(&self) -> Value {
        let outcome = &self.outcome;
        let tally = &outcome.tally;
        json!({
            "rate": self.rate,
            "preloaded": {"messages": self.preloaded.0, "conversations": self.preloaded.1,
                "seconds": self.preload.map(|time| time.as_secs_f64()),
                "indexed_seconds": self.indexed.as_secs_f64()},
            "sent": tally.sent, "accepted": tally.accepted, "overloaded": tally.overloaded,
            "refused": tally.refused, "unknown": tally.unknown, "example": tally.example,
            "accepted_per_second": self.accepted_per_second(),
            "filed_per_second": self.filed_per_second(),
            "accept_ms": latencies(&tally.latency),
            "late_ms": latencies(&tally.lateness),
            "claimable_ms": latencies(&outcome.probes.since_accepted),
            "claimable_since_intended_ms": latencies(&outcome.probes.since_intended),
            "probes": {"sent": outcome.probes.sent, "claimed": outcome.probes.claimed, "trouble": outcome.probes.trouble},
            "filed": count(outcome.messages), "duplicates": count(outcome.duplicates),
            "queued": count(outcome.conversations), "counts_agree": self.counts_agree(),
            "wal_bytes_per_message": self.per_message(outcome.wal_bytes),
            "disk_bytes_per_message": self.per_message(Some(outcome.disk_bytes as f64)),
            "cpu_seconds_per_million": {"daemon": self.cpu_per_million(outcome.daemon), "driver": self.cpu_per_million(outcome.driver)},
            "rss_mb": {"idle_empty": megabytes(self.idle_empty.rss_bytes), "idle_full": megabytes(self.idle_full.rss_bytes),
                "loaded": megabytes(self.loaded.rss_bytes), "loaded_max": megabytes(self.loaded.rss_max_bytes)},
            "ready_ms": {"empty": self.ready_empty.as_secs_f64() * 1000.0, "full": self.ready_full.as_secs_f64() * 1000.0},
            "stop_ms": self.stopped.as_secs_f64() * 1000.0,
            "floor": self.floor.as_ref().map(|floor| json!({"rows_per_second": floor.rows_per_second,
                "commit_ms": latencies(&floor.commit), "ratio": self.ratio(floor)})),
            "gates_missed": self.gates_missed(),
        })
    }

    pub fn table(&self) -> String {
        let outcome = &self.outcome;
        let tally = &outcome.tally;
        let mut table = String::new();
        let mut line = |name: &str, value: String| {
            // Writing to a string cannot fail.
            writeln!(table, "{name:<28}{value}").ok();
        };
        let (messages, conversations) = self.preloaded;
        let preload = self
            .preload
            .map(|time| format!(", put in at {:.0}/s", messages as f64 / time.as_secs_f64()));
        line(
            "store before",
            format!(
                "{messages} messages, {conversations} open conversations{}; search knew them {:.0} s later",
                preload.unwrap_or_default(),
                self.indexed.as_secs_f64()
            ),
        );
        let rate = if self.rate == 0 {
            "as fast as possible".to_owned()
        } else {
            format!("{}/s intended", self.rate)
        };
        line(
            "load",
            format!(
                "{rate}, {} requests in {:.1} s",
                tally.sent,
                tally.elapsed.as_secs_f64()
            ),
        );
        line(
            "accepted",
            format!("{:.0}/s ({})", self.accepted_per_second(), tally.accepted),
        );
        line(
            "filed and queued",
            format!("{:.0}/s", self.filed_per_second()),
        );
        line("accept", shown(&tally.latency));
        line("left late", shown(&tally.lateness));
        line(
            "claimable after accept",
            shown(&outcome.probes.since_accepted),
        );
        line(
            "claimable after sending",
            shown(&outcome.probes.since_intended),
        );
        line(
            "not accepted",
            format!(
                "{} overloaded, {} refused, {} unknown",
                tally.overloaded, tally.refused, tally.unknown
            ),
        );
        if let Some(example) = &tally.example {
            line("  such as", example.clone());
        }
        line("filed", checked(outcome.messages));
        line("duplicates", checked(outcome.duplicates));
        line("conversations queued", checked(outcome.conversations));
        line(
            "probes claimed",
            format!("{} of {}", outcome.probes.claimed, outcome.probes.sent),
        );
        if let Some(trouble) = &outcome.probes.trouble {
            line("  trouble", trouble.clone());
        }
        let bytes = |bytes: Option<f64>| {
            self.per_message(bytes)
                .map_or("not told".to_owned(), |bytes| {
                    format!("{bytes:.0} B a message")
                })
        };
        line("WAL", bytes(outcome.wal_bytes));
        line(
            "disk, checkpoints included",
            bytes(Some(outcome.disk_bytes as f64)),
        );
        line(
            "CPU per million",
            format!(
                "{:.0} s daemon, {:.0} s driver",
                self.cpu_per_million(outcome.daemon),
                self.cpu_per_million(outcome.driver)
            ),
        );
        line(
            "RSS",
            format!(
                "{:.1} MB idle, {:.1} MB idle on the full store, {:.1} MB after the load, {:.1} MB at most",
                megabytes(self.idle_empty.rss_bytes),
                megabytes(self.idle_full.rss_bytes),
                megabytes(self.loaded.rss_bytes),
                megabytes(self.loaded.rss_max_bytes),
            ),
        );
        line(
            "ready",
            format!(
                "{:?} empty, {:?} on the full store; stops in {:?}",
                self.ready_empty, self.ready_full, self.stopped
            ),
        );
        if let Some(floor) = &self.floor {
            line(
                "floor",
                format!(
                    "{:.0} rows/s, commit {}",
                    floor.rows_per_second,
                    shown(&floor.commit)
                ),
            );
            line("accepted / floor", format!("{:.2}", self.ratio(floor)));
        }
        line(
            "counts agree",
            if self.counts_agree() { "yes" } else { "NO" }.to_owned(),
        );
        let missed = self.gates_missed();
        line(
            "gates missed",
            if missed.is_empty() {
                "none".to_owned()
            } else {
                missed.join("; ")
            },
        );
        table
    }

    fn accepted_per_second(&self) -> f64 {
        self.outcome.tally.accepted as f64 / self.outcome.tally.elapsed.as_secs_f64()
    }

    /// Counts every accepted request, redeliveries too, since each has to be recognised; until the last is queued.
    fn filed_per_second(&self) -> f64 {
        self.outcome.tally.accepted as f64 / self.outcome.until_filed.as_secs_f64()
    }

    fn ratio(&self, floor: &Floor) -> f64 {
        self.accepted_per_second() / floor.rows_per_second
    }

    fn per_message(&self, total: Option<f64>) -> Option<f64> {
        total.map(|total| total / self.outcome.tally.messages().max(1) as f64)
    }

    fn cpu_per_million(&self, usage: Usage) -> f64 {
        usage.cpu_seconds * 1e6 / self.outcome.tally.accepted.max(1) as f64
    }
}

fn milliseconds(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    histogram.value_at_quantile(quantile) as f64 / 1000.0
}

fn latencies(histogram: &Histogram<u64>) -> Value {
    json!({
        "p50": milliseconds(histogram, 0.5), "p99": milliseconds(histogram, 0.99),
        "p99.9": milliseconds(histogram, 0.999), "max": histogram.max() as f64 / 1000.0,
    })
}

fn shown(histogram: &Histogram<u64>) -> String {
    format!(
        "p50 {:.1} ms, p99 {:.1} ms, p99.9 {:.1} ms, max {:.1} ms",
        milliseconds(histogram, 0.5),
        milliseconds(histogram, 0.99),
        milliseconds(histogram, 0.999),
        histogram.max() as f64 / 1000.0,
    )
}

fn count(count: Count) -> Value {
    json!({"wanted": count.wanted, "found": count.found, "agrees": count.agrees()})
}

fn checked(count: Count) -> String {
    let verdict = if count.agrees() { "" } else { ", WRONG" };
    match count.found {
        Some(found) => format!("{found} of {}{verdict}", count.wanted),
        None => format!("{} wanted; the daemon does not tell", count.wanted),
    }
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / MEGABYTE
}
