//! Dedupe keys. Pushed events: one table for three days of arrivals, dropped whole when nothing is
//! looked up in it any more; a key costs one search in each that is live. Sources that can show an
//! item again for ever: one table that is never dropped.

use rusqlite::{Connection, params};

use crate::ids::MessageId;
use crate::router::effects::NewSeen;
use crate::router::facts::{Key16, Seen};

use super::writer::Memory;

/// What one generation covers: three days.
const GENERATION_MICROS: i64 = 3 * 24 * 60 * 60 * 1_000_000;
/// Generations a pushed event is remembered for: nine days and the one that is being written.
/// Providers retry for up to seven (Meta).
const LIVE: i64 = 4;
/// Generations, of 90 days, in which an edit, a deletion or an answer finds the message it names.
/// Those that are not live are looked into for these only, which are few.
const NAMED: i64 = 30;

/// All generations that are kept, oldest first.
pub fn generations(conn: &Connection) -> rusqlite::Result<Vec<i64>> {
    let mut statement = conn.prepare(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name GLOB 'seen_[0-9]*' ORDER BY name",
    )?;
    let names = statement.query_map([], |row| row.get::<_, String>(0))?;
    let mut generations = Vec::new();
    for name in names {
        generations.extend(
            name?
                .strip_prefix("seen_")
                .and_then(|number| number.parse::<i64>().ok()),
        );
    }
    generations.sort_unstable();
    Ok(generations)
}

/// Everything filed under `key` within the horizon of redeliveries.
pub fn find(conn: &Connection, memory: &Memory, key: &Key16) -> rusqlite::Result<Vec<Seen>> {
    find_within(conn, memory, key, LIVE)
}

/// Everything filed under `key` that can still be named.
pub fn find_named(conn: &Connection, memory: &Memory, key: &Key16) -> rusqlite::Result<Vec<Seen>> {
    find_within(conn, memory, key, NAMED)
}

fn find_within(
    conn: &Connection,
    memory: &Memory,
    key: &Key16,
    back: i64,
) -> rusqlite::Result<Vec<Seen>> {
    let mut found = Vec::new();
    let newest = memory.generations.last().copied().unwrap_or(0);
    let kept = memory.generations.iter().rev();
    for generation in kept.take_while(|generation| **generation > newest - back) {
        probe(
            conn,
            &format!("SELECT digest, message FROM seen_{generation} WHERE key = ?1"),
            key,
            &mut found,
        )?;
    }
    probe(
        conn,
        "SELECT digest, message FROM seen_lasting WHERE key = ?1",
        key,
        &mut found,
    )?;
    // The rows are in the order of digests, which is chance; the first one is what was said first.
    found.sort_by_key(|seen| seen.message);
    Ok(found)
}

fn probe(conn: &Connection, sql: &str, key: &Key16, found: &mut Vec<Seen>) -> rusqlite::Result<()> {
    let mut statement = conn.prepare_cached(sql)?;
    let rows = statement.query_map([key.as_slice()], |row| {
        Ok(Seen {
            digest: row.get::<_, i64>(0)? as u64,
            message: MessageId(row.get(1)?),
        })
    })?;
    for row in rows {
        found.push(row?);
    }
    Ok(())
}

/// Remembers what a batch filed at `now`.
pub fn insert(
    conn: &Connection,
    memory: &mut Memory,
    seen: &[NewSeen],
    now: i64,
) -> rusqlite::Result<()> {
    if seen.is_empty() {
        return Ok(());
    }
    let generation = generation(conn, memory, now)?;
    let pushed = format!(
        "INSERT OR IGNORE INTO seen_{generation} (key, digest, message) VALUES (?1, ?2, ?3)"
    );
    for new in seen {
        let sql = if new.lasting {
            "INSERT OR IGNORE INTO seen_lasting (key, digest, message) VALUES (?1, ?2, ?3)"
        } else {
            pushed.as_str()
        };
        conn.prepare_cached(sql)?.execute(params![
            new.key.as_slice(),
            new.digest as i64,
            new.message.0
        ])?;
    }
    Ok(())
}

/// The generation of `now`: made when it begins, when also those that nothing is looked up in any
/// more go. Time that steps back writes into the newest one.
fn generation(conn: &Connection, memory: &mut Memory, now: i64) -> rusqlite::Result<i64> {
    let current = now.div_euclid(GENERATION_MICROS);
    if let Some(newest) = memory.generations.last().copied()
        && newest >= current
    {
        return Ok(newest);
    }
    conn.execute_batch(&format!(
        "CREATE TABLE seen_{current} (key BLOB NOT NULL, digest INTEGER NOT NULL, message INTEGER NOT NULL,
         PRIMARY KEY (key, digest)) WITHOUT ROWID"
    ))?;
    memory.generations.push(current);
    let expired = memory
        .generations
        .iter()
        .position(|kept| *kept > current - NAMED)
        .unwrap_or(0);
    for old in memory.generations.drain(..expired) {
        conn.execute_batch(&format!("DROP TABLE seen_{old}"))?;
    }
    Ok(current)
}
