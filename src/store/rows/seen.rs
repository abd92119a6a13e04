//! Dedupe keys. Pushed events: one table for three days of arrivals, dropped whole when nothing is
//! looked up in it any more; a key costs one search in each that is live. Sources that can show an
//! item again for ever: one table that is never dropped.

use std::collections::{HashMap, HashSet};

use crate::ids::MessageId;
use crate::router::effects::NewSeen;
use crate::router::facts::{Key16, Seen};

use crate::store::StoreError;
use crate::store::rows::Tx;
use crate::store::rows::memory::{Memory, Standing};
use crate::store::sql::{self, Conn, params};

/// What one generation covers: three days.
const GENERATION_MICROS: i64 = 3 * 24 * 60 * 60 * 1_000_000;
/// Generations a pushed event is remembered for: nine days and the one that is being written.
/// Providers retry for up to seven (Meta).
const LIVE: i64 = 4;
/// Generations, of 90 days, in which an edit, a deletion or an answer finds the message it names.
/// Those that are not live are looked into for these only, which are few.
const NAMED: i64 = 30;

thread_local! {
    /// What the writer of this thread filed, for a bug put in on purpose.
    static SINCE_THE_START: std::cell::RefCell<HashSet<Key16>> = std::cell::RefCell::default();
}

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

/// The table of a generation.
pub fn table(generation: i64) -> String {
    format!("seen_{generation}")
}

/// Everything filed under these keys within the horizon of redeliveries; each key has an entry.
pub fn find(conn: Conn<'_>, memory: &Memory, keys: &HashSet<Key16>) -> sql::Result<Found> {
    find_within(conn, memory, keys, LIVE)
}

/// Everything filed under these keys that can still be named.
pub fn find_named(conn: Conn<'_>, memory: &Memory, keys: &HashSet<Key16>) -> sql::Result<Found> {
    find_within(conn, memory, keys, NAMED)
}

/// Everything filed under these keys, as far back as any are kept, for whoever only reads.
pub fn find_kept(conn: Conn<'_>, keys: &HashSet<Key16>) -> sql::Result<Found> {
    let tables = generations(conn)?.into_iter().map(table);
    look_up(conn, tables, keys)
}

/// What was filed under keys, what was said first coming first.
pub type Found = HashMap<Key16, Vec<Seen>>;

fn find_within(
    conn: Conn<'_>,
    memory: &Memory,
    wanted: &HashSet<Key16>,
    back: i64,
) -> sql::Result<Found> {
    let newest = memory.generations.last().copied().unwrap_or(0);
    let kept = memory.generations.iter().rev();
    let back = if bug!("dedupe-of-three-days") {
        1
    } else {
        back
    };
    let live = kept.take_while(|generation| **generation > newest - back);
    look_up(conn, live.map(|generation| table(*generation)), wanted)
}

fn look_up(
    conn: Conn<'_>,
    tables: impl Iterator<Item = String>,
    wanted: &HashSet<Key16>,
) -> sql::Result<Found> {
    let mut found: Found = wanted.iter().map(|key| (*key, Vec::new())).collect();
    if wanted.is_empty() {
        return Ok(found);
    }
    let keys: Vec<Key16> = wanted.iter().copied().collect();
    for table in tables.chain(["seen_lasting".to_owned()]) {
        let sql = format!("SELECT digest, message FROM {table} WHERE key = ?1");
        let mut asked = conn.read_each(&sql, |place, row| {
            let seen = Seen {
                digest: row.get::<i64>(0)? as u64,
                message: MessageId(row.get(1)?),
            };
            let of = keys.get(place).and_then(|key| found.get_mut(key));
            of.into_iter().for_each(|of| of.push(seen));
            Ok(())
        })?;
        for key in &keys {
            asked.add([key.as_slice()])?;
        }
        asked.done()?;
    }
    if bug!("dedupe-in-memory") {
        SINCE_THE_START.with_borrow(|known| {
            found
                .iter_mut()
                .filter(|(key, _)| !known.contains(*key))
                .for_each(|(_, seen)| seen.clear())
        });
    }
    // The rows are in the order of digests, which is chance; the first one is what was said first.
    for seen in found.values_mut() {
        seen.sort_by_key(|seen| seen.message);
    }
    Ok(found)
}

/// Remembers what a batch filed at `now`.
pub fn insert(tx: &mut Tx<'_>, seen: &[NewSeen], now: i64) -> Result<(), StoreError> {
    if seen.is_empty() {
        return Ok(());
    }
    if bug!("dedupe-in-memory") {
        SINCE_THE_START.with_borrow_mut(|known| known.extend(seen.iter().map(|new| new.key)));
    }
    let generation = generation(tx, now)?;
    let pushed = table(generation);
    for (table, lasting) in [(pushed.as_str(), false), ("seen_lasting", true)] {
        let mut new = seen.iter().filter(|new| new.lasting == lasting).peekable();
        if new.peek().is_none() {
            continue;
        }
        let mut insert = tx.conn.write_each(&format!(
            "INSERT INTO {table} (key, digest, message) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING"
        ))?;
        for new in new {
            insert.add(params![
                new.key.as_slice(),
                new.digest as i64,
                new.message.0
            ])?;
        }
        insert.done()?;
    }
    Ok(())
}

/// The generation of `now`: made when it begins, when also those that nothing is looked up in any
/// more go. Time that steps back writes into the newest one. Tables come and go while nobody else writes.
pub fn generation(tx: &mut Tx<'_>, now: i64) -> Result<i64, StoreError> {
    let current = now.div_euclid(GENERATION_MICROS);
    if let Some(newest) = tx.memory.generations.last().copied()
        && newest >= current
    {
        return Ok(newest);
    }
    if !tx.is_alone() {
        // Another connection may have made it.
        tx.memory.generations = generations(tx.conn)?;
        return match tx.memory.generations.last() {
            Some(newest) if *newest >= current => Ok(*newest),
            _ => Err(tx.begin_again(Standing::Alone, "a generation of dedupe keys begins")),
        };
    }
    make_generation(tx.conn, tx.memory, current)?;
    let expired = tx
        .memory
        .generations
        .iter()
        .position(|kept| *kept > current - NAMED)
        .unwrap_or(0);
    for old in tx.memory.generations.drain(..expired) {
        tx.conn.batch(&format!("DROP TABLE IF EXISTS seen_{old}"))?;
    }
    Ok(current)
}

/// How PostgreSQL makes the table of a generation.
#[cfg(feature = "postgres")]
pub fn made_on_postgres(table: &str) -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS {table} (key bytea NOT NULL, digest bigint NOT NULL, message bigint NOT NULL,
         PRIMARY KEY (key, digest))"
    )
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
            conn.batch(&made_on_postgres(&table(number)))?;
            memory.generations = generations(conn)?;
        }
    }
    Ok(())
}
