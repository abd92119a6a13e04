//! PostgreSQL, with a bus beside it.

use std::sync::{Arc, Mutex, PoisonError};

use connector_api::{QueueId, async_trait};
use switchboard::router::effects::EventType;
use switchboard::store::Store as _;
use switchboard::store::events::{EventFilter, EventLog};
use switchboard::store::postgres::{Config, PostgresStore, Risk};
use switchboard::store::sql::Conn;

use super::beside::BesideBus;
use super::local::TABLES;
use super::{Backend, Opened};
use crate::peers;

/// The server of the tests may lose what a crash of it loses.
fn risks() -> Vec<Risk> {
    vec![Risk::Fsync]
}

/// A database of its own on the server of the tests.
pub struct Postgres {
    server: Arc<peers::Postgres>,
    database: String,
    bus: Arc<BesideBus>,
    store: Mutex<Option<Arc<PostgresStore>>>,
}

impl Postgres {
    pub fn new() -> Self {
        let server = peers::Postgres::shared();
        Self {
            database: server.make_database(),
            server,
            bus: Arc::default(),
            store: Mutex::default(),
        }
    }

    /// Whether there is a server to test with.
    pub fn available() -> bool {
        peers::enabled()
    }

    pub fn port(&self) -> u16 {
        self.server.port
    }

    /// Runs a statement beside the store.
    pub fn run(&self, sql: &str) {
        self.server.run(&self.database, sql);
    }

    /// What a question beside the store is answered, a line for each row.
    pub fn ask(&self, sql: &str) -> Vec<String> {
        self.server.rows(&self.database, sql)
    }

    /// Tables, indexes and functions, as a dump says them.
    pub fn tables(&self) -> String {
        self.server.tables(&self.database)
    }

    /// A store whose connections go through another port.
    pub async fn through(&self, port: u16) -> Arc<PostgresStore> {
        let config = self.config(port);
        let names = ["main", "support-mail"].map(str::to_owned).to_vec();
        let opened = PostgresStore::open(config, names, Vec::new(), risks()).await;
        Arc::new(opened.expect("opening the store"))
    }

    /// A store with the names and queues of the desk.
    pub async fn open_named(&self, names: &[String], queues: &[QueueId]) -> Arc<PostgresStore> {
        self.open_at(self.server.port, names, queues).await
    }

    /// The same, through another port.
    pub async fn through_named(&self, port: u16) -> Arc<PostgresStore> {
        self.open_at(port, &super::names(), &super::queues()).await
    }

    async fn open_at(&self, port: u16, names: &[String], queues: &[QueueId]) -> Arc<PostgresStore> {
        let (names, queues) = (names.to_vec(), queues.to_vec());
        let opened = PostgresStore::open(self.config(port), names, queues, risks());
        Arc::new(opened.await.expect("opening the store"))
    }

    /// How to connect to the database.
    pub fn own_config(&self) -> Config {
        self.config(self.server.port)
    }

    /// Returns once nobody is connected any more; the last store that was opened for a desk is closed.
    pub fn left_alone(&self) {
        let store = self
            .store
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        drop(store);
        let of = format!("datname = '{}'", self.database);
        peers::wait_until("connections to end", super::PATIENCE, || {
            let left = format!("SELECT count(*) FROM pg_stat_activity WHERE {of}");
            self.server.number(&left) == 0
        });
    }

    /// Circles of waiting that the server broke, counted once nobody is connected any more.
    pub fn deadlocks(&self) -> i64 {
        self.left_alone();
        let of = format!("datname = '{}'", self.database);
        let sql = format!("SELECT deadlocks FROM pg_stat_database WHERE {of}");
        self.server.number(&sql)
    }

    fn config(&self, port: u16) -> Config {
        let mut config = Config::new();
        config
            .host("127.0.0.1")
            .port(port)
            .user("switchboard")
            .dbname(&self.database);
        config
    }
}

#[async_trait]
impl Backend for Postgres {
    async fn open(&self, names: &[String], queues: &[QueueId]) -> Opened {
        let (names, queues) = (names.to_vec(), queues.to_vec());
        let store = PostgresStore::open(self.config(self.server.port), names, queues, risks());
        let store = Arc::new(store.await.expect("opening the store"));
        *self.store.lock().unwrap_or_else(PoisonError::into_inner) = Some(store.clone());
        let installation_key = store.installation_key().to_vec();
        Opened {
            store,
            bus: self.bus.clone(),
            installation_key,
        }
    }

    async fn damage(&self, sql: &str) {
        self.run(sql);
    }

    fn has_log(&self) -> bool {
        false
    }

    async fn rows(&self) -> Vec<(String, i64)> {
        let store = {
            let store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
            store.clone().expect("the backend was opened")
        };
        // What was just written has its number then.
        let filter = EventFilter {
            limit: 1,
            ..EventFilter::default()
        };
        store.events(0, filter).await.expect("reading events");
        let count = store.read_raw(|conn| {
            let mut rows = Vec::new();
            for table in TABLES {
                let sql = format!("SELECT count(*) FROM {table}");
                rows.push((table.to_owned(), number(conn, &sql)?));
            }
            let updates = [EventType::ConversationUpdated, EventType::ContactUpdated];
            for kind in EventType::ALL {
                if updates.contains(&kind) {
                    continue;
                }
                let code = kind.code();
                let sql = format!("SELECT count(*) FROM event WHERE kind = {code}");
                rows.push((format!("event {}", kind.as_str()), number(conn, &sql)?));
            }
            Ok(rows)
        });
        count.await.expect("counting rows")
    }
}

fn number(conn: Conn<'_>, sql: &str) -> switchboard::store::Result<i64> {
    Ok(conn.prepare(sql)?.query_row((), |row| row.get(0))?)
}
