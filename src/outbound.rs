//! Outbound: one lane per channel takes due replies from the outbox and sends each once. Sent,
//! refused, unknown: there is no fourth outcome, and unknown is sent again only where the provider
//! takes one message once.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use connector_api::{
    CancellationToken, ChannelId, Clock, Error, ErrorKind, OutboundMessage, Recipient,
};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tracing::{error, warn};

use crate::channels::Channel;
use crate::clock::{micros, timestamp};
use crate::health::{Health, State};
use crate::ids::{IdCodec, IdKind};
use crate::router::reply_token::ReplyTokens;
use crate::store::{Leased, Rings, Settlement, Store, StoreError};
use crate::wake::Wakes;

pub mod files;
mod lockout;

pub use files::{FileError, Files};
use lockout::Lockout;

/// First and longest pause between attempts of one reply.
const RETRY_FIRST: Duration = Duration::from_secs(5);
const RETRY_MAX: Duration = Duration::from_secs(60 * 60);
/// A reply that could not leave for this long is refused: nobody waits for it any more.
const GIVE_UP_AFTER: Duration = Duration::from_secs(5 * 24 * 60 * 60);
/// How long a lane rests when the store is away.
const REST: Duration = Duration::from_secs(30);
/// Between tries to write an outcome down while the store is away.
const FILE_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Looks at the outbox even when nobody rang.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// What a lane works with.
pub struct Lane {
    pub channel: Arc<Channel>,
    pub store: Arc<dyn Store>,
    pub clock: Arc<dyn Clock>,
    /// Rung under a channel's id when its outbox has something.
    pub wakes: Arc<Wakes>,
    /// Rung under a queue's id when it has more waiting.
    pub queues: Arc<Wakes>,
    pub health: Arc<Health>,
    pub ids: IdCodec,
    pub files: Files,
    pub reply_tokens: ReplyTokens,
    /// Whether the lane is this process's now. One that stood still asks before it sends what another
    /// process may have sent meanwhile.
    pub ours: Box<dyn Fn() -> bool + Send + Sync>,
}

impl Lane {
    /// Sends until `stop`; then finishes what is under way.
    pub async fn run(&self, stop: CancellationToken) {
        let Some(sender) = self.channel.connector.sender() else {
            return;
        };
        let bell = self.wakes.bell(self.channel.id.as_str());
        let grants = self.wakes.bell(&granted(&self.channel.id));
        let mut lockout = Lockout::default();
        let places = usize::from(self.channel.capabilities.sends_inflight_max.max(1));
        let mut sending = FuturesUnordered::new();
        // Whether nothing is `sending` that is not being sent here.
        let mut is_settled = self.recover().await;
        // Nothing is known against it (any more); the first send that fails says more.
        self.note(Some(State::Ready));
        loop {
            let (rung, let_in) = (bell.notified(), grants.notified());
            let locked_out = lockout.left(micros(self.clock.now()));
            let mut rest = locked_out.map_or(LOOK_EVERY, |left| left.min(LOOK_EVERY));
            // One try shows whether we are let in again.
            let places = if lockout.holds() { 1 } else { places };
            let goes_on = locked_out.is_none() && !stop.is_cancelled() && (self.ours)();
            if goes_on && !is_settled && sending.is_empty() {
                is_settled = self.recover().await;
                if !is_settled {
                    rest = REST;
                }
            }
            if sending.len() < places && goes_on && is_settled {
                match self.lease(places - sending.len()).await {
                    Ok(leased) => {
                        let full = leased.len() + sending.len() >= places;
                        sending.extend(leased.into_iter().map(|leased| self.send(sender, leased)));
                        rest = if full {
                            LOOK_EVERY
                        } else {
                            self.until_due().await
                        };
                    }
                    Err(error) => {
                        warn!(channel.id = %self.channel.id, error = %error, "reading the outbox failed, resting");
                        // It may have been done all the same: then nobody sends what was taken.
                        is_settled = false;
                        rest = REST;
                    }
                }
            }
            if stop.is_cancelled() && sending.is_empty() {
                return;
            }
            tokio::select! {
                Some(outcome) = sending.next() => {
                    lockout.note(outcome.as_ref(), micros(self.clock.now()));
                    self.note(outcome);
                }
                () = tokio::time::sleep(rest) => {}
                () = rung => {}
                () = let_in => lockout = Lockout::default(),
                () = stop.cancelled(), if sending.is_empty() => return,
            }
        }
    }

