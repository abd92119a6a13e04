//! Inbound runs every channel's sources: requests that providers push, sockets that stay open,
//! lists that are polled. Raw bytes are verified before they are parsed.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use connector_api::{
    CancellationToken, Error, ErrorKind, InboundBatch, WebhookOutcome, WebhookRequest,
    WebhookSource,
};
use futures::FutureExt;
use tokio::sync::Notify;
use tracing::debug;

use crate::api::{HookAnswer, Hooks};
use crate::bus::BusError;
use crate::channels::{Channel, LiveChannels};
use crate::health::{Health, State};
use crate::intake::{ChannelIntake, Intake, apart};
use crate::store::Store;

pub mod attachments;

/// First and longest pause between tries of a broken source.
const BACKOFF_FIRST: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// What a webhook sender is told to wait when intake refuses.
const RETRY_AFTER_SECONDS: u32 = 5;

/// Answers webhooks of all channels.
pub struct Webhooks {
    pub channels: LiveChannels,
    pub intake: Arc<Intake>,
}

impl Webhooks {
    fn channel(&self, id: &str) -> Option<Arc<Channel>> {
        let channel = self.channels.now().get(&id.parse().ok()?)?.clone();
        channel.connector.webhook_source()?;
        Some(channel)
    }
}

#[async_trait]
impl Hooks for Webhooks {
    fn body_bytes_max(&self, channel: &str) -> u64 {
        let channel = self.channel(channel);
        let source = (channel.as_ref()).and_then(|channel| channel.connector.webhook_source());
        source.map_or(0, WebhookSource::body_bytes_max)
    }

    async fn deliver(&self, channel: &str, request: WebhookRequest) -> HookAnswer {
        let Some(channel) = &self.channel(channel) else {
            return HookAnswer::UnknownChannel;
        };
        let outcome = match read(channel, request).await {
            Ok(outcome) => outcome,
            Err(error) => return refusal(channel, &error),
        };
        match outcome {
            WebhookOutcome::Handshake(reply) => HookAnswer::Accepted(reply),
            WebhookOutcome::Events { events, reply } => {
                match self.intake.accept(channel, events).await {
                    Ok(()) => HookAnswer::Accepted(reply),
                    Err(error) => not_durable(&error),
                }
            }
        }
    }
}

/// Verifies a request and reads it; once more with fresh keys where it asks for them.
async fn read(
    channel: &Arc<Channel>,
    request: WebhookRequest,
) -> connector_api::Result<WebhookOutcome> {
    let request = match read_once(channel, request).await? {
        Once::Read(outcome) => return Ok(outcome),
        Once::KeysStale(request, _) => request,
    };
    source_of(channel)?.refresh().await?;
    match read_once(channel, *request).await? {
        Once::Read(outcome) => Ok(outcome),
        Once::KeysStale(_, error) => Err(error),
    }
}

/// What became of a request: it is the source's once it is verified.
enum Once {
    Read(WebhookOutcome),
    KeysStale(Box<WebhookRequest>, Error),
}

async fn read_once(channel: &Arc<Channel>, request: WebhookRequest) -> connector_api::Result<Once> {
    let channel = channel.clone();
    let read = apart(request.body.len(), move || {
        let source = source_of(&channel)?;
        match source.verify(&request) {
            Ok(()) => source.parse(request).map(Once::Read),
            Err(error) if error.kind == ErrorKind::KeysStale => {
                Ok(Once::KeysStale(Box::new(request), error))
            }
            Err(error) => Err(error),
        }
    });
    let panicked = |_| Error::malformed("reading the request panicked");
    read.await.map_err(panicked)?
}

fn source_of(channel: &Channel) -> connector_api::Result<&dyn WebhookSource> {
    let source = channel.connector.webhook_source();
    source.ok_or_else(|| Error::malformed("the channel takes no webhooks"))
}

