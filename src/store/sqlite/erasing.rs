//! Erasing, and what SQLite needs for it: pages that are overwritten, an index that is merged, and a log that is cut.

mod scrub;

use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, params};
use tracing::warn;

use crate::store::privacy::{Erases, Overwritten, Step};
use crate::store::rows::operating::COPIES_DROPPED;
use crate::store::rows::privacy::erasing;
use crate::store::{Result, StoreError};

use super::SqliteStore;
use super::open::open_writing;
use super::retention::overwriting;
use super::search::merge;
use super::writer::end_on_failed_fsync;

/// How long readers and the writer are waited for while the log is cut: what writes waits as long.
const CUT_WAIT: Duration = Duration::from_millis(100);

#[async_trait]
impl Erases for SqliteStore {
    async fn erase_step(&self, id: i64, messages: u32, now: i64) -> Result<Step> {
        let work = move |tx: &mut crate::store::rows::Tx<'_>| {
            let conn = tx.conn.of_sqlite()?;
            overwriting(conn, || erasing::step(tx, id, messages, now))
        };
        self.engine.writer.run(messages as usize, work).await
    }

    async fn erase_words(&self, id: i64, now: i64) -> Result<bool> {
        if bug!("erased-stays-in-search") {
            return Ok(false);
        }
        self.write_raw(move |conn| {
            overwriting(conn, || {
                let begun: i64 =
                    conn.query_row("SELECT place FROM erasure WHERE id = ?1", [id], |row| {
                        row.get(0)
                    })?;
                if begun == 0 && merge::begin_now(conn, now)? {
                    conn.execute("UPDATE erasure SET place = 1 WHERE id = ?1", params![id])?;
                    return Ok(true);
                }
                let more = merge::step(conn, now)?;
                Ok(more || begun == 0)
            })
        })
        .await
    }

    async fn overwrite(&self, id: i64) -> Result<Overwritten> {
        let forget = move |tx: &mut crate::store::rows::Tx<'_>| {
            let conn = tx.conn.of_sqlite()?;
            overwriting(conn, || erasing::forget_known(tx, id))
        };
        self.engine.writer.run(0, forget).await?;
        self.overwrite_unused().await
    }

    async fn overwrite_dropped(&self) -> Result<()> {
        let sql = "DELETE FROM meta WHERE key = ?1";
        let dropped = self.write_raw(move |conn| Ok(conn.execute(sql, [COPIES_DROPPED])?));
        if dropped.await? == 0 {
            return Ok(());
        }
        if let Overwritten::Later(_) = self.overwrite_unused().await? {
            let sql = "INSERT INTO meta (key, value) VALUES (?1, 1) ON CONFLICT DO NOTHING";
            let again = self.write_raw(move |conn| Ok(conn.execute(sql, [COPIES_DROPPED])?));
            again.await?;
        }
        Ok(())
    }
}

impl SqliteStore {
    /// Overwrites what is left of deleted rows in the database, and cuts its log.
    async fn overwrite_unused(&self) -> Result<Overwritten> {
        let scrubbed = match bug!("erased-stays-in-unused-space") {
            true => scrub::Scrubbed::Clean,
            false => self.scrub().await?,
        };
        let left = match scrubbed {
            scrub::Scrubbed::Clean => None,
            scrub::Scrubbed::Impossible => Some(
                "this build's SQLite cannot overwrite unused space of the database: stop the daemon and run \
                 `sqlite3 switchboard.db VACUUM`"
                    .to_owned(),
            ),
            scrub::Scrubbed::Held => {
                return Ok(Overwritten::Later(
                    "somebody reads an old state of the database (a backup): its write-ahead log would grow by what is overwritten"
                        .to_owned(),
                ));
            }
            scrub::Scrubbed::Moving => {
                return Ok(Overwritten::Later(
                    "pages of the database move faster than their unused space is overwritten"
                        .to_owned(),
                ));
            }
        };
        if bug!("erased-stays-in-the-log") {
            return Ok(Overwritten::Done { left });
        }
        let path = self.engine.path.clone();
        let cut = tokio::task::spawn_blocking(move || cut_log(&path)).await;
        let cut =
            cut.map_err(|error| StoreError::Unavailable(format!("cutting the log: {error}")))??;
        Ok(match cut {
            true => Overwritten::Done { left },
            false => Overwritten::Later(
                "somebody reads an old state of the database (a backup): its write-ahead log cannot be cut yet"
                    .to_owned(),
            ),
        })
    }
}

/// Copies the whole log into the database and cuts it to nothing; `false` where a reader is in the way.
fn cut_log(path: &std::path::Path) -> Result<bool> {
    let conn: Connection = open_writing(path)?;
    conn.busy_timeout(CUT_WAIT)?;
    let checkpoint = |how: &str| {
        conn.query_row(&format!("PRAGMA wal_checkpoint({how})"), [], |row| {
            row.get::<_, i64>(0)
        })
    };
    // Most of it without keeping the writer waiting.
    for how in ["PASSIVE", "TRUNCATE"] {
        match checkpoint(how) {
            Ok(busy) if how == "TRUNCATE" => return Ok(busy == 0),
            Ok(_) => {}
            Err(error) => {
                end_on_failed_fsync(&error);
                warn!(%error, "cutting the write-ahead log failed, trying again");
                return Ok(false);
            }
        }
    }
    Ok(false)
}
