//! Opening the database: connections and their settings, the schema, what a start puts right.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension};

use crate::store::rows::SCHEMA;
use crate::store::rows::migrations::{self, Found, SCHEMA_OLDEST, SCHEMA_VERSION};
use crate::store::{Result, StoreError};

const OWN: &str = include_str!("schema.sql");
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
    if bug!("commits-not-synced") {
        conn.execute_batch("PRAGMA synchronous = NORMAL;")?;
    }
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

/// Makes the tables of a new database, and those of an earlier version this one's; refuses what this build cannot
/// work on. The database's time, in UTC microseconds.
pub fn migrate(conn: &Connection) -> Result<i64> {
    let version: i64 = conn.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version == 0 {
        conn.execute_batch(&format!(
            "BEGIN; {SCHEMA} {OWN} {} COMMIT;",
            version_is(SCHEMA_VERSION, SCHEMA_OLDEST)
        ))?;
    } else {
        for step in migrations::steps(found(conn)?)? {
            let version = version_is(step.to, step.oldest);
            conn.execute_batch(&format!("BEGIN; {} {version} COMMIT;", step.common))?;
        }
    }
    let now = "SELECT CAST(unixepoch('now', 'subsec') * 1000000 AS INTEGER)";
    Ok(conn.query_row(now, [], |row| row.get(0))?)
}

/// What the tables are of a database that has some.
pub fn found(conn: &Connection) -> Result<Found> {
    let version = conn.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let oldest = "SELECT value FROM meta WHERE key = 'schema_oldest'";
    let oldest = conn.query_row(oldest, [], |row| row.get(0)).optional()?;
    let oldest = oldest.unwrap_or(version);
    Ok(Found { version, oldest })
}

fn version_is(version: i64, oldest: i64) -> String {
    format!(
        "INSERT OR REPLACE INTO meta (key, value) VALUES ('schema_oldest', {oldest}); PRAGMA user_version = {version};"
    )
}

/// Random bytes made with the database: every other key is derived from them.
pub fn installation_key(conn: &Connection) -> Result<Vec<u8>> {
    let known: Option<Vec<u8>> = conn
        .query_row(
            "SELECT value FROM secret WHERE key = 'installation_key'",
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
        "INSERT INTO secret (key, value) VALUES ('installation_key', ?1)",
        [&key],
    )?;
    Ok(key)
}
