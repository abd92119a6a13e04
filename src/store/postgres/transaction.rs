//! Transactions: one at a time over all processes, and what became of one whose `COMMIT` was not answered.

use crate::store::rows::names::Names;
use crate::store::rows::{Tx, events, seen};
use crate::store::sql::{self, Conn};
use crate::store::{Result, StoreError};

use super::pool::{CommitKey, Connected};
use super::session::Session;
use super::{IDS_BLOCK, STANDS_STILL_MAX};

/// The lock of those who write: one at a time, over all processes.
const WRITING: &str = "SELECT pg_advisory_xact_lock(5473, 0)";

impl Connected {
    /// Runs `work` in a transaction of its own. A panic in it costs the connection, and with it the transaction.
    pub fn write<T>(&mut self, work: impl FnOnce(&mut Tx<'_>) -> Result<T>) -> Result<T> {
        self.take_ids()?;
        let stands_still = STANDS_STILL_MAX.as_millis();
        self.session.batch(&format!(
            "BEGIN; SET LOCAL idle_in_transaction_session_timeout = {stands_still}; {WRITING}"
        ))?;
        let mirror = self.memory.mirror();
        match self.work(work) {
            Ok(value) => self.commit().map(|()| value),
            Err(error) => {
                self.memory.restore(mirror);
                self.session.batch("ROLLBACK")?;
                Err(error)
            }
        }
    }

    /// What is done inside of a transaction.
    fn work<T>(&mut self, work: impl FnOnce(&mut Tx<'_>) -> Result<T>) -> Result<T> {
        let conn = Conn::Postgres(&self.session);
        self.memory.next_seq = events::last(conn)?;
        let tokens = self.memory.token_changes;
        let value = work(&mut Tx {
            conn,
            memory: &mut self.memory,
        })?;
        if self.memory.token_changes != tokens {
            conn.batch(
                "INSERT INTO meta (key, value) VALUES ('token_changes', 1)
                 ON CONFLICT (key) DO UPDATE SET value = meta.value + 1",
            )?;
        }
        Ok(value)
    }

    /// Runs a query on one state of the database.
    pub fn read<T>(&mut self, query: impl FnOnce(Conn<'_>, &Names) -> Result<T>) -> Result<T> {
        self.session
            .batch("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")?;
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
        let committed = self.session.batch(&format!(
            "UPDATE committed SET number = {number} WHERE session = {session}; COMMIT"
        ));
        match committed {
            Ok(()) => {
                self.key.number = number;
                Ok(())
            }
            Err(error) if self.session.is_closed() => self.look_up(number, &error),
            Err(error) => {
                self.session.batch("ROLLBACK")?;
                Err(error.into())
            }
        }
    }

    /// Finds out, on another connection, whether a transaction was committed whose answer was lost. The row it
    /// wrote is locked for as long as the server still works on it.
    fn look_up(&mut self, number: i64, lost: &sql::Error) -> Result<()> {
        let unknown = |error: StoreError| {
            StoreError::Unavailable(format!(
                "nobody knows whether it was committed ({lost}), because {error}"
            ))
        };
        self.session = Session::connect(&self.config)
            .map_err(StoreError::from)
            .map_err(unknown)?;
        let conn = Conn::Postgres(&self.session);
        let committed = conn
            .prepare("SELECT number FROM committed WHERE session = ?1 FOR UPDATE")
            .and_then(|mut asked| asked.query_row([self.key.session], |row| row.get::<i64>(0)))
            .map_err(|error| unknown(error.into()))?;
        if committed == number {
            self.key.number = number;
            return Ok(());
        }
        // It may have made a generation that is not there.
        self.memory.generations = seen::generations(conn)?;
        Err(StoreError::Unavailable(format!("it was undone: {lost}")))
    }
}

/// Runs `work` while nobody else writes.
pub fn alone<T>(session: &Session, work: impl FnOnce() -> Result<T>) -> Result<T> {
    session.batch(&format!("BEGIN; {WRITING}"))?;
    let done = work();
    session.batch(match done {
        Ok(_) => "COMMIT",
        Err(_) => "ROLLBACK",
    })?;
    done
}
