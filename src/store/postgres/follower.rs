//! Follows what other processes write: how far the event log is, whether tokens changed, and which names there
//! are. They are heard at once (`LISTEN`), and looked for now and then in case one was not.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tracing::warn;

use crate::store::Result;
use crate::store::events::Moved;
use crate::store::rows::names::Names;
use crate::store::sql::Conn;

use super::database::Database;
use super::session::{Heard, Session};

/// How often is looked, whatever is heard.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Between two tries to reach the database.
const RETRY: Duration = Duration::from_secs(1);

/// What this process knows of how far the store is.
#[derive(Default)]
pub struct Told {
    moved: watch::Sender<Moved>,
}

impl Told {
    /// Events have numbers up to this one.
    pub fn numbered(&self, last_event: i64) {
        self.tell(|moved| moved.last_event = moved.last_event.max(last_event));
    }

    fn tokens_changed(&self, changes: u64) {
        self.tell(|moved| moved.token_changes = changes);
    }

    fn tell(&self, change: impl FnOnce(&mut Moved)) {
        self.moved.send_if_modified(|moved| {
            let before = *moved;
            change(moved);
            before != *moved
        });
    }

    pub fn moved(&self) -> watch::Receiver<Moved> {
        self.moved.subscribe()
    }
}

/// The thread that listens; it ends with this.
pub struct Follower {
    _ended: watch::Sender<()>,
}

impl Follower {
    pub fn start(database: Database, told: Arc<Told>, names: Arc<Names>) -> std::io::Result<Self> {
        let (ended, ends) = watch::channel(());
        let following = Following {
            database,
            told,
            names,
            ends,
        };
        std::thread::Builder::new()
            .name("store-follower".to_owned())
            .spawn(move || following.run())?;
        Ok(Self { _ended: ended })
    }
}

struct Following {
    database: Database,
    told: Arc<Told>,
    names: Arc<Names>,
    ends: watch::Receiver<()>,
}

impl Following {
    fn run(self) {
        let failing = Cell::new(false);
        while self.ends.has_changed().is_ok() {
            if let Err(error) = self.follow(&failing) {
                if !failing.replace(true) {
                    warn!(%error, "following what other processes write failed, trying again");
                }
                std::thread::sleep(RETRY);
            }
        }
    }

    /// Until the connection is lost, or nobody wants to know any more.
    fn follow(&self, failing: &Cell<bool>) -> Result<()> {
        let (session, mut heard) = Session::listen(&self.database)?;
        let mut ends = self.ends.clone();
        let mut others = 0;
        self.look(&session)?;
        failing.set(false);
        loop {
            match session.hear(&mut heard, &mut ends, LOOK_EVERY) {
                // Numbers come with what is heard; of everything else it is looked how it stands.
                Heard::Notes(notes) if notes.others == others => self.told.numbered(notes.event),
                Heard::Notes(notes) => {
                    others = notes.others;
                    self.look(&session)?;
                }
                Heard::Nothing => self.look(&session)?,
                Heard::End => return Ok(()),
            }
        }
    }

    fn look(&self, session: &Session) -> Result<()> {
        let conn = Conn::Postgres(session);
        let (last, tokens, names): (i64, i64, i64) = conn
            .prepare(
                "SELECT last, coalesce((SELECT value FROM meta WHERE key = 'token_changes'), 0),
                 (SELECT count(*) FROM name) FROM sequencer",
            )?
            .query_row((), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        self.told.numbered(last);
        if usize::try_from(names).is_ok_and(|names| names != self.names.count()) {
            self.names.load(conn)?;
        }
        self.told.tokens_changed(tokens.unsigned_abs());
        Ok(())
    }
}
