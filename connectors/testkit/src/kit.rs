//! What every case works with: the fake, connectors built against it, messages to send.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use connector_api::{
    BrandId, BuildContext, Bytes, ChannelId, Clock, Connector, Credentials, ErrorKind, Event,
    HttpClient, InboundEvent, InboundMessage, OutboundMessage, Recipient, SecretResolver,
    WebhookRequest, WebhookSource,
};
use serde_json::Value;

use crate::context::{FixedClock, MemoryCredentials, StaticSecrets, now};
use crate::http::LoopbackHttp;
use crate::provider::FakeProvider;

/// Nothing, or what is wrong.
pub(crate) type Verdict<T = ()> = Result<T, String>;

pub(crate) struct Kit {
    pub provider: Box<dyn FakeProvider>,
    /// The folder of the connector's crate.
    pub manifest_dir: PathBuf,
    pub clock: Arc<FixedClock>,
    /// What every connector of this kit keeps and finds.
    pub credentials: Arc<MemoryCredentials>,
}

impl Kit {
    pub fn new(provider: Box<dyn FakeProvider>, manifest_dir: PathBuf) -> Self {
        Self {
            credentials: Arc::new(MemoryCredentials::new(provider.credentials())),
            provider,
            manifest_dir,
            clock: Arc::new(FixedClock::default()),
        }
    }

    /// A connector pointed at the fake: as after a start of the daemon.
    pub fn connector(&self) -> Verdict<Arc<dyn Connector>> {
        self.build(self.provider.config())
            .map_err(|error| format!("cannot build from FakeProvider::config: {error}"))
    }

    /// A connector whose provider does not answer.
    pub fn unreachable_connector(&self) -> Verdict<Arc<dyn Connector>> {
        self.build(self.provider.unreachable_config())
            .map_err(|error| format!("cannot build from FakeProvider::unreachable_config: {error}"))
    }

    pub fn build(&self, config: Value) -> connector_api::Result<Arc<dyn Connector>> {
        let context = self.context(self.secrets(), LoopbackHttp::new());
        (self.provider.registration().build)(config, context).map(Arc::from)
    }

    pub fn secrets(&self) -> StaticSecrets {
        StaticSecrets::new(self.provider.secrets())
    }

    pub fn context(
        &self,
        secrets: impl SecretResolver + 'static,
        http: impl HttpClient + 'static,
    ) -> BuildContext {
        let channel: ChannelId = "conformance".parse().expect("a valid id");
        BuildContext::new(
            channel,
            BrandId::default(),
            Arc::clone(&self.clock) as Arc<dyn Clock>,
            Arc::new(http),
            Arc::new(secrets),
        )
        .with_credentials(Arc::clone(&self.credentials) as Arc<dyn Credentials>)
    }
}

/// Verifies as the daemon does: once more after a refresh, where the source asks for one.
pub(crate) async fn verified(
    source: &dyn WebhookSource,
    request: &WebhookRequest,
) -> connector_api::Result<()> {
    match source.verify(request) {
        Err(error) if error.kind == ErrorKind::KeysStale => {
            source.refresh().await?;
            source.verify(request)
        }
        verified => verified,
    }
}

/// A POST as it arrives at [`crate::now`]. Give header names in lower case.
pub fn post<N: Into<String>>(
    headers: impl IntoIterator<Item = (N, String)>,
    body: impl Into<Bytes>,
) -> WebhookRequest {
    WebhookRequest {
        method: "POST".to_owned(),
        query: String::new(),
        headers: headers
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect(),
        body: body.into(),
        received_at: now(),
    }
}

/// A reply to a customer's message, filled in as the daemon does: a new id every time, a reply
/// token, the thread and the references of what it answers.
pub fn outbound_reply(event: &InboundEvent, text: &str) -> OutboundMessage {
    static COUNT: AtomicU32 = AtomicU32::new(1);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let message = as_message(event).expect("only a message is answered");
    let writer = message
        .from
        .identities
        .first()
        .expect("a message has a sender");
    OutboundMessage {
        id: format!("msg_019b8e3a-0000-7000-8000-{count:012x}"),
        conversation: "cnv_019b8e3a-0000-7000-8000-000000000000".to_owned(),
        reply_token: "sbabcdefghijklmnopqrstuvwxyz".to_owned(),
        to: Recipient {
            namespace: writer.namespace.clone(),
            address: writer.address.clone(),
            name: message.from.name.clone(),
        },
        also_to: Vec::new(),
        cc: Vec::new(),
        bcc: Vec::new(),
        thread: message.thread.native.clone(),
        subject: message
            .subject
            .as_ref()
            .map(|subject| format!("Re: {subject}")),
        text: text.to_owned(),
        html: None,
        attachments: Vec::new(),
        references: message.thread.message_id.iter().cloned().collect(),
        automatic: false,
        accepted_at: now(),
    }
}

pub(crate) fn as_message(event: &InboundEvent) -> Verdict<&InboundMessage> {
    match &event.event {
        Event::Message(message) => Ok(message),
        other => Err(format!(
            "expected a message, found a {}",
            other.kind().as_str()
        )),
    }
}

/// Lines end in one way and trailing space is nobody's word: mail cannot keep either apart.
pub(crate) fn same_text(left: &str, right: &str) -> bool {
    let normal = |text: &str| text.replace("\r\n", "\n").trim_end().to_owned();
    normal(left) == normal(right)
}

/// Fails with `what` unless it holds.
pub(crate) fn ensure(holds: bool, what: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(what()) }
}
