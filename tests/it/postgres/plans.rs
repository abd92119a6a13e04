//! Filing must not cost more because more is kept: what the server's plans read, as it counts that itself.

use std::sync::Arc;

use crate::peers;
use crate::support::{Desk, Postgres, chat};

/// Customers who wrote before, those of them who write again at once, and how often they do. A statement is planned for
/// what is asked a few times, and then once, for whatever will be.
const KNOWN: usize = 2_000;
const AGAIN: usize = 50;
const ROUNDS: usize = 30;
/// Entries of the indexes of conversations that may be read for one message. A look through all conversations for each batch
/// would be twenty more.
const READ_MAX: usize = 15;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn known_customers_are_filed_without_a_look_through_all_conversations() {
    if !peers::enabled() {
        return;
    }
    let made = Arc::new(Postgres::new());
    let mut desk = Desk::on(made.clone()).await;
    let wrote = |customers| (0..customers).map(|at| chat(&format!("cust-{at}"), "Where is it?"));
    desk.deliver(wrote(KNOWN)).await;
    for round in 0..ROUNDS {
        let again = wrote(AGAIN).map(|said| {
            let key = format!("{round}-{}", said.event.dedupe_key);
            said.key(&key)
        });
        assert_eq!(desk.deliver(again).await.len(), AGAIN);
    }
    drop(desk);
    // A connection tells its counts when it ends.
    made.left_alone();
    let number = |sql: &str| made.ask(sql)[0].parse::<usize>().expect("a number");
    let read =
        number("SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = 'conversation'");
    let looked =
        number("SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'conversation'");
    let each = (read + looked) / (KNOWN + ROUNDS * AGAIN);
    assert!((1..=READ_MAX).contains(&each), "{each} entries a message");
}
