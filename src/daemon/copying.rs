//! Copying the files that rows name from one place to another: attachments, large mails, uploads. Each is named by what is
//! in it.

use std::io;

use futures::TryStreamExt as _;
use serde::{Deserialize, Serialize};

use crate::blobs::{Blobs, hex};

/// Files between two lines that say how far it is.
const TOLD_EVERY: usize = 1_000;

/// How many there are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
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

/// Where a file is that could not be copied, and why.
type Result<T> = std::result::Result<T, String>;

/// From a directory to another one, or to a bucket.
pub struct Copying {
    pub from: Blobs,
    pub to: Blobs,
}

impl Copying {
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

    /// Those that are not where they come from.
    pub async fn missing(&self, named: &[([u8; 32], u64)]) -> Result<Vec<[u8; 32]>> {
        let mut missing = Vec::new();
        for (sha256, _) in named {
            let found = self.from.find(*sha256).await;
            if found
                .map_err(|error| self.failed(sha256, &error))?
                .is_none()
            {
                missing.push(*sha256);
            }
        }
        Ok(missing)
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

    fn failed(&self, sha256: &[u8; 32], error: &io::Error) -> String {
        format!(
            "the file {}, which was to come from {}: {error}",
            hex(sha256),
            self.from.dir().display()
        )
    }
}
