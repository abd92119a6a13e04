//! Full-text search, on a connection of its own and for a bounded time: a question that matches
//! half of everything keeps no reader from the others.

pub mod merge;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::store::StoreError;
use crate::store::rows::search::{find, index};
use crate::store::search::{Indexed, Search, SearchRequest, Searched};

use super::SqliteStore;
use super::open::open_reading;

type Result<T> = std::result::Result<T, StoreError>;

/// How long a search may take: what finds a page finds it in a few milliseconds.
const TIME_MAX: Duration = Duration::from_millis(500);
/// Steps of the database's machine between two looks at the clock.
const STEPS: i32 = 1_000;

#[async_trait]
impl Search for SqliteStore {
    async fn search(&self, request: SearchRequest) -> Result<Searched> {
        let names = self.engine.names.clone();
        let found = self
            .engine
            .searcher
            .run(move |conn| find::find(conn.into(), &names, &request))
            .await?;
        Ok(found.unwrap_or(Searched::TooBroad))
    }

    async fn index(&self, limit: u32) -> Result<Indexed> {
        index::step(&self.engine, limit).await
    }
}

/// The connection of searches, one at a time.
pub struct Searcher {
    conn: Arc<Mutex<Connection>>,
    turn: Arc<Semaphore>,
    until: Arc<Mutex<Option<Instant>>>,
    time_max: Mutex<Duration>,
}

impl Searcher {
    pub fn open(database: &Path) -> Result<Self> {
        let mut conn = open_reading(database)?;
        let until: Arc<Mutex<Option<Instant>>> = Arc::default();
        let running = until.clone();
        let over = move || {
            let until = running.lock().unwrap_or_else(PoisonError::into_inner);
            until.is_some_and(|until| now() >= until)
        };
        conn.progress_handler(STEPS, Some(over))?;
        Ok(Self {
            conn: Arc::new(Mutex::new(conn)),
            turn: Arc::new(Semaphore::new(1)),
            until,
            time_max: Mutex::new(TIME_MAX),
        })
    }

    pub fn bound(&self, time_max: Duration) {
        *self.time_max.lock().unwrap_or_else(PoisonError::into_inner) = time_max;
    }

    /// Keeps searches waiting for as long as what it gives is held.
    pub async fn hold(&self) -> Result<OwnedSemaphorePermit> {
        let turn = self.turn.clone().acquire_owned().await;
        turn.map_err(|_| StoreError::Closed)
    }

    /// Runs a question; `None` where its time was over first.
    async fn run<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<Option<T>> {
        let turn = self.hold().await?;
        let time_max = *self.time_max.lock().unwrap_or_else(PoisonError::into_inner);
        let (conn, until) = (self.conn.clone(), self.until.clone());
        let done = tokio::task::spawn_blocking(move || {
            // Goes with the work: a caller that leaves does not let the next one in early.
            let _turn = turn;
            let conn = conn.lock().unwrap_or_else(PoisonError::into_inner);
            let ends = now() + time_max;
            *until.lock().unwrap_or_else(PoisonError::into_inner) = Some(ends);
            let found = question(&conn);
            *until.lock().unwrap_or_else(PoisonError::into_inner) = None;
            match found {
                Ok(_) if now() >= ends => Ok(None),
                Ok(found) => Ok(Some(found)),
                Err(_) if now() >= ends => Ok(None),
                Err(error) => Err(error),
            }
        });
        done.await
            .map_err(|error| StoreError::Unavailable(format!("searching: {error}")))?
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "bounds how long a question runs, whatever the context's clock says"
)]
fn now() -> Instant {
    Instant::now()
}
