//! What a disk changed: found before it is read as good, told as a state. Pages have sums (pages.c), the log has its
//! own (wal.rs). A damaged page fails what needs it and nothing else; a damaged log fails the start, because SQLite would
//! go on without what follows the damage.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use rusqlite::{Connection, ErrorCode, OptionalExtension as _, ffi};
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::store::{Result, StoreError};

use super::wal::{self, Found};

/// In the header of a database whose pages have sums ("SwBd"); SQLite leaves it to its users.
const APPLICATION_ID: i32 = 0x5377_4264;
const SUM_BYTES: u8 = 8;
/// Bits of one log that are put right: more of them are no accident.
const BITS_MAX: usize = 16;
const WHAT_TO_DO: &str =
    "look at the disk, and restore a backup into an empty data directory (switchboard restore)";

/// The first damage that this process met.
static FOUND: LazyLock<watch::Sender<Option<String>>> = LazyLock::new(|| watch::Sender::new(None));

/// Damage of the database that this process met.
pub fn found() -> watch::Receiver<Option<String>> {
    FOUND.subscribe()
}

/// What a failure says of the disk; `None` where it says something else. It is told from then on.
pub(super) fn note(error: &rusqlite::Error) -> Option<String> {
    let what = match error.sqlite_error()?.extended_code {
        ffi::SQLITE_IOERR_DATA => "a page is not what was written",
        _ if error.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt) => {
            "a page is not what it should be"
        }
        _ => return None,
    };
    let reason = format!("the database is damaged: {what}: {WHAT_TO_DO}");
    let is_first = FOUND.send_if_modified(|found| {
        let is_first = found.is_none();
        found.get_or_insert_with(|| reason.clone());
        is_first
    });
    if is_first {
        error!("{reason}");
    }
    Some(reason)
}

/// Looks at the files of a database that nobody has open, before SQLite does. A bit of the log that is wrong is put right.
pub(super) fn look(database: &Path) -> Result<()> {
    let trouble = |path: &Path, error: io::Error| {
        StoreError::Unavailable(format!("{}: {error}", path.display()))
    };
    if header_is_damaged(database).map_err(|error| trouble(database, error))? {
        return Err(StoreError::Unavailable(format!(
            "{}: its header is damaged: {WHAT_TO_DO}",
            database.display()
        )));
    }
    let log = log_of(database);
    if bug!("log-not-looked-at") {
        return Ok(());
    }
    for _ in 0..BITS_MAX {
        match wal::look(&log).map_err(|error| trouble(&log, error))? {
            Found::Whole => return sync(&log).map_err(|error| trouble(&log, error)),
            Found::Flipped { byte, bit } => {
                warn!(byte, bit, file = %log.display(), "a bit of the write-ahead log was not what was written, and is put right: look at the disk");
                wal::put_right(&log, byte, bit).map_err(|error| trouble(&log, error))?;
            }
            Found::Damaged { frame } => return Err(damaged(&log, frame)),
        }
    }
    Err(damaged(&log, 0))
}

/// A commit that a killed process had written and not synced is there for the next one, and would be followed by others; and
/// what was in it would be acknowledged to who sends it again. From here on it stays.
fn sync(log: &Path) -> io::Result<()> {
    match File::open(log) {
        Ok(file) => file.sync_all(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn damaged(log: &Path, frame: u64) -> StoreError {
    StoreError::Unavailable(format!(
        "{}: frame {frame} is damaged, and what was acknowledged after it cannot be read; nothing was changed: {WHAT_TO_DO}",
        log.display()
    ))
}

fn log_of(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

/// Whether a database that says it has sums says, too, that it has no place for them: then none would be looked at. All
/// else of the header is under the sum of the first page.
fn header_is_damaged(database: &Path) -> io::Result<bool> {
    let mut header = Vec::new();
    match File::open(database) {
        Ok(file) => file.take(100).read_to_end(&mut header)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let has_sums = header.get(68..72) == Some(&APPLICATION_ID.to_be_bytes());
    Ok(has_sums && header.get(20) != Some(&SUM_BYTES))
}

/// Gives the pages of a database sums. One of an earlier version is written anew for it, once.
pub(super) fn sum_up(conn: &Connection) -> Result<()> {
    let id: i32 = conn.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    if id == APPLICATION_ID {
        return Ok(());
    }
    let has_sums: Option<String> = conn
        .query_row("PRAGMA page_sums", [], |row| row.get(0))
        .optional()?;
    let is_anew = match has_sums.as_deref() {
        Some("1") => false,
        Some(_) => {
            info!("the database is written anew, once: its pages get sums");
            conn.execute_batch("VACUUM")?;
            true
        }
        None => {
            return Err(StoreError::Unavailable(
                "this build has no sums of pages: it was linked without src/store/sqlite/pages.c"
                    .to_owned(),
            ));
        }
    };
    conn.execute_batch(&format!("PRAGMA application_id = {APPLICATION_ID}"))?;
    if is_anew {
        conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    }
    Ok(())
}
