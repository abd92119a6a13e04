//! The desk itself: takes what is said, routes it, and can crash.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use connector_api::{DedupeKey, Event, InboundEvent};
use switchboard::blobs::Blobs;
use switchboard::bus::{Bus, BusError, Content};
use switchboard::channels::Channel;
use switchboard::daemon::Keys;
use switchboard::dispatch::{Action, Actor};
use switchboard::ids::ConversationId;
use switchboard::intake::Intake;
use switchboard::router::facts::Conversation;
use switchboard::router::reply_token::ReplyTokens;
use switchboard::router::{Policy, Prepared, Verdict};
use switchboard::store::uploads::Holder;
use switchboard::store::{
    Leased, NewReply, Ownership, Rings, RouteCommit, Settlement, Store, StoreError, StoredMessage,
    Written,
};

use super::setup::{channel_id, channels, intake, names, policy, queue_id, queues};
use super::{Backend, Local, ManualClock, Opened, Said, show, supervisor, within_patience};

/// Apart in time, so that the order of waiting is the order of writing.
const BETWEEN_EVENTS: Duration = Duration::from_millis(10);

/// A whole desk, without connectors and API.
pub struct Desk {
    backend: Arc<dyn Backend>,
    opened: Opened,
    _dir: tempfile::TempDir,
    /// Where large attachments are.
    pub blobs: Blobs,
    pub clock: Arc<ManualClock>,
    pub policy: Arc<Policy>,
    pub keys: Keys,
    intake: Arc<Intake>,
    channels: Arc<HashMap<&'static str, Channel>>,
    ownership: Ownership,
    /// Accepted and not yet decided.
    undecided: usize,
    said: usize,
}

/// Whose uploads an actor uses here.
pub fn holder(actor: &Actor) -> Holder {
    Holder {
        token: 0,
        agent: actor.agent.clone(),
    }
}

/// Owns the first partition that is assigned.
async fn own(opened: &Opened) -> Ownership {
    let first = opened.bus.assigned().borrow().first().copied();
    let first = first.expect("a partition is assigned");
    opened.store.own(first).await.expect("owning the partition")
}

impl Desk {
    /// A desk on SQLite and the local bus.
    pub async fn new() -> Self {
        Self::on(Arc::new(Local::new())).await
    }

    pub async fn on(backend: Arc<dyn Backend>) -> Self {
        let clock = Arc::new(ManualClock::new());
        let (names, queues) = (names(), queues());
        let opened = backend.open(&names, &queues).await;
        let keys = Keys::derive(&opened.installation_key);
        let policy = Arc::new(policy(&keys));
        let dir = tempfile::tempdir().expect("a temporary directory");
        let blobs = Blobs::open(dir.path()).expect("a directory for attachments");
        let intake = intake(&opened, &keys, blobs.clone(), clock.clone());
        let ownership = own(&opened).await;
        Self {
            backend,
            opened,
            _dir: dir,
            blobs,
            clock,
            policy,
            keys,
            intake,
            channels: Arc::new(channels()),
            ownership,
            undecided: 0,
            said: 0,
        }
    }

    /// With other settings of the router.
    pub fn configure(&mut self, change: impl FnOnce(&mut Policy)) {
        change(Arc::make_mut(&mut self.policy));
    }

    pub fn store(&self) -> &Arc<dyn Store> {
        &self.opened.store
    }

