//! What the brokers' errors mean, in one line with what to do.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::security;
use super::settings::{RECORD_BYTES_MAX, Settings, WrongSetting};

/// What a failed request about the topic that is read means, in one line with what to do.
pub fn explain(error: &KafkaError, settings: &Settings) -> String {
    explain_of(error, settings, &settings.topic())
}

pub fn explain_code(code: RDKafkaErrorCode, settings: &Settings) -> String {
    explain_code_of(code, settings, &settings.topic())
}

/// What is missing is named as Kafka's own tools name it.
pub fn refused(operation: &str, topic: &str) -> String {
    format!(
        "Kafka refuses this user the topic {topic}: allow {operation} on it (docs/kafka.md has the list)"
    )
}

/// The same about any topic.
pub fn explain_of(error: &KafkaError, settings: &Settings, topic: &str) -> String {
    match error {
        // rdkafka does not count it among its codes.
        KafkaError::AdminOp(code) => explain_code_of(*code, settings, topic),
        KafkaError::ClientConfig(..) => WrongSetting::from(error.clone()).to_string(),
        other => match other.rdkafka_error_code() {
            Some(code) => explain_code_of(code, settings, topic),
            None => format!("Kafka at {}: {other}", settings.brokers),
        },
    }
}

pub fn explain_code_of(code: RDKafkaErrorCode, settings: &Settings, topic: &str) -> String {
    use RDKafkaErrorCode as Code;
    let brokers = &settings.brokers;
    if let Some(line) = security::explain(code, "", settings) {
        return line;
    }
    match code {
        Code::AllBrokersDown
        | Code::BrokerTransportFailure
        | Code::OperationTimedOut
        | Code::RequestTimedOut
        | Code::Resolve => {
            settings.overheard.take().unwrap_or_else(|| {
                let or_token = security::unanswered(settings);
                format!("no Kafka broker answers at {brokers}: start it, or mend bus.brokers{or_token}")
            })
        }
        Code::TopicAuthorizationFailed => refused("Read and Write", topic),
        Code::GroupAuthorizationFailed => format!(
            "Kafka refuses this user the consumer group {}.router: allow Read on it",
            settings.prefix
        ),
        Code::ClusterAuthorizationFailed => {
            "Kafka refuses this user to write: allow Write on the topics, or IdempotentWrite on the cluster where brokers are older than 3.0".to_owned()
        }
        Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => {
            format!("the topic {topic} is missing: it is made again when it is looked for next")
        }
        Code::NotEnoughReplicas | Code::NotEnoughReplicasAfterAppend => {
            "too few replicas of the topic are in sync: start the brokers that are down".to_owned()
        }
        Code::MessageTimedOut => {
            format!("the brokers at {brokers} did not acknowledge in time: look at them")
        }
        Code::MessageSizeTooLarge => format!(
            "a record is larger than {} MiB",
            RECORD_BYTES_MAX / (1024 * 1024)
        ),
        other => format!("Kafka at {brokers}: {other}"),
    }
}
