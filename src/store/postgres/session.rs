//! One connection, used by one thread: statements wait for their answers, as those of SQLite do, so that
//! the same code asks both. The connection's own work is done on this thread, too, while it waits.
//!
//! What has no answer that anybody needs goes out with the next statement that has one: a batch's writes
//! and its commit are one round trip.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{AsyncMessage, Client, Connection, NoTls, Row, Socket, Statement};

use crate::store::sql::{Error, Params, Result};

use super::database::Database;
use super::values::Bound;

/// How long a connection may take to come about.
const CONNECT_MAX: Duration = Duration::from_secs(4);
/// How long an answer may take that somebody waits for. A server that hangs, or whose host is gone without a word,
/// would be waited for for ever; no such statement takes as long, even while it waits for others who stand still.
/// Helpdesks give up after ten seconds or more: this and one try to connect come before that. The server is not told
/// of it: a commit that waits for its standbys would be called done if it was cut (`statement_timeout`).
pub const ANSWER_MAX: Duration = Duration::from_secs(7);
/// The same of work that nobody waits for: a thousand messages on a slow disk, a start among others that start.
pub const WORK_MAX: Duration = Duration::from_secs(30);

/// Turns that the connection's own work gets, to hear that the server hung up: one to be told that there is
/// something, one to read it, one to end.
const TURNS: usize = 3;

/// A connection that waits.
pub struct Session {
    runtime: Runtime,
    client: Client,
    /// It did not answer in time: whatever it still does, nobody waits for.
    given_up: Cell<bool>,
    /// Prepared statements, by what they were asked for as.
    prepared: RefCell<HashMap<String, Statement>>,
    /// What goes out with the next statement, in order.
    later: RefCell<Vec<Later>>,
    /// Why the first statement failed that did, since it was last asked.
    failed: RefCell<Option<SqlState>>,
    /// How long the next answer may take.
    patience: Cell<Duration>,
}

enum Later {
    Batch(String),
    Execute(Statement, Vec<Value>),
}

/// A parameter.
pub enum Value {
    One(Bound),
    /// Of many sets of values.
    Many(Vec<Bound>),
    Ids(Vec<i64>),
}

impl Value {
    fn as_sql(&self) -> &(dyn ToSql + Sync) {
        match self {
            Self::One(value) => value,
            Self::Many(values) => values,
            Self::Ids(ids) => ids,
        }
    }
}

type Answer<'a> =
    Pin<Box<dyn Future<Output = std::result::Result<(), tokio_postgres::Error>> + 'a>>;

/// What was heard last.
#[derive(Debug, Clone, Copy, Default)]
pub struct Notes {
    /// The number of the newest event.
    pub event: i64,
    /// Counts everything else.
    pub others: u64,
}

pub enum Heard {
    Notes(Notes),
    Nothing,
    /// Nobody wants to know any more.
    End,
}

impl Session {
    pub fn connect(database: &Database) -> Result<Self> {
        Self::connect_and(database, None)
    }

    /// A connection that hears what the others say.
    pub fn listen(database: &Database) -> Result<(Self, watch::Receiver<Notes>)> {
        let (notes, heard) = watch::channel(Notes::default());
        let session = Self::connect_and(database, Some(notes))?;
        session.wait_for_answers(ANSWER_MAX);
        session.batch("LISTEN switchboard")?;
        Ok((session, heard))
    }

    /// Waits until something is heard.
    pub fn hear(
        &self,
        notes: &mut watch::Receiver<Notes>,
        ends: &mut watch::Receiver<()>,
        within: Duration,
    ) -> Heard {
        let hearing = async {
            tokio::select! {
                changed = tokio::time::timeout(within, notes.changed()) => changed.is_ok_and(|heard| heard.is_ok()),
                _ = ends.changed() => false,
            }
        };
        let heard = self.runtime.block_on(hearing);
        if ends.has_changed().is_err() {
            return Heard::End;
        }
        match heard {
            true => Heard::Notes(*notes.borrow_and_update()),
            false => Heard::Nothing,
        }
    }

