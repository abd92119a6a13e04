//! The router's real loop over the embedded store: a message nobody can decide stops nobody, and
//! an outage is nobody's fault. Faults are made with SQLite's own means.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use connector_api::{CancellationToken, Event};
use switchboard::bus::local::LocalBus;
use switchboard::bus::{Bus, BusError, Envelope};
use switchboard::daemon::elsewhere::Elsewhere;
use switchboard::daemon::route::{ATTEMPTS_MAX, RouterLoop};
use switchboard::health::Health;
use switchboard::router::Prepared;
use switchboard::store::sqlite::SqliteStore;
use switchboard::store::{Store, StoreError};
use switchboard::wake::Wakes;

use crate::support::{Desk, Local, Said, chat, within_patience};

mod partitions;
mod still;

/// A desk on a local backend, and the loop that decides what it takes.
struct Routed {
    desk: Desk,
    local: Arc<Local>,
}

impl Routed {
    async fn new() -> Self {
        let local = Arc::new(Local::new());
        Self {
            desk: Desk::on(local.clone()).await,
            local,
        }
    }

    fn store(&self) -> Arc<SqliteStore> {
        self.local.store()
    }

    fn bus(&self) -> Arc<LocalBus> {
        self.local.bus()
    }

    /// Starts the loop; it ends with the token.
    fn start(&self) -> (tokio::task::JoinHandle<()>, CancellationToken, Arc<Health>) {
        self.start_with(Prepared::new)
    }

    fn start_with(
        &self,
        prepare: fn(i64, Arc<Envelope>) -> Prepared,
    ) -> (tokio::task::JoinHandle<()>, CancellationToken, Arc<Health>) {
        self.start_on(self.bus(), prepare)
    }

    fn start_on(
        &self,
        bus: Arc<dyn Bus>,
        prepare: fn(i64, Arc<Envelope>) -> Prepared,
    ) -> (tokio::task::JoinHandle<()>, CancellationToken, Arc<Health>) {
        let health = Arc::new(Health::default());
        let router = RouterLoop {
            bus,
            store: self.store(),
            policy: self.desk.policy.clone().into(),
            elsewhere: Arc::new(Elsewhere::nowhere()),
            clock: self.desk.clock.clone(),
            queues: Arc::new(Wakes::default()),
            outbox: Arc::new(Wakes::default()),
            health: health.clone(),
            prepare,
            troubles: Default::default(),
        };
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let running = tokio::spawn(async move { router.run(stopped).await });
        (running, stop, health)
    }

    /// Runs the loop until everything accepted was dealt with.
    async fn run(&mut self) {
        self.run_with(Prepared::new).await;
    }

    async fn run_with(&mut self, prepare: fn(i64, Arc<Envelope>) -> Prepared) {
        let (running, stop, _) = self.start_with(prepare);
        until("everything is decided", || self.bus().lag() == 0).await;
        stop.cancel();
        within_patience("stopping the router", running)
            .await
            .unwrap();
        self.desk.decided_elsewhere();
    }

    async fn sql(&self, sql: &'static str) {
        let done = self
            .store()
            .writer()
            .run(0, move |tx| Ok(tx.conn.batch(sql)?))
            .await;
        done.expect("the statement runs");
    }

    /// The file that the store writes.
    async fn database(&self) -> String {
        let path = self
            .store()
            .read(|conn, _| Ok(conn.path().map(str::to_owned)))
            .await;
        path.expect("reading works")
            .expect("the database is a file")
    }

