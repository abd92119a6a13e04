//! Everything that became of what was delivered, as sorted lines of text: the whole store apart
//! from ids, times and the sequence of events, so that two stores can be compared.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::Connection;
use rusqlite::types::ValueRef;
use serde_json::Value;
use switchboard::blobs::{hex, sha256};
use switchboard::bus::{Content, decode};

/// Tables of what was accepted (every delivery is), of the installation, of its users, and when each
/// channel was last heard, as of the last look.
const LEFT_OUT: [&str; 13] = [
    "heard",
    "meta",
    "secret",
    "name",
    "log",
    "body",
    "raw",
    "blob",
    "position",
    "attempt",
    "cursor",
    "token",
    "idempotency",
];
/// Integers from here on are times.
const LARGE: i64 = 1_000_000_000_000;
/// Smaller ones are counts and codes. Ids are reserved in thousands at every start, so those of a
/// daemon that was started twice are above this.
const SMALLEST_ID: i64 = 10_000;

/// Names by which rows are the same in two stores.
type Names = BTreeMap<i64, String>;

/// A store as lines: the table, then each column with its value. Rows bear what they say instead
/// of their ids.
pub fn dump(database: &Path) -> Vec<String> {
    let conn = Connection::open(database).unwrap();
    let names = names(&conn);
    let mut tables: Vec<String> = strings(
        &conn,
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT GLOB 'sqlite_*'",
    );
    // What is searched is made of the rest, in whatever pieces it was fed.
    tables.retain(|table| !LEFT_OUT.contains(&table.as_str()) && !table.contains("search"));
    let mut lines: Vec<String> = tables
        .iter()
        .flat_map(|table| lines_of(&conn, table, &names))
        .collect();
    lines.sort();
    lines
}

fn lines_of(conn: &Connection, table: &str, names: &Names) -> Vec<String> {
    let mut statement = conn.prepare(&format!("SELECT * FROM {table}")).unwrap();
    let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let mut rows = statement.query([]).unwrap();
    let mut lines = Vec::new();
    while let Some(row) = rows.next().unwrap() {
        let mut line = table.to_owned();
        for (at, column) in columns.iter().enumerate() {
            // A digest is keyed by the installation; the row's name says what it is of.
            if (table == "event" && column == "seq") || column == "digest" {
                continue;
            }
            let value = shown(row.get_ref(at).unwrap(), names);
            line += &format!(" {column}={value}");
        }
        lines.push(line);
    }
    lines
}

fn shown(value: ValueRef<'_>, names: &Names) -> String {
    match value {
        ValueRef::Null => "-".to_owned(),
        ValueRef::Integer(number) => number_shown(number, names),
        ValueRef::Real(number) => number.to_string(),
        ValueRef::Blob(bytes) => hex(bytes),
        ValueRef::Text(text) => {
            let text = std::str::from_utf8(text).unwrap();
            match serde_json::from_str(text) {
                Ok(json) => json_shown(json, names).to_string(),
                Err(_) => format!("{text:?}"),
            }
        }
    }
}

fn number_shown(number: i64, names: &Names) -> String {
    match names.get(&number) {
        Some(name) if number >= SMALLEST_ID => format!("<{name}>"),
        _ if number.abs() >= LARGE => "large".to_owned(),
        _ => number.to_string(),
    }
}

fn json_shown(json: Value, names: &Names) -> Value {
    match json {
        Value::Number(number) => match number.as_i64() {
            Some(number) if number >= SMALLEST_ID => number_shown(number, names).into(),
            _ => Value::Number(number),
        },
        Value::Array(items) => items
            .into_iter()
            .map(|item| json_shown(item, names))
            .collect(),
        Value::Object(fields) => {
            let fields = fields.into_iter();
            fields
                .map(|(key, value)| (key, json_shown(value, names)))
                .collect()
        }
        other => other,
    }
}

fn names(conn: &Connection) -> Names {
    let mut names = Names::new();
    let mut bodies = conn.prepare("SELECT id, content FROM body").unwrap();
    let mut rows = bodies.query([]).unwrap();
    while let Some(row) = rows.next().unwrap() {
        let content: Vec<u8> = row.get(1).unwrap();
        let name = match decode(&content) {
            Content::Envelope(record) => {
                let said = serde_json::to_vec(&record.event).unwrap();
                let said: String = hex(&sha256(&said)).chars().take(12).collect();
                format!("{} {} {said}", record.channel, record.event.dedupe_key)
            }
            // What we wrote ourselves, without the number of what it answers.
            _ => written(&content),
        };
        names.insert(row.get(0).unwrap(), name);
    }
    let mut identities = conn
        .prepare("SELECT id, contact, namespace || ' ' || address FROM identity ORDER BY 3")
        .unwrap();
    let mut rows = identities.query([]).unwrap();
    while let Some(row) = rows.next().unwrap() {
        let name: String = row.get(2).unwrap();
        let contact = names
            .entry(row.get(1).unwrap())
            .or_insert_with(|| "contact".to_owned());
        *contact += &format!(", {name}");
        names.insert(row.get(0).unwrap(), format!("identity {name}"));
    }
    names
}

fn written(content: &[u8]) -> String {
    let mut said: Value = serde_json::from_slice(content).unwrap();
    if let Some(to) = said.get_mut("to").and_then(Value::as_object_mut) {
        to.remove("answers");
    }
    said.to_string()
}

fn strings(conn: &Connection, sql: &str) -> Vec<String> {
    let mut statement = conn.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.collect::<rusqlite::Result<_>>().unwrap()
}