fn refusal(channel: &Channel, error: &Error) -> HookAnswer {
    let detail = error.message.clone();
    let (reason, answer) = match &error.kind {
        ErrorKind::Auth | ErrorKind::KeysStale => {
            ("unauthorized", HookAnswer::Unauthorized { detail })
        }
        ErrorKind::TooLarge => ("too_large", HookAnswer::TooLarge { detail }),
        ErrorKind::Unavailable | ErrorKind::RateLimited { .. } => (
            "unavailable",
            HookAnswer::Refused {
                detail,
                retry_after_seconds: RETRY_AFTER_SECONDS,
            },
        ),
        _ => ("malformed", HookAnswer::Malformed { detail }),
    };
    let labels = [
        ("channel", channel.id.as_str().to_owned()),
        ("reason", reason.to_owned()),
    ];
    metrics::counter!("switchboard_webhooks_refused_total", &labels).increment(1);
    debug!(channel.id = %channel.id, error = %error, "refused a webhook of {}", channel.id);
    answer
}

fn not_durable(error: &BusError) -> HookAnswer {
    HookAnswer::Refused {
        detail: error.to_string(),
        retry_after_seconds: RETRY_AFTER_SECONDS,
    }
}

/// Runs a channel's stream or poll source until `stop`, with back-off between failures. A channel
/// that only takes webhooks is ready at once. `again` ends a pause early.
pub async fn run_source(
    channel: Arc<Channel>,
    intake: Arc<Intake>,
    store: Arc<dyn Store>,
    health: Arc<Health>,
    again: Arc<Notify>,
    stop: CancellationToken,
) {
    let name = format!("channel:{}", channel.id);
    if is_pushed_only(&channel) {
        health.set(&name, State::Ready);
        return;
    }
    let mut pause = BACKOFF_FIRST;
    while !stop.is_cancelled() {
        let before = heard_at(&intake, &channel);
        let durable = Arc::new(Telling {
            durable: ChannelIntake {
                intake: intake.clone(),
                channel: channel.clone(),
            },
            health: health.clone(),
            name: name.clone(),
            trouble: Mutex::default(),
        });
        let watched = watch(&durable, before);
        let run = run_once(&channel, &durable, store.as_ref(), &stop);
        let result = tokio::select! {
            // Parsing reads a stranger's bytes: a panic is a broken source, tried again.
            result = AssertUnwindSafe(run).catch_unwind() => {
                result.unwrap_or_else(|_| Err(Error::malformed("reading from the provider panicked")))
            }
            () = watched => unreachable_watch(),
        };
        let error = match result {
            Err(error) => error,
            Ok(()) if stop.is_cancelled() => return,
            Ok(()) => Error::unavailable("the source ended by itself"),
        };
        if heard_at(&intake, &channel) > before {
            pause = BACKOFF_FIRST;
        }
        health.set(&name, state_of(&error));
        let wait = rest_after(&error.kind, pause);
        pause = (pause * 2).min(BACKOFF_MAX);
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(wait) => {}
            // Access was granted meanwhile.
            () = again.notified() => pause = BACKOFF_FIRST,
        }
    }
}

/// Whether a channel hears only what is sent to it; any other has one reader.
pub fn is_pushed_only(channel: &Channel) -> bool {
    channel.connector.stream_source().is_none() && channel.connector.poll_source().is_none()
}

fn heard_at(intake: &Intake, channel: &Channel) -> i64 {
    intake.last_heard().get(&channel.id).copied().unwrap_or(0)
}

/// Says `ready` once the provider was heard after `before`, or what is amiss all the same; never ends.
async fn watch(telling: &Telling, before: i64) {
    let ChannelIntake { intake, channel } = &telling.durable;
    intake.heard_after(&channel.id, before).await;
    telling.tell();
    std::future::pending::<()>().await;
}

/// A channel's way in, whose source may also say how the channel is.
struct Telling {
    durable: ChannelIntake,
    health: Arc<Health>,
    name: String,
    /// What the source said that a person should mend.
    trouble: Mutex<Option<String>>,
}

