//! What is special to the embedded store: one commit for many, what the database itself refuses,
//! and the intake's brake.

mod retention;
mod sums;

use std::sync::Arc;

use switchboard::bus::local::{LAG_RECORDS_MAX, WAITING_BYTES_MAX};
use switchboard::bus::{Bus, BusError, ENVELOPE_MAJOR, Envelope, NewRecord, RecordKey};
use switchboard::store::StoreError;
use switchboard::store::rows::Tx;
use switchboard::store::sqlite::writer::{COMMIT_MESSAGES_MAX, Fate};
use switchboard::store::sqlite::{SqliteStore, WalLimits};

use crate::support::{Desk, Local, chat, within_patience};

async fn opened() -> (Desk, Arc<Local>, Arc<SqliteStore>) {
    opened_on(Local::new()).await
}

async fn opened_on(local: Local) -> (Desk, Arc<Local>, Arc<SqliteStore>) {
    let local = Arc::new(local);
    let desk = Desk::on(local.clone()).await;
    let store = local.store();
    (desk, local, store)
}

/// Runs statements as the writer does.
async fn sql(store: &SqliteStore, sql: impl Into<String>) -> Result<(), StoreError> {
    let sql = sql.into();
    store
        .writer()
        .run(0, move |tx| Ok(tx.conn.batch(&sql)?))
        .await
}

async fn number(store: &SqliteStore, sql: &'static str) -> i64 {
    let read = store
        .read(move |conn, _| Ok(conn.query_row(sql, [], |row| row.get(0))?))
        .await;
    read.expect("the query runs")
}

#[tokio::test]
async fn every_commit_is_synced() {
    let (_desk, _, store) = opened().await;
    let settings = store.writer().run(0, |tx| {
        let synchronous: i64 = tx
            .conn
            .prepare("PRAGMA synchronous")?
            .query_row((), |row| row.get(0))?;
        let journal: String = tx
            .conn
            .prepare("PRAGMA journal_mode")?
            .query_row((), |row| row.get(0))?;
        Ok((synchronous, journal))
    });
    // 2 is FULL: a commit returns when the log is on disk.
    assert_eq!(settings.await.unwrap(), (2, "wal".to_owned()));
}

#[tokio::test]
async fn work_that_shares_a_commit_with_a_full_disk_is_not_acknowledged() {
    let (_desk, _, store) = opened().await;
    sql(&store, "CREATE TABLE probe (value BLOB)")
        .await
        .unwrap();
    sql(&store, "PRAGMA max_page_count = 1").await.unwrap();
    let insert = |bytes: usize| {
        let store = store.clone();
        async move {
            let insert = store.writer().run(0, move |tx| {
                Ok(tx
                    .conn
                    .prepare("INSERT INTO probe VALUES (zeroblob(?1))")?
                    .execute([bytes as i64])?)
            });
            insert.await
        }
    };
    let answers = futures::join!(
        insert(1),
        insert(1),
        insert(1_000_000),
        insert(1),
        insert(1)
    );
    let acknowledged = [
        answers.0,
        answers.1,
        answers.2.clone(),
        answers.3,
        answers.4,
    ];
    let acknowledged = acknowledged.iter().filter(|answer| answer.is_ok()).count();
    assert!(
        matches!(answers.2, Err(StoreError::Unavailable(_))),
        "{:?}",
        answers.2
    );
    assert_eq!(
        number(&store, "SELECT count(*) FROM probe").await,
        acknowledged as i64
    );
}

#[tokio::test]
async fn work_that_panics_is_poisoned_and_undone_alone() {
    let (_desk, _, store) = opened().await;
    sql(&store, "CREATE TABLE probe (value INTEGER)")
        .await
        .unwrap();
    let panics = store.writer().run(0, |tx| -> Result<(), StoreError> {
        tx.conn
            .prepare("INSERT INTO probe VALUES (1)")?
            .execute(())?;
        panic!("a bug");
    });
    let works = store.writer().run(0, |tx| {
        Ok(tx
            .conn
            .prepare("INSERT INTO probe VALUES (2)")?
            .execute(())?)
    });
    let (panicked, worked) = futures::join!(panics, works);
    assert!(
        matches!(panicked, Err(StoreError::Poisoned(_))),
        "{panicked:?}"
    );
    assert!(worked.is_ok());
    assert_eq!(number(&store, "SELECT sum(value) FROM probe").await, 2);
}

