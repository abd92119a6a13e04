//! The numbers of topics' partitions, and how far each is decided.

use async_trait::async_trait;

use crate::store::Result;
use crate::store::partitions::Partitions;
use crate::store::rows::{Engine, RowStore};
use crate::store::sql::{self, Conn, Optional as _, params};

/// Under which name the store keeps it.
pub const BASE: &str = "records_base";

/// See [`Partitions::records_base`].
pub fn base(conn: Conn<'_>) -> sql::Result<i64> {
    let noted = conn
        .prepare("SELECT value FROM meta WHERE key = ?1")?
        .query_row([BASE], |row| row.get(0))
        .optional()?;
    Ok(noted.unwrap_or(0))
}

#[async_trait]
impl<E: Engine> Partitions for RowStore<E> {
    async fn number_partitions(&self, topic: String, count: u32) -> Result<Vec<u32>> {
        self.engine
            .write(0, move |tx| {
                // Of two that number at once one fails, and asks again.
                let mut id: i64 = tx
                    .conn
                    .prepare("SELECT coalesce(max(id), 0) FROM topic_partition")?
                    .query_row((), |row| row.get(0))?;
                for at in 0..count {
                    let added = tx
                        .conn
                        .prepare(
                            "INSERT INTO topic_partition (id, topic, at) VALUES (?1, ?2, ?3)
                             ON CONFLICT (topic, at) DO NOTHING",
                        )?
                        .execute(params![id + 1, topic, at])?;
                    id += i64::from(added > 0);
                }
                Ok(tx
                    .conn
                    .prepare(
                        "SELECT id FROM topic_partition WHERE topic = ?1 AND at < ?2 ORDER BY at",
                    )?
                    .query_map(params![topic, count], |row| row.get(0))?
                    .collect::<std::result::Result<_, _>>()?)
            })
            .await
    }

    async fn records_base(&self) -> Result<i64> {
        self.engine.read(|conn, _| Ok(base(conn)?)).await
    }

    async fn positions(&self) -> Result<Vec<(u32, i64)>> {
        self.engine
            .read(|conn, _| {
                Ok(conn
                    .prepare("SELECT partition, position FROM position ORDER BY partition")?
                    .query_map((), |row| Ok((row.get(0)?, row.get(1)?)))?
                    .collect::<std::result::Result<_, _>>()?)
            })
            .await
    }
}
