//! Threads with a connection each, which do one job after the other. A connection that is lost is made
//! anew for the next job; the job that lost it says so.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::store::rows::memory::Memory;
use crate::store::rows::names::Names;
use crate::store::sql::{self, Conn};
use crate::store::{Result, StoreError};

use super::database::Database;
use super::session::Session;

/// Jobs that may wait for a connection; beyond that they are refused.
const WAITING_MAX: usize = 8_192;

type Job = Box<dyn FnOnce(&mut Worker) + Send>;

/// Hands jobs to the threads, which end with it.
pub struct Pool {
    jobs: Arc<Jobs>,
    /// How long an answer may take on these connections.
    patience: Duration,
}

#[derive(Default)]
struct Jobs {
    waiting: Mutex<Waiting>,
    changed: Condvar,
    /// Counts jobs that ended on a connection that was alive.
    answered: AtomicU64,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    closed: bool,
}

/// What a thread has.
pub struct Worker {
    setting: Setting,
    names: Arc<Names>,
    connected: Option<Connected>,
}

/// Where a connection goes, and what is said on it first.
#[derive(Clone)]
pub struct Setting {
    pub database: Database,
    pub begin: &'static str,
    /// How long an answer may take.
    pub patience: Duration,
}

impl Setting {
    pub fn connect(&self) -> sql::Result<Session> {
        let session = Session::connect(&self.database)?;
        session.wait_for_answers(self.patience);
        session.batch(self.begin)?;
        Ok(session)
    }
}

/// A connection with what is kept of its rows.
pub struct Connected {
    /// How it is connected, and would be again.
    pub setting: Setting,
    pub session: Session,
    pub memory: Memory,
    /// The row by which it is known whether its last transaction was committed.
    pub key: CommitKey,
}

/// Under which number a session commits.
#[derive(Debug, Clone, Copy)]
pub struct CommitKey {
    pub session: i64,
    pub number: i64,
}

impl Pool {
    pub fn start(
        threads: usize,
        name: &str,
        setting: &Setting,
        names: &Arc<Names>,
    ) -> std::io::Result<Self> {
        let jobs = Arc::new(Jobs::default());
        for _ in 0..threads {
            let jobs = jobs.clone();
            let mut worker = Worker {
                setting: setting.clone(),
                names: names.clone(),
                connected: None,
            };
            std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(move || {
                    while let Some(job) = jobs.next() {
                        job(&mut worker);
                    }
                })?;
        }
        Ok(Self {
            jobs,
            patience: setting.patience,
        })
    }

    /// Runs `work` on the next connection that is free. While the server answers nobody, those who wait for one are
    /// sent away: each of those before them would take its time.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connected) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (answer, mut answered) = oneshot::channel();
        // Whoever takes it first decides whether it is done.
        let work = Arc::new(Mutex::new(Some(work)));
        let take = |work: &Mutex<Option<_>>| {
            let mut work = work.lock().unwrap_or_else(PoisonError::into_inner);
            work.take()
        };
        let (begun, jobs) = (work.clone(), self.jobs.clone());
        let job = Box::new(move |worker: &mut Worker| {
            let Some(work) = take(&begun) else {
                return;
            };
            let done = worker.work(work);
            if worker.is_connected() {
                jobs.answered.fetch_add(1, Ordering::Relaxed);
            }
            // A caller that went away needs no answer.
            drop(answer.send(done));
        });
        self.jobs.add(job)?;
        loop {
            let before = self.jobs.answered.load(Ordering::Relaxed);
            if let Ok(done) = tokio::time::timeout(self.patience, &mut answered).await {
                return done.unwrap_or(Err(StoreError::Closed));
            }
            let nobody_is_answered = self.jobs.answered.load(Ordering::Relaxed) == before;
            if nobody_is_answered && take(&work).is_some() {
                return Err(sql::Error::Silent(self.patience).into());
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.jobs.hold().closed = true;
        self.jobs.changed.notify_all();
    }
}

impl Jobs {
    fn hold(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, job: Job) -> Result<()> {
        let mut waiting = self.hold();
        if waiting.jobs.len() >= WAITING_MAX {
            return Err(StoreError::Unavailable(
                "too much waits for the database".to_owned(),
            ));
        }
        waiting.jobs.push_back(job);
        self.changed.notify_one();
        Ok(())
    }

    /// The next job; `None` once there will be none.
    fn next(&self) -> Option<Job> {
        let mut waiting = self.hold();
        loop {
            if let Some(job) = waiting.jobs.pop_front() {
                return Some(job);
            }
            if waiting.closed {
                return None;
            }
            let changed = self.changed.wait(waiting);
            waiting = changed.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Worker {
    fn work<T>(&mut self, work: impl FnOnce(&mut Connected) -> Result<T>) -> Result<T> {
        let connected = self.connected()?;
        let done = catch_unwind(AssertUnwindSafe(|| work(connected)));
        match done {
            Ok(done) => done,
            Err(_) => {
                // Whatever was open on it is undone by the server.
                self.connected = None;
                Err(StoreError::Poisoned("the work panicked".to_owned()))
            }
        }
    }

    fn is_connected(&self) -> bool {
        let connected = self.connected.as_ref();
        connected.is_some_and(|connected| !connected.session.is_closed())
    }

    fn connected(&mut self) -> Result<&mut Connected> {
        if let Some(lost) = self
            .connected
            .take_if(|connected| connected.session.has_ended())
        {
            let connected = Connected::new(&self.setting, &self.names)?;
            // Nobody asks any more what became of its last transaction.
            let sql = "DELETE FROM committed WHERE session = ?1";
            Conn::Postgres(&connected.session).write(sql, [lost.key.session])?;
            return Ok(self.connected.insert(connected));
        }
        match &mut self.connected {
            Some(connected) => Ok(connected),
            empty => Ok(empty.insert(Connected::new(&self.setting, &self.names)?)),
        }
    }
}
