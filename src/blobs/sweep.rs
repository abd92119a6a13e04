//! Removes the files that no row names any more. A file that a transaction under way is about to
//! name stays: whoever keeps it holds it, and holding takes it off the list of those to remove.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[cfg(feature = "postgres")]
use futures::TryStreamExt as _;

use super::{Blobs, Place, apart, lock, unhex};

/// Files looked at in one question to the store.
const FILES_ASKED_MAX: usize = 500;
/// What a crash left half written is older than this; what is being written now is not.
const PART_KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// Removes files that `unnamed` says no row names, and gives their number. `unnamed` is asked with
/// some digests at a time and must see everything that was committed before it was asked. Those written
/// or wanted within `spared` stay: a bus elsewhere may name them.
pub async fn sweep<E, F>(
    blobs: &Blobs,
    spared: Duration,
    unnamed: impl Fn(Vec<[u8; 32]>) -> F,
) -> Result<u64, E>
where
    E: From<std::io::Error>,
    F: Future<Output = Result<Vec<[u8; 32]>, E>>,
{
    let mut removed = 0;
    let dir = blobs.dir().to_owned();
    for shelf in apart(move || shelves(&dir)).await? {
        let files = apart(move || files(&shelf, spared)).await?;
        for some in files.chunks(FILES_ASKED_MAX) {
            removed += remove_unnamed(blobs, some, spared, &unnamed).await?;
        }
    }
    #[cfg(feature = "postgres")]
    if let Some(bucket) = blobs.bucket() {
        let mut found = bucket.files();
        let mut some = Vec::new();
        while let Some((file, written)) = found.try_next().await? {
            if spared.is_zero() || age_of(written).is_some_and(|age| age > spared) {
                some.push(file);
            }
            if some.len() == FILES_ASKED_MAX {
                removed += remove_unnamed(blobs, &some, spared, &unnamed).await?;
                some.clear();
            }
        }
        removed += remove_unnamed(blobs, &some, spared, &unnamed).await?;
    }
    Ok(removed)
}

/// Of these files removes those that no row names.
pub(super) async fn remove_unnamed<E, F>(
    blobs: &Blobs,
    some: &[[u8; 32]],
    spared: Duration,
    unnamed: impl Fn(Vec<[u8; 32]>) -> F,
) -> Result<u64, E>
where
    E: From<std::io::Error>,
    F: Future<Output = Result<Vec<[u8; 32]>, E>>,
{
    if some.is_empty() {
        return Ok(0);
    }
    let looked_at = blobs.doom(some);
    let gone = unnamed(looked_at.clone()).await;
    let chosen = gone.as_ref().map(Vec::clone).unwrap_or_default();
    let removed = match &blobs.place {
        Place::Directory(_) => {
            let blobs = blobs.clone();
            apart(move || blobs.remove(&looked_at, &chosen, spared)).await?
        }
        #[cfg(feature = "postgres")]
        Place::Bucket(bucket) => {
            blobs
                .remove_from(bucket, &looked_at, &chosen, spared)
                .await?
        }
    };
    gone.map(|_| removed)
}

impl Blobs {
    /// Marks those of `files` that nobody holds.
    fn doom(&self, files: &[[u8; 32]]) -> Vec<[u8; 32]> {
        let mut held = lock(&self.held);
        let free: Vec<_> = files
            .iter()
            .filter(|file| !held.named.contains_key(*file))
            .copied()
            .collect();
        held.doomed.extend(&free);
        free
    }

