//! The one writer: a thread that owns the writing connection and puts what many callers want into
//! one commit. A small disk does a few hundred fsyncs a second; this is how thousands of messages
//! a second are each durable before they are acknowledged.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rusqlite::ffi;
use rusqlite::hooks::Wal;
use tokio::sync::{mpsc, oneshot};
use tracing::{error, warn};

use crate::ids::IdSource;
use crate::store::StoreError;

use super::names::Names;

/// Messages in one commit at most: bounds how long the first of them waits for the last.
pub const COMMIT_MESSAGES_MAX: usize = 1000;
/// How long a commit gathers at most, counted from its first job.
pub const COMMIT_GATHER_MAX: Duration = Duration::from_millis(20);
/// Commits begin at least so far apart. A lone job commits at once; under load the jobs of this
/// long share one fsync, and the pages that all of them touch are written to the log once.
const COMMIT_INTERVAL: Duration = Duration::from_millis(8);
/// Jobs waiting for the writer; above this, callers wait, and intake refuses.
pub const JOBS_WAITING_MAX: usize = 8192;
/// A page of 4 KiB and its header in the log (SQLite file format, section 4.1).
const WAL_FRAME_BYTES: u64 = 4096 + 24;
/// How long the writer waits for a lock that only a foreign process can hold.
const BUSY_WAIT: Duration = Duration::from_secs(5);
/// Ids reserved at once: one small write per this many.
const IDS_RESERVED: i64 = 10_000;

/// What a job sees: the open transaction and the writer's own memory.
pub struct Tx<'a> {
    pub conn: &'a Connection,
    pub memory: &'a mut Memory,
}

/// State of the writer's thread that mirrors rows. After a rollback it is read again.
pub struct Memory {
    pub names: Arc<Names>,
    next_id: i64,
    reserved_until: i64,
    pub next_seq: i64,
    /// Dedupe generations that are kept, oldest first.
    pub generations: Vec<i64>,
}

impl IdSource for Memory {
    fn next(&mut self) -> i64 {
        self.next_id += 1;
        self.next_id
    }
}

impl Memory {
    pub fn load(conn: &Connection, names: Arc<Names>) -> rusqlite::Result<Self> {
        let reserved: Option<i64> = conn.query_row(
            "SELECT max(value) FROM meta WHERE key = 'ids_reserved'",
            [],
            |row| row.get(0),
        )?;
        let next_seq: i64 =
            conn.query_row("SELECT coalesce(max(seq), 0) FROM event", [], |row| {
                row.get(0)
            })?;
        let reserved = reserved.unwrap_or(0);
        Ok(Self {
            names,
            next_id: reserved,
            reserved_until: reserved,
            next_seq,
            generations: super::seen::generations(conn)?,
        })
    }

    /// Before a commit: every id handed out lies below what the database says is taken.
    fn reserve_ids(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        if self.next_id <= self.reserved_until {
            return Ok(());
        }
        let until = self.next_id + IDS_RESERVED;
        conn.prepare_cached(
            "INSERT OR REPLACE INTO meta (key, value) VALUES ('ids_reserved', ?1)",
        )?
        .execute([until])?;
        self.reserved_until = until;
        Ok(())
    }
}

/// Called once the commit is on disk, or with the reason why it is not.
type Finish = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

enum Outcome {
    Keep(Finish),
    Undo(Finish, StoreError),
}

/// What a job's failure undoes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Its own changes: it runs in a savepoint.
    Alone,
    /// The whole commit. For work that fails only when the database itself does; it is spared the
    /// copies that a savepoint makes of every page.
    Shared,
}

