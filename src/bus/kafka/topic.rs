//! A topic: made where it is missing, and otherwise looked at before anything is accepted onto it. One
//! that can lose what was acknowledged is refused by the name of what is wrong with it.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigEntry, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::MetadataTopic;

use super::explain;
use super::settings::{RECORD_BYTES_MAX, Settings};

/// How long brokers may take to answer.
pub const ANSWER_MAX: Duration = Duration::from_secs(5);
/// What `max.message.bytes` of a sealed topic is: room for a mark (150), and for no record of ours, whose headers alone
/// have more than twice as many.
pub const SEALED_BYTES: i64 = 160;
const DAY_MILLIS: i64 = 24 * 60 * 60 * 1000;
/// Redeliveries come for 8 days; above 28 days an erasure could not name a date within a month.
const RETENTION_DAYS: std::ops::RangeInclusive<i64> = 8..=28;

/// A setting of a topic that can lose records or keep them too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsafe {
    OneInSyncReplica,
    UncleanElection,
    ShortRetention,
    LongRetention,
    SizeRetention,
    Compaction,
}

impl Unsafe {
    pub const ALL: [Self; 6] = [
        Self::OneInSyncReplica,
        Self::UncleanElection,
        Self::ShortRetention,
        Self::LongRetention,
        Self::SizeRetention,
        Self::Compaction,
    ];

    /// As it is named in `bus.accept_unsafe`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OneInSyncReplica => "one-in-sync-replica",
            Self::UncleanElection => "unclean-election",
            Self::ShortRetention => "short-retention",
            Self::LongRetention => "long-retention",
            Self::SizeRetention => "size-retention",
            Self::Compaction => "compaction",
        }
    }
}

/// What the brokers say of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    pub partitions: u32,
    /// The least of its partitions.
    pub replication: u32,
    /// Its configuration, by key.
    pub config: Vec<(String, String)>,
}

impl Described {
    fn value(&self, key: &str) -> &str {
        let found = self.config.iter().find(|(known, _)| known == key);
        found.map(|(_, value)| value.as_str()).unwrap_or_default()
    }

    fn number(&self, key: &str) -> Option<i64> {
        self.value(key).parse().ok()
    }
}

/// Partitions and replication of every topic there is, by name; blocks. Asked for by name, some brokers would
/// make it.
pub fn all<C: ClientContext>(
    client: &Client<C>,
) -> Result<BTreeMap<String, (u32, u32)>, KafkaError> {
    let metadata = client.fetch_metadata(None, ANSWER_MAX)?;
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let of = |topic: &MetadataTopic| {
        let partitions = topic.partitions();
        let replicas = partitions
            .iter()
            .map(|partition| partition.replicas().len());
        (count(partitions.len()), count(replicas.min().unwrap_or(0)))
    };
    let topics = metadata.topics().iter();
    Ok(topics
        .map(|topic| (topic.name().to_owned(), of(topic)))
        .collect())
}

/// Makes the topic or checks it; an error is one line with what to do. One that is `found` has to have
/// `expected` partitions, where order rests on their number. Gives how long records of one that is there are kept, where
/// that ends.
pub async fn ensure<C: ClientContext + 'static>(
    admin: &AdminClient<C>,
    settings: &Settings,
    topic: &str,
    expected: Option<u32>,
    found: Option<(u32, u32)>,
) -> Result<Option<Duration>, String> {
    let Some((partitions, replication)) = found else {
        let config = new_config(settings);
        let made = create(admin, settings, topic, settings.partitions, &config).await;
        return made.map(|()| None);
    };
    let config = describe(admin, settings, topic).await?;
    let config = config.iter().map(|entry| {
        let value = entry.value.clone().unwrap_or_default();
        (entry.name.clone(), value)
    });
    let described = Described {
        partitions,
        replication,
        config: config.collect(),
    };
    check(settings, topic, expected, &described)?;
    let millis = described.number("retention.ms").map(u64::try_from);
    Ok(millis.and_then(Result::ok).map(Duration::from_millis))
}

/// The configuration of a topic.
pub async fn describe<C: ClientContext + 'static>(
    admin: &AdminClient<C>,
    settings: &Settings,
    topic: &str,
) -> Result<Vec<ConfigEntry>, String> {
    let asked = [ResourceSpecifier::Topic(topic)];
    let answer = admin.describe_configs(&asked, &options()).await;
    let answer = answer.map_err(|error| explain::explain_of(&error, settings, topic))?;
    let entries = match answer.into_iter().next() {
        Some(Ok(resource)) => resource.entries,
        Some(Err(code)) => return Err(explain::explain_code_of(code, settings, topic)),
        None => Vec::new(),
    };
    match entries.is_empty() {
        false => Ok(entries),
        // rdkafka 0.39 takes a refusal for an answer without entries.
        true => Err(format!(
            "Kafka does not tell how the topic {topic} is set: allow DescribeConfigs on it, where this user lacks that (docs/kafka.md has the list)"
        )),
    }
}

