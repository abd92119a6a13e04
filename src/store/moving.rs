//! Moving an installation from one store to another, table by table and row by row: what a table is for that, and
//! what says that two of them hold the same. Both stores have the same tables, so a row is its values.

use aws_lc_rs::digest;
pub use rusqlite::types::Value;

use super::StoreError;
use super::rows::SCHEMA;
use super::rows::operating::referred;

/// Why nothing was moved, or not all of it. What was copied stays.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// For a person to put right, with what to do.
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    Store(#[from] StoreError),
}

impl From<super::sql::Error> for MoveError {
    fn from(error: super::sql::Error) -> Self {
        Self::Store(error.into())
    }
}

impl From<rusqlite::Error> for MoveError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.into())
    }
}

pub type Result<T> = std::result::Result<T, MoveError>;

/// Rows and bytes of one step: what is in memory at a time, and what an interruption costs.
const BATCH_ROWS_MAX: usize = 5_000;
const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Tables that stay where they are, each for its reason.
const STAYS: [&str; 11] = [
    // Of the embedded bus. What it has not decided is appended to the other one, where it is counted anew.
    "log",
    "position",
    "attempt",
    "topic_partition",
    // Of the processes of an installation.
    "lease",
    "process",
    "relay",
    "tried",
    // Of the index, which is made anew.
    "search_cursor",
    "search_scope",
    "search_moved",
];
/// Numbers that are the installation's; others are those of a store.
const NUMBERS: &str = "key IN ('events_floor', 'events_resumed')";
/// What came with records: their number is in this column. What nothing refers to goes with its entry of the log.
const BESIDE_RECORDS: [(&str, &str); 3] = [("body", "id"), ("raw", "id"), ("blob", "body")];

/// The tables of the schema that are moved, by name.
pub fn moved_tables() -> Vec<&'static str> {
    let made = SCHEMA.split("CREATE TABLE ").skip(1);
    let names = made.filter_map(|rest| rest.split_whitespace().next());
    let mut names: Vec<&str> = names.filter(|name| !STAYS.contains(name)).collect();
    names.sort_unstable();
    names
}

/// A table, as it is read and written in order of its key.
#[derive(Debug, Clone)]
pub struct Table {
    pub name: String,
    pub columns: Vec<String>,
    /// Places of the key's columns among them.
    pub key: Vec<usize>,
}

/// On which side of the move a table is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    From,
    To,
}

impl Table {
    /// Which rows of it are the installation's to move.
    pub fn rows(&self, side: Side) -> String {
        let beside = BESIDE_RECORDS.iter().find(|(name, _)| *name == self.name);
        match (beside, side) {
            _ if self.name == "meta" => NUMBERS.to_owned(),
            (Some((name, column)), Side::From) => {
                let record = format!("{name}.{column}");
                let logged = format!("EXISTS (SELECT 1 FROM log WHERE record = {record})");
                format!("(NOT {logged} OR {})", referred(&record))
            }
            _ => "TRUE".to_owned(),
        }
    }

    /// The query of its rows in order, behind a key and up to another one; parameters in that order.
    pub fn select(&self, side: Side, after: bool, until: bool) -> String {
        let keys = self.key_names().join(", ");
        let mut given = 0;
        let mut bound = |sign: &str| {
            let places = self.key.iter().map(|_| {
                given += 1;
                format!("?{given}")
            });
            let places: Vec<String> = places.collect();
            format!(" AND ({keys}) {sign} ({})", places.join(", "))
        };
        let after = if after { bound(">") } else { String::new() };
        let until = if until { bound("<=") } else { String::new() };
        format!(
            "SELECT {} FROM {} WHERE {}{after}{until} ORDER BY {keys} LIMIT {}",
            self.columns.join(", "),
            self.name,
            self.rows(side),
            BATCH_ROWS_MAX + usize::from(side == Side::To),
        )
    }

    pub fn insert(&self) -> String {
        let places: Vec<String> = (1..=self.columns.len())
            .map(|at| format!("?{at}"))
            .collect();
        let (columns, places) = (self.columns.join(", "), places.join(", "));
        format!("INSERT INTO {} ({columns}) VALUES ({places})", self.name)
    }

    /// The query of its last key.
    pub fn last(&self) -> String {
        let names = self.key_names();
        let back: Vec<String> = names.iter().map(|name| format!("{name} DESC")).collect();
        format!(
            "SELECT {} FROM {} WHERE {} ORDER BY {} LIMIT 1",
            names.join(", "),
            self.name,
            self.rows(Side::To),
            back.join(", ")
        )
    }

    pub fn count(&self, side: Side) -> String {
        format!(
            "SELECT count(*) FROM {} WHERE {}",
            self.name,
            self.rows(side)
        )
    }

    fn key_names(&self) -> Vec<&str> {
        let columns = self.key.iter().filter_map(|at| self.columns.get(*at));
        columns.map(String::as_str).collect()
    }

