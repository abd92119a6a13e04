//! The store on PostgreSQL: a pool of connections, each with a thread of its own, in a database that several
//! processes share.

use std::sync::Arc;
use std::time::Duration;

use connector_api::QueueId;
use tokio::sync::watch;
pub use tokio_postgres::Config;
use tokio_postgres::error::SqlState;

use crate::store::events::Moved;
use crate::store::rows::adopt::adopt;
use crate::store::rows::memory::Memory;
use crate::store::rows::names::Names;
use crate::store::rows::{Engine, RowStore, Tx, seen};
use crate::store::sql::{Conn, Optional as _};
use crate::store::{Result, StoreError};

mod follower;
mod pool;
mod retention;
mod schema;
mod search;
mod session;
mod transaction;
mod values;

use follower::Follower;
use pool::{CommitKey, Connected, Pool};
pub use session::Session;
pub use values::Column;

/// The schema this build writes; a newer one is refused.
const SCHEMA_VERSION: i64 = 1;
/// Connections that write, and those that read.
const WRITERS: usize = 4;
const READERS: usize = 3;
/// Low bits of a number that say of which partition a record is. Numbers that the store gives out have them
/// all set, which no partition has.
const PARTITION_BITS: u32 = 12;
const OWN_NUMBERS: i64 = (1 << PARTITION_BITS) - 1;
/// Ids taken at once.
const IDS_BLOCK: i64 = 1 << 16;

pub type PostgresStore = RowStore<Postgres>;

/// A database that several processes share.
pub struct Postgres {
    writers: Pool,
    readers: Pool,
    names: Arc<Names>,
    follower: Follower,
    key: Vec<u8>,
}

impl PostgresStore {
    /// Opens the database (and makes its tables where there are none). `names` are the configured brands and
    /// channels, `queues` the configured queues, `now` the time in UTC microseconds.
    pub async fn open(
        config: Config,
        names: Vec<String>,
        queues: Vec<QueueId>,
        now: i64,
    ) -> Result<Self> {
        let opening = move || open(&config, &names, &queues, now).map(|engine| (engine, queues));
        let opened = tokio::task::spawn_blocking(opening).await;
        let (engine, queues) = opened
            .map_err(|error| StoreError::Unavailable(format!("opening the database: {error}")))??;
        Ok(Self::new(engine, queues))
    }

    /// Runs a short query.
    pub async fn read_raw<T: Send + 'static>(
        &self,
        query: impl FnOnce(Conn<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.engine.read(move |conn, _| query(conn)).await
    }

    /// Runs work on a writing connection, in a transaction.
    pub async fn write_raw<T: Send + 'static>(
        &self,
        work: impl FnOnce(Conn<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.engine.write(0, move |tx| work(tx.conn)).await
    }
}

fn open(config: &Config, names: &[String], queues: &[QueueId], now: i64) -> Result<Postgres> {
    let known = Arc::new(Names::default());
    let session = Session::connect(config)?;
    transaction::alone(&session, || migrate(&session))?;
    let conn = Conn::Postgres(&session);
    let all: Vec<String> = (names.iter().cloned())
        .chain(queues.iter().map(|queue| queue.as_str().to_owned()))
        .collect();
    transaction::alone(&session, || Ok(known.register(conn, &all)?))?;
    let key = transaction::alone(&session, || installation_key(conn))?;
    let mut connected = Connected::of(session, config, &known)?;
    connected.write(|tx| adopt(tx, queues, now).map(drop))?;
    let started = |error| StoreError::Unavailable(format!("starting a thread: {error}"));
    Ok(Postgres {
        writers: Pool::start(WRITERS, "store-writer", config, &known).map_err(started)?,
        readers: Pool::start(READERS, "store-reader", config, &known).map_err(started)?,
        names: known,
        follower: Follower::start(config.clone()).map_err(started)?,
        key,
    })
}

/// Makes the tables of a new database; refuses one that a newer build made.
fn migrate(session: &Session) -> Result<()> {
    let conn = Conn::Postgres(session);
    let there = conn
        .prepare("SELECT to_regclass('meta') IS NOT NULL")?
        .query_row((), |row| row.get::<bool>(0))?;
    if !there {
        session.batch(&schema::schema())?;
        conn.prepare("INSERT INTO meta (key, value) VALUES ('schema', ?1)")?
            .execute([SCHEMA_VERSION])?;
    }
    let version: i64 = conn
        .prepare("SELECT value FROM meta WHERE key = 'schema'")?
        .query_row((), |row| row.get(0))?;
    if version == SCHEMA_VERSION {
        return Ok(());
    }
    Err(StoreError::Unavailable(format!(
        "the database has schema version {version}, this build knows {SCHEMA_VERSION}: start the newer version"
    )))
}

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
    pub(super) fn new(config: &Config, names: &Arc<Names>) -> Result<Self> {
        Self::of(Session::connect(config)?, config, names)
    }

    fn of(session: Session, config: &Config, names: &Arc<Names>) -> Result<Self> {
        let conn = Conn::Postgres(&session);
        let key = CommitKey {
            session: conn
                .prepare("INSERT INTO committed (number) VALUES (0) RETURNING session")?
                .query_row((), |row| row.get(0))?,
            number: 0,
        };
        let generations = seen::generations(conn)?;
        let memory = Memory::drawing(names.clone(), generations, PARTITION_BITS, OWN_NUMBERS);
        Ok(Self {
            config: config.clone(),
            session,
            memory,
            key,
        })
    }
}

impl Engine for Postgres {
    async fn write<T: Send + 'static>(
        &self,
        _messages: usize,
        work: impl FnOnce(&mut Tx<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let written = self.writers.run(move |connected| {
            let done = connected.write(work)?;
            Ok((done, connected.memory.next_seq))
        });
        let (done, last_event) = written.await?;
        self.follower.wrote(last_event);
        Ok(done)
    }

    async fn write_leaving<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Tx<'_>) -> Result<T> + Send + 'static,
        _leaves: impl Fn(&T) -> bool + Send + 'static,
    ) -> Result<T> {
        self.write(1, work).await
    }

    async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(Conn<'_>, &Names) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.readers
            .run(move |connected| connected.read(query))
            .await
    }

    fn moved(&self) -> watch::Receiver<Moved> {
        self.follower.moved()
    }

    fn names(&self) -> &Arc<Names> {
        &self.names
    }

    fn key(&self) -> &[u8] {
        &self.key
    }

    const SCHEMA_VERSION: i64 = SCHEMA_VERSION;
}

/// What the server said, without what it quotes of values.
pub fn told(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(said) => format!("{} ({})", said.message(), said.code().code()),
        None => error.to_string(),
    }
}

/// Whether the database is to blame, or the work.
pub fn trouble(error: &tokio_postgres::Error) -> StoreError {
    let reason = format!("PostgreSQL: {}", told(error));
    let outage = match error.code() {
        None => true,
        // Classes: connection, resources, operator, transaction undone for others' sake; read only.
        Some(code) => {
            ["08", "53", "57", "58", "40"]
                .iter()
                .any(|class| code.code().starts_with(class))
                || *code == SqlState::READ_ONLY_SQL_TRANSACTION
                || *code == SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT
        }
    };
    match outage {
        true => StoreError::Unavailable(reason),
        false => StoreError::Poisoned(reason),
    }
}

/// How long a transaction may stand still before the server ends it: an owner that hangs keeps its locks no
/// longer.
const STANDS_STILL_MAX: Duration = Duration::from_secs(10);
