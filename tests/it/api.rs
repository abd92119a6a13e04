//! The HTTP API against a real store: what each request is answered, and what becomes of it.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod act_as;
mod actions;
mod attachments;
mod claims;
mod conversations;
mod cors;
mod deadlines;
mod desk;
mod document;
mod events;
mod hooks;
mod lists;
mod macros;
mod messages;
mod operations;
mod order;
mod privacy;
mod reconciliation;
mod repeated;
mod rights;
mod search;
pub mod served;
mod settling;
mod surgery;
mod tls;
mod uploads;
