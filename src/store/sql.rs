//! What the store says to its database is written once, in SQL that each of them understands. Here
//! is the little they have to do for it: prepare, bind, step, and read columns.
//!
//! Parameters and columns are rusqlite's types, whichever database it is: `ToSql` makes an integer, a
//! text, some bytes or nothing of a value, `FromSql` the value of these, and more than these no column
//! has. Parameters are written `?1`, or `?` where each is used once, in order.

use rusqlite::types::FromSql;
pub use rusqlite::types::{ToSql, Value};

use crate::store::StoreError;
#[cfg(feature = "postgres")]
use crate::store::postgres;

/// Why a statement did not do it, or a row does not say what it should.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[cfg(feature = "postgres")]
    #[error("PostgreSQL: {}", postgres::told(.0))]
    Postgres(#[from] tokio_postgres::Error),
    #[cfg(feature = "postgres")]
    #[error("PostgreSQL did not answer within {0:?}")]
    Silent(std::time::Duration),
    #[cfg(feature = "postgres")]
    #[error("{0}")]
    Unauthorized(String),
    #[cfg(feature = "postgres")]
    #[error("no runtime for a connection: {0}")]
    Thread(std::io::Error),
    #[cfg(feature = "postgres")]
    #[error("column {column}: {error}")]
    Column {
        column: usize,
        error: rusqlite::types::FromSqlError,
    },
    #[error("there is no such row")]
    NoRow,
    #[error("column {column} has {value}, which has no meaning here")]
    Meaningless { column: usize, value: i64 },
    /// serde's own words may quote the text.
    #[error(
        "column {column} is no JSON of its kind: {category:?} error at line {line} column {at}"
    )]
    Json {
        column: usize,
        category: serde_json::error::Category,
        line: usize,
        at: usize,
    },
}

pub type Result<T> = std::result::Result<T, Error>;

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        match error {
            Error::Sqlite(error) => Self::from_sqlite(&error),
            #[cfg(feature = "postgres")]
            Error::Postgres(error) => postgres::trouble(&error),
            #[cfg(feature = "postgres")]
            Error::Unauthorized(reason) => Self::Unauthorized(reason),
            #[cfg(feature = "postgres")]
            Error::Silent(_) | Error::Thread(_) => Self::Unavailable(error.to_string()),
            #[cfg(feature = "postgres")]
            Error::Column { .. } => Self::Poisoned(error.to_string()),
            Error::NoRow | Error::Meaningless { .. } | Error::Json { .. } => {
                Self::Poisoned(error.to_string())
            }
        }
    }
}

/// A connection, lent: whoever has it may run statements one after the other.
#[derive(Clone, Copy)]
pub enum Conn<'a> {
    Sqlite(&'a rusqlite::Connection),
    #[cfg(feature = "postgres")]
    Postgres(&'a postgres::Session),
}

impl<'a> From<&'a rusqlite::Connection> for Conn<'a> {
    fn from(conn: &'a rusqlite::Connection) -> Self {
        Self::Sqlite(conn)
    }
}

impl<'a> Conn<'a> {
    /// SQLite's own connection, for what only that database does.
    pub fn of_sqlite(self) -> std::result::Result<&'a rusqlite::Connection, StoreError> {
        match self {
            Self::Sqlite(conn) => Ok(conn),
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => Err(StoreError::Unavailable("another database's".to_owned())),
        }
    }

    /// Has what follows see one state of the database.
    pub fn snapshot(self) -> Result<Snapshot<'a>> {
        match self {
            Self::Sqlite(conn) => Ok(Snapshot::Sqlite(conn.unchecked_transaction()?)),
            // Whatever reads has one already.
            #[cfg(feature = "postgres")]
            Self::Postgres(session) => Ok(Snapshot::Postgres(session)),
        }
    }

    /// UTC microseconds by the database's clock, where processes share it; otherwise `now`.
    pub fn clock(self, now: i64) -> Result<i64> {
        match self {
            Self::Sqlite(_) => Ok(now),
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => self
                .prepare("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")?
                .query_row((), |row| row.get(0)),
        }
    }

    /// Runs statements without parameters that change what tables there are.
    pub fn batch(self, sql: &str) -> Result<()> {
        match self {
            Self::Sqlite(conn) => Ok(conn.execute_batch(sql)?),
            #[cfg(feature = "postgres")]
            Self::Postgres(session) => session.batch(sql),
        }
    }

    /// The statement; what it takes to run is kept with the connection for the next time.
    pub fn prepare(self, sql: &str) -> Result<Statement<'a>> {
        match self {
            Self::Sqlite(conn) => Ok(Statement::Sqlite(conn.prepare_cached(sql)?)),
            #[cfg(feature = "postgres")]
            Self::Postgres(session) => Ok(Statement::Postgres(session, session.prepare(sql)?)),
        }
    }

    /// Runs a statement of which nobody needs to know how many rows it changed. PostgreSQL is sent it with the next
    /// that has an answer; its failure is that one's.
    pub fn write(self, sql: &str, params: impl Params) -> Result<()> {
        match self {
            Self::Sqlite(_) => self.prepare(sql)?.execute(params).map(drop),
            #[cfg(feature = "postgres")]
            Self::Postgres(session) => session.write(sql, &params),
        }
    }

    /// Runs a query once for each set of values it is given, and has `read` make something of every row,
    /// with the place of the values it belongs to. SQLite asks one after the other; PostgreSQL once, for all.
    /// Rows of one set come in the query's order.
    pub fn read_each<F>(self, sql: &str, read: F) -> Result<ReadEach<'a, F>>
    where
        F: FnMut(usize, &Row<'_>) -> Result<()>,
    {
        Ok(ReadEach {
            each: Each::new(self, sql)?,
            read,
            given: 0,
        })
    }

    /// Runs a statement once for each set of values it is given: SQLite at once, PostgreSQL as one statement
    /// with `unnest`, which goes out with the next that has an answer. There no two sets may
    /// name one row of an `UPDATE`, or of an `INSERT` that updates.
    pub fn write_each(self, sql: &str) -> Result<WriteEach<'a>> {
        Ok(WriteEach {
            each: Each::new(self, sql)?,
        })
    }
}

