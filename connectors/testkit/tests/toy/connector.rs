//! A made-up connector that can be broken in one place at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use connector_api::{
    BuildContext, CancellationToken, Capabilities, Connector, ConnectorKind, Cursor, DedupeKey,
    DeliveryStage, Error, ErrorKind, Event, Evidence, ExposeSecret as _, Health, IdentityClaim,
    InboundBatch, InboundEvent, InboundMessage, Intake, MessageSender, Method, Namespace,
    OutboundMessage, PollSource, Result, SecretRef, SendReceipt, Sender, StreamSource, ThreadHints,
    WebhookOutcome, WebhookReply, WebhookRequest, WebhookSource, async_trait,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::toy::world::{Answer, World, seal, world};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Surface {
    Webhook,
    Poll,
    Stream,
}

/// What is done wrong. Each has a case that must notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Break {
    ClaimsAnotherSurface,
    SecretIsOptional,
    BuildConnects,
    HealthIsAlwaysReady,
    SecretInError,
    SecretInLog,
    GarbagePanics,
    UnknownFieldsAreDropped,
    Shouts,
    RefusesEverything,
    LetsEverythingIn,
    ForgetsTheTime,
    HandshakeIsAnEvent,
    KeyPerDelivery,
    KeyFromText,
    AddressAsWritten,
    ForgetsTheThread,
    CursorMovesFirst,
    CursorInMemory,
    NewestFirst,
    AuthIsUnavailable,
    AlwaysStartsAtNow,
    NoFirstCursor,
    EmptyPollMovesCursor,
    PollKeepsItsPlace,
    AcksFirst,
    AcceptsAtOnce,
    ReconnectStartsAtNow,
    IgnoresStop,
    SendsInCapitals,
    SendsOutsideTheThread,
    ReturnsNoIds,
    EveryReceiptIsRead,
    NewIdPerAttempt,
    LineBreaksAreHeaders,
    EverythingIsUnavailable,
    EverythingIsRejected,
    FilesAreDropped,
    AnySizeIsUploaded,
    FileNamesAreHeaders,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Which of the worlds to talk to; 0 is away.
    pub world: usize,
    /// How messages come in.
    pub surface: Surface,
    /// The secret shared with the world.
    pub secret: SecretRef,
    /// What to do wrong.
    #[serde(default)]
    pub breaks: Option<Break>,
}

pub struct ToyKind;

impl ConnectorKind for ToyKind {
    const KIND: &'static str = "toy";
    const EXAMPLE: &'static str = "connector = \"toy\"\nqueue = \"frontline\"\nworld = 1\nsurface = \"poll\"\nsecret = { env = \"TOY_SECRET\" }\n";
    type Config = Config;

    fn build(config: Config, context: BuildContext) -> Result<Box<dyn Connector>> {
        let secret = match context.secrets.resolve(&config.secret) {
            Err(_) if config.breaks == Some(Break::SecretIsOptional) => "none".to_owned().into(),
            secret => secret?,
        };
        if config.breaks == Some(Break::BuildConnects) {
            world(config.world).ok_or_else(|| Error::unavailable("the world is away"))?;
        }
        Ok(Box::new(Toy {
            world: config.world,
            surface: config.surface,
            breaks: config.breaks,
            secret: secret.expose_secret().to_owned(),
            place: AtomicUsize::new(0),
            attempts: AtomicUsize::new(0),
            last: std::sync::Mutex::new(Health::Ready),
        }))
    }
}

/// The same with a configuration that takes anything and documents nothing.
pub struct LaxKind;

#[derive(Deserialize, JsonSchema)]
pub struct LaxConfig {
    world: usize,
    surface: Surface,
    secret: SecretRef,
}

impl ConnectorKind for LaxKind {
    const KIND: &'static str = "toy";
    const EXAMPLE: &'static str = "connector = \"toy\"\nworld = \"here\"\n";
    type Config = LaxConfig;

    fn build(config: LaxConfig, context: BuildContext) -> Result<Box<dyn Connector>> {
        let config = Config {
            world: config.world,
            surface: config.surface,
            secret: config.secret,
            breaks: None,
        };
        ToyKind::build(config, context)
    }
}

/// Of every connector of this process: restarting one does not begin again.
static DELIVERIES: AtomicUsize = AtomicUsize::new(0);

struct Toy {
    world: usize,
    surface: Surface,
    breaks: Option<Break>,
    secret: String,
    place: AtomicUsize,
    attempts: AtomicUsize,
    last: std::sync::Mutex<Health>,
}

impl Toy {
    fn is(&self, broken: Break) -> bool {
        self.breaks == Some(broken)
    }

