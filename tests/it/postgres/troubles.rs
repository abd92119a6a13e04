//! What the database does not do, and who is to blame: a message, or nobody that a dead letter would help.

use switchboard::store::StoreError;

use super::cluster::Cluster;
use crate::peers;

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
