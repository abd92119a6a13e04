//! Attachments and captured mails: small ones inline in the store, large ones as files that are
//! synced before the commit that refers to them. Files are named by content, never by what a
//! sender calls them.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use aws_lc_rs::{digest, rand};
use bytes::Bytes;

use crate::bus::NewBlob;

/// Up to this many bytes are kept in the database, larger ones as files.
pub const INLINE_BYTES_MAX: usize = 64 * 1024;

/// The files of a data directory.
#[derive(Clone)]
pub struct Blobs {
    dir: PathBuf,
}

impl Blobs {
    pub fn open(data_dir: &Path) -> std::io::Result<Self> {
        let dir = data_dir.join("blobs");
        fs::create_dir_all(&dir)?;
        Ok(Self { dir })
    }

    /// Makes bytes durable where they are too large for the database; the row comes later.
    pub async fn keep(&self, bytes: Bytes) -> std::io::Result<NewBlob> {
        let sha256 = sha256(&bytes);
        let bytes_len = bytes.len() as u64;
        if bytes.len() <= INLINE_BYTES_MAX {
            return Ok(NewBlob {
                sha256,
                bytes_len,
                inline: Some(bytes),
            });
        }
        let path = self.path(&sha256);
        tokio::task::spawn_blocking(move || write_synced(&path, &bytes, sync_dir))
            .await
            .map_err(std::io::Error::other)??;
        Ok(NewBlob {
            sha256,
            bytes_len,
            inline: None,
        })
    }

    /// Where the file of a digest is.
    pub fn path(&self, sha256: &[u8; 32]) -> PathBuf {
        let name = hex(sha256);
        let (shelf, _) = name.split_at(2);
        self.dir.join(shelf).join(&name)
    }
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
    }
    sync_dir(shelf)?;
    sync_dir(dir)
}

fn write_beside(beside: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = File::create_new(beside)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn sync_dir(dir: &Path) -> std::io::Result<()> {
    File::open(dir)?.sync_all()
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
                [shelf.clone(), blobs.dir.clone()],
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
}
