//! Keys of librdkafka that are not passed through: what the promises rest on, and what has a key of its own.
//! Some have two names, and both are refused.

/// Keys, their aliases, and why they are not for `bus.librdkafka`.
const OWNED: [(&[&str], &str); 22] = [
    (
        &[
            "bootstrap.servers",
            "metadata.broker.list",
            "test.mock.num.brokers",
            "test.mock.broker.rtt",
        ],
        "it is bus.brokers",
    ),
    (&["group.id"], "it is made of bus.prefix"),
    (&["security.protocol"], "it is bus.tls and bus.sasl"),
    (
        &["ssl.ca.location", "ssl.ca.pem", "ssl.ca.certificate.stores"],
        "it is bus.ca_file",
    ),
    (
        &["ssl.certificate.location", "ssl.key.location"],
        "it is bus.cert_file and bus.key_file",
    ),
    (
        &[
            "enable.ssl.certificate.verification",
            "ssl.endpoint.identification.algorithm",
        ],
        "brokers are who their certificates say",
    ),
    (
        &[
            "sasl.mechanism",
            "sasl.mechanisms",
            "sasl.oauthbearer.method",
            "sasl.oauthbearer.config",
            "enable.sasl.oauthbearer.unsecure.jwt",
        ],
        "it is bus.sasl",
    ),
    (
        &["sasl.username", "sasl.password"],
        "it is bus.username and bus.password",
    ),
    (
        &["sasl.oauthbearer.token.endpoint.url"],
        "it is bus.token_url",
    ),
    (
        &["https.ca.location", "https.ca.pem"],
        "it is bus.token_ca_file",
    ),
    (
        &[
            "sasl.oauthbearer.client.id",
            "sasl.oauthbearer.client.credentials.client.id",
            "sasl.oauthbearer.client.secret",
            "sasl.oauthbearer.client.credentials.client.secret",
        ],
        "it is bus.client_id and bus.client_secret",
    ),
    (&["sasl.oauthbearer.scope"], "it is bus.scope"),
    (
        &[
            "acks",
            "request.required.acks",
            "enable.idempotence",
            "retries",
            "message.send.max.retries",
            "delivery.report.only.error",
        ],
        "what is acknowledged must be on all in-sync replicas, once",
    ),
    (
        &[
            "max.in.flight",
            "max.in.flight.requests.per.connection",
            "partitioner",
            "sticky.partitioning.linger.ms",
            "enable.gapless.guarantee",
            "queuing.strategy",
            "produce.offset.report",
        ],
        "a customer's order rests on it",
    ),
    (
        &["transactional.id", "transaction.timeout.ms"],
        "the store's transactions decide",
    ),
    (
        &[
            "message.timeout.ms",
            "delivery.timeout.ms",
            "request.timeout.ms",
        ],
        "intake is answered before a provider gives up",
    ),
    (
        &[
            "auto.offset.reset",
            "enable.auto.commit",
            "auto.commit.enable",
            "auto.commit.interval.ms",
            "enable.auto.offset.store",
            "offset.store.method",
            "offset.store.path",
            "isolation.level",
            "enable.partition.eof",
        ],
        "positions are the store's",
    ),
    (
        &[
            "partition.assignment.strategy",
            "group.protocol",
            "group.remote.assignor",
            "group.instance.id",
        ],
        "partitions are shared out as bus.group_protocol says",
    ),
    (
        &[
            "message.max.bytes",
            "receive.message.max.bytes",
            "fetch.max.bytes",
            "fetch.message.max.bytes",
            "max.partition.fetch.bytes",
            "queued.max.messages.kbytes",
            "queue.buffering.max.kbytes",
            "queue.buffering.max.messages",
        ],
        "memory is bounded by it",
    ),
    (
        &["allow.auto.create.topics"],
        "topics are made as bus.partitions and bus.replication say",
    ),
    (&["statistics.interval.ms"], "metrics are made of it"),
    (
        &[
            "plugin.library.paths",
            "ssl.engine.location",
            "ssl.providers",
            "sasl.kerberos.kinit.cmd",
        ],
        "foreign code would run in the daemon",
    ),
];

/// Keys that hold secrets: they are named by where they are, never written down.
const SECRETS: [&str; 5] = [
    "ssl.key.password",
    "ssl.key.pem",
    "ssl.keystore.password",
    "sasl.oauthbearer.assertion.private.key.pem",
    "sasl.oauthbearer.assertion.private.key.passphrase",
];

/// Why a key is not passed through.
pub fn owned(key: &str) -> Option<&'static str> {
    let found = OWNED.iter().find(|(keys, _)| keys.contains(&key));
    found.map(|(_, why)| *why)
}

pub fn is_secret(key: &str) -> bool {
    SECRETS.contains(&key)
}
