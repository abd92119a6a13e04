//! Brands, channels and queues by small numbers. They are registered from the configuration
//! before anything else is written, so looking one up never writes.

use std::collections::HashMap;
use std::sync::RwLock;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// Names and their numbers, both ways.
#[derive(Default)]
pub struct Names {
    known: RwLock<Known>,
    /// Counts the numbers that were looked up in vain: another process may have given them.
    missed: AtomicU64,
    /// Numbers of rows go on above this: every connection of the store has these names, so all of them hear of it.
    ids_above: AtomicI64,
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
        #[cfg(feature = "postgres")]
        if let Conn::Postgres(_) = conn {
            conn.batch("NOTIFY switchboard, 'names'")?;
        }
        Ok(())
    }

    /// Has rows get numbers above this one, from now on.
    pub fn leave_ids_out(&self, until: i64) {
        self.ids_above.fetch_max(until, Ordering::Relaxed);
    }

    pub fn ids_above(&self) -> i64 {
        self.ids_above.load(Ordering::Relaxed)
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
        let found = known.by_id.get(&id).cloned();
        // Nothing is number 0.
        if found.is_none() && id != 0 {
            self.missed.fetch_add(1, Ordering::Relaxed);
        }
        found.unwrap_or_default()
    }

    /// How often a number was looked up that is not known.
    pub fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }

    pub fn count(&self) -> usize {
        let known = self.known.read();
        known
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .by_id
            .len()
    }
}
use crate::store::sql::{self, Conn};
