//! What the database does not do, and who is to blame: a message, or nobody that a dead letter would help.

use switchboard::store::{Store, StoreError};

use super::cluster::Cluster;
use super::cursor;
use crate::peers;
use crate::support::{Postgres, channel_id};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_is_written_is_to_blame_for_what_does_not_fit() {
    if !peers::enabled() {
        return;
    }
    let cluster = Cluster::of(1).await;
    for (code, expected) in [
        ("22003", "poisoned"),
        ("23514", "poisoned"),
        ("54000", "poisoned"),
        ("28P01", "forbidden"),
        ("3D000", "forbidden"),
        ("42501", "forbidden"),
        ("42601", "unavailable"),
        ("53100", "unavailable"),
        ("55P03", "unavailable"),
        ("57014", "unavailable"),
        ("P0001", "unavailable"),
        ("XX001", "unavailable"),
    ] {
        let sql = format!("DO $$ BEGIN RAISE SQLSTATE '{code}'; END $$");
        let raised = cluster.stores[0].write_raw(move |conn| Ok(conn.prepare(&sql)?.execute(())?));
        let found = match raised.await {
            Err(StoreError::Poisoned(_)) => "poisoned",
            Err(StoreError::Forbidden(_)) => "forbidden",
            Err(StoreError::Unavailable(_)) => "unavailable",
            other => panic!("{code}: {other:?}"),
        };
        assert_eq!(found, expected, "{code}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_whose_server_takes_no_writes_any_more_is_given_up() {
    if !peers::enabled() {
        return;
    }
    let made = Postgres::new();
    let store = made.through(made.port()).await;
    let channel = channel_id("support-mail");
    // More at once than there are connections, so that each is used.
    let failures = async || {
        let saves = (0..64).map(|at| store.save_cursor(&channel, cursor(&at.to_string())));
        let saved = futures::future::join_all(saves).await;
        saved.iter().filter(|saved| saved.is_err()).count()
    };
    assert_eq!(failures().await, 0);
    let follows = "SET default_transaction_read_only = on";
    let set = store.write_raw(move |conn| Ok(conn.batch(follows)?));
    assert_eq!(set.await, Ok(()));
    assert_eq!(failures().await, 1);
    assert_eq!(failures().await, 0);
}
