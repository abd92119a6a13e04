//! A look at a database that processes share, without changing anything in it: for `doctor`, which works whether
//! any of them runs or not.

use crate::store::leases::Lease;
use crate::store::processes::Process;
use crate::store::rows::migrations::Found;
use crate::store::rows::{leases, processes};
use crate::store::sql::Conn;
use crate::store::{Result, StoreError};

use super::{ANSWER_MAX, Database, OF_READERS, Setting, schema};

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
        patience: ANSWER_MAX,
    };
    let session = setting.connect()?;
    let conn = Conn::Postgres(&session);
    let mut look = Look {
        schema: None,
        clock: conn.clock(0)?,
        processes: Vec::new(),
        leases: Vec::new(),
    };
    look.schema = schema::found(conn)?;
    if look.schema.is_some_and(Found::can_be_used) {
        look.processes = processes::said_since(conn, look.clock - within_us)?;
        look.leases = leases::all(conn)?;
    }
    Ok(look)
}
