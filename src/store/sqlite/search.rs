//! Full-text search, on a connection of its own and for a bounded time: a question that matches
//! half of everything keeps no reader from the others.

mod index;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};
use tokio::sync::Semaphore;

use crate::ids::{ContactId, MessageId};
use crate::store::StoreError;
use crate::store::search::{CONTACTS_MAX, Hit, Indexed, Search, SearchRequest, Searched};

use super::SqliteStore;
use super::effects::FLAG_HISTORY;
use super::facts::conversation;
use super::names::Names;
use super::open::open_reading;
use super::permission::only_visible;
use super::reading;

type Result<T> = std::result::Result<T, StoreError>;

/// How long a search may take: what finds a page finds it in a few milliseconds.
const TIME_MAX: Duration = Duration::from_millis(500);
/// Steps of the database's machine between two looks at the clock.
const STEPS: i32 = 1_000;

#[async_trait]
impl Search for SqliteStore {
    async fn search(&self, request: SearchRequest) -> Result<Searched> {
        let names = self.names.clone();
        let found = self
            .searcher
            .run(move |conn| find(conn, &names, &request))
            .await?;
        Ok(found.unwrap_or(Searched::TooBroad))
    }

    async fn index(&self, limit: u32) -> Result<Indexed> {
        let step = self
            .read(move |conn, names| index::plan(conn, names, limit))
            .await?;
        let indexed = step.indexed;
        if step.has_work() {
            self.writer
                .run(0, move |tx| index::write(tx.conn, &step))
                .await?;
        }
        Ok(indexed)
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

    /// Runs a question; `None` where its time was over first.
    async fn run<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<Option<T>> {
        let turn = self.turn.clone().acquire_owned().await;
        let turn = turn.map_err(|_| StoreError::Closed)?;
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

fn find(conn: &Connection, names: &Names, request: &SearchRequest) -> Result<Searched> {
    // One snapshot: a message that was found is there when it is read.
    let snapshot = conn.unchecked_transaction()?;
    let mut hits = Vec::new();
    for id in messages(&snapshot, names, request)? {
        let Some(message) = reading::message_row(&snapshot, names, id)? else {
            continue;
        };
        let found = conversation(&snapshot, names, message.conversation)?;
        hits.extend(found.map(|conversation| Hit {
            message,
            conversation,
        }));
    }
    let mut contacts = Vec::new();
    if request.below.is_none() {
        for id in contacts_found(&snapshot, names, request)? {
            contacts.extend(reading::contact(&snapshot, names, &request.actor, id)?);
        }
    }
    Ok(Searched::Found { hits, contacts })
}

fn messages(conn: &Connection, names: &Names, request: &SearchRequest) -> Result<Vec<MessageId>> {
    // CROSS JOIN: the index leads, newest first, and looking ends with the page.
    let mut sql = "SELECT message.id FROM message_search CROSS JOIN message ON message.id = message_search.rowid
         CROSS JOIN conversation ON conversation.id = message.conversation
         WHERE message_search MATCH ? AND message_search.rowid < ? AND message.deleted = 0"
        .to_owned();
    let below = request.below.map_or(i64::MAX, |below| below.0);
    let mut values: Vec<Value> = vec![request.query.to_fts().into(), below.into()];
    only_visible(&mut sql, &mut values, &request.actor, names);
    let mut and = |condition: &str, value: Value| {
        sql.push_str(condition);
        values.push(value);
    };
    if let Some(queue) = &request.queue {
        and(
            " AND conversation.queue = ?",
            names.id(queue.as_str()).into(),
        );
    }
    if let Some(status) = request.status {
        and(" AND conversation.status = ?", status.code().into());
    }
    if let Some(channel) = &request.channel {
        and(
            " AND message.channel = ?",
            names.id(channel.as_str()).into(),
        );
    }
    if let Some(from) = &request.from {
        let by = " AND EXISTS (SELECT 1 FROM identity WHERE identity.id = message.identity
             AND identity.address = ? COLLATE NOCASE)";
        and(by, from.clone().into());
    }
    if let Some(after) = request.after {
        and(&format!(" AND {} >= ?", said_at()), after.into());
    }
    if let Some(before) = request.before {
        and(&format!(" AND {} < ?", said_at()), before.into());
    }
    and(
        " ORDER BY message_search.rowid DESC LIMIT ?",
        i64::from(request.limit).into(),
    );
    let mut statement = conn.prepare_cached(&sql)?;
    let rows = statement.query_map(params_from_iter(values), |row| row.get(0).map(MessageId))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// When a message was said: what came as history, at the provider's time.
fn said_at() -> String {
    format!(
        "CASE WHEN message.flags & {FLAG_HISTORY} AND message.sent_at < message.arrived_at
         THEN message.sent_at ELSE message.arrived_at END"
    )
}

/// Contacts by name or address, of whom the actor may see a conversation.
fn contacts_found(
    conn: &Connection,
    names: &Names,
    request: &SearchRequest,
) -> Result<Vec<ContactId>> {
    let mut sql = "SELECT rowid FROM contact_search WHERE contact_search MATCH ? AND EXISTS
         (SELECT 1 FROM conversation WHERE conversation.contact = contact_search.rowid"
        .to_owned();
    let mut values: Vec<Value> = vec![request.query.to_fts().into()];
    only_visible(&mut sql, &mut values, &request.actor, names);
    sql.push_str(") ORDER BY rowid DESC LIMIT ?");
    values.push(i64::from(CONTACTS_MAX).into());
    let mut statement = conn.prepare_cached(&sql)?;
    let rows = statement.query_map(params_from_iter(values), |row| row.get(0).map(ContactId))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}
