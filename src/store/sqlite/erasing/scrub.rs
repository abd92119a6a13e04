//! What is deleted is overwritten where it stands (`secure_delete`), but copies of it may stand elsewhere: a page that
//! was split leaves those of its rows that went to the new page in its own unused middle, and pages that were freed
//! otherwise keep what they had. So all pages are looked at, on a connection that reads; unused bytes that are not
//! zero are overwritten by the writer, each page only while it is what was looked at. Nothing that SQLite reads
//! changes. `VACUUM` would do the same, and have everybody wait for it.
//!
//! The layout is of <https://sqlite.org/fileformat2.html>: the freelist, b-tree pages, and overflow pages.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::store::sqlite::SqliteStore;
use crate::store::sqlite::open::open_reading;
use crate::store::{Result, StoreError};

/// Pages that one transaction of the writer overwrites.
const STEP_PAGES: usize = 64;
/// Looks at what moved while it was to be overwritten, and rounds over free pages.
const ROUNDS_MAX: usize = 8;
/// Pages that one look remembers, some MB; where there are more, all is looked at again.
const DIRTY_MAX: usize = 64 * 1024;
/// Looks that find so many.
const LOOKS_MAX: usize = 1_024;
/// The write-ahead log is let grow to so much by overwriting: at its limit intake would refuse.
const LOG_BYTES: u64 = 128 * 1024 * 1024;
const LOOK_AT_LOG: Duration = Duration::from_millis(50);
/// How long overwriting waits for the log to be copied, before it begins anew later.
const LOG_WAIT: Duration = Duration::from_secs(60);

/// What overwriting came to.
pub(super) enum Scrubbed {
    Clean,
    /// Some pages always moved.
    Moving,
    /// Something keeps the write-ahead log from being copied, and it would grow.
    Held,
    /// This SQLite gives no pages.
    Impossible,
}

/// A page with something in its unused bytes, and what it looked like.
#[derive(Clone)]
struct Dirty {
    page: i64,
    kind: Kind,
    hash: u64,
    /// Of an overflow page: the page that says how long its row is.
    owner: Option<(i64, u64)>,
}

#[derive(Clone, Copy)]
enum Kind {
    Tree,
    /// With so many bytes of a row.
    Overflow(usize),
}

impl SqliteStore {
    /// Overwrites what is found in unused bytes of all pages.
    pub(super) async fn scrub(&self) -> Result<Scrubbed> {
        let mut only: Option<HashSet<i64>> = None;
        let mut rounds = 0;
        for _ in 0..LOOKS_MAX {
            let path = self.engine.path.clone();
            let found = tokio::task::spawn_blocking(move || look(&path, only.as_ref())).await;
            let found = found.map_err(|error| StoreError::Unavailable(error.to_string()))??;
            let Some(dirty) = found else {
                return Ok(Scrubbed::Impossible);
            };
            let is_all = dirty.len() < DIRTY_MAX;
            let mut moved = HashSet::new();
            for some in dirty.chunks(STEP_PAGES) {
                if !self.log_is_short().await {
                    return Ok(Scrubbed::Held);
                }
                let some = some.to_vec();
                moved.extend(self.write_raw(move |conn| overwrite(conn, &some)).await?);
            }
            if is_all && moved.is_empty() {
                self.scrub_free().await?;
                return Ok(Scrubbed::Clean);
            }
            rounds += usize::from(is_all);
            if rounds == ROUNDS_MAX {
                break;
            }
            only = is_all.then_some(moved);
        }
        Ok(Scrubbed::Moving)
    }

    /// Waits until the log has room for more of what nobody is in a hurry for.
    async fn log_is_short(&self) -> bool {
        let is_short = async {
            while self.engine.state.wal_bytes.load(Ordering::Acquire) >= LOG_BYTES {
                tokio::time::sleep(LOOK_AT_LOG).await;
            }
        };
        tokio::time::timeout(LOG_WAIT, is_short).await.is_ok()
    }

