//! The thread that writes: which jobs share a commit, in which order, and what a failure undoes.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rusqlite::hooks::Wal;
use rusqlite::{Connection, ffi};
use tokio::sync::mpsc;
use tracing::{error, warn};

use crate::store::StoreError;

use super::{
    COMMIT_GATHER_MAX, COMMIT_MESSAGES_MAX, Fate, Finish, Job, Memory, Outcome, Tx, WriterState,
};

/// Commits begin at least so far apart. A lone job commits at once; under load the jobs of this
/// long share one fsync, and the pages that all of them touch are written to the log once.
const COMMIT_INTERVAL: Duration = Duration::from_millis(8);
/// A page of 4 KiB and its header in the log (SQLite file format, section 4.1).
const WAL_FRAME_BYTES: u64 = 4096 + 24;
/// How long the writer waits for a lock that only a foreign process can hold.
const BUSY_WAIT: Duration = Duration::from_secs(5);

pub(super) struct WriterThread {
    pub conn: Connection,
    pub memory: Memory,
    pub state: Arc<WriterState>,
    pub jobs: mpsc::Receiver<Job>,
    /// Jobs taken from `jobs` for a commit, in the order in which they will run.
    pub taken: VecDeque<Job>,
}

impl WriterThread {
    #[expect(
        clippy::disallowed_methods,
        reason = "measures how long a commit gathers and takes"
    )]
    pub fn run(mut self) {
        if let Err(error) = self.conn.wal_hook(Some(count_wal(self.state.clone()))) {
            warn!(%error, "counting what is written to the log is not possible");
        }
        let mut begun = Instant::now();
        while let Some(first) = self.next() {
            std::thread::sleep(COMMIT_INTERVAL.saturating_sub(begun.elapsed()));
            begun = Instant::now();
            self.taken.push_front(first);
            for (finish, result) in self.commit(begun) {
                finish(result);
            }
            self.restart_wal();
        }
    }

    fn next(&mut self) -> Option<Job> {
        self.taken.pop_front().or_else(|| self.jobs.blocking_recv())
    }

    fn commit(&mut self, started: Instant) -> Vec<(Finish, Result<(), StoreError>)> {
        self.take_what_waits();
        let mut finishes = Vec::new();
        if let Err(error) = self.begin() {
            warn!(%error, "beginning a transaction failed");
            drop(self.taken.pop_front());
            return Vec::new();
        }
        let mut messages = 0;
        let mut failed = None;
        while let Some(job) = self.taken.pop_front().or_else(|| {
            // What waited when the commit began is always in it; what comes meanwhile, for a while.
            let full = messages >= COMMIT_MESSAGES_MAX || started.elapsed() >= COMMIT_GATHER_MAX;
            (!full).then(|| self.jobs.try_recv().ok()).flatten()
        }) {
            messages += job.messages;
            let (finish, error) = match job.fate {
                Fate::Alone if finishes.is_empty() => self.work_first(job),
                Fate::Alone => (self.work(job), None),
                Fate::Shared => self.work_bare(job),
            };
            finishes.push(finish);
            failed = error;
            // A full disk ends the transaction under its jobs: no more of them may run outside of one.
            if failed.is_some() || self.conn.is_autocommit() {
                break;
            }
        }
        let gathered = started.elapsed();
        if bug!("answered-before-the-commit") {
            let early = finishes.drain(..);
            early.for_each(|finish| finish(Ok(())));
        }
        let committed = match (failed, self.conn.is_autocommit()) {
            (Some(error), _) => Err(error),
            (None, true) => Err(StoreError::Unavailable(
                "the database undid the transaction".to_owned(),
            )),
            (None, false) => {
                let committed = self
                    .memory
                    .reserve_ids((&self.conn).into())
                    .map_err(StoreError::from);
                committed
                    .and_then(|()| execute(&self.conn, "COMMIT").map_err(|error| self.fail(&error)))
            }
        };
        match &committed {
            Ok(()) => self.tell_moved(),
            Err(_) => self.roll_back(),
        }
        metrics::histogram!("switchboard_commit_seconds").record(started.elapsed().as_secs_f64());
        metrics::histogram!("switchboard_commit_gather_seconds").record(gathered.as_secs_f64());
        metrics::histogram!("switchboard_commit_messages").record(messages as f64);
        finishes
            .into_iter()
            .map(|finish| (finish, committed.clone()))
            .collect()
    }

    /// Takes what waits, as much as a commit can hold. The first job that stands alone goes before
    /// intake, which nobody was told of yet: as the first of its transaction it needs no savepoint.
    fn take_what_waits(&mut self) {
        let mut messages: usize = self.taken.iter().map(|job| job.messages).sum();
        while messages < COMMIT_MESSAGES_MAX
            && let Ok(job) = self.jobs.try_recv()
        {
            messages += job.messages;
            self.taken.push_back(job);
        }
        let alone = self.taken.iter().position(|job| job.fate == Fate::Alone);
        if let Some(job) = alone.and_then(|place| self.taken.remove(place)) {
            self.taken.push_front(job);
        }
    }

    fn begin(&self) -> Result<(), StoreError> {
        execute(&self.conn, "BEGIN IMMEDIATE").map_err(|error| self.fail(&error))
    }

    /// The first job of a transaction: what undoes it is a transaction begun anew. SQLite copies
    /// every page that is changed within a savepoint; filing, which is most of the work, comes first.
    fn work_first(&mut self, job: Job) -> (Finish, Option<StoreError>) {
        let before = self.memory.mirror();
        let (finish, failed) = self.run_job(job);
        if failed.is_none() {
            return (finish, None);
        }
        self.memory.restore(before);
        let ended = match self.conn.is_autocommit() {
            true => Ok(()),
            false => execute(&self.conn, "ROLLBACK").map_err(|error| self.fail(&error)),
        };
        (finish, ended.and_then(|()| self.begin()).err())
    }

    /// One job in a savepoint of its own.
    fn work(&mut self, job: Job) -> Finish {
        if let Err(error) = execute(&self.conn, "SAVEPOINT job") {
            warn!(%error, "opening a savepoint failed");
        }
        let before = self.memory.mirror();
        let (finish, failed) = self.run_job(job);
        let ended = match failed {
            None => execute(&self.conn, "RELEASE job"),
            Some(_) if bug!("failure-undoes-nothing") => execute(&self.conn, "RELEASE job"),
            Some(_) => {
                self.memory.restore(before);
                execute(&self.conn, "ROLLBACK TO job")
                    .and_then(|()| execute(&self.conn, "RELEASE job"))
            }
        };
        if let Err(error) = ended {
            warn!(%error, "ending a savepoint failed");
        }
        finish
    }

    /// One job without a savepoint; its failure, if any, is the whole commit's.
    fn work_bare(&mut self, job: Job) -> (Finish, Option<StoreError>) {
        let (finish, failed) = self.run_job(job);
        let shared = |reason| {
            StoreError::Unavailable(format!("another job of the same commit failed: {reason}"))
        };
        (finish, failed.map(shared))
    }

    /// Runs a job; what it did is there, and if it failed, still has to be undone.
    fn run_job(&mut self, job: Job) -> (Finish, Option<StoreError>) {
        let mut tx = Tx {
            conn: (&self.conn).into(),
            memory: &mut self.memory,
        };
        match catch_unwind(AssertUnwindSafe(|| (job.work)(&mut tx))) {
            Ok(Outcome::Keep(finish)) => (finish, None),
            Ok(Outcome::Undo(finish, error)) => (finish, Some(error)),
            Err(_) => {
                let panicked = StoreError::Poisoned("the work panicked".to_owned());
                (Box::new(|_| ()), Some(panicked))
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
        if let Err(error) = self.memory.reload((&self.conn).into()) {
            warn!(%error, "reading the writer's state again failed");
        }
    }

    /// Before the callers are answered: who was answered finds what it did in the log. Costs
    /// a commit some nanoseconds where nobody listens.
    fn tell_moved(&self) {
        let now = self.memory.moved();
        self.state.moved.send_if_modified(|moved| {
            let differs = *moved != now;
            *moved = now;
            differs
        });
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
