//! What the clients tell of themselves: log lines, trouble with brokers, statistics.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::statistics::Statistics;
use tracing::{debug, info, warn};

use super::settings::Settings;
use super::{Shared, explain, security};

/// Shared by producer and consumer.
#[derive(Clone)]
pub struct Context(pub Arc<Shared>);

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log(level, facility, line);
        // That a broker hangs up is no error of librdkafka's: the log alone says it.
        if facility == "FAIL"
            && !self.0.was_well.load(Ordering::Acquire)
            && let Some(line) = security::explain_end(line, &self.0.settings)
        {
            self.0.down_for(line);
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        use RDKafkaErrorCode as Code;
        let (shared, settings) = (&self.0, &self.0.settings);
        let Some(code) = error.rdkafka_error_code() else {
            return debug!(reason, "librdkafka: {error}: {reason}");
        };
        if let Some(line) = security::explain(code, reason, settings) {
            return shared.down_for(line);
        }
        match code {
            Code::AllBrokersDown => shared.down(explain::explain_code(code, settings)),
            // An idempotent producer that brokers give no number to.
            Code::ClusterAuthorizationFailed => {
                shared.refuse(explain::explain_code(code, settings));
            }
            Code::Fatal => {
                warn!(
                    reason,
                    "a Kafka client cannot go on and is made anew: {reason}"
                );
                shared.broken.notify_one();
            }
            _ => debug!(reason, "librdkafka: {error}: {reason}"),
        }
    }

    fn stats(&self, statistics: Statistics) {
        super::statistics::tell(&self.0, &statistics);
    }
}

/// Says nothing of itself but log lines: what is wrong is the result of what it was asked for. Where that is only that no broker
/// answers, the lines know more.
#[derive(Clone)]
pub struct Quiet(Settings);

impl Quiet {
    pub fn new(settings: &Settings) -> Self {
        Self(settings.clone())
    }
}

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log(level, facility, line);
        if facility == "FAIL"
            && let Some(why) = security::explain_line(line, &self.0)
        {
            self.0.overheard.note(why);
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        debug!(reason, "librdkafka: {error}: {reason}");
    }

    fn stats(&self, _: Statistics) {}
}

impl ConsumerContext for Quiet {}

/// Logs what a client says. What it means is told as a state.
pub fn log(level: RDKafkaLogLevel, facility: &str, line: &str) {
    use RDKafkaLogLevel as Level;
    match level {
        // Settings of producers told to consumers, and the other way: they are told both, on purpose.
        _ if facility == "CONFWARN" => debug!(facility, "librdkafka: {line}"),
        Level::Emerg | Level::Alert | Level::Critical | Level::Error | Level::Warning => {
            info!(facility, "librdkafka: {line}");
        }
        Level::Notice | Level::Info | Level::Debug => debug!(facility, "librdkafka: {line}"),
    }
}
