//! librdkafka's statistics, once a second, as metrics.

use rdkafka::statistics::Statistics;

use super::Shared;
use super::generations::Generations;

pub fn tell(shared: &Shared, statistics: &Statistics) {
    let client = || statistics.client_type.clone();
    metrics::gauge!("switchboard_kafka_queue_records", "client" => client())
        .set(statistics.msg_cnt as f64);
    metrics::gauge!("switchboard_kafka_queue_bytes", "client" => client())
        .set(statistics.msg_size as f64);
    for broker in statistics
        .brokers
        .values()
        .filter(|broker| broker.nodeid >= 0)
    {
        let Some(rtt) = &broker.rtt else { continue };
        let labels = [("client", client()), ("broker", broker.nodeid.to_string())];
        metrics::gauge!("switchboard_kafka_rtt_seconds", &labels).set(rtt.avg as f64 / 1e6);
    }
    // A coordinator is one of the others by another name.
    let mut brokers = statistics.brokers.values();
    let is_connected = brokers.any(|broker| broker.source != "logical" && broker.state == "UP");
    shared.reaches(&statistics.client_type, is_connected);
    if statistics.client_type != "consumer" {
        return;
    }
    let known = shared.generations();
    for generation in known.read() {
        let Some(topic) = statistics.topics.get(&generation.topic) else {
            continue;
        };
        let ends = topic.partitions.values();
        let ends = ends.filter_map(|partition| {
            let number = known.number(&generation.topic, partition.partition)?;
            (partition.hi_offset >= 0).then_some((number, partition.hi_offset))
        });
        for (number, lag) in shared.see_ends(&ends.collect::<Vec<_>>()) {
            lag_of(&known, number, lag);
        }
    }
}

/// Tells how far a partition is behind.
pub fn lag_of(known: &Generations, number: u32, lag: i64) {
    let Some((topic, partition)) = known.place(number) else {
        return;
    };
    let labels = [
        ("topic", topic.to_owned()),
        ("partition", partition.to_string()),
    ];
    metrics::gauge!("switchboard_kafka_lag_records", &labels).set(lag as f64);
}
