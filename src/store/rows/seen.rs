//! Dedupe keys. Pushed events: one table for three days of arrivals, dropped whole when nothing is
//! looked up in it any more; a key costs one search in each that is live. Sources that can show an
//! item again for ever: one table that is never dropped.

use crate::ids::MessageId;
use crate::router::effects::NewSeen;
use crate::router::facts::{Key16, Seen};

use crate::store::rows::memory::Memory;
use crate::store::sql::{self, Conn, params};

/// What one generation covers: three days.
const GENERATION_MICROS: i64 = 3 * 24 * 60 * 60 * 1_000_000;
/// Generations a pushed event is remembered for: nine days and the one that is being written.
/// Providers retry for up to seven (Meta).
const LIVE: i64 = 4;
/// Generations, of 90 days, in which an edit, a deletion or an answer finds the message it names.
/// Those that are not live are looked into for these only, which are few.
const NAMED: i64 = 30;

/// All generations that are kept, oldest first.
pub fn generations(conn: Conn<'_>) -> sql::Result<Vec<i64>> {
    let mut statement = conn.prepare(match conn {
        Conn::Sqlite(_) => {
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name GLOB 'seen_[0-9]*'"
        }
        #[cfg(feature = "postgres")]
        Conn::Postgres(_) => {
            "SELECT tablename FROM pg_tables WHERE schemaname = current_schema() AND tablename ~ '^seen_[0-9]+$'"
        }
    })?;
    let names = statement.query_map((), |row| row.get::<String>(0))?;
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
pub fn find(conn: Conn<'_>, memory: &Memory, key: &Key16) -> sql::Result<Vec<Seen>> {
    find_within(conn, memory, key, LIVE)
}

/// Everything filed under `key` that can still be named.
pub fn find_named(conn: Conn<'_>, memory: &Memory, key: &Key16) -> sql::Result<Vec<Seen>> {
    find_within(conn, memory, key, NAMED)
}

fn find_within(conn: Conn<'_>, memory: &Memory, key: &Key16, back: i64) -> sql::Result<Vec<Seen>> {
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

fn probe(conn: Conn<'_>, sql: &str, key: &Key16, found: &mut Vec<Seen>) -> sql::Result<()> {
    let mut statement = conn.prepare(sql)?;
    let rows = statement.query_map([key.as_slice()], |row| {
        Ok(Seen {
            digest: row.get::<i64>(0)? as u64,
            message: MessageId(row.get(1)?),
        })
    })?;
    for row in rows {
        found.push(row?);
    }
    Ok(())
}

/// Remembers what a batch filed at `now`.
pub fn insert(conn: Conn<'_>, memory: &mut Memory, seen: &[NewSeen], now: i64) -> sql::Result<()> {
    if seen.is_empty() {
        return Ok(());
    }
    let generation = generation(conn, memory, now)?;
    let pushed = format!(
        "INSERT INTO seen_{generation} (key, digest, message) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING"
    );
    for new in seen {
        let sql = if new.lasting {
            "INSERT INTO seen_lasting (key, digest, message) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING"
        } else {
            pushed.as_str()
        };
        conn.prepare(sql)?.execute(params![
            new.key.as_slice(),
            new.digest as i64,
            new.message.0
        ])?;
    }
    Ok(())
}

/// The generation of `now`: made when it begins, when also those that nothing is looked up in any
/// more go. Time that steps back writes into the newest one.
pub fn generation(conn: Conn<'_>, memory: &mut Memory, now: i64) -> sql::Result<i64> {
    let current = now.div_euclid(GENERATION_MICROS);
    if let Some(newest) = memory.generations.last().copied()
        && newest >= current
    {
        return Ok(newest);
    }
    make_generation(conn, memory, current)?;
    let expired = memory
        .generations
        .iter()
        .position(|kept| *kept > current - NAMED)
        .unwrap_or(0);
    for old in memory.generations.drain(..expired) {
        conn.batch(&format!("DROP TABLE IF EXISTS seen_{old}"))?;
    }
    Ok(current)
}

fn make_generation(conn: Conn<'_>, memory: &mut Memory, number: i64) -> sql::Result<()> {
    match conn {
        Conn::Sqlite(_) => {
            conn.batch(&format!(
                "CREATE TABLE seen_{number} (key BLOB NOT NULL, digest INTEGER NOT NULL, message INTEGER NOT NULL,
                 PRIMARY KEY (key, digest)) WITHOUT ROWID"
            ))?;
            memory.generations.push(number);
        }
        // Another connection may have made it.
        #[cfg(feature = "postgres")]
        Conn::Postgres(_) => {
            conn.batch(&format!(
                "CREATE TABLE IF NOT EXISTS seen_{number} (key bytea NOT NULL, digest bigint NOT NULL,
                 message bigint NOT NULL, PRIMARY KEY (key, digest))"
            ))?;
            memory.generations = generations(conn)?;
        }
    }
    Ok(())
}
