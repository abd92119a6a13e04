//! Files in an S3-compatible store, which processes on several hosts share. They have the same names there as in a
//! directory, so that one can be copied into the other.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path as Key;
use object_store::{
    Certificate, ClientOptions, Error, ObjectMeta, ObjectStore as _, ObjectStoreExt as _, PutMode,
    PutOptions, RetryConfig,
};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::{Semaphore, watch};

use crate::words::innermost;

use super::{name_of, random, unhex};

/// The object that says which bucket this is, whatever it is called by whom.
const NUMBER: &str = "number";
/// Whose the files are.
const INSTALLATION: &str = "installation";
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// Of one request: a piece or a file.
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);
/// A webhook waits for this: what fails longer is refused, and comes again.
const RETRIED_FOR: Duration = Duration::from_secs(5);
const RETRIES_MAX: usize = 2;
/// Files on their way at a time. A batch may bring hundreds, and each is in memory meanwhile anyway.
const PUTS_MAX: usize = 32;

/// Which bucket, and as whom.
pub struct Settings {
    pub bucket: String,
    /// What the names of its objects begin with; empty: nothing.
    pub prefix: String,
    /// Default: that of AWS for the region.
    pub endpoint: Option<String>,
    pub region: String,
    pub access_key: SecretString,
    pub secret_key: SecretString,
    /// Certificates in PEM of an authority that is believed beside those of the system.
    pub authority: Option<Vec<u8>>,
    /// Directory on this host for what arrives in pieces.
    pub spool: PathBuf,
}

/// Why a bucket cannot be used now, and what to do about it; `None`: it can.
pub type Trouble = Option<String>;

/// An opened bucket. Nothing is kept in it before it was found to be the right one.
pub struct Bucket {
    store: AmazonS3,
    prefix: Key,
    name: String,
    /// As errors call where it is.
    endpoint: String,
    pub(super) spool: PathBuf,
    trouble: watch::Sender<Trouble>,
    puts: Semaphore,
}

