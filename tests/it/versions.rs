//! Upgrades: what the version before wrote, and what the version after will have written, meets this build.
//! `tests/fixtures/schema` has the tables of each earlier version, as it made them.

use std::collections::BTreeSet;

use rusqlite::Connection;
use switchboard::bus::{Content, ENVELOPE_MAJOR, Envelope, decode};
use switchboard::store::StoreError;
use switchboard::store::rows::migrations::{Found, SCHEMA_OLDEST, SCHEMA_VERSION, steps};
use switchboard::store::sqlite::SqliteStore;

use crate::support::{channels, chat, names, queues};

const EARLIER_SQLITE: [&str; 3] = [
    include_str!("../fixtures/schema/1.sqlite.sql"),
    include_str!("../fixtures/schema/2.sqlite.sql"),
    include_str!("../fixtures/schema/3.sqlite.sql"),
];
#[cfg(feature = "postgres")]
const EARLIER_POSTGRES: [&str; 3] = [
    include_str!("../fixtures/schema/1.postgres.sql"),
    include_str!("../fixtures/schema/2.postgres.sql"),
    include_str!("../fixtures/schema/3.postgres.sql"),
];

#[test]
fn a_database_is_used_or_migrated_or_refused_by_the_versions_it_tells_of() {
    let newest = SCHEMA_VERSION;
    let check = |version, oldest, expected: Option<&[i64]>| {
        let found = steps(Found { version, oldest });
        let led = found.map(|steps| steps.iter().map(|step| step.to).collect::<Vec<_>>());
        assert_eq!(led.ok().as_deref(), expected, "{version}, {oldest}");
    };
    let all: Vec<i64> = (2..=newest).collect();
    check(1, 1, Some(&all));
    check(newest - 1, 1, Some(&[newest]));
    check(newest, SCHEMA_OLDEST, Some(&[]));
    // The next version, while processes are replaced by it one after the other; and one that goes too far.
    check(newest + 1, newest, Some(&[]));
    check(newest + 5, newest - 1, Some(&[]));
    check(newest + 1, newest + 1, None);
    // The version before can go on meanwhile.
    const { assert!(SCHEMA_OLDEST < SCHEMA_VERSION) };
}

/// Every table, index and trigger as SQLite keeps it, spaces aside.
fn tables(conn: &Connection) -> BTreeSet<String> {
    let sql = "SELECT type || ' ' || name || ': ' || coalesce(sql, '') FROM sqlite_master WHERE name NOT GLOB 'seen_*'";
    let mut asked = conn.prepare(sql).unwrap();
    let rows = asked.query_map([], |row| row.get::<_, String>(0)).unwrap();
    rows.map(|row| {
        row.unwrap()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    })
    .collect()
}

fn sqlite(dir: &tempfile::TempDir) -> Connection {
    Connection::open(dir.path().join("switchboard.db")).unwrap()
}

#[test]
fn sqlite_tables_of_every_earlier_version_become_those_of_a_new_database() {
    let new = tempfile::tempdir().unwrap();
    drop(SqliteStore::open(new.path(), &names(), &queues()).unwrap());
    for (at, schema) in EARLIER_SQLITE.iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        sqlite(&dir).execute_batch(schema).unwrap();
        for opening in ["first", "second"] {
            drop(SqliteStore::open(dir.path(), &names(), &queues()).unwrap());
            assert_eq!(
                tables(&sqlite(&dir)),
                tables(&sqlite(&new)),
                "from version {}, {opening} opening",
                at + 1
            );
        }
    }
}

#[test]
fn sqlite_tables_of_a_later_version_are_used_if_that_says_so_and_else_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(SqliteStore::open(dir.path(), &names(), &queues()).unwrap());
    for (oldest, opens) in [(SCHEMA_VERSION, true), (SCHEMA_VERSION + 1, false)] {
        let later = format!(
            "PRAGMA user_version = {}; UPDATE meta SET value = {oldest} WHERE key = 'schema_oldest'",
            SCHEMA_VERSION + 1
        );
        sqlite(&dir).execute_batch(&later).unwrap();
        let opened = SqliteStore::open(dir.path(), &names(), &queues());
        match opened {
            Ok(_) => assert!(opens, "{oldest}"),
            Err(error) => assert!(!opens && says_what_to_do(&error), "{error}"),
        }
        let version = sqlite(&dir).query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0));
        assert_eq!(version.unwrap(), SCHEMA_VERSION + 1, "nobody takes it back");
    }
}

fn says_what_to_do(error: &StoreError) -> bool {
    let said = error.to_string();
    said.contains(&format!("version {}", SCHEMA_VERSION + 1))
        && said.contains("start the newer build")
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgresql_tables_of_every_earlier_version_become_those_of_a_new_database() {
    if !crate::peers::enabled() {
        return;
    }
    let new = crate::support::Postgres::new();
    drop(new.open_named(&names(), &queues()).await);
    for (at, schema) in EARLIER_POSTGRES.iter().enumerate() {
        let made = crate::support::Postgres::new();
        made.run(schema);
        for opening in ["first", "second"] {
            drop(made.open_named(&names(), &queues()).await);
            let version = at + 1;
            assert_eq!(
                made.tables(),
                new.tables(),
                "from version {version}, {opening} opening"
            );
        }
    }
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgresql_tables_of_a_later_version_are_used_if_that_says_so_and_else_refused() {
    use switchboard::store::postgres::{PostgresStore, Risk};
    if !crate::peers::enabled() {
        return;
    }
    let made = crate::support::Postgres::new();
    drop(made.open_named(&names(), &queues()).await);
    for (oldest, opens) in [(SCHEMA_VERSION, true), (SCHEMA_VERSION + 1, false)] {
        let version = SCHEMA_VERSION + 1;
        made.run(&format!(
            "UPDATE meta SET value = CASE key WHEN 'schema' THEN {version} ELSE {oldest} END
             WHERE key IN ('schema', 'schema_oldest')"
        ));
        let risks = vec![Risk::Fsync];
        let opened = PostgresStore::open(made.own_config(), names(), queues(), risks).await;
        match opened {
            Ok(_) => assert!(opens, "{oldest}"),
            Err(error) => assert!(!opens && says_what_to_do(&error), "{error}"),
        }
    }
}

#[test]
fn records_of_this_major_version_are_read_whatever_was_added_or_was_not_there_yet() {
    let said = chat("cust-1", "Where is my order?");
    let channel = &channels()[said.channel];
    let written = Envelope {
        major: ENVELOPE_MAJOR,
        brand: channel.brand.clone(),
        channel: channel.id.clone(),
        arrived_at: 7,
        digest: 7,
        imported: false,
        event: said.event,
        full_text: None,
    };
    let json = serde_json::to_value(&written).unwrap();
    let with = |key: &str, value: serde_json::Value| {
        let mut json = json.clone();
        json[key] = value;
        json
    };
    let read = |json: &serde_json::Value| decode(json.to_string().as_bytes());
    for (json, added) in [
        (json.clone(), "nothing"),
        (with("mood", "curious".into()), "a field of a later version"),
    ] {
        match read(&json) {
            Content::Envelope(read) => assert_eq!(*read, written, "{added}"),
            other => panic!("{added}: {other:?}"),
        }
    }
    let later = with("major", (ENVELOPE_MAJOR + 1).into());
    assert!(matches!(read(&later), Content::Newer { .. }), "{later}");
}
