//! What the store tells of what was accepted and where it is, page by page: short queries, nothing is locked and
//! nobody who writes is kept waiting.

use std::collections::HashSet;

use async_trait::async_trait;

use crate::reconcile::facts::{Parked, Record, Said};
use crate::router::facts::Key16;

use super::Result;

/// Where looking begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// Everything that arrived since has a higher number, and so has everything undecided.
    pub after: i64,
    /// The store has every record, also those that are not decided.
    pub has_log: bool,
}

/// Some facts, and behind which number the next ones are; `None`: these were the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    pub items: Vec<T>,
    pub next: Option<i64>,
}

#[async_trait]
pub trait Reconciles {
    async fn reconcile_from(&self, since: i64) -> Result<Start>;
    /// Records by number: all that are in the log, or, where the bus is elsewhere, those of which bytes are kept.
    async fn records_after(&self, after: i64, limit: u32) -> Result<Page<Record>>;
    /// Dead letters that nobody filed, by number, whenever they were buried.
    async fn parked_after(&self, after: i64, limit: u32) -> Result<Page<Parked>>;
    /// Messages by number, those that came since.
    async fn said_after(&self, after: i64, since: i64, limit: u32) -> Result<Page<Said>>;
    /// Those of the keys under which something was filed, as far back as keys are kept.
    async fn filed_keys(&self, keys: Vec<Key16>) -> Result<HashSet<Key16>>;
}
