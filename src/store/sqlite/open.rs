//! Opening the database: connections and their settings, the schema, what a start puts right.

use std::path::Path;
use std::time::Duration;

use connector_api::QueueId;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension};
use tracing::warn;

use crate::router::effects::EventType;
use crate::store::{Result, StoreError};

use super::events;
use super::names::Names;

/// The schema this build writes; a newer one is refused.
pub const SCHEMA_VERSION: i64 = 1;
const SCHEMA: &str = include_str!("schema.sql");
const READER_WAIT_MS: u64 = 5_000;

/// The one connection that writes.
pub fn open_writing(path: &Path) -> Result<Connection> {
    let conn = Connection::open(path)
        .map_err(|error| StoreError::Unavailable(format!("opening {}: {error}", path.display())))?;
    // secure_delete: what is erased is gone from the file. The checkpointer copies the log.
    // cache_size: 128 MiB at most, taken as it is needed; keys and customers are looked up all over
    // the tables, and every page that is not held costs a system call.
    conn.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = FAST;
         PRAGMA wal_autocheckpoint = 0; PRAGMA cache_size = -131072; PRAGMA temp_store = MEMORY;
         PRAGMA busy_timeout = 5000; PRAGMA journal_size_limit = 33554432;",
    )?;
    conn.set_prepared_statement_cache_capacity(256);
    keep_plans(&conn)?;
    Ok(conn)
}

/// Plans depend on no bound value. Else SQLite plans statements with a bound limit anew at every
/// call, which was a twentieth of the work per message.
fn keep_plans(conn: &Connection) -> Result<()> {
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

pub fn open_reading(path: &Path) -> Result<Connection> {
    let conn = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_URI,
    )?;
    conn.execute_batch("PRAGMA query_only = ON; PRAGMA cache_size = -4096;")?;
    conn.busy_timeout(Duration::from_millis(READER_WAIT_MS))?;
    conn.set_prepared_statement_cache_capacity(64);
    keep_plans(&conn)?;
    Ok(conn)
}

/// Makes the tables of a new database; refuses one that a newer build made.
pub fn migrate(conn: &Connection) -> Result<()> {
    let version: i64 = conn.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    match version {
        0 => {
            let batch = format!("BEGIN; {SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;");
            conn.execute_batch(&batch)?;
            Ok(())
        }
        SCHEMA_VERSION => Ok(()),
        newer => Err(StoreError::Unavailable(format!(
            "the database has schema version {newer}, this build knows {SCHEMA_VERSION}: start the newer version"
        ))),
    }
}

/// Conversations that wait in a queue which is not declared any more wait in the first one: nobody
/// could claim them otherwise.
pub fn adopt_stranded(conn: &Connection, names: &Names, queues: &[QueueId]) -> Result<()> {
    let moved = conn.unchecked_transaction()?;
    adopt(&moved, names, queues)?;
    Ok(moved.commit()?)
}

/// The same inside a transaction; the queue that has more waiting now.
pub fn adopt(conn: &Connection, names: &Names, queues: &[QueueId]) -> Result<Option<QueueId>> {
    let declared: Vec<i64> = queues
        .iter()
        .map(|queue| names.id(queue.as_str()))
        .collect();
    let (Some(first), Some(adopting)) = (queues.first(), declared.first()) else {
        return Ok(None);
    };
    let mut statement = conn.prepare_cached(
        "SELECT id, name FROM name WHERE EXISTS (SELECT 1 FROM waiting WHERE waiting.queue = name.id)",
    )?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let used: Vec<(i64, String)> = rows.collect::<rusqlite::Result<_>>()?;
    let mut adopted = None;
    for (id, name) in used.iter().filter(|(id, _)| !declared.contains(id)) {
        tell_of_adoption(conn, *id)?;
        let waiting = conn.execute(
            "UPDATE waiting SET queue = ?1 WHERE queue = ?2",
            [adopting, id],
        )?;
        conn.execute(
            "UPDATE conversation SET queue = ?1, version = version + 1 WHERE status = ?2 AND queue = ?3",
            [*adopting, crate::conversation::Status::Queued.code(), *id],
        )?;
        warn!(
            "the queue {name} is not declared any more: {waiting} conversations wait in {first} now"
        );
        adopted = Some(first.clone());
    }
    Ok(adopted)
}

/// Writes the events of conversations that are about to wait elsewhere.
fn tell_of_adoption(conn: &Connection, queue: i64) -> Result<()> {
    let last = events::last(conn)?;
    conn.execute(
        "INSERT INTO departure (seq, conversation, queue)
         SELECT ?1 + row_number() OVER (ORDER BY id), id, queue FROM waiting WHERE queue = ?2",
        [last, queue],
    )?;
    conn.execute(
        "INSERT INTO event (seq, kind, conversation, at)
         SELECT ?1 + row_number() OVER (ORDER BY id), ?3, id, CAST(unixepoch('now', 'subsec') * 1000000 AS INTEGER)
         FROM waiting WHERE queue = ?2",
        [last, queue, EventType::ConversationQueued.code()],
    )?;
    Ok(())
}

/// Random bytes made with the database: every other key is derived from them.
pub fn installation_key(conn: &Connection) -> Result<Vec<u8>> {
    let known: Option<Vec<u8>> = conn
        .query_row(
            "SELECT value FROM meta WHERE key = 'installation_key'",
            [],
            |row| row.get(0),
        )
        .optional()?;
    if let Some(key) = known {
        return Ok(key);
    }
    let mut key = vec![0; 32];
    aws_lc_rs::rand::fill(&mut key)
        .map_err(|_| StoreError::Unavailable("no random bytes".to_owned()))?;
    conn.execute(
        "INSERT INTO meta (key, value) VALUES ('installation_key', ?1)",
        [&key],
    )?;
    Ok(key)
}
