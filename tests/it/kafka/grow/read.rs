//! What others find on the topics of a change.

use std::collections::BTreeMap;

use switchboard::bus::Bus;
use switchboard::bus::kafka::Settings;
use tokio::task::AbortHandle;

use super::{Log, Shop, decides};
use crate::kafka::record;
use crate::kafka::topics::{check, read, strangers};
use crate::peers;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_read_both_topics_of_a_change_and_agree_with_the_schemas() {
    if !peers::enabled() {
        return;
    }
    let shop = Shop::open(2);
    let bus = shop.bus().await;
    let router = decides(&bus, &shop.store, &Log::default());
    let records = |number| (0..8).map(|customer| record(customer, number)).collect();
    bus.append(records(1)).await.unwrap();
    let grown = shop.growth(&[&bus]).run(4, |_| {}).await;
    grown.unwrap();
    bus.append(records(2)).await.unwrap();
    AbortHandle::abort(&router);

    let document = switchboard::api::asyncapi();
    let (old, first) = (shop.settings.clone(), shop.settings.topic());
    let mut counts = BTreeMap::new();
    let before = read(&old, &first);
    for partition in &before {
        let (mark, ours) = partition.split_last().unwrap();
        check(&document, "mark", mark);
        ours.iter()
            .for_each(|record| check(&document, "inbound", record));
    }
    counts.insert(first.clone(), before.iter().flatten().count());
    assert_eq!(counts[&first], 8 + 2, "a mark for each partition");
    let new = Settings {
        partitions: 4,
        ..old
    };
    let later = format!("{first}.2");
    let after = read(&new, &later);
    after
        .iter()
        .flatten()
        .for_each(|record| check(&document, "inbound", record));
    counts.insert(later, after.iter().flatten().count());
    strangers(&new, &document, &counts);
}
