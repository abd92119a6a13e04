//! Follows what other processes write: how far the event log is, and whether tokens changed.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio_postgres::Config;
use tracing::warn;

use crate::store::Result;
use crate::store::events::Moved;
use crate::store::rows::events;
use crate::store::sql::{Conn, Optional as _};

use super::session::Session;

/// How often is looked.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Between two tries to reach the database.
const RETRY: Duration = Duration::from_secs(1);

/// The thread that looks.
pub struct Follower {
    shared: Arc<Shared>,
}

struct Shared {
    ended: Mutex<bool>,
    changed: Condvar,
    moved: watch::Sender<Moved>,
}

impl Follower {
    pub fn start(config: Config) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            ended: Mutex::new(false),
            changed: Condvar::new(),
            moved: watch::Sender::new(Moved::default()),
        });
        let own = shared.clone();
        std::thread::Builder::new()
            .name("store-follower".to_owned())
            .spawn(move || own.run(&config))?;
        Ok(Self { shared })
    }

    pub fn moved(&self) -> watch::Receiver<Moved> {
        self.shared.moved.subscribe()
    }

    /// This process wrote up to this event.
    pub fn wrote(&self, last_event: i64) {
        self.shared.tell(|moved| Moved {
            last_event: moved.last_event.max(last_event),
            ..*moved
        });
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        *self.shared.hold() = true;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn hold(&self) -> MutexGuard<'_, bool> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether to go on, after a pause.
    fn wait(&self, pause: Duration) -> bool {
        let waited = (self.changed).wait_timeout_while(self.hold(), pause, |ended| !*ended);
        let (ended, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !*ended
    }

    fn run(&self, config: &Config) {
        let mut session = None;
        let mut pause = Duration::ZERO;
        while self.wait(pause) {
            pause = match self.look(&mut session, config) {
                Ok(()) => LOOK_EVERY,
                Err(error) => {
                    warn!(%error, "following the event log failed, trying again");
                    session = None;
                    RETRY
                }
            };
        }
    }

    fn look(&self, session: &mut Option<Session>, config: &Config) -> Result<()> {
        if session.as_ref().is_none_or(Session::is_closed) {
            *session = Some(Session::connect(config)?);
        }
        let Some(session) = session else {
            return Ok(());
        };
        let conn = Conn::Postgres(session);
        let last_event = events::last(conn)?;
        let changes: Option<i64> = conn
            .prepare("SELECT value FROM meta WHERE key = 'token_changes'")?
            .query_row((), |row| row.get(0))
            .optional()?;
        self.tell(|moved| Moved {
            // A look that began before a commit of this process knows less.
            last_event: moved.last_event.max(last_event),
            token_changes: changes.unwrap_or(0).unsigned_abs(),
        });
        Ok(())
    }

    fn tell(&self, now: impl FnOnce(&Moved) -> Moved) {
        self.moved.send_if_modified(|moved| {
            let now = now(moved);
            let differs = *moved != now;
            *moved = now;
            differs
        });
    }
}
