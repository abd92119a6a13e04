//! One connection, used by one thread: statements wait for their answers, as those of SQLite do, so that
//! the same code asks both. The connection's own work is done on this thread, too, while it waits.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, NoTls, Row, Statement};

use crate::store::sql::{Error, Params, Result};

use super::values::Bound;

/// How long a connection may take to come about.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// A connection that waits.
pub struct Session {
    runtime: Runtime,
    client: Client,
    /// Prepared statements, by what they were asked for as.
    prepared: RefCell<HashMap<String, Statement>>,
}

impl Session {
    pub fn connect(config: &Config) -> Result<Self> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Error::Thread)?;
        let connecting = async {
            tokio::time::timeout(CONNECT_MAX, config.connect(NoTls))
                .await
                .map_err(|_| Error::Connecting(CONNECT_MAX))?
                .map_err(Error::Postgres)
        };
        let (client, connection) = runtime.block_on(connecting)?;
        // It ends when the client is dropped, or when the server ends it: then the next statement says so.
        runtime.spawn(async move { drop(connection.await) });
        Ok(Self {
            runtime,
            client,
            prepared: RefCell::default(),
        })
    }

    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Runs statements without parameters.
    pub fn batch(&self, sql: &str) -> Result<()> {
        Ok(self.runtime.block_on(self.client.batch_execute(sql))?)
    }

    pub fn prepare(&self, sql: &str) -> Result<Statement> {
        if let Some(known) = self.prepared.borrow().get(sql) {
            return Ok(known.clone());
        }
        let statement = self
            .runtime
            .block_on(self.client.prepare(&translated(sql)))?;
        self.prepared
            .borrow_mut()
            .insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    /// How many rows it changed.
    pub fn execute(&self, statement: &Statement, params: &impl Params) -> Result<usize> {
        let bound = bound(params)?;
        let changed = self
            .runtime
            .block_on(self.client.execute(statement, &borrowed(&bound)))?;
        Ok(usize::try_from(changed).unwrap_or(usize::MAX))
    }

    pub fn query(&self, statement: &Statement, params: &impl Params) -> Result<Vec<Row>> {
        let bound = bound(params)?;
        Ok(self
            .runtime
            .block_on(self.client.query(statement, &borrowed(&bound)))?)
    }
}

fn bound(params: &impl Params) -> Result<Vec<Bound>> {
    let mut bound = Vec::new();
    params.each(&mut |value| {
        bound.push(Bound::of(value)?);
        Ok(())
    })?;
    Ok(bound)
}

fn borrowed(bound: &[Bound]) -> Vec<&(dyn ToSql + Sync)> {
    bound
        .iter()
        .map(|value| value as &(dyn ToSql + Sync))
        .collect()
}

/// The statement in PostgreSQL's words: `$1` for `?1` and for the first `?`, and no advice to a planner
/// that does not take any.
fn translated(sql: &str) -> String {
    let mut translated = String::with_capacity(sql.len() + 8);
    let (mut quoted, mut given) = (false, 0);
    let mut rest = sql.chars().peekable();
    while let Some(next) = rest.next() {
        quoted ^= next == '\'';
        if next != '?' || quoted {
            translated.push(next);
            continue;
        }
        translated.push('$');
        if !rest.peek().is_some_and(char::is_ascii_digit) {
            given += 1;
            translated.push_str(&given.to_string());
        }
    }
    match translated.split_once(" INDEXED BY ") {
        Some((before, after)) => {
            let after = after.trim_start_matches(|next: char| !next.is_whitespace());
            format!("{before}{after}")
        }
        None => translated,
    }
}

#[cfg(test)]
mod tests {
    use super::translated;

    #[test]
    fn parameters_are_numbered_and_texts_are_left_alone() {
        for (said, meant) in [
            ("SELECT ?1, '?', ?12", "SELECT $1, '?', $12"),
            ("a = ? AND b = ? LIMIT ?", "a = $1 AND b = $2 LIMIT $3"),
            (
                "FROM conversation INDEXED BY conversation_ended WHERE id = ?1",
                "FROM conversation WHERE id = $1",
            ),
        ] {
            assert_eq!(translated(said), meant);
        }
    }
}
