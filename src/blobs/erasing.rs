//! Removing files at once that an erasure took the last row of.

use std::collections::BTreeSet;
use std::time::Duration;

use super::sweep::remove_unnamed;
use super::{Blobs, Place, apart, name_of, sync_dir};

/// Removes those of `files` that `unnamed` says no row names, as a sweep does, and has their directories synced: they
/// are gone after a power cut, too. How many were removed.
pub async fn erase<E, F>(
    blobs: &Blobs,
    files: &[[u8; 32]],
    spared: Duration,
    unnamed: impl Fn(Vec<[u8; 32]>) -> F,
) -> Result<u64, E>
where
    E: From<std::io::Error>,
    F: Future<Output = Result<Vec<[u8; 32]>, E>>,
{
    // One that a crash removed already is none that is there.
    let mut there = Vec::new();
    for file in files {
        if blobs.find(*file).await?.is_some() {
            there.push(*file);
        }
    }
    let removed = remove_unnamed(blobs, &there, spared, &unnamed).await?;
    let dir = match &blobs.place {
        Place::Directory(dir) => Some(dir),
        #[cfg(feature = "postgres")]
        Place::Bucket(_) => None,
    };
    if let Some(dir) = dir {
        let shelves: BTreeSet<_> = files.iter().map(|file| dir.join(name_of(file).0)).collect();
        apart(move || {
            let there = shelves.iter().filter(|shelf| shelf.is_dir());
            there.into_iter().try_for_each(|shelf| sync_dir(shelf))
        })
        .await?;
    }
    Ok(removed)
}
