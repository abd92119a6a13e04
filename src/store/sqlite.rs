//! The embedded store: one SQLite file, one writer, a few readers. WAL with `synchronous=FULL`:
//! a commit is on disk when it returns.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use connector_api::{Capabilities, ChannelId, Cursor, QueueId};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::warn;

use crate::dispatch::{Action, Actor};
use crate::ids::{ContactId, ConversationId, MessageId};
use crate::router::facts::Conversation;
use crate::router::{Policy, Verdict};
use crate::store::attachments::{DueFetch, FetchOutcome};
use crate::store::{
    ConversationFilter, Counts, NewReply, OutboxFilter, Ownership, QueueDepth, Result, Retention,
    Rings, RouteCommit, Routed, SettleAs, Settlement, Settling, Store, StoreError,
    StoredAttachment, StoredContact, StoredDeadLetter, StoredMessage, Taken, Token, UnsentReply,
};

mod attachments;
mod desk;
mod effects;
mod facts;
mod lineage;
pub mod names;
mod operating;
mod outbox;
mod reading;
mod seen;
pub mod writer;

use lineage::Lineage;
use names::Names;
use writer::{Memory, WeakWriter, Writer, WriterState};

/// The schema this build writes; a newer one is refused.
pub const SCHEMA_VERSION: i64 = 2;
const SCHEMA: &str = include_str!("sqlite/schema.sql");
/// What leads from each earlier version to the next; they only add.
const UPGRADES: [(i64, &str); 1] = [(1, include_str!("sqlite/schema_2.sql"))];

/// Reader connections: short queries on two cores.
const READERS: usize = 3;
const READER_WAIT_MS: u64 = 5_000;
/// Pages that may be left to copy when the writer starts the log anew: some milliseconds.
const RESTART_PAGES_MAX: i64 = 2_000;

/// Limits of the write-ahead log.
#[derive(Debug, Clone, Copy)]
pub struct WalLimits {
    /// From here on the checkpointer copies the log into the database.
    pub checkpoint_bytes: u64,
    /// From here on intake refuses: something keeps the log from being copied.
    pub bytes_max: u64,
}

impl Default for WalLimits {
    fn default() -> Self {
        Self {
            checkpoint_bytes: 32 * 1024 * 1024,
            bytes_max: 1024 * 1024 * 1024,
        }
    }
}

/// Where the files of a data directory are.
pub fn database_path(data_dir: &Path) -> PathBuf {
    data_dir.join("switchboard.db")
}

/// The embedded store. Dropping it ends the writer after its last commit.
pub struct SqliteStore {
    writer: Writer,
    readers: Arc<Readers>,
    names: Arc<Names>,
    state: Arc<WriterState>,
    queues: Vec<QueueId>,
    /// Channels that can send, with their limits, once the daemon has built them.
    senders: OnceLock<Arc<HashMap<ChannelId, Capabilities>>>,
    /// What left, counted beside the database, once the daemon follows it.
    lineage: OnceLock<Arc<Lineage>>,
    key: Vec<u8>,
    checkpointing: Arc<AtomicBool>,
}

struct Readers {
    idle: Mutex<Vec<Connection>>,
    free: Arc<Semaphore>,
}

/// One reader, lent; dropping gives it back.
struct Reader {
    conn: Option<Connection>,
    readers: Arc<Readers>,
    _permit: OwnedSemaphorePermit,
}

impl Reader {
    fn take(readers: &Arc<Readers>, permit: OwnedSemaphorePermit) -> Result<Self> {
        let conn = readers
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        Ok(Self {
            conn,
            readers: readers.clone(),
            _permit: permit,
        })
    }

    fn conn(&self) -> Result<&Connection> {
        self.conn
            .as_ref()
            .ok_or_else(|| StoreError::Unavailable("no reader is free".to_owned()))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut idle = self
            .readers
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        idle.extend(self.conn.take());
    }
}

impl SqliteStore {
    /// Opens (or makes) the store of a data directory. `names` are the configured brands and
    /// channels, `queues` the configured queues.
    pub fn open(data_dir: &Path, names: &[String], queues: &[QueueId]) -> Result<Self> {
        Self::open_with(data_dir, names, queues, WalLimits::default())
    }

