//! The processes: a row each.

use async_trait::async_trait;

use crate::store::Result;
use crate::store::processes::{Process, Processes};
use crate::store::rows::{Engine, RowStore};
use crate::store::sql::{self, Conn, params};

#[async_trait]
impl<E: Engine> Processes for RowStore<E> {
    async fn note_process(
        &self,
        instance: &str,
        said: String,
        kept_us: i64,
        now: i64,
    ) -> Result<i64> {
        let instance = instance.to_owned();
        self.engine
            .write_beside(0, move |tx| {
                let now = tx.conn.clock(now)?;
                tx.conn
                    .prepare(
                        "INSERT INTO process (instance, seen_at, said) VALUES (?1, ?2, ?3)
                         ON CONFLICT (instance) DO UPDATE SET seen_at = excluded.seen_at, said = excluded.said",
                    )?
                    .execute(params![instance, now, said])?;
                tx.conn
                    .prepare("DELETE FROM process WHERE seen_at < ?1")?
                    .execute([now - kept_us])?;
                Ok(now)
            })
            .await
    }

    async fn forget_process(&self, instance: &str) -> Result<()> {
        let instance = instance.to_owned();
        self.engine
            .write_beside(0, move |tx| {
                tx.conn
                    .prepare("DELETE FROM process WHERE instance = ?1")?
                    .execute([&instance])?;
                Ok(())
            })
            .await
    }

    async fn processes(&self, within_us: i64, now: i64) -> Result<Vec<Process>> {
        self.engine
            .read(move |conn, _| {
                let since = conn.clock(now)? - within_us;
                said_since(conn, since)
            })
            .await
    }
}

/// Those that said something since, by name.
pub fn said_since(conn: Conn<'_>, since: i64) -> Result<Vec<Process>> {
    let sql = "SELECT instance, seen_at, said FROM process WHERE seen_at >= ?1 ORDER BY instance";
    let mut statement = conn.prepare(sql)?;
    let rows = statement.query_map([since], |row| {
        Ok(Process {
            instance: row.get(0)?,
            seen_at: row.get(1)?,
            said: row.get(2)?,
        })
    })?;
    Ok(rows.collect::<sql::Result<_>>()?)
}
