//! What is special to PostgreSQL: connections that are lost, and what was committed on them.

mod claims;
mod cluster;
mod events;
mod hangs;
mod lists;
mod plans;
mod routers;
mod troubles;
mod trust;

use std::sync::Arc;
use std::time::Duration;

use connector_api::{Bytes, Cursor};
use switchboard::store::postgres::PostgresStore;
use switchboard::store::{Store, StoreError};

use crate::peers::{self, Chaos};
use crate::support::{Backend, Desk, KEEP, Postgres, channel_id, mail};

/// What a transaction ends with.
const COMMIT: &[u8] = b"; COMMIT";

fn cursor(text: &str) -> Cursor {
    Cursor(serde_json::json!({ "at": text }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_committed_is_known_although_the_answer_was_lost() {
    if !peers::enabled() {
        return;
    }
    let made = Postgres::new();
    let chaos = Chaos::start(made.port());
    let store = made.through(chaos.port).await;
    let channel = channel_id("support-mail");
    for round in 0..20 {
        chaos.lose_answer_with(COMMIT, b"COMMIT\0");
        let now = cursor(&round.to_string());
        let saved = store.save_cursor(&channel, now.clone()).await;
        assert_eq!(saved, Ok(()), "round {round}");
        assert_eq!(chaos.answers_lost(), round + 1);
        assert_eq!(store.cursor(&channel).await, Ok(Some(now)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_ended_while_nobody_used_them_cost_nobody_a_failure() {
    if !peers::enabled() {
        return;
    }
    let made = Postgres::new();
    let chaos = Chaos::start(made.port());
    let store = made.through(chaos.port).await;
    let channel = channel_id("support-mail");
    for round in 0..5 {
        // More at once than there are connections, so that each is used.
        let saves = (0..32).map(|at| store.save_cursor(&channel, cursor(&at.to_string())));
        for saved in futures::future::join_all(saves).await {
            assert_eq!(saved, Ok(()), "round {round}");
        }
        let reads = (0..32).map(|_| store.cursor(&channel));
        for read in futures::future::join_all(reads).await {
            assert!(read.is_ok(), "round {round}: {read:?}");
        }
        chaos.cut_all();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_was_looked_for_and_not_found_does_not_come_afterwards() {
    if !peers::enabled() {
        return;
    }
    let made = Postgres::new();
    let chaos = Chaos::start(made.port());
    let store = made.through(chaos.port).await;
    let channel = channel_id("support-mail");
    assert_eq!(store.save_cursor(&channel, cursor("first")).await, Ok(()));
    chaos.hold_back(COMMIT);
    let late = store.save_cursor(&channel, cursor("late")).await;
    let told = late.as_ref().map_err(ToString::to_string);
    assert!(
        told.is_err_and(|why| why.contains("it was undone")),
        "{late:?}"
    );
    assert_eq!(store.save_cursor(&channel, cursor("second")).await, Ok(()));
    chaos.release();
    assert_eq!(store.cursor(&channel).await, Ok(Some(cursor("second"))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_cut_before_its_commit_is_undone_and_says_so_and_the_next_one_is_done() {
    if !peers::enabled() {
        return;
    }
    let made = Postgres::new();
    let chaos = std::sync::Arc::new(Chaos::start(made.port()));
    let store = made.through(chaos.port).await;
    let channel = channel_id("support-mail");
    let cuts = chaos.clone();
    let cut = store.write_raw(move |conn| {
        conn.batch("INSERT INTO cursor (channel, value) VALUES (4711, '{}')")?;
        cuts.cut_all();
        Ok(())
    });
    let cut = cut.await;
    assert!(matches!(cut, Err(StoreError::Unavailable(_))), "{cut:?}");
    let there = store.read_raw(|conn| {
        let rows = "SELECT count(*) FROM cursor WHERE channel = 4711";
        Ok(conn.prepare(rows)?.query_row((), |row| row.get::<i64>(0))?)
    });
    // The reader's connection was cut as well, and is made anew for the next question.
    assert_eq!(there.await, Ok(0));
    assert_eq!(store.save_cursor(&channel, cursor("on")).await, Ok(()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_cannot_do_its_work_holds_up_none_after_it() {
    if !peers::enabled() {
        return;
    }
    let made = Postgres::new();
    let store = made.through(made.port()).await;
    let channel = channel_id("support-mail");
    // More at once than there are connections, so that each has had one.
    let saves = async || {
        let saves = (0..32).map(|at| store.save_cursor(&channel, cursor(&at.to_string())));
        let saved = futures::future::join_all(saves).await;
        saved.iter().filter(|saved| saved.is_ok()).count()
    };
    assert_eq!(saves().await, 32);
    made.run("ALTER TABLE cursor RENAME TO elsewhere");
    assert_eq!(saves().await, 0);
    made.run("ALTER TABLE elsewhere RENAME TO cursor");
    assert_eq!(saves().await, 32);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_are_gone_for_an_hour_are_forgotten() {
    if !peers::enabled() {
        return;
    }
    let made = Postgres::new();
    let store = made.through(made.port()).await;
    let channel = channel_id("support-mail");
    assert_eq!(store.save_cursor(&channel, cursor("on")).await, Ok(()));
    drop(store);
    // Once nobody is connected any more.
    made.deadlocks();
    let gone = "SELECT count(*) FROM committed WHERE gone_at IS NOT NULL";
    let store = made.through(made.port()).await;
    let number = async |store: &PostgresStore| {
        let asked = store.read_raw(move |conn| {
            Ok(conn.prepare(gone)?.query_row((), |row| row.get::<i64>(0))?)
        });
        asked.await.expect("counting sessions")
    };
    assert!(number(&store).await > 0, "they may still be asked for");
    made.run("UPDATE committed SET gone_at = gone_at - interval '2 hours'");
    let store = made.through(made.port()).await;
    assert_eq!(number(&store).await, 0);
}

/// Numbers of records rise within a partition only: the lowest one may have come last.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn captured_bytes_go_at_their_time_whatever_their_number() {
    if !peers::enabled() {
        return;
    }
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    let made = Arc::new(Postgres::new());
    let mut desk = Desk::on(made.clone()).await;
    for key in ["m-1", "m-2"] {
        let mut said = mail("ada@example.com", "Where is my order?").key(key);
        said.event.raw = Some(Bytes::from(format!("Message-ID: <{key}@shop>\r\n\r\n")));
        desk.deliver([said]).await;
    }
    made.run("UPDATE raw SET arrived_at = arrived_at + 864000000000 WHERE id = (SELECT min(id) FROM raw)");
    let captured = async || {
        let rows = made.rows().await;
        rows.into_iter()
            .find(|(table, _)| table == "raw")
            .map(|(_, count)| count)
    };
    for (later, left) in [(31, 1), (10, 0)] {
        desk.later(later * DAY);
        desk.store().sweep(KEEP, desk.now()).await.unwrap();
        assert_eq!(captured().await, Some(left), "{later} days later");
    }
}