    /// The key of a row.
    pub fn key_of(&self, row: &[Value]) -> Vec<Value> {
        self.key
            .iter()
            .filter_map(|at| row.get(*at))
            .cloned()
            .collect()
    }
}

/// Rows as they come, until a step has enough of them.
#[derive(Debug, Default)]
pub struct Batch {
    pub rows: Vec<Vec<Value>>,
    bytes: usize,
}

impl Batch {
    /// Takes a row; whether there is room for another one.
    pub fn add(&mut self, row: Vec<Value>) -> bool {
        let bytes = |value: &Value| match value {
            Value::Text(text) => text.len(),
            Value::Blob(bytes) => bytes.len(),
            _ => 8,
        };
        self.bytes += row.iter().map(bytes).sum::<usize>();
        self.rows.push(row);
        self.rows.len() < BATCH_ROWS_MAX && self.bytes < BATCH_BYTES_MAX
    }
}

/// A value as every store keeps it: PostgreSQL's text has no NUL.
pub fn kept(value: Value) -> Value {
    match value {
        Value::Text(text) if text.contains('\0') => Value::Text(text.replace('\0', "\u{fffd}")),
        value => value,
    }
}

/// What says whether two tables hold the same: how many rows, and a digest over all of their values in order.
pub struct Sum {
    pub rows: u64,
    hash: digest::Context,
}

impl Default for Sum {
    fn default() -> Self {
        Self {
            rows: 0,
            hash: digest::Context::new(&digest::SHA256),
        }
    }
}

impl Sum {
    /// Adds a row. Each value is behind its kind and length, so that none runs into the next.
    pub fn add(&mut self, row: &[Value]) {
        self.rows += 1;
        for value in row {
            match value {
                Value::Null => self.hash.update(&[0]),
                Value::Integer(number) => {
                    self.hash.update(&[1]);
                    self.hash.update(&number.to_be_bytes());
                }
                Value::Real(number) => {
                    self.hash.update(&[2]);
                    self.hash.update(&number.to_be_bytes());
                }
                Value::Text(text) => self.bytes(3, text.as_bytes()),
                Value::Blob(bytes) => self.bytes(4, bytes),
            }
        }
    }

    fn bytes(&mut self, kind: u8, bytes: &[u8]) {
        self.hash.update(&[kind]);
        self.hash.update(&(bytes.len() as u64).to_be_bytes());
        self.hash.update(bytes);
    }

    pub fn sha256(self) -> [u8; 32] {
        let mut sum = [0; 32];
        sum.copy_from_slice(self.hash.finish().as_ref());
        sum
    }
}

/// What is to be known of an installation before it is moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Which installation it is.
    pub key: Vec<u8>,
    pub last_event: i64,
    /// Above every number that it gave out.
    pub numbers_end: i64,
    /// How far its bus is decided, and how much of it is not.
    pub position: i64,
    pub undecided: u64,
}

impl Standing {
    /// Tells one that ran since from one that did not, as far as a look can.
    pub fn mark(&self) -> String {
        let Self {
            last_event,
            numbers_end,
            position,
            undecided,
            ..
        } = self;
        format!("{last_event} {numbers_end} {position} {undecided}")
    }
}

/// A record that was accepted and not decided.
pub struct Undecided {
    pub record: i64,
    pub arrived_at: i64,
    pub record_key: u64,
    pub body: Vec<u8>,
    pub raw: Option<crate::bus::NewBlob>,
    pub blobs: Vec<crate::bus::NewBlob>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_is_moved_or_stays_for_a_reason() {
        let moved = moved_tables();
        let made = SCHEMA.matches("CREATE TABLE ").count();
        assert_eq!(moved.len() + STAYS.len(), made, "of STAYS each is a table");
        for table in [
            "meta", "secret", "message", "outbox", "timer", "token", "cursor",
        ] {
            assert!(moved.contains(&table), "{table}");
        }
        for (table, _) in BESIDE_RECORDS {
            assert!(moved.contains(&table), "{table}");
        }
    }

    #[test]
    fn values_that_run_together_are_other_values() {
        let sum = |rows: &[Vec<Value>]| {
            let mut sum = Sum::default();
            rows.iter().for_each(|row| sum.add(row));
            sum.sha256()
        };
        let text = |text: &str| Value::Text(text.to_owned());
        let one = sum(&[vec![text("ab"), text("c")]]);
        for other in [
            vec![text("a"), text("bc")],
            vec![text("ab"), Value::Blob(b"c".to_vec())],
            vec![text("ab"), text("c"), Value::Null],
        ] {
            assert_ne!(one, sum(&[other]));
        }
        assert_eq!(one, sum(&[vec![text("ab"), text("c")]]));
        assert_eq!(kept(text("a\0b")), text("a\u{fffd}b"));
    }
}