    async fn number(&self, sql: &'static str) -> i64 {
        let read = self.store();
        read.read(move |conn, _| Ok(conn.query_row(sql, [], |row| row.get(0))?))
            .await
            .expect("the query runs")
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    within_patience(what, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

/// Filing a message whose text says so fails.
const POISON: &str = "CREATE TRIGGER poison BEFORE INSERT ON message
     WHEN EXISTS (SELECT 1 FROM body WHERE id = NEW.id AND instr(content, 'poison') > 0)
     BEGIN SELECT RAISE(ABORT, 'poisoned'); END";

fn said(number: usize) -> Said {
    let text = if number % 40 == 20 {
        "poison"
    } else {
        "Hello?"
    };
    chat(&format!("cust-{}", number % 7), text).key(&format!("m-{number}"))
}

/// Triage that panics where a text says so.
fn panics_at_poison(offset: i64, envelope: Arc<Envelope>) -> Prepared {
    if let Event::Message(message) = &envelope.event.event {
        assert_ne!(message.text, "poison", "a bug in triage");
    }
    Prepared::new(offset, envelope)
}

#[tokio::test]
async fn a_message_that_triage_panics_at_is_a_dead_letter_and_stops_nobody() {
    let mut routed = Routed::new().await;
    routed.desk.accept_at_once((0..120).map(said)).await;
    routed.run_with(panics_at_poison).await;
    assert_eq!(routed.number("SELECT count(*) FROM message").await, 117);
    let letters = routed.store().dead_letters(10).await.unwrap();
    let told: Vec<_> = letters
        .iter()
        .map(|letter| (letter.state, letter.attempts, letter.reason.as_str()))
        .collect();
    // It would panic every time: nothing is tried again.
    assert_eq!(told, [("parked", 1, "preparing it panicked"); 3]);
}

#[tokio::test]
async fn one_poisoned_message_stops_nobody() {
    let mut routed = Routed::new().await;
    routed.sql(POISON).await;
    routed.desk.accept_at_once((0..120).map(said)).await;
    routed.run().await;
    assert_eq!(routed.number("SELECT count(*) FROM message").await, 117);
    let letters = routed.store().dead_letters(10).await.unwrap();
    let told: Vec<_> = letters
        .iter()
        .map(|letter| {
            (
                letter.state,
                letter.attempts,
                letter.reason.contains("poisoned"),
            )
        })
        .collect();
    assert_eq!(told, [("parked", i64::from(ATTEMPTS_MAX), true); 3]);
    assert!(
        letters
            .iter()
            .all(|letter| letter.body.as_deref().is_some_and(|body| !body.is_empty()))
    );
    // In order, for every customer.
    let ordered = "SELECT count(*) FROM message AS one JOIN message AS other USING (conversation)
                   WHERE one.seq < other.seq AND one.id > other.id";
    assert_eq!(routed.number(ordered).await, 0);

    routed.sql("DROP TRIGGER poison").await;
    for letter in letters {
        assert!(
            routed
                .store()
                .redrive(letter.record, routed.desk.policy.clone(), routed.desk.now())
                .await
                .unwrap()
                .is_some()
        );
        assert!(
            routed
                .store()
                .redrive(letter.record, routed.desk.policy.clone(), routed.desk.now())
                .await
                .unwrap()
                .is_none()
        );
    }
    assert_eq!(routed.number("SELECT count(*) FROM message").await, 120);
}

#[tokio::test]
async fn tries_of_a_poisoned_message_go_on_after_a_restart() {
    let mut routed = Routed::new().await;
    routed.sql(POISON).await;
    routed.desk.accept([said(20)]).await.unwrap();
    let record = routed.desk.next_commit(1).await.batch[0].offset;
    for _ in 0..ATTEMPTS_MAX - 2 {
        routed.store().count_attempt(record).await.unwrap();
    }
    routed.desk.crash().await;
    routed.run().await;
    let [letter] = &routed.store().dead_letters(10).await.unwrap()[..] else {
        panic!("one letter")
    };
    assert_eq!(
        letter.attempts,
        i64::from(ATTEMPTS_MAX),
        "tries before the restart count"
    );
    assert_eq!(routed.number("SELECT count(*) FROM attempt").await, 0);
}

#[tokio::test]
async fn what_is_not_an_envelope_becomes_a_dead_letter() {
    let mut routed = Routed::new().await;
    routed.desk.accept_at_once((0..10).map(said)).await;
    routed
        .sql("UPDATE body SET content = x'00ff' WHERE id = (SELECT min(record) + 3 FROM log)")
        .await;
    routed
        .sql("DELETE FROM body WHERE id = (SELECT min(record) + 5 FROM log)")
        .await;
    // What is in memory is whole: only a restart reads the damage.
    routed.desk.crash().await;
    routed.run().await;
    assert_eq!(routed.number("SELECT count(*) FROM message").await, 8);
    assert_eq!(routed.store().dead_letters(10).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_record_of_a_newer_version_pauses_the_router_and_buries_nothing() {
    let mut routed = Routed::new().await;
    routed.desk.accept_at_once((0..3).map(said)).await;
    routed.sql("UPDATE body SET content = CAST('{\"major\":2}' AS BLOB) WHERE id = (SELECT min(record) + 1 FROM log)").await;
    routed.desk.crash().await;
    let (running, stop, health) = routed.start();
    let says_so = || {
        health
            .snapshot()
            .values()
            .any(|state| format!("{state:?}").contains("newer version"))
    };
    until("the router says that it is too old", says_so).await;
    stop.cancel();
    within_patience("stopping the router", running)
        .await
        .unwrap();
    assert_eq!(
        routed.number("SELECT count(*) FROM message").await,
        1,
        "what came before is filed"
    );
    assert_eq!(routed.number("SELECT count(*) FROM dead_letter").await, 0);
}

#[tokio::test]
async fn a_full_disk_is_an_outage_and_no_attempt() {
    let mut routed = Routed::new().await;
    routed
        .desk
        .accept_at_once((0..200).map(|number| chat(&format!("cust-{number}"), "Hello?")))
        .await;
    routed.sql("PRAGMA max_page_count = 1").await;
    let refused = routed
        .desk
        .accept([chat("cust-7", &"Not to be acknowledged. ".repeat(4_000))])
        .await;
    assert!(
        matches!(refused, Err(BusError::Unavailable(_))),
        "{refused:?}"
    );
    let routed_once = routed.desk.route_once(500).await;
    assert!(
        matches!(routed_once, Err(StoreError::Unavailable(_))),
        "{routed_once:?}"
    );

    let (running, stop, health) = routed.start();
    until("the router says that it cannot go on", || {
        health
            .snapshot()
            .values()
            .any(|state| state.as_str() == "degraded")
    })
    .await;
    routed.sql("PRAGMA max_page_count = 1000000").await;
    until("everything is decided", || routed.bus().lag() == 0).await;
    stop.cancel();
    within_patience("stopping the router", running)
        .await
        .unwrap();
    assert_eq!(routed.number("SELECT count(*) FROM message").await, 200);
    assert_eq!(routed.number("SELECT count(*) FROM dead_letter").await, 0);
    assert_eq!(routed.number("SELECT count(*) FROM attempt").await, 0);
}

#[tokio::test]
async fn a_database_that_is_locked_is_an_outage_and_no_attempt() {
    let mut routed = Routed::new().await;
    routed.desk.accept([said(1)]).await.unwrap();
    let other = rusqlite::Connection::open(routed.database().await).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let locked = routed.desk.route_once(1).await;
    assert!(
        matches!(locked, Err(StoreError::Unavailable(_))),
        "{locked:?}"
    );
    other.execute_batch("ROLLBACK").unwrap();
    routed.desk.route(1).await;
    assert_eq!(routed.number("SELECT count(*) FROM message").await, 1);
}

#[tokio::test]
async fn a_second_router_ends_the_first() {
    let mut routed = Routed::new().await;
    let (first, _stop, _) = routed.start();
    let owned = || async {
        routed
            .number("SELECT coalesce(max(epoch), 0) FROM position")
            .await
    };
    let before = owned().await;
    within_patience("the first router owns the partition", async {
        while owned().await < 2 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    assert!(before <= 2);
    routed.store().own(0).await.unwrap();
    routed.desk.accept([said(1)]).await.unwrap();
    within_patience("the first router ends by itself", first)
        .await
        .unwrap();
    assert_eq!(routed.number("SELECT count(*) FROM message").await, 0);
}