    pub fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }

    pub fn now(&self) -> i64 {
        self.clock.micros()
    }

    pub fn later(&self, by: Duration) {
        self.clock.advance(by);
    }

    pub fn hours_later(&self, hours: u64) {
        self.later(Duration::from_secs(hours * 3600));
    }

    /// The process dies, and starts again on what is on disk.
    pub async fn crash(&mut self) {
        self.opened = self.backend.open(&names(), &queues()).await;
        self.intake = intake(
            &self.opened,
            &self.keys,
            self.blobs.clone(),
            self.clock.clone(),
        );
        self.ownership = own(&self.opened).await;
    }

    /// Takes what was said, batch by batch of one channel, in order: durable, not yet decided.
    pub async fn accept(&mut self, said: impl IntoIterator<Item = Said>) -> Result<(), BusError> {
        let mut batch: Vec<Said> = Vec::new();
        for said in said {
            if batch
                .last()
                .is_some_and(|last| last.channel != said.channel)
            {
                self.accept_batch(std::mem::take(&mut batch)).await?;
            }
            batch.push(said);
        }
        self.accept_batch(batch).await
    }

    /// Like [`Self::accept`], for many events of one channel at one moment, in one batch.
    pub async fn accept_at_once(&mut self, said: impl IntoIterator<Item = Said>) {
        let mut batch: HashMap<&str, Vec<InboundEvent>> = HashMap::new();
        for mut said in said {
            self.said += 1;
            self.undecided += 1;
            if !said.keyed {
                said.event.dedupe_key = DedupeKey::new(format!("m{}", self.said));
            }
            batch.entry(said.channel).or_default().push(said.event);
        }
        for (channel, events) in batch {
            let channel = self.channels.get(channel).expect("a channel of the desk");
            self.intake
                .accept(channel, events)
                .await
                .expect("the bus takes it");
        }
    }

    async fn accept_batch(&mut self, batch: Vec<Said>) -> Result<(), BusError> {
        for mut said in batch {
            self.clock.advance(BETWEEN_EVENTS);
            self.said += 1;
            if !said.keyed {
                said.event.dedupe_key = DedupeKey::new(format!("m{}", self.said));
            }
            self.mint_tokens(&mut said).await;
            let channel = self
                .channels
                .get(said.channel)
                .expect("a channel of the desk");
            match said.imported {
                true => self
                    .intake
                    .import(channel, vec![said.event])
                    .await
                    .map(drop)?,
                false => self.intake.accept(channel, vec![said.event]).await?,
            }
            self.undecided += 1;
        }
        Ok(())
    }

    /// Puts the token of conversation 1 where `#1` stands, and for `forged #1` one that names it
    /// under another installation's key.
    async fn mint_tokens(&self, said: &mut Said) {
        let tokens = match &mut said.event.event {
            Event::Message(message) | Event::Echo(message) => {
                message.thread.reply_tokens.as_mut_slice()
            }
            Event::Receipt { target, .. } => std::slice::from_mut(target),
            _ => return,
        };
        let elsewhere = ReplyTokens::new(b"another installation");
        for token in tokens {
            let (key, number) = match token.strip_prefix("forged ") {
                Some(number) => (&elsewhere, number),
                None => (&self.keys.reply_tokens, token.as_str()),
            };
            if let Some(number) = number.strip_prefix('#') {
                let number = number.parse().expect("a conversation's number");
                *token = key.mint(self.conversation(number).await.id);
            }
        }
    }

    /// Accepts and routes all of it at once.
    pub async fn deliver(&mut self, said: impl IntoIterator<Item = Said>) -> Vec<Verdict> {
        self.accept(said).await.expect("the bus takes it");
        self.route(usize::MAX).await
    }

    /// Decides everything accepted, at most `batch_max` records at once.
    pub async fn route(&mut self, batch_max: usize) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        while self.undecided > 0 {
            verdicts.extend(
                self.route_once(batch_max)
                    .await
                    .expect("the batch can be decided"),
            );
        }
        verdicts
    }

    /// One batch, as the router's loop decides it.
    pub async fn route_once(&mut self, batch_max: usize) -> Result<Vec<Verdict>, StoreError> {
        let commit = self.next_commit(batch_max).await;
        let routed = self.opened.store.route(commit).await?;
        self.ownership.position = routed.position;
        self.undecided -= routed.verdicts.len();
        Ok(routed.verdicts)
    }

    /// What the router would commit next.
    pub async fn next_commit(&self, batch_max: usize) -> RouteCommit {
        let read = self.opened.bus.read(
            self.ownership.partition,
            self.ownership.position,
            batch_max.min(500),
        );
        let records = within_patience("reading what was accepted", read)
            .await
            .expect("the bus can be read");
        let batch = records.into_iter().map(|record| match record.content {
            Content::Envelope(envelope) => Prepared {
                carried: record.carried,
                ..Prepared::new(record.offset, envelope)
            },
            other => panic!("record {} is no envelope: {other:?}", record.offset),
        });
        RouteCommit {
            ownership: self.ownership,
            batch: Arc::new(batch.collect()),
            policy: self.policy.clone(),
            now: self.now(),
        }
    }

    pub fn ownership(&self) -> Ownership {
        self.ownership
    }

    pub fn intake(&self) -> &Arc<Intake> {
        &self.intake
    }

    /// For callers that deliver at the same time.
    pub fn shared_intake(&self) -> SharedIntake {
        SharedIntake {
            intake: self.intake.clone(),
            channels: self.channels.clone(),
        }
    }

    pub fn bus(&self) -> &Arc<dyn Bus> {
        &self.opened.bus
    }

    /// Some other hand took so many.
    pub fn accepted_elsewhere(&mut self, count: usize) {
        self.undecided += count;
    }

    pub fn undecided(&self) -> usize {
        self.undecided
    }

    /// A record was dealt with by other hands.
    pub fn moved_past(&mut self, record: i64) {
        self.ownership.position = record;
        self.undecided -= 1;
    }

    /// Some other hand decided everything.
    pub fn decided_elsewhere(&mut self) {
        self.undecided = 0;
    }

    /// The `number`th conversation, counted from 1 in the order of opening.
    pub async fn conversation(&self, number: usize) -> Conversation {
        let all = self.conversations().await;
        let found = all.get(number - 1).cloned();
        found.unwrap_or_else(|| panic!("there are {} conversations, not {number}", all.len()))
    }

    pub async fn conversations(&self) -> Vec<Conversation> {
        show::conversations(self.opened.store.as_ref()).await
    }

    /// The messages of the `number`th conversation, oldest first.
    pub async fn messages(&self, number: usize) -> Vec<StoredMessage> {
        let id = self.conversation(number).await.id;
        show::messages(self.opened.store.as_ref(), id).await
    }

    /// All conversations and their messages as text.
    pub async fn shows(&self) -> String {
        show::show(self.opened.store.as_ref()).await
    }

    pub async fn claim(&self, queue: &str, actor: Actor) -> Option<Conversation> {
        let claimed = self
            .opened
            .store
            .claim(&queue_id(queue), actor, None, self.now())
            .await;
        claimed.expect("claiming is allowed")
    }

    pub async fn act(
        &self,
        number: usize,
        actor: Actor,
        action: Action,
    ) -> Result<Conversation, StoreError> {
        let id = self.conversation(number).await.id;
        self.opened
            .store
            .act(id, actor, action, None, self.now())
            .await
    }

    pub async fn resolve(&self, number: usize) {
        self.act(number, supervisor(), Action::Resolve)
            .await
            .expect("a supervisor may resolve");
    }

    pub fn reply_to(&self, conversation: ConversationId, actor: Actor, text: &str) -> NewReply {
        NewReply {
            conversation,
            holder: holder(&actor),
            actor,
            written: Written::text(text),
            idempotency: None,
            version: None,
            at: self.now(),
        }
    }

    /// Answers the `number`th conversation as a supervisor.
    pub async fn reply(&self, number: usize, text: &str) -> StoredMessage {
        let reply = self.reply_to(self.conversation(number).await.id, supervisor(), text);
        let (message, _) = self
            .opened
            .store
            .reply(reply)
            .await
            .expect("a supervisor may reply");
        message
    }

    /// Takes what is due on a channel, as its lane does.
    pub async fn lease(&self, channel: &str) -> Vec<Leased> {
        let leased = self
            .opened
            .store
            .lease(&channel_id(channel), 100, self.now())
            .await;
        leased.expect("leasing works").leased
    }

    pub async fn settle(&self, leased: &Leased, settlement: Settlement) {
        self.settled(leased, settlement).await;
    }

    /// The bells that a settlement rings.
    pub async fn settled(&self, leased: &Leased, settlement: Settlement) -> Rings {
        let settled = self
            .opened
            .store
            .settle(leased.id, settlement, self.now())
            .await;
        settled.expect("settling works")
    }

    /// Answers and sends: the provider names the message `provider_id`.
    pub async fn answer(&self, number: usize, text: &str, provider_id: &str) -> StoredMessage {
        let message = self.reply(number, text).await;
        for leased in self.lease(message.channel.as_str()).await {
            let namespace = leased.draft.to.as_ref().map(|to| to.namespace.clone());
            let provider_ids = vec![provider_id.to_owned()];
            self.settle(
                &leased,
                Settlement::Sent {
                    provider_ids,
                    namespace,
                    refused: Vec::new(),
                },
            )
            .await;
        }
        message
    }
}

/// The desk's intake, for many hands. What it takes is not counted as undecided.
#[derive(Clone)]
pub struct SharedIntake {
    intake: Arc<Intake>,
    channels: Arc<HashMap<&'static str, Channel>>,
}

impl SharedIntake {
    pub async fn accept(&self, said: Said) {
        let channel = self
            .channels
            .get(said.channel)
            .expect("a channel of the desk");
        self.intake
            .accept(channel, vec![said.event])
            .await
            .expect("the bus takes it");
    }
}
