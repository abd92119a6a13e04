//! Gives committed events their numbers. Events are written to `event_new`, in an order that rises in each
//! conversation, because it is drawn under its lock; over all it does not rise with commits. The function
//! `number_events` moves what is committed to `event`, under the one row that has the last number: so numbers
//! have no gap, and no reader ever sees one and then a smaller one.
//!
//! Every process has this thread and numbers what it wrote, and what others left. None of them is the only one,
//! so there is none that could hang: a step is one statement, which the server does or does not do.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tracing::warn;

use crate::store::sql::{self, Conn};
use crate::store::{Result, StoreError};

use super::follower::Told;
use super::pool::Setting;
use super::session::Session;

/// Events that one step numbers: a few ten milliseconds.
const STEP_EVENTS: i64 = 5_000;
/// Between two steps: each costs much the same however many it numbers, and has every process look what there is.
const GATHER: Duration = Duration::from_millis(5);
/// How often it is looked for what a process left that died after its commit.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The thread; it ends with this.
pub struct Sequencer {
    shared: Arc<Shared>,
}

struct Shared {
    unswept: Arc<AtomicI64>,
    wanted: Mutex<Wanted>,
    changed: Condvar,
    done: watch::Sender<Done>,
    told: Arc<Told>,
}

#[derive(Default)]
struct Wanted {
    /// Counts those who asked.
    asked: u64,
    ended: bool,
}

/// Up to which of those who asked it is done, or failed.
#[derive(Default)]
struct Done {
    through: u64,
    failed: Option<StoreError>,
}

impl Sequencer {
    /// `unswept` counts what is numbered.
    pub fn start(
        setting: Setting,
        told: Arc<Told>,
        unswept: Arc<AtomicI64>,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            unswept,
            wanted: Mutex::default(),
            changed: Condvar::new(),
            done: watch::Sender::default(),
            told,
        });
        let own = shared.clone();
        std::thread::Builder::new()
            .name("store-sequencer".to_owned())
            .spawn(move || own.run(&setting))?;
        Ok(Self { shared })
    }

    /// Has what was committed numbered soon.
    pub fn wake(&self) -> u64 {
        let mut wanted = self.shared.hold();
        wanted.asked += 1;
        self.shared.changed.notify_one();
        wanted.asked
    }

    /// Returns once everything that was committed by now has its number.
    pub async fn number(&self) -> Result<()> {
        let mut done = self.shared.done.subscribe();
        let asked = self.wake();
        let done = done.wait_for(|done| done.through >= asked).await;
        match done {
            Ok(done) => done.failed.clone().map_or(Ok(()), Err),
            Err(_) => Err(StoreError::Closed),
        }
    }
}

impl Drop for Sequencer {
    fn drop(&mut self) {
        self.shared.hold().ended = true;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn hold(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who asked so far, once anybody did since `through` or some time went by; `None` once it is to end.
    fn next(&self, through: u64) -> Option<u64> {
        let waiting = |wanted: &mut Wanted| wanted.asked <= through && !wanted.ended;
        let waited = (self.changed).wait_timeout_while(self.hold(), LOOK_EVERY, waiting);
        let (wanted, _) = waited.unwrap_or_else(PoisonError::into_inner);
        (!wanted.ended).then_some(wanted.asked)
    }

    fn run(&self, setting: &Setting) {
        let mut session = None;
        let mut through = 0;
        let mut failing = false;
        while let Some(asked) = self.next(through) {
            through = asked;
            let numbered = number(&mut session, setting);
            let failed = match numbered {
                Ok(Numbered { last, given }) => {
                    self.told.numbered(last);
                    self.unswept.fetch_add(given, Ordering::Relaxed);
                    None
                }
                Err(error) => {
                    session = None;
                    Some(StoreError::from(error))
                }
            };
            if let Some(error) = failed.as_ref().filter(|_| !failing) {
                warn!(%error, "numbering events failed, trying again");
            }
            failing = failed.is_some();
            self.done.send_replace(Done { through, failed });
            std::thread::sleep(GATHER);
        }
    }
}

pub struct Numbered {
    /// The last number.
    pub last: i64,
    /// How many events were given one.
    pub given: i64,
}

/// Numbers everything that is committed.
pub fn number(session: &mut Option<Session>, setting: &Setting) -> sql::Result<Numbered> {
    if session.as_ref().is_none_or(Session::is_closed) {
        *session = Some(setting.connect()?);
    }
    let mut all = Numbered { last: 0, given: 0 };
    let Some(session) = session else {
        return Ok(all);
    };
    loop {
        let (last, given): (i64, i64) = Conn::Postgres(session)
            .prepare("SELECT last, given FROM number_events(?1)")?
            .query_row([STEP_EVENTS], |row| Ok((row.get(0)?, row.get(1)?)))?;
        all.last = last;
        all.given += given;
        if given < STEP_EVENTS {
            return Ok(all);
        }
    }
}