    fn world(&self) -> Result<Arc<World>> {
        world(self.world).ok_or_else(|| Error::unavailable("the world is away"))
    }

    fn log_in(&self) -> Result<Arc<World>> {
        let world = self.world()?;
        if world.lets_in() {
            return Ok(world);
        }
        let said = match self.is(Break::SecretInError) {
            true => format!("the world refuses {}", self.secret),
            false => "the world refuses the secret".to_owned(),
        };
        if self.is(Break::SecretInLog) {
            tracing::debug!(secret = %self.secret, "the world refuses the secret");
        }
        match self.is(Break::AuthIsUnavailable) {
            true => Err(Error::unavailable(said)),
            false => Err(Error::auth(said)),
        }
    }

    fn read(&self, item: &[u8]) -> Result<InboundEvent> {
        if self.is(Break::GarbagePanics) {
            let _: Value = serde_json::from_slice(item).unwrap();
        }
        let mut item: Map<String, Value> = serde_json::from_slice(item)
            .map_err(|error| Error::malformed(format!("not an item: {error}")))?;
        let mut word = |key: &str| match item.remove(key) {
            Some(Value::String(word)) => Ok(Some(word)),
            None | Some(Value::Null) => Ok(None),
            Some(_) => Err(Error::malformed(format!("{key}: expected a string"))),
        };
        let id = word("id")?.ok_or_else(|| Error::malformed("id: missing"))?;
        let text = word("text")?.unwrap_or_default();
        let (thread, answers) = (word("thread")?, word("answers")?);
        let (of, stage) = (word("of")?, word("stage")?);
        let key = match self.breaks {
            Some(Break::KeyFromText) => text.clone(),
            Some(Break::KeyPerDelivery) => {
                format!("{id}/{}", DELIVERIES.fetch_add(1, Ordering::Relaxed))
            }
            _ => id.clone(),
        };
        let event = match of {
            Some(target) => Event::Receipt {
                target,
                stage: match stage.as_deref() {
                    Some("delivered") if !self.is(Break::EveryReceiptIsRead) => {
                        DeliveryStage::Delivered
                    }
                    _ => DeliveryStage::Read,
                },
                reason: None,
                recipient: None,
            },
            None => Event::Message(Box::new(self.message(id, text, thread, answers))),
        };
        let mut inbound = InboundEvent::new(DedupeKey::new(key), event);
        if !self.is(Break::UnknownFieldsAreDropped) {
            inbound.extra = item;
        }
        Ok(inbound)
    }

    fn message(
        &self,
        id: String,
        text: String,
        thread: Option<String>,
        answers: Option<String>,
    ) -> InboundMessage {
        let address = match self.is(Break::AddressAsWritten) {
            true => "Ada@Example.org",
            false => "ada@example.org",
        };
        let thread = match self.is(Break::ForgetsTheThread) {
            true => ThreadHints::default(),
            false => ThreadHints {
                native: thread,
                message_id: Some(id),
                references: answers.into_iter().collect(),
                ..ThreadHints::default()
            },
        };
        InboundMessage {
            from: MessageSender {
                identities: vec![IdentityClaim {
                    namespace: Namespace::email(),
                    address: address.to_owned(),
                    evidence: Evidence::Verified(Method::Platform),
                }],
                name: None,
            },
            participants: Vec::new(),
            subject: None,
            text: match self.is(Break::Shouts) {
                true => text.to_uppercase(),
                false => text,
            },
            html: None,
            thread,
            attachments: Vec::new(),
        }
    }

    /// Where to go on reading; `None` at the first start.
    fn resume_at(&self, cursor: Option<&Cursor>, world: &World) -> Option<usize> {
        if self.is(Break::CursorInMemory) {
            return Some(self.place.load(Ordering::Relaxed));
        }
        if self.is(Break::AlwaysStartsAtNow) {
            return None;
        }
        let again = self.attempts.fetch_add(1, Ordering::Relaxed) > 0;
        if again && self.is(Break::ReconnectStartsAtNow) {
            return Some(world.items().len());
        }
        let at = cursor?.0.as_u64()?;
        usize::try_from(at).ok()
    }
}

fn cursor(at: usize) -> Option<Cursor> {
    Some(Cursor(json!(at)))
}

