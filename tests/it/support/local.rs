//! SQLite and the log in it, in a temporary directory.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use connector_api::{QueueId, async_trait};
use switchboard::bus::local::LocalBus;
use switchboard::router::effects::EventType;
use switchboard::store::Store as _;
use switchboard::store::sqlite::{SqliteStore, WalLimits, database_path};

use super::{Backend, Opened};

/// What is counted.
pub const TABLES: [&str; 28] = [
    "log",
    "body",
    "raw",
    "blob",
    "contact",
    "identity",
    "suggestion",
    "conversation",
    "message",
    "change",
    "pending",
    "reference",
    "waiting",
    "outbox",
    "acknowledged",
    "dead_letter",
    "attempt",
    "draft",
    "file_fetch",
    "timer",
    "guest",
    "remains",
    "cursor",
    "recipient",
    "hold",
    "erasing",
    "erasing_address",
    "erasing_file",
];

/// Every opening works on a copy of the files as they were: what the one before still writes is
/// lost, as what had not reached the disk is lost in a power cut.
pub struct Local {
    dir: tempfile::TempDir,
    openings: AtomicU32,
    wal: WalLimits,
    store: Mutex<Option<Arc<SqliteStore>>>,
    bus: Mutex<Option<Arc<LocalBus>>>,
}

impl Local {
    pub fn new() -> Self {
        Self::with_wal(WalLimits::default())
    }

    /// It needs no server.
    pub fn available() -> bool {
        true
    }

    /// With other limits of the write-ahead log.
    pub fn with_wal(wal: WalLimits) -> Self {
        Self {
            dir: tempfile::tempdir().expect("a temporary directory"),
            openings: AtomicU32::new(0),
            wal,
            store: Mutex::default(),
            bus: Mutex::default(),
        }
    }

    /// The store of the last opening, for tests of SQLite itself.
    pub fn store(&self) -> Arc<SqliteStore> {
        let store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        store.clone().expect("the backend was opened")
    }

    /// The bus of the last opening, for the router's real loop.
    pub fn bus(&self) -> Arc<LocalBus> {
        let bus = self.bus.lock().unwrap_or_else(PoisonError::into_inner);
        bus.clone().expect("the backend was opened")
    }

    /// Where the last opening is.
    pub fn dir(&self) -> PathBuf {
        self.data_dir(self.openings.load(Ordering::SeqCst))
    }

    fn data_dir(&self, opening: u32) -> PathBuf {
        self.dir.path().join(format!("opening-{opening}"))
    }

    fn next_dir(&self) -> PathBuf {
        let opening = self.openings.fetch_add(1, Ordering::SeqCst) + 1;
        let next = self.data_dir(opening);
        std::fs::create_dir_all(&next).expect("a directory of the test");
        let before = database_path(&self.data_dir(opening - 1));
        if before.exists() {
            // The log last: pages copied from the database are never newer than it. Nothing is
            // checkpointed before the log has 32 MiB, which no test writes.
            let now = database_path(&next);
            std::fs::copy(&before, &now).expect("copying the database");
            std::fs::copy(
                before.with_extension("db-wal"),
                now.with_extension("db-wal"),
            )
            .expect("copying its log");
        }
        next
    }
}

#[async_trait]
impl Backend for Local {
    async fn open(&self, names: &[String], queues: &[QueueId]) -> Opened {
        let dir = self.next_dir();
        let store = Arc::new(
            SqliteStore::open_with(&dir, names, queues, self.wal).expect("opening the store"),
        );
        let bus = Arc::new(
            LocalBus::open(store.clone())
                .await
                .expect("opening the bus"),
        );
        *self.store.lock().unwrap_or_else(PoisonError::into_inner) = Some(store.clone());
        *self.bus.lock().unwrap_or_else(PoisonError::into_inner) = Some(bus.clone());
        let installation_key = store.installation_key().to_vec();
        Opened {
            store,
            bus,
            installation_key,
        }
    }

    async fn damage(&self, sql: &str) {
        let conn = rusqlite::Connection::open(database_path(&self.dir())).expect("the database");
        conn.busy_timeout(super::PATIENCE).expect("a time to wait");
        conn.execute_batch(sql).expect("a statement");
    }

    async fn rows(&self) -> Vec<(String, i64)> {
        let store = self.store();
        let count = store.read(|conn, _| {
            let mut rows = Vec::new();
            for table in TABLES {
                let sql = format!("SELECT count(*) FROM {table}");
                rows.push((
                    table.to_owned(),
                    conn.query_row(&sql, [], |row| row.get(0))?,
                ));
            }
            // What a commit makes, it does not tell updates of: how many there are depends on what
            // was committed together.
            let updates = [EventType::ConversationUpdated, EventType::ContactUpdated];
            for kind in EventType::ALL {
                if updates.contains(&kind) {
                    continue;
                }
                let count = conn.query_row(
                    "SELECT count(*) FROM event WHERE kind = ?1",
                    [kind.code()],
                    |row| row.get(0),
                )?;
                rows.push((format!("event {}", kind.as_str()), count));
            }
            Ok(rows)
        });
        count.await.expect("counting rows")
    }
}
