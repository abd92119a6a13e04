//! Imports on the embedded store.

use std::collections::HashMap;

use async_trait::async_trait;

use crate::ids::MessageId;
use crate::router::keys;
use crate::store::imports::{EventName, IMPORT_PLACE_KEPT, Imports};
use crate::store::sql::{Conn, Optional as _, params};
use crate::store::{Result, StoreError};

use super::{Engine, RowStore, seen};

#[async_trait]
impl<E: Engine> Imports for RowStore<E> {
    async fn known(&self, names: Vec<EventName>) -> Result<Vec<Option<MessageId>>> {
        self.engine.read(move |conn, _| known(conn, &names)).await
    }

    async fn tested(&self, token: &str) -> Result<Option<MessageId>> {
        let key = keys::channel_test(token);
        self.engine
            .read(move |conn, _| {
                conn.prepare("SELECT message FROM reference WHERE key = ?1")?
                    .query_row([key.as_slice()], |row| row.get(0).map(MessageId))
                    .optional()
                    .map_err(StoreError::from)
            })
            .await
    }

    async fn import_place(&self, source: &str) -> Result<Option<String>> {
        let source = source.to_owned();
        self.engine
            .read(move |conn, _| {
                conn.prepare("SELECT place FROM import WHERE source = ?1")?
                    .query_row([&source], |row| row.get(0))
                    .optional()
                    .map_err(StoreError::from)
            })
            .await
    }

    async fn save_import_place(&self, source: &str, place: String, now: i64) -> Result<()> {
        let source = source.to_owned();
        let kept = i64::try_from(IMPORT_PLACE_KEPT.as_micros()).unwrap_or(i64::MAX);
        self.engine
            .write_beside(0, move |tx| {
                tx.conn.write(
                    "INSERT INTO import (source, place, at) VALUES (?1, ?2, ?3)
             ON CONFLICT (source) DO UPDATE SET place = excluded.place, at = excluded.at",
                    params![source, place, now],
                )?;
                tx.conn.write(
                    "DELETE FROM import WHERE at < ?1",
                    [now.saturating_sub(kept)],
                )?;
                Ok(())
            })
            .await
    }

    async fn end_import(&self, source: &str) -> Result<()> {
        let source = source.to_owned();
        self.engine
            .write_beside(0, move |tx| {
                tx.conn
                    .write("DELETE FROM import WHERE source = ?1", [&source])?;
                Ok(())
            })
            .await
    }
}

fn known(conn: Conn<'_>, names: &[EventName]) -> Result<Vec<Option<MessageId>>> {
    let generations = seen::generations(conn)?;
    let tables = generations.iter().map(|number| format!("seen_{number}"));
    let mut filed: HashMap<&EventName, Option<MessageId>> =
        names.iter().map(|name| (name, None)).collect();
    for table in tables.chain(["seen_lasting".to_owned()]) {
        let mut statement = conn.prepare(&format!(
            "SELECT message FROM {table} WHERE key = ?1 AND digest = ?2"
        ))?;
        for (name, record) in filed.iter_mut().filter(|(_, record)| record.is_none()) {
            *record = statement
                .query_row(params![name.key.as_slice(), name.digest as i64], |row| {
                    row.get(0).map(MessageId)
                })
                .optional()?;
        }
    }
    let mut sent = conn.prepare("SELECT message FROM reference WHERE key = ?1")?;
    let mut known = Vec::with_capacity(names.len());
    for name in names {
        let record = match (filed.get(name).copied().flatten(), &name.sent) {
            (None, Some(key)) => sent
                .query_row([key.as_slice()], |row| row.get(0).map(MessageId))
                .optional()?,
            (record, _) => record,
        };
        known.push(record);
    }
    Ok(known)
}
