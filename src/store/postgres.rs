//! The store on PostgreSQL: a pool of connections, each with a thread of its own, in a database that several
//! processes share.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use connector_api::QueueId;
use tokio::sync::watch;
pub use tokio_postgres::Config;
pub use tokio_postgres::config::TargetSessionAttrs;
use tokio_postgres::error::SqlState;

use crate::store::events::Moved;
use crate::store::rows::memory::{Memory, Standing};
use crate::store::rows::names::Names;
use crate::store::rows::{Engine, RowStore, Tx, seen};
use crate::store::sql::{Conn, Optional as _};
use crate::store::{Result, StoreError};

mod database;
mod erasing;
mod follower;
mod given;
mod locks;
pub mod look;
pub mod moving;
mod pool;
mod retention;
mod safety;
mod schema;
mod search;
mod sequencer;
mod session;
mod sweeper;
mod transaction;
mod values;

pub use database::Database;
use follower::{Follower, Told};
pub use given::Given;
use pool::{CommitKey, Connected, Pool, Setting};
pub use safety::Risk;
use sequencer::Sequencer;
pub use session::Session;
use session::{ANSWER_MAX, WORK_MAX};
use sweeper::Sweeper;
pub use values::column;

/// Connections that write batches, those that write all else, which no batch then keeps waiting, and those that read.
const BATCH_WRITERS: usize = 3;
const WRITERS: usize = 4;
const READERS: usize = 3;
/// Every statement of a writer has an index to go by, and one in whose order it asks: a plan made while a table was
/// small must not outlive that. Compiling a plan takes longer than any of them.
const OF_WRITERS: &str =
    "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off;
    SET enable_bitmapscan = off; SET enable_sort = off; SET jit = off";
/// Readers look for few of many, too, and what is read often is in memory.
const OF_READERS: &str = "SET random_page_cost = 1.1; SET jit = off";
/// What it moves is nearly always little, and sometimes thousands: each must not be compared with each then.
const OF_SEQUENCER: &str = "SET enable_seqscan = off; SET enable_nestloop = off; SET jit = off";
/// Low bits of a number that say of which partition a record is. Numbers that the store gives out have them
/// all set, which no partition has.
const PARTITION_BITS: u32 = 12;
const OWN_NUMBERS: i64 = (1 << PARTITION_BITS) - 1;
/// Ids taken at once.
pub(in crate::store) const IDS_BLOCK: i64 = 1 << 16;

pub type PostgresStore = RowStore<Postgres>;

/// A database that several processes share.
pub struct Postgres {
    batches: Pool,
    writers: Pool,
    readers: Pool,
    names: Arc<Names>,
    /// For what needs a connection of its own.
    apart: Setting,
    told: Arc<Told>,
    sequencer: Sequencer,
    _sweeper: Sweeper,
    _follower: Follower,
    key: Vec<u8>,
}

impl PostgresStore {
    /// Opens the database (and makes its tables where there are none). `names` are the configured brands and
    /// channels, `queues` the configured queues. `taken` are the risks that somebody
    /// took by name; a server that runs others is refused.
    pub async fn open(
        database: impl Into<Database>,
        names: Vec<String>,
        queues: Vec<QueueId>,
        taken: Vec<Risk>,
    ) -> Result<Self> {
        let database = database.into();
        let opening =
            move || open(&database, &names, &queues, &taken).map(|engine| (engine, queues));
        let opened = tokio::task::spawn_blocking(opening).await;
        let (engine, queues) = opened
            .map_err(|error| StoreError::Unavailable(format!("opening the database: {error}")))??;
        Ok(Self::new(engine, queues))
    }

    /// Runs a short query.
    pub async fn read_raw<T: Send + 'static>(
        &self,
        mut query: impl FnMut(Conn<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.engine.read(move |conn, _| query(conn)).await
    }

    /// Runs work on a writing connection, in a transaction.
    pub async fn write_raw<T: Send + 'static>(
        &self,
        mut work: impl FnMut(Conn<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.engine.write(0, move |tx| work(tx.conn)).await
    }
}

fn open(
    database: &Database,
    names: &[String],
    queues: &[QueueId],
    taken: &[Risk],
) -> Result<Postgres> {
    let known = Arc::new(Names::default());
    let writing = Setting {
        database: database.clone(),
        begin: OF_WRITERS,
        patience: ANSWER_MAX,
    };
    let batching = Setting {
        patience: WORK_MAX,
        ..writing.clone()
    };
    let reading = Setting {
        begin: OF_READERS,
        ..writing.clone()
    };
    let sequencing = Setting {
        begin: OF_SEQUENCER,
        ..writing.clone()
    };
    let session = batching.connect()?;
    safety::refuse_risks(&session, taken)?;
    transaction::alone(&session, || schema::migrate(&session))?;
    let conn = Conn::Postgres(&session);
    let all: Vec<String> = (names.iter().cloned())
        .chain(queues.iter().map(|queue| queue.as_str().to_owned()))
        .collect();
    transaction::alone(&session, || Ok(known.register(conn, &all)?))?;
    let key = transaction::alone(&session, || installation_key(conn))?;
    session.batch(FORGET_SESSIONS)?;
    let told = Arc::new(Told::default());
    told.numbered(sequencer::number(&mut None, &sequencing)?.last);
    let started = |error| StoreError::Unavailable(format!("starting a thread: {error}"));
    let unswept = Arc::new(AtomicI64::new(0));
    let pool =
        |threads, name, setting| Pool::start(threads, name, setting, &known).map_err(started);
    Ok(Postgres {
        batches: pool(BATCH_WRITERS, "store-batches", &batching)?,
        writers: pool(WRITERS, "store-writer", &writing)?,
        readers: pool(READERS, "store-reader", &reading)?,
        apart: writing,
        _sweeper: Sweeper::start(sequencing.clone(), unswept.clone()).map_err(started)?,
        sequencer: Sequencer::start(sequencing, told.clone(), unswept).map_err(started)?,
        _follower: Follower::start(database.clone(), told.clone(), known.clone())
            .map_err(started)?,
        names: known,
        told,
        key,
    })
}

