//! The database that an installation is moved into. Until all of it is there and was compared, its schema has a
//! version that no build runs on. What was copied is what is there: rows are written in the order of their keys, some
//! in each transaction, so the last one says where to go on.

use std::time::Duration;

use crate::store::moving::{Batch, MoveError, Result, Side, Standing, Table, Value};
use crate::store::rows::partitions::BASE;
use crate::store::rows::seen;
use crate::store::sql::{Conn, Optional as _, Row, params};

use super::database::Database;
use super::safety::{self, Risk};
use super::schema::{self, SCHEMA_OF_HALF};
use super::session::Session;
use super::{IDS_BLOCK, PARTITION_BITS, transaction};

/// The lock of whoever moves something into this database; see locks.rs for the others.
const MOVING: i32 = 5476;
/// How long one that was killed may still have it: until the server notices.
const LOCK_WAIT: Duration = Duration::from_secs(20);
/// Looks for processes, a tenth of a second apart.
const LOOKS: usize = 30;
/// How long the planner's look at a table may take.
const ANALYZE_MAX: Duration = Duration::from_secs(600);
/// Numbers that one block of ids takes.
const BLOCK_NUMBERS: i64 = IDS_BLOCK << PARTITION_BITS;
/// Under which name is noted what was moved here.
const MOVED: &str = "moved";

/// What is in the database.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    Nothing,
    /// A part of this installation.
    Half,
    /// This installation, with this number of what it was moved from.
    Whole(i64),
}

/// What is noted with the last step.
pub struct End<'a> {
    /// Of everything that was moved.
    pub number: i64,
    /// Numbers that processes agree about.
    pub agreed: (&'a str, i64),
    /// The relay that tells of events; what was before it has nobody who waits for it.
    pub relay: &'a str,
}

pub struct Target {
    session: Session,
}

impl Target {
    /// Connects, and sees to it that nobody else works with the database.
    pub fn connect(mut database: Database, taken: &[Risk]) -> Result<Self> {
        database.config.application_name("switchboard migrate");
        let session = Session::connect(&database)?;
        safety::refuse_risks(&session, taken)?;
        session.batch(&format!("SET lock_timeout = {}", LOCK_WAIT.as_millis()))?;
        let locked = session.batch(&format!("SELECT pg_advisory_lock({MOVING}, 0)"));
        locked.map_err(|error| {
            MoveError::Refused(format!(
                "another `switchboard migrate` works on this database ({error}): wait for it, or stop it"
            ))
        })?;
        let target = Self { session };
        target.refuse_processes()?;
        Ok(target)
    }

