//! What every bus must do, as functions over a [`Backend`]; `bus_suite!` makes one test of each.
//! Another bus runs them as another store runs `store_suite`.

use std::sync::Arc;
use std::time::Duration;

use switchboard::bus::{Bus, Content};

use crate::support::{Backend, Desk, Said, chat, within_patience};

macro_rules! bus_suite {
    ($backend:path) => {
        crate::bus_suite::bus_suite! { $backend, when true }
    };
    ($backend:path, when $enabled:expr) => {
        crate::bus_suite::bus_suite! { $backend, $enabled;
            what_is_accepted_is_read_in_order
            what_was_accepted_is_there_after_a_crash
            a_reader_far_behind_gets_everything_once
            a_waiting_reader_is_woken
            callers_at_once_each_keep_their_order
            what_was_decided_is_not_read_again_after_a_crash
            bytes_that_nobody_can_read_are_given_in_their_place
            what_goes_beside_a_record_is_stored_with_what_it_becomes
            what_was_accepted_before_is_waited_for_and_what_comes_later_is_not
        }
    };
    ($backend:path, $enabled:expr; $($case:ident)*) => {
        use $backend as Made;
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                if !$enabled {
                    return;
                }
                crate::bus_suite::$case(std::sync::Arc::new(Made::new())).await;
            }
        )*
    };
}
pub(crate) use bus_suite;

mod local {
    crate::bus_suite::bus_suite!(crate::support::Local);
}

#[cfg(feature = "kafka")]
mod kafka {
    crate::bus_suite::bus_suite!(crate::support::kafka::OnKafka, when crate::peers::enabled());
}

/// The `number`th of a customer's messages.
fn said(number: usize) -> Said {
    chat("cust-7", &format!("Message {number}"))
}

/// Reads `count` records after `position`, at most `records_max` at once: keys and the position.
async fn read(
    bus: &dyn Bus,
    mut position: i64,
    count: usize,
    records_max: usize,
) -> (Vec<String>, i64) {
    let partition = bus.assigned().borrow().first().copied().unwrap_or_default();
    let mut keys = Vec::new();
    while keys.len() < count {
        // A bus may give fewer than there are.
        let records_max = records_max.min(count - keys.len());
        let read = within_patience(
            "reading from the bus",
            bus.read(partition, position, records_max),
        )
        .await
        .unwrap();
        assert!(
            !read.is_empty() && read.len() <= records_max,
            "{} records",
            read.len()
        );
        for record in read {
            assert!(record.offset > position, "offsets grow");
            position = record.offset;
            let Content::Envelope(envelope) = record.content else {
                panic!("record {position} is no envelope")
            };
            keys.push(envelope.event.dedupe_key.to_string());
        }
    }
    (keys, position)
}

/// Decides so many of what was accepted.
async fn decide(desk: &mut Desk, mut count: usize) {
    while count > 0 {
        count -= desk.route_once(count).await.unwrap().len();
    }
}

fn keys(numbers: std::ops::RangeInclusive<usize>) -> Vec<String> {
    numbers.map(|number| format!("m{number}")).collect()
}

async fn what_is_accepted_is_read_in_order(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    desk.accept((1..=20).map(said)).await.unwrap();
    let (first, position) = read(desk.bus().as_ref(), 0, 7, 7).await;
    let (rest, _) = read(desk.bus().as_ref(), position, 13, 5).await;
    assert_eq!([first, rest].concat(), keys(1..=20));
    let (again, _) = read(desk.bus().as_ref(), 0, 20, 100).await;
    assert_eq!(again, keys(1..=20), "reading takes nothing away");
}

async fn what_was_accepted_is_there_after_a_crash(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    for number in 1..=20 {
        desk.accept([said(number)]).await.unwrap();
        // The moment it was acknowledged, the machine goes dark.
        desk.crash().await;
        let (kept, _) = read(desk.bus().as_ref(), 0, number, 100).await;
        assert_eq!(kept, keys(1..=number));
    }
}

async fn a_reader_far_behind_gets_everything_once(backend: Arc<dyn Backend>) {
    const RECORDS: usize = 10_000;
    let mut desk = Desk::on(backend).await;
    desk.accept_at_once((1..=RECORDS).map(said)).await;
    let (first, position) = read(desk.bus().as_ref(), 0, 1_000, 500).await;
    desk.accept_at_once((RECORDS + 1..=RECORDS + 10).map(said))
        .await;
    let (rest, _) = read(desk.bus().as_ref(), position, RECORDS - 990, 333).await;
    assert_eq!([first, rest].concat(), keys(1..=RECORDS + 10));
}

async fn a_waiting_reader_is_woken(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    let mut position = 0;
    for number in 1..=50 {
        let bus = desk.bus().clone();
        let waiting = tokio::spawn(async move { read(bus.as_ref(), position, 1, 100).await });
        // Half of the readers wait already, half come while it is appended.
        if number % 2 == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        desk.accept([said(number)]).await.unwrap();
        let (got, at) = waiting.await.unwrap();
        assert_eq!(got, keys(number..=number));
        position = at;
    }
}

