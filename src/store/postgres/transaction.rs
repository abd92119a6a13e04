//! Transactions: those that run alone over all processes and those beside each other, work that has to be run
//! again, and what became of a transaction whose `COMMIT` was not answered.

use std::time::Duration;

use tokio_postgres::error::SqlState;

use crate::store::rows::memory::Standing;
use crate::store::rows::names::Names;
use crate::store::rows::{Tx, seen};
use crate::store::sql::{self, Conn};
use crate::store::{Result, StoreError};

use super::pool::{CommitKey, Connected};
use super::session::Session;
use super::{IDS_BLOCK, STANDS_STILL_MAX};

/// The lock of those who write: whoever has it alone is alone, over all processes.
const ALONE: &str = "SELECT pg_advisory_xact_lock(5473, 0)";
const BESIDE: &str = "SELECT pg_advisory_xact_lock_shared(5473, 0)";
/// How often work is run until its locks were all that it needed. Each time somebody else got on.
const RUNS_MAX: u32 = 50;
/// The same where a row was there already: read again it is known, unless the work is to blame.
const CLASHES_MAX: u32 = 5;
/// How long it is looked for what became of a transaction: whoever waits has waited for its answer already.
const LOOK_UP_MAX: Duration = Duration::from_secs(3);

/// Why work is run again.
enum Again {
    /// What was locked was not enough, or others waited for it in a circle.
    Locks(Standing),
    /// Somebody else wrote the row, or took the table away.
    Clash,
}