struct Job {
    messages: usize,
    fate: Fate,
    work: Box<dyn FnOnce(&mut Tx<'_>) -> Outcome + Send>,
}

/// Hands work to the writing thread.
#[derive(Clone)]
pub struct Writer {
    jobs: mpsc::Sender<Job>,
}

/// What the writer tells about itself.
#[derive(Default)]
pub struct WriterState {
    /// Set by the checkpointer when the log is nearly copied: the writer then starts it anew.
    pub restart_wal: AtomicBool,
    /// The log is at its cap: intake refuses until it is checkpointed.
    pub wal_full: AtomicBool,
    /// What the log holds since it was last started anew.
    pub wal_bytes: AtomicU64,
}

impl Writer {
    /// Starts the thread. It ends when the last [`Writer`] is gone, after its last commit.
    pub fn start(
        conn: Connection,
        memory: Memory,
        state: Arc<WriterState>,
    ) -> std::io::Result<(Self, std::thread::JoinHandle<()>)> {
        let (jobs, receiver) = mpsc::channel(JOBS_WAITING_MAX);
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || {
                WriterThread {
                    conn,
                    memory,
                    state,
                }
                .run(receiver)
            })?;
        Ok((Self { jobs }, thread))
    }

    /// Runs `work` in the next commit and returns once that is on disk. An error or a panic of
    /// `work` undoes its own changes only.
    pub async fn run<T: Send + 'static>(
        &self,
        messages: usize,
        work: impl FnOnce(&mut Tx<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.run_then(messages, Fate::Alone, work, |_| ()).await
    }

    /// Like [`Self::run`]; `then` is called on the writer's thread right after the commit, in
    /// commit order.
    pub async fn run_then<T: Send + 'static>(
        &self,
        messages: usize,
        fate: Fate,
        work: impl FnOnce(&mut Tx<'_>) -> Result<T, StoreError> + Send + 'static,
        then: impl FnOnce(&T) + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let begun = Arc::new(AtomicBool::new(false));
        let begins = begun.clone();
        let work = Box::new(move |tx: &mut Tx<'_>| {
            begins.store(true, Ordering::Release);
            outcome(work(tx), then, answer)
        });
        self.jobs
            .send(Job {
                messages,
                fate,
                work,
            })
            .await
            .map_err(|_| StoreError::Closed)?;
        // The answer is dropped by a panic inside `work`, or with work that could not be begun.
        answered
            .await
            .unwrap_or_else(|_| match begun.load(Ordering::Acquire) {
                true => Err(StoreError::Poisoned("the work panicked".to_owned())),
                false => Err(StoreError::Unavailable(
                    "no transaction could be begun".to_owned(),
                )),
            })
    }

    /// A hold on the writer that does not keep it alive.
    pub fn downgrade(&self) -> WeakWriter {
        WeakWriter {
            jobs: self.jobs.downgrade(),
        }
    }

    /// Free places in the queue of jobs; none left means overload.
    pub fn room(&self) -> usize {
        self.jobs.capacity()
    }
}

/// What the checkpointer has of the writer.
pub struct WeakWriter {
    jobs: mpsc::WeakSender<Job>,
}

impl WeakWriter {
    /// Has the writer commit nothing. It starts the log anew after a commit, and while intake is
    /// refused there may be none.
    pub fn wake(&self) {
        let Some(jobs) = self.jobs.upgrade() else {
            return;
        };
        let nothing = Job {
            messages: 0,
            fate: Fate::Alone,
            work: Box::new(|_| Outcome::Keep(Box::new(|_| ()))),
        };
        // A full queue wakes it as well.
        drop(jobs.try_send(nothing));
    }
}

fn outcome<T: Send + 'static>(
    result: Result<T, StoreError>,
    then: impl FnOnce(&T) + Send + 'static,
    answer: oneshot::Sender<Result<T, StoreError>>,
) -> Outcome {
    // A caller that went away needs no answer.
    match result {
        Ok(value) => Outcome::Keep(Box::new(move |committed| {
            if committed.is_ok() {
                then(&value);
            }
            drop(answer.send(committed.map(|()| value)));
        })),
        Err(error) => {
            let reason = error.clone();
            Outcome::Undo(Box::new(move |_| drop(answer.send(Err(error)))), reason)
        }
    }
}

struct WriterThread {
    conn: Connection,
    memory: Memory,
    state: Arc<WriterState>,
}

