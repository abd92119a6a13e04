//! The floor: the same payloads, one row each, group-committed to SQLite as durably as the daemon must. Nothing that
//! keeps the promise of durability on one file can be faster, so it says what the disk leaves to be had.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use rusqlite::Connection;
use tokio::time::Instant;

use crate::payload::Payloads;

/// As the daemon's own group commit at most.
const ROWS_PER_COMMIT: u64 = 1000;

pub struct Floor {
    pub rows_per_second: f64,
    pub commit: Histogram<u64>,
}

/// Inserts messages until `rows_max` or `time_max`, whichever comes first.
pub fn measure(
    directory: &Path,
    payloads: &Payloads,
    rows_max: u64,
    time_max: Duration,
) -> Result<Floor> {
    let file = directory.join("floor.sqlite");
    let mut database =
        Connection::open(&file).with_context(|| format!("cannot open {}", file.display()))?;
    database.pragma_update(None, "journal_mode", "WAL")?;
    database.pragma_update(None, "synchronous", "FULL")?;
    database.execute_batch("CREATE TABLE message (id INTEGER PRIMARY KEY, body BLOB NOT NULL)")?;
    let mut commit = Histogram::new_with_bounds(1, 60_000_000, 3)?;
    let mut rows = 0;
    let mut body = Vec::new();
    let started = Instant::now();
    while rows < rows_max && started.elapsed() < time_max {
        let transaction = database.transaction()?;
        let mut insert = transaction.prepare_cached("INSERT INTO message (body) VALUES (?1)")?;
        for n in rows..(rows + ROWS_PER_COMMIT).min(rows_max) {
            body.clear();
            payloads.write_event(n, &mut body);
            insert.execute([&body])?;
        }
        drop(insert);
        let asked = Instant::now();
        transaction.commit()?;
        commit.saturating_record(u64::try_from(asked.elapsed().as_micros()).unwrap_or(u64::MAX));
        rows = (rows + ROWS_PER_COMMIT).min(rows_max);
    }
    let rows_per_second = rows as f64 / started.elapsed().as_secs_f64();
    drop(database);
    for name in ["floor.sqlite", "floor.sqlite-wal", "floor.sqlite-shm"] {
        std::fs::remove_file(directory.join(name)).ok();
    }
    Ok(Floor {
        rows_per_second,
        commit,
    })
}
