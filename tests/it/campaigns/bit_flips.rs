//! A bit is not what was written, over and over, in the database, its write-ahead log and the files of messages: nothing of it is
//! ever given out as good, and no start panics.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::TryStreamExt;
use rusqlite::Connection;
use rusqlite::types::ValueRef;
use serde_json::Value;
use switchboard::blobs::{Blobs, unhex};
use switchboard::store::StoreError;
use switchboard::store::sqlite::SqliteStore;

use super::crowd::Crowd;
use super::{Slices, full};
use crate::daemon::process::Installation;
use crate::support::random;

/// Customers and agents write for so long, and what they wrote is in the database; then for so long, and it is in the log.
const IN_THE_DATABASE: Duration = Duration::from_millis(1_500);
const IN_THE_LOG: Duration = Duration::from_millis(300);

#[test]
fn a_bit_that_was_not_written_is_never_given_out_as_good() {
    let slices = Slices {
        name: "bit-flip",
        count: 10,
        seed: 5_701,
        trials: if full() { 1_000 } else { 60 },
    };
    slices.run(|seed| slice(seed, slices.trials));
}

fn slice(seed: u64, flips: usize) -> Vec<String> {
    let crowd = Crowd::gather(seed, |_| ());
    let data = crowd.daemon.dir.path().join("data");
    let write = |length| crowd.while_they_write(|| std::thread::sleep(length));
    write(IN_THE_DATABASE);
    assert!(crowd.daemon.terminate(), "an orderly stop");
    copy_the_log(&data);
    crowd.daemon.run();
    write(IN_THE_LOG);
    crowd.daemon.kill_9();
    let whole = data.with_extension("whole");
    fs::rename(&data, &whole).expect("another name");

    let mut counts = Counts::default();
    let mut violations = stores(&whole, flips, seed, &mut counts);
    violations.extend(daemons(&crowd, &whole, flips.div_ceil(50), seed));
    println!("bit-flip: {counts:?}");
    if counts.found == 0 || counts.put_right == 0 || counts.harmless == 0 {
        violations.push(format!("what was to happen never did: {counts:?}"));
    }
    violations
}

/// Copies the whole log into the database, which the daemon would do once there is more of it.
fn copy_the_log(data: &Path) {
    let conn = Connection::open(data.join("switchboard.db")).expect("the database");
    let busy = conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| {
        row.get::<_, i64>(0)
    });
    assert_eq!(busy.expect("a checkpoint"), 0, "nobody reads it");
}

/// Flips in copies that are opened as a start does, and read to the last row.
fn stores(whole: &Path, flips: usize, mut chance: u64, counts: &mut Counts) -> Vec<String> {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let _inside = runtime.enter();
    let right = runtime.block_on(read(copy_of(whole).path()));
    let right = right.expect("what nothing happened to can be read");
    let mut violations = Vec::new();
    for number in 0..flips {
        let copy = copy_of(whole);
        let flip = Flip::by_chance(whole, &mut chance);
        let is_file = flip.within.starts_with("blobs");
        if is_file {
            let to = copy.path().join(&flip.within);
            fs::create_dir_all(to.parent().expect("a folder")).expect("its folder");
            fs::copy(whole.join(&flip.within), to).expect("a copy");
        }
        let wrong = flip.make(copy.path());
        let done = catch_unwind(AssertUnwindSafe(|| match is_file {
            true => runtime.block_on(read_file(copy.path(), &flip.within)),
            false => runtime
                .block_on(read(copy.path()))
                .map(|found| found == right),
        }));
        match done {
            Ok(Ok(true)) if flip.byte_in(copy.path()) == Some(wrong) => counts.harmless += 1,
            Ok(Ok(true)) => counts.put_right += 1,
            Ok(Err(said)) if said.contains("damaged") || said.contains("is not what") => {
                counts.found += 1;
            }
            Ok(Ok(false)) => violations.push(format!("{number}: {flip:?} was given out as good")),
            Ok(Err(said)) => violations.push(format!("{number}: {flip:?}: {said}")),
            Err(_) => violations.push(format!("{number}: {flip:?} made it panic")),
        }
    }
    violations
}