impl WriterThread {
    #[expect(
        clippy::disallowed_methods,
        reason = "measures how long a commit gathers and takes"
    )]
    fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        if let Err(error) = self.conn.wal_hook(Some(count_wal(self.state.clone()))) {
            warn!(%error, "counting what is written to the log is not possible");
        }
        let mut begun = Instant::now();
        while let Some(first) = jobs.blocking_recv() {
            std::thread::sleep(COMMIT_INTERVAL.saturating_sub(begun.elapsed()));
            begun = Instant::now();
            let finishes = self.commit(first, begun, &mut jobs);
            for (finish, result) in finishes {
                finish(result);
            }
            self.restart_wal();
        }
    }

    fn commit(
        &mut self,
        first: Job,
        started: Instant,
        jobs: &mut mpsc::Receiver<Job>,
    ) -> Vec<(Finish, Result<(), StoreError>)> {
        let mut finishes = Vec::new();
        if let Err(error) = execute(&self.conn, "BEGIN IMMEDIATE") {
            let unavailable = self.fail(&error);
            warn!(error = %unavailable, "beginning a transaction failed");
            drop(first);
            return Vec::new();
        }
        let mut messages = 0;
        let mut next = Some(first);
        let mut failed = None;
        while let Some(job) = next {
            messages += job.messages;
            match job.fate {
                Fate::Alone => finishes.push(self.work(job)),
                Fate::Shared => match self.work_bare(job) {
                    (finish, None) => finishes.push(finish),
                    (finish, error) => {
                        finishes.push(finish);
                        failed = error;
                        break;
                    }
                },
            }
            let full = messages >= COMMIT_MESSAGES_MAX || started.elapsed() >= COMMIT_GATHER_MAX;
            // A full disk ends the transaction under its jobs: no more of them may run outside of one.
            next = if full || self.conn.is_autocommit() {
                None
            } else {
                jobs.try_recv().ok()
            };
        }
        let gathered = started.elapsed();
        let committed = match (failed, self.conn.is_autocommit()) {
            (Some(error), _) => Err(error),
            (None, true) => Err(StoreError::Unavailable(
                "the database undid the transaction".to_owned(),
            )),
            (None, false) => {
                let committed = self
                    .memory
                    .reserve_ids(&self.conn)
                    .and_then(|()| execute(&self.conn, "COMMIT"));
                committed.map_err(|error| self.fail(&error))
            }
        };
        if committed.is_err() {
            self.roll_back();
        }
        metrics::histogram!("switchboard_commit_seconds").record(started.elapsed().as_secs_f64());
        metrics::histogram!("switchboard_commit_gather_seconds").record(gathered.as_secs_f64());
        metrics::histogram!("switchboard_commit_messages").record(messages as f64);
        finishes
            .into_iter()
            .map(|finish| (finish, committed.clone()))
            .collect()
    }

    /// One job in a savepoint of its own.
    fn work(&mut self, job: Job) -> Finish {
        let conn = &self.conn;
        let undone = |conn: &Connection| {
            execute(conn, "ROLLBACK TO job")?;
            execute(conn, "RELEASE job")
        };
        if let Err(error) = execute(conn, "SAVEPOINT job") {
            warn!(%error, "opening a savepoint failed");
        }
        let (seq, generations) = (self.memory.next_seq, self.memory.generations.clone());
        let mut tx = Tx {
            conn,
            memory: &mut self.memory,
        };
        let result = catch_unwind(AssertUnwindSafe(|| (job.work)(&mut tx)));
        let (ended, finish) = match result {
            Ok(Outcome::Keep(finish)) => (execute(conn, "RELEASE job"), finish),
            undo => {
                // What mirrors rows goes back with them; ids handed out are merely not used.
                self.memory.next_seq = seq;
                self.memory.generations = generations;
                let finish = if let Ok(Outcome::Undo(finish, _)) = undo {
                    finish
                } else {
                    Box::new(|_| ())
                };
                (undone(conn), finish)
            }
        };
        if let Err(error) = ended {
            warn!(%error, "ending a savepoint failed");
        }
        finish
    }

    /// One job without a savepoint; its failure, if any, is the whole commit's.
    fn work_bare(&mut self, job: Job) -> (Finish, Option<StoreError>) {
        let mut tx = Tx {
            conn: &self.conn,
            memory: &mut self.memory,
        };
        match catch_unwind(AssertUnwindSafe(|| (job.work)(&mut tx))) {
            Ok(Outcome::Keep(finish)) => (finish, None),
            Ok(Outcome::Undo(finish, error)) => {
                let reason = format!("another job of the same commit failed: {error}");
                (finish, Some(StoreError::Unavailable(reason)))
            }
            Err(_) => {
                let reason = "another job of the same commit panicked".to_owned();
                (Box::new(|_| ()), Some(StoreError::Unavailable(reason)))
            }
        }
    }

    fn fail(&self, failure: &rusqlite::Error) -> StoreError {
        end_on_failed_fsync(failure);
        StoreError::from_sqlite(failure)
    }

    fn roll_back(&mut self) {
        if !self.conn.is_autocommit()
            && let Err(error) = execute(&self.conn, "ROLLBACK")
        {
            warn!(%error, "rolling back failed");
        }
        match Memory::load(&self.conn, self.memory.names.clone()) {
            // Ids already handed out are not used again.
            Ok(fresh) => {
                self.memory = Memory {
                    next_id: self.memory.next_id.max(fresh.next_id),
                    ..fresh
                }
            }
            Err(error) => warn!(%error, "reading the writer's state again failed"),
        }
    }

    fn restart_wal(&self) {
        if !self.state.restart_wal.swap(false, Ordering::AcqRel) {
            return;
        }
        // A busy reader makes it return without effect at once; the checkpointer asks again.
        let restarted = self.conn.busy_timeout(Duration::ZERO).and_then(|()| {
            self.conn
                .query_row("PRAGMA wal_checkpoint(RESTART)", [], |row| {
                    row.get::<_, i64>(0)
                })
        });
        match restarted {
            Ok(0) => self.state.wal_bytes.store(0, Ordering::Release),
            Ok(_) => {}
            Err(error) => {
                end_on_failed_fsync(&error);
                warn!(%error, "restarting the write-ahead log failed");
            }
        }
        if let Err(error) = self.conn.busy_timeout(BUSY_WAIT) {
            warn!(%error, "setting the busy time-out failed");
        }
    }
}

