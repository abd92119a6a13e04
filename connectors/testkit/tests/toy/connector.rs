//! A made-up connector that can be broken in one place at a time: what comes in.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use connector_api::{
    Authorization, CancellationToken, Capabilities, Check, Connector, Credentials, Cursor,
    DedupeKey, DeliveryStage, Error, ErrorKind, Event, Evidence, Health, IdentityClaim,
    InboundBatch, InboundEvent, InboundMessage, Intake, Inventory, InventoryPages, MessageSender,
    Method, Namespace, PollSource, ProviderItem, Result, Sender, Standing, StreamSource,
    ThreadHints, Timestamp, WebhookOutcome, WebhookReply, WebhookRequest, WebhookSource,
    async_trait,
};
use serde_json::{Map, Value, json};

use crate::toy::setup::{Break, Surface};
use crate::toy::world::{World, seal, world};

/// Of every connector of this process: restarting one does not begin again.
static DELIVERIES: AtomicUsize = AtomicUsize::new(0);

pub struct Toy {
    pub world: usize,
    pub surface: Surface,
    pub breaks: Option<Break>,
    pub secret: String,
    pub place: AtomicUsize,
    pub attempts: AtomicUsize,
    pub last: Mutex<Health>,
    pub credentials: Arc<dyn Credentials>,
}

impl Toy {
    pub fn is(&self, broken: Break) -> bool {
        self.breaks == Some(broken)
    }

    pub fn world(&self) -> Result<Arc<World>> {
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
            authorization: self.surface == Surface::Stream,
            replayable: self.surface != Surface::Webhook,
            inventory: self.surface == Surface::Poll,
            text_max: Some(2_000),
            attachment_bytes_max: Some(1_024),
            attachments_bytes_max: Some(2_000),
            html: true,
            recipients_max: 3,
            starts: true,
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
        let granted = self.granted().await;
        match self.log_in() {
            Ok(world) if !world.knows(granted.as_deref()) => Health::Unauthorized {
                reason: "nobody has granted access".to_owned(),
            },
            Ok(_) => Health::Ready,
            Err(error) if error.kind == ErrorKind::Auth => Health::Unauthorized {
                reason: error.message,
            },
            Err(error) => Health::Unreachable {
                reason: error.message,
            },
        }
    }

    async fn check(&self) -> Vec<Check> {
        if self.is(Break::ChecksAreEmpty) {
            return Vec::new();
        }
        let health = match self.is(Break::ChecksAreAlwaysReady) {
            true => Health::Ready,
            false => self.health().await,
        };
        vec![Check::new("the world", health, "it turns")]
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

    fn inventory(&self) -> Option<&dyn Inventory> {
        (self.surface == Surface::Poll).then_some(self as _)
    }

    fn authorization(&self) -> Option<&dyn Authorization> {
        (self.surface == Surface::Stream).then_some(self as _)
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

    fn parse(&self, request: WebhookRequest) -> Result<WebhookOutcome> {
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
impl Inventory for Toy {
    async fn list_since(
        &self,
        _since: Timestamp,
        read_to: Option<&Cursor>,
        pages: &dyn InventoryPages,
    ) -> Result<()> {
        let world = self.log_in()?;
        let read_to = read_to.and_then(|cursor| cursor.0.as_u64()).unwrap_or(0);
        let mut listed = Vec::new();
        for (place, item) in (0..).zip(&world.items()) {
            let standing = match place < read_to && !self.is(Break::ListsAllAsAhead) {
                true => Standing::Passed,
                false => Standing::Ahead,
            };
            let mut one = ProviderItem::new(format!("item {place}"), standing);
            one.keys = match self.is(Break::ListsUnderOtherKeys) {
                true => vec![DedupeKey::new(format!("place-{place}"))],
                false => vec![self.read(item)?.dedupe_key],
            };
            listed.push(one);
        }
        pages.page(listed).await
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