    /// Like [`Self::open`], with other limits of the write-ahead log.
    pub fn open_with(
        data_dir: &Path,
        names: &[String],
        queues: &[QueueId],
        wal: WalLimits,
    ) -> Result<Self> {
        let path = database_path(data_dir);
        let conn = open_writing(&path)?;
        migrate(&conn)?;
        let known = Arc::new(Names::default());
        let all: Vec<String> = names
            .iter()
            .cloned()
            .chain(queues.iter().map(|queue| queue.as_str().to_owned()))
            .collect();
        known.register(&conn, &all)?;
        adopt_stranded(&conn, &known, queues)?;
        let key = installation_key(&conn)?;
        let memory = Memory::load(&conn, known.clone())?;
        let state = Arc::new(WriterState::default());
        let (writer, _thread) = Writer::start(conn, memory, state.clone())
            .map_err(|error| StoreError::Unavailable(format!("starting the writer: {error}")))?;
        let idle = (0..READERS)
            .map(|_| open_reading(&path))
            .collect::<Result<Vec<_>>>()?;
        let readers = Arc::new(Readers {
            idle: Mutex::new(idle),
            free: Arc::new(Semaphore::new(READERS)),
        });
        let checkpointing = Arc::new(AtomicBool::new(true));
        start_checkpointer(
            path,
            wal,
            state.clone(),
            writer.downgrade(),
            Arc::downgrade(&checkpointing),
        )?;
        Ok(Self {
            writer,
            readers,
            names: known,
            state,
            queues: queues.to_vec(),
            senders: OnceLock::new(),
            lineage: OnceLock::new(),
            key,
            checkpointing,
        })
    }

    /// Finds out whether this database ran here last. One that did not was restored from a backup
    /// (so it is `given` where somebody says so): everything unsent in it is held, and how much that
    /// is, is returned. From here on what leaves is counted beside the database, too.
    pub async fn follow_lineage(
        &self,
        data_dir: &Path,
        given: bool,
        now: i64,
    ) -> Result<Option<u64>> {
        let trouble = |error: std::io::Error| {
            StoreError::Unavailable(format!("the lineage in {}: {error}", data_dir.display()))
        };
        let installation = lineage::name_of(&self.key);
        let beside = lineage::read(data_dir).map_err(trouble)?;
        let (held, count) = self
            .writer
            .run(0, move |tx| {
                let counted = lineage::counted(tx.conn)?;
                let restored = given || lineage::is_restored(counted, &beside, &installation);
                let held = match restored {
                    true => Some(outbox::held::hold(tx, true, now)?.0),
                    false => None,
                };
                let count = lineage::above(counted, &beside, restored);
                lineage::set(tx.conn, count)?;
                Ok((held, count))
            })
            .await?;
        let lineage = Lineage::begin(data_dir, &self.key, count).map_err(trouble)?;
        self.lineage.get_or_init(|| Arc::new(lineage));
        Ok(held)
    }

    /// Random bytes of this installation: every other key is derived from them.
    pub fn installation_key(&self) -> &[u8] {
        &self.key
    }

    pub fn writer(&self) -> &Writer {
        &self.writer
    }

    pub fn names(&self) -> &Arc<Names> {
        &self.names
    }

    /// Whether the log has grown to its cap because something keeps it from being checkpointed.
    pub fn wal_full(&self) -> bool {
        self.state.wal_full.load(Ordering::Acquire)
    }

    /// Runs a short query on a reader.
    pub async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection, &Names) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let names = self.names.clone();
        let free = self.readers.free.clone().acquire_owned().await;
        let reader = Reader::take(&self.readers, free.map_err(|_| StoreError::Closed)?)?;
        // The reader goes with the work: a caller that leaves, or a query that panics, gives it
        // back all the same.
        let done = tokio::task::spawn_blocking(move || query(reader.conn()?, &names));
        done.await
            .map_err(|error| StoreError::Unavailable(format!("reading: {error}")))?
    }
}

