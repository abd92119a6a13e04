//! The traits. A connector implements the surfaces it has and hands them out from [`Connector`].

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::authorization::Authorization;
use crate::capability::{Capabilities, Check, Health};
use crate::error::Result;
use crate::event::InboundEvent;
use crate::inventory::Inventory;
use crate::outbound::{OutboundMessage, Recipient, SendReceipt};

/// One channel, built from its configuration.
#[async_trait]
pub trait Connector: Send + Sync {
    fn capabilities(&self) -> Capabilities;
    /// Repeats the cheapest call that the channel really needs; prefers a false pass to a false alarm.
    async fn health(&self) -> Health;
    /// Tries each thing that the channel needs of its provider by itself, and names it with where it
    /// is: what `switchboard channel test` and `switchboard doctor` say. The provider's own words
    /// belong into the reasons, secrets never do. By default one, whatever `health` says.
    async fn check(&self) -> Vec<Check> {
        vec![Check::new("provider", self.health().await, "ready")]
    }
    /// What of the configuration is taken and is probably not meant, a line each that names the key:
    /// `check-config`, `doctor` and a start say it.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }
    fn webhook_source(&self) -> Option<&dyn WebhookSource> {
        None
    }
    fn poll_source(&self) -> Option<&dyn PollSource> {
        None
    }
    fn stream_source(&self) -> Option<&dyn StreamSource> {
        None
    }
    fn sender(&self) -> Option<&dyn Sender> {
        None
    }
    fn attachment_source(&self) -> Option<&dyn AttachmentSource> {
        None
    }
    /// What the provider still has, for `switchboard reconcile`; `None`: it cannot be asked.
    fn inventory(&self) -> Option<&dyn Inventory> {
        None
    }
    /// How a person grants this channel access, where the provider wants that.
    fn authorization(&self) -> Option<&dyn Authorization> {
        None
    }
    /// Reads one captured item (a mail file, a webhook body) without checking where it came from:
    /// what `switchboard parse` and the tests call. Webhook connectors get it from `parse`.
    fn parse_captured(&self, request: &WebhookRequest) -> Result<Vec<InboundEvent>> {
        let Some(source) = self.webhook_source() else {
            return Err(crate::Error::malformed(
                "this connector reads no captured input",
            ));
        };
        match source.parse(request.clone())? {
            WebhookOutcome::Events { events, .. } => Ok(events),
            WebhookOutcome::Handshake(_) => Ok(Vec::new()),
        }
    }
    /// What `switchboard import` may read from files for this channel; `None`: nothing.
    fn import_format(&self) -> Option<ImportFormat> {
        self.webhook_source().map(|_| ImportFormat::Json)
    }
    /// Reads one item of an import, which its operator vouches for: all of its events, or an error.
    /// Keys are those of the live channel, so that what it shows again is known.
    fn parse_import(&self, item: &WebhookRequest) -> Result<Vec<InboundEvent>> {
        self.parse_captured(item)
    }
    /// How far back a first connection reads what was there before, and which key says so.
    fn backfill(&self) -> Option<Backfill> {
        None
    }
    /// Where a message to the channel itself goes, for `switchboard channel test`; `None`: it cannot
    /// write to itself.
    fn own_address(&self) -> Option<Recipient> {
        None
    }
}

/// How far back a channel reads on its first connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backfill {
    /// The channel's own key for it.
    pub key: &'static str,
    pub reach: Duration,
}

/// What one item of an import is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ImportFormat {
    /// A whole mail: from mbox, Maildir or a file of its own.
    Mail,
    /// One line of JSON, as the provider pushes it.
    Json,
}

