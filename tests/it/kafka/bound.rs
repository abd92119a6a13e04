//! How far routers may be behind before nothing more is accepted, also by a process that has no router.

use std::sync::Arc;
use std::time::Duration;

use switchboard::blobs::Blobs;
use switchboard::bus::kafka::{KafkaBus, Settings, Unsafe};
use switchboard::bus::{Bus, BusError};
use switchboard::store::Store;
use switchboard::store::sqlite::SqliteStore;

use super::{ready, record};
use crate::peers;
use crate::support::kafka::{broker, settings};
use crate::support::within_patience;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_only_takes_in_refuses_what_routers_are_too_far_behind_for() {
    if peers::enabled() {
        refused_when_behind(Duration::from_secs(4)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_topic_keeps_for_less_than_is_meant_is_refused_the_sooner() {
    if peers::enabled() {
        refused_when_behind(Duration::from_secs(14 * 24 * 60 * 60)).await;
    }
}

/// With a topic that keeps what it has for four seconds, whatever the configuration says.
async fn refused_when_behind(meant: Duration) {
    let (broker, dir) = (broker(), tempfile::tempdir().unwrap());
    let settings = Settings {
        retention: Duration::from_secs(4),
        accepted: vec![Unsafe::ShortRetention],
        ..settings(broker.brokers(), 2)
    };
    let store = Arc::new(SqliteStore::open(dir.path(), &[], &[]).unwrap());
    let blobs = Blobs::open(dir.path()).unwrap();
    let open = |settings: Settings| {
        let bus = KafkaBus::open(settings, store.clone(), blobs.clone(), false);
        bus.unwrap()
    };
    ready(&open(settings.clone())).await;
    let bus = open(Settings {
        retention: meant,
        ..settings
    });
    ready(&bus).await;
    let mut last = 0;
    let refused = async {
        for number in 0.. {
            match bus.append(vec![record(0, number)]).await {
                Ok(numbers) => last = numbers[0],
                Err(refused) => return Some(refused),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        None
    };
    let refused = within_patience("a refusal", refused).await;
    let expected = BusError::Overloaded {
        reason: "the routers are too far behind".to_owned(),
    };
    assert_eq!(refused, Some(expected));
    let owned = store.own(bus.partition_of(last)).await.unwrap();
    let decided = store.bury(owned, last, String::new(), 1, None, 0).await;
    decided.unwrap();
    let accepted = async {
        while bus.append(vec![record(0, 9_999)]).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within_patience("it to be accepted again", accepted).await;
}

/// Partitions of a topic on which hardly anything comes, so that each look finds most of them without anything young.
const QUIET: u64 = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_record_in_a_while_is_young_also_while_it_is_looked_how_old_records_are() {
    if !peers::enabled() {
        return;
    }
    let (broker, dir) = (broker(), tempfile::tempdir().unwrap());
    let settings = Settings {
        // Looked at ten times a second.
        retention: Duration::from_secs(100),
        accepted: vec![Unsafe::ShortRetention],
        ..settings(broker.brokers(), u32::try_from(QUIET).unwrap())
    };
    let store = Arc::new(SqliteStore::open(dir.path(), &[], &[]).unwrap());
    let blobs = Blobs::open(dir.path()).unwrap();
    let bus = KafkaBus::open(settings, store, blobs, false).unwrap();
    ready(&bus).await;
    for round in 0..2 {
        for customer in 0..QUIET {
            let accepted = bus.append(vec![record(customer, round)]).await;
            assert!(accepted.is_ok(), "{customer}: {accepted:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
