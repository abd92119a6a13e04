//! A broker that stood still for longer than its session.

use std::time::Duration;

use switchboard::bus::Bus;

use super::{Site, ready, record};
use crate::peers;
use crate::peers::kafka::Kafka;
use crate::support::kafka::{assigned, settings};
use crate::support::within_patience;

/// A broker's session is nine seconds.
const STILL: Duration = Duration::from_secs(11);
/// What happens differs: a client loses its brokers more often than not.
const ROUNDS: usize = 2;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_stood_still_is_found_again() {
    if !peers::enabled() {
        return;
    }
    let (kafka, site) = (Kafka::start(), Site::new());
    let bus = site.bus(&settings(kafka.brokers(), 2));
    assigned(&bus, 2).await;
    ready(&bus).await;
    for round in 0..ROUNDS {
        kafka.signal("STOP");
        tokio::time::sleep(STILL).await;
        kafka.signal("CONT");
        let accepted = async {
            while bus.append(vec![record(0, round)]).await.is_err() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        within_patience("something to be accepted again", accepted).await;
        ready(&bus).await;
        assigned(&bus, 2).await;
    }
}
