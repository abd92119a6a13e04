//! The embedded store: one SQLite file, one writer, a few readers. WAL with `synchronous=FULL`:
//! a commit is on disk when it returns.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use connector_api::QueueId;
use rusqlite::Connection;
use tokio::sync::watch;

use crate::store::events::Moved;
use crate::store::rows::adopt::adopt;
use crate::store::rows::memory::Memory;
use crate::store::rows::names::Names;
use crate::store::rows::{Engine, RowStore, Tx, events, outbox};
use crate::store::sql::Conn;
use crate::store::{Result, StoreError, name_of};

pub mod backup;
mod checkpoint;
pub mod damage;
mod erasing;
mod lineage;
pub mod look;
pub mod moving;
pub(super) mod open;
mod readers;
mod retention;
mod search;
mod wal;
pub mod writer;

pub use crate::store::rows::migrations::SCHEMA_VERSION;
pub use checkpoint::WalLimits;
use lineage::Lineage;
use open::{installation_key, migrate, open_writing};
use readers::Readers;
use writer::{Fate, Writer, WriterState};

/// Where the files of a data directory are.
pub fn database_path(data_dir: &Path) -> PathBuf {
    data_dir.join("switchboard.db")
}

/// The embedded store. Dropping it ends the writer after its last commit.
pub type SqliteStore = RowStore<Sqlite>;

/// One file, one writer, a few readers.
pub struct Sqlite {
    writer: Writer,
    readers: Arc<Readers>,
    searcher: search::Searcher,
    names: Arc<Names>,
    state: Arc<WriterState>,
    /// What left, counted beside the database, once the daemon follows it.
    lineage: OnceLock<Arc<Lineage>>,
    key: Vec<u8>,
    path: PathBuf,
    checkpointing: Arc<AtomicBool>,
}

impl Engine for Sqlite {
    async fn write<T: Send + 'static>(
        &self,
        messages: usize,
        work: impl FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.writer.run(messages, work).await
    }

    /// There is one writer.
    async fn write_beside<T: Send + 'static>(
        &self,
        messages: usize,
        work: impl FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.writer.run(messages, work).await
    }

    async fn write_leaving<T: Send + 'static>(
        &self,
        mut work: impl FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
        leaves: impl Fn(&T) -> bool + Send + 'static,
    ) -> Result<T> {
        let lineage = self.lineage.get().cloned();
        let counted = move |tx: &mut Tx<'_>| {
            let done = work(tx)?;
            let count = leaves(&done).then(|| lineage::count(tx.conn)).transpose()?;
            Ok((done, count))
        };
        let then = move |(_, count): &(T, Option<i64>)| {
            if let (Some(lineage), Some(count)) = (&lineage, count) {
                lineage.note(*count);
            }
        };
        let done = self.writer.run_then(1, Fate::Alone, counted, then).await?;
        Ok(done.0)
    }

    async fn read<T: Send + 'static>(
        &self,
        mut query: impl FnMut(Conn<'_>, &Names) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let names = self.names.clone();
        self.readers
            .read(move |conn| query(conn.into(), &names))
            .await
    }

    /// The writer numbers them.
    async fn number_events(&self) -> Result<()> {
        Ok(())
    }

    fn moved(&self) -> watch::Receiver<Moved> {
        self.state.moved.subscribe()
    }

    fn names(&self) -> &Arc<Names> {
        &self.names
    }

    fn key(&self) -> &[u8] {
        &self.key
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
        damage::look(&path)?;
        let conn = open_writing(&path)?;
        let now = migrate(&conn)?;
        damage::sum_up(&conn)?;
        let known = Arc::new(Names::default());
        let all: Vec<String> = names
            .iter()
            .cloned()
            .chain(queues.iter().map(|queue| queue.as_str().to_owned()))
            .collect();
        known.register((&conn).into(), &all)?;
        let key = installation_key(&conn)?;
        let mut memory = Memory::load((&conn).into(), known.clone())?;
        let adopting = conn.unchecked_transaction()?;
        let mut tx = Tx {
            conn: (&*adopting).into(),
            memory: &mut memory,
        };
        adopt(&mut tx, queues, &BTreeSet::new(), now)?;
        adopting.commit()?;
        let state = Arc::new(WriterState::default());
        state.moved.send_replace(memory.moved());
        let (writer, _thread) = Writer::start(conn, memory, state.clone())
            .map_err(|error| StoreError::Unavailable(format!("starting the writer: {error}")))?;
        let readers = Readers::open(&path)?;
        let searcher = search::Searcher::open(&path)?;
        let checkpointing = Arc::new(AtomicBool::new(true));
        checkpoint::start(
            path.clone(),
            wal,
            state.clone(),
            writer.downgrade(),
            Arc::downgrade(&checkpointing),
        )?;
        let engine = Sqlite {
            writer,
            readers,
            searcher,
            names: known,
            state,
            lineage: OnceLock::new(),
            key,
            path,
            checkpointing,
        };
        Ok(Self::new(engine, queues.to_vec()))
    }

    /// Finds out whether this database ran here last. One that did not was restored from a backup
    /// (so it is `given` where somebody says so): everything unsent in it is held, and how much that
    /// is, is returned, and its events and rows go on under numbers
    /// that nobody has seen yet. From here on what leaves is counted beside the database, too.
    pub async fn follow_lineage(
        &self,
        data_dir: &Path,
        given: bool,
        now: i64,
    ) -> Result<Option<u64>> {
        let trouble = |error: std::io::Error| {
            StoreError::Unavailable(format!("the lineage in {}: {error}", data_dir.display()))
        };
        let installation = name_of(&self.engine.key);
        let beside = lineage::read(data_dir).map_err(trouble)?;
        let (held, count) = self
            .engine
            .writer
            .run(0, move |tx| {
                let counted = lineage::counted(tx.conn)?;
                let restored = given || lineage::is_restored(counted, &beside, &installation);
                let held = match restored {
                    true if bug!("restored-backup-sends") => None,
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
        let lineage = Lineage::begin(data_dir, &self.engine.key, count).map_err(trouble)?;
        self.engine.lineage.get_or_init(|| Arc::new(lineage));
        Ok(held)
    }

    pub fn writer(&self) -> &Writer {
        &self.engine.writer
    }

    pub fn names(&self) -> &Arc<Names> {
        &self.engine.names
    }

    /// Whether the log has grown to its cap because something keeps it from being checkpointed.
    pub fn wal_full(&self) -> bool {
        self.engine.state.wal_full.load(Ordering::Acquire)
    }

    /// How long a search may take, from now on.
    pub fn bound_searches(&self, time_max: std::time::Duration) {
        self.engine.searcher.bound(time_max);
    }

    /// Keeps searches waiting for as long as what it gives is held.
    pub async fn hold_searches(&self) -> Result<impl Drop + use<>> {
        self.engine.searcher.hold().await
    }

    /// Runs work on the writer's own connection, in a transaction.
    pub async fn write_raw<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let own = |tx: &mut Tx<'_>| work(tx.conn.of_sqlite()?);
        self.engine.writer.run(0, own).await
    }

    /// Runs a short query on a reader.
    pub async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection, &Names) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let names = self.engine.names.clone();
        self.engine
            .readers
            .read(move |conn| query(conn, &names))
            .await
    }
}

impl StoreError {
    pub fn from_sqlite(error: &rusqlite::Error) -> Self {
        use rusqlite::ErrorCode as Code;
        if let Some(reason) = damage::note(error) {
            return Self::Unavailable(reason);
        }
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

impl Drop for Sqlite {
    fn drop(&mut self) {
        self.checkpointing.store(false, Ordering::Release);
    }
}
