//! A look at a database that processes share, without changing anything in it: for `doctor`, which works whether
//! any of them runs or not.

use crate::store::leases::Lease;
use crate::store::processes::Process;
use crate::store::rows::migrations::{Found, SCHEMA_VERSION};
use crate::store::rows::{leases, processes};
use crate::store::sql::{Conn, Optional as _};
use crate::store::{Result, StoreError};

use super::{Database, OF_READERS, Setting};

/// What a database says of those who work with it.
#[derive(Debug)]
pub struct Look {
    /// What its tables are; `None`: it has none yet.
    pub schema: Option<Found>,
    /// UTC microseconds by its clock.
    pub clock: i64,
    pub processes: Vec<Process>,
    pub leases: Vec<Lease>,
}

/// Looks at a database, and at the processes that said something within `within_us`.
pub async fn look(database: Database, within_us: i64) -> Result<Look> {
    let looking = tokio::task::spawn_blocking(move || look_at(&database, within_us));
    let looked = looking.await;
    looked.map_err(|error| StoreError::Unavailable(format!("looking at the database: {error}")))?
}

fn look_at(database: &Database, within_us: i64) -> Result<Look> {
    let setting = Setting {
        database: database.clone(),
        begin: OF_READERS,
    };
    let session = setting.connect()?;
    let conn = Conn::Postgres(&session);
    let mut look = Look {
        schema: None,
        clock: conn.clock(0)?,
        processes: Vec::new(),
        leases: Vec::new(),
    };
    let there = conn
        .prepare("SELECT to_regclass('meta') IS NOT NULL")?
        .query_row((), |row| row.get::<bool>(0))?;
    if !there {
        return Ok(look);
    }
    let noted = |key: &str| {
        let mut asked = conn.prepare("SELECT value FROM meta WHERE key = ?1")?;
        asked.query_row([key], |row| row.get::<i64>(0)).optional()
    };
    let version = noted("schema")?.unwrap_or_default();
    let found = Found {
        version,
        oldest: noted("schema_oldest")?.unwrap_or(version),
    };
    look.schema = Some(found);
    if found.version <= SCHEMA_VERSION || found.oldest <= SCHEMA_VERSION {
        look.processes = processes::said_since(conn, look.clock - within_us)?;
        look.leases = leases::all(conn)?;
    }
    Ok(look)
}
