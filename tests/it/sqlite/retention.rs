//! Retention in the embedded store: every table is thought of, nothing stays in the file, and
//! whoever writes meanwhile does not wait.

use std::collections::BTreeSet;
use std::time::Duration;

use switchboard::store::retention::{Forgets, Periods};
use switchboard::store::rows::retention::forgotten_columns;
use switchboard::store::search::Search;
use switchboard::store::sqlite::database_path;

use crate::support::{Desk, chat, mail};

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
const OTHERWISE: [(&str, &str); 19] = [
    // A record of what was done, under the number of what is gone.
    ("erasure", "contact"),
    // A number, not what it is of.
    ("partition_end", "record"),
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
async fn no_forgotten_word_is_left_in_the_index_though_its_neighbours_are_kept() {
    const MAILS: usize = 500;
    let (mut desk, local, store) = opened().await;
    let word = |number: usize, kind: &str| format!("{kind}{:07x}", number * 7_919 + 1_000_003);
    let said = (0..MAILS).map(|number| {
        let from = format!("{}@example.com", word(number, "who"));
        // So much that the index is written anew in several steps.
        let more = (0..100).map(|at| format!(" {number}x{at:x}zz"));
        let text = format!(
            "my {} is lost{}",
            word(number, "text"),
            more.collect::<String>()
        );
        mail(&from, &text).subject(&word(number, "subject"))
    });
    desk.accept_at_once(said).await;
    desk.route(1000).await;
    while store.index(64).await.unwrap().behind > 0 {}
    let now = desk.now();
    let ended = format!(
        "UPDATE conversation SET status = 9, resolved_at = {now} WHERE id % 2; DELETE FROM waiting"
    );
    sql(&store, ended).await.unwrap();
    desk.later(2 * DAY);
    // What is indexed while the index is written anew does not keep that from getting through.
    let (mut steps, mut merging) = (0, 0);
    loop {
        let gone = store.forget(periods(), 100, desk.now()).await.unwrap();
        steps += 1;
        merging += usize::from(gone.more && gone.messages == 0);
        if !gone.more {
            break;
        }
        assert!(steps < 200, "it never ends");
        desk.deliver([chat("cust-1", &format!("newer words {steps}"))])
            .await;
        store.index(64).await.unwrap();
    }
    assert!(merging > 1, "{merging} steps");
    let path = database_path(&local.dir());
    let conn = rusqlite::Connection::open(&path).unwrap();
    let addresses = "SELECT address FROM identity WHERE address LIKE 'who%'";
    let kept: BTreeSet<String> = conn
        .prepare(addresses)
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(kept.len(), MAILS / 2);
    let forgotten: Vec<usize> = (0..MAILS)
        .filter(|number| !kept.contains(&format!("{}@example.com", word(*number, "who"))))
        .collect();
    let left = |kinds: &[&str]| {
        conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            .unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let file = String::from_utf8_lossy(&bytes).into_owned();
        let words = kinds
            .iter()
            .flat_map(|kind| forgotten.iter().map(|number| word(*number, kind)));
        words.filter(|word| file.contains(word)).collect::<Vec<_>>()
    };
    assert_eq!(left(&["text"]), [""; 0]);
    // Subjects and addresses are in rows that grow: where such a page was split, the unused bytes
    // keep a copy until they are used, or the file is made anew (README, retention).
    let copies = left(&["subject", "who"]);
    assert!(copies.len() < MAILS / 10, "{copies:?}");
    conn.execute_batch("VACUUM").unwrap();
    assert_eq!(left(&["subject", "who"]), [""; 0]);
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
