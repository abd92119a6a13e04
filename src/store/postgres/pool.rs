//! Threads with a connection each, which do one job after the other. A connection that is lost is made
//! anew for the next job; the job that lost it says so.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

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
}

#[derive(Default)]
struct Jobs {
    waiting: Mutex<Waiting>,
    changed: Condvar,
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
}

impl Setting {
    pub fn connect(&self) -> sql::Result<Session> {
        let session = Session::connect(&self.database)?;
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
        Ok(Self { jobs })
    }

    /// Runs `work` on the next connection that is free.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connected) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        let job = Box::new(move |worker: &mut Worker| {
            let done = worker.work(work);
            // A caller that went away needs no answer.
            drop(answer.send(done));
        });
        self.jobs.add(job)?;
        answered.await.unwrap_or(Err(StoreError::Closed))
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
