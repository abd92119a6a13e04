//! Reading files back, a piece at a time: nothing stays open while whoever they go to takes their time. A file that
//! is read whole is checked against its name on the way; before a part of one is given, all of it is.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, SeekFrom};

#[cfg(feature = "postgres")]
use super::Bucket;
use super::{Blobs, Place};

/// Read and sent at a time.
const CHUNK_BYTES: u64 = 64 * 1024;
/// The same of a bucket, where each is a request.
#[cfg(feature = "postgres")]
const REQUEST_BYTES: u64 = 1024 * 1024;

/// Parts that are read of a file after one look at all of it: a player asks for many.
const PARTS_PER_LOOK: u32 = 64;
const LOOKED_AT_MAX: usize = 1_024;

/// Files that were what their names say, and how many parts may be read before the next look.
#[derive(Default)]
pub(super) struct LookedAt(Mutex<HashMap<[u8; 32], u32>>);

impl LookedAt {
    /// Whether a part may be read without a look.
    fn take(&self, sha256: &[u8; 32]) -> bool {
        let mut left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match left.get_mut(sha256) {
            Some(left) if *left > 0 => {
                *left -= 1;
                true
            }
            _ => false,
        }
    }

    fn note(&self, sha256: [u8; 32]) {
        let mut left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if left.len() >= LOOKED_AT_MAX {
            left.clear();
        }
        left.insert(sha256, PARTS_PER_LOOK);
    }
}

/// A file that is there.
#[derive(Clone)]
pub struct Found {
    looked_at: Arc<LookedAt>,
    sha256: [u8; 32],
    bytes_len: u64,
    source: Source,
}

#[derive(Clone)]
enum Source {
    Disk(PathBuf),
    #[cfg(feature = "postgres")]
    Bucket(std::sync::Arc<Bucket>),
}

impl Blobs {
    /// The file of a digest; `None` where there is none.
    pub async fn find(&self, sha256: [u8; 32]) -> std::io::Result<Option<Found>> {
        let (bytes_len, source) = match &self.place {
            Place::Directory(_) => {
                let path = self.path(&sha256);
                match tokio::fs::metadata(&path).await {
                    Ok(found) => (found.len(), Source::Disk(path)),
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                    Err(error) => return Err(error),
                }
            }
            #[cfg(feature = "postgres")]
            Place::Bucket(bucket) => match bucket.bytes_len(&sha256).await? {
                Some(bytes_len) => (bytes_len, Source::Bucket(bucket.clone())),
                None => return Ok(None),
            },
        };
        Ok(Some(Found {
            looked_at: self.looked_at.clone(),
            sha256,
            bytes_len,
            source,
        }))
    }
}

impl Found {
    pub fn bytes_len(&self) -> u64 {
        self.bytes_len
    }

    /// At most so many bytes from there; none behind its end.
    pub async fn read_at(&self, from: u64, bytes_max: u64) -> std::io::Result<Bytes> {
        let until = from.saturating_add(bytes_max).min(self.bytes_len);
        if from >= until {
            return Ok(Bytes::new());
        }
        match &self.source {
            Source::Disk(path) => {
                let mut file = File::open(path).await?;
                file.seek(SeekFrom::Start(from)).await?;
                let mut piece = Vec::new();
                file.take(until - from).read_to_end(&mut piece).await?;
                Ok(piece.into())
            }
            #[cfg(feature = "postgres")]
            Source::Bucket(bucket) => bucket.read(&self.sha256, from..until).await,
        }
    }

    /// `count` bytes from `from`, read as they are taken. Of a file that is another one than its name says the last
    /// piece is an error, and of a part of it the first one; a bucket sees to its own parts.
    pub fn read(
        self,
        from: u64,
        count: u64,
    ) -> impl Stream<Item = std::io::Result<Bytes>> + Send + 'static {
        let until = from.saturating_add(count).min(self.bytes_len);
        let is_whole = from == 0 && until == self.bytes_len;
        if is_whole {
            return self.checked().boxed();
        }
        let look = self.clone().look();
        let part = stream::once(look).try_filter_map(async |()| Ok(None));
        part.chain(self.pieces(from, until)).boxed()
    }

    /// Looks at all of it, where that was not done lately.
    async fn look(self) -> std::io::Result<()> {
        if !matches!(self.source, Source::Disk(_)) || self.looked_at.take(&self.sha256) {
            return Ok(());
        }
        let (looked_at, sha256) = (self.looked_at.clone(), self.sha256);
        self.checked().try_for_each(async |_| Ok(())).await?;
        looked_at.note(sha256);
        Ok(())
    }

    fn checked(self) -> impl Stream<Item = std::io::Result<Bytes>> + Send + 'static {
        let (sha256, bytes_len) = (self.sha256, self.bytes_len);
        checked(self.pieces(0, bytes_len).boxed(), sha256)
    }

    fn pieces(
        self,
        from: u64,
        until: u64,
    ) -> impl Stream<Item = std::io::Result<Bytes>> + Send + 'static {
        stream::try_unfold((self, from), move |(file, from)| async move {
            let bytes_max = file.piece_bytes().min(until.saturating_sub(from));
            let piece = file.read_at(from, bytes_max).await?;
            let next = from + piece.len() as u64;
            Ok((!piece.is_empty()).then_some((piece, (file, next))))
        })
    }

    fn piece_bytes(&self) -> u64 {
        match self.source {
            Source::Disk(_) => CHUNK_BYTES,
            #[cfg(feature = "postgres")]
            Source::Bucket(_) => REQUEST_BYTES,
        }
    }
}

/// The same pieces. The last one is given only when all of them are what the digest says.
fn checked(
    pieces: BoxStream<'static, std::io::Result<Bytes>>,
    sha256: [u8; 32],
) -> impl Stream<Item = std::io::Result<Bytes>> + Send {
    let sum = digest::Context::new(&digest::SHA256);
    let begun = (pieces.fuse(), sum, None::<Bytes>);
    stream::try_unfold(begun, move |(mut pieces, mut sum, mut last)| async move {
        while let Some(piece) = pieces.try_next().await? {
            sum.update(&piece);
            if let Some(before) = last.replace(piece) {
                return Ok(Some((before, (pieces, sum, last))));
            }
        }
        let Some(piece) = last.take() else {
            return Ok(None);
        };
        if sum.clone().finish().as_ref() != sha256 {
            let other = "a file of the blob store is not what it is named by: it was changed or cut short there";
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, other));
        }
        Ok(Some((piece, (pieces, sum, None))))
    })
}
