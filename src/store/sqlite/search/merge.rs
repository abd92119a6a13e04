//! Words of what is forgotten leave the index's pages when these are merged: a deletion only marks
//! the row. So once something is forgotten all of the index is written anew, some pages in each
//! step, and what is indexed meanwhile is merged along.

use rusqlite::{Connection, OptionalExtension, params};

use crate::store::StoreError;

type Result<T> = std::result::Result<T, StoreError>;

/// Pages of 4 KiB that a step writes of each table: a millisecond or two.
const STEP_PAGES: i64 = 16;
const TABLES: [(&str, &str); 2] = [("message_search", "text"), ("contact_search", "name")];
/// FTS5's own: how many segments a level has before it is merged by itself.
const AUTOMERGE: i64 = 4;
const OWN_SEGMENTS: i64 = 8;
/// The row of an index that says of which segments it is made.
const STRUCTURE: i64 = 10;
/// How far it is; nothing where the index holds no word of what is forgotten.
const STATE: &str = "search_forgotten";
const DUE: i64 = 1;
const UNDER_WAY: i64 = 2;

/// Has the index written anew: something in it was forgotten.
pub fn ask(conn: &Connection) -> Result<()> {
    set(conn, Some(DUE))
}

/// One step, where it is due; whether there is more.
pub fn step(conn: &Connection) -> Result<bool> {
    let state: Option<i64> = conn
        .prepare_cached("SELECT value FROM meta WHERE key = ?1")?
        .query_row([STATE], |row| row.get(0))
        .optional()?;
    let mut more = false;
    for (table, column) in TABLES {
        match state {
            None => return Ok(false),
            Some(DUE) => begin(conn, table, column)?,
            Some(_) if is_merging(conn, table)? => merge(conn, table, STEP_PAGES)?,
            Some(_) => {}
        }
        more |= is_merging(conn, table)?;
    }
    set(conn, more.then_some(UNDER_WAY))?;
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

fn set(conn: &Connection, state: Option<i64>) -> Result<()> {
    match state {
        Some(state) => conn
            .prepare_cached("INSERT OR REPLACE INTO meta (key, value) VALUES (?1, ?2)")?
            .execute(params![STATE, state])?,
        None => conn
            .prepare_cached("DELETE FROM meta WHERE key = ?1")?
            .execute([STATE])?,
    };
    Ok(())
}
