//! Uploaded files that wait for their answer.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::ids::IdSource;
use crate::store::sql::{Conn, Optional as _, params};
use crate::store::uploads::{
    Holder, NewUpload, TakenUpload, UPLOAD_KEPT, UPLOADS_WAITING_MAX, Uploads,
};
use crate::store::{StoreError, Token};

use super::{Engine, RowStore, operating};
use crate::store::rows::Tx;

type Result<T> = std::result::Result<T, StoreError>;

/// Of an agent, by whatever token; of a token, where that names no agent.
const HELD: &str =
    "CASE WHEN CAST(?2 AS TEXT) IS NULL THEN agent IS NULL AND token = ?1 ELSE agent = ?2 END";

#[async_trait]
impl<E: Engine> Uploads for RowStore<E> {
    async fn add_upload(&self, upload: NewUpload) -> Result<Option<i64>> {
        // It holds its file until after the commit.
        let upload = Arc::new(upload);
        let own = upload.clone();
        let added = self.engine.write_beside(1, move |tx| add(tx, &own)).await;
        drop(upload);
        added
    }

    async fn token(&self, id: i64) -> Result<Option<Token>> {
        self.engine
            .read(move |conn, _| operating::token_by_id(conn, id))
            .await
    }
}

fn add(tx: &mut Tx<'_>, upload: &NewUpload) -> Result<Option<i64>> {
    let Holder { token, agent } = &upload.holder;
    let whose = format!("{token} {}", agent.as_deref().unwrap_or_default());
    tx.lock_name("upload", whose.as_bytes())?;
    let waiting: u32 = tx
        .conn
        .prepare(&format!(
            "SELECT count(*) FROM upload WHERE {HELD} AND expires_at > ?3"
        ))?
        .query_row(params![token, agent, upload.at], |row| row.get(0))?;
    if waiting >= UPLOADS_WAITING_MAX {
        return Ok(None);
    }
    let id = tx.memory.next();
    let kept = i64::try_from(UPLOAD_KEPT.as_micros()).unwrap_or(i64::MAX);
    tx.conn.write("INSERT INTO upload (id, token, agent, sha256, bytes_len, content, name, content_type, expires_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)", params![
            id,
            token,
            agent,
            upload.blob.sha256.as_slice(),
            upload.blob.bytes_len as i64,
            upload.blob.inline.as_deref(),
            upload.name,
            upload.content_type,
            upload.at.saturating_add(kept)
        ])?;
    Ok(Some(id))
}

/// Takes an upload for an answer, in the transaction that writes the answer's `blob` row: it can be
/// taken once. `None` where it is another's, taken, or past its time.
pub fn take_upload(
    tx: &mut Tx<'_>,
    id: i64,
    holder: &Holder,
    now: i64,
) -> Result<Option<TakenUpload>> {
    let sql = format!(
        "DELETE FROM upload WHERE {HELD} AND id = ?3 AND expires_at > ?4
         RETURNING name, content_type, sha256, bytes_len, content"
    );
    Ok(tx
        .conn
        .prepare(&sql)?
        .query_row(params![holder.token, holder.agent, id, now], |row| {
            Ok(TakenUpload {
                name: row.get(0)?,
                content_type: row.get(1)?,
                sha256: row.get(2)?,
                bytes_len: row.get::<i64>(3)?.unsigned_abs(),
                inline: row.get::<Option<Vec<u8>>>(4)?.map(Bytes::from),
            })
        })
        .optional()?)
}

/// Drops uploads that no answer took in time; their files go with the next sweep of files.
pub fn sweep(conn: Conn<'_>, now: i64, rows_max: i64) -> Result<()> {
    conn.write(
        "DELETE FROM upload WHERE id IN (SELECT id FROM upload WHERE expires_at <= ?1 LIMIT ?2)",
        [now, rows_max],
    )?;
    Ok(())
}
