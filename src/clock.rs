//! Wall-clock time for the daemon; the only place that asks the system.

pub use connector_api::Clock;
use jiff::Timestamp;

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one source of wall-clock time"
    )]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// UTC microseconds since 1970, the form in which the store keeps times.
pub fn micros(at: Timestamp) -> i64 {
    at.as_microsecond()
}

/// The time of stored microseconds; out of range (a corrupt row) is the epoch.
pub fn timestamp(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).unwrap_or_default()
}
