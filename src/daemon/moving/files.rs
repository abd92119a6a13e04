//! Files that rows name: attachments, large mails, uploads. Each is named by what is in it.

use std::fs;
use std::io;
use std::path::Path;

use futures::TryStreamExt as _;
use serde::Serialize;

use crate::blobs::{Blobs, hex};
use crate::store::moving::{MoveError, Result};

/// Files between two lines that say how far it is.
const TOLD_EVERY: usize = 1_000;

/// How many there are.
#[derive(Debug, Default, Serialize)]
pub struct Files {
    pub count: u64,
    pub bytes: u64,
}

impl Files {
    pub fn of(named: &[([u8; 32], u64)]) -> Self {
        Self {
            count: named.len() as u64,
            bytes: named.iter().map(|(_, bytes)| bytes).sum(),
        }
    }
}

/// From a directory to another one, or to a bucket.
pub struct Copying {
    pub from: Blobs,
    pub to: Blobs,
}

impl Copying {
    /// The new one forgets files in its time; those of the old one stay.
    pub fn refuse_same(&self) -> Result<()> {
        if self.to.bucket().is_some() || !same(self.from.dir(), self.to.dir()) {
            return Ok(());
        }
        Err(MoveError::Refused(
            "store.blobs_dir is the directory that the installation has its files in now: name another one, so that it \
             stays as it is"
                .to_owned(),
        ))
    }

    /// Copies those that are not there yet.
    pub async fn copy(&self, named: &[([u8; 32], u64)], tell: &dyn Fn(&str)) -> Result<()> {
        for (at, (sha256, bytes_len)) in named.iter().enumerate() {
            if at % TOLD_EVERY == 0 {
                tell(&format!("files: {at} of {}", named.len()));
            }
            let copied = self.copy_one(sha256, *bytes_len).await;
            copied.map_err(|error| self.failed(sha256, &error))?;
        }
        Ok(())
    }

    async fn copy_one(&self, sha256: &[u8; 32], bytes_len: u64) -> io::Result<()> {
        let there = self.to.find(*sha256).await?;
        if there.is_some_and(|there| there.bytes_len() == bytes_len) {
            return Ok(());
        }
        let found = self.from.find(*sha256).await?;
        let found = found.ok_or(io::ErrorKind::NotFound)?;
        let all = found.bytes_len();
        let pieces: Vec<_> = found.read(0, all).try_collect().await?;
        self.to.keep_as_file(pieces.concat().into()).await.map(drop)
    }

    /// Reads every file where it is now, and looks whether it is what its name says.
    pub async fn compare(&self, named: &[([u8; 32], u64)], tell: &dyn Fn(&str)) -> Result<Files> {
        for (at, (sha256, _)) in named.iter().enumerate() {
            if at % TOLD_EVERY == 0 {
                tell(&format!("comparing files: {at} of {}", named.len()));
            }
            let compared = self.compare_one(sha256).await;
            compared.map_err(|error| self.failed(sha256, &error))?;
        }
        Ok(Files::of(named))
    }

    async fn compare_one(&self, sha256: &[u8; 32]) -> io::Result<()> {
        let found = self.to.find(*sha256).await?;
        let found = found.ok_or(io::ErrorKind::NotFound)?;
        let all = found.bytes_len();
        found.read(0, all).try_for_each(async |_| Ok(())).await
    }

    fn failed(&self, sha256: &[u8; 32], error: &io::Error) -> MoveError {
        MoveError::Refused(format!(
            "the file {}, which was to come from {}: {error}: mend or remove what is there, and begin again",
            hex(sha256),
            self.from.dir().display()
        ))
    }
}

fn same(one: &Path, other: &Path) -> bool {
    let real = |dir| fs::canonicalize(dir).ok();
    real(one).is_some_and(|one| Some(one) == real(other))
}
