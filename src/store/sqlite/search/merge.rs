//! Words of what is forgotten leave the index's pages when these are merged: a deletion only marks
//! the row. So all of the index is written anew, some pages in each step, and what is indexed meanwhile
//! is merged along. That is as much writing as the index is large: once a day at most, for all that
//! was forgotten since the last time.

use rusqlite::{Connection, OptionalExtension, params};

use crate::store::StoreError;

type Result<T> = std::result::Result<T, StoreError>;

/// Pages of 4 KiB that a step writes of each table.
const STEP_PAGES: i64 = 16;
/// Between the beginnings of two merges.
const MERGE_EVERY_MICROS: i64 = 24 * 60 * 60 * 1_000_000;
const TABLES: [(&str, &str); 2] = [("message_search", "text"), ("contact_search", "name")];
/// FTS5's own: how many segments a level has before it is merged by itself.
const AUTOMERGE: i64 = 4;
const OWN_SEGMENTS: i64 = 8;
/// The row of an index that says of which segments it is made.
const STRUCTURE: i64 = 10;
/// Something was forgotten since the last merge began.
const FORGOTTEN: &str = "search_forgotten";
/// A merge is under way.
const MERGING: &str = "search_merging";
/// When the last one began.
const BEGAN_AT: &str = "search_merge_began_at";

/// Has the index written anew when the next merge is due: something in it was forgotten.
pub fn ask(conn: &Connection) -> Result<()> {
    set(conn, FORGOTTEN, Some(1))
}

/// Begins a merge of everything that is in the index now, whenever the last one began. One that is under way has to
/// come to its end before: `false`.
pub fn begin_now(conn: &Connection, now: i64) -> Result<bool> {
    if get(conn, MERGING)?.is_some() {
        return Ok(false);
    }
    set(conn, FORGOTTEN, Some(1))?;
    set(conn, BEGAN_AT, None)?;
    step(conn, now)?;
    Ok(true)
}

/// One step, where a merge is under way or due; whether there is more.
pub fn step(conn: &Connection, now: i64) -> Result<bool> {
    if get(conn, MERGING)?.is_none() {
        let began_at = get(conn, BEGAN_AT)?;
        let is_due = began_at.is_none_or(|at| now - at >= MERGE_EVERY_MICROS);
        if !is_due || get(conn, FORGOTTEN)?.is_none() {
            return Ok(false);
        }
        set(conn, FORGOTTEN, None)?;
        set(conn, BEGAN_AT, Some(now))?;
        for (table, column) in TABLES {
            begin(conn, table, column)?;
        }
    } else {
        for (table, _) in TABLES {
            if is_merging(conn, table)? {
                merge(conn, table, STEP_PAGES)?;
            }
        }
    }
    let mut more = false;
    for (table, _) in TABLES {
        more |= is_merging(conn, table)?;
    }
    set(conn, MERGING, more.then_some(1))?;
    Ok(more)
}

/// Makes all segments the input of one merge. Of levels to merge FTS5 takes the one with most
/// segments; so that it is this one, and not what is indexed meanwhile, there are rows that are of no
/// message, each in a segment of its own: more of them than a level has before it is merged by itself.
fn begin(conn: &Connection, table: &str, column: &str) -> Result<()> {
    configure(conn, table, "automerge", 0)?;
    for row in 1..=OWN_SEGMENTS {
        conn.execute(&format!("DELETE FROM {table} WHERE rowid = ?1"), [-row])?;
        let sql = format!("INSERT INTO {table} (rowid, {column}) VALUES (?1, 'merged')");
        conn.execute(&sql, [-row])?;
        // Writes what is new as a segment, and merges nothing.
        merge(conn, table, 0)?;
    }
    configure(conn, table, "automerge", AUTOMERGE)?;
    merge(conn, table, -STEP_PAGES)
}

/// <https://sqlite.org/fts5.html#the_merge_command>: below 0, of everything.
fn merge(conn: &Connection, table: &str, pages: i64) -> Result<()> {
    configure(conn, table, "merge", pages)
}

