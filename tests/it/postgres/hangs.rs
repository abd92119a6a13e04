//! A database that hangs: whoever waits for it is told in time, and what takes long is not cut.

use std::time::Duration;

use switchboard::store::alerts::Watched;
use switchboard::store::postgres::{Database, Session};
use switchboard::store::{Store, StoreError};

use super::cursor;
use crate::peers::{self, Chaos};
use crate::support::{Postgres, channel_id};

/// Helpdesks give up after ten seconds or more; some for a slow machine.
const TOLD_WITHIN: Duration = Duration::from_secs(18);
/// Longer than an answer may take that somebody waits for.
const LONG: &str = "SELECT pg_sleep(8)";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_who_waits_for_a_database_that_hangs_is_told_in_time() {
    if !peers::enabled() {
        return;
    }
    let made = Postgres::new();
    let chaos = Chaos::start(made.port());
    let store = made.through(chaos.port).await;
    let channel = channel_id("support-mail");
    assert_eq!(store.save_cursor(&channel, cursor("on")).await, Ok(()));
    chaos.black_hole();
    // Of those who come at once most have others before them; those who come later find no connection.
    for wave in 0..2 {
        let saves = (0..60).map(|_| store.save_cursor(&channel, cursor("off")));
        let reads = (0..60).map(|_| store.cursor(&channel));
        let all = async {
            tokio::join!(
                futures::future::join_all(saves),
                futures::future::join_all(reads),
                store.probe(0),
            )
        };
        let told = tokio::time::timeout(TOLD_WITHIN, all).await;
        let (saved, read, probed) = told.unwrap_or_else(|_| panic!("wave {wave} still waits"));
        let failed = |error: Option<&StoreError>| matches!(error, Some(StoreError::Unavailable(_)));
        assert!(
            saved.iter().all(|saved| failed(saved.as_ref().err())),
            "{saved:?}"
        );
        assert!(
            read.iter().all(|read| failed(read.as_ref().err())),
            "{read:?}"
        );
        assert!(failed(probed.as_ref().err()), "{probed:?}");
    }
    chaos.heal();
    crate::support::eventually("it to be used again", async || {
        store.save_cursor(&channel, cursor("again")).await.is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_somebody_waits_for_is_given_up_soon() {
    if !peers::enabled() {
        return;
    }
    let made = Postgres::new();
    let store = made.through(made.port()).await;
    let database = Database::from(made.own_config());
    let long = std::thread::spawn(move || {
        let session = Session::connect(&database)?;
        session.batch(LONG)
    });
    let asked = store.write_raw(|conn| Ok(conn.batch(LONG)?));
    let asked = asked.await;
    assert!(
        matches!(asked, Err(StoreError::Unavailable(_))),
        "{asked:?}"
    );
    assert!(
        long.join().unwrap().is_ok(),
        "a start, a migration or a move takes its time"
    );
}
