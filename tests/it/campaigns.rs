//! Campaigns: faults over and over while several processes work on one Kafka and one PostgreSQL. `make test` runs a
//! few rounds of each; the lengths of docs/reliability.md are asked for with `SWITCHBOARD_CAMPAIGN=full`, and then
//! each leaves a line in `reliability/ledger.jsonl`.

mod brokers;
mod database;
mod ledger;
mod routers;
mod traffic;

/// Whether campaigns run in the length that the ledger is for.
fn full() -> bool {
    std::env::var("SWITCHBOARD_CAMPAIGN").is_ok_and(|value| value == "full")
}

/// Rounds and messages: a taste of it, or the whole.
fn size(taste: (usize, usize), whole: (usize, usize)) -> (usize, usize) {
    if full() { whole } else { taste }
}
