//! What is done must not cost more because more is kept, or waits: what the server's plans read, as it counts that
//! itself.

use std::sync::Arc;

use switchboard::store::events::EventFilter;

use crate::peers::{self, PATIENCE, wait_until};
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

/// Events that wait for a number at once, and what may be read for each of them.
const BACKLOG: usize = 10_000;
const NUMBERED_READ_MAX: usize = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_that_waited_for_long_are_numbered_without_comparing_each_with_each() {
    if !peers::enabled() {
        return;
    }
    let made = Arc::new(Postgres::new());
    let mut desk = Desk::on(made.clone()).await;
    // The statement is planned for good while next to nothing waits.
    made.ask("VACUUM ANALYZE event_new");
    for at in 0..10 {
        desk.deliver([chat(&format!("cust-{at}"), "Hello?")]).await;
    }
    made.ask(&format!(
        "INSERT INTO event_new (kind, at) SELECT 9, 1 FROM generate_series(1, {BACKLOG})"
    ));
    let filter = EventFilter {
        limit: 1,
        ..EventFilter::default()
    };
    desk.store().events(0, filter).await.unwrap();
    drop(desk);
    made.left_alone();
    let number = |sql: &str| made.ask(sql)[0].parse::<usize>().expect("a number");
    assert!(number("SELECT count(*) FROM event") > BACKLOG);
    let read = number(
        "SELECT (SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'event_new')
           + (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = 'event_new')",
    );
    let each = read / BACKLOG;
    assert!(
        (1..=NUMBERED_READ_MAX).contains(&each),
        "{each} rows an event"
    );
}

/// The server's own sweep comes once a minute at most, and claims and numbers go over what is not swept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_lives_for_moments_is_swept_away_by_the_process_itself() {
    if !peers::enabled() {
        return;
    }
    let made = Arc::new(Postgres::new());
    let desk = Desk::on(made.clone()).await;
    let sweeps = "SELECT vacuum_count FROM pg_stat_user_tables WHERE relname = 'event_new'";
    assert_eq!(made.ask(sweeps), ["0"]);
    made.ask(&format!(
        "INSERT INTO event_new (kind, at) SELECT 9, 1 FROM generate_series(1, {BACKLOG})"
    ));
    let filter = EventFilter {
        limit: 1,
        ..EventFilter::default()
    };
    desk.store().events(0, filter).await.unwrap();
    let swept = tokio::task::spawn_blocking({
        let made = made.clone();
        move || wait_until("a sweep", PATIENCE, || made.ask(sweeps) != ["0"])
    });
    swept.await.unwrap();
    let waits = made.ask("SELECT count(*) FROM event_new");
    assert_eq!(waits, ["0"]);
}
