//! Whether what providers have, what was accepted, what is stored and what is routed are one set, and each gap by
//! name. Pure: facts in, a report out; `daemon/reconcile.rs` brings the facts page by page.

pub mod facts;
mod fate;
mod gap;
mod report;
mod tally;

pub use fate::{Became, Fate, Place, Reply, became, fate, placed, reply};
pub use gap::{Gap, GapKind};
pub use report::{
    ChannelReport, Outcome, Provider, ProviderState, Records, Replies, Report, Routed,
};
pub use tally::{Tally, Whole};

/// What is younger is still under way, in microseconds: a busy router is seconds behind.
pub const UNDER_WAY_MICROS: i64 = 60 * 1_000_000;
/// Within which a channel reads what is new, in microseconds: some look every minute only.
pub const READ_WITHIN_MICROS: i64 = 5 * 60 * 1_000_000;
/// After which a reply that is to leave is named, in microseconds; until then tries are pauses apart.
pub const LEAVES_WITHIN_MICROS: i64 = 10 * 60 * 1_000_000;
/// Most gaps that one report names; all of them are counted.
pub const GAPS_NAMED_MAX: usize = 1_000;