impl Telling {
    fn trouble(&self) -> MutexGuard<'_, Option<String>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) {
        let trouble = self.trouble().clone();
        let state = trouble.map_or(State::Ready, |reason| State::Degraded { reason });
        self.health.set(&self.name, state);
    }
}

#[async_trait]
impl connector_api::Intake for Telling {
    async fn accept(&self, batch: InboundBatch) -> connector_api::Result<()> {
        self.durable.accept(batch).await
    }

    fn heard(&self) {
        self.durable.heard();
    }

    fn degraded(&self, reason: Option<&str>) {
        let before = std::mem::replace(&mut *self.trouble(), reason.map(str::to_owned));
        // That nothing was ever wrong does not say that the channel is heard.
        if before.is_some() || reason.is_some() {
            self.tell();
        }
    }
}

fn unreachable_watch() -> connector_api::Result<()> {
    Err(Error::unavailable("the watch of a source ended"))
}

async fn run_once(
    channel: &Arc<Channel>,
    durable: &Arc<Telling>,
    store: &dyn Store,
    stop: &CancellationToken,
) -> connector_api::Result<()> {
    let cursor = store.cursor(&channel.id).await;
    let cursor =
        cursor.map_err(|error| Error::unavailable(format!("reading the cursor: {error}")))?;
    if let Some(stream) = channel.connector.stream_source() {
        return stream.run(cursor, durable.clone(), stop.clone()).await;
    }
    let Some(source) = channel.connector.poll_source() else {
        return Ok(());
    };
    let mut after = cursor;
    while !stop.is_cancelled() {
        let batch = tokio::select! {
            batch = source.poll(after.as_ref()) => batch?,
            () = stop.cancelled() => return Ok(()),
        };
        let through = batch.cursor.clone();
        connector_api::Intake::accept(durable.as_ref(), batch).await?;
        if let Some(through) = through {
            if let Err(error) = source.committed(&through).await {
                debug!(channel.id = %channel.id, error = %error, "telling {} what is durable failed", channel.id);
            }
            after = Some(through);
        }
    }
    Ok(())
}

/// How long a source rests before it is tried again. Whatever it is, it is tried again: what a person
/// mends at the provider needs nothing to be done here.
fn rest_after(error: &ErrorKind, pause: Duration) -> Duration {
    match error {
        ErrorKind::RateLimited {
            retry_after: Some(after),
        } => (*after).min(BACKOFF_MAX),
        ErrorKind::Auth | ErrorKind::Config => BACKOFF_MAX,
        _ => pause,
    }
}

fn state_of(error: &Error) -> State {
    let reason = error.message.clone();
    match error.kind {
        ErrorKind::Auth | ErrorKind::Config => State::Unauthorized { reason },
        ErrorKind::Unavailable => State::Unreachable { reason },
        _ => State::Degraded { reason },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One error ended a mailbox until somebody saved its settings again.
    #[test]
    fn chatwoot_4532_after_any_error_a_source_is_tried_again_within_a_minute() {
        let pauses = [BACKOFF_FIRST, BACKOFF_MAX];
        for kind in [
            ErrorKind::Auth,
            ErrorKind::Config,
            ErrorKind::Unavailable,
            ErrorKind::RateLimited { retry_after: None },
            ErrorKind::RateLimited {
                retry_after: Some(Duration::from_secs(86_400)),
            },
            ErrorKind::Rejected,
            ErrorKind::Malformed,
            ErrorKind::TooLarge,
            ErrorKind::KeysStale,
            ErrorKind::OutcomeUnknown,
        ] {
            for pause in pauses {
                let rest = rest_after(&kind, pause);
                assert!(rest >= pause.min(BACKOFF_FIRST), "{kind:?}: no storm");
                assert!(rest <= Duration::from_secs(60), "{kind:?}: {rest:?}");
            }
        }
    }
}
