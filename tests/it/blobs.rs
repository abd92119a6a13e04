//! What every place for files must do, as functions over [`Blobs`]: a directory, and a bucket of a foreign S3 store.

use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt as _;
use secrecy::SecretString;
use switchboard::blobs::{
    Blobs, Bucket, BucketSettings, Found, INLINE_BYTES_MAX, Incoming, hex, sha256, sweep,
};

use crate::peers::{self, Chaos, S3};

/// Writes a content under a name.
type Change = dyn Fn(&str, &str) + Send + Sync;

/// A place, and how somebody else would write there.
struct Place {
    blobs: Blobs,
    change: Box<Change>,
    names: Box<dyn Fn() -> usize + Send + Sync>,
    _kept: Box<dyn std::any::Any + Send + Sync>,
}

fn settings(s3: &S3, port: u16, spool: &std::path::Path) -> BucketSettings {
    BucketSettings {
        bucket: "switchboard".to_owned(),
        prefix: "shop/files".to_owned(),
        endpoint: Some(format!("http://127.0.0.1:{port}")),
        region: "us-east-1".to_owned(),
        access_key: SecretString::from(s3.access_key.clone()),
        secret_key: SecretString::from(s3.secret_key.clone()),
        authority: None,
        spool: spool.to_owned(),
    }
}

/// Opened and looked at, as the daemon does it.
async fn opened(settings: BucketSettings) -> Blobs {
    let blobs = Blobs::in_bucket(Bucket::open(settings).unwrap()).unwrap();
    let bucket = blobs.bucket().unwrap();
    bucket.number().await.unwrap();
    bucket.set_trouble(None);
    blobs
}

fn directory() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    let counted = path.clone();
    Place {
        blobs: Blobs::open(dir.path()).unwrap(),
        change: Box::new(move |name, content| std::fs::write(path.join(name), content).unwrap()),
        names: Box::new(move || {
            let shelves = std::fs::read_dir(&counted).unwrap();
            let files = shelves.flat_map(|shelf| std::fs::read_dir(shelf.unwrap().path()).unwrap());
            files.count()
        }),
        _kept: Box::new(dir),
    }
}

async fn bucket() -> Place {
    let s3 = std::sync::Arc::new(S3::start());
    let dir = tempfile::tempdir().unwrap();
    let blobs = opened(settings(&s3, s3.port, dir.path())).await;
    let (writing, listing) = (s3.clone(), s3.clone());
    Place {
        blobs,
        change: Box::new(move |name, content| writing.put(&format!("shop/files/{name}"), content)),
        // The number of the bucket is no file.
        names: Box::new(move || listing.names().len() - 1),
        _kept: Box::new((dir, s3)),
    }
}

fn film(length: usize) -> Bytes {
    (0..length).map(|at| (at % 251) as u8).collect()
}

fn name(sha256: &[u8; 32]) -> String {
    let name = hex(sha256);
    format!("{}/{name}", name.split_at(2).0)
}

async fn whole(found: Found) -> std::io::Result<Vec<u8>> {
    let bytes_len = found.bytes_len();
    let pieces: Vec<Bytes> = found.read(0, bytes_len).try_collect().await?;
    Ok(pieces.concat())
}

async fn swept(blobs: &Blobs, spared: Duration, named: &[[u8; 32]]) -> u64 {
    let unnamed = |asked: Vec<[u8; 32]>| async {
        let gone = asked.into_iter().filter(|file| !named.contains(file));
        Ok::<_, std::io::Error>(gone.collect())
    };
    sweep(blobs, spared, unnamed).await.unwrap()
}

async fn what_is_kept_is_read_back_whole_and_in_pieces(place: Place) {
    let blobs = &place.blobs;
    let bytes = film(3 * 1024 * 1024 + 17);
    let kept = blobs.keep(bytes.clone()).await.unwrap();
    assert!(kept.inline.is_none() && kept.sha256 == sha256(&bytes));
    // Small ones are the database's, unless something outside of it names them.
    let small = blobs.keep(film(9)).await.unwrap();
    assert_eq!((small.inline.is_some(), (place.names)()), (true, 1));
    blobs.keep_as_file(film(9)).await.unwrap();
    assert_eq!((place.names)(), 2);

    let found = blobs.find(kept.sha256).await.unwrap().expect("it is there");
    assert_eq!(found.bytes_len(), bytes.len() as u64);
    assert_eq!(whole(found.clone()).await.unwrap(), bytes);
    let part: Vec<Bytes> = found.clone().read(70_000, 9).try_collect().await.unwrap();
    assert_eq!(part.concat(), bytes[70_000..70_009]);
    for (from, bytes_max) in [(0, 5), (bytes.len() - 3, 100), (bytes.len(), 100)] {
        let piece = found.read_at(from as u64, bytes_max).await.unwrap();
        let until = (from + bytes_max as usize).min(bytes.len());
        assert_eq!(piece, bytes[from..until], "{from}");
    }
    assert!(blobs.find([7; 32]).await.unwrap().is_none());
}

async fn what_arrives_in_pieces_is_the_file_it_would_be_at_once(place: Place) {
    let bytes = film(300_000);
    let mut incoming = Incoming::new(place.blobs.clone());
    for piece in bytes.chunks(7_001) {
        incoming.write(piece).await.unwrap();
    }
    let kept = incoming.finish().await.unwrap();
    assert_eq!((kept.sha256, kept.inline), (sha256(&bytes), None));
    let found = place.blobs.find(kept.sha256).await.unwrap().unwrap();
    assert_eq!(whole(found).await.unwrap(), bytes);
    // What ends too early leaves nothing.
    let mut incoming = Incoming::new(place.blobs.clone());
    incoming.write(&film(INLINE_BYTES_MAX + 1)).await.unwrap();
    drop(incoming);
    assert_eq!((place.names)(), 1);
}

