//! A topic that is not the one it was.

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::{Offset, TopicPartitionList};
use switchboard::bus::kafka::KafkaBus;
use switchboard::bus::{Bus, BusError, BusState};
use switchboard::store::Store;

use super::{Site, client, ready, record};
use crate::peers::{self, PATIENCE, wait_until};
use crate::support::kafka::{assigned, broker, settings};
use crate::support::within_patience;

/// Nothing is accepted, and the state says why.
async fn refuses(bus: &KafkaBus, why: &str) {
    let mut state = bus.state();
    let told = state.wait_for(|state| matches!(state, BusState::Down(said) if said.contains(why)));
    within_patience(why, told).await.unwrap();
    let refused = bus.append(vec![record(7, 99)]).await;
    assert!(
        matches!(&refused, Err(BusError::Unavailable(said)) if said.contains(why)),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_accepted_onto_a_topic_that_was_made_anew_behind_what_was_decided() {
    if !peers::enabled() {
        return;
    }
    let (broker, site) = (broker(), Site::new());
    let settings = settings(broker.brokers(), 1);
    let topic = settings.topic();
    let bus = site.bus(&settings);
    ready(&bus).await;
    let records = (0..5).map(|number| record(7, number)).collect();
    let last = *bus.append(records).await.unwrap().last().unwrap();
    let owned = site.store.own(bus.partition_of(last)).await.unwrap();
    let decided = site
        .store
        .bury(owned, last, String::new(), 1, None, 0)
        .await;
    decided.unwrap();
    drop(bus);

    let admin: AdminClient<DefaultClientContext> = client(&settings).create().unwrap();
    let options = AdminOptions::new();
    let deleted = admin.delete_topics(&[&topic], &options).await.unwrap();
    assert!(deleted[0].is_ok(), "{deleted:?}");
    wait_until("the topic to be gone", PATIENCE, || {
        let all = admin.inner().fetch_metadata(None, PATIENCE).unwrap();
        all.topics().iter().all(|one| one.name() != topic)
    });
    let bus = site.bus(&settings);
    refuses(
        &bus,
        "is gone, and with it what was accepted and not decided",
    )
    .await;

    // Somebody makes it by hand.
    let new = NewTopic::new(&topic, 1, TopicReplication::Fixed(1))
        .set("retention.ms", "1209600000")
        .set("max.message.bytes", "33554432");
    let made = admin.create_topics(&[new], &options).await.unwrap();
    assert!(made[0].is_ok(), "{made:?}");
    refuses(&bus, "ends at 0 and was decided to 5").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_went_before_anything_was_decided_are_trouble_and_not_passed_over() {
    if !peers::enabled() {
        return;
    }
    let (broker, site) = (broker(), Site::new());
    let settings = settings(broker.brokers(), 1);
    let bus = site.bus(&settings);
    ready(&bus).await;
    let records = (0..5).map(|number| record(7, number)).collect();
    bus.append(records).await.unwrap();
    drop(bus);
    let admin: AdminClient<DefaultClientContext> = client(&settings).create().unwrap();
    let mut before = TopicPartitionList::new();
    let at = Offset::Offset(3);
    let added = before.add_partition_offset(&settings.topic(), 0, at);
    added.unwrap();
    let options = AdminOptions::new();
    let removed = admin.delete_records(&before, &options).await.unwrap();
    assert_eq!(removed.elements()[0].error(), Ok(()));

    let bus = site.bus(&settings);
    let partition = assigned(&bus, 1).await[0];
    let read = within_patience("an answer", bus.read(partition, 0, 9)).await;
    assert!(
        matches!(&read, Err(BusError::Unavailable(said)) if said.contains("has offsets 3 to 5 and was decided to 0: records were removed")),
        "{read:?}"
    );
}