    /// Removes the chosen ones that nobody wanted meanwhile, in this process or in another one.
    fn remove(
        &self,
        looked_at: &[[u8; 32]],
        chosen: &[[u8; 32]],
        spared: Duration,
    ) -> std::io::Result<u64> {
        let mut removed = 0;
        for file in looked_at {
            // Under the lock: whoever wants it now waits, finds it gone and writes it again.
            let mut held = lock(&self.held);
            let path = self.path(file);
            let unwanted = || spared.is_zero() || age(&path).is_some_and(|age| age > spared);
            if held.doomed.remove(file) && chosen.contains(file) && unwanted() {
                fs::remove_file(path)?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// The same in a bucket. Nothing is locked while it is asked: whoever wants one that is being removed waits.
    #[cfg(feature = "postgres")]
    async fn remove_from(
        &self,
        bucket: &super::Bucket,
        looked_at: &[[u8; 32]],
        chosen: &[[u8; 32]],
        spared: Duration,
    ) -> std::io::Result<u64> {
        let mut removed = 0;
        for file in looked_at {
            let (ended, going) = tokio::sync::watch::channel(());
            {
                let mut held = lock(&self.held);
                if !held.doomed.remove(file) || !chosen.contains(file) {
                    continue;
                }
                held.going.insert(*file, going);
            }
            let done = async {
                let written = bucket.written_at(file).await?;
                let age = written.and_then(age_of);
                let unwanted = spared.is_zero() || age.is_some_and(|age| age > spared);
                if unwanted {
                    bucket.delete(file).await?;
                }
                Ok::<_, std::io::Error>(unwanted)
            };
            let done = done.await;
            lock(&self.held).going.remove(file);
            drop(ended);
            removed += u64::from(done?);
        }
        Ok(removed)
    }
}

fn shelves(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir)?.collect::<Result<Vec<_>, _>>()?;
    let paths = entries.into_iter().map(|entry| entry.path());
    Ok(paths.filter(|path| path.is_dir()).collect())
}

/// The digests of a shelf. Half-written files of a crash are removed on the way.
fn files(shelf: &Path, spared: Duration) -> std::io::Result<Vec<[u8; 32]>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(shelf)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if let Some(file) = unhex(&name) {
            if spared.is_zero() || age(&entry.path()).is_some_and(|age| age > spared) {
                found.push(file);
            }
        } else if name.ends_with(".part") {
            // Renamed by its writer meanwhile, or with a time that the system does not know: left.
            if age(&entry.path()).is_some_and(|age| age > PART_KEPT) {
                fs::remove_file(entry.path()).ok();
            }
        }
    }
    Ok(found)
}

fn age(path: &Path) -> Option<Duration> {
    let written = fs::metadata(path).and_then(|data| data.modified());
    written.ok().and_then(age_of)
}

fn age_of(written: std::time::SystemTime) -> Option<Duration> {
    written.elapsed().ok()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::INLINE_BYTES_MAX;
    use super::*;

    fn film(seed: u8) -> Bytes {
        vec![seed; INLINE_BYTES_MAX + 1].into()
    }

    async fn swept(blobs: &Blobs, named: &[[u8; 32]]) -> u64 {
        let unnamed = |asked: Vec<[u8; 32]>| async {
            let gone = asked.into_iter().filter(|file| !named.contains(file));
            Ok::<_, std::io::Error>(gone.collect())
        };
        sweep(blobs, Duration::ZERO, unnamed).await.unwrap()
    }

    #[tokio::test]
    async fn only_files_that_nobody_names_or_holds_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        let named = blobs.keep(film(1)).await.unwrap().sha256;
        let left = blobs.keep(film(2)).await.unwrap().sha256;
        let held = blobs.keep(film(3)).await.unwrap();
        assert_eq!(swept(&blobs, &[named]).await, 1);
        let there = [named, left, held.sha256].map(|file| blobs.path(&file).exists());
        assert_eq!(there, [true, false, true]);
        let file = blobs.path(&held.sha256);
        drop(held);
        assert_eq!(swept(&blobs, &[named]).await, 1, "let go without a row");
        assert!(!file.exists());
    }

    /// A record on a bus elsewhere names files, and no row and nobody here does.
    #[tokio::test]
    async fn a_file_that_a_bus_may_name_stays_as_long_as_the_bus_keeps_it_from_when_it_was_last_wanted()
     {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        let day = Duration::from_secs(24 * 60 * 60);
        let kept = blobs.keep_as_file(Bytes::from_static(b"a small one")).await;
        let path = blobs.path(&kept.unwrap().sha256);
        let everything = |asked| async move { Ok::<_, std::io::Error>(asked) };
        assert_eq!(sweep(&blobs, day, everything).await.unwrap(), 0);
        let written = fs::metadata(&path).unwrap().modified().unwrap();
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(written - 2 * day).unwrap();
        drop(
            blobs
                .keep_as_file(Bytes::from_static(b"a small one"))
                .await
                .unwrap(),
        );
        assert_eq!(
            sweep(&blobs, day, everything).await.unwrap(),
            0,
            "wanted again"
        );
        file.set_modified(written - 2 * day).unwrap();
        assert_eq!(sweep(&blobs, day, everything).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_file_wanted_again_while_it_is_looked_at_stays() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        let file = blobs.path(&blobs.keep(film(1)).await.unwrap().sha256);
        let meanwhile = |asked: Vec<[u8; 32]>| async {
            // Kept, committed and let go between the question and its answer.
            drop(blobs.keep(film(1)).await.unwrap());
            Ok::<_, std::io::Error>(asked)
        };
        assert_eq!(sweep(&blobs, Duration::ZERO, meanwhile).await.unwrap(), 0);
        assert!(file.exists());
        assert_eq!(swept(&blobs, &[]).await, 1, "later it goes");
    }
}