async fn a_file_that_is_not_what_its_name_says_is_not_given_to_its_end(place: Place) {
    let kept = place.blobs.keep(film(INLINE_BYTES_MAX + 1)).await.unwrap();
    (place.change)(&name(&kept.sha256), "something else");
    let found = place.blobs.find(kept.sha256).await.unwrap().unwrap();
    let error = whole(found).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData, "{error}");
}

async fn only_files_that_nobody_names_or_holds_are_removed(place: Place) {
    let blobs = &place.blobs;
    let (named, left) = (film(70_000), film(80_000));
    let named = blobs.keep(named).await.unwrap().sha256;
    let left = blobs.keep(left).await.unwrap().sha256;
    let held = blobs.keep(film(90_000)).await.unwrap();
    let there = async || {
        let mut there = Vec::new();
        for file in [named, left, held.sha256] {
            there.push(blobs.find(file).await.unwrap().is_some());
        }
        there
    };
    let day = Duration::from_secs(24 * 60 * 60);
    assert_eq!(swept(blobs, day, &[named]).await, 0, "a bus may name them");
    assert_eq!(swept(blobs, Duration::ZERO, &[named]).await, 1);
    assert_eq!(there().await, [true, false, true]);
    // Wanted while it is looked at, it stays.
    let meanwhile = |asked: Vec<[u8; 32]>| async {
        drop(blobs.keep(film(70_000)).await.unwrap());
        Ok::<_, std::io::Error>(asked)
    };
    assert_eq!(sweep(blobs, Duration::ZERO, meanwhile).await.unwrap(), 0);
    assert_eq!(there().await, [true, false, true]);
}

macro_rules! suite {
    ($($case:ident)*) => {
        mod in_a_directory {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    super::$case(super::directory()).await;
                }
            )*
        }

        mod in_a_bucket {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    if crate::peers::enabled() {
                        super::$case(super::bucket().await).await;
                    }
                }
            )*
        }
    };
}

suite! {
    what_is_kept_is_read_back_whole_and_in_pieces
    what_arrives_in_pieces_is_the_file_it_would_be_at_once
    a_file_that_is_not_what_its_name_says_is_not_given_to_its_end
    only_files_that_nobody_names_or_holds_are_removed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_has_one_number_whoever_asks_first() {
    if !peers::enabled() {
        return;
    }
    let (s3, dir) = (S3::start(), tempfile::tempdir().unwrap());
    let open = || Bucket::open(settings(&s3, s3.port, dir.path())).unwrap();
    let buckets: Vec<Bucket> = (0..6).map(|_| open()).collect();
    let asked = buckets.iter().map(Bucket::number);
    let numbers = futures::future::try_join_all(asked).await.unwrap();
    assert!(numbers.iter().all(|number| *number == numbers[0]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_a_bucket_is_one_line_with_what_to_do_and_no_secret() {
    if !peers::enabled() {
        return;
    }
    let (s3, dir) = (S3::start(), tempfile::tempdir().unwrap());
    let right = || settings(&s3, s3.port, dir.path());
    let nowhere = peers::free_port();
    for (settings, said) in [
        (
            BucketSettings {
                bucket: "missing".to_owned(),
                ..right()
            },
            "there is no bucket missing at http://127.0.0.1:",
        ),
        (
            BucketSettings {
                secret_key: SecretString::from("hunter2".to_owned()),
                ..right()
            },
            "refuses us the bucket switchboard (SignatureDoesNotMatch): look at store.blobs_access_key",
        ),
        (
            BucketSettings {
                access_key: SecretString::from("AKIAIOSFODNN7HUNTER2".to_owned()),
                ..right()
            },
            "refuses us the bucket switchboard (InvalidAccessKeyId): look at store.blobs_access_key",
        ),
        (
            BucketSettings {
                endpoint: Some(format!("http://127.0.0.1:{nowhere}")),
                ..right()
            },
            "cannot be used now (Connection refused",
        ),
    ] {
        let bucket = Bucket::open(settings).unwrap();
        let told = bucket.number().await.unwrap_err();
        assert!(told.contains(said), "{told}");
        let secret = told.to_lowercase().contains("hunter2") || told.contains(&s3.secret_key);
        assert!(!secret && !told.contains('\n'), "{told}");
    }
}

/// Whoever is refused comes again: nothing is kept that may be lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_taken_for_kept_while_the_bucket_is_away() {
    if !peers::enabled() {
        return;
    }
    let (s3, dir) = (S3::start(), tempfile::tempdir().unwrap());
    let chaos = Chaos::start(s3.port);
    let blobs = opened(settings(&s3, chaos.port, dir.path())).await;
    let bucket = blobs.bucket().unwrap();
    chaos.cut_after_bytes(1);
    chaos.cut_all();
    let refused = blobs.keep(film(70_000)).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::HostUnreachable);
    assert!(bucket.trouble().borrow().is_some());
    chaos.heal();
    // Until it was found to take files again.
    let refused = blobs.keep(film(70_000)).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::HostUnreachable);
    let number = bucket.number().await.unwrap();
    bucket.try_writing(number).await.unwrap();
    bucket.set_trouble(None);
    let kept = blobs.keep(film(70_000)).await.unwrap();
    assert!(blobs.find(kept.sha256).await.unwrap().is_some());
}
