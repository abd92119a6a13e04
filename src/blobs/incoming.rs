//! A file that arrives in pieces: hashed and written as it comes, never whole in memory.

use std::path::PathBuf;

use aws_lc_rs::digest;
use tokio::fs::File;
use tokio::io::AsyncWriteExt;

use crate::bus::NewBlob;

use super::{Blobs, INLINE_BYTES_MAX, apart, end_on_failed_fsync, place, unique};

/// Dropped before its end it leaves nothing.
pub struct Incoming {
    blobs: Blobs,
    hash: digest::Context,
    bytes_len: u64,
    /// The beginning, until it is too much for the database.
    inline: Vec<u8>,
    file: Option<(File, Unfinished)>,
}

/// A file that is removed unless it got its name.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Renamed, it is not there any more.
        std::fs::remove_file(&self.0).ok();
    }
}

impl Incoming {
    pub fn new(blobs: Blobs) -> Self {
        Self {
            blobs,
            hash: digest::Context::new(&digest::SHA256),
            bytes_len: 0,
            inline: Vec::new(),
            file: None,
        }
    }

    pub fn bytes_len(&self) -> u64 {
        self.bytes_len
    }

    pub async fn write(&mut self, piece: &[u8]) -> std::io::Result<()> {
        self.hash.update(piece);
        self.bytes_len += piece.len() as u64;
        if let Some((file, _)) = &mut self.file {
            return file.write_all(piece).await;
        }
        self.inline.extend_from_slice(piece);
        if self.inline.len() > INLINE_BYTES_MAX {
            // A shelf like any other: what a crash leaves in it is swept.
            let dir = self.blobs.dir().join("incoming");
            tokio::fs::create_dir_all(&dir).await?;
            let path = dir.join(format!("{}.part", unique()?));
            let mut file = File::create_new(&path).await?;
            let unfinished = Unfinished(path);
            file.write_all(&std::mem::take(&mut self.inline)).await?;
            self.file = Some((file, unfinished));
        }
        Ok(())
    }

    /// Makes it durable; the row comes later, and the file stays at least until the [`NewBlob`] is
    /// dropped.
    pub async fn finish(self) -> std::io::Result<NewBlob> {
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(self.hash.finish().as_ref());
        let bytes_len = self.bytes_len;
        let Some((mut file, unfinished)) = self.file else {
            return Ok(NewBlob {
                sha256,
                bytes_len,
                inline: Some(self.inline.into()),
                hold: None,
            });
        };
        file.flush().await?;
        file.sync_all().await.map_err(end_on_failed_fsync)?;
        let blobs = self.blobs;
        #[cfg(feature = "postgres")]
        if blobs.bucket().is_some() {
            let bytes = tokio::fs::read(&unfinished.0).await?;
            return blobs.keep_as_file(bytes.into()).await;
        }
        let hold = apart(move || {
            // Before looking whether it is there: from now on it is not removed.
            let hold = blobs.hold(sha256);
            place(&unfinished.0, &blobs.path(&sha256))?;
            Ok(hold)
        })
        .await?;
        Ok(NewBlob {
            sha256,
            bytes_len,
            inline: None,
            hold: Some(std::sync::Arc::new(hold)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(blobs: &Blobs) -> usize {
        let shelves = std::fs::read_dir(blobs.dir()).unwrap();
        let files = shelves.flat_map(|shelf| std::fs::read_dir(shelf.unwrap().path()).unwrap());
        files.count()
    }

    #[tokio::test]
    async fn a_file_in_pieces_is_the_file_it_would_be_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        for length in [0, 10, INLINE_BYTES_MAX, INLINE_BYTES_MAX + 1, 300_000] {
            let bytes: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            let mut incoming = Incoming::new(blobs.clone());
            for piece in bytes.chunks(7_001) {
                incoming.write(piece).await.unwrap();
            }
            assert_eq!(incoming.bytes_len(), length as u64);
            let kept = incoming.finish().await.unwrap();
            let whole = blobs.keep(bytes.clone().into()).await.unwrap();
            assert_eq!((kept.sha256, &kept.inline), (whole.sha256, &whole.inline));
            if kept.inline.is_none() {
                assert_eq!(std::fs::read(blobs.path(&kept.sha256)).unwrap(), bytes);
            }
        }
        assert_eq!(files(&blobs), 2, "and nothing else is left");
    }

    #[tokio::test]
    async fn a_file_that_ends_too_early_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        let mut incoming = Incoming::new(blobs.clone());
        incoming
            .write(&vec![7; INLINE_BYTES_MAX + 1])
            .await
            .unwrap();
        assert_eq!(files(&blobs), 1);
        drop(incoming);
        assert_eq!(files(&blobs), 0);
    }
}