#[tokio::test]
async fn intake_refuses_when_the_router_is_too_far_behind() {
    let (mut desk, local, store) = opened().await;
    desk.accept([chat("cust-7", "Hello?")]).await.unwrap();
    let undecided = LAG_RECORDS_MAX + 1;
    let fill = format!(
        "WITH RECURSIVE n (record) AS (SELECT 100000 UNION ALL SELECT record + 1 FROM n LIMIT {undecided})
         INSERT INTO log (record, arrived_at, record_key) SELECT record, 0, 0 FROM n"
    );
    sql(&store, fill).await.unwrap();
    desk.crash().await;
    assert_eq!(local.bus().lag(), undecided + 1);
    let refused = desk.accept([chat("cust-7", "Anybody?")]).await;
    assert!(
        matches!(refused, Err(BusError::Overloaded { .. })),
        "{refused:?}"
    );
    local.bus().decided(0, 0, 2);
    desk.accept([chat("cust-7", "Anybody?")])
        .await
        .expect("there is room again");
}

#[tokio::test]
async fn intake_refuses_while_the_log_cannot_be_copied_and_accepts_again_once_it_can() {
    let (mut desk, _, store) = opened_on(Local::with_wal(WalLimits {
        checkpoint_bytes: 128 * 1024,
        bytes_max: 512 * 1024,
    }))
    .await;
    let path = store
        .read(|conn, _| Ok(conn.path().map(str::to_owned)))
        .await;
    // A reader that stays keeps the log from being copied past what it sees, as a forgotten shell
    // or a backup does.
    let forgotten = rusqlite::Connection::open(path.unwrap().unwrap()).unwrap();
    forgotten
        .execute_batch("BEGIN; SELECT count(*) FROM log")
        .unwrap();
    let long = "x".repeat(16 * 1024);
    let refused = within_patience("filling the log up", async {
        loop {
            if let Err(refused) = desk.accept([chat("cust-7", &long)]).await {
                return refused;
            }
        }
    });
    let refused = refused.await;
    assert!(
        matches!(&refused, BusError::Overloaded { reason } if reason.contains("log")),
        "{refused:?}"
    );
    assert!(
        store.writer().run(0, |_| Ok(())).await.is_ok(),
        "agents go on"
    );
    forgotten.execute_batch("ROLLBACK").unwrap();
    let accepted = async {
        while desk.accept([chat("cust-7", "Hello?")]).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    within_patience("accepting again", accepted).await;
    desk.route(100).await;
    assert_eq!(
        desk.messages(1).await.len(),
        desk.conversation(1).await.last_seq as usize
    );
}

#[tokio::test]
async fn the_database_itself_refuses_a_second_open_conversation_of_one_matter() {
    let (mut desk, _, store) = opened().await;
    desk.deliver([chat("cust-7", "Hello?"), chat("cust-8", "Hello?")])
        .await;
    let contact = desk.conversation(1).await.contact.0;
    let second = sql(
        &store,
        format!("UPDATE conversation SET contact = {contact}"),
    )
    .await;
    assert!(
        matches!(&second, Err(StoreError::Poisoned(reason)) if reason.contains("UNIQUE")),
        "{second:?}"
    );
    desk.resolve(1).await;
    sql(
        &store,
        format!("UPDATE conversation SET contact = {contact}"),
    )
    .await
    .expect("resolved ones do not count");
}

#[tokio::test]
async fn the_database_itself_refuses_a_conversation_that_is_held_by_nobody_or_waits_while_held() {
    let (mut desk, _, store) = opened().await;
    desk.deliver([chat("cust-7", "Hello?")]).await;
    for change in ["status = 3", "status = 4", "assignee = 'ada'"] {
        let refused = sql(&store, format!("UPDATE conversation SET {change}")).await;
        assert!(
            matches!(refused, Err(StoreError::Poisoned(_))),
            "{change}: {refused:?}"
        );
    }
    sql(
        &store,
        "UPDATE conversation SET status = 3, assignee = 'ada'",
    )
    .await
    .expect("ada holds it");
    let written_so = sql(
        &store,
        "INSERT INTO conversation (id, brand, contact, matter, status, queue, priority, version, last_seq, opened_at,
         enqueued_at, last_inbound_at, detail) VALUES (900, 1, 900, 0, 3, 1, 1, 0, 0, 0, 0, 0, '{}')",
    );
    assert!(matches!(written_so.await, Err(StoreError::Poisoned(_))));
}