/// A statement, and the sets of values it is to be run with.
enum Each<'a> {
    Sqlite(rusqlite::CachedStatement<'a>),
    #[cfg(feature = "postgres")]
    Postgres(postgres::Given<'a>),
}

impl<'a> Each<'a> {
    fn new(conn: Conn<'a>, sql: &str) -> Result<Self> {
        match conn {
            Conn::Sqlite(conn) => Ok(Self::Sqlite(conn.prepare_cached(sql)?)),
            #[cfg(feature = "postgres")]
            Conn::Postgres(session) => Ok(Self::Postgres(session.given(sql)?)),
        }
    }
}

/// See [`Conn::read_each`].
#[must_use = "what is not done is not asked"]
pub struct ReadEach<'a, F> {
    each: Each<'a>,
    read: F,
    given: usize,
}

impl<F: FnMut(usize, &Row<'_>) -> Result<()>> ReadEach<'_, F> {
    pub fn add(&mut self, params: impl Params) -> Result<()> {
        let place = self.given;
        self.given += 1;
        match &mut self.each {
            Each::Sqlite(statement) => {
                bind(statement, &params)?;
                let mut rows = statement.raw_query();
                while let Some(row) = rows.next()? {
                    (self.read)(place, &Row::Sqlite(row))?;
                }
                Ok(())
            }
            #[cfg(feature = "postgres")]
            Each::Postgres(given) => given.add(&params),
        }
    }

    pub fn done(self) -> Result<()> {
        match self.each {
            Each::Sqlite(_) => Ok(()),
            #[cfg(feature = "postgres")]
            Each::Postgres(given) => {
                let mut read = self.read;
                given.read(|place, row| read(place, &Row::PostgresOf(row)))
            }
        }
    }
}

/// See [`Conn::write_each`].
#[must_use = "what is not done is not written"]
pub struct WriteEach<'a> {
    each: Each<'a>,
}

impl WriteEach<'_> {
    pub fn add(&mut self, params: impl Params) -> Result<()> {
        match &mut self.each {
            Each::Sqlite(statement) => {
                bind(statement, &params)?;
                statement.raw_execute()?;
                Ok(())
            }
            #[cfg(feature = "postgres")]
            Each::Postgres(given) => given.add(&params),
        }
    }

    pub fn done(self) -> Result<()> {
        match self.each {
            Each::Sqlite(_) => Ok(()),
            #[cfg(feature = "postgres")]
            Each::Postgres(given) => given.write(),
        }
    }
}

/// What holds still while several questions are asked; nothing was written when it is dropped.
pub enum Snapshot<'a> {
    Sqlite(rusqlite::Transaction<'a>),
    #[cfg(feature = "postgres")]
    Postgres(&'a postgres::Session),
}

impl Snapshot<'_> {
    pub fn conn(&self) -> Conn<'_> {
        match self {
            Self::Sqlite(open) => Conn::Sqlite(open),
            #[cfg(feature = "postgres")]
            Self::Postgres(session) => Conn::Postgres(session),
        }
    }
}