impl Connected {
    /// Runs `work` in a transaction of its own. A panic in it costs the connection, and with it the transaction.
    pub fn write<T>(
        &mut self,
        mut standing: Standing,
        work: &mut impl FnMut(&mut Tx<'_>) -> Result<T>,
    ) -> Result<T> {
        let mut clashes = 0;
        for _ in 0..RUNS_MAX {
            let missed = self.memory.names.missed();
            let (error, again) = match self.run(standing, work) {
                Ok(value) => return Ok(value),
                Err((error, Some(again))) => (error, again),
                Err((error, None)) if self.memory.names.missed() == missed => return Err(error),
                Err((error, None)) => {
                    self.memory.names.load(Conn::Postgres(&self.session))?;
                    (error, Again::Clash)
                }
            };
            match again {
                Again::Locks(next) => standing = next,
                Again::Clash if clashes == CLASHES_MAX => return Err(error),
                Again::Clash => {
                    clashes += 1;
                    self.memory.generations = seen::generations(Conn::Postgres(&self.session))?;
                }
            }
            metrics::counter!("switchboard_transactions_begun_again_total").increment(1);
        }
        Err(StoreError::Unavailable(
            "others were in its way again and again".to_owned(),
        ))
    }

    /// One transaction; whether it has to be another one.
    fn run<T>(
        &mut self,
        standing: Standing,
        work: &mut impl FnMut(&mut Tx<'_>) -> Result<T>,
    ) -> std::result::Result<T, (StoreError, Option<Again>)> {
        self.take_ids().map_err(|error| (error, None))?;
        let stands_still = STANDS_STILL_MAX.as_millis();
        let lock = match standing {
            Standing::Alone => ALONE,
            Standing::Beside => BESIDE,
        };
        self.session.batch_later(&format!(
            "BEGIN; SET LOCAL idle_in_transaction_session_timeout = {stands_still}; {lock}"
        ));
        let mirror = self.memory.mirror();
        (self.memory.standing, self.memory.again) = (standing, None);
        self.session.take_failure();
        let done = self.work(work).and_then(|value| {
            self.commit()?;
            Ok(value)
        });
        done.map_err(|error| {
            self.memory.restore(mirror);
            let again = self.again(standing);
            self.session.drop_later();
            match self.session.is_closed() {
                true => (error, None),
                false => match self.session.batch("ROLLBACK") {
                    Ok(()) => (error, again),
                    Err(lost) => (lost.into(), None),
                },
            }
        })
    }

    fn again(&mut self, standing: Standing) -> Option<Again> {
        if let Some(next) = self.memory.again.take() {
            return Some(Again::Locks(next));
        }
        let code = self.session.take_failure()?;
        let circle = [
            SqlState::T_R_DEADLOCK_DETECTED,
            SqlState::T_R_SERIALIZATION_FAILURE,
        ];
        // Two that file something at once, or that make or drop the same table.
        let clash = [SqlState::UNIQUE_VIOLATION, SqlState::UNDEFINED_TABLE];
        match code {
            code if circle.contains(&code) => Some(Again::Locks(standing)),
            code if clash.contains(&code) => Some(Again::Clash),
            _ => None,
        }
    }

    /// What is done inside of a transaction.
    fn work<T>(&mut self, work: &mut impl FnMut(&mut Tx<'_>) -> Result<T>) -> Result<T> {
        let conn = Conn::Postgres(&self.session);
        let tokens = self.memory.token_changes;
        let value = work(&mut Tx {
            conn,
            memory: &mut self.memory,
        })?;
        if self.memory.token_changes != tokens {
            self.session.batch_later(
                "INSERT INTO meta (key, value) VALUES ('token_changes', 1)
                 ON CONFLICT (key) DO UPDATE SET value = meta.value + 1; NOTIFY switchboard, 'tokens'",
            );
        }
        Ok(value)
    }

    /// Runs a query on one state of the database. Names that another process gave are read before it is run again.
    pub fn read<T>(&mut self, query: &mut impl FnMut(Conn<'_>, &Names) -> Result<T>) -> Result<T> {
        let names = self.memory.names.clone();
        let missed = names.missed();
        let found = self.read_once(query);
        if names.missed() == missed {
            return found;
        }
        names.load(Conn::Postgres(&self.session))?;
        self.read_once(query)
    }

    fn read_once<T>(&mut self, query: &mut impl FnMut(Conn<'_>, &Names) -> Result<T>) -> Result<T> {
        self.session
            .batch_later("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
        self.session.take_failure();
        let found = query(Conn::Postgres(&self.session), &self.memory.names);
        self.session.batch("ROLLBACK")?;
        found
    }

    /// Before a transaction: more ids than the largest could use.
    fn take_ids(&mut self) -> Result<()> {
        if self.memory.ids_left() >= IDS_BLOCK / 2 {
            return Ok(());
        }
        let block: i64 = Conn::Postgres(&self.session)
            .prepare("SELECT nextval('id_block')")?
            .query_row((), |row| row.get(0))?;
        self.memory.take_ids(block * IDS_BLOCK, IDS_BLOCK);
        Ok(())
    }

    fn commit(&mut self) -> Result<()> {
        let CommitKey { session, number } = self.key;
        let number = number + 1;
        let committed = self
            .session
            .batch(&format!("SELECT commit_as({session}, {number}); COMMIT"));
        match committed {
            Ok(()) => {
                self.key.number = number;
                Ok(())
            }
            Err(error) if self.session.is_closed() => self.look_up(number, &error),
            Err(error) => Err(error.into()),
        }
    }

    /// Finds out, on another connection, whether a transaction was committed whose answer was lost. The row it
    /// writes is locked for as long as the server still works on it; and where it is not written yet, its number
    /// is used up here, so that it cannot be committed any more: its bytes may still be on their way.
    fn look_up(&mut self, number: i64, lost: &sql::Error) -> Result<()> {
        let unknown = |error: StoreError| {
            StoreError::Unavailable(format!(
                "nobody knows whether it was committed ({lost}), because {error}"
            ))
        };
        self.session = (self.setting.connect())
            .map_err(StoreError::from)
            .map_err(unknown)?;
        self.session.wait_for_answers(LOOK_UP_MAX);
        let conn = Conn::Postgres(&self.session);
        // The row is this connection's now.
        let before = conn
            .prepare(
                "UPDATE committed SET number = number + 1, pid = pg_backend_pid(), begun_at = (SELECT backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()), gone_at = NULL
                 WHERE session = ?1 RETURNING number - 1",
            )
            .and_then(|mut asked| asked.query_row([self.key.session], |row| row.get::<i64>(0)));
        let before = match before {
            Ok(before) => before,
            Err(error) => {
                // Which number is next is not known either: the next job has a connection of its own.
                self.session.give_up();
                return Err(unknown(error.into()));
            }
        };
        self.session.wait_for_answers(self.setting.patience);
        self.key.number = before + 1;
        if before == number {
            return Ok(());
        }
        // It may have made a generation that is not there.
        self.memory.generations = seen::generations(conn)?;
        Err(StoreError::Unavailable(format!("it was undone: {lost}")))
    }
}

/// Runs `work` while nobody else writes.
pub fn alone<T>(session: &Session, work: impl FnOnce() -> Result<T>) -> Result<T> {
    session.batch(&format!("BEGIN; {ALONE}"))?;
    let done = work();
    session.batch(match done {
        Ok(_) => "COMMIT",
        Err(_) => "ROLLBACK",
    })?;
    done
}
