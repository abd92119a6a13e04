//! Reader connections: short queries beside the writer, a few at a time.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::store::{Result, StoreError};

use super::open::open_reading;

/// Enough for two cores.
const READERS: usize = 3;

/// The readers of one store.
pub struct Readers {
    idle: Mutex<Vec<Connection>>,
    free: Arc<Semaphore>,
}

impl Readers {
    pub fn open(database: &Path) -> Result<Arc<Self>> {
        let idle = (0..READERS).map(|_| open_reading(database));
        Ok(Arc::new(Self {
            idle: Mutex::new(idle.collect::<Result<_>>()?),
            free: Arc::new(Semaphore::new(READERS)),
        }))
    }

    /// Runs a short query once a reader is free.
    pub async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        query: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let free = self.free.clone().acquire_owned().await;
        let reader = Reader::take(self, free.map_err(|_| StoreError::Closed)?);
        // The reader goes with the work: a caller that leaves, or a query that panics, gives it
        // back all the same.
        let done = tokio::task::spawn_blocking(move || query(reader.conn()?));
        done.await
            .map_err(|error| StoreError::Unavailable(format!("reading: {error}")))?
    }
}

/// One reader, lent; dropping gives it back.
struct Reader {
    conn: Option<Connection>,
    readers: Arc<Readers>,
    _permit: OwnedSemaphorePermit,
}

impl Reader {
    fn take(readers: &Arc<Readers>, permit: OwnedSemaphorePermit) -> Self {
        let mut idle = readers.idle.lock().unwrap_or_else(PoisonError::into_inner);
        Self {
            conn: idle.pop(),
            readers: readers.clone(),
            _permit: permit,
        }
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
