//! Attachments and captured mails: small ones inline in the store, large ones as files that are
//! synced before the commit that refers to them, in a directory or in an S3-compatible store. Files
//! are named by content, never by what a sender calls them.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::{digest, rand};
use bytes::Bytes;
use tracing::error;

use crate::bus::NewBlob;

#[cfg(feature = "postgres")]
mod bucket;
mod erasing;
mod incoming;
mod reading;
mod sweep;

#[cfg(feature = "postgres")]
pub use bucket::{Bucket, Settings as BucketSettings, Trouble};
pub use erasing::erase;
pub use incoming::Incoming;
pub use reading::Found;
pub use sweep::sweep;

/// Up to this many bytes are kept in the database, larger ones as files.
pub const INLINE_BYTES_MAX: usize = 64 * 1024;

/// A number that nobody else has.
pub fn random() -> std::io::Result<i64> {
    let mut bytes = [0; 8];
    rand::fill(&mut bytes).map_err(|_| std::io::Error::other("no random bytes"))?;
    Ok(i64::from_ne_bytes(bytes) & i64::MAX)
}

/// The files of an installation. Clones share what is held.
#[derive(Clone)]
pub struct Blobs {
    place: Place,
    held: Arc<Mutex<Held>>,
    looked_at: Arc<reading::LookedAt>,
}

/// Where they are.
#[derive(Clone)]
enum Place {
    Directory(PathBuf),
    #[cfg(feature = "postgres")]
    Bucket(Arc<Bucket>),
}

/// Files that somebody is about to name or to remove. Naming comes first: a file that is held is
/// not removed, and one that is wanted again while it is looked at stays.
#[derive(Default)]
struct Held {
    /// By how many.
    named: HashMap<[u8; 32], usize>,
    doomed: std::collections::HashSet<[u8; 32]>,
    /// Being removed from a bucket now: whoever wants one waits for that, and writes it again.
    #[cfg(feature = "postgres")]
    going: HashMap<[u8; 32], tokio::sync::watch::Receiver<()>>,
}

/// Keeps a file until its row is committed; let go by being dropped.
#[derive(Debug)]
pub struct Hold {
    sha256: [u8; 32],
    held: Arc<Mutex<Held>>,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} files held", self.named.len())
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut held = lock(&self.held);
        if let Some(count) = held.named.get_mut(&self.sha256) {
            *count -= 1;
            if *count == 0 {
                held.named.remove(&self.sha256);
            }
        }
    }
}

impl Blobs {
    pub fn open(dir: &Path) -> std::io::Result<Self> {
        fs::create_dir_all(dir)?;
        Ok(Self {
            place: Place::Directory(dir.to_owned()),
            held: Arc::default(),
            looked_at: Arc::default(),
        })
    }

    /// Those in a bucket.
    #[cfg(feature = "postgres")]
    pub fn in_bucket(bucket: Bucket) -> std::io::Result<Self> {
        fs::create_dir_all(&bucket.spool)?;
        Ok(Self {
            place: Place::Bucket(Arc::new(bucket)),
            held: Arc::default(),
            looked_at: Arc::default(),
        })
    }

    /// The bucket that they are in, where they are in one.
    #[cfg(feature = "postgres")]
    pub fn bucket(&self) -> Option<&Arc<Bucket>> {
        match &self.place {
            Place::Directory(_) => None,
            Place::Bucket(bucket) => Some(bucket),
        }
    }

    /// Makes bytes durable where they are too large for the database; the row comes later, and the
    /// file stays at least until the [`NewBlob`] is dropped.
    pub async fn keep(&self, bytes: Bytes) -> std::io::Result<NewBlob> {
        let bytes_len = bytes.len() as u64;
        if bytes.len() <= INLINE_BYTES_MAX {
            return Ok(NewBlob {
                sha256: sha256(&bytes),
                bytes_len,
                inline: Some(bytes),
                hold: None,
            });
        }
        self.keep_as_file(bytes).await
    }

    /// The same for bytes of any size: what is named outside of the database has to be a file.
    pub async fn keep_as_file(&self, bytes: Bytes) -> std::io::Result<NewBlob> {
        let bytes_len = bytes.len() as u64;
        let blobs = self.clone();
        let (sha256, hold) = match &self.place {
            Place::Directory(_) => {
                let write = move || {
                    let sha256 = sha256(&bytes);
                    // Before looking whether it is there: from now on it is not removed.
                    let hold = blobs.hold(sha256);
                    write_synced(&blobs.path(&sha256), &bytes, sync_dir).map(|()| (sha256, hold))
                };
                apart(write).await?
            }
            #[cfg(feature = "postgres")]
            Place::Bucket(bucket) => {
                let (sha256, bytes) = apart(move || Ok((sha256(&bytes), bytes))).await?;
                let hold = blobs.hold(sha256);
                self.removal_ended(&sha256).await;
                bucket.put(&sha256, bytes).await?;
                (sha256, hold)
            }
        };
        Ok(NewBlob {
            sha256,
            bytes_len,
            inline: None,
            hold: Some(Arc::new(hold)),
        })
    }

    /// Waits while the file is being removed.
    #[cfg(feature = "postgres")]
    async fn removal_ended(&self, sha256: &[u8; 32]) {
        let going = lock(&self.held).going.get(sha256).cloned();
        if let Some(mut going) = going {
            // An error is its end: nobody sends.
            drop(going.changed().await);
        }
    }

    /// Keeps a file that is named elsewhere, as long as this is not dropped.
    pub fn hold(&self, sha256: [u8; 32]) -> Hold {
        let mut held = lock(&self.held);
        *held.named.entry(sha256).or_default() += 1;
        held.doomed.remove(&sha256);
        Hold {
            sha256,
            held: self.held.clone(),
        }
    }