/// Flips under a daemon: it starts or says why not, and shows nothing that nobody said.
fn daemons(crowd: &Crowd, whole: &Path, flips: usize, mut chance: u64) -> Vec<String> {
    let mut violations = Vec::new();
    let data = whole.with_extension("");
    let show = |known: Option<&BTreeSet<String>>| {
        let runs = crowd.daemon.runs();
        let shown = if runs {
            shown(&crowd.daemon, &crowd.token)
        } else {
            Ok(BTreeSet::new())
        };
        if runs {
            crowd.daemon.kill_9();
        }
        let strange: Option<String> = match (&shown, known) {
            (Ok(shown), Some(known)) => shown.difference(known).next().cloned(),
            _ => None,
        };
        (runs, shown, strange)
    };
    copy_dir(whole, &data);
    let known = show(None).1.expect("what nothing happened to is shown");
    for number in 0..flips {
        fs::remove_dir_all(&data).expect("the last one's is removed");
        copy_dir(whole, &data);
        let flip = Flip::by_chance(whole, &mut chance);
        flip.make(&data);
        let before = crowd.daemon.log_text().len();
        let (runs, shown, strange) = show(Some(&known));
        let log = crowd.daemon.log_text().split_off(before);
        let said = log.contains("damaged") || flip.within.starts_with("blobs");
        let what = match (runs, shown) {
            _ if log.contains("panicked") => "panicked",
            (false, _) if !said => "ended without saying why",
            (true, Err(_)) if !said => "refuses, and does not say why",
            (true, Ok(_)) if strange.is_some() => "shows what nobody said",
            _ => continue,
        };
        violations.push(format!("daemon {number}: {flip:?}: it {what}; {strange:?}"));
    }
    violations
}

/// Every text that is shown; the status of a request that was refused.
fn shown(daemon: &Installation, token: &str) -> Result<BTreeSet<String>, u16> {
    let page = |path: &str| {
        let answer = daemon.http.get(daemon.url(path)).bearer_auth(token).send();
        let answer = answer.expect("an answer");
        match answer.status().as_u16() {
            200 => Ok(answer.json::<Value>().expect("JSON")),
            status => Err(status),
        }
    };
    let mut texts = BTreeSet::new();
    let conversations = page("/v1/conversations?limit=100")?;
    for one in conversations["items"].as_array().expect("a list") {
        let id = one["id"].as_str().expect("an id");
        let messages = page(&format!("/v1/conversations/{id}/messages?limit=100"))?;
        let messages = messages["items"].as_array().expect("a list").iter();
        texts.extend(messages.map(|message| message["text"].to_string()));
    }
    Ok(texts)
}

/// What flips came to.
#[derive(Debug, Default)]
struct Counts {
    found: usize,
    put_right: usize,
    /// Nobody ever reads it.
    harmless: usize,
}

/// A bit of a file of a data directory.
#[derive(Debug)]
struct Flip {
    within: PathBuf,
    byte: u64,
    bit: u32,
}

impl Flip {
    /// Of the database, its log or a file, as often whatever their lengths.
    fn by_chance(data: &Path, chance: &mut u64) -> Self {
        // Beside them are those that were not finished, which nobody reads.
        let files = files_below(&data.join("blobs"));
        let files: Vec<_> = files
            .iter()
            .filter(|path| digest_of(path).is_some())
            .collect();
        let path = match random(chance) % 10 {
            0..4 => data.join("switchboard.db"),
            4..8 => data.join("switchboard.db-wal"),
            _ => files[random(chance) as usize % files.len()].clone(),
        };
        let length = fs::metadata(&path).expect("a file").len();
        Self {
            within: path.strip_prefix(data).expect("a file in it").to_owned(),
            byte: random(chance) % length,
            bit: (random(chance) % 8) as u32,
        }
    }

