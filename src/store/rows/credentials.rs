//! Sealed credentials of channels.

use async_trait::async_trait;
use connector_api::ChannelId;

use crate::store::Result;
use crate::store::credentials::CredentialStore;
use crate::store::sql::{Optional as _, params};

use super::{Engine, RowStore};

#[async_trait]
impl<E: Engine> CredentialStore for RowStore<E> {
    async fn credential(&self, channel: &ChannelId, name: &str) -> Result<Option<Vec<u8>>> {
        let channel = self.id(channel.as_str());
        let name = name.to_owned();
        self.engine
            .read(move |conn, _| {
                Ok(conn
                    .prepare("SELECT sealed FROM credential WHERE channel = ?1 AND name = ?2")?
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
        let channel = self.id(channel.as_str());
        let name = name.to_owned();
        self.engine
            .write_beside(0, move |tx| {
                tx.conn.write(
                    "INSERT INTO credential (channel, name, sealed) VALUES (?1, ?2, ?3)
             ON CONFLICT (channel, name) DO UPDATE SET sealed = excluded.sealed",
                    params![channel, name, sealed],
                )?;
                Ok(())
            })
            .await
    }
}