/// Runs a statement that is prepared once.
fn execute(conn: &Connection, sql: &str) -> rusqlite::Result<()> {
    conn.prepare_cached(sql)?.execute([]).map(|_| ())
}

/// A failed fsync ends the process, wherever it happens: the kernel may have dropped the pages,
/// and the next fsync would "succeed" without them (PostgreSQL's lesson of 2018).
pub fn end_on_failed_fsync(failure: &rusqlite::Error) {
    let code = failure.sqlite_error().map(|error| error.extended_code);
    if matches!(
        code,
        Some(ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC)
    ) {
        error!(error = %failure, "fsync failed, ending the process so that nothing unsafe is acknowledged");
        std::process::abort();
    }
}

/// Adds up what each commit wrote to the log; it starts anew when the log does.
fn count_wal(state: Arc<WriterState>) -> impl FnMut(&mut Wal, i32) -> rusqlite::Result<()> {
    let mut before = 0;
    move |_, pages| {
        let written = if pages >= before {
            pages - before
        } else {
            pages
        };
        before = pages;
        let held = u64::try_from(pages).unwrap_or(0) * WAL_FRAME_BYTES;
        state.wal_bytes.store(held, Ordering::Release);
        let bytes = u64::try_from(written).unwrap_or(0) * WAL_FRAME_BYTES;
        metrics::counter!("switchboard_wal_bytes_total").increment(bytes);
        Ok(())
    }
}
