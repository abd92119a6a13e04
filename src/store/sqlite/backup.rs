//! A copy of the database as it stands at one moment, taken while it is written to, and what such a copy has.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use crate::store::rows::migrations::Found;
use crate::store::{Result, StoreError, name_of};

use super::open::{found, open_reading};
use super::{database_path, lineage};

/// Pages that are copied and synced at a time, 8 MiB: what piles up to be written is what the daemon's own commits wait for.
const STEP_PAGES: i32 = 2 * 1024;
/// Steps between two lines that say how far it is.
const TOLD_EVERY: usize = 16;

/// What a copy has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    pub schema: Found,
    /// A name for the key of the installation.
    pub installation: String,
    pub contacts: u64,
    pub conversations: u64,
    pub messages: u64,
    /// Accepted and not decided.
    pub undecided: u64,
    /// Replies that have not left.
    pub unsent: u64,
    /// Digest and bytes of the files that rows name, by digest.
    pub files: Vec<([u8; 32], u64)>,
}

/// Copies it, durably, whoever writes to it meanwhile: of what is committed later the copy has nothing. Until it is done the
/// write-ahead log grows by all that is written. `tell`: pages that are left, and pages in all.
pub fn copy(database: &Path, to: &Path, tell: &dyn Fn(u64, u64)) -> Result<()> {
    let mut steps = 0;
    let mut told = move |left, all| {
        if steps % TOLD_EVERY == 0 {
            tell(left, all);
        }
        steps += 1;
    };
    copy_in_steps(database, to, STEP_PAGES, &mut told)
}

fn copy_in_steps(
    database: &Path,
    to: &Path,
    step_pages: i32,
    tell: &mut dyn FnMut(u64, u64),
) -> Result<()> {
    let source = open_reading(database)?;
    // One moment for all steps: else each commit between two of them has it begin again.
    source.execute_batch("BEGIN; SELECT 1 FROM meta LIMIT 1")?;
    let mut target = Connection::open(to)?;
    // It is nobody's until it is whole: it needs no journal, and is synced here.
    target.execute_batch("PRAGMA synchronous = OFF; PRAGMA journal_mode = OFF")?;
    let sums: String = source.query_row("PRAGMA page_sums", [], |row| row.get(0))?;
    if sums == "1" {
        // The first page says so, and others may be written before it (pages.c).
        target.execute_batch("PRAGMA user_version = 0")?;
    }
    let failed = |error: io::Error| StoreError::Unavailable(format!("{}: {error}", to.display()));
    let file = File::options().write(true).open(to).map_err(failed)?;
    let copying = Backup::new(&source, &mut target)?;
    while copying.step(step_pages)? != StepResult::Done {
        file.sync_data().map_err(failed)?;
        let at = copying.progress();
        tell(pages(at.remaining), pages(at.pagecount));
    }
    drop(copying);
    target.close().map_err(|(_, error)| error)?;
    file.sync_all().map_err(failed)
}

fn pages(count: i32) -> u64 {
    u64::from(count.unsigned_abs())
}

/// Whether every page, row and index of a copy is what it should be; what is wrong, in SQLite's words.
pub fn check(copy: &Path) -> Result<Option<String>> {
    let conn = open_copy(copy)?;
    let said: String = conn.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    Ok((said != "ok").then_some(said))
}

/// What a copy has.
pub fn held(copy: &Path) -> Result<Held> {
    let conn = open_copy(copy)?;
    let schema = found(&conn)?;
    if !schema.can_be_used() {
        return Err(StoreError::Unavailable(format!(
            "its tables have version {}: take the switchboard that made it",
            schema.version
        )));
    }
    let key: Vec<u8> = conn.query_row(
        "SELECT value FROM secret WHERE key = 'installation_key'",
        [],
        |row| row.get(0),
    )?;
    let count = |sql: &str| -> rusqlite::Result<u64> {
        let count: i64 = conn.query_row(sql, [], |row| row.get(0))?;
        Ok(count.unsigned_abs())
    };
    Ok(Held {
        schema,
        installation: name_of(&key),
        contacts: count("SELECT count(*) FROM contact")?,
        conversations: count("SELECT count(*) FROM conversation")?,
        messages: count("SELECT count(*) FROM message")?,
        undecided: count(
            "SELECT count(*) FROM log WHERE record > (SELECT coalesce(min(position), 0) FROM position)",
        )?,
        unsent: count("SELECT count(*) FROM outbox")?,
        files: named_files(&conn)?,
    })
}

