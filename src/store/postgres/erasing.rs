//! Erasing, and what PostgreSQL needs for it: rows that are deleted go from their pages when these are vacuumed.

use std::time::Duration;

use async_trait::async_trait;

use crate::store::privacy::{Erases, Overwritten, Step};
use crate::store::rows::Engine;
use crate::store::rows::privacy::erasing;
use crate::store::{Result, StoreError};

use super::PostgresStore;

/// The tables that rows are deleted from, or words taken out of.
const TABLES: &str = "contact, identity, suggestion, guest, hold, conversation, message, change, body, raw, blob, reference,
    recipient, outbox, waiting, draft, draft_version, file_fetch, event, surgery, place, dead_letter, message_search,
    contact_search, erasing, erasing_address, erasing_file";
/// How long one pass may take.
const VACUUM_MAX: Duration = Duration::from_secs(3600);
/// What the server keeps of what is deleted is the operator's to say.
const LEFT: &str = "PostgreSQL reuses the space of deleted rows without overwriting it: `VACUUM FULL` of the tables, at a quiet \
    hour, rewrites them; its write-ahead log and base backups keep the rows as long as you keep those";

#[async_trait]
impl Erases for PostgresStore {
    async fn erase_step(&self, id: i64, messages: u32, now: i64) -> Result<Step> {
        // What has no number yet is no event of the log.
        self.engine.number_events().await?;
        self.engine
            .write(messages as usize, move |tx| {
                erasing::step(tx, id, messages, now)
            })
            .await
    }

    /// They go with their rows.
    async fn erase_words(&self, _id: i64, _now: i64) -> Result<bool> {
        Ok(false)
    }

    /// No copy is kept here of what comes again.
    async fn overwrite_dropped(&self) -> Result<()> {
        Ok(())
    }

    async fn overwrite(&self, id: i64) -> Result<Overwritten> {
        self.engine
            .write(0, move |tx| erasing::forget_known(tx, id))
            .await?;
        let setting = self.engine.apart.clone();
        let vacuumed = tokio::task::spawn_blocking(move || {
            let session = setting.connect()?;
            session.batch_within(
                VACUUM_MAX,
                &format!("VACUUM (TRUNCATE FALSE, PARALLEL 0) {TABLES}"),
            )
        });
        let vacuumed = vacuumed.await;
        vacuumed.map_err(|error| StoreError::Unavailable(format!("vacuuming: {error}")))??;
        Ok(Overwritten::Done {
            left: Some(LEFT.to_owned()),
        })
    }
}
