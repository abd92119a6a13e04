//! Whole-daemon tests, one binary. Each module says what its tests are about.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

#[path = "../peers/peers.rs"]
mod peers;
#[path = "../sim/sim.rs"]
mod sim;

mod api;
mod architecture;
mod attachments;
#[cfg(feature = "postgres")]
mod blobs;
mod bus_suite;
#[cfg(all(feature = "kafka", feature = "postgres"))]
mod campaigns;
mod complaints;
mod config;
mod daemon;
mod deploy;
mod hostile;
mod inbound;
mod joining;
#[cfg(feature = "kafka")]
mod kafka;
mod lanes;
mod loops;
mod mail_out;
#[cfg(all(feature = "kafka", feature = "postgres"))]
mod migrate;
#[cfg(feature = "postgres")]
mod postgres;
mod properties;
mod relays;
mod routing;
mod seeded;
mod sqlite;
mod store_suite;
mod support;
mod surgery;
mod versions;