    fn connect_and(database: &Database, notes: Option<watch::Sender<Notes>>) -> Result<Self> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Error::Thread)?;
        let config = database.login()?;
        let connecting = async {
            match &database.tls {
                None => {
                    let (client, connection) = config.connect(NoTls).await?;
                    tokio::spawn(carry(connection, notes));
                    Ok(client)
                }
                Some(tls) => {
                    let (client, connection) = config.connect(tls.clone()).await?;
                    tokio::spawn(carry(connection, notes));
                    Ok(client)
                }
            }
        };
        let connecting = async {
            tokio::time::timeout(CONNECT_MAX, connecting)
                .await
                .map_err(|_| Error::Silent(CONNECT_MAX))?
                .map_err(|error| database.refusal(error))
        };
        let client = runtime.block_on(connecting)?;
        Ok(Self {
            runtime,
            client,
            given_up: Cell::new(false),
            prepared: RefCell::default(),
            later: RefCell::default(),
            failed: RefCell::default(),
            patience: Cell::new(WORK_MAX),
        })
    }

    /// Whether it has ended, also while nobody used it: what came since is looked at first.
    pub fn has_ended(&self) -> bool {
        self.runtime.block_on(async {
            for _ in 0..TURNS {
                tokio::task::yield_now().await;
            }
        });
        self.is_closed()
    }

    pub fn is_closed(&self) -> bool {
        self.given_up.get() || self.client.is_closed()
    }

    /// It is not to be used any more.
    pub fn give_up(&self) {
        self.given_up.set(true);
    }

    /// The code of the first failure since it was asked last.
    pub fn take_failure(&self) -> Option<SqlState> {
        self.failed.borrow_mut().take()
    }

    /// Runs statements without parameters.
    pub fn batch(&self, sql: &str) -> Result<()> {
        self.exchange(self.client.batch_execute(sql))
    }

    /// The same, where it may take long.
    pub fn batch_within(&self, patience: Duration, sql: &str) -> Result<()> {
        let before = self.patience.replace(patience);
        let done = self.batch(sql);
        self.patience.set(before);
        done
    }

    /// From now on, how long an answer may take.
    pub fn wait_for_answers(&self, patience: Duration) {
        self.patience.set(patience);
    }

    /// The same, with whatever is asked next.
    pub fn batch_later(&self, sql: &str) {
        self.later.borrow_mut().push(Later::Batch(sql.to_owned()));
    }

    /// Forgets what was still to go out.
    pub fn drop_later(&self) {
        self.later.borrow_mut().clear();
    }

    pub fn prepare(&self, sql: &str) -> Result<Statement> {
        self.prepare_as(sql, || Ok(translated(sql)))
    }

    /// The statement known by a name, or made of what `sql` gives.
    pub fn prepare_as(
        &self,
        name: &str,
        sql: impl FnOnce() -> Result<String>,
    ) -> Result<Statement> {
        if let Some(known) = self.prepared.borrow().get(name) {
            return Ok(known.clone());
        }
        let sql = sql()?;
        let statement = self.exchange(self.client.prepare(&sql))?;
        let mut prepared = self.prepared.borrow_mut();
        prepared.insert(name.to_owned(), statement.clone());
        Ok(statement)
    }

    /// How many rows it changed.
    pub fn execute(&self, statement: &Statement, params: &impl Params) -> Result<usize> {
        let bound = bound(params)?;
        let changed = self.exchange(self.client.execute(statement, &borrowed(&bound)))?;
        Ok(usize::try_from(changed).unwrap_or(usize::MAX))
    }

    /// The same, with whatever is asked next.
    pub fn write(&self, sql: &str, params: &impl Params) -> Result<()> {
        let statement = self.prepare(sql)?;
        self.execute_later(statement, bound(params)?);
        Ok(())
    }

    pub fn execute_later(&self, statement: Statement, values: Vec<Value>) {
        let mut later = self.later.borrow_mut();
        later.push(Later::Execute(statement, values));
    }

    pub fn query(&self, statement: &Statement, params: &impl Params) -> Result<Vec<Row>> {
        self.query_values(statement, &bound(params)?)
    }

    pub fn query_values(&self, statement: &Statement, values: &[Value]) -> Result<Vec<Row>> {
        self.exchange(self.client.query(statement, &borrowed(values)))
    }

    /// Sends what waits and then this, and waits for all answers. The first failure is the one that counts:
    /// those after it only say that the transaction is over.
    fn exchange<T>(
        &self,
        last: impl Future<Output = std::result::Result<T, tokio_postgres::Error>>,
    ) -> Result<T> {
        let later = self.later.take();
        let patience = self.patience.get();
        if self.given_up.get() {
            return Err(Error::Silent(patience));
        }
        let values: Vec<Vec<&(dyn ToSql + Sync)>> = later.iter().map(Later::values).collect();
        let answers =
            later
                .iter()
                .zip(&values)
                .map(|(later, values)| -> Answer<'_> {
                    match later {
                        Later::Batch(sql) => Box::pin(self.client.batch_execute(sql)),
                        Later::Execute(statement, _) => Box::pin(async move {
                            self.client.execute(statement, values).await.map(drop)
                        }),
                    }
                });
        let answers = futures::future::join(all(answers.collect()), last);
        let answered = async { tokio::time::timeout(patience, answers).await };
        let Ok((before, last)) = self.runtime.block_on(answered) else {
            self.give_up();
            return Err(Error::Silent(patience));
        };
        let answer = before.and(last);
        if let Err(error) = &answer {
            if error.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION) {
                // It follows another server now, which is where to go.
                self.give_up();
            }
            let mut failed = self.failed.borrow_mut();
            *failed = failed.take().or(error.code().cloned());
        }
        Ok(answer?)
    }
}

