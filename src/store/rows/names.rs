//! Brands, channels and queues by small numbers. They are registered from the configuration
//! before anything else is written, so looking one up never writes.

use std::collections::HashMap;
use std::sync::RwLock;

/// Names and their numbers, both ways.
#[derive(Default)]
pub struct Names {
    known: RwLock<Known>,
}

#[derive(Default)]
struct Known {
    by_name: HashMap<String, i64>,
    by_id: HashMap<i64, String>,
}

impl Names {
    /// Adds what is missing; outside of the writer's transactions, at start.
    pub fn register(&self, conn: Conn<'_>, names: &[String]) -> sql::Result<()> {
        Self::add(conn, names)?;
        self.load(conn)
    }

    /// Gives numbers to names that have none.
    pub fn add(conn: Conn<'_>, names: &[String]) -> sql::Result<()> {
        for name in names {
            conn.prepare("INSERT INTO name (name) VALUES (?1) ON CONFLICT DO NOTHING")?
                .execute([name])?;
        }
        Ok(())
    }

    /// Reads all that is durable.
    pub fn load(&self, conn: Conn<'_>) -> sql::Result<()> {
        let mut statement = conn.prepare("SELECT id, name FROM name")?;
        let rows = statement.query_map((), |row| Ok((row.get(0)?, row.get(1)?)))?;
        let mut known = Known::default();
        for row in rows {
            let (id, name): (i64, String) = row?;
            known.by_name.insert(name.clone(), id);
            known.by_id.insert(id, name);
        }
        *self
            .known
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = known;
        Ok(())
    }

    /// The number of a registered name; 0, which no row has, for any other.
    pub fn id(&self, name: &str) -> i64 {
        let known = self
            .known
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        known.by_name.get(name).copied().unwrap_or(0)
    }

    pub fn name(&self, id: i64) -> String {
        let known = self
            .known
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        known.by_id.get(&id).cloned().unwrap_or_default()
    }
}
use crate::store::sql::{self, Conn};
