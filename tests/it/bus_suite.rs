//! What every bus must do, as functions over a [`Backend`]; `bus_suite!` makes one test of each.
//! Another bus runs them as another store runs `store_suite`.

use std::sync::Arc;
use std::time::Duration;

use switchboard::bus::{Bus, Content};

use crate::support::{Backend, Desk, Said, chat, within_patience};

macro_rules! bus_suite {
    ($backend:path) => {
        crate::bus_suite::bus_suite! { $backend;
            what_is_accepted_is_read_in_order
            what_was_accepted_is_there_after_a_crash
            a_reader_far_behind_gets_everything_once
            a_waiting_reader_is_woken
            callers_at_once_each_keep_their_order
            what_was_decided_is_not_read_again_after_a_crash
        }
    };
    ($backend:path; $($case:ident)*) => {
        use $backend as Made;
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                crate::bus_suite::$case(std::sync::Arc::new(Made::new())).await;
            }
        )*
    };
}
pub(crate) use bus_suite;

mod local {
    crate::bus_suite::bus_suite!(crate::support::Local);
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
    let mut keys = Vec::new();
    while keys.len() < count {
        let read = within_patience("reading from the bus", bus.read(0, position, records_max))
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
    desk.route_once(6).await.unwrap();
    desk.crash().await;
    let (rest, _) = read(desk.bus().as_ref(), desk.ownership().position, 4, 100).await;
    assert_eq!(rest, keys(7..=10));
}
