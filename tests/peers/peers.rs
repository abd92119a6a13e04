//! Real servers for tests on loopback: Dovecot, Cyrus, Postfix, PostgreSQL, Kafka and an S3 store, and a proxy that breaks connections.
//!
//! Each test starts its own servers in a temporary directory on free ports and they stop with the test, also when it
//! panics or is killed. Everything here blocks: asynchronous tests on a multi-thread runtime may call it directly or
//! through `tokio::task::spawn_blocking`. `make test` installs the servers and sets `SWITCHBOARD_PEERS=1`.
#![allow(dead_code, reason = "every test uses its own part of the harness")]

mod certificate;
pub mod chaos;
pub mod cyrus;
pub mod dovecot;
pub mod imap;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod mail;
pub mod postfix;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "postgres")]
pub mod s3;
mod self_test;
mod server;
pub mod smtp;

use std::sync::OnceLock;
use std::time::{Duration, Instant};

pub use chaos::Chaos;
pub use cyrus::Cyrus;
pub use dovecot::Dovecot;
pub use mail::with_auth_results;
pub use postfix::Postfix;
#[cfg(feature = "postgres")]
pub use postgres::Postgres;
#[cfg(feature = "postgres")]
pub use s3::S3;
pub use server::free_port;

/// How long a server or a mail may take before a test gives up on it; a loaded two-core machine needs about 2 s.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Tells whether tests with real servers run; where they do not, says so on one line.
///
/// A test starts with `if !peers::enabled() { return; }`. With `SWITCHBOARD_PEERS=1` a missing server is a failure.
pub fn enabled() -> bool {
    static ENABLED: OnceLock<bool> = OnceLock::new();
    let enabled =
        *ENABLED.get_or_init(|| std::env::var("SWITCHBOARD_PEERS").is_ok_and(|value| value == "1"));
    if !enabled {
        println!("skipped: make test runs this with real servers");
    }
    enabled
}

/// Polls until `probe` returns a value, and panics naming `what` when `patience` is over.
pub fn wait_for<T>(what: &str, patience: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = now() + patience;
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(
            now() < deadline,
            "waited {patience:?} for {what}, and it did not happen"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Polls until `condition` holds, and panics naming `what` when `patience` is over.
pub fn wait_until(what: &str, patience: Duration, mut condition: impl FnMut() -> bool) {
    wait_for(what, patience, || condition().then_some(()));
}

#[expect(
    clippy::disallowed_methods,
    reason = "deadlines of real servers are in real time"
)]
pub fn now() -> Instant {
    Instant::now()
}