impl Bucket {
    /// Asks nobody yet. An error is one of the settings.
    pub fn open(settings: Settings) -> Result<Self, String> {
        let mut client = ClientOptions::new()
            .with_connect_timeout(CONNECT_WITHIN)
            .with_timeout(ANSWERED_WITHIN);
        if let Some(authority) = &settings.authority {
            let read = Certificate::from_pem_bundle(authority)
                .map_err(|error| format!("store.blobs_ca_file: {}", innermost(&error)))?;
            if read.is_empty() {
                return Err("store.blobs_ca_file: there is no certificate in it".to_owned());
            }
            client = (read.into_iter()).fold(client, ClientOptions::with_root_certificate);
        }
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&settings.bucket)
            .with_region(&settings.region)
            .with_access_key_id(settings.access_key.expose_secret())
            .with_secret_access_key(settings.secret_key.expose_secret())
            .with_client_options(client)
            .with_retry(RetryConfig {
                max_retries: RETRIES_MAX,
                retry_timeout: RETRIED_FOR,
                ..RetryConfig::default()
            });
        if let Some(endpoint) = &settings.endpoint {
            builder = builder
                .with_endpoint(endpoint)
                .with_allow_http(endpoint.starts_with("http://"));
        }
        let store = builder
            .build()
            .map_err(|error| format!("store.blobs_url: {}", innermost(&error)))?;
        let aws = || format!("AWS in {}", settings.region);
        let starting = "the bucket is not reached yet".to_owned();
        Ok(Self {
            store,
            prefix: Key::from(settings.prefix.as_str()),
            name: settings.bucket,
            endpoint: settings.endpoint.unwrap_or_else(aws),
            spool: settings.spool,
            trouble: watch::Sender::new(Some(starting)),
            puts: Semaphore::new(PUTS_MAX),
        })
    }

    /// Whether it can be used, as long as this is listened to.
    pub fn trouble(&self) -> watch::Receiver<Trouble> {
        self.trouble.subscribe()
    }

    /// Notes whether it can be used. Until it can, what would have to go there is refused at once.
    pub fn set_trouble(&self, trouble: Trouble) {
        self.trouble.send_if_modified(|known| {
            let other = *known != trouble;
            *known = trouble;
            other
        });
    }

    /// The number of the bucket, which it is given when it has none.
    pub async fn number(&self) -> Result<i64, String> {
        let new = random().map_err(|error| error.to_string())?;
        let text = self.noted(NUMBER, &new.to_string()).await?;
        text.parse().map_err(|_| {
            let (name, endpoint) = (&self.name, &self.endpoint);
            format!("{NUMBER} in the bucket {name} at {endpoint} is no number: this is not a bucket of Switchboard's: set store.blobs_url to another one")
        })
    }

    /// The installation that the files are of: this one, where they are nobody's yet.
    pub async fn installation(&self, ours: &str) -> Result<String, String> {
        self.noted(INSTALLATION, ours).await
    }

    /// For whoever has to say which it is.
    pub fn place(&self) -> String {
        let (name, endpoint) = (&self.name, &self.endpoint);
        format!("{}/{} at {endpoint}", name, self.prefix)
    }

    /// What it says of itself in an object, which is given `first` where there is none.
    async fn noted(&self, object: &str, first: &str) -> Result<String, String> {
        let key = self.prefix.clone().join(object);
        loop {
            match self.bytes_of(&key).await {
                Ok(text) => return Ok(String::from_utf8_lossy(&text).trim().to_owned()),
                Err(Error::NotFound { source, .. }) if !is_of_bucket(source.as_ref()) => {}
                Err(error) => return Err(self.explained(&error)),
            }
            let once = PutOptions::from(PutMode::Create);
            let put = self.store.put_opts(&key, first.to_owned().into(), once);
            match put.await {
                // Another process may be doing the same: whoever comes first has said it.
                Ok(_) | Err(Error::AlreadyExists { .. }) => {}
                Err(error) => return Err(self.explained(&error)),
            }
        }
    }

    /// Tries whether it takes files: writes the number that it has.
    pub async fn try_writing(&self, number: i64) -> Result<(), String> {
        let key = self.prefix.clone().join(NUMBER);
        let put = self.store.put(&key, number.to_string().into()).await;
        put.map(drop).map_err(|error| self.explained(&error))
    }

    async fn bytes_of(&self, key: &Key) -> Result<Bytes, Error> {
        self.store.get(key).await?.bytes().await
    }

    /// Makes a file durable. One that is there already is written again, and so is as young as a new one.
    pub(super) async fn put(&self, sha256: &[u8; 32], bytes: Bytes) -> std::io::Result<()> {
        self.is_usable()?;
        let _turn = self.puts.acquire().await.map_err(std::io::Error::other)?;
        let put = self.store.put(&self.key(sha256), bytes.into()).await;
        put.map(drop).map_err(|error| self.failed(&error))
    }

    /// How many bytes the file of a digest has, where there is one.
    pub(super) async fn bytes_len(&self, sha256: &[u8; 32]) -> std::io::Result<Option<u64>> {
        let found = self.head(sha256).await?;
        Ok(found.map(|found| found.size))
    }

    async fn head(&self, sha256: &[u8; 32]) -> std::io::Result<Option<ObjectMeta>> {
        self.is_usable()?;
        match self.store.head(&self.key(sha256)).await {
            Ok(found) => Ok(Some(found)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// A piece of a file, which has that many bytes at least.
    pub(super) async fn read(
        &self,
        sha256: &[u8; 32],
        range: std::ops::Range<u64>,
    ) -> std::io::Result<Bytes> {
        self.is_usable()?;
        let read = self.store.get_range(&self.key(sha256), range).await;
        read.map_err(|error| match error {
            Error::NotFound { .. } => std::io::Error::from(std::io::ErrorKind::NotFound),
            error => self.failed(&error),
        })
    }

    /// Its files, and since when each is there.
    pub(super) fn files(&self) -> BoxStream<'_, std::io::Result<([u8; 32], SystemTime)>> {
        let listed = self.store.list(Some(&self.prefix));
        let files = listed.map_err(|error| self.failed(&error));
        let named = files.try_filter_map(|found: ObjectMeta| {
            let file = found.location.filename().and_then(unhex);
            let named = file.map(|file| (file, written_at(&found)));
            std::future::ready(Ok(named))
        });
        named.boxed()
    }

    /// Since when a file is there.
    pub(super) async fn written_at(
        &self,
        sha256: &[u8; 32],
    ) -> std::io::Result<Option<SystemTime>> {
        Ok(self.head(sha256).await?.as_ref().map(written_at))
    }

    pub(super) async fn delete(&self, sha256: &[u8; 32]) -> std::io::Result<()> {
        match self.store.delete(&self.key(sha256)).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed(&error)),
        }
    }

    fn key(&self, sha256: &[u8; 32]) -> Key {
        let (shelf, name) = name_of(sha256);
        self.prefix.clone().join(shelf).join(name)
    }

    fn is_usable(&self) -> std::io::Result<()> {
        match &*self.trouble.borrow() {
            None => Ok(()),
            Some(reason) => Err(away(reason.clone())),
        }
    }

    /// What to say of a request that failed; the next ones are refused at once.
    fn failed(&self, error: &Error) -> std::io::Error {
        let reason = self.explained(error);
        self.set_trouble(Some(reason.clone()));
        away(reason)
    }

    /// What is wrong, and what to do about it, in one line.
    fn explained(&self, error: &Error) -> String {
        let (name, endpoint) = (&self.name, &self.endpoint);
        match error {
            Error::PermissionDenied { source, .. } | Error::Unauthenticated { source, .. } => {
                let why = code_of(source.as_ref()).unwrap_or("it is forbidden".to_owned());
                format!(
                    "{endpoint} refuses us the bucket {name} ({why}): look at store.blobs_access_key and \
                     store.blobs_secret_key, and at their rights to list the bucket and to get, put and delete in it"
                )
            }
            Error::NotFound { .. } => format!(
                "there is no bucket {name} at {endpoint}: make it, or set store.blobs_url to another one"
            ),
            other => {
                let why = innermost(other);
                format!(
                    "the bucket {name} at {endpoint} cannot be used now ({why}): look whether store.blobs_endpoint \
                     and store.blobs_region are right, and whether it is up"
                )
            }
        }
    }
}

/// Of an answer 404: the bucket is missing, and not the object.
fn is_of_bucket(error: &(dyn std::error::Error + 'static)) -> bool {
    code_of(error).is_some_and(|code| code == "NoSuchBucket")
}

/// The code in the body of a refusal: `<Code>AccessDenied</Code>`.
fn code_of(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let said = error.to_string();
    let (_, rest) = said.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    let is_word = code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_word.then(|| code.to_owned())
}

fn away(reason: String) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::HostUnreachable, reason)
}

fn written_at(found: &ObjectMeta) -> SystemTime {
    let since = u64::try_from(found.last_modified.timestamp_micros()).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_micros(since)
}