/// What is wrong with a topic, all of it in one line.
pub fn check(
    settings: &Settings,
    name: &str,
    expected: Option<u32>,
    topic: &Described,
) -> Result<(), String> {
    let mut faults = Vec::new();
    if expected.is_some_and(|expected| topic.partitions != expected) {
        faults.push(format!(
            "the topic {name} has {} partitions and bus.partitions is {}: order rests on their number; set bus.partitions to {}, and use switchboard bus grow for more of them",
            topic.partitions, settings.partitions, topic.partitions
        ));
    }
    if topic.replication < settings.replication {
        faults.push(format!(
            "the topic {name} is kept {} times and bus.replication is {}: reassign its partitions to more brokers, or set bus.replication to what is meant",
            topic.replication, settings.replication
        ));
    }
    let of = |key: &str| topic.value(key);
    let number = |key: &str| topic.number(key);
    if number("max.message.bytes").is_some_and(|bytes| bytes <= SEALED_BYTES) {
        return Err(format!(
            "the topic {name} is sealed by switchboard bus grow, and the database knows of no other: if it was restored from a backup of before, set max.message.bytes of {name} to {RECORD_BYTES_MAX}; what was accepted onto a later topic is there until its retention"
        ));
    }
    if let Some(bytes) =
        number("max.message.bytes").filter(|bytes| *bytes < RECORD_BYTES_MAX as i64)
    {
        faults.push(format!(
            "the topic {name} takes records of {bytes} bytes, and a long mail has more: set its max.message.bytes to {RECORD_BYTES_MAX}"
        ));
    }
    let retention = number("retention.ms");
    let mut wrong = Vec::new();
    let mut refuse = |what: Unsafe, why: String| {
        if !settings.accepted.contains(&what) {
            wrong.push(format!("{} ({why})", what.as_str()));
        }
    };
    if topic.replication > 1 && number("min.insync.replicas").is_some_and(|least| least < 2) {
        refuse(
            Unsafe::OneInSyncReplica,
            "set min.insync.replicas to 2".to_owned(),
        );
    }
    if of("unclean.leader.election.enable") == "true" {
        let why = "set unclean.leader.election.enable to false";
        refuse(Unsafe::UncleanElection, why.to_owned());
    }
    let (least, most) = RETENTION_DAYS.into_inner();
    if let Some(days) = retention.filter(|millis| (0..least * DAY_MILLIS).contains(millis)) {
        let why = format!(
            "retention.ms is {days}: set it to at least {}",
            least * DAY_MILLIS
        );
        refuse(Unsafe::ShortRetention, why);
    }
    if retention.is_some_and(|millis| millis < 0 || millis > most * DAY_MILLIS) {
        let why = format!("set retention.ms to at most {}", most * DAY_MILLIS);
        refuse(Unsafe::LongRetention, why);
    }
    if number("retention.bytes").is_some_and(|bytes| bytes >= 0) {
        refuse(
            Unsafe::SizeRetention,
            "set retention.bytes to -1".to_owned(),
        );
    }
    if of("cleanup.policy").contains("compact") {
        refuse(
            Unsafe::Compaction,
            "set cleanup.policy to delete".to_owned(),
        );
    }
    if !wrong.is_empty() {
        faults.push(format!(
            "the topic {name} can lose what is acknowledged, or keeps it too long: {}; or accept it by name in bus.accept_unsafe",
            wrong.join(", ")
        ));
    }
    match faults.is_empty() {
        true => Ok(()),
        false => Err(faults.join("; also, ")),
    }
}

/// What a topic is made with.
fn new_config(settings: &Settings) -> Vec<(String, String)> {
    let config = [
        (
            "min.insync.replicas",
            settings.replication.min(2).to_string(),
        ),
        ("unclean.leader.election.enable", "false".to_owned()),
        ("cleanup.policy", "delete".to_owned()),
        ("retention.ms", settings.retention.as_millis().to_string()),
        ("retention.bytes", "-1".to_owned()),
        ("max.message.bytes", RECORD_BYTES_MAX.to_string()),
    ];
    config.map(|(key, value)| (key.to_owned(), value)).into()
}