/// Intake shares the fate of its commit: nothing of it may be there when it is refused, and nobody
/// of the same commit may be told that it is done.
#[tokio::test]
async fn a_commit_whose_intake_fails_is_refused_whole_and_the_next_one_goes_on() {
    let (_desk, _, store) = opened().await;
    let (begun, begins) = tokio::sync::oneshot::channel();
    let (go_on, waits) = std::sync::mpsc::channel::<()>();
    let write = |key: &'static str| {
        move |tx: &mut Tx<'_>| -> Result<(), StoreError> {
            tx.conn
                .prepare("INSERT INTO meta (key, value) VALUES (?1, 0)")?
                .execute([key])?;
            Ok(())
        }
    };
    let first = tokio::spawn({
        let store = store.clone();
        async move {
            let work = store.writer().run(0, move |tx| {
                begun.send(()).unwrap();
                waits.recv().unwrap();
                write("first")(tx)
            });
            work.await
        }
    });
    begins.await.unwrap();
    let fails = store.writer().run_then(
        1,
        Fate::Shared,
        move |tx| {
            write("intake")(tx)?;
            Err::<(), _>(StoreError::Poisoned("a bug".to_owned()))
        },
        |()| panic!("nothing follows what failed"),
    );
    let mut fails = std::pin::pin!(fails);
    // Once it is asked, it waits behind the first one, in the same commit.
    assert!(futures::poll!(fails.as_mut()).is_pending());
    go_on.send(()).unwrap();
    assert!(matches!(fails.await, Err(StoreError::Poisoned(_))));
    assert!(matches!(
        first.await.unwrap(),
        Err(StoreError::Unavailable(_))
    ));
    store.writer().run(0, write("next")).await.unwrap();
    let kept = store.read(|conn, _| {
        let sql = "SELECT group_concat(key) FROM meta WHERE key IN ('first', 'intake', 'next')";
        Ok(conn.query_row(sql, [], |row| row.get::<_, String>(0))?)
    });
    assert_eq!(kept.await.unwrap(), "next");
}

/// The first job of a commit that stands alone goes before intake and has no savepoint: what undoes
/// it is a transaction begun anew, and intake that waited with it must not notice.
#[tokio::test]
async fn a_job_that_fails_undoes_itself_only_wherever_it_stands_in_its_commit() {
    for panics in [false, true] {
        let (_desk, _, store) = opened().await;
        let (begun, begins) = tokio::sync::oneshot::channel();
        let (go_on, waits) = std::sync::mpsc::channel::<()>();
        let insert = "INSERT INTO meta (key, value) VALUES (?1, 0)";
        // Fills its commit, so that what is asked meanwhile waits for the next one.
        let before = tokio::spawn({
            let store = store.clone();
            async move {
                let work = store.writer().run(COMMIT_MESSAGES_MAX, move |tx| {
                    begun.send(()).unwrap();
                    waits.recv().unwrap();
                    Ok(tx.memory.next_seq)
                });
                work.await
            }
        });
        begins.await.unwrap();
        let intake = store.writer().run_then(
            1,
            Fate::Shared,
            move |tx| {
                let others = "SELECT count(*) FROM meta WHERE key = 'alone'";
                let seen: i64 = tx.conn.prepare(others)?.query_row((), |row| row.get(0))?;
                tx.conn.prepare(insert)?.execute(["intake"])?;
                Ok((tx.memory.next_seq, seen))
            },
            |_| (),
        );
        let alone = store.writer().run(1, move |tx| {
            let before = "SELECT count(*) FROM meta WHERE key = 'intake'";
            let intake: i64 = tx.conn.prepare(before)?.query_row((), |row| row.get(0))?;
            if intake > 0 {
                return Err(StoreError::Poisoned("intake went first".to_owned()));
            }
            tx.conn.prepare(insert)?.execute(["alone"])?;
            tx.memory.next_seq += 1;
            assert!(!panics, "a bug");
            Err::<(), _>(StoreError::Poisoned("a bug".to_owned()))
        });
        // This one comes after intake: only a savepoint keeps the two apart.
        let later = store.writer().run(1, move |tx| {
            tx.conn.prepare(insert)?.execute(["later"])?;
            tx.memory.next_seq += 1;
            Err::<(), _>(StoreError::Poisoned("a bug".to_owned()))
        });
        let mut intake = std::pin::pin!(intake);
        let (mut alone, mut later) = (std::pin::pin!(alone), std::pin::pin!(later));
        assert!(futures::poll!(intake.as_mut()).is_pending());
        assert!(futures::poll!(alone.as_mut()).is_pending());
        assert!(futures::poll!(later.as_mut()).is_pending());
        go_on.send(()).unwrap();
        let expected = if panics { "the work panicked" } else { "a bug" };
        let failed = alone.await.expect_err("it fails");
        assert!(
            matches!(&failed, StoreError::Poisoned(why) if why == expected),
            "{failed}"
        );
        let seq = before.await.unwrap().unwrap();
        assert_eq!(intake.await.unwrap(), (seq, 0), "panics: {panics}");
        assert!(matches!(later.await, Err(StoreError::Poisoned(_))));
        let after = store.writer().run(0, |tx| Ok(tx.memory.next_seq)).await;
        assert_eq!(after.unwrap(), seq);
        let kept = store.read(|conn, _| {
            let sql =
                "SELECT group_concat(key) FROM meta WHERE key IN ('alone', 'intake', 'later')";
            Ok(conn.query_row(sql, [], |row| row.get::<_, String>(0))?)
        });
        assert_eq!(kept.await.unwrap(), "intake");
    }
}

