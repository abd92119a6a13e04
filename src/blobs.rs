//! Attachments and captured mails: small ones inline in the store, large ones as files that are
//! synced before the commit that refers to them. Files are named by content, never by what a
//! sender calls them.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
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
        tokio::task::spawn_blocking(move || write_synced(&path, &bytes))
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

/// Written beside its place, synced, renamed, and the directory synced: it is whole or not there.
fn write_synced(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let shelf = path
        .parent()
        .ok_or_else(|| std::io::Error::other("a blob has no directory"))?;
    fs::create_dir_all(shelf)?;
    let beside = path.with_extension(format!("{:?}.part", std::thread::current().id()));
    let mut file = File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    File::open(shelf)?.sync_all()?;
    if let Some(dir) = shelf.parent() {
        File::open(dir)?.sync_all()?;
    }
    Ok(())
}

pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut sum = [0; 32];
    sum.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    sum
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