#[async_trait]
impl Connector for Toy {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            webhook: self.surface == Surface::Webhook,
            poll: self.surface == Surface::Poll,
            stream: self.surface == Surface::Stream || self.is(Break::ClaimsAnotherSurface),
            send: true,
            send_idempotent: true,
            receipts: true,
            replayable: self.surface != Surface::Webhook,
            text_max: Some(2_000),
            attachment_bytes_max: Some(1_024),
            sends_inflight_max: 1,
            ..Capabilities::default()
        }
    }

    async fn health(&self) -> Health {
        if self.is(Break::HealthIsAlwaysReady) {
            return Health::Ready;
        }
        if self.surface == Surface::Webhook {
            return self.last.lock().unwrap().clone();
        }
        match self.log_in() {
            Ok(_) => Health::Ready,
            Err(error) if error.kind == ErrorKind::Auth => Health::Unauthorized {
                reason: error.message,
            },
            Err(error) => Health::Unreachable {
                reason: error.message,
            },
        }
    }

    fn webhook_source(&self) -> Option<&dyn WebhookSource> {
        (self.surface == Surface::Webhook).then_some(self as _)
    }

    fn poll_source(&self) -> Option<&dyn PollSource> {
        (self.surface == Surface::Poll).then_some(self as _)
    }

    fn stream_source(&self) -> Option<&dyn StreamSource> {
        (self.surface == Surface::Stream).then_some(self as _)
    }

    fn sender(&self) -> Option<&dyn Sender> {
        Some(self)
    }

    fn parse_captured(&self, request: &WebhookRequest) -> Result<Vec<InboundEvent>> {
        Ok(vec![self.read(&request.body)?])
    }
}

impl WebhookSource for Toy {
    fn verify(&self, request: &WebhookRequest) -> Result<()> {
        if self.is(Break::LetsEverythingIn) {
            return Ok(());
        }
        let time = request
            .header("toy-time")
            .and_then(|time| time.parse().ok());
        let time: i64 = time.ok_or_else(|| Error::auth("toy-time: missing"))?;
        let fresh = time.abs_diff(request.received_at.as_second()) <= 300;
        let sealed = request.header("toy-seal") == Some(&seal(&self.secret, time, &request.body));
        match sealed
            && (fresh || self.is(Break::ForgetsTheTime))
            && !self.is(Break::RefusesEverything)
        {
            true => Ok(()),
            false => Err(Error::auth("toy-seal: wrong or stale")),
        }
    }

    fn parse(&self, request: &WebhookRequest) -> Result<WebhookOutcome> {
        let reply = WebhookReply::json(&json!({ "well": "done" }));
        if request.query == "challenge" && !self.is(Break::HandshakeIsAnEvent) {
            return Ok(WebhookOutcome::Handshake(reply));
        }
        let events = vec![self.read(&request.body)?];
        Ok(WebhookOutcome::Events { events, reply })
    }
}

#[async_trait]
impl PollSource for Toy {
    async fn poll(&self, after: Option<&Cursor>) -> Result<InboundBatch> {
        let world = self.log_in()?;
        let items = world.items();
        let first = match self.is(Break::NoFirstCursor) {
            true => InboundBatch::default(),
            false => InboundBatch {
                events: Vec::new(),
                cursor: cursor(items.len()),
            },
        };
        let at = match self.breaks {
            Some(Break::PollKeepsItsPlace) if after.is_some() => {
                self.place.swap(items.len(), Ordering::Relaxed)
            }
            Some(Break::CursorMovesFirst) if after.is_some() => {
                // What was handed out counts as read, whether it became durable or not.
                world.take_place(items.len())
            }
            _ => match self.resume_at(after, &world) {
                Some(at) => at,
                None => return Ok(first),
            },
        };
        let mut new: Vec<&Vec<u8>> = items.iter().skip(at).take(2).collect();
        let next = at + new.len() + usize::from(self.is(Break::EmptyPollMovesCursor));
        if self.is(Break::NewestFirst) {
            new.reverse();
        }
        self.place.store(next, Ordering::Relaxed);
        let events = new
            .into_iter()
            .map(|item| self.read(item))
            .collect::<Result<_>>()?;
        let cursor = cursor(next).filter(|_| !self.is(Break::CursorInMemory));
        Ok(InboundBatch { events, cursor })
    }
}