impl StoreError {
    pub fn from_sqlite(error: &rusqlite::Error) -> Self {
        use rusqlite::ErrorCode as Code;
        match error.sqlite_error_code() {
            Some(
                Code::DatabaseCorrupt
                | Code::NotADatabase
                | Code::PermissionDenied
                | Code::FileLockingProtocolFailed
                | Code::DiskFull
                | Code::DatabaseBusy
                | Code::DatabaseLocked
                | Code::CannotOpen
                | Code::ReadOnly,
            )
            | Some(Code::SystemIoFailure | Code::OutOfMemory | Code::OperationInterrupted) => {
                Self::Unavailable(error.to_string())
            }
            _ => Self::Poisoned(error.to_string()),
        }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::from_sqlite(&error)
    }
}

fn open_writing(path: &Path) -> Result<Connection> {
    let conn = Connection::open(path)
        .map_err(|error| StoreError::Unavailable(format!("opening {}: {error}", path.display())))?;
    // secure_delete: what is erased is gone from the file. The checkpointer copies the log.
    conn.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = FAST;
         PRAGMA wal_autocheckpoint = 0; PRAGMA cache_size = -32768; PRAGMA temp_store = MEMORY;
         PRAGMA busy_timeout = 5000; PRAGMA journal_size_limit = 33554432;",
    )?;
    conn.set_prepared_statement_cache_capacity(256);
    keep_plans(&conn)?;
    Ok(conn)
}

/// Plans depend on no bound value. Else SQLite plans statements with a bound limit anew at every
/// call, which was a twentieth of the work per message.
fn keep_plans(conn: &Connection) -> Result<()> {
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

fn open_reading(path: &Path) -> Result<Connection> {
    let conn = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_URI,
    )?;
    conn.execute_batch("PRAGMA query_only = ON; PRAGMA cache_size = -4096;")?;
    conn.busy_timeout(Duration::from_millis(READER_WAIT_MS))?;
    conn.set_prepared_statement_cache_capacity(64);
    keep_plans(&conn)?;
    Ok(conn)
}

fn migrate(conn: &Connection) -> Result<()> {
    let version: i64 = conn.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    match version {
        0 => {
            let batch = format!("BEGIN; {SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;");
            conn.execute_batch(&batch)?;
            Ok(())
        }
        known @ 1..=SCHEMA_VERSION => {
            for (from, statements) in UPGRADES.iter().filter(|(from, _)| *from >= known) {
                let to = from + 1;
                let batch = format!("BEGIN; {statements} PRAGMA user_version = {to}; COMMIT;");
                conn.execute_batch(&batch)?;
            }
            Ok(())
        }
        newer => Err(StoreError::Unavailable(format!(
            "the database has schema version {newer}, this build knows {SCHEMA_VERSION}: start the newer version"
        ))),
    }
}

/// Conversations that wait in a queue which is not declared any more wait in the first one: nobody
/// could claim them otherwise.
fn adopt_stranded(conn: &Connection, names: &Names, queues: &[QueueId]) -> Result<()> {
    let declared: Vec<i64> = queues
        .iter()
        .map(|queue| names.id(queue.as_str()))
        .collect();
    let Some(adopting) = declared.first() else {
        return Ok(());
    };
    let mut statement = conn.prepare(
        "SELECT id, name FROM name WHERE EXISTS (SELECT 1 FROM waiting WHERE waiting.queue = name.id)",
    )?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let used: Vec<(i64, String)> = rows.collect::<rusqlite::Result<_>>()?;
    for (id, name) in used.iter().filter(|(id, _)| !declared.contains(id)) {
        let moved = conn.unchecked_transaction()?;
        let waiting = moved.execute(
            "UPDATE waiting SET queue = ?1 WHERE queue = ?2",
            [adopting, id],
        )?;
        moved.execute(
            "UPDATE conversation SET queue = ?1, version = version + 1 WHERE status = ?2 AND queue = ?3",
            [*adopting, crate::conversation::Status::Queued.code(), *id],
        )?;
        moved.commit()?;
        let into = names.name(*adopting);
        warn!(
            "the queue {name} is not declared any more: {waiting} conversations wait in {into} now"
        );
    }
    Ok(())
}

