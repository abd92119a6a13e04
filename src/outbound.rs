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
use tracing::warn;

use crate::channels::Channel;
use crate::clock::{micros, timestamp};
use crate::health::{Health, State};
use crate::ids::{IdCodec, IdKind};
use crate::router::reply_token::ReplyTokens;
use crate::store::{Leased, Settlement, Store, StoreError};
use crate::wake::Wakes;

/// First and longest pause between attempts of one reply.
const RETRY_FIRST: Duration = Duration::from_secs(5);
const RETRY_MAX: Duration = Duration::from_secs(60 * 60);
/// A reply that could not leave for this long is refused: nobody waits for it any more.
const GIVE_UP_AFTER: Duration = Duration::from_secs(5 * 24 * 60 * 60);
/// How long a lane rests when the credentials are refused or the store is away.
const REST: Duration = Duration::from_secs(30);
/// Looks at the outbox even when nobody rang.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// What a lane works with.
pub struct Lane {
    pub channel: Arc<Channel>,
    pub store: Arc<dyn Store>,
    pub clock: Arc<dyn Clock>,
    pub wakes: Arc<Wakes>,
    pub health: Arc<Health>,
    pub ids: IdCodec,
    pub reply_tokens: ReplyTokens,
}

impl Lane {
    /// Sends until `stop`; then finishes what is under way.
    pub async fn run(&self, stop: CancellationToken) {
        let Some(sender) = self.channel.connector.sender() else {
            return;
        };
        let bell = self.wakes.bell(self.channel.id.as_str());
        let places = usize::from(self.channel.capabilities.sends_inflight_max.max(1));
        let mut sending = FuturesUnordered::new();
        loop {
            let rung = bell.notified();
            let mut rest = LOOK_EVERY;
            if sending.len() < places && !stop.is_cancelled() {
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
                        rest = REST;
                    }
                }
            }
            if stop.is_cancelled() && sending.is_empty() {
                return;
            }
            tokio::select! {
                Some(outcome) = sending.next() => self.note(outcome),
                () = tokio::time::sleep(rest) => {}
                () = rung => {}
                () = stop.cancelled(), if sending.is_empty() => return,
            }
        }
    }

    async fn lease(&self, places: usize) -> Result<Vec<Leased>, StoreError> {
        // Looking costs a read; taking costs a commit.
        let now = micros(self.clock.now());
        match self.store.next_due(&self.channel.id).await? {
            Some(due) if due <= now => {
                let places = u32::try_from(places).unwrap_or(u32::MAX);
                self.store.lease(&self.channel.id, places, now).await
            }
            _ => Ok(Vec::new()),
        }
    }

    async fn until_due(&self) -> Duration {
        match self.store.next_due(&self.channel.id).await {
            Ok(Some(due)) => {
                let wait = due - micros(self.clock.now());
                Duration::from_micros(u64::try_from(wait).unwrap_or(0)).min(LOOK_EVERY)
            }
            _ => LOOK_EVERY,
        }
    }

    /// One attempt, and what it came to, written down.
    async fn send(&self, sender: &dyn connector_api::Sender, leased: Leased) -> Option<State> {
        let Some(message) = self.message(&leased) else {
            let reason = "it has no destination".to_owned();
            self.settle(&leased, Settlement::Refused { reason }).await;
            return None;
        };
        // A panic tells nothing about what left before it.
        let sent = AssertUnwindSafe(sender.send(&message)).catch_unwind().await;
        let result = sent.unwrap_or_else(|_| Err(Error::outcome_unknown("sending it panicked")));
        let state = match &result {
            Ok(_) => State::Ready,
            Err(error) => state_of(error)?,
        };
        let settlement = match result {
            Ok(receipt) => Settlement::Sent {
                provider_ids: receipt.provider_message_ids,
                namespace: Some(message.to.namespace.clone()),
            },
            Err(error) => self.settlement(&leased, &error),
        };
        self.settle(&leased, settlement).await;
        Some(state)
    }

    fn message(&self, leased: &Leased) -> Option<OutboundMessage> {
        let to = leased.draft.to.clone()?;
        Some(OutboundMessage {
            id: self.ids.encode(IdKind::Message, leased.id.0),
            conversation: self.ids.encode(IdKind::Conversation, leased.conversation.0),
            reply_token: self.reply_tokens.mint(leased.conversation),
            to: Recipient {
                namespace: to.namespace,
                address: to.address,
                name: to.name,
            },
            thread: to.thread,
            subject: to.subject,
            text: leased.draft.text.clone(),
            html: None,
            attachments: Vec::new(),
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
            _ => self.retry(leased, None, reason),
        }
    }

    /// Exponential with a spread that is the reply's own, so that an outage's end is no stampede.
    fn retry(&self, leased: &Leased, after: Option<Duration>, reason: String) -> Settlement {
        let now = micros(self.clock.now());
        let age = Duration::from_micros(u64::try_from(now - leased.accepted_at).unwrap_or(0));
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
        // The row stays `sending` when this fails: after a restart its outcome is unknown.
        while let Err(error) = self
            .store
            .settle(leased.id, settlement.clone(), micros(self.clock.now()))
            .await
        {
            warn!(channel.id = %self.channel.id, error = %error, "filing the outcome of a send failed, trying again");
            if error == StoreError::Closed {
                return;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
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
