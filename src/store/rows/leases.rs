//! Leases: a row each, which stays when nobody has it, because its epoch counts on.

use async_trait::async_trait;

use crate::store::Result;
use crate::store::leases::{Lease, Leases};
use crate::store::rows::{Engine, RowStore};
use crate::store::sql::{self, Conn, Optional as _, Row, params};

#[async_trait]
impl<E: Engine> Leases for RowStore<E> {
    async fn take_lease(
        &self,
        name: &str,
        holder: &str,
        for_us: i64,
        now: i64,
    ) -> Result<Option<Lease>> {
        let (name, holder) = (name.to_owned(), holder.to_owned());
        self.engine
            .write_beside(0, move |tx| {
                // Of before the row is waited for: too early only leaves it to whoever has it.
                let now = tx.conn.clock(now)?;
                let taken = tx
                    .conn
                    .prepare(
                        "INSERT INTO lease (name, holder, epoch, until) VALUES (?1, ?2, 1, ?3)
                         ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until,
                         epoch = lease.epoch + CASE WHEN lease.holder = excluded.holder THEN 0 ELSE 1 END
                         WHERE lease.holder = excluded.holder OR lease.until <= ?4
                         RETURNING name, holder, epoch, until",
                    )?
                    .query_row(params![name, holder, now + for_us, now], lease_of)
                    .optional()?;
                Ok(taken)
            })
            .await
    }

    async fn renew_lease(&self, lease: &Lease, for_us: i64, now: i64) -> Result<Option<Lease>> {
        let lease = lease.clone();
        self.engine
            .write_beside(0, move |tx| {
                let until = tx.conn.clock(now)? + for_us;
                let renewed = tx
                    .conn
                    .prepare(
                        "UPDATE lease SET until = ?1 WHERE name = ?2 AND holder = ?3 AND epoch = ?4
                         RETURNING name, holder, epoch, until",
                    )?
                    .query_row(
                        params![until, lease.name, lease.holder, lease.epoch],
                        lease_of,
                    )
                    .optional()?;
                Ok(renewed)
            })
            .await
    }

    async fn give_up_lease(&self, lease: &Lease) -> Result<()> {
        let lease = lease.clone();
        self.engine
            .write_beside(0, move |tx| {
                tx.conn
                    .prepare(
                        "UPDATE lease SET holder = '', until = 0
                         WHERE name = ?1 AND holder = ?2 AND epoch = ?3",
                    )?
                    .execute(params![lease.name, lease.holder, lease.epoch])?;
                Ok(())
            })
            .await
    }

    async fn leases(&self) -> Result<Vec<Lease>> {
        self.engine.read(|conn, _| all(conn)).await
    }
}

/// All that were ever taken, by name.
pub fn all(conn: Conn<'_>) -> Result<Vec<Lease>> {
    let mut statement =
        conn.prepare("SELECT name, holder, epoch, until FROM lease ORDER BY name")?;
    let rows = statement.query_map((), lease_of)?;
    Ok(rows.collect::<sql::Result<_>>()?)
}

fn lease_of(row: &Row<'_>) -> sql::Result<Lease> {
    Ok(Lease {
        name: row.get(0)?,
        holder: row.get(1)?,
        epoch: row.get(2)?,
        until: row.get(3)?,
    })
}