    fn conn(&self) -> Conn<'_> {
        Conn::Postgres(&self.session)
    }

    fn number(&self, sql: &str) -> Result<i64> {
        Ok(self.conn().prepare(sql)?.query_row((), |row| row.get(0))?)
    }

    /// A process would write beside the move, and send what is moved. One that waits for its database looks in for a
    /// moment only.
    fn refuse_processes(&self) -> Result<()> {
        let mut there = 0;
        for _ in 0..LOOKS {
            there = self.number(
                "SELECT count(*) FROM pg_stat_activity
                 WHERE datname = current_database() AND application_name = 'switchboard'",
            )?;
            if there == 0 {
                return Ok(());
            }
            self.session.batch("SELECT pg_sleep(0.1)")?;
        }
        Err(MoveError::Refused(format!(
            "processes of switchboard are connected to this database ({there} connections): stop them all, and \
             begin again"
        )))
    }

    /// What is there; what is not of this installation, or not as it stands now, is refused.
    pub fn found(&self, source: &Standing) -> Result<Found> {
        let refused = |why: &str| Err(MoveError::Refused(why.to_owned()));
        let tables =
            self.number("SELECT count(*) FROM pg_tables WHERE schemaname = current_schema()")?;
        if tables == 0 {
            return Ok(Found::Nothing);
        }
        if self.number("SELECT count(*) FROM pg_tables WHERE schemaname = current_schema() AND tablename = 'meta'")? == 0 {
            return refused(
                "there is something else in this database: name an empty one in store.url",
            );
        }
        if self.number("SELECT coalesce(max(value), -1) FROM meta WHERE key = 'schema'")?
            == SCHEMA_OF_HALF
        {
            return self.found_half(source);
        }
        let key: Option<Vec<u8>> = self
            .conn()
            .prepare("SELECT value FROM secret WHERE key = 'installation_key'")?
            .query_row((), |row| row.get(0))
            .optional()?;
        let moved = self
            .conn()
            .prepare("SELECT value FROM meta WHERE key = ?1")?
            .query_row([MOVED], |row| row.get(0))
            .optional()?;
        match moved.filter(|_| key.as_ref() == Some(&source.key)) {
            Some(number) => Ok(Found::Whole(number)),
            None => refused(
                "there is an installation in this database already: name an empty one in store.url (dropdb and \
                 createdb make one of it, and everything in it is gone)",
            ),
        }
    }

    fn found_half(&self, source: &Standing) -> Result<Found> {
        let (key, mark): (Vec<u8>, String) = self
            .conn()
            .prepare("SELECT source, mark FROM moving")?
            .query_row((), |row| Ok((row.get(0)?, row.get(1)?)))?;
        let why = match (key == source.key, mark == source.mark()) {
            (true, true) => return Ok(Found::Half),
            (false, _) => "a part of another installation is in this database",
            (true, false) => {
                "a part of this installation is in this database, and the installation has run since"
            }
        };
        Err(MoveError::Refused(format!(
            "{why}: empty the database (dropdb, createdb), name another bus.prefix, and begin again"
        )))
    }

    /// Makes the tables, as those of a half-filled database.
    pub fn begin(&self, source: &Standing) -> Result<()> {
        let made = || {
            schema::make(&self.session)?;
            schema::is_half(&self.session)?;
            self.session.batch(
                "CREATE TABLE moving (source bytea NOT NULL, mark text NOT NULL, appended bigint NOT NULL)",
            )?;
            self.conn()
                .prepare("INSERT INTO moving (source, mark, appended) VALUES (?1, ?2, ?3)")?
                .execute(params![source.key, source.mark(), source.position])?;
            Ok(())
        };
        Ok(transaction::alone(&self.session, made)?)
    }

    /// Makes what is not in every schema.
    pub fn make(&self, table: &Table) -> Result<()> {
        match table.name.starts_with("seen_") && table.name != "seen_lasting" {
            true => Ok(self.session.batch(&seen::made_on_postgres(&table.name))?),
            false => Ok(()),
        }
    }

    /// The key of the last row that is there.
    pub fn last(&self, table: &Table) -> Result<Option<Vec<Value>>> {
        let key = |row: &Row<'_>| (0..table.key.len()).map(|at| row.get(at)).collect();
        Ok(self
            .conn()
            .prepare(&table.last())?
            .query_row((), key)
            .optional()?)
    }

    /// Writes rows, all or none of them.
    pub fn write(&self, table: &Table, batch: &Batch) -> Result<()> {
        self.session.batch_later("BEGIN");
        let mut insert = self.conn().write_each(&table.insert())?;
        for row in &batch.rows {
            insert.add(row.as_slice())?;
        }
        insert.done()?;
        Ok(self.session.batch("COMMIT")?)
    }

    /// The rows behind one key, up to another.
    pub fn read(
        &self,
        table: &Table,
        after: Option<&[Value]>,
        until: &[Value],
    ) -> Result<Vec<Vec<Value>>> {
        let sql = table.select(Side::To, after.is_some(), true);
        let given: Vec<Value> = after
            .unwrap_or_default()
            .iter()
            .chain(until)
            .cloned()
            .collect();
        let mut statement = self.conn().prepare(&sql)?;
        let row = |row: &Row<'_>| (0..table.columns.len()).map(|at| row.get(at)).collect();
        let rows = statement.query_map(given.as_slice(), row)?;
        Ok(rows.collect::<crate::store::sql::Result<_>>()?)
    }

    pub fn count(&self, table: &Table) -> Result<u64> {
        Ok(self.number(&table.count(Side::To))?.unsigned_abs())
    }

    /// Up to which record the bus's undecided ones are on the other bus.
    pub fn appended(&self) -> Result<i64> {
        self.number("SELECT appended FROM moving")
    }

    pub fn note_appended(&self, record: i64) -> Result<()> {
        self.conn()
            .prepare("UPDATE moving SET appended = ?1")?
            .execute([record])?;
        Ok(())
    }

    /// Makes an installation of it that processes run on: numbers go on above those of before, and the topics begin
    /// here.
    pub fn finish(&self, source: &Standing, end: &End<'_>) -> Result<()> {
        let block = source.numbers_end.div_euclid(BLOCK_NUMBERS) + 1;
        let done = || {
            let note = "INSERT INTO meta (key, value) VALUES (?1, ?2)";
            let noted = [
                (BASE, block * BLOCK_NUMBERS),
                (MOVED, end.number),
                end.agreed,
            ];
            for (key, number) in noted {
                self.conn().prepare(note)?.execute(params![key, number])?;
            }
            self.conn()
                .prepare("INSERT INTO relay (name, position, epoch) VALUES (?1, ?2, 0)")?
                .execute(params![end.relay, source.last_event])?;
            schema::is_whole(&self.session)?;
            self.session.batch(&format!(
                "UPDATE sequencer SET last = {}; SELECT setval('id_block', {block}, false);
                 SELECT setval(pg_get_serial_sequence('name', 'id'), coalesce(max(id), 0) + 1, false) FROM name;
                 UPDATE dead_letter SET copied = 1 WHERE copied = 0; DROP TABLE moving",
                source.last_event
            ))?;
            Ok(())
        };
        Ok(transaction::alone(&self.session, done)?)
    }

    /// Has the planner know what is in the tables.
    pub fn analyze(&self, table: &Table) -> Result<()> {
        Ok(self
            .session
            .batch_within(ANALYZE_MAX, &format!("ANALYZE {}", table.name))?)
    }
}
