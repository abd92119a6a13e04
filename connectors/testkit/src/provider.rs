//! The one thing a connector author writes for the conformance suite: a provider that lives in the
//! test process. Only what the connector's capabilities claim is ever called.

use std::time::Duration;

use connector_api::{Bytes, DeliveryStage, Registration, WebhookRequest, async_trait};
use serde_json::Value;

/// A fake provider with one account, one customer and, where it sends, one destination.
///
/// Every case starts its own, so nothing is left over from the case before. Hooks with a default
/// belong to surfaces that not every connector has; a case that needs one says which.
#[async_trait]
pub trait FakeProvider: Send + Sync {
    /// The connector under test.
    fn registration(&self) -> Registration;

    /// The channel's configuration without the daemon's keys (`connector`, `queue` …), pointed at
    /// this fake, with every optional surface switched on.
    fn config(&self) -> Value;

    /// The same, pointed at [`crate::closed_address`]: nobody answers there.
    fn unreachable_config(&self) -> Value;

    /// The secrets that [`FakeProvider::config`] refers to, by the name in `{ env = "NAME" }`.
    /// Each is long enough (8 characters at least) to be searched for in logs.
    fn secrets(&self) -> Vec<(String, String)>;

    /// Connectors that are granted access: what an earlier run was granted and kept, by name.
    fn credentials(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    /// Connectors that are granted access: everything handed out so far is good no longer.
    async fn withdraw_grants(&self) {
        missing("withdraw_grants")
    }

    /// Connectors that are granted access: a person opens this address, enters the code, if there is
    /// one, and agrees. Returns the query that the browser comes back with, if it comes back.
    async fn grants(&self, _url: &str, _code: Option<&str>) -> Option<String> {
        missing("grants")
    }

    // What comes in.

    /// The customer writes; returns the id that the provider gives the item. It need not have
    /// arrived at the connector when this returns.
    async fn customer_says(&self, text: &str) -> String;

    /// The customer answers a message that arrived at the provider, so that the answer refers to
    /// it in every way the provider's clients do; returns the id of the answer.
    async fn customer_answers(&self, sent: &Delivered, text: &str) -> String;

    /// Webhook connectors: the request in which the provider delivers that item, as it would
    /// arrive at [`crate::now`]. Asking twice is a redelivery. Build it with [`crate::post`].
    fn webhook_for(&self, _id: &str) -> WebhookRequest {
        missing("webhook_for")
    }

    /// Webhook connectors: the provider's challenge, where it has one.
    fn handshake(&self) -> Option<Handshake> {
        None
    }

    /// Webhook connectors: how old a signature may be; `None` where no time is signed, and then
    /// `stale_timestamp_is_refused` has to be waived with the reason.
    fn freshness(&self) -> Option<Duration> {
        Some(Duration::from_secs(300))
    }

    /// Stream connectors: returns once the connector is connected and anything that the customer
    /// says from now on will be seen (a mailbox is selected, a socket said hello). A connection
    /// that has ended no longer counts: after [`FakeProvider::disconnect`], and after a stop, this
    /// waits for the next one.
    async fn connected(&self) {
        missing("connected")
    }

    /// Stream connectors: cuts every connection, without a goodbye.
    async fn disconnect(&self) {
        missing("disconnect")
    }

    /// Poll and stream connectors: shows an item again that was delivered before, as the provider
    /// does after a lost acknowledgement. Mailboxes need nothing here: reading from an older
    /// cursor shows it again.
    async fn redeliver(&self, _id: &str) {}

    /// Whether the connector has acknowledged that item to the provider; `None` for providers that
    /// keep no such state (a mailbox read with PEEK).
    async fn acknowledged(&self, _id: &str) -> Option<bool> {
        None
    }

    // What goes out.

    /// Everything the provider took for delivery, oldest first. A repeat that it recognised as one
    /// is not listed twice.
    async fn delivered(&self) -> Vec<Delivered> {
        missing("delivered")
    }

    /// Requests to send that reached the provider at all, taken or not. For a provider with
    /// several steps (SMTP), those that got as far as the message itself.
    async fn send_attempts(&self) -> usize {
        missing("send_attempts")
    }

    /// The next attempt on that side meets this fault; the one after it does not.
    async fn fail_next(&self, _side: Side, _fault: Fault) {
        missing("fail_next")
    }

    /// Connectors with receipts: the provider reports how far a message got; returns the id of the
    /// report, as [`FakeProvider::customer_says`] does.
    async fn reports(&self, _sent: &Delivered, _stage: DeliveryStage) -> String {
        missing("reports")
    }
}

/// Which connection a fault is met on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Where items are fetched from (IMAP, a polling API).
    Receive,
    /// Where messages are sent to (SMTP, a send API).
    Send,
}

/// What a provider does instead of its work. Each has to be expressed in the provider's own words:
/// a status, a reply code, a cut connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Too many requests; try again after this time, where the protocol can say so.
    RateLimit { retry_after: Duration },
    /// Broken, before anything was taken.
    ServerError,
    /// Takes the message and loses its answer: the connection dies after acceptance.
    DropAfterAccept,
    /// The credentials are not good, or no longer.
    RejectCredentials,
    /// Refuses this one message for good and says why.
    Refuse { reason: String },
    /// Takes the message and answers something that cannot be read.
    Garbage,
    /// Refuses this one of several recipients for good and takes the message for the others. Only
    /// met by connectors whose `recipients_max` is more than one.
    RefuseRecipient { address: String, reason: String },
}

/// A message as the provider got it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delivered {
    /// The id that the provider gave it, or that its protocol takes from the sender (Message-ID).
    pub provider_id: String,
    /// Everyone it will be handed to: one address, unless the message has several recipients or the
    /// connector was tricked.
    pub to: Vec<String>,
    /// What the provider would thread it by: its own thread id, or the id of the item it answers
    /// (In-Reply-To without `<>`).
    pub thread: Option<String>,
    pub text: String,
    /// The same in HTML, where it came with it.
    pub html: Option<String>,
    /// Whom every recipient can see that it went to; without blind copies.
    pub seen: Vec<String>,
    pub attachments: Vec<DeliveredAttachment>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeliveredAttachment {
    pub name: String,
    pub content_type: String,
    /// Under which the HTML shows it.
    pub content_id: Option<String>,
    pub bytes: Bytes,
}

/// A challenge and its right answer.
#[derive(Debug, Clone)]
pub struct Handshake {
    pub request: WebhookRequest,
    pub expected_status: u16,
    pub expected_body: Bytes,
}

fn missing(hook: &str) -> ! {
    panic!("this case needs FakeProvider::{hook}, which the fake does not have")
}
