//! Tells a database that was restored from a backup. Every lease is counted twice: in the database,
//! in its own commit, and then in a file beside it, before the first byte leaves. So a database
//! whose count is below the file's is older than what was sent, and a database without its file is
//! not where it was: nothing in it may leave by itself.
//!
//! What this cannot tell is the whole directory set back, file and all, as by a snapshot of the
//! machine: there somebody must say so.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use crate::store::name_of;
use crate::store::sql::{self, Conn, Optional as _, params};
use tracing::error;

pub const FILE: &str = "lineage";
const KEY: &str = "leases";

/// What the file beside a database says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Beside {
    Nothing,
    Unreadable,
    Count { installation: String, count: i64 },
}

/// The file beside the database that runs here.
pub struct Lineage {
    file: File,
    installation: String,
}

impl Lineage {
    /// Writes the file, durably: from now on it belongs to the database at this count.
    pub fn begin(data_dir: &Path, installation_key: &[u8], count: i64) -> io::Result<Self> {
        let file = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(data_dir.join(FILE))?;
        let installation = name_of(installation_key);
        let line = line_of(&installation, count);
        file.set_len(line.len() as u64)?;
        file.write_all_at(line.as_bytes(), 0)?;
        file.sync_all()?;
        File::open(data_dir)?.sync_all()?;
        Ok(Self { file, installation })
    }

    /// Notes a count that is committed. It needs no fsync: a file that is behind its database, after
    /// a power cut, accuses nobody.
    pub fn note(&self, count: i64) {
        let line = line_of(&self.installation, count);
        if let Err(error) = self.file.write_all_at(line.as_bytes(), 0) {
            error!(%error, "writing the lineage failed: a restored backup might not be noticed");
        }
    }
}

/// Of the same length for every count, so that it is written over in place.
fn line_of(installation: &str, count: i64) -> String {
    format!("switchboard lineage 1 {installation} {count:020}\n")
}

pub fn read(data_dir: &Path) -> io::Result<Beside> {
    match fs::read(data_dir.join(FILE)) {
        Ok(bytes) => Ok(parse(&bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Beside::Nothing),
        Err(error) => Err(error),
    }
}

fn parse(bytes: &[u8]) -> Beside {
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    let words: Vec<&str> = text.split_whitespace().collect();
    match words.as_slice() {
        ["switchboard", "lineage", "1", installation, count] => match count.parse() {
            Ok(count) => Beside::Count {
                installation: (*installation).to_owned(),
                count,
            },
            Err(_) => Beside::Unreadable,
        },
        _ => Beside::Unreadable,
    }
}

/// Whether a database that counted so many leases (`None`: it never ran) is not the one that ran
/// here last.
pub fn is_restored(counted: Option<i64>, beside: &Beside, installation: &str) -> bool {
    match (counted, beside) {
        (None, Beside::Nothing) => false,
        (
            Some(counted),
            Beside::Count {
                installation: of,
                count,
            },
        ) => of != installation || counted < *count,
        _ => true,
    }
}

/// The count to go on from: for a restored one above both, so that neither of the two that there
/// are now passes for the other.
pub fn above(counted: Option<i64>, beside: &Beside, restored: bool) -> i64 {
    let counted = counted.unwrap_or(0);
    let noted = match beside {
        Beside::Count { count, .. } => *count,
        Beside::Nothing | Beside::Unreadable => 0,
    };
    match restored {
        true => counted.max(noted) + 1,
        false => counted,
    }
}

/// How many leases the database counted; `None` for one that never ran.
pub fn counted(conn: Conn<'_>) -> sql::Result<Option<i64>> {
    conn.prepare("SELECT value FROM meta WHERE key = ?1")?
        .query_row([KEY], |row| row.get(0))
        .optional()
}

pub fn set(conn: Conn<'_>, count: i64) -> sql::Result<()> {
    conn.prepare(
        "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
    )?
    .execute(params![KEY, count])?;
    Ok(())
}

/// Counts a lease, in its own transaction.
pub fn count(conn: Conn<'_>) -> sql::Result<i64> {
    conn.prepare(
        "INSERT INTO meta (key, value) VALUES (?1, 1)
         ON CONFLICT (key) DO UPDATE SET value = meta.value + 1 RETURNING value",
    )?
    .query_row([KEY], |row| row.get(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_that_is_older_than_what_left_or_from_elsewhere_was_restored() {
        let beside = |installation: &str, count| Beside::Count {
            installation: installation.to_owned(),
            count,
        };
        let cases = [
            ("the first start", None, Beside::Nothing, false),
            ("started before", Some(7), beside("here", 7), false),
            // After a power cut the file may be behind; the database never is.
            ("the file is behind", Some(8), beside("here", 7), false),
            ("an older database", Some(6), beside("here", 7), true),
            ("another's database", Some(9), beside("there", 7), true),
            ("a database alone", Some(0), Beside::Nothing, true),
            ("a broken file", Some(7), Beside::Unreadable, true),
            ("a new database", None, beside("here", 7), true),
        ];
        for (what, counted, beside, restored) in cases {
            assert_eq!(is_restored(counted, &beside, "here"), restored, "{what}");
            let next = above(counted, &beside, restored);
            assert!(next >= counted.unwrap_or(0), "{what}");
            if let Beside::Count { count, .. } = &beside {
                assert_eq!(next > *count, restored || counted > Some(*count), "{what}");
            }
        }
    }

    #[test]
    fn the_file_is_written_over_in_place_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()).unwrap(), Beside::Nothing);
        let lineage = Lineage::begin(dir.path(), b"key", 9).unwrap();
        lineage.note(10);
        let written = Beside::Count {
            installation: name_of(b"key"),
            count: 10,
        };
        assert_eq!(read(dir.path()).unwrap(), written);
        for broken in [
            "",
            "switchboard lineage 1",
            "switchboard lineage 2 a 1",
            "x",
        ] {
            fs::write(dir.path().join(FILE), broken).unwrap();
            assert_eq!(read(dir.path()).unwrap(), Beside::Unreadable, "{broken}");
        }
    }
}
