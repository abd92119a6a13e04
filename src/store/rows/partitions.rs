//! The numbers of topics' partitions, and how far each is decided.

use async_trait::async_trait;

use crate::store::Result;
use crate::store::partitions::Partitions;
use crate::store::rows::{Engine, RowStore};
use crate::store::sql::params;

#[async_trait]
impl<E: Engine> Partitions for RowStore<E> {
    async fn number_partitions(&self, topic: String, count: u32) -> Result<Vec<u32>> {
        self.engine
            .write(0, move |tx| {
                for at in 0..count {
                    tx.conn
                        .prepare(
                            "INSERT INTO topic_partition (id, topic, at)
                             SELECT coalesce(max(id), 0) + 1, ?1, ?2 FROM topic_partition WHERE true
                             ON CONFLICT (topic, at) DO NOTHING",
                        )?
                        .execute(params![topic, at])?;
                }
                Ok(tx
                    .conn
                    .prepare("SELECT id FROM topic_partition WHERE topic = ?1 AND at < ?2 ORDER BY at")?
                    .query_map(params![topic, count], |row| row.get(0))?
                    .collect::<std::result::Result<_, _>>()?)
            })
            .await
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
