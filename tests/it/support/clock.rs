//! Time that moves when a test says so.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use connector_api::{Clock, Timestamp};
use switchboard::clock::{micros, timestamp};

/// Begins on a Monday morning.
pub struct ManualClock(AtomicI64);

impl ManualClock {
    pub fn new() -> Self {
        let monday: Timestamp = "2026-01-05T09:00:00Z".parse().expect("a valid time");
        Self(AtomicI64::new(micros(monday)))
    }

    pub fn advance(&self, by: Duration) {
        let by = i64::try_from(by.as_micros()).expect("a test's time span is short");
        self.0.fetch_add(by, Ordering::SeqCst);
    }

    pub fn set_back(&self, by: Duration) {
        let by = i64::try_from(by.as_micros()).expect("a test's time span is short");
        self.0.fetch_sub(by, Ordering::SeqCst);
    }

    pub fn micros(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        timestamp(self.micros())
    }
}
