//! Files in a bucket: that it is the one of this installation, and whether it takes them. It can be away while
//! everything here works.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::blobs::{Blobs, Bucket, BucketSettings};
use crate::channels::read_secret;
use crate::config::{Config, ConfigErrors, bucket};
use crate::health::{Health, State};
use crate::store::{Store, StoreError, name_of};
use connector_api::{CancellationToken, SecretRef};

use super::{StartError, shared};

/// Under which name its state is kept.
pub const NAME: &str = "blobs";
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// The same while it cannot be used.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// A start waits for so long, and goes on without.
const FIRST_LOOK: Duration = Duration::from_secs(5);
const REGION: &str = "us-east-1";

/// The bucket that is configured, if any.
pub fn configured(config: &Config, data_dir: &Path) -> Result<Option<Blobs>, StartError> {
    let Some(opened) = bucket_of(config, data_dir)? else {
        return Ok(None);
    };
    let blobs = Blobs::in_bucket(opened).map_err(|error| StartError::DataDir {
        path: data_dir.join("spool"),
        error,
    })?;
    Ok(Some(blobs))
}

/// The bucket, which nobody has asked anything yet; or all that is wrong with how it is configured.
pub fn bucket_of(config: &Config, data_dir: &Path) -> Result<Option<Bucket>, ConfigErrors> {
    let Some(settings) = settings(config, data_dir)? else {
        return Ok(None);
    };
    Bucket::open(settings).map(Some).map_err(|error| {
        let mut errors = ConfigErrors::default();
        let (key, why) = error.split_once(": ").unwrap_or(("store", &error));
        errors.push(config.origin(key), key, why);
        errors
    })
}

fn settings(config: &Config, data_dir: &Path) -> Result<Option<BucketSettings>, ConfigErrors> {
    let store = &config.store;
    let Some(url) = &store.blobs_url else {
        return Ok(None);
    };
    let mut errors = ConfigErrors::default();
    let mut wrong = |key: &str, error: &dyn std::fmt::Display| {
        let key = format!("store.{key}");
        errors.push(config.origin(&key), key, error.to_string());
    };
    let place = bucket::parse(url).map_err(|error| wrong("blobs_url", &error));
    let mut secret = |key: &str, named: &Option<SecretRef>| match named.as_ref().map(read_secret) {
        Some(Ok(read)) => Some(read),
        Some(Err(error)) => {
            wrong(key, &error);
            None
        }
        None => {
            wrong(key, &"it is missing");
            None
        }
    };
    let access_key = secret("blobs_access_key", &store.blobs_access_key);
    let secret_key = secret("blobs_secret_key", &store.blobs_secret_key);
    let read = |path: &PathBuf| {
        let read = std::fs::read(path);
        read.map_err(|error| wrong("blobs_ca_file", &format!("{}: {error}", path.display())))
    };
    let authority = store.blobs_ca_file.as_ref().map(read).transpose();
    let (Ok((bucket, prefix)), Some(access_key), Some(secret_key), Ok(authority)) =
        (place, access_key, secret_key, authority)
    else {
        return Err(errors);
    };
    Ok(Some(BucketSettings {
        bucket,
        prefix,
        endpoint: store.blobs_endpoint.clone(),
        region: (store.blobs_region.clone()).unwrap_or_else(|| REGION.to_owned()),
        access_key,
        secret_key,
        authority,
        spool: data_dir.join("spool"),
    }))
}

/// Looks once whether the bucket is that of the database. One that is another is refused; one that is away is
/// looked for again by [`BucketState`].
pub async fn first_look(store: &dyn Store, bucket: &Bucket) -> Result<(), StartError> {
    match tokio::time::timeout(FIRST_LOOK, right(store, bucket)).await {
        Ok(Ok(_)) => bucket.set_trouble(None),
        Ok(Err(Wrong::Away(reason))) => bucket.set_trouble(Some(reason)),
        Ok(Err(Wrong::Another(reason))) => return Err(StartError::Other(reason)),
        Ok(Err(Wrong::Store(error))) => return Err(error.into()),
        Err(_) => {}
    }
    Ok(())
}

enum Wrong {
    Away(String),
    Another(String),
    Store(StoreError),
}

/// The bucket's number, which has to be the one that the database knows.
async fn right(store: &dyn Store, bucket: &Bucket) -> Result<i64, Wrong> {
    let ours = name_of(store.installation_key());
    let whose = bucket.installation(&ours).await.map_err(Wrong::Away)?;
    if whose != ours {
        let wrong = shared::of_another("store.blobs_url", &bucket.place());
        return Err(Wrong::Another(wrong));
    }
    let here = bucket.number().await.map_err(Wrong::Away)?;
    let agreed = store.agree(shared::NUMBER_KEY, here).await;
    if agreed.map_err(Wrong::Store)? == here {
        return Ok(here);
    }
    Err(Wrong::Another(
        "store.blobs_url: the files of this database are elsewhere: name the bucket and prefix that its other \
         processes have, or copy the files there, with the one that is called number"
            .to_owned(),
    ))
}

pub struct BucketState {
    pub store: Arc<dyn Store>,
    pub bucket: Arc<Bucket>,
    pub health: Arc<Health>,
}

impl BucketState {
    /// Says how it is, until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        let mut trouble = self.bucket.trouble();
        let mut number = None;
        while !stop.is_cancelled() {
            // What failed in flight is a state at once, and not only if this look fails as well.
            let known = trouble.borrow_and_update().clone();
            if known.is_some() {
                self.tell(known.as_ref());
            }
            let found = self.look(&mut number, known.is_some()).await;
            self.bucket.set_trouble(found.clone());
            self.tell(found.as_ref());
            if *trouble.borrow_and_update() != found {
                // Something failed meanwhile.
                continue;
            }
            let rest = match found {
                None => LOOK_EVERY,
                Some(_) => AGAIN_AFTER,
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(rest) => {}
                // The sender is the bucket, which is held here.
                changed = trouble.changed() => drop(changed),
            }
        }
    }

    /// What is wrong, if anything. One that did not take a file has to take one before it is well.
    async fn look(&self, number: &mut Option<i64>, was_wrong: bool) -> Option<String> {
        let found = match *number {
            Some(known) => match self.bucket.number().await {
                Ok(there) if there == known => Ok(known),
                Ok(_) => right(self.store.as_ref(), &self.bucket).await,
                Err(reason) => Err(Wrong::Away(reason)),
            },
            None => right(self.store.as_ref(), &self.bucket).await,
        };
        match found {
            Ok(known) => {
                *number = Some(known);
                match was_wrong {
                    true => self.bucket.try_writing(known).await.err(),
                    false => None,
                }
            }
            Err(Wrong::Away(reason) | Wrong::Another(reason)) => Some(reason),
            Err(Wrong::Store(error)) => Some(format!(
                "which bucket is the right one is not known: {error}"
            )),
        }
    }

    fn tell(&self, trouble: Option<&String>) {
        let state = match trouble {
            None => State::Ready,
            Some(reason) => State::Degraded {
                reason: reason.clone(),
            },
        };
        self.health.set(NAME, state);
    }
}
