//! Dedupe keys. Pushed events: one table a day by arrival, dropped whole after the horizon, all
//! live ones probed. Sources that can show an item again for ever: one table that is never dropped.

use rusqlite::{Connection, params};

use crate::ids::MessageId;
use crate::router::effects::NewSeen;
use crate::router::facts::{Key16, Seen};

use super::writer::Memory;

const DAY_MICROS: i64 = 24 * 60 * 60 * 1_000_000;
/// Days a pushed event is remembered: providers retry for up to seven (Meta), and a whole day of
/// margin for the generation that is being written.
pub const HORIZON_DAYS: i64 = 9;
/// Days for which an edit, a deletion or an answer finds the message it names. Generations past
/// the horizon are only looked into for these, which are few.
pub const NAMED_DAYS: i64 = 90;

/// The live generations, oldest first.
pub fn generations(conn: &Connection) -> rusqlite::Result<Vec<i64>> {
    let mut statement = conn.prepare(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name GLOB 'seen_[0-9]*' ORDER BY name",
    )?;
    let names = statement.query_map([], |row| row.get::<_, String>(0))?;
    let mut days = Vec::new();
    for name in names {
        days.extend(
            name?
                .strip_prefix("seen_")
                .and_then(|day| day.parse::<i64>().ok()),
        );
    }
    days.sort_unstable();
    Ok(days)
}

/// Everything filed under `key` within the horizon of redeliveries.
pub fn find(conn: &Connection, memory: &Memory, key: &Key16) -> rusqlite::Result<Vec<Seen>> {
    find_within(conn, memory, key, HORIZON_DAYS)
}

/// Everything filed under `key` that can still be named.
pub fn find_named(conn: &Connection, memory: &Memory, key: &Key16) -> rusqlite::Result<Vec<Seen>> {
    find_within(conn, memory, key, NAMED_DAYS)
}

fn find_within(
    conn: &Connection,
    memory: &Memory,
    key: &Key16,
    days: i64,
) -> rusqlite::Result<Vec<Seen>> {
    let mut found = Vec::new();
    let newest = memory.generations.last().copied().unwrap_or(0);
    let live = memory.generations.iter().rev();
    for day in live.take_while(|day| **day > newest - days) {
        probe(
            conn,
            &format!("SELECT digest, message FROM seen_{day} WHERE key = ?1"),
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
    let day = generation(conn, memory, now)?;
    let pushed =
        format!("INSERT OR IGNORE INTO seen_{day} (key, digest, message) VALUES (?1, ?2, ?3)");
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

/// The generation of `now`: made when its day begins, when also those that nothing is looked up in any more go. Time
/// that steps back writes into the newest one.
fn generation(conn: &Connection, memory: &mut Memory, now: i64) -> rusqlite::Result<i64> {
    let day = now.div_euclid(DAY_MICROS);
    if let Some(newest) = memory.generations.last().copied()
        && newest >= day
    {
        return Ok(newest);
    }
    conn.execute_batch(&format!(
        "CREATE TABLE seen_{day} (key BLOB NOT NULL, digest INTEGER NOT NULL, message INTEGER NOT NULL,
         PRIMARY KEY (key, digest)) WITHOUT ROWID"
    ))?;
    memory.generations.push(day);
    let expired = memory
        .generations
        .iter()
        .position(|live| *live > day - NAMED_DAYS)
        .unwrap_or(0);
    for old in memory.generations.drain(..expired) {
        conn.execute_batch(&format!("DROP TABLE seen_{old}"))?;
    }
    Ok(day)
}