/// Files that are a database, or the rest of one: what is put beside a log that is another's would be changed by it.
pub fn left_of_a_database(data_dir: &Path) -> Vec<PathBuf> {
    let database = database_path(data_dir);
    let beside = ["", "-wal", "-shm"].map(|end| {
        let mut name = database.clone().into_os_string();
        name.push(end);
        PathBuf::from(name)
    });
    beside.into_iter().filter(|path| path.exists()).collect()
}

/// Has the database that comes here pass for a restored one, whatever ran here before.
pub fn forget_lineage(data_dir: &Path) -> io::Result<()> {
    match fs::remove_file(data_dir.join(lineage::FILE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Whether a row of the database as it is now names this file.
pub fn names_file(database: &Path, sha256: &[u8; 32]) -> Result<bool> {
    let named = named_files(&open_reading(database)?)?;
    Ok(named.iter().any(|(name, _)| name == sha256))
}

/// Files that rows name: captured bytes, attachments, uploads. In order.
pub fn named_files(conn: &Connection) -> rusqlite::Result<Vec<([u8; 32], u64)>> {
    let mut named = conn.prepare(
        "SELECT sha256, bytes_len FROM raw WHERE sha256 IS NOT NULL
         UNION SELECT sha256, bytes_len FROM blob WHERE content IS NULL
         UNION SELECT sha256, bytes_len FROM upload WHERE content IS NULL ORDER BY 1",
    )?;
    let files = named.query_map([], |row| {
        Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs()))
    })?;
    files.collect()
}

/// Nobody writes to a copy, and nothing is made beside it.
fn open_copy(path: &Path) -> Result<Connection> {
    let path = path.to_str().ok_or_else(|| {
        StoreError::Unavailable(format!("{}: a path that is not UTF-8", path.display()))
    })?;
    let escaped: String =
        percent_encoding::utf8_percent_encode(path, percent_encoding::NON_ALPHANUMERIC).to_string();
    let uri = format!("file:{}?immutable=1", escaped.replace("%2F", "/"));
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    Ok(Connection::open_with_flags(uri, flags)?)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::super::open::open_writing;
    use super::*;

    #[test]
    fn a_copy_is_of_the_moment_it_was_begun_whatever_is_written_meanwhile() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from.db"), dir.path().join("to.db"));
        let writer = open_writing(&from).unwrap();
        let tables = "CREATE TABLE meta (key TEXT, value INTEGER); CREATE TABLE said (text BLOB);";
        writer.execute_batch(tables).unwrap();
        let say = || {
            let row = "INSERT INTO said (text) VALUES (randomblob(3000))";
            writer.execute(row, []).unwrap();
        };
        (0..500).for_each(|_| say());
        let steps = Cell::new(0);
        let mut meanwhile = |_, _| {
            say();
            steps.set(steps.get() + 1);
            assert!(steps.get() < 100, "it begins again and again");
        };
        copy_in_steps(&from, &to, 10, &mut meanwhile).unwrap();
        assert!(steps.get() > 20);
        assert_eq!(check(&to).unwrap(), None);
        let count = |path: &Path| -> i64 {
            let conn = open_copy(path).unwrap();
            let count = "SELECT count(*) FROM said";
            conn.query_row(count, [], |row| row.get(0)).unwrap()
        };
        assert_eq!(count(&to), 500);
    }

    #[test]
    fn a_copy_that_is_damaged_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from.db"), dir.path().join("to?%20.db"));
        let writer = open_writing(&from).unwrap();
        let made = "CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER);
                    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)
                    INSERT INTO meta SELECT 'key-' || i, i FROM n";
        writer.execute_batch(made).unwrap();
        copy(&from, &to, &|_, _| {}).unwrap();
        assert_eq!(check(&to).unwrap(), None);
        let mut bytes = fs::read(&to).unwrap();
        let at = bytes
            .windows(8)
            .position(|found| found == b"key-4321")
            .unwrap();
        bytes[at] = b'X';
        fs::write(&to, bytes).unwrap();
        assert!(check(&to).unwrap().is_some());
    }
}
