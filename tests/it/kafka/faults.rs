//! What brokers refuse, lose and keep waiting, on librdkafka's mock cluster.

use std::time::Duration;

use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use switchboard::bus::kafka::{KafkaBus, Settings};
use switchboard::bus::{Bus, BusError};

use super::{Site, all, expected, ready, record, state};
use crate::peers;
use crate::support::kafka::{assigned, settings};
use crate::support::within_patience;

/// A bus on the mock cluster, which cannot be asked about its topics.
async fn mocked(site: &Site, cluster: &MockCluster<'_, DefaultProducerContext>) -> KafkaBus {
    let settings = Settings {
        check_topic: false,
        ..settings(cluster.bootstrap_servers(), 1)
    };
    cluster.create_topic(&settings.topic(), 1, 1).unwrap();
    let bus = site.bus(&settings);
    assigned(&bus, 1).await;
    ready(&bus).await;
    bus
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_brokers_refuse_is_not_acknowledged_and_what_they_take_late_is_read_once_in_order() {
    use RDKafkaRespErr as Code;
    let (cluster, site) = (MockCluster::new(1).unwrap(), Site::new());
    let bus = mocked(&site, &cluster).await;
    let refused = [Code::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE];
    cluster.request_errors(RDKafkaApiKey::Produce, &refused);
    let refused = bus.append(vec![record(7, 99)]).await;
    assert!(
        matches!(&refused, Err(BusError::Unavailable(why)) if why.contains("a record is larger")),
        "{refused:?}"
    );
    let passing = [
        Code::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        Code::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
        Code::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
    ];
    for number in 0..30 {
        if number % 10 == 0 {
            cluster.request_errors(RDKafkaApiKey::Produce, &passing);
        }
        bus.append(vec![record(0, number)]).await.unwrap();
    }
    assert_eq!(all(&bus, 30).await, expected(1, 30));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_down_is_a_state_and_a_refusal_until_it_is_up_again() {
    let (cluster, site) = (MockCluster::new(1).unwrap(), Site::new());
    let bus = mocked(&site, &cluster).await;
    bus.append(vec![record(0, 0)]).await.unwrap();
    cluster.broker_down(1).unwrap();
    let why = state(&bus, |why| !why.is_empty()).await;
    assert!(
        why.contains("no Kafka broker answers at 127.0.0.1"),
        "{why}"
    );
    let refused = bus.append(vec![record(0, 1)]).await;
    assert!(
        matches!(refused, Err(BusError::Unavailable(_))),
        "{refused:?}"
    );
    cluster.broker_up(1).unwrap();
    ready(&bus).await;
    bus.append(vec![record(0, 1)]).await.unwrap();
    // One that was away for longer than its session joins anew.
    assigned(&bus, 1).await;
    assert_eq!(all(&bus, 2).await, expected(1, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_does_not_answer_in_time_took_nothing() {
    let (cluster, site) = (MockCluster::new(1).unwrap(), Site::new());
    let bus = mocked(&site, &cluster).await;
    cluster
        .broker_round_trip_time(1, Duration::from_secs(60))
        .unwrap();
    let refused = within_patience("an answer", bus.append(vec![record(0, 0)])).await;
    assert!(
        matches!(refused, Err(BusError::Unavailable(_))),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_that_is_not_there_at_the_start_is_waited_for() {
    let site = Site::new();
    let nowhere = settings(format!("127.0.0.1:{}", peers::free_port()), 1);
    let bus = site.bus(&nowhere);
    let refused = bus.append(vec![record(0, 0)]).await;
    assert!(
        matches!(refused, Err(BusError::Unavailable(_))),
        "{refused:?}"
    );
    let why = state(&bus, |why| !why.is_empty()).await;
    assert!(why.contains("start it, or mend bus.brokers"), "{why}");
}