#[tokio::test]
async fn replies_of_a_conversation_leave_in_its_order_whatever_their_ids_are() {
    let (mut desk, _, store) = opened().await;
    desk.deliver([chat("cust-7", "Hello?")]).await;
    desk.reply(1, "First.").await;
    desk.reply(1, "Second.").await;
    // As two processes would write them that draw their ids from blocks of their own.
    sql(&store, "UPDATE outbox SET seq = 100 - seq")
        .await
        .unwrap();
    let leased = desk.lease("shop-chat").await;
    let texts: Vec<_> = leased
        .iter()
        .map(|leased| leased.draft.text.as_str())
        .collect();
    assert_eq!(texts, ["Second."]);
}

#[tokio::test]
async fn intake_refuses_when_too_many_bytes_wait_for_the_writer() {
    let (desk, local, store) = opened().await;
    let bus = local.bus();
    let (begun, begins) = tokio::sync::oneshot::channel();
    let (go_on, waits) = std::sync::mpsc::channel::<()>();
    let blocking = tokio::spawn(async move {
        let busy = store.writer().run(0, move |_| {
            begun.send(()).unwrap();
            waits.recv().unwrap();
            Ok(())
        });
        busy.await
    });
    begins.await.unwrap();
    let envelope = Arc::new(Envelope {
        major: ENVELOPE_MAJOR,
        brand: "main".parse().unwrap(),
        channel: "shop-chat".parse().unwrap(),
        arrived_at: desk.now(),
        digest: 0,
        imported: false,
        event: chat("cust-7", "Hello?").event,
        full_text: None,
    });
    let record = |bytes: usize| NewRecord {
        envelope: envelope.clone(),
        key: RecordKey(0),
        body: vec![b' '; bytes],
        raw: None,
        blobs: Vec::new(),
    };
    let half = WAITING_BYTES_MAX / 2;
    let first = tokio::spawn({
        let (bus, record) = (bus.clone(), record(half));
        async move { bus.append(vec![record]).await }
    });
    let placed = async {
        while bus.free_bytes() > half {
            tokio::task::yield_now().await;
        }
    };
    within_patience("the first to take its place", placed).await;
    let refused = bus.append(vec![record(half + 1)]).await;
    assert!(
        matches!(refused, Err(BusError::Overloaded { .. })),
        "{refused:?}"
    );
    go_on.send(()).unwrap();
    blocking.await.unwrap().unwrap();
    first.await.unwrap().unwrap();
    assert_eq!(
        bus.free_bytes(),
        WAITING_BYTES_MAX,
        "the place is free again"
    );
}
