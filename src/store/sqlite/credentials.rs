//! Sealed credentials of channels.

use async_trait::async_trait;
use connector_api::ChannelId;
use rusqlite::{OptionalExtension, params};

use crate::store::Result;
use crate::store::credentials::CredentialStore;

use super::SqliteStore;

#[async_trait]
impl CredentialStore for SqliteStore {
    async fn credential(&self, channel: &ChannelId, name: &str) -> Result<Option<Vec<u8>>> {
        let channel = self.names.id(channel.as_str());
        let name = name.to_owned();
        self.read(move |conn, _| {
            Ok(conn
                .prepare_cached("SELECT sealed FROM credential WHERE channel = ?1 AND name = ?2")?
                .query_row(params![channel, name], |row| row.get(0))
                .optional()?)
        })
        .await
    }

    async fn save_credential(
        &self,
        channel: &ChannelId,
        name: &str,
        sealed: Vec<u8>,
    ) -> Result<()> {
        let channel = self.names.id(channel.as_str());
        let name = name.to_owned();
        self.writer
            .run(0, move |tx| {
                tx.conn
                    .prepare_cached(
                        "INSERT OR REPLACE INTO credential (channel, name, sealed) VALUES (?1, ?2, ?3)",
                    )?
                    .execute(params![channel, name, sealed])?;
                Ok(())
            })
            .await
    }
}