fn installation_key(conn: &Connection) -> Result<Vec<u8>> {
    let known: Option<Vec<u8>> = conn
        .query_row(
            "SELECT value FROM meta WHERE key = 'installation_key'",
            [],
            |row| row.get(0),
        )
        .optional()?;
    if let Some(key) = known {
        return Ok(key);
    }
    let mut key = vec![0; 32];
    aws_lc_rs::rand::fill(&mut key)
        .map_err(|_| StoreError::Unavailable("no random bytes".to_owned()))?;
    conn.execute(
        "INSERT INTO meta (key, value) VALUES ('installation_key', ?1)",
        [&key],
    )?;
    Ok(key)
}

/// Copies the log into the database away from the writer's thread, and asks the writer to start
/// the log anew once little is left to copy.
fn start_checkpointer(
    path: PathBuf,
    wal: WalLimits,
    state: Arc<WriterState>,
    writer: WeakWriter,
    alive: std::sync::Weak<AtomicBool>,
) -> Result<()> {
    let conn = Connection::open(&path)?;
    conn.busy_timeout(Duration::ZERO)?;
    let work = move || {
        while alive.strong_count() > 0 {
            std::thread::sleep(Duration::from_millis(200));
            // What the log holds now; its file keeps its size when it is started anew.
            let bytes = state.wal_bytes.load(Ordering::Acquire);
            metrics::gauge!("switchboard_wal_bytes").set(bytes as f64);
            state
                .wal_full
                .store(bytes >= wal.bytes_max, Ordering::Release);
            let copied: rusqlite::Result<(i64, i64)> = match bytes >= wal.checkpoint_bytes {
                true => conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
                    Ok((row.get(1)?, row.get(2)?))
                }),
                false => continue,
            };
            match copied {
                // Little is left for the writer to copy when it starts the log anew.
                Ok((in_log, copied)) if in_log - copied <= RESTART_PAGES_MAX => {
                    state.restart_wal.store(true, Ordering::Release);
                    writer.wake();
                }
                Ok(_) => {}
                Err(error) => {
                    writer::end_on_failed_fsync(&error);
                    warn!(%error, "checkpointing failed, trying again");
                }
            }
        }
    };
    std::thread::Builder::new()
        .name("store-checkpoint".to_owned())
        .spawn(work)
        .map_err(|error| StoreError::Unavailable(format!("starting the checkpointer: {error}")))?;
    Ok(())
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.checkpointing.store(false, Ordering::Release);
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn own(&self, partition: u32) -> Result<Ownership> {
        self.writer
            .run(0, move |tx| {
                tx.conn
                    .prepare_cached(
                        "INSERT INTO position (partition, position, epoch) VALUES (?1, 0, 1)
                         ON CONFLICT (partition) DO UPDATE SET epoch = epoch + 1 RETURNING position, epoch",
                    )?
                    .query_row([partition], |row| {
                        Ok(Ownership { partition, position: row.get(0)?, epoch: row.get(1)? })
                    })
                    .map_err(StoreError::from)
            })
            .await
    }

    async fn route(&self, commit: RouteCommit) -> Result<Routed> {
        let messages = commit.batch.len();
        self.writer
            .run(messages, move |tx| {
                let position = commit
                    .batch
                    .last()
                    .map_or(commit.ownership.position, |last| last.offset);
                move_position(tx, &commit.ownership, position)?;
                let effects = operating::decide(tx, &commit.batch, &commit.policy, commit.now)?;
                Ok(Routed {
                    position,
                    queues: rings_of(tx, &effects)?.queues,
                    sends: !effects.acknowledgements.is_empty(),
                    fetches: !effects.fetches.is_empty(),
                    verdicts: effects.verdicts,
                })
            })
            .await
    }

    async fn count_attempt(&self, record: i64) -> Result<u32> {
        self.writer
            .run(0, move |tx| operating::count_attempt(tx, record))
            .await
    }

    async fn bury(
        &self,
        ownership: Ownership,
        record: i64,
        reason: String,
        attempts: u32,
        now: i64,
    ) -> Result<()> {
        self.writer
            .run(1, move |tx| {
                move_position(tx, &ownership, record)?;
                operating::bury(tx, record, &reason, attempts, now)
            })
            .await
    }

    async fn cursor(&self, channel: &ChannelId) -> Result<Option<Cursor>> {
        let number = self.names.id(channel.as_str());
        self.read(move |conn, _| operating::cursor(conn, number))
            .await
    }

    async fn save_cursor(&self, channel: &ChannelId, cursor: Cursor) -> Result<()> {
        let channel = channel.clone();
        self.writer
            .run(0, move |tx| operating::save_cursor(tx, &channel, &cursor))
            .await
    }

    async fn claim(&self, queue: &QueueId, actor: Actor, now: i64) -> Result<Option<Conversation>> {
        let queue = queue.clone();
        self.writer
            .run(1, move |tx| desk::claim(tx, &queue, &actor, now))
            .await
    }

    async fn act(
        &self,
        conversation: ConversationId,
        actor: Actor,
        action: Action,
        version: Option<i64>,
        now: i64,
    ) -> Result<Conversation> {
        self.writer
            .run(1, move |tx| {
                desk::act(tx, conversation, &actor, action, version, now)
            })
            .await
    }

    async fn reply(&self, reply: NewReply) -> Result<(StoredMessage, Conversation)> {
        let senders = self.senders.get().cloned();
        self.writer
            .run(1, move |tx| {
                let id = desk::reply(tx, &reply, senders.as_deref())?;
                written(tx, id)
            })
            .await
    }

    async fn note(&self, note: NewReply) -> Result<(StoredMessage, Conversation)> {
        self.writer
            .run(1, move |tx| {
                let id = desk::note(tx, &note)?;
                written(tx, id)
            })
            .await
    }

    async fn queues(&self, actor: Actor) -> Result<Vec<QueueDepth>> {
        let visible: Vec<QueueId> = self
            .queues
            .iter()
            .filter(|queue| actor.may_use_queue(queue))
            .cloned()
            .collect();
        self.read(move |conn, names| reading::queue_depths(conn, names, &visible))
            .await
    }

    async fn conversations(
        &self,
        actor: Actor,
        filter: ConversationFilter,
    ) -> Result<Vec<Conversation>> {
        self.read(move |conn, names| reading::conversations(conn, names, &actor, &filter))
            .await
    }

    async fn conversation(&self, actor: Actor, id: ConversationId) -> Result<Option<Conversation>> {
        self.read(move |conn, names| reading::conversation(conn, names, &actor, id))
            .await
    }

    async fn messages(
        &self,
        actor: Actor,
        conversation: ConversationId,
        from: Option<MessageId>,
        limit: u32,
    ) -> Result<Option<Vec<StoredMessage>>> {
        self.read(move |conn, names| {
            reading::messages(conn, names, &actor, conversation, from, limit)
        })
        .await
    }

    async fn message(&self, actor: Actor, id: MessageId) -> Result<Option<StoredMessage>> {
        self.read(move |conn, names| reading::message(conn, names, &actor, id))
            .await
    }

    async fn contact(&self, actor: Actor, id: ContactId) -> Result<Option<StoredContact>> {
        self.read(move |conn, names| reading::contact(conn, names, &actor, id))
            .await
    }

    async fn set_senders(&self, senders: HashMap<ChannelId, Capabilities>, now: i64) -> Result<()> {
        let known = self.senders.get_or_init(|| Arc::new(senders)).clone();
        self.writer
            .run(0, move |tx| {
                outbox::held::refuse_unsendable(tx, |name| can_send(Some(&known), name), now)
            })
            .await
    }

    async fn recover_outbox(&self, idempotent: Vec<ChannelId>, now: i64) -> Result<u64> {
        self.writer
            .run(0, move |tx| {
                Ok(outbox::held::recover(tx, None, &idempotent, now)?.0)
            })
            .await
    }

    async fn recover_lane(&self, channel: &ChannelId, idempotent: bool, now: i64) -> Result<Rings> {
        let channel = channel.clone();
        self.writer
            .run(0, move |tx| {
                let own = [channel];
                let sent_once: &[ChannelId] = if idempotent { &own } else { &[] };
                Ok(outbox::held::recover(tx, own.first(), sent_once, now)?.1)
            })
            .await
    }

    async fn lease(&self, channel: &ChannelId, limit: u32, now: i64) -> Result<Taken> {
        let channel = channel.clone();
        let senders = self.senders.get().cloned();
        let lineage = self.lineage.get().cloned();
        let work = move |tx: &mut writer::Tx<'_>| {
            let can = senders.as_ref().and_then(|senders| senders.get(&channel));
            let taken = outbox::lease(tx, &channel, can, limit, now)?;
            let count = match taken.leased.is_empty() {
                true => None,
                false => Some(lineage::count(tx.conn)?),
            };
            Ok((taken, count))
        };
        let then = move |(_, count): &(Taken, Option<i64>)| {
            if let (Some(lineage), Some(count)) = (&lineage, count) {
                lineage.note(*count);
            }
        };
        let (taken, _) = self
            .writer
            .run_then(1, writer::Fate::Alone, work, then)
            .await?;
        Ok(taken)
    }

    async fn next_due(&self, channel: &ChannelId) -> Result<Option<i64>> {
        let number = self.names.id(channel.as_str());
        self.read(move |conn, _| outbox::next_due(conn, number))
            .await
    }

    async fn settle(&self, id: MessageId, settlement: Settlement, now: i64) -> Result<Rings> {
        self.writer
            .run(1, move |tx| outbox::settle(tx, id, &settlement, now))
            .await
    }

    async fn settle_held(&self, settling: Settling) -> Result<(StoredMessage, Rings)> {
        let senders = self.senders.get().cloned();
        self.writer
            .run(1, move |tx| {
                let can_send = |name: &str| can_send(senders.as_deref(), name);
                let rings = outbox::held::settle_held(tx, &settling, can_send)?;
                Ok((written(tx, settling.message)?.0, rings))
            })
            .await
    }

    async fn settle_restored(
        &self,
        outcome: SettleAs,
        channel: Option<ChannelId>,
        limit: u32,
        now: i64,
    ) -> Result<(u64, Rings)> {
        let senders = self.senders.get().cloned();
        self.writer
            .run(1, move |tx| {
                let can_send = |name: &str| can_send(senders.as_deref(), name);
                let channel = channel.as_ref();
                outbox::held::settle_restored(tx, outcome, channel, limit, can_send, now)
            })
            .await
    }

    async fn hold_unsent(&self, sending: bool, now: i64) -> Result<(u64, Rings)> {
        self.writer
            .run(1, move |tx| outbox::held::hold(tx, sending, now))
            .await
    }

    async fn unsent(&self, filter: OutboxFilter) -> Result<Vec<UnsentReply>> {
        self.read(move |conn, names| outbox::held::list(conn, names, &filter))
            .await
    }

    async fn lease_fetches(&self, limit: u32, now: i64) -> Result<Vec<DueFetch>> {
        self.writer
            .run(1, move |tx| attachments::lease(tx, limit, now))
            .await
    }

    async fn next_fetch(&self) -> Result<Option<i64>> {
        self.read(|conn, _| attachments::next(conn)).await
    }

    async fn settle_fetch(
        &self,
        message: MessageId,
        place: usize,
        outcome: FetchOutcome,
        now: i64,
    ) -> Result<()> {
        // The outcome goes back with the answer: it holds its file until after the commit.
        let settled = self.writer.run(1, move |tx| {
            attachments::settle(tx, message, place, &outcome, now).map(|()| outcome)
        });
        settled.await.map(drop)
    }

    async fn attachment(
        &self,
        actor: Actor,
        message: MessageId,
        place: usize,
    ) -> Result<Option<StoredAttachment>> {
        self.read(move |conn, names| attachments::read(conn, names, &actor, message, place))
            .await
    }

    async fn unnamed_files(&self, files: Vec<[u8; 32]>) -> Result<Vec<[u8; 32]>> {
        self.read(move |conn, _| attachments::unnamed(conn, &files))
            .await
    }

    async fn create_token(&self, hash: Vec<u8>, token: Token) -> Result<Token> {
        self.writer
            .run(0, move |tx| operating::create_token(tx, &hash, token))
            .await
    }

    async fn tokens(&self) -> Result<Vec<Token>> {
        self.read(|conn, _| operating::tokens(conn)).await
    }

    async fn token_by_hash(&self, hash: Vec<u8>) -> Result<Option<Token>> {
        self.read(move |conn, _| operating::token_by_hash(conn, &hash))
            .await
    }

    async fn revoke_token(&self, id: i64, now: i64) -> Result<bool> {
        self.writer
            .run(0, move |tx| operating::revoke_token(tx, id, now))
            .await
    }

    async fn dead_letters(&self, limit: u32) -> Result<Vec<StoredDeadLetter>> {
        self.read(move |conn, _| operating::dead_letters(conn, limit))
            .await
    }

    async fn dead_letter(&self, record: i64) -> Result<Option<StoredDeadLetter>> {
        self.read(move |conn, _| operating::dead_letter(conn, record))
            .await
    }

    async fn redrive(&self, record: i64, policy: Arc<Policy>, now: i64) -> Result<Option<Rings>> {
        self.writer
            .run(1, move |tx| operating::redrive(tx, record, &policy, now))
            .await
    }

    async fn counts(&self) -> Result<Counts> {
        let queues = self.queues.clone();
        self.read(move |conn, names| reading::counts(conn, names, &queues))
            .await
    }

    async fn sweep(&self, keep: Retention, now: i64) -> Result<()> {
        self.writer
            .run(0, move |tx| operating::sweep(tx, &keep, now))
            .await
    }
}