    /// The byte that is wrong from now on.
    fn make(&self, data: &Path) -> u8 {
        let wrong = self.byte_in(data).expect("a byte") ^ (1 << self.bit);
        let file = File::options().write(true).open(data.join(&self.within));
        let written = file.expect("a file").write_all_at(&[wrong], self.byte);
        written.expect("another byte");
        wrong
    }

    fn byte_in(&self, data: &Path) -> Option<u8> {
        let mut one = [0];
        let file = File::open(data.join(&self.within)).ok()?;
        file.read_exact_at(&mut one, self.byte).ok()?;
        Some(one[0])
    }
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let copy = to.join(path.file_name().expect("a name"));
        match path.is_dir() {
            true => copy_dir(&path, &copy),
            false if path.is_file() => drop(fs::copy(&path, copy).expect("a copy")),
            // Its socket is made anew.
            false => {}
        }
    }
}

/// A copy of the database and its log, as a start finds them.
fn copy_of(data: &Path) -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let copy = match memory.is_dir() {
        true => tempfile::tempdir_in(memory),
        false => tempfile::tempdir(),
    };
    let copy = copy.expect("a directory");
    for name in ["switchboard.db", "switchboard.db-wal"] {
        fs::copy(data.join(name), copy.path().join(name)).expect("a copy");
    }
    copy
}

/// The digest that a file is named by.
fn digest_of(path: &Path) -> Option<[u8; 32]> {
    unhex(path.file_name()?.to_str()?)
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => files.extend(files_below(&path)),
            false => files.push(path),
        }
    }
    files.sort();
    files
}

/// Opens the store as a start does, and reads every row and every index.
async fn read(data: &Path) -> Result<u64, String> {
    let store = SqliteStore::open(data, &[], &[]).map_err(|error| error.to_string())?;
    let read = store.read(|conn, _| digest(conn)).await;
    read.map_err(|error| error.to_string())
}

fn digest(conn: &Connection) -> Result<u64, StoreError> {
    let mut all = DefaultHasher::new();
    let mut tables = conn.prepare(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage > 0 ORDER BY name",
    )?;
    let tables = tables.query_map([], |row| row.get(0))?;
    for table in tables.collect::<rusqlite::Result<Vec<String>>>()? {
        table.hash(&mut all);
        let mut rows = conn.prepare(&format!("SELECT * FROM {table}"))?;
        let width = rows.column_count();
        let mut rows = rows.query([])?;
        while let Some(row) = rows.next()? {
            for column in 0..width {
                match row.get_ref(column)? {
                    ValueRef::Null => 0.hash(&mut all),
                    ValueRef::Integer(value) => value.hash(&mut all),
                    ValueRef::Real(value) => value.to_bits().hash(&mut all),
                    ValueRef::Text(value) | ValueRef::Blob(value) => value.hash(&mut all),
                }
            }
        }
    }
    let said: String = conn.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    match said.as_str() {
        "ok" => Ok(all.finish()),
        _ => Err(StoreError::Unavailable(format!("damaged: {said}"))),
    }
}

/// Reads a file of the blob store whole and in part; whether it is what it was in all of them.
async fn read_file(data: &Path, within: &Path) -> Result<bool, String> {
    let sha256 = digest_of(within).expect("a digest");
    let blobs = Blobs::open(&data.join("blobs")).map_err(|error| error.to_string())?;
    let found = blobs
        .find(sha256)
        .await
        .map_err(|error| error.to_string())?;
    let found = found.ok_or("the file is gone")?;
    let half = found.bytes_len() / 2;
    let mut said = Vec::new();
    for (from, count) in [
        (0, found.bytes_len()),
        (0, half),
        (half, found.bytes_len() - half),
    ] {
        let pieces: Result<Vec<_>, _> = found.clone().read(from, count).try_collect().await;
        match pieces {
            Ok(_) => return Ok(false),
            Err(error) => said.push(error.to_string()),
        }
    }
    Err(said.join("; "))
}
