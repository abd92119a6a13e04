//! An erasure as the API and the commands show it: nothing in it is about the person but a number.

use std::collections::BTreeMap;

use connector_api::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::clock::timestamp;
use crate::ids::{ContactId, IdCodec, IdKind};
use crate::store::privacy::{Erasure, Stage};

use super::PublicIds;

/// An erasure and its report.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErasureView {
    #[schema(example = "era_5b1c9d1e7a0f8c3d9f2a6b4c8d7e1f03")]
    pub id: String,
    #[schema(example = "con_0d4f6a8b9c1e8e2f8a3b5c7d9e1f2a4b")]
    pub contact_id: String,
    pub brand: String,
    /// How far it is; `done` once nothing is left here.
    pub stage: Stage,
    pub asked_at: Timestamp,
    #[schema(required)]
    pub done_at: Option<Timestamp>,
    /// The agent who asked, the role of a token without one, or `operator`.
    pub by: String,
    pub reason: String,
    /// Why it does not go on, while it does not.
    #[schema(required)]
    pub waits_for: Option<String>,
    /// How much was removed, by kind.
    #[schema(example = json!({ "contacts": 1, "conversations": 2, "messages": 17, "files": 1 }))]
    pub removed: BTreeMap<String, u64>,
    /// Other contacts with one of the addresses: unproven senders, perhaps the same person. They are not erased.
    pub same_address: Vec<String>,
    /// Until when a backup may have a copy, as `retention.backups` says how long these are kept.
    #[schema(required)]
    pub in_backups_until: Option<Timestamp>,
    /// When the copies on Kafka are gone by the topics' retention; null where the bus is the local log.
    #[schema(required)]
    pub on_bus_until: Option<Timestamp>,
    /// When files that the bus may name are gone; null where they are gone now.
    #[schema(required)]
    pub in_files_until: Option<Timestamp>,
    /// What may be left in space that the database does not use, and what to do about it.
    #[schema(required)]
    pub unused_space: Option<String>,
}

impl ErasureView {
    pub fn of(erasure: &Erasure, ids: &IdCodec) -> Self {
        let report = &erasure.report;
        let same = report.same_address.iter();
        Self {
            id: ids.encode(IdKind::Erasure, erasure.id),
            contact_id: ids.contact(erasure.contact),
            brand: erasure.brand.as_str().to_owned(),
            stage: erasure.stage,
            asked_at: timestamp(erasure.asked_at),
            done_at: erasure.done_at.map(timestamp),
            by: erasure.who.clone(),
            reason: erasure.reason.clone(),
            waits_for: report.waits.clone(),
            removed: report.removed.clone(),
            same_address: same.map(|id| ids.contact(ContactId(*id))).collect(),
            in_backups_until: report.backups_until.map(timestamp),
            on_bus_until: report.bus_until.map(timestamp),
            in_files_until: report.files_until.map(timestamp),
            unused_space: report.unused_space.clone(),
        }
    }
}
