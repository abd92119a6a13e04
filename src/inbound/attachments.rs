//! Fetches the files of messages that came as a reference: after the message is durable and filed,
//! never while its sender waits. A few at a time, each tried again over hours, and every outcome is
//! a state that the message shows.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use connector_api::{CancellationToken, ChannelId, Clock, ErrorKind};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tracing::{debug, warn};

use crate::blobs::Blobs;
use crate::channels::{Channel, LiveChannels};
use crate::clock::micros;
use crate::http::egress::{Egress, FetchError, File};
use crate::store::attachments::{DueFetch, FETCH_ATTEMPTS_MAX, FetchOutcome};
use crate::store::{Store, StoreError};
use crate::wake::Wakes;

/// Under what name the fetcher is woken; no channel can be called so.
pub const BELL: &str = "#attachments";
/// Largest file, as for those that come inside a webhook.
const FILE_BYTES_MAX: u64 = 20 * 1024 * 1024;
/// Files fetched at once: that many times [`FILE_BYTES_MAX`] is the memory they take.
const FETCHES_MAX: usize = 3;
/// Looks for due files even when nobody rang.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// How long it rests when the store is away.
const REST: Duration = Duration::from_secs(5);

/// Hosts that may be private, and the client that was built for them.
type BuiltFor = (Vec<String>, Arc<Egress>);

/// Fetches for all channels.
pub struct Fetcher {
    store: Arc<dyn Store>,
    channels: LiveChannels,
    blobs: Blobs,
    clock: Arc<dyn Clock>,
    wakes: Arc<Wakes>,
    /// By channel, with the hosts it was built for.
    egress: Mutex<HashMap<ChannelId, BuiltFor>>,
}

impl Fetcher {
    pub fn new(
        store: Arc<dyn Store>,
        channels: LiveChannels,
        blobs: Blobs,
        clock: Arc<dyn Clock>,
        wakes: Arc<Wakes>,
    ) -> Self {
        Self {
            store,
            channels,
            blobs,
            clock,
            wakes,
            egress: Mutex::default(),
        }
    }

    /// Fetches until `stop`; what is under way then is tried again after the start.
    pub async fn run(&self, stop: CancellationToken) {
        let bell = self.wakes.bell(BELL);
        loop {
            let rung = bell.notified();
            let rest = tokio::select! {
                looked = self.look() => looked,
                () = stop.cancelled() => return,
            };
            tokio::select! {
                () = rung => {}
                () = tokio::time::sleep(rest) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Fetches what is due and says how long to rest.
    async fn look(&self) -> Duration {
        match self.fetch_due().await {
            Ok(_) => {}
            Err(error) => {
                warn!(%error, "reading which attachments are due failed, resting");
                return REST;
            }
        }
        match self.store.next_fetch().await {
            Ok(Some(due)) => {
                let wait = due - micros(self.clock.now());
                Duration::from_micros(u64::try_from(wait).unwrap_or(0)).min(LOOK_EVERY)
            }
            _ => LOOK_EVERY,
        }
    }

    /// Fetches everything that is due now, and gives its number.
    pub async fn fetch_due(&self) -> Result<usize, StoreError> {
        let mut fetched = 0;
        let mut under_way = FuturesUnordered::new();
        loop {
            let now = micros(self.clock.now());
            let free = FETCHES_MAX.saturating_sub(under_way.len());
            // Looking costs a read; taking costs a commit.
            if free > 0 && self.store.next_fetch().await?.is_some_and(|due| due <= now) {
                let free = u32::try_from(free).unwrap_or(u32::MAX);
                let due = self.store.lease_fetches(free, now).await?;
                fetched += due.len();
                under_way.extend(due.into_iter().map(|due| self.fetch(due)));
            }
            match under_way.next().await {
                Some(settled) => settled?,
                None => return Ok(fetched),
            }
        }
    }

    async fn fetch(&self, due: DueFetch) -> Result<(), StoreError> {
        // What a server sends is a stranger's: a panic over it is a failed try.
        let tried = AssertUnwindSafe(self.attempt(&due)).catch_unwind().await;
        let panicked = || FetchOutcome::Retry {
            reason: "reading it panicked".to_owned(),
        };
        let outcome = match tried.unwrap_or_else(|_| panicked()) {
            FetchOutcome::Retry { reason } if due.attempts >= FETCH_ATTEMPTS_MAX => {
                let reason = format!("given up after {FETCH_ATTEMPTS_MAX} tries: {reason}");
                FetchOutcome::Failed { reason }
            }
            outcome => outcome,
        };
        let (word, why) = match &outcome {
            FetchOutcome::Stored { .. } => ("stored", ""),
            FetchOutcome::Failed { reason } => ("failed", reason.as_str()),
            FetchOutcome::Retry { reason } => ("retry", reason.as_str()),
        };
        let labels = [
            ("channel", due.channel.as_str().to_owned()),
            ("outcome", word.to_owned()),
        ];
        metrics::counter!("switchboard_attachment_fetches_total", &labels).increment(1);
        debug!(channel.id = %due.channel, outcome = word, why, "fetched an attachment of {}", due.channel);
        let now = micros(self.clock.now());
        self.store
            .settle_fetch(due.message, due.place, outcome, now)
            .await
    }

    async fn attempt(&self, due: &DueFetch) -> FetchOutcome {
        if due.attempts > FETCH_ATTEMPTS_MAX {
            let reason = "the process ended while it was fetched".to_owned();
            return FetchOutcome::Failed { reason };
        }
        let file = match self.file(due).await {
            Ok(file) => file,
            Err(FetchError::Refused(reason)) => return FetchOutcome::Failed { reason },
            Err(FetchError::Unavailable(reason)) => return FetchOutcome::Retry { reason },
        };
        match self.blobs.keep(file.bytes).await {
            Ok(blob) => FetchOutcome::Stored {
                blob,
                content_type: file.content_type,
            },
            Err(error) => FetchOutcome::Retry {
                reason: format!("keeping it: {error}"),
            },
        }
    }

    async fn file(&self, due: &DueFetch) -> Result<File, FetchError> {
        let gone = || FetchError::Refused("its channel is not configured any more".to_owned());
        let channels = self.channels.now();
        let channel = channels.get(&due.channel).ok_or_else(gone)?;
        let Some(source) = channel.connector.attachment_source() else {
            let egress = self.egress(channel)?;
            return egress.fetch(&due.reference, FILE_BYTES_MAX).await;
        };
        let fetched = source.fetch(&due.reference, FILE_BYTES_MAX).await;
        let bytes = fetched.map_err(|error| match error.kind {
            ErrorKind::Rejected | ErrorKind::Malformed | ErrorKind::TooLarge => {
                FetchError::Refused(error.message)
            }
            _ => FetchError::Unavailable(error.message),
        })?;
        Ok(File {
            bytes,
            content_type: None,
        })
    }

    fn egress(&self, channel: &Channel) -> Result<Arc<Egress>, FetchError> {
        let mut known = self.egress.lock().unwrap_or_else(PoisonError::into_inner);
        match known.get(&channel.id) {
            Some((hosts, egress)) if *hosts == channel.attachment_hosts => Ok(egress.clone()),
            _ => {
                let hosts = channel.attachment_hosts.clone();
                let built = Egress::new(&hosts).map_err(|error| {
                    FetchError::Unavailable(format!("building the HTTP client: {error}"))
                })?;
                let egress = Arc::new(built);
                known.insert(channel.id.clone(), (hosts, egress.clone()));
                Ok(egress)
            }
        }
    }
}