fn configure(conn: &Connection, table: &str, key: &str, value: i64) -> Result<()> {
    conn.prepare_cached(&format!(
        "INSERT INTO {table} ({table}, rank) VALUES (?1, ?2)"
    ))?
    .execute(params![key, value])?;
    Ok(())
}

/// Whether a merge is not through: the structure of the index names the segments that one reads.
fn is_merging(conn: &Connection, table: &str) -> Result<bool> {
    let sql = format!("SELECT block FROM {table}_data WHERE id = {STRUCTURE}");
    let structure: Vec<u8> = conn.prepare_cached(&sql)?.query_row([], |row| row.get(0))?;
    let merging = merging(&structure);
    merging.ok_or_else(|| StoreError::Poisoned(format!("the structure of {table} is unknown")))
}

/// As `fts5StructureDecode` of SQLite reads it: a cookie, the mark of indexes that know their
/// tombstones, then levels with what is merged of them and eight numbers of each segment.
fn merging(structure: &[u8]) -> Option<bool> {
    let mut rest = structure.get(4..)?;
    let numbers = match rest.strip_prefix(&[0xff, 0, 0, 1]) {
        Some(after) => {
            rest = after;
            8
        }
        None => 3,
    };
    let levels = number(&mut rest)?;
    let (_segments, _written) = (number(&mut rest)?, number(&mut rest)?);
    for _ in 0..levels {
        let (merging, segments) = (number(&mut rest)?, number(&mut rest)?);
        if merging > 0 {
            return Some(true);
        }
        for _ in 0..segments * numbers {
            number(&mut rest)?;
        }
    }
    Some(false)
}

/// A number as SQLite writes it: seven bits in each of up to eight bytes, then eight.
fn number(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for at in 0..9 {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        if at == 8 {
            return Some(value << 8 | u64::from(*byte));
        }
        value = value << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            break;
        }
    }
    Some(value)
}

fn get(conn: &Connection, key: &str) -> Result<Option<i64>> {
    Ok(conn
        .prepare_cached("SELECT value FROM meta WHERE key = ?1")?
        .query_row([key], |row| row.get(0))
        .optional()?)
}

fn set(conn: &Connection, key: &str, value: Option<i64>) -> Result<()> {
    match value {
        Some(value) => conn
            .prepare_cached("INSERT OR REPLACE INTO meta (key, value) VALUES (?1, ?2)")?
            .execute(params![key, value])?,
        None => conn
            .prepare_cached("DELETE FROM meta WHERE key = ?1")?
            .execute([key])?,
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sqlite::open::{migrate, open_writing};

    /// Steps until there is no more; how many.
    fn merged(conn: &Connection, now: i64) -> usize {
        let steps = std::iter::from_fn(|| step(conn, now).expect("a step").then_some(()));
        steps.take(1_000).count()
    }

    #[test]
    fn what_is_forgotten_all_day_long_is_merged_once_a_day_and_to_its_end() {
        let dir = tempfile::tempdir().expect("a directory");
        let conn = open_writing(&dir.path().join("switchboard.db")).expect("a database");
        migrate(&conn).expect("its tables");
        for row in 1..=5_000 {
            let sql = "INSERT INTO message_search (rowid, text) VALUES (?1, ?2)";
            let words: String = (0..20).map(|word| format!("w{row}x{word} ")).collect();
            conn.execute(sql, params![row, words]).expect("a row");
        }
        let day = MERGE_EVERY_MICROS;
        assert_eq!(merged(&conn, 0), 0, "nothing was forgotten");
        ask(&conn).expect("asked");
        assert!(step(&conn, day).expect("a step"), "it takes more than one");
        // What is forgotten while a merge is under way does not begin it again.
        ask(&conn).expect("asked");
        let steps = merged(&conn, day + 1);
        assert!((1..1_000).contains(&steps), "{steps} steps");
        ask(&conn).expect("asked");
        assert_eq!(merged(&conn, 2 * day - 1), 0, "not yet a day later");
        assert!(merged(&conn, 2 * day) > 0);
        assert_eq!(merged(&conn, 3 * day), 0, "all of it is merged");
    }
}
