//! librdkafka's statistics, once a second, as metrics.

use rdkafka::statistics::Statistics;

use super::Shared;

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
    let Some(topic) = statistics.topics.get(&shared.topic) else {
        return;
    };
    if statistics.client_type != "consumer" {
        return;
    }
    let ends = topic.partitions.values();
    let ends = ends.filter(|partition| partition.partition >= 0 && partition.hi_offset >= 0);
    let ends: Vec<_> = ends
        .map(|partition| (partition.partition, partition.hi_offset))
        .collect();
    for (partition, lag) in shared.see_ends(&ends) {
        metrics::gauge!("switchboard_kafka_lag_records", "partition" => partition.to_string())
            .set(lag as f64);
    }
}