/// Forgets sessions that were found gone an hour ago, and looks which are gone now. Until then their processes may
/// still ask what became of a transaction.
const FORGET_SESSIONS: &str = "DELETE FROM committed WHERE gone_at < now() - interval '1 hour';
    UPDATE committed SET gone_at = now() WHERE gone_at IS NULL AND NOT EXISTS (
      SELECT FROM pg_stat_activity WHERE pg_stat_activity.pid = committed.pid
      AND backend_start IS NOT DISTINCT FROM committed.begun_at)";

fn installation_key(conn: Conn<'_>) -> Result<Vec<u8>> {
    let known: Option<Vec<u8>> = conn
        .prepare("SELECT value FROM secret WHERE key = 'installation_key'")?
        .query_row((), |row| row.get(0))
        .optional()?;
    if let Some(key) = known {
        return Ok(key);
    }
    let mut key = vec![0; 32];
    aws_lc_rs::rand::fill(&mut key)
        .map_err(|_| StoreError::Unavailable("no random bytes".to_owned()))?;
    conn.prepare("INSERT INTO secret (key, value) VALUES ('installation_key', ?1)")?
        .execute([key.as_slice()])?;
    Ok(key)
}

impl Connected {
    pub(super) fn new(setting: &Setting, names: &Arc<Names>) -> Result<Self> {
        Self::of(setting.connect()?, setting, names)
    }

    fn of(session: Session, setting: &Setting, names: &Arc<Names>) -> Result<Self> {
        let conn = Conn::Postgres(&session);
        let key = CommitKey {
            session: conn
                .prepare(
                    "INSERT INTO committed (number, pid, begun_at)
                     SELECT 0, pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid() RETURNING session",
                )?
                .query_row((), |row| row.get(0))?,
            number: 0,
        };
        let generations = seen::generations(conn)?;
        let memory = Memory::drawing(names.clone(), generations, PARTITION_BITS, OWN_NUMBERS);
        Ok(Self {
            setting: setting.clone(),
            session,
            memory,
            key,
        })
    }
}

impl Postgres {
    async fn run<T: Send + 'static>(
        &self,
        standing: Standing,
        messages: usize,
        mut work: impl FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let pool = match messages {
            0 | 1 => &self.writers,
            _ => &self.batches,
        };
        let written = pool.run(move |connected| connected.write(standing, &mut work));
        let done = written.await?;
        self.sequencer.wake();
        Ok(done)
    }
}

impl Engine for Postgres {
    async fn write<T: Send + 'static>(
        &self,
        messages: usize,
        work: impl FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.run(Standing::Alone, messages, work).await
    }

    async fn write_beside<T: Send + 'static>(
        &self,
        messages: usize,
        work: impl FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.run(Standing::Beside, messages, work).await
    }

    async fn write_leaving<T: Send + 'static>(
        &self,
        work: impl FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
        _leaves: impl Fn(&T) -> bool + Send + 'static,
    ) -> Result<T> {
        self.write_beside(1, work).await
    }

    async fn read<T: Send + 'static>(
        &self,
        mut query: impl FnMut(Conn<'_>, &Names) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.readers
            .run(move |connected| connected.read(&mut query))
            .await
    }

    async fn number_events(&self) -> Result<()> {
        self.sequencer.number().await
    }

    fn moved(&self) -> watch::Receiver<Moved> {
        self.told.moved()
    }

    fn names(&self) -> &Arc<Names> {
        &self.names
    }

    fn key(&self) -> &[u8] {
        &self.key
    }
}

/// What the server said, without what it quotes of values.
pub fn told(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(said) => format!("{} ({})", said.message(), said.code().code()),
        None => match std::error::Error::source(error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        },
    }
}

/// Whether the database is to blame, or the work.
pub fn trouble(error: &tokio_postgres::Error) -> StoreError {
    let reason = format!("PostgreSQL: {}", told(error));
    let code = error.code().map_or("", SqlState::code);
    let class = code.get(..2).unwrap_or_default();
    match class {
        // What is written does not fit: a value, a constraint, a limit of the server.
        "22" | "23" | "54" => StoreError::Poisoned(reason),
        // Who we are, which database, what we may.
        "28" | "3D" => StoreError::Forbidden(reason),
        _ if code == SqlState::INSUFFICIENT_PRIVILEGE.code() => StoreError::Forbidden(reason),
        // No message is to blame for anything else.
        _ => StoreError::Unavailable(reason),
    }
}

/// How long a transaction may stand still before the server ends it: an owner that hangs keeps its locks no
/// longer, and no lease runs out because somebody waits for these.
const STANDS_STILL_MAX: Duration = Duration::from_secs(4);