    /// Settles what the lane was sending when it broke, or took without hearing of it. Says whether that is done;
    /// until it is, nothing leaves.
    async fn recover(&self) -> bool {
        let (channel, now) = (&self.channel.id, micros(self.clock.now()));
        let idempotent = self.channel.capabilities.send_idempotent;
        match self.store.recover_lane(channel, idempotent, now).await {
            Ok(rings) => {
                self.ring(&rings);
                true
            }
            Err(error) => {
                warn!(channel.id = %channel, error = %error, "settling what was being sent failed, resting");
                false
            }
        }
    }

    fn ring(&self, rings: &Rings) {
        for queue in &rings.queues {
            self.queues.ring(queue.as_str());
        }
        for channel in &rings.channels {
            self.wakes.ring(channel.as_str());
        }
    }

    async fn lease(&self, places: usize) -> Result<Vec<Leased>, StoreError> {
        // Looking costs a read; taking costs a commit.
        let now = micros(self.clock.now());
        match self.store.next_due(&self.channel.id, now).await? {
            Some(due) if due <= now => {
                let places = u32::try_from(places).unwrap_or(u32::MAX);
                let taken = self.store.lease(&self.channel.id, places, now).await?;
                self.ring(&taken.rings);
                Ok(taken.leased)
            }
            _ => Ok(Vec::new()),
        }
    }

    async fn until_due(&self) -> Duration {
        let now = micros(self.clock.now());
        match self.store.next_due(&self.channel.id, now).await {
            Ok(Some(due)) => {
                let wait = due - now;
                Duration::from_micros(u64::try_from(wait).unwrap_or(0)).min(LOOK_EVERY)
            }
            _ => LOOK_EVERY,
        }
    }

    /// One attempt, and what it came to, written down.
    async fn send(&self, sender: &dyn connector_api::Sender, leased: Leased) -> Option<State> {
        let message = match self.message(&leased).await {
            Ok(message) => message,
            Err(settlement) => {
                self.settle(&leased, settlement).await;
                return None;
            }
        };
        if !(self.ours)() {
            let reason = "the lane became another process's before it left".to_owned();
            let at = micros(self.clock.now());
            self.settle(&leased, Settlement::Retry { at, reason }).await;
            return None;
        }
        // A connector that panics over one message sends the others all the same.
        let sent = AssertUnwindSafe(sender.send(&message)).catch_unwind().await;
        let Ok(result) = sent else {
            let reason = "the connector panicked while sending".to_owned();
            let settlement = Settlement::Unknown {
                reason: reason.clone(),
            };
            self.settle(&leased, settlement).await;
            return Some(State::Degraded { reason });
        };
        let state = match &result {
            Ok(_) => State::Ready,
            Err(error) => state_of(error)?,
        };
        if result.is_ok() {
            let name = health_name(&self.channel.id);
            self.health.worked(&name, micros(self.clock.now()));
        }
        let settlement = match result {
            Ok(receipt) => Settlement::Sent {
                provider_ids: receipt.provider_message_ids,
                namespace: Some(message.to.namespace.clone()),
                refused: receipt.refused,
            },
            Err(error) => self.settlement(&leased, &error),
        };
        self.settle(&leased, settlement).await;
        Some(state)
    }

    /// What to hand to the connector, or what becomes of a reply that cannot be put together.
    async fn message(&self, leased: &Leased) -> Result<OutboundMessage, Settlement> {
        let Some(to) = leased.draft.to.clone() else {
            let reason = "it has no destination".to_owned();
            return Err(Settlement::Refused { reason });
        };
        let attachments = self.files.of(leased).await.map_err(|error| match error {
            FileError::Gone { name } => Settlement::Refused {
                reason: format!("its file {name:?} is gone"),
            },
            FileError::Store(error) => {
                self.retry(leased, None, format!("reading its files: {error}"))
            }
        })?;
        Ok(OutboundMessage {
            id: self.ids.encode(IdKind::Message, leased.id.0),
            conversation: self.ids.encode(IdKind::Conversation, leased.conversation.0),
            reply_token: self.reply_tokens.mint(leased.conversation),
            to: Recipient {
                namespace: to.namespace,
                address: to.address,
                name: to.name,
            },
            also_to: to.also_to,
            cc: to.cc,
            bcc: to.bcc,
            thread: to.thread,
            subject: to.subject,
            text: leased.draft.text.clone(),
            html: leased.draft.html.clone(),
            attachments,
            references: to.references,
            automatic: leased.draft.automatic,
            accepted_at: timestamp(leased.accepted_at),
        })
    }

