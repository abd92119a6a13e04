//! Retention in the embedded store: every table is thought of, nothing stays in the file, and
//! whoever writes meanwhile does not wait.

use std::collections::BTreeSet;
use std::time::Duration;

use switchboard::store::retention::{Forgets, Periods};
use switchboard::store::sqlite::{database_path, forgotten_columns};

use crate::support::{Desk, chat};

use super::{opened, sql};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn periods() -> Periods {
    Periods {
        resolved: DAY,
        dead_letters: DAY,
        drafts: DAY,
        audit: DAY,
    }
}

/// Columns that name a message, a conversation or a contact, where something else than the lists of
/// retention sees to them.
const OTHERWISE: [(&str, &str); 17] = [
    // What it is about itself.
    ("conversation", "contact"),
    ("message", "conversation"),
    ("message", "body"),
    ("remains", "conversation"),
    ("remains", "message"),
    ("search_moved", "message"),
    // Goes with its message.
    ("reference", "conversation"),
    ("outbox", "conversation"),
    ("change", "record"),
    // Goes with its operation, and that with what it was done to.
    ("place", "message"),
    ("place", "conversation"),
    // Goes with its event.
    ("departure", "conversation"),
    // Digests outlive what they are of (promise 4).
    ("seen_lasting", "message"),
    // Dropped when it is due.
    ("timer", "conversation"),
    // Given up with the bus, and what was decided is not tried again.
    ("pending", "record"),
    ("log", "record"),
    ("attempt", "record"),
];

#[tokio::test]
async fn every_table_that_names_a_message_a_conversation_or_a_contact_is_thought_of() {
    let (_desk, _, store) = opened().await;
    let columns = store.read(|conn, _| {
        let mut statement = conn.prepare(
            "SELECT tables.name, columns.name FROM sqlite_master AS tables
             JOIN pragma_table_info(tables.name) AS columns WHERE tables.type = 'table'
             AND columns.name IN ('message', 'conversation', 'contact', 'record', 'body')",
        )?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<Result<BTreeSet<(String, String)>, _>>()?)
    });
    let known = forgotten_columns();
    let events = [("event", "conversation"), ("event", "message")];
    let known: BTreeSet<(&str, &str)> = known.chain(OTHERWISE).chain(events).collect();
    let forgotten: Vec<_> = columns.await.unwrap().into_iter().collect();
    let missing: Vec<_> = forgotten
        .iter()
        .filter(|(table, column)| !known.contains(&(table.as_str(), column.as_str())))
        .filter(|(table, _)| !table.starts_with("seen_"))
        .collect();
    assert!(
        missing.is_empty(),
        "what becomes of {missing:?} when its time is over? see store/sqlite/retention.rs"
    );
}

#[tokio::test]
async fn no_word_of_what_is_forgotten_is_left_in_the_file() {
    let (mut desk, local, store) = opened().await;
    // Larger than a page: it lies on pages of its own, which are freed whole.
    let text = "a secret nobody may find ".repeat(2_000);
    desk.deliver([chat("cust-7", &text)]).await;
    desk.resolve(1).await;
    let path = database_path(&local.dir());
    let found = || {
        let conn = rusqlite::Connection::open(&path).unwrap();
        conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            .unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let word = b"a secret nobody may find";
        bytes
            .windows(word.len())
            .filter(|bytes| bytes == word)
            .count()
    };
    assert!(found() > 1_000);
    desk.later(2 * DAY);
    while store.forget(periods(), 10, desk.now()).await.unwrap().more {}
    assert_eq!(found(), 0);
    // The writer goes on as before.
    sql(&store, "CREATE TABLE probe (value BLOB)")
        .await
        .unwrap();
}

#[tokio::test]
async fn removing_a_message_reads_no_whole_table() {
    let (_desk, _, store) = opened().await;
    let plans = store.read(|conn, _| {
        let plan = |(table, column): (&str, &str)| {
            let sql = format!("EXPLAIN QUERY PLAN DELETE FROM {table} WHERE {column} = 7");
            Ok(conn.query_row(&sql, [], |row| row.get::<_, String>(3))?)
        };
        forgotten_columns().map(plan).collect::<Result<Vec<_>, _>>()
    });
    for plan in plans.await.unwrap() {
        // The index of words looks a row up by its number.
        let found = plan.starts_with("SEARCH") || plan.contains("VIRTUAL TABLE INDEX 0:=");
        assert!(found, "{plan}");
    }
}

/// A desk with `count` resolved conversations of customers of their own.
async fn resolved(
    count: usize,
) -> (
    Desk,
    std::sync::Arc<switchboard::store::sqlite::SqliteStore>,
) {
    let (mut desk, _, store) = opened().await;
    let said = (0..count).map(|at| chat(&format!("cust-{at}"), "Where is my order?"));
    desk.accept_at_once(said).await;
    desk.route(1000).await;
    let now = desk.now();
    sql(
        &store,
        format!("UPDATE conversation SET status = 9, resolved_at = {now}; DELETE FROM waiting"),
    )
    .await
    .unwrap();
    (desk, store)
}

#[tokio::test]
async fn a_step_removes_no_more_than_it_was_told_however_much_is_due() {
    let (desk, store) = resolved(1_000).await;
    desk.later(2 * DAY);
    let gone = store.forget(periods(), 50, desk.now()).await.unwrap();
    assert!(gone.messages <= 50 && gone.conversations <= 50, "{gone:?}");
    assert!(gone.more);
}