    /// Pages that nothing is on.
    async fn scrub_free(&self) -> Result<()> {
        for _ in 0..ROUNDS_MAX {
            let (mut trunk, mut written) = (0, 0);
            loop {
                let (more, some) = self.write_raw(move |conn| free_pages(conn, trunk)).await?;
                written += some;
                trunk += 1;
                if !more {
                    break;
                }
            }
            if written == 0 {
                break;
            }
        }
        Ok(())
    }
}

/// Every page with something in its unused bytes, or of these alone; `None` where pages are not to be had.
fn look(path: &Path, only: Option<&HashSet<i64>>) -> Result<Option<Vec<Dirty>>> {
    let conn = open_reading(path)?;
    let there: Option<i64> = conn
        .query_row(
            "SELECT 1 FROM pragma_module_list WHERE name = 'sqlite_dbpage'",
            [],
            |row| row.get(0),
        )
        .optional()?;
    if there.is_none() {
        return Ok(None);
    }
    let mut trees = conn.prepare("SELECT name FROM sqlite_master WHERE rootpage > 0")?;
    let trees = trees.query_map([], |row| row.get::<_, String>(0))?;
    let trees: Vec<String> = trees.collect::<rusqlite::Result<_>>()?;
    let mut dirty = Vec::new();
    for tree in trees {
        look_at(&conn, &tree, only, &mut dirty)?;
    }
    // Pages of long rows first: those that these belong to are still what was looked at then.
    dirty.sort_by_key(|one: &Dirty| one.owner.is_none());
    Ok(Some(dirty))
}

