//! Filing must not cost more because more is kept: the pages that each statement touches, as the server counts them.

use std::sync::Arc;

use crate::peers;
use crate::support::{Desk, Postgres, chat};

/// Customers who wrote before, and those of them who write again at once.
const KNOWN: usize = 2_000;
const AGAIN: usize = 50;
/// Pages that a statement may touch for one message: a few levels of a few indexes, and their rows. A look through all
/// conversations would be forty and more.
const PAGES_MAX: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_of_known_customers_is_filed_without_a_look_through_all_conversations() {
    if !peers::enabled() {
        return;
    }
    let made = Arc::new(Postgres::new());
    let mut desk = Desk::on(made.clone()).await;
    let wrote = |customers| (0..customers).map(|at| chat(&format!("cust-{at}"), "Where is it?"));
    desk.deliver(wrote(KNOWN)).await;
    made.run("CREATE EXTENSION pg_stat_statements");
    let this = "(SELECT oid FROM pg_database WHERE datname = current_database())";
    made.ask(&format!("SELECT pg_stat_statements_reset(0, {this}, 0)"));
    let joined = wrote(AGAIN).map(|said| {
        let key = format!("again-{}", said.event.dedupe_key);
        said.key(&key)
    });
    let verdicts = desk.deliver(joined).await;
    assert_eq!(verdicts.len(), AGAIN);
    let counted = made.ask(&format!(
        "SELECT (shared_blks_hit + shared_blks_read) / calls / {AGAIN}, regexp_replace(query, '\\s+', ' ', 'g')
         FROM pg_stat_statements WHERE dbid = {this} ORDER BY 1 DESC"
    ));
    assert!(
        counted
            .iter()
            .any(|row| row.contains("UPDATE conversation")),
        "{counted:?}"
    );
    let dear: Vec<_> = counted
        .iter()
        .filter(|row| {
            let pages = row.split('|').next().and_then(|pages| pages.parse().ok());
            pages.is_none_or(|pages: usize| pages > PAGES_MAX)
        })
        .collect();
    assert!(dear.is_empty(), "{dear:#?}");
}