/// Inbound push. Pure and synchronous: a captured request is a complete test.
#[async_trait]
pub trait WebhookSource: Send + Sync {
    /// Checks signature and freshness over the raw bytes; called before `parse`.
    fn verify(&self, request: &WebhookRequest) -> Result<()>;
    /// Reads a verified request. It is the source's own: a large body may be taken apart in place, or
    /// dropped before what is in it is decoded.
    fn parse(&self, request: WebhookRequest) -> Result<WebhookOutcome>;
    /// Fetches the provider's current keys; called after `verify` answered `KeysStale`.
    async fn refresh(&self) -> Result<()> {
        Ok(())
    }
    /// Largest request that the provider sends, in bytes, where that may be more than other channels
    /// need: many providers take a 413 for a final no.
    fn body_bytes_max(&self) -> u64 {
        0
    }
}

/// A request as it arrived; header names are lower case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WebhookRequest {
    pub method: String,
    pub query: String,
    pub headers: Vec<(String, Bytes)>,
    pub body: Bytes,
    pub received_at: Timestamp,
}

impl WebhookRequest {
    /// The first header of that (lower-case) name, where it is valid UTF-8.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(key, _)| key == name)?;
        std::str::from_utf8(value).ok()
    }
}

pub enum WebhookOutcome {
    /// The reply is sent only once every event is durable.
    Events {
        events: Vec<InboundEvent>,
        reply: WebhookReply,
    },
    /// A challenge: nothing to store, answered at once.
    Handshake(WebhookReply),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookReply {
    pub status: u16,
    pub content_type: &'static str,
    pub body: Bytes,
}

impl WebhookReply {
    pub fn json(value: &serde_json::Value) -> Self {
        Self {
            status: 200,
            content_type: "application/json",
            body: value.to_string().into(),
        }
    }
}

/// Inbound pull. The runtime owns the loop and the back-off.
#[async_trait]
pub trait PollSource: Send + Sync {
    /// Returns what lies after the cursor; may wait for the configured long-poll time; cancel-safe.
    async fn poll(&self, after: Option<&Cursor>) -> Result<InboundBatch>;
    /// Called once the batch is durable. Failing here only causes redelivery.
    async fn committed(&self, _through: &Cursor) -> Result<()> {
        Ok(())
    }
}

/// Inbound socket. Returns on `stop`, or with the error that broke the link; the runtime restarts
/// it with back-off.
#[async_trait]
pub trait StreamSource: Send + Sync {
    async fn run(
        &self,
        resume: Option<Cursor>,
        intake: Arc<dyn Intake>,
        stop: CancellationToken,
    ) -> Result<()>;
}

/// The durability line, as a connector sees it.
#[async_trait]
pub trait Intake: Send + Sync {
    /// Returns once every event and the cursor are durable; only then may the caller acknowledge.
    /// Slow when the daemon is busy: that is the back-pressure.
    async fn accept(&self, batch: InboundBatch) -> Result<()>;
    /// Says that the provider was heard from although nothing came (an IDLE keep-alive).
    fn heard(&self) {}
    /// Says what a person should mend although messages come, or with `None` that all is well again.
    fn degraded(&self, _reason: Option<&str>) {}
}

#[derive(Debug, Clone, Default)]
pub struct InboundBatch {
    pub events: Vec<InboundEvent>,
    pub cursor: Option<Cursor>,
}

/// How far a channel has read; opaque to the daemon, survives a JSON round trip.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(pub serde_json::Value);

#[async_trait]
pub trait Sender: Send + Sync {
    /// Sends once. Retries, rate and splitting belong to the runtime.
    async fn send(&self, message: &OutboundMessage) -> Result<SendReceipt>;

    /// Reads an address as people write it, normalised as in events; asked before a message is
    /// accepted, so it must not connect. `Rejected` with what is wrong with it, or because this
    /// channel can only answer.
    fn recipient(&self, _address: &str) -> Result<Recipient> {
        Err(crate::Error::rejected(
            "this channel can only answer whoever wrote",
        ))
    }
}

#[async_trait]
pub trait AttachmentSource: Send + Sync {
    /// Fetches an attachment with the provider's credentials; never more than `bytes_max`.
    async fn fetch(&self, reference: &str, bytes_max: u64) -> Result<Bytes>;
}