/// A statement that can be run, again and again.
pub enum Statement<'a> {
    Sqlite(rusqlite::CachedStatement<'a>),
    #[cfg(feature = "postgres")]
    Postgres(&'a postgres::Session, tokio_postgres::Statement),
}

impl Statement<'_> {
    /// Runs it; how many rows it changed.
    pub fn execute(&mut self, params: impl Params) -> Result<usize> {
        match self {
            Self::Sqlite(statement) => {
                bind(statement, &params)?;
                Ok(statement.raw_execute()?)
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(session, statement) => session.execute(statement, &params),
        }
    }

    /// Its rows, one after the other.
    pub fn query(&mut self, params: impl Params) -> Result<Rows<'_>> {
        match self {
            Self::Sqlite(statement) => {
                bind(statement, &params)?;
                Ok(Rows::Sqlite(statement.raw_query()))
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(session, statement) => {
                let rows = session.query(statement, &params)?;
                Ok(Rows::Postgres(rows.into_iter()))
            }
        }
    }

    /// What `read` makes of each of its rows.
    pub fn query_map<T, F>(&mut self, params: impl Params, read: F) -> Result<MappedRows<'_, F>>
    where
        F: FnMut(&Row<'_>) -> Result<T>,
    {
        let rows = self.query(params)?;
        Ok(MappedRows { rows, read })
    }

    /// What `read` makes of its first row; [`Error::NoRow`] without one.
    pub fn query_row<T>(
        &mut self,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> Result<T>,
    ) -> Result<T> {
        let mut rows = self.query(params)?;
        let row = rows.next_row()?.ok_or(Error::NoRow)?;
        read(&row)
    }

    /// Whether it has a row.
    pub fn exists(&mut self, params: impl Params) -> Result<bool> {
        Ok(self.query(params)?.next_row()?.is_some())
    }
}

fn bind(statement: &mut rusqlite::CachedStatement<'_>, params: &impl Params) -> Result<()> {
    let mut given = 0;
    params.each(&mut |value| {
        given += 1;
        Ok(statement.raw_bind_parameter(given, value)?)
    })?;
    let wanted = statement.parameter_count();
    match given == wanted {
        true => Ok(()),
        // What is not bound keeps what was bound before.
        false => Err(rusqlite::Error::InvalidParameterCount(given, wanted).into()),
    }
}

/// Rows that are read as they are asked for.
pub enum Rows<'s> {
    Sqlite(rusqlite::Rows<'s>),
    #[cfg(feature = "postgres")]
    Postgres(std::vec::IntoIter<tokio_postgres::Row>),
}

impl Rows<'_> {
    pub fn next_row(&mut self) -> Result<Option<Row<'_>>> {
        match self {
            Self::Sqlite(rows) => Ok(rows.next()?.map(Row::Sqlite)),
            #[cfg(feature = "postgres")]
            Self::Postgres(rows) => Ok(rows.next().map(Row::Postgres)),
        }
    }
}

/// Rows, and what is made of each.
pub struct MappedRows<'s, F> {
    rows: Rows<'s>,
    read: F,
}

impl<T, F: FnMut(&Row<'_>) -> Result<T>> Iterator for MappedRows<'_, F> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Result<T>> {
        match self.rows.next_row() {
            Ok(Some(row)) => Some((self.read)(&row)),
            Ok(None) => None,
            Err(error) => Some(Err(error)),
        }
    }
}

/// One row; columns count from 0.
pub enum Row<'r> {
    Sqlite(&'r rusqlite::Row<'r>),
    #[cfg(feature = "postgres")]
    Postgres(tokio_postgres::Row),
    /// Behind the place that its first column has.
    #[cfg(feature = "postgres")]
    PostgresOf(&'r tokio_postgres::Row),
}

impl Row<'_> {
    pub fn get<T: FromSql>(&self, column: usize) -> Result<T> {
        match self {
            Self::Sqlite(row) => Ok(row.get(column)?),
            #[cfg(feature = "postgres")]
            Self::Postgres(row) => postgres::column(row, column),
            #[cfg(feature = "postgres")]
            Self::PostgresOf(row) => postgres::column(row, column + 1),
        }
    }
}

/// A row that may be missing.
pub trait Optional<T> {
    fn optional(self) -> Result<Option<T>>;
}

impl<T> Optional<T> for Result<T> {
    fn optional(self) -> Result<Option<T>> {
        match self {
            Ok(found) => Ok(Some(found)),
            Err(Error::NoRow) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// What a statement is run with.
pub trait Params {
    /// Gives each value to `bind`, in order.
    fn each(&self, bind: &mut dyn FnMut(&dyn ToSql) -> Result<()>) -> Result<()>;
}

impl<T: ToSql> Params for &[T] {
    fn each(&self, bind: &mut dyn FnMut(&dyn ToSql) -> Result<()>) -> Result<()> {
        self.iter().try_for_each(|value| bind(value))
    }
}

impl<T: ToSql, const N: usize> Params for [T; N] {
    fn each(&self, bind: &mut dyn FnMut(&dyn ToSql) -> Result<()>) -> Result<()> {
        self.iter().try_for_each(|value| bind(value))
    }
}

impl Params for () {
    fn each(&self, _bind: &mut dyn FnMut(&dyn ToSql) -> Result<()>) -> Result<()> {
        Ok(())
    }
}

/// Values of several types, in order.
#[macro_export]
#[doc(hidden)]
macro_rules! sql_params {
    ($($value:expr),* $(,)?) => {
        &[$(&$value as &dyn $crate::store::sql::ToSql),*] as &[&dyn $crate::store::sql::ToSql]
    };
}
pub use sql_params as params;
