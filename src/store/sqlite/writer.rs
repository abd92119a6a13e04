//! The one writer: a thread that owns the writing connection and puts what many callers want into
//! one commit. A small disk does a few hundred fsyncs a second; this is how thousands of messages
//! a second are each durable before they are acknowledged.

mod thread;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot, watch};

use crate::store::StoreError;
use crate::store::events::Moved;
use crate::store::rows::Tx;
use crate::store::rows::memory::Memory;

use thread::WriterThread;
pub use thread::end_on_failed_fsync;

/// Messages in one commit at most: bounds how long the first of them waits for the last.
pub const COMMIT_MESSAGES_MAX: usize = 1000;
/// How long a commit gathers at most, counted from its first job.
pub const COMMIT_GATHER_MAX: Duration = Duration::from_millis(20);
/// Jobs waiting for the writer; above this, callers wait, and intake refuses.
pub const JOBS_WAITING_MAX: usize = 8192;
/// Called once the commit is on disk, or with the reason why it is not.
type Finish = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

enum Outcome {
    Keep(Finish),
    Undo(Finish, StoreError),
}

/// What a job's failure undoes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Its own changes only.
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
    /// Moves with every commit that has events or changes who may do what.
    pub moved: watch::Sender<Moved>,
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
                    jobs: receiver,
                    taken: VecDeque::new(),
                }
                .run()
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
