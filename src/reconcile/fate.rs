//! What became of one thing.

use connector_api::Standing;

use crate::conversation::{Delivery, Status};

use super::facts::{Body, Known, Letter, Record, Said, Stands};
use super::gap::GapKind;
use super::{LEAVES_WITHIN_MICROS, READ_WITHIN_MICROS, UNDER_WAY_MICROS};

/// What became of an accepted record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Became {
    Message,
    Change,
    /// It changes a message that has not come.
    Waits,
    Redelivery,
    UnderWay,
    /// Erased, or past its retention.
    Gone,
    /// Counted; letters are named from their own list.
    DeadLetter,
    Gap(GapKind),
}

pub fn became(record: &Record, now: i64) -> Became {
    if record.message {
        return Became::Message;
    }
    if record.change {
        return Became::Change;
    }
    if record.letter == Some(Letter::Parked) {
        return Became::DeadLetter;
    }
    if record.pending {
        return Became::Waits;
    }
    if !record.decided {
        return match now - record.arrived_at < UNDER_WAY_MICROS {
            true => Became::UnderWay,
            false => Became::Gap(GapKind::NotDecided),
        };
    }
    match &record.body {
        Body::Gone => Became::Gone,
        Body::Read(named) if named.filed_as.is_some_and(|filed| filed != record.number) => {
            Became::Redelivery
        }
        Body::Read(_) | Body::Unreadable | Body::Unasked => Became::Gap(GapKind::NotStored),
    }
}

/// What became of an item that a provider has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Accepted,
    UnderWay,
    /// From before the channel was connected.
    Outside,
    Copy,
    Untold,
    Gap(GapKind),
}

/// `at` is when the provider got it.
pub fn fate(standing: Standing, at: Option<i64>, known: Known, now: i64) -> Fate {
    let is_young = |within: i64| at.is_some_and(|at| now - at < within);
    match (standing, known) {
        (Standing::Copy, _) => Fate::Copy,
        (_, Known::Yes) => Fate::Accepted,
        (Standing::Outside, _) => Fate::Outside,
        (Standing::Behind, _) => Fate::UnderWay,
        (Standing::Ahead, _) if is_young(READ_WITHIN_MICROS) => Fate::UnderWay,
        (Standing::Ahead, _) => Fate::Gap(GapKind::NotRead),
        (_, Known::Untold) => Fate::Untold,
        (_, Known::Perhaps) => Fate::UnderWay,
        (_, Known::No) => Fate::Gap(GapKind::NeverAccepted),
    }
}

/// The one place where a conversation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Queue,
    Agent,
    /// It waits for the customer.
    Customer,
    Snoozed,
    Automation,
    Ended,
    /// Its conversation is being removed, and it goes with it.
    Going,
}

pub fn placed(said: &Said) -> Result<Place, GapKind> {
    match &said.stands {
        Some(stands) => place_of(stands),
        None if said.going => Ok(Place::Going),
        None => Err(GapKind::NoConversation),
    }
}

fn place_of(stands: &Stands) -> Result<Place, GapKind> {
    if stands.waits && stands.status != Status::Queued {
        return Err(GapKind::InTwoPlaces);
    }
    match stands.status {
        Status::Queued if stands.waits => Ok(Place::Queue),
        Status::Queued | Status::New => Err(GapKind::InNoQueue),
        Status::Offered => Ok(Place::Agent),
        Status::Assigned | Status::Wrapping => match stands.assignee {
            Some(_) => Ok(Place::Agent),
            None => Err(GapKind::InNoQueue),
        },
        Status::Pending => Ok(Place::Customer),
        Status::Snoozed if stands.wakes => Ok(Place::Snoozed),
        Status::Snoozed => Err(GapKind::NothingWakes),
        Status::Automation => Ok(Place::Automation),
        Status::Resolved | Status::Closed => Ok(Place::Ended),
    }
}

/// What became of an accepted reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// It leaves later, or is tried again.
    Waiting,
    UnderWay,
    Sent,
    Delivered,
    Refused,
    Gap(GapKind),
}

/// `copied`: whether a copy lies where the provider keeps what was sent; `None` where it keeps none.
pub fn reply(said: &Said, delivery: Delivery, copied: Option<bool>, now: i64) -> Reply {
    let is_young = |since: i64| now - since < UNDER_WAY_MICROS;
    let left = |reply| match copied {
        Some(false) if !is_young(said.arrived_at) => Reply::Gap(GapKind::NoCopy),
        _ => reply,
    };
    match (delivery, said.unsent) {
        (Delivery::Sent, _) => left(Reply::Sent),
        (Delivery::Delivered | Delivery::Read, _) => left(Reply::Delivered),
        (Delivery::Refused, _) => Reply::Refused,
        (Delivery::Unknown, _) => Reply::Gap(GapKind::ReplyUnknown),
        (_, Some(unsent)) if unsent.held => Reply::Gap(GapKind::ReplyUnknown),
        (_, None) => Reply::Gap(GapKind::ReplyLost),
        (_, Some(unsent)) if is_young(unsent.due_since) => Reply::UnderWay,
        (_, Some(unsent)) if now - unsent.due_since < LEAVES_WITHIN_MICROS => Reply::Waiting,
        (_, Some(_)) => Reply::Gap(GapKind::ReplyLate),
    }
}
