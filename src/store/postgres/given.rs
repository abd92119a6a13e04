//! A statement for many sets of values at once: what the store says for one of them is put in PostgreSQL's
//! words for all, with the values as one array a parameter.

use tokio_postgres::Row;

use crate::store::sql::{Params, Result};

use super::session::{Session, Value};
use super::values::Bound;

/// A statement with the values it has been given so far.
pub struct Given<'a> {
    session: &'a Session,
    statement: tokio_postgres::Statement,
    /// A column for each parameter.
    columns: Vec<Vec<Bound>>,
}

impl Session {
    /// A statement that takes many sets of values.
    pub fn given(&self, sql: &str) -> Result<Given<'_>> {
        let statement = self.prepare_as(&format!("each {sql}"), || {
            let one = self.prepare(sql)?;
            let kinds: Vec<&str> = one.params().iter().map(|kind| kind.name()).collect();
            Ok(for_all(sql, &kinds))
        })?;
        let columns = statement.params().iter().map(|_| Vec::new()).collect();
        Ok(Given {
            session: self,
            statement,
            columns,
        })
    }
}

impl Given<'_> {
    pub fn add(&mut self, params: &impl Params) -> Result<()> {
        let mut columns = self.columns.iter_mut();
        params.each(&mut |value| {
            let bound = Bound::of(value)?;
            if let Some(column) = columns.next() {
                column.push(bound);
            }
            Ok(())
        })
    }

    fn is_empty(&self) -> bool {
        self.columns.first().is_none_or(Vec::is_empty)
    }

    /// Sends it, with whatever is asked next; an error is that one's.
    pub fn write(self) -> Result<()> {
        if !self.is_empty() {
            let values = self.columns.into_iter().map(Value::Many).collect();
            self.session.execute_later(self.statement, values);
        }
        Ok(())
    }

    /// Asks, and gives each row with the place of its values.
    pub fn read(self, mut read: impl FnMut(usize, &Row) -> Result<()>) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        let values: Vec<Value> = self.columns.into_iter().map(Value::Many).collect();
        for row in self.session.query_values(&self.statement, &values)? {
            let place: i64 = row.try_get(0)?;
            read(usize::try_from(place - 1).unwrap_or_default(), &row)?;
        }
        Ok(())
    }
}

/// The statement in words for all sets: parameters of these types become arrays, and `?1` the column of a row
/// of them.
fn for_all(sql: &str, kinds: &[&str]) -> String {
    let sql = named(&sql.split_whitespace().collect::<Vec<_>>().join(" "));
    let arrays = (1..)
        .zip(kinds)
        .map(|(at, kind)| format!("${at}::{kind}[]"));
    let names = (1..=kinds.len()).map(|at| format!("p{at}"));
    let (arrays, names) = (joined(arrays), joined(names));
    let rows = format!("unnest({arrays}) WITH ORDINALITY AS given ({names}, place)");
    if let Some((head, values)) = split(&sql, " VALUES ") {
        let end = closing(values);
        let (row, rest) = values.split_at(end);
        let row = row.trim_start_matches('(');
        let rest = rest.trim_start_matches(')');
        // In order: rows are locked, and counted, as they come.
        return format!("{head} SELECT {row} FROM {rows} ORDER BY given.place{rest}");
    }
    let condition = split(&sql, " WHERE ");
    match condition {
        Some((head, condition)) if sql.starts_with("UPDATE ") => {
            format!("{head} FROM {rows} WHERE {condition}")
        }
        Some((head, condition)) if sql.starts_with("DELETE ") => {
            format!("{head} USING {rows} WHERE {condition}")
        }
        _ => format!("SELECT given.place, found.* FROM {rows} CROSS JOIN LATERAL ({sql}) AS found"),
    }
}

/// `given.p1` for `?1` and for the first `?`.
fn named(sql: &str) -> String {
    let mut named = String::with_capacity(sql.len() + 64);
    let (mut quoted, mut given) = (false, 0);
    let mut rest = sql.chars().peekable();
    while let Some(next) = rest.next() {
        quoted ^= next == '\'';
        if next != '?' || quoted {
            named.push(next);
            continue;
        }
        named.push_str("given.p");
        if !rest.peek().is_some_and(char::is_ascii_digit) {
            given += 1;
            named.push_str(&given.to_string());
        }
    }
    named
}

fn joined(words: impl Iterator<Item = String>) -> String {
    words.collect::<Vec<_>>().join(", ")
}

/// At the first of these words that stands in no brackets.
fn split<'a>(sql: &'a str, words: &str) -> Option<(&'a str, &'a str)> {
    let outside = |at: &usize| {
        let before = sql.get(..*at).unwrap_or_default();
        before.matches('(').count() == before.matches(')').count()
    };
    let at = sql
        .match_indices(words)
        .map(|(at, _)| at)
        .find(|at| outside(at))?;
    Some((sql.get(..at)?, sql.get(at + words.len()..)?))
}

/// Where the bracket closes that a text begins with.
fn closing(text: &str) -> usize {
    let mut open = 0;
    for (at, next) in text.char_indices() {
        open += i32::from(next == '(') - i32::from(next == ')');
        if open == 0 {
            return at;
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::for_all;

    #[test]
    fn what_is_said_for_one_set_of_values_is_said_for_all() {
        let rows = "unnest($1::int8[], $2::text[]) WITH ORDINALITY AS given (p1, p2, place)";
        for (one, all) in [
            (
                "INSERT INTO guest (contact, note) VALUES (?1, coalesce(?2, '?'))\n ON CONFLICT DO NOTHING",
                format!(
                    "INSERT INTO guest (contact, note) SELECT given.p1, coalesce(given.p2, '?') FROM {rows} \
                     ORDER BY given.place ON CONFLICT DO NOTHING"
                ),
            ),
            (
                "UPDATE contact SET name = ?2, version = version + 1 WHERE id = ?1",
                format!(
                    "UPDATE contact SET name = given.p2, version = version + 1 FROM {rows} WHERE id = given.p1"
                ),
            ),
            (
                "DELETE FROM draft WHERE conversation = ?1 AND agent = ?2",
                format!(
                    "DELETE FROM draft USING {rows} WHERE conversation = given.p1 AND agent = given.p2"
                ),
            ),
            (
                "SELECT id FROM contact WHERE id = ? AND name = ?",
                format!(
                    "SELECT given.place, found.* FROM {rows} CROSS JOIN LATERAL \
                     (SELECT id FROM contact WHERE id = given.p1 AND name = given.p2) AS found"
                ),
            ),
        ] {
            assert_eq!(for_all(one, &["int8", "text"]), all);
        }
    }
}
