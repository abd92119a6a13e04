//! Switchboard: an omnichannel routing daemon.
//!
//! # Layout, in the order a message goes through
//! [`inbound`] runs the channels' sources, [`normalise`] cleans up, [`intake`] is the durability
//! line, [`bus`] holds what was accepted, [`router`] decides, [`store`] keeps, [`dispatch`] gives
//! conversations to agents, [`api`] serves them, [`outbound`] sends the answers,
//! [`relay`] tells others on topics of the bus.
//! Across: [`config`], [`daemon`], [`clock`], [`ids`], [`http`], [`telemetry`], [`health`].

#[macro_use]
pub mod seeded;
// In the order a message goes through.
pub mod api;
pub mod bus;
pub mod dispatch;
pub mod inbound;
pub mod intake;
pub mod normalise;
pub mod outbound;
pub mod relay;
pub mod router;
pub mod store;
// Across.
pub mod alerts;
pub mod blobs;
pub mod channels;
pub mod cli;
pub mod clock;
pub mod config;
pub mod conversation;
pub mod credentials;
pub mod daemon;
pub mod health;
pub mod http;
pub mod ids;
pub mod live;
pub mod reconcile;
pub mod search;
pub mod subject;
pub mod telemetry;
pub mod wake;
pub mod words;

pub use cli::run_with;