async fn callers_at_once_each_keep_their_order(backend: Arc<dyn Backend>) {
    const CALLERS: usize = 16;
    const EACH: usize = 25;
    let desk = Desk::on(backend).await;
    let intake = desk.shared_intake();
    let calls = (0..CALLERS).map(|caller| {
        let intake = intake.clone();
        tokio::spawn(async move {
            for number in 0..EACH {
                let said =
                    chat(&format!("cust-{caller}"), "Hi").key(&format!("{caller:02}-{number:02}"));
                intake.accept(said).await;
            }
        })
    });
    for call in futures::future::join_all(calls).await {
        call.unwrap();
    }
    let (mut all, _) = read(desk.bus().as_ref(), 0, CALLERS * EACH, 64).await;
    // A stable sort by caller leaves each caller's own order as it was read.
    all.sort_by_key(|key| key.split('-').next().map(str::to_owned));
    let expected: Vec<String> = (0..CALLERS)
        .flat_map(|caller| (0..EACH).map(move |number| format!("{caller:02}-{number:02}")))
        .collect();
    assert_eq!(all, expected);
}

async fn what_was_decided_is_not_read_again_after_a_crash(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    desk.accept((1..=10).map(said)).await.unwrap();
    decide(&mut desk, 6).await;
    desk.crash().await;
    let (rest, _) = read(desk.bus().as_ref(), desk.ownership().position, 4, 100).await;
    assert_eq!(rest, keys(7..=10));
}

async fn bytes_that_nobody_can_read_are_given_in_their_place(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    desk.accept([said(1)]).await.unwrap();
    let now = desk.now();
    desk.bus()
        .append_bytes(b"not one of ours".to_vec(), now)
        .await
        .unwrap();
    desk.accept([said(2)]).await.unwrap();
    let ownership = desk.ownership();
    let (first, position) = read(desk.bus().as_ref(), 0, 1, 1).await;
    assert_eq!(first, keys(1..=1));
    let foreign = within_patience("reading", desk.bus().read(ownership.partition, position, 1));
    let foreign = foreign.await.unwrap().remove(0);
    assert!(
        matches!(foreign.content, Content::Unreadable { .. }),
        "{foreign:?}"
    );
    if let Some(carried) = &foreign.carried {
        assert_eq!(carried.body, &b"not one of ours"[..]);
    }
    let (last, _) = read(desk.bus().as_ref(), foreign.offset, 1, 9).await;
    assert_eq!(last, keys(2..=2));
    // Buried, its bytes are the store's, wherever they came from.
    desk.route_once(1).await.unwrap();
    let buried = desk.store().bury(
        desk.ownership(),
        foreign.offset,
        "foreign".to_owned(),
        1,
        foreign.carried,
        now,
    );
    buried.await.unwrap();
    let letters = desk.store().dead_letters(9).await.unwrap();
    let body = letters.first().and_then(|letter| letter.body.clone());
    assert_eq!(body.as_deref(), Some(&b"not one of ours"[..]));
}

async fn what_goes_beside_a_record_is_stored_with_what_it_becomes(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    let with_file = said(1).attachment("receipt.txt", b"EUR 12");
    desk.deliver([with_file, said(2)]).await;
    let of = |rows: Vec<(String, i64)>, table: &str| {
        let row = rows.into_iter().find(|(name, _)| name == table);
        row.map_or(0, |(_, count)| count)
    };
    let rows = desk.backend().rows().await;
    assert_eq!(
        (of(rows.clone(), "body"), of(rows.clone(), "blob")),
        (2, 1),
        "{rows:?}"
    );
    // The second delivery leaves nothing behind, whether the bus is in the store or not.
    let messages = of(rows, "message");
    desk.crash().await;
    assert_eq!(of(desk.backend().rows().await, "message"), messages);
}

async fn what_was_accepted_before_is_waited_for_and_what_comes_later_is_not(
    backend: Arc<dyn Backend>,
) {
    let mut desk = Desk::on(backend).await;
    desk.accept((1..=10).map(said)).await.unwrap();
    let bus = desk.bus().clone();
    // One decision is missing, then none; and something more was accepted.
    for (decide, over) in [(9, false), (1, true)] {
        self::decide(&mut desk, decide).await;
        let ownership = desk.ownership();
        bus.decided(ownership.partition, ownership.position, decide);
        if !over {
            let early = tokio::time::timeout(Duration::from_millis(200), bus.decided_so_far());
            assert!(early.await.is_err(), "it waits for the last one");
        }
    }
    within_patience("what was accepted is decided", bus.decided_so_far())
        .await
        .unwrap();
    desk.accept([said(11)]).await.unwrap();
    let mark = bus.mark().await.unwrap();
    let partition = desk.ownership().partition;
    assert!(
        mark.0
            .get(&partition)
            .is_some_and(|newest| *newest > desk.ownership().position)
    );
    assert_eq!(bus.partition_of(desk.ownership().position), partition);
    let early = tokio::time::timeout(Duration::from_millis(200), bus.caught_up());
    assert!(early.await.is_err(), "one more is not decided");
}