    fn settlement(&self, leased: &Leased, error: &Error) -> Settlement {
        let reason = error.message.clone();
        let idempotent = self.channel.capabilities.send_idempotent;
        match &error.kind {
            ErrorKind::OutcomeUnknown if !idempotent => Settlement::Unknown { reason },
            ErrorKind::Rejected | ErrorKind::Malformed | ErrorKind::TooLarge => {
                Settlement::Refused { reason }
            }
            ErrorKind::RateLimited { retry_after } => self.retry(leased, *retry_after, reason),
            // The lane waits, and not the message: it leaves soon after we are let in again.
            ErrorKind::Auth | ErrorKind::Config => self.retry(leased, Some(Duration::ZERO), reason),
            _ => self.retry(leased, None, reason),
        }
    }

    /// Exponential with a spread that is the reply's own, so that an outage's end is no stampede.
    fn retry(&self, leased: &Leased, after: Option<Duration>, reason: String) -> Settlement {
        let now = micros(self.clock.now());
        let age = Duration::from_micros(u64::try_from(now - leased.tried_since).unwrap_or(0));
        if age >= GIVE_UP_AFTER {
            return Settlement::Refused {
                reason: format!("given up after five days of tries: {reason}"),
            };
        }
        let doubled = RETRY_FIRST.saturating_mul(1 << leased.attempts.saturating_sub(1).min(16));
        let spread = 100 + u32::try_from(leased.id.0.rem_euclid(50)).unwrap_or(0);
        let pause = after.unwrap_or(doubled.min(RETRY_MAX) * spread / 100);
        let at = now + i64::try_from(pause.as_micros()).unwrap_or(i64::MAX);
        Settlement::Retry { at, reason }
    }

    async fn settle(&self, leased: &Leased, settlement: Settlement) {
        let outcome = match &settlement {
            Settlement::Sent { .. } => "sent",
            Settlement::Refused { .. } => "refused",
            Settlement::Unknown { .. } => "unknown",
            Settlement::Retry { .. } => "retry",
        };
        let labels = [
            ("channel", self.channel.id.as_str().to_owned()),
            ("outcome", outcome.to_owned()),
        ];
        metrics::counter!("switchboard_sends_total", &labels).increment(1);
        let mut settlement = settlement;
        loop {
            let failed = match self.file(leased, settlement.clone()).await {
                Ok(rings) => return self.ring(&rings),
                Err(error) => error,
            };
            warn!(channel.id = %self.channel.id, error = %failed, "filing the outcome of a send failed");
            match failed {
                // The row stays `sending`: after a restart its outcome is unknown.
                StoreError::Closed => return,
                StoreError::Poisoned(_) if matches!(settlement, Settlement::Unknown { .. }) => {
                    error!(channel.id = %self.channel.id, "the outcome of a send cannot be filed at all; it is unknown from the next start on");
                    return;
                }
                // It would fail the same way for ever, and keep its place in the lane.
                StoreError::Poisoned(_) => {
                    settlement = Settlement::Unknown {
                        reason: format!("its outcome ({outcome}) could not be written down"),
                    };
                }
                _ => tokio::time::sleep(FILE_AGAIN_AFTER).await,
            }
        }
    }

    async fn file(&self, leased: &Leased, settlement: Settlement) -> Result<Rings, StoreError> {
        let now = micros(self.clock.now());
        let (id, attempt) = (leased.id, leased.attempts);
        self.store
            .settle_attempt(id, attempt, settlement, now)
            .await
    }

    fn note(&self, outcome: Option<State>) {
        if let Some(state) = outcome {
            self.health.set(&health_name(&self.channel.id), state);
        }
    }
}

/// Under which name a lane's state is kept. A lane that is down does not make the daemon unready.
pub fn health_name(channel: &ChannelId) -> String {
    format!("channel:outbound:{channel}")
}

/// Under which name a lane is woken when somebody granted it access; no channel can be called so.
pub fn granted(channel: &ChannelId) -> String {
    format!("#granted:{channel}")
}

/// What a failed send says of the channel; `None` where only the message is to blame.
fn state_of(error: &Error) -> Option<State> {
    let reason = error.message.clone();
    Some(match &error.kind {
        ErrorKind::Auth | ErrorKind::Config => State::Unauthorized { reason },
        ErrorKind::Unavailable | ErrorKind::OutcomeUnknown => State::Unreachable { reason },
        ErrorKind::RateLimited { .. } => State::Degraded { reason },
        _ => State::Ready,
    })
}
