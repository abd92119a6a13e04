//! A look at a database without changing anything in it: for `doctor`, which no daemon answers.

use std::path::Path;

use rusqlite::Connection;

use crate::store::Result;
use crate::store::rows::migrations::Found;

use super::open::{self, open_reading};

/// What a database says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    pub schema: Found,
    /// Messages that could not be filed, and answers held for a person: only in a schema that
    /// this build knows.
    pub left_over: Option<(i64, i64)>,
}

/// The version of SQLite in this build.
pub fn sqlite_version() -> &'static str {
    rusqlite::version()
}

/// Reads the database of a data directory; `None` where there is none yet.
pub fn look(data_dir: &Path) -> Result<Option<Look>> {
    let path = data_dir.join("switchboard.db");
    if !path.exists() {
        return Ok(None);
    }
    let conn = open_reading(&path)?;
    let count = |conn: &Connection, sql: &str| conn.query_row(sql, [], |row| row.get(0));
    let schema = open::found(&conn)?;
    let left_over = match schema.can_be_used() {
        true => Some((
            count(&conn, "SELECT count(*) FROM dead_letter WHERE state = 0")?,
            // Queued is 0 and sending 1; the others are held.
            count(&conn, "SELECT count(*) FROM outbox WHERE state >= 2")?,
        )),
        false => None,
    };
    Ok(Some(Look { schema, left_over }))
}