fn look_at(
    conn: &Connection,
    tree: &str,
    only: Option<&HashSet<i64>>,
    dirty: &mut Vec<Dirty>,
) -> Result<()> {
    let mut pages =
        conn.prepare("SELECT path, pageno, pagetype, payload FROM dbstat WHERE name = ?1")?;
    let mut rows = pages.query([tree])?;
    // Those that pages of long rows belong to: every inner one, and the leaf that came last.
    let mut inner: HashMap<String, (i64, u64)> = HashMap::new();
    let mut leaf = (String::new(), (0, 0));
    while let Some(row) = rows.next()? {
        if dirty.len() >= DIRTY_MAX {
            break;
        }
        let (path, page, pagetype, payload): (String, i64, String, i64) =
            (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
        let kind = match pagetype.as_str() {
            "overflow" => Kind::Overflow(usize::try_from(payload).unwrap_or(usize::MAX - 4)),
            _ => Kind::Tree,
        };
        let data = read(conn, page)?;
        let hash = hash(&data);
        match (kind, pagetype.as_str()) {
            (Kind::Tree, "leaf") => leaf = (path.clone(), (page, hash)),
            (Kind::Tree, _) => drop(inner.insert(path.clone(), (page, hash))),
            (Kind::Overflow(_), _) => {}
        }
        if only.is_some_and(|only| !only.contains(&page)) || cleaned(&data, page, kind).is_none() {
            continue;
        }
        let owner = match kind {
            Kind::Tree => None,
            Kind::Overflow(_) => {
                let of = path.rsplit_once('/').map(|(of, _)| format!("{of}/"));
                let of = of.unwrap_or_default();
                let known = inner.get(&of).copied();
                let known = known.or((leaf.0 == of).then_some(leaf.1));
                Some(known.ok_or_else(|| {
                    StoreError::Poisoned(format!("nobody has page {page} of {tree} ({path})"))
                })?)
            }
        };
        dirty.push(Dirty {
            page,
            kind,
            hash,
            owner,
        });
    }
    Ok(())
}

/// Overwrites those that are what they were; the others.
fn overwrite(conn: &Connection, some: &[Dirty]) -> Result<Vec<i64>> {
    let mut moved = Vec::new();
    for dirty in some {
        let data = read(conn, dirty.page)?;
        let is_same = hash(&data) == dirty.hash;
        let has_owner = match dirty.owner {
            Some((owner, seen)) => hash(&read(conn, owner)?) == seen,
            None => true,
        };
        if !is_same || !has_owner {
            moved.push(dirty.page);
        } else if let Some(clean) = cleaned(&data, dirty.page, dirty.kind) {
            write(conn, dirty.page, &clean)?;
        }
    }
    Ok(moved)
}

/// The page with zeros where SQLite reads nothing; `None` where it has them already, or is not as it should be.
fn cleaned(data: &[u8], page: i64, kind: Kind) -> Option<Vec<u8>> {
    let mut clean = data.to_vec();
    match kind {
        Kind::Overflow(used) => clean.get_mut(4 + used..)?.fill(0),
        Kind::Tree => {
            let header = if page == 1 { 100 } else { 0 };
            let kind = *data.get(header)?;
            let header_bytes = match kind {
                2 | 5 => 12,
                10 | 13 => 8,
                _ => return None,
            };
            let cells = two(data, header + 3)?;
            let content = match two(data, header + 5)? {
                0 => 65_536,
                at => at,
            };
            let from = header + header_bytes + 2 * cells;
            clean.get_mut(from..content)?.fill(0);
            let mut block = two(data, header + 1)?;
            while block != 0 {
                let (next, bytes) = (two(data, block)?, two(data, block + 2)?);
                clean.get_mut(block + 4..block + bytes)?.fill(0);
                if next != 0 && next <= block {
                    return None;
                }
                block = next;
            }
        }
    }
    (clean != data).then_some(clean)
}

/// Overwrites the pages that the `trunk`th page of the list of free ones names; whether there is another behind it,
/// and how many were written.
fn free_pages(conn: &Connection, trunk: usize) -> Result<(bool, usize)> {
    let mut page = four(&read(conn, 1)?, 32);
    for _ in 0..trunk {
        if page == 0 {
            break;
        }
        page = four(&read(conn, page)?, 0);
    }
    if page == 0 {
        return Ok((false, 0));
    }
    let data = read(conn, page)?;
    let (next, count) = (four(&data, 0), four(&data, 4));
    let count = usize::try_from(count).unwrap_or(0);
    let mut written = 0;
    for place in 0..count {
        let leaf = four(&data, 8 + 4 * place);
        let free = read(conn, leaf)?;
        if free.iter().any(|byte| *byte != 0) {
            write(conn, leaf, &vec![0; free.len()])?;
            written += 1;
        }
    }
    let mut clean = data.clone();
    if let Some(rest) = clean.get_mut(8 + 4 * count..) {
        rest.fill(0);
    }
    if clean != data {
        write(conn, page, &clean)?;
        written += 1;
    }
    Ok((next != 0, written))
}

fn read(conn: &Connection, page: i64) -> Result<Vec<u8>> {
    let mut asked = conn.prepare_cached("SELECT data FROM sqlite_dbpage WHERE pgno = ?1")?;
    Ok(asked.query_row([page], |row| row.get(0))?)
}

fn write(conn: &Connection, page: i64, data: &[u8]) -> Result<()> {
    conn.prepare_cached("UPDATE sqlite_dbpage SET data = ?1 WHERE pgno = ?2")?
        .execute(params![data, page])?;
    Ok(())
}

fn hash(data: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    data.hash(&mut hasher);
    hasher.finish()
}

fn two(data: &[u8], at: usize) -> Option<usize> {
    let bytes = data.get(at..at + 2)?;
    Some(usize::from(bytes[0]) << 8 | usize::from(bytes[1]))
}

fn four(data: &[u8], at: usize) -> i64 {
    let bytes = data.get(at..at + 4).unwrap_or(&[0; 4]);
    bytes
        .iter()
        .fold(0, |value, byte| value << 8 | i64::from(*byte))
}