/// Carries a connection's bytes. It ends when the client is dropped, or when the server ends it: then the
/// next statement says so.
async fn carry<T: AsyncRead + AsyncWrite + Unpin>(
    mut connection: Connection<Socket, T>,
    notes: Option<watch::Sender<Notes>>,
) {
    while let Some(Ok(said)) = poll_fn(|context| connection.poll_message(context)).await {
        if let (AsyncMessage::Notification(note), Some(notes)) = (said, &notes) {
            notes.send_modify(|notes| notes.add(note.payload()));
        }
    }
}

impl Notes {
    fn add(&mut self, said: &str) {
        let event = said.strip_prefix("events ");
        match event.and_then(|event| event.parse().ok()) {
            Some(event) => self.event = event,
            None => self.others += 1,
        }
    }
}

impl Later {
    fn values(&self) -> Vec<&(dyn ToSql + Sync)> {
        match self {
            Self::Batch(_) => Vec::new(),
            Self::Execute(_, values) => borrowed(values),
        }
    }
}

/// Waits for all of them, begun in order; the first failure.
async fn all(mut answers: Vec<Answer<'_>>) -> std::result::Result<(), tokio_postgres::Error> {
    let mut done: Vec<Option<std::result::Result<(), tokio_postgres::Error>>> =
        answers.iter().map(|_| None).collect();
    poll_fn(|context| {
        for (answer, done) in answers.iter_mut().zip(&mut done) {
            if done.is_none()
                && let Poll::Ready(ready) = answer.as_mut().poll(context)
            {
                *done = Some(ready);
            }
        }
        match done.iter().all(Option::is_some) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
    done.into_iter().flatten().collect()
}

fn bound(params: &impl Params) -> Result<Vec<Value>> {
    let mut bound = Vec::new();
    params.each(&mut |value| {
        bound.push(Value::One(Bound::of(value)?));
        Ok(())
    })?;
    Ok(bound)
}

fn borrowed(values: &[Value]) -> Vec<&(dyn ToSql + Sync)> {
    values.iter().map(Value::as_sql).collect()
}
/// The statement in PostgreSQL's words: `$1` for `?1` and for the first `?`, and no advice to a planner
/// that does not take any.
fn translated(sql: &str) -> String {
    let mut translated = String::with_capacity(sql.len() + 8);
    let (mut quoted, mut given) = (false, 0);
    let mut rest = sql.chars().peekable();
    while let Some(next) = rest.next() {
        quoted ^= next == '\'';
        if next != '?' || quoted {
            translated.push(next);
            continue;
        }
        translated.push('$');
        if !rest.peek().is_some_and(char::is_ascii_digit) {
            given += 1;
            translated.push_str(&given.to_string());
        }
    }
    match translated.split_once(" INDEXED BY ") {
        Some((before, after)) => {
            let after = after.trim_start_matches(|next: char| !next.is_whitespace());
            format!("{before}{after}")
        }
        None => translated,
    }
}

#[cfg(test)]
mod tests {
    use super::translated;

    #[test]
    fn parameters_are_numbered_and_texts_are_left_alone() {
        for (said, meant) in [
            ("SELECT ?1, '?', ?12", "SELECT $1, '?', $12"),
            ("a = ? AND b = ? LIMIT ?", "a = $1 AND b = $2 LIMIT $3"),
            (
                "FROM conversation INDEXED BY conversation_ended WHERE id = ?1",
                "FROM conversation WHERE id = $1",
            ),
        ] {
            assert_eq!(translated(said), meant);
        }
    }
}