/// Whether a channel can send, as far as that is known.
fn can_send(senders: Option<&HashMap<ChannelId, Capabilities>>, name: &str) -> bool {
    senders.is_none_or(|senders| senders.keys().any(|known| known.as_str() == name))
}

/// Moves the position, if this router still owns the partition and nobody moved it.
fn move_position(tx: &writer::Tx<'_>, ownership: &Ownership, position: i64) -> Result<()> {
    let moved = tx
        .conn
        .prepare_cached("UPDATE position SET position = ?1 WHERE partition = ?2 AND position = ?3 AND epoch = ?4")?
        .execute((position, ownership.partition, ownership.position, ownership.epoch))?;
    if moved == 1 {
        return Ok(());
    }
    Err(StoreError::StaleEpoch(format!(
        "partition {} is not at position {} of epoch {} any more",
        ownership.partition, ownership.position, ownership.epoch
    )))
}

/// Queues whose waiting rows a batch added to, by messages or by refused answers, and channels
/// that have an acknowledgement to send.
fn rings_of(tx: &writer::Tx<'_>, effects: &crate::router::Effects) -> Result<Rings> {
    let mut queues = outbox::back_in_queue(tx, &effects.deliveries)?;
    let chosen = effects
        .messages
        .iter()
        .filter_map(|message| message.explanation.queue.as_ref());
    queues.extend(chosen.map(|why| why.queue.clone()));
    queues.sort();
    queues.dedup();
    let answering = effects.acknowledgements.iter();
    let mut channels: Vec<ChannelId> = answering.map(|new| new.channel.clone()).collect();
    channels.sort();
    channels.dedup();
    Ok(Rings { queues, channels })
}

fn written(tx: &writer::Tx<'_>, id: MessageId) -> Result<(StoredMessage, Conversation)> {
    let names = &tx.memory.names;
    let lost = || StoreError::Poisoned("a message just written is not there".to_owned());
    let message = reading::message_row(tx.conn, names, id)?.ok_or_else(lost)?;
    let conversation =
        facts::conversation(tx.conn, names, message.conversation)?.ok_or_else(lost)?;
    Ok((message, conversation))
}

/// Records that were decided, for metrics.
pub fn verdict_name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Filed => "filed",
        Verdict::Duplicate => "duplicate",
        Verdict::Changed => "changed",
        Verdict::Pending => "pending",
        Verdict::Dead => "dead",
    }
}
