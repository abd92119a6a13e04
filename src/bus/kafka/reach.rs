//! Whether clients have a broker. One that woke, and is not let into its cluster again yet, names no broker at all;
//! librdkafka 2.12 forgets then those that it knew, and does not always go back to `bus.brokers`.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// A client that had no broker for so long is made anew.
pub const ANEW_AFTER: Duration = Duration::from_secs(15);

/// When each kind of client had a broker last.
#[derive(Default)]
pub struct Reach(BTreeMap<String, Instant>);

impl Reach {
    /// Notes whether a client has any broker now. Whether it has had none for too long: then all are made anew, and
    /// have as long again.
    pub fn note(&mut self, client: &str, is_connected: bool, now: Instant) -> bool {
        let last = self.0.entry(client.to_owned()).or_insert(now);
        if is_connected {
            *last = now;
        }
        let is_lost = now.duration_since(*last) >= ANEW_AFTER;
        if is_lost {
            self.0.clear();
        }
        is_lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_without_a_broker_for_fifteen_seconds_is_made_anew_and_has_as_long_again() {
        let begun = Instant::now();
        let mut reach = Reach::default();
        let mut at = |second, client, is_connected| {
            reach.note(client, is_connected, begun + Duration::from_secs(second))
        };
        // Also one that never had any.
        assert!(!at(0, "producer", false));
        assert!(!at(14, "producer", false));
        assert!(at(15, "producer", false));
        assert!(!at(16, "producer", false));
        assert!(!at(20, "consumer", true));
        assert!(!at(30, "producer", true));
        assert!(!at(34, "consumer", false));
        assert!(!at(44, "producer", false), "one of its own");
        assert!(at(45, "producer", false));
        assert!(!at(46, "consumer", false), "it was made anew, too");
    }
}
