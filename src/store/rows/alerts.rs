//! What alerts remember, on the embedded store.

use std::collections::BTreeMap;

use async_trait::async_trait;
use connector_api::ChannelId;

use crate::alerts::Told;
use crate::store::Result;
use crate::store::alerts::Watched;
use crate::store::sql::{Rows, params};

use super::names::Names;
use super::{Engine, RowStore};

#[async_trait]
impl<E: Engine> Watched for RowStore<E> {
    async fn undecided_since(&self) -> Result<Option<i64>> {
        self.engine.read(|conn, _| {
            let mut statement = conn.prepare(
                "SELECT arrived_at FROM log WHERE record > (SELECT coalesce(min(position), 0) FROM position)
                 ORDER BY record LIMIT 1",
            )?;
            let mut rows = statement.query(())?;
            let first = rows.next_row()?.map(|row| row.get(0)).transpose()?;
            Ok(first)
        })
        .await
    }

    async fn due_since(&self, now: i64) -> Result<BTreeMap<ChannelId, i64>> {
        self.engine.read(move |conn, names| {
            let mut statement = conn.prepare(
                "SELECT channel, min(due_since) FROM outbox WHERE state < 2 AND due_since <= ?1 GROUP BY channel",
            )?;
            by_channel(names, statement.query([now])?)
        })
        .await
    }

    async fn probe(&self, now: i64) -> Result<()> {
        self.engine
            .write_beside(0, move |tx| {
                tx.conn.write(
                    "INSERT INTO tried (id, at) VALUES (1, ?1)
             ON CONFLICT (id) DO UPDATE SET at = excluded.at",
                    [now],
                )?;
                Ok(())
            })
            .await
    }

    async fn told(&self) -> Result<BTreeMap<String, BTreeMap<String, Told>>> {
        self.engine
            .read(|conn, _| {
                let mut statement =
                    conn.prepare("SELECT target, key, since, at, count, what FROM alert")?;
                let mut rows = statement.query(())?;
                let mut all: BTreeMap<String, BTreeMap<String, Told>> = BTreeMap::new();
                while let Some(row) = rows.next_row()? {
                    let told = Told {
                        key: row.get(1)?,
                        since: row.get(2)?,
                        at: row.get(3)?,
                        count: row.get(4)?,
                        what: row.get(5)?,
                    };
                    let target = all.entry(row.get(0)?).or_default();
                    target.insert(told.key.clone(), told);
                }
                Ok(all)
            })
            .await
    }

    async fn save_told(&self, target: &str, told: Vec<Told>) -> Result<()> {
        let target = target.to_owned();
        self.engine.write_beside(0, move |tx| {
                tx.lock_name("alert", target.as_bytes())?;
                tx.conn.write("DELETE FROM alert WHERE target = ?1", [&target])?;
                for told in &told {
                    tx.conn.write("INSERT INTO alert (target, key, since, at, count, what) VALUES (?1, ?2, ?3, ?4, ?5, ?6)", params![target, told.key, told.since, told.at, told.count, told.what])?;
                }
                Ok(())
            })
            .await
    }

    async fn heard(&self) -> Result<BTreeMap<ChannelId, i64>> {
        self.engine
            .read(|conn, names| {
                let mut statement = conn.prepare("SELECT channel, at FROM heard")?;
                by_channel(names, statement.query(())?)
            })
            .await
    }

    async fn save_heard(&self, heard: Vec<(ChannelId, i64)>) -> Result<()> {
        self.engine
            .write_beside(0, move |tx| {
                for (channel, at) in &heard {
                    tx.conn.write(
                        "INSERT INTO heard (channel, at) VALUES (?1, ?2)
             ON CONFLICT (channel) DO UPDATE SET at = excluded.at",
                        [tx.memory.names.id(channel.as_str()), *at],
                    )?;
                }
                Ok(())
            })
            .await
    }
}

/// Rows of a channel's number and a time.
fn by_channel(names: &Names, mut rows: Rows<'_>) -> Result<BTreeMap<ChannelId, i64>> {
    let mut found = BTreeMap::new();
    while let Some(row) = rows.next_row()? {
        if let Ok(channel) = names.name(row.get(0)?).parse() {
            found.insert(channel, row.get(1)?);
        }
    }
    Ok(found)
}