    /// Where in its directory the file of a digest is; of a bucket, where on this host it would arrive.
    fn path(&self, sha256: &[u8; 32]) -> PathBuf {
        let (shelf, name) = name_of(sha256);
        self.dir().join(shelf).join(name)
    }

    /// The directory on this host that things arrive in.
    pub(crate) fn dir(&self) -> &Path {
        match &self.place {
            Place::Directory(dir) => dir,
            #[cfg(feature = "postgres")]
            Place::Bucket(bucket) => &bucket.spool,
        }
    }
}

/// The shelf and the name of a file.
fn name_of(sha256: &[u8; 32]) -> (String, String) {
    let name = hex(sha256);
    let (shelf, _) = name.split_at(2);
    (shelf.to_owned(), name)
}

/// Does work on a disk where it stands in nobody's way.
async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(std::io::Error::other)?
}

fn lock(held: &Mutex<Held>) -> MutexGuard<'_, Held> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Written beside its place, synced, renamed, and the directories synced: it is whole or not
/// there. Another writer may have renamed it a moment ago and not have synced its directory yet, so
/// a file that is there already gets its directories synced as well.
fn write_synced(
    path: &Path,
    bytes: &[u8],
    sync_dir: impl Fn(&Path) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let without_dir = || std::io::Error::other("a blob has no directory");
    let shelf = path.parent().ok_or_else(without_dir)?;
    let dir = shelf.parent().ok_or_else(without_dir)?;
    if !path.exists() {
        fs::create_dir_all(shelf)?;
        let beside = path.with_extension(format!("{}.part", unique()?));
        let written = write_beside(&beside, bytes).and_then(|()| fs::rename(&beside, path));
        if let Err(error) = written {
            // What is left of it refers to nothing; that it failed is what counts.
            fs::remove_file(&beside).ok();
            return Err(error);
        }
    } else {
        want(path)?;
    }
    sync_dir(shelf)?;
    sync_dir(dir)
}

/// A file that is there and wanted again is as young as a new one.
#[expect(
    clippy::disallowed_methods,
    reason = "the file system's times are the system's"
)]
fn want(path: &Path) -> std::io::Result<()> {
    let file = File::options().write(true).open(path)?;
    file.set_modified(std::time::SystemTime::now())
}

/// Gives a file that is whole and synced its name, unless it is there already.
fn place(beside: &Path, path: &Path) -> std::io::Result<()> {
    let without_dir = || std::io::Error::other("a blob has no directory");
    let shelf = path.parent().ok_or_else(without_dir)?;
    let dir = shelf.parent().ok_or_else(without_dir)?;
    if !path.exists() {
        fs::create_dir_all(shelf)?;
        fs::rename(beside, path)?;
    }
    sync_dir(shelf)?;
    sync_dir(dir)
}

fn write_beside(beside: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = File::create_new(beside)?;
    file.write_all(bytes)?;
    if bug!("file-not-synced") {
        return Ok(());
    }
    file.sync_all().map_err(end_on_failed_fsync)
}

fn sync_dir(dir: &Path) -> std::io::Result<()> {
    File::open(dir)?.sync_all().map_err(end_on_failed_fsync)
}

/// A failed fsync ends the process, as one of the database does: the kernel may have dropped a name
/// that is seen all the same, and who wants the file again would find it, and the next fsync going
/// well. A disk that is full drops nothing but what is new, which is removed.
fn end_on_failed_fsync(failure: std::io::Error) -> std::io::Error {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    if !matches!(failure.kind(), StorageFull | QuotaExceeded) {
        error!(error = %failure, "fsync of a file failed, ending the process so that nothing unsafe is acknowledged");
        std::process::abort();
    }
    failure
}

/// Sixteen random hex digits: thread and process numbers are used again, files of a crash stay.
fn unique() -> std::io::Result<String> {
    let mut bytes = [0; 8];
    rand::fill(&mut bytes).map_err(|_| std::io::Error::other("no random bytes for a name"))?;
    Ok(hex(&bytes))
}

pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut sum = [0; 32];
    sum.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    sum
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The digest that [`hex`] wrote.
pub fn unhex(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> = text
        .chars()
        .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect::<Option<_>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    let bytes: Vec<u8> = pairs.iter().map(|[high, low]| high << 4 | low).collect();
    rest.is_empty().then(|| bytes.try_into().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn a_file_that_is_there_already_gets_its_directories_synced_too() {
        let data_dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(data_dir.path()).unwrap();
        let path = blobs.path(&sha256(b"film"));
        let shelf = path.parent().unwrap().to_owned();
        for attempt in ["written", "found"] {
            let synced = RefCell::new(Vec::new());
            let sync = |dir: &Path| {
                synced.borrow_mut().push(dir.to_owned());
                sync_dir(dir)
            };
            write_synced(&path, b"film", sync).unwrap();
            assert_eq!(
                synced.into_inner(),
                [shelf.clone(), blobs.dir().to_owned()],
                "{attempt}"
            );
            assert_eq!(fs::read(&path).unwrap(), b"film", "{attempt}");
        }
        assert_eq!(fs::read_dir(shelf).unwrap().count(), 1, "no part is left");
    }

    #[test]
    fn names_of_unfinished_files_differ_on_one_thread() {
        assert_ne!(unique().unwrap(), unique().unwrap());
    }

    #[test]
    fn a_digest_is_read_back_from_its_letters_and_nothing_else_is_one() {
        let digest = sha256(b"film");
        assert_eq!(unhex(&hex(&digest)), Some(digest));
        for text in ["", "0f", &hex(&[7; 31]), &hex(&[7; 33]), &"zz".repeat(32)] {
            assert_eq!(unhex(text), None, "{text}");
        }
    }
}
