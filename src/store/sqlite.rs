//! The embedded store: one SQLite file, one writer, a few readers. WAL with `synchronous=FULL`:
//! a commit is on disk when it returns.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use connector_api::QueueId;
use rusqlite::Connection;

use crate::live::Live;
use crate::store::{Result, Senders, StoreError};

mod alerts;
mod attachments;
mod checkpoint;
mod credentials;
mod desk;
mod drafts;
mod effects;
mod events;
mod facts;
mod implementation;
mod imports;
mod lineage;
pub mod look;
mod macros;
pub mod names;
mod open;
mod operating;
mod outbox;
mod permission;
mod readers;
mod reading;
mod retention;
mod search;
mod seen;
mod surgery;
pub mod uploads;
pub mod writer;

pub use checkpoint::WalLimits;
use lineage::Lineage;
use names::Names;
pub use open::SCHEMA_VERSION;
use open::{adopt_stranded, installation_key, migrate, open_writing};
use readers::Readers;
pub use retention::forgotten_columns;
use writer::{Memory, Writer, WriterState};

/// Where the files of a data directory are.
pub fn database_path(data_dir: &Path) -> PathBuf {
    data_dir.join("switchboard.db")
}

/// The embedded store. Dropping it ends the writer after its last commit.
pub struct SqliteStore {
    writer: Writer,
    readers: Arc<Readers>,
    searcher: search::Searcher,
    names: Arc<Names>,
    state: Arc<WriterState>,
    queues: Live<Vec<QueueId>>,
    /// Channels that can send, with their limits, once the daemon has built them.
    senders: RwLock<Option<Arc<Senders>>>,
    /// What left, counted beside the database, once the daemon follows it.
    lineage: OnceLock<Arc<Lineage>>,
    key: Vec<u8>,
    checkpointing: Arc<AtomicBool>,
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
        state.moved.send_replace(memory.moved());
        let (writer, _thread) = Writer::start(conn, memory, state.clone())
            .map_err(|error| StoreError::Unavailable(format!("starting the writer: {error}")))?;
        let readers = Readers::open(&path)?;
        let searcher = search::Searcher::open(&path)?;
        let checkpointing = Arc::new(AtomicBool::new(true));
        checkpoint::start(
            path,
            wal,
            state.clone(),
            writer.downgrade(),
            Arc::downgrade(&checkpointing),
        )?;
        Ok(Self {
            writer,
            readers,
            searcher,
            names: known,
            state,
            queues: Live::new(queues.to_vec()),
            senders: RwLock::default(),
            lineage: OnceLock::new(),
            key,
            checkpointing,
        })
    }

    /// The channels that can send, where that is known.
    fn known_senders(&self) -> Option<Arc<Senders>> {
        let known = self.senders.read();
        known.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_known_senders(&self, senders: Arc<Senders>) {
        let mut known = self.senders.write().unwrap_or_else(PoisonError::into_inner);
        *known = Some(senders);
    }

    /// Finds out whether this database ran here last. One that did not was restored from a backup
    /// (so it is `given` where somebody says so): everything unsent in it is held, and how much that
    /// is, is returned, and its events go on under numbers that nobody has seen yet. From here on what leaves is counted beside the database, too.
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
                    true => {
                        events::resume(tx, now)?;
                        Some(outbox::held::hold(tx, true, now)?.0)
                    }
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

    /// How long a search may take, from now on.
    pub fn bound_searches(&self, time_max: std::time::Duration) {
        self.searcher.bound(time_max);
    }

    /// Keeps searches waiting for as long as what it gives is held.
    pub async fn hold_searches(&self) -> Result<impl Drop + use<>> {
        self.searcher.hold().await
    }

    /// Runs a short query on a reader.
    pub async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection, &Names) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let names = self.names.clone();
        self.readers.read(move |conn| query(conn, &names)).await
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

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.checkpointing.store(false, Ordering::Release);
    }
}
