//! Copies the write-ahead log into the database away from the writer's thread.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use rusqlite::Connection;
use tracing::warn;

use crate::store::{Result, StoreError};

use super::writer::{WeakWriter, WriterState, end_on_failed_fsync};

/// Pages that may be left to copy when the writer starts the log anew: some milliseconds.
const RESTART_PAGES_MAX: i64 = 2_000;
/// The thread has nothing to wait for: the log grows with every commit, and how long it is matters
/// only now and then.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Limits of the write-ahead log.
#[derive(Debug, Clone, Copy)]
pub struct WalLimits {
    /// From here on the checkpointer copies the log into the database.
    pub checkpoint_bytes: u64,
    /// From here on intake refuses: something keeps the log from being copied.
    pub bytes_max: u64,
}

impl Default for WalLimits {
    fn default() -> Self {
        Self {
            checkpoint_bytes: 32 * 1024 * 1024,
            bytes_max: 1024 * 1024 * 1024,
        }
    }
}

/// Copies the log while `alive`, and asks the writer to start it anew once little is left to copy.
pub fn start(
    path: PathBuf,
    wal: WalLimits,
    state: Arc<WriterState>,
    writer: WeakWriter,
    alive: Weak<AtomicBool>,
) -> Result<()> {
    let conn = Connection::open(&path)?;
    conn.busy_timeout(Duration::ZERO)?;
    let work = move || {
        while alive.strong_count() > 0 {
            std::thread::sleep(LOOK_EVERY);
            // What the log holds now; its file keeps its size when it is started anew.
            let bytes = state.wal_bytes.load(Ordering::Acquire);
            metrics::gauge!("switchboard_wal_bytes").set(bytes as f64);
            state
                .wal_full
                .store(bytes >= wal.bytes_max, Ordering::Release);
            let copied: rusqlite::Result<(i64, i64)> = match bytes >= wal.checkpoint_bytes {
                true => conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
                    Ok((row.get(1)?, row.get(2)?))
                }),
                false => continue,
            };
            match copied {
                // Little is left for the writer to copy when it starts the log anew.
                Ok((in_log, copied)) if in_log - copied <= RESTART_PAGES_MAX => {
                    state.restart_wal.store(true, Ordering::Release);
                    writer.wake();
                }
                Ok(_) => {}
                Err(error) => {
                    end_on_failed_fsync(&error);
                    warn!(%error, "checkpointing failed, trying again");
                }
            }
        }
    };
    std::thread::Builder::new()
        .name("store-checkpoint".to_owned())
        .spawn(work)
        .map_err(|error| StoreError::Unavailable(format!("starting the checkpointer: {error}")))?;
    Ok(())
}
