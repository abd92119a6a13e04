//! The installation under the simulation: the real intake, bus, router and store on a disk that can lose power, or on
//! PostgreSQL. What it does, it does as an operation, which may be cut short at any moment.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use connector_api::{Capabilities, ChannelId, Cursor, InboundEvent};
use switchboard::blobs::Blobs;
use switchboard::bus::local::LocalBus;
use switchboard::bus::{Bus, Content};
use switchboard::channels::Channel;
use switchboard::daemon::Keys;
use switchboard::dispatch::verbs::Verb;
use switchboard::dispatch::{Action, Actor};
use switchboard::ids::{ConversationId, MessageId};
use switchboard::intake::Intake;
use switchboard::router::facts::Conversation;
use switchboard::router::{Policy, Prepared};
use switchboard::store::sqlite::{SqliteStore, WalLimits, database_path};
use switchboard::store::{
    Declared, Doing, Leased, NewReply, Ownership, RouteCommit, SettleAs, Settlement, Settling,
    Store, StoreError, StoredMessage, Written,
};

use super::disk;
use crate::support::{
    Backend, KEEP, ManualClock, channel_id, channels, holder, names, policy, queue_id, queues,
    senders,
};

/// Nothing is copied out of the log but when the simulation says so.
const WAL: WalLimits = WalLimits {
    checkpoint_bytes: u64::MAX,
    bytes_max: u64::MAX,
};
/// Channels of the simulation; sending twice under one id delivers once in the chat, and mail is read again from its mailbox.
pub const CHAT: &str = "shop-chat";
pub const MAIL: &str = "support-mail";
/// Rows that one look at the clocks, or one sweep, takes.
const DUE_MAX: u32 = 100;

/// What the installation runs on.
pub enum Ground {
    /// A disk that can lose power; directories of one opening after the other lie in this one.
    Disk(tempfile::TempDir),
    /// A server of its own that does not fail: processes do.
    Server {
        backend: Box<dyn Backend>,
        blobs: tempfile::TempDir,
    },
}

/// One running process of the installation.
pub struct World {
    ground: Arc<Ground>,
    openings: usize,
    pub clock: Arc<ManualClock>,
    pub store: Arc<dyn Store>,
    bus: Arc<dyn Bus>,
    /// The same store, where it is SQLite's.
    embedded: Option<Arc<SqliteStore>>,
    pub blobs: Blobs,
    intake: Arc<Intake>,
    policy: Arc<Policy>,
    channels: Arc<HashMap<&'static str, Channel>>,
    pub ownership: Ownership,
}