/// Makes a topic; that it is there already is no error.
pub async fn create<C: ClientContext + 'static>(
    admin: &AdminClient<C>,
    settings: &Settings,
    topic: &str,
    partitions: u32,
    config: &[(String, String)],
) -> Result<(), String> {
    let int = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    let replication = TopicReplication::Fixed(int(settings.replication));
    let new = NewTopic::new(topic, int(partitions), replication);
    let new = config
        .iter()
        .fold(new, |new, (key, value)| new.set(key, value));
    let made = admin.create_topics(&[new], &options()).await;
    let made = made.map_err(|error| explain::explain_of(&error, settings, topic))?;
    match made.into_iter().next() {
        // Another process may have been faster; it is looked at as any other.
        None | Some(Ok(_)) | Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(()),
        Some(Err((_, RDKafkaErrorCode::InvalidReplicationFactor))) => Err(format!(
            "the topic {topic} cannot be made: bus.replication is {}, and the cluster has fewer brokers",
            settings.replication
        )),
        Some(Err((_, RDKafkaErrorCode::TopicAuthorizationFailed))) => Err(format!(
            "the topic {topic} is missing, or this user may not see it: {}; or create it with {partitions} partitions",
            explain::refused("Create and Describe", topic)
        )),
        Some(Err((_, code))) => Err(format!(
            "the topic {topic} is missing and cannot be made: {}; create it with {} partitions, or let this user create it",
            explain::explain_code_of(code, settings, topic),
            partitions
        )),
    }
}

pub fn options() -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(ANSWER_MAX))
        .operation_timeout(Some(ANSWER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "shop.inbound";

    fn settings(accepted: &[Unsafe]) -> Settings {
        Settings {
            brokers: "127.0.0.1:9".to_owned(),
            prefix: "shop".to_owned(),
            partitions: 4,
            replication: 3,
            retention: Duration::from_secs(14 * 24 * 60 * 60),
            brokers_share_out: false,
            accepted: accepted.to_vec(),
            security: Default::default(),
            librdkafka: Default::default(),
            check_topic: true,
            overheard: Default::default(),
        }
    }

    fn described(change: &[(&str, &str)]) -> Described {
        let day = DAY_MILLIS;
        let mut config: std::collections::BTreeMap<String, String> = [
            ("min.insync.replicas", "2".to_owned()),
            ("unclean.leader.election.enable", "false".to_owned()),
            ("retention.ms", (14 * day).to_string()),
            ("retention.bytes", "-1".to_owned()),
            ("cleanup.policy", "delete".to_owned()),
            ("max.message.bytes", RECORD_BYTES_MAX.to_string()),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
        for (key, value) in change {
            config.insert((*key).to_owned(), (*value).to_owned());
        }
        Described {
            partitions: 4,
            replication: 3,
            config: config.into_iter().collect(),
        }
    }

    #[test]
    fn a_topic_that_can_lose_what_is_acknowledged_is_refused_by_name_and_taken_by_name() {
        assert_eq!(
            check(&settings(&[]), NAME, Some(4), &described(&[])),
            Ok(())
        );
        for (key, value, what) in [
            ("min.insync.replicas", "1", Unsafe::OneInSyncReplica),
            (
                "unclean.leader.election.enable",
                "true",
                Unsafe::UncleanElection,
            ),
            ("retention.ms", "604800000", Unsafe::ShortRetention),
            ("retention.ms", "-1", Unsafe::LongRetention),
            ("retention.ms", "2505600000", Unsafe::LongRetention),
            ("retention.bytes", "1073741824", Unsafe::SizeRetention),
            ("cleanup.policy", "compact,delete", Unsafe::Compaction),
        ] {
            let topic = described(&[(key, value)]);
            let refused = check(&settings(&[]), NAME, Some(4), &topic).expect_err(key);
            assert!(
                refused.contains(&format!(": {} (", what.as_str())),
                "{refused}"
            );
            let others: Vec<Unsafe> = Unsafe::ALL.into_iter().filter(|one| *one != what).collect();
            assert!(
                check(&settings(&others), NAME, Some(4), &topic).is_err(),
                "{key} is accepted by another's name"
            );
            assert_eq!(check(&settings(&[what]), NAME, Some(4), &topic), Ok(()));
        }
    }

    #[test]
    fn a_topic_of_other_size_is_refused_with_what_to_do() {
        for (change, expected) in [
            (
                Described {
                    partitions: 3,
                    ..described(&[])
                },
                "has 3 partitions and bus.partitions is 4",
            ),
            (
                Described {
                    partitions: 5,
                    ..described(&[])
                },
                "set bus.partitions to 5",
            ),
            (
                Described {
                    replication: 1,
                    ..described(&[])
                },
                "is kept 1 times and bus.replication is 3",
            ),
            (
                described(&[("max.message.bytes", "128")]),
                "is sealed by switchboard bus grow",
            ),
            (
                described(&[("max.message.bytes", "1048588")]),
                "set its max.message.bytes to 33554432",
            ),
        ] {
            let refused =
                check(&settings(&Unsafe::ALL), NAME, Some(4), &change).expect_err(expected);
            assert!(refused.contains(expected), "{refused}");
        }
    }
}
