//! Forgetting, and what SQLite needs for it: pages that are overwritten, and an index that is merged.

use async_trait::async_trait;
use rusqlite::Connection;

use crate::store::Result;
use crate::store::retention::{Forgets, Forgotten, Periods};
use crate::store::rows::retention::forget;

use super::SqliteStore;
use super::search::merge;

#[async_trait]
impl Forgets for SqliteStore {
    async fn forget(&self, periods: Periods, messages: u32, now: i64) -> Result<Forgotten> {
        self.write_raw(move |conn| {
            overwriting(conn, || {
                let mut gone = forget(conn.into(), &periods, messages, now)?;
                if gone.messages + gone.contacts > 0 {
                    merge::ask(conn)?;
                }
                if !gone.more {
                    gone.more = merge::step(conn, now)?;
                }
                Ok(gone)
            })
        })
        .await
    }
}

/// Pages that are freed are overwritten, too. Elsewhere they are not, to spare the writing.
pub(super) fn overwriting<T>(conn: &Connection, work: impl FnOnce() -> Result<T>) -> Result<T> {
    conn.execute_batch("PRAGMA secure_delete = ON")?;
    let done = work();
    conn.execute_batch("PRAGMA secure_delete = FAST")?;
    done
}