#[async_trait]
impl StreamSource for Toy {
    async fn run(
        &self,
        resume: Option<Cursor>,
        intake: Arc<dyn Intake>,
        stop: CancellationToken,
    ) -> Result<()> {
        let world = self.log_in()?;
        let mut at = match self.resume_at(resume.as_ref(), &world) {
            Some(at) => at,
            None => {
                let at = world.items().len();
                let cursor = cursor(at).filter(|_| !self.is(Break::NoFirstCursor));
                intake
                    .accept(InboundBatch {
                        events: Vec::new(),
                        cursor,
                    })
                    .await?;
                at
            }
        };
        let mut connection = world.connect();
        loop {
            let items = world.items();
            while let Some(item) = items.get(at) {
                let event = self.read(item)?;
                let id = at.to_string();
                let batch = InboundBatch {
                    events: vec![event],
                    cursor: cursor(at + 1),
                };
                if self.is(Break::AcksFirst) {
                    world.acknowledge(&id);
                }
                if self.is(Break::CursorMovesFirst) {
                    let cursor = batch.cursor.clone();
                    intake
                        .accept(InboundBatch {
                            events: Vec::new(),
                            cursor,
                        })
                        .await
                        .ok();
                    world.take_place(at + 1);
                }
                if self.is(Break::AcceptsAtOnce) {
                    let intake = Arc::clone(&intake);
                    tokio::spawn(async move { intake.accept(batch).await });
                } else if self.is(Break::IgnoresStop) {
                    intake.accept(batch).await?;
                } else {
                    tokio::select! {
                        () = stop.cancelled() => return Ok(()),
                        accepted = intake.accept(batch) => accepted?,
                    }
                }
                world.acknowledge(&id);
                at += 1;
                self.place.store(at, Ordering::Relaxed);
            }
            tokio::select! {
                () = stop.cancelled(), if !self.is(Break::IgnoresStop) => return Ok(()),
                broken = connection.next(items.len()) => broken?,
            }
        }
    }
}

#[async_trait]
impl Sender for Toy {
    async fn send(&self, message: &OutboundMessage) -> Result<SendReceipt> {
        let sent = self.send_once(message);
        let mut last = self.last.lock().unwrap();
        *last = match &sent {
            Err(error) if error.kind == ErrorKind::Auth => Health::Unauthorized {
                reason: error.message.clone(),
            },
            Err(error) if error.kind == ErrorKind::Unavailable => Health::Unreachable {
                reason: error.message.clone(),
            },
            _ => Health::Ready,
        };
        sent
    }
}

impl Toy {
    fn send_once(&self, message: &OutboundMessage) -> Result<SendReceipt> {
        let mut message = message.clone();
        let too_large = message
            .attachments
            .iter()
            .any(|file| file.bytes.len() > 1_024);
        if too_large && !self.is(Break::AnySizeIsUploaded) {
            return Err(Error::too_large("attachments are at most 1024 bytes"));
        }
        match self.breaks {
            Some(Break::SendsInCapitals) => message.text = message.text.to_uppercase(),
            Some(Break::SendsOutsideTheThread) => message.thread = Some("elsewhere".to_owned()),
            Some(Break::FilesAreDropped) => message.attachments.clear(),
            Some(Break::NewIdPerAttempt) => {
                message.id += &self.attempts.fetch_add(1, Ordering::Relaxed).to_string();
                message.id += &format!("{:p}", self);
            }
            _ => {}
        }
        let names = message.attachments.iter().map(|file| file.name.as_str());
        let headers: Vec<&str> = match self.breaks {
            Some(Break::LineBreaksAreHeaders) => message.subject.as_deref().into_iter().collect(),
            Some(Break::FileNamesAreHeaders) => names.collect(),
            _ => Vec::new(),
        };
        let injected = headers.iter().any(|header| header.contains("\r\nBcc:"));
        let answer = match world(self.world) {
            Some(world) => world.take(&message, injected),
            None => Answer::Away,
        };
        let kind = match answer {
            Answer::Taken(_) if self.is(Break::ReturnsNoIds) => {
                return Ok(SendReceipt::accepted(Vec::new()));
            }
            Answer::Taken(id) => return Ok(SendReceipt::accepted(vec![id])),
            Answer::Lost | Answer::Unreadable if self.breaks.is_none() => ErrorKind::OutcomeUnknown,
            _ if self.is(Break::EverythingIsUnavailable) => ErrorKind::Unavailable,
            _ if self.is(Break::EverythingIsRejected) => ErrorKind::Rejected,
            Answer::Lost | Answer::Unreadable => ErrorKind::OutcomeUnknown,
            Answer::Later(retry_after) => ErrorKind::RateLimited {
                retry_after: Some(retry_after),
            },
            Answer::Broken | Answer::Away => ErrorKind::Unavailable,
            Answer::Unauthorized => ErrorKind::Auth,
            Answer::Refused(reason) => return Err(Error::rejected(reason)),
        };
        if self.is(Break::SecretInError) {
            return Err(Error::new(kind, format!("not with {}", self.secret)));
        }
        Err(Error::new(kind, "the world did not take it"))
    }
}