/// Something that is asked of it.
pub enum Op {
    Accept(&'static str, Vec<InboundEvent>),
    SaveCursor(Cursor),
    Route(usize),
    Claim(Actor),
    Act(ConversationId, Actor, Action),
    Perform(ConversationId, Actor, Verb),
    Reply(Box<NewReply>),
    Lease(&'static str),
    Settle(MessageId, Settlement),
    SettleHeld(MessageId, Actor, SettleAs),
    WakeDue,
    Sweep,
    Checkpoint,
}

/// What it came to, where somebody was there to hear it.
#[derive(Debug)]
pub enum Outcome {
    Done,
    /// The position that was committed.
    Routed(i64),
    Claimed(Option<Box<Conversation>>),
    Changed(Box<Conversation>),
    Replied(Box<StoredMessage>),
    Leased(Vec<Leased>),
    /// It was not allowed: nothing was done.
    Refused(String),
}

impl World {
    /// A new installation. Its key is made of the seed, so that everything that is hashed is the same every time.
    pub async fn open(ground: Ground, clock: Arc<ManualClock>, seed: u64) -> Self {
        let mut openings = 0;
        if let Ground::Disk(dir) = &ground {
            let (first, next) = (dir.path().join("0"), dir.path().join("1"));
            std::fs::create_dir_all(&first).expect("a directory");
            disk::begin(&first);
            let store = embedded(&first);
            let key: Vec<u8> = seed.to_le_bytes().repeat(4);
            let write = store.write_raw(move |conn| {
                let sql = "UPDATE secret SET value = ?1 WHERE key = 'installation_key'";
                conn.execute(sql, [&key])?;
                Ok(())
            });
            write.await.expect("the key is written");
            disk::photograph(disk::Loss::Kill, 0, 0, &next);
            openings = 1;
        }
        Self::start(Arc::new(ground), openings, clock).await
    }

    /// Starts as the daemon does. An error is a promise broken: what was lost by the crash must not be noticed.
    async fn start(ground: Arc<Ground>, openings: usize, clock: Arc<ManualClock>) -> Self {
        let now = clock.micros();
        let (store, bus, embedded, blobs): (Arc<dyn Store>, Arc<dyn Bus>, _, _) =
            match ground.as_ref() {
                Ground::Disk(dir) => {
                    let dir = dir.path().join(openings.to_string());
                    disk::begin(&dir);
                    let store = embedded(&dir);
                    let restored = store.follow_lineage(&dir, false, now).await;
                    assert_eq!(
                        restored,
                        Ok(None),
                        "a crash was taken for a restored backup"
                    );
                    let bus = LocalBus::open(store.clone())
                        .await
                        .expect("the log is read");
                    (store.clone(), Arc::new(bus), Some(store), dir.join("blobs"))
                }
                Ground::Server { backend, blobs } => {
                    let opened = backend.open(&names(), &queues()).await;
                    (opened.store, opened.bus, None, blobs.path().to_owned())
                }
            };
        let keys = Keys::derive(store.installation_key());
        let blobs = Blobs::open(&blobs).expect("a directory for files");
        let idempotent: Vec<ChannelId> = vec![channel_id(CHAT)];
        store
            .recover_outbox(idempotent, now)
            .await
            .expect("recovering the outbox");
        let can = |idempotent| Capabilities {
            send: true,
            send_idempotent: idempotent,
            ..Capabilities::default()
        };
        let sending = senders([(CHAT, can(true)), (MAIL, can(false))]);
        store
            .set_senders(sending, Declared::default(), now)
            .await
            .expect("saying who can send");
        let partition = bus.assigned().borrow().first().copied();
        let ownership = store
            .own(partition.expect("a partition is assigned"))
            .await
            .expect("owning the partition");
        Self {
            openings,
            intake: Arc::new(Intake::new(
                bus.clone(),
                store.clone(),
                blobs.clone(),
                clock.clone(),
                keys.intake.clone(),
            )),
            policy: Arc::new(policy(&keys)),
            channels: Arc::new(channels()),
            ground,
            clock,
            store,
            bus,
            embedded,
            blobs,
            ownership,
        }
    }

    /// Whether it may lose power.
    pub fn has_disk(&self) -> bool {
        matches!(*self.ground, Ground::Disk(_))
    }

    /// Where a photograph of the disk goes, which the next opening starts on.
    pub fn next_dir(&self) -> PathBuf {
        match self.ground.as_ref() {
            Ground::Disk(dir) => dir.path().join((self.openings + 1).to_string()),
            Ground::Server { .. } => PathBuf::new(),
        }
    }

    /// The process is gone; another one starts on what the photograph shows, or on what the server has.
    pub async fn restart(&mut self) {
        let (ground, before) = (self.ground.clone(), self.openings);
        *self = Self::start(ground.clone(), before + 1, self.clock.clone()).await;
        if let Ground::Disk(dir) = ground.as_ref() {
            // Threads of the one before may still be writing there.
            drop(std::fs::remove_dir_all(dir.path().join(before.to_string())));
        }
    }

    /// Whether something is accepted and not decided.
    pub async fn is_behind(&self) -> bool {
        let mark = self.bus.mark().await.expect("the bus says how far it is");
        let newest = mark.0.get(&self.ownership.partition);
        newest.is_some_and(|newest| self.ownership.position < *newest)
    }

    pub async fn cursor(&self) -> Option<Cursor> {
        let cursor = self.store.cursor(&channel_id(MAIL)).await;
        cursor.expect("reading the cursor")
    }

    /// Jobs that wait for the writer and are in none of its commits; `None` where there is no such thing.
    pub fn jobs_waiting(&self) -> Option<usize> {
        let embedded = self.embedded.as_ref()?;
        Some(switchboard::store::sqlite::writer::JOBS_WAITING_MAX - embedded.writer().room())
    }

    /// Begins an operation; it goes on by itself. What the router reads, it reads now.
    pub async fn begin(&self, op: Op) -> tokio::task::JoinHandle<Result<Outcome, String>> {
        let (store, now) = (self.store.clone(), self.clock.micros());
        let refused = |error: StoreError| match error {
            StoreError::Refused(refusal) => Ok(Outcome::Refused(refusal.to_string())),
            other => Err(other.to_string()),
        };
        match op {
            Op::Accept(channel, events) => {
                let (intake, channels) = (self.intake.clone(), self.channels.clone());
                tokio::spawn(async move {
                    let taken = intake.accept(&channels[channel], events).await;
                    taken
                        .map(|()| Outcome::Done)
                        .map_err(|error| error.to_string())
                })
            }
            Op::SaveCursor(cursor) => tokio::spawn(async move {
                let saved = store.save_cursor(&channel_id(MAIL), cursor).await;
                saved.map_or_else(refused, |()| Ok(Outcome::Done))
            }),
            Op::Route(batch_max) => {
                let commit = self.next_commit(batch_max).await;
                let (bus, partition) = (self.bus.clone(), self.ownership.partition);
                tokio::spawn(async move {
                    let Some(commit) = commit else {
                        return Ok(Outcome::Done);
                    };
                    let records = commit.batch.len();
                    match store.route(commit).await {
                        Ok(routed) => {
                            bus.decided(partition, routed.position, records);
                            Ok(Outcome::Routed(routed.position))
                        }
                        Err(error) => refused(error),
                    }
                })
            }
            Op::Claim(actor) => tokio::spawn(async move {
                let claimed = store.claim(&queue_id("frontline"), actor, None, now).await;
                claimed.map_or_else(refused, |claimed| {
                    Ok(Outcome::Claimed(claimed.map(Box::new)))
                })
            }),
            Op::Act(conversation, actor, action) => tokio::spawn(async move {
                let acted = store.act(conversation, actor, action, None, now).await;
                acted.map_or_else(refused, |found| Ok(Outcome::Changed(Box::new(found))))
            }),
            Op::Perform(conversation, actor, verb) => tokio::spawn(async move {
                let doing = Doing {
                    conversation,
                    actor,
                    verb,
                    version: None,
                    at: now,
                };
                let done = store.perform(doing).await;
                done.map_or_else(refused, |found| Ok(Outcome::Changed(Box::new(found))))
            }),
            Op::Reply(reply) => tokio::spawn(async move {
                let replied = store.reply(*reply).await;
                replied.map_or_else(refused, |(message, _)| {
                    Ok(Outcome::Replied(Box::new(message)))
                })
            }),
            Op::Lease(channel) => tokio::spawn(async move {
                let taken = store.lease(&channel_id(channel), DUE_MAX, now).await;
                taken.map_or_else(refused, |taken| Ok(Outcome::Leased(taken.leased)))
            }),
            Op::Settle(message, settlement) => tokio::spawn(async move {
                let settled = store.settle(message, settlement, now).await;
                settled.map_or_else(refused, |_| Ok(Outcome::Done))
            }),
            Op::SettleHeld(message, actor, outcome) => tokio::spawn(async move {
                let settling = Settling {
                    message,
                    by: Some(actor),
                    outcome,
                    idempotency: None,
                    at: now,
                };
                let settled = store.settle_held(settling).await;
                settled.map_or_else(refused, |(message, _)| {
                    Ok(Outcome::Replied(Box::new(message)))
                })
            }),
            Op::WakeDue => tokio::spawn(async move {
                let woken = store.wake_due(DUE_MAX, now).await;
                woken.map_or_else(refused, |_| Ok(Outcome::Done))
            }),
            Op::Sweep => tokio::spawn(async move {
                let swept = store.sweep(KEEP, now).await;
                swept.map_or_else(refused, |_| Ok(Outcome::Done))
            }),
            Op::Checkpoint => {
                let path = match self.ground.as_ref() {
                    Ground::Disk(dir) => Some(dir.path().join(self.openings.to_string())),
                    Ground::Server { .. } => None,
                };
                tokio::task::spawn_blocking(move || {
                    let Some(dir) = path else {
                        return Ok(Outcome::Done);
                    };
                    checkpoint(&dir)
                        .map(|()| Outcome::Done)
                        .map_err(|error| error.to_string())
                })
            }
        }
    }

    /// What an agent writes, under a key of its own.
    pub fn reply(&self, conversation: ConversationId, actor: Actor, text: &str) -> NewReply {
        let key = text.as_bytes().to_vec();
        NewReply {
            conversation,
            holder: holder(&actor),
            actor,
            written: Written::text(text),
            idempotency: Some((key.clone(), key)),
            version: None,
            at: self.clock.micros(),
        }
    }

    /// What the router would decide next; `None` when there is nothing.
    async fn next_commit(&self, batch_max: usize) -> Option<RouteCommit> {
        if !self.is_behind().await {
            return None;
        }
        let read = self
            .bus
            .read(self.ownership.partition, self.ownership.position, batch_max);
        let read = tokio::time::timeout(Duration::from_secs(30), read).await;
        let records = read
            .expect("what was accepted can be read")
            .expect("the bus can be read");
        let batch = records.into_iter().map(|record| match record.content {
            Content::Envelope(envelope) => Prepared {
                carried: record.carried,
                ..Prepared::new(record.offset, envelope)
            },
            other => panic!("record {} is no envelope: {other:?}", record.offset),
        });
        Some(RouteCommit {
            ownership: self.ownership,
            batch: Arc::new(batch.collect()),
            policy: self.policy.clone(),
            now: self.clock.micros(),
        })
    }
}

fn embedded(dir: &Path) -> Arc<SqliteStore> {
    let store = SqliteStore::open_with(dir, &names(), &queues(), WAL);
    Arc::new(store.expect("the store opens on whatever a crash left"))
}

/// As the checkpointer copies the log into the database.
fn checkpoint(dir: &Path) -> rusqlite::Result<()> {
    let conn = rusqlite::Connection::open(database_path(dir))?;
    conn.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(()))
}
