//! Whole-daemon tests, one binary. Each module says what its tests are about.

#[path = "../peers/peers.rs"]
mod peers;

mod architecture;
mod config;
mod daemon;
mod joining;
mod store_suite;
mod support;
