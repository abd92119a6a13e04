//! Gathers facts into a report, in bounded memory.

use std::collections::{BTreeMap, BTreeSet};

use connector_api::{ProviderItem, Timestamp};

use crate::clock::timestamp;
use crate::conversation::Delivery;
use crate::ids::{IdCodec, IdKind};

use super::facts::{Body, Known, Named, Parked, Record, Said};
use super::fate::{Became, Fate, Place, Reply, became, fate, placed, reply};
use super::gap::{Gap, GapKind};
use super::report::{ChannelReport, Outcome, Provider, ProviderState, Report};
use super::{GAPS_NAMED_MAX, Records, Replies, Routed};

/// What a report is of. Times are UTC microseconds.
#[derive(Debug, Clone)]
pub struct Whole {
    pub since: i64,
    pub now: i64,
    /// `None`: all of them.
    pub channel: Option<String>,
}

/// A report in the making.
pub struct Tally {
    whole: Whole,
    ids: IdCodec,
    channels: BTreeMap<String, ChannelReport>,
    gone: u64,
    notes: Vec<String>,
    gaps: Vec<Gap>,
    gaps_total: u64,
    /// Messages that are named as missing already.
    missing: BTreeSet<i64>,
    incomplete: bool,
}

impl Tally {
    pub fn new(whole: Whole, ids: IdCodec) -> Self {
        Self {
            whole,
            ids,
            channels: BTreeMap::new(),
            gone: 0,
            notes: Vec::new(),
            gaps: Vec::new(),
            gaps_total: 0,
            missing: BTreeSet::new(),
            incomplete: false,
        }
    }

    /// Whether the report is of that channel, too.
    pub fn is_of(&self, channel: &str) -> bool {
        let only = self.whole.channel.as_deref();
        only.is_none_or(|only| only == channel)
    }

    pub fn channel(&mut self, channel: &str) -> &mut ChannelReport {
        let new = || ChannelReport {
            channel: channel.to_owned(),
            provider: Provider::default(),
            accepted: Records::default(),
            routed: Routed::default(),
            replies: Replies::default(),
        };
        self.channels.entry(channel.to_owned()).or_insert_with(new)
    }

    /// Something that could not be compared.
    pub fn note(&mut self, note: String) {
        self.incomplete = true;
        if self.notes.len() < GAPS_NAMED_MAX {
            self.notes.push(note);
        }
    }

    pub fn record(&mut self, record: &Record) {
        let named = match &record.body {
            Body::Read(named) => Some(named),
            _ => None,
        };
        let arrived_at = named.map_or(record.arrived_at, |named| named.arrived_at);
        if arrived_at < self.whole.since {
            return;
        }
        let became = became(record, self.whole.now);
        let channel = record.channel.clone();
        let channel = channel.or_else(|| named.map(|named| named.channel.clone()));
        if let Became::Gone = became {
            self.gone += 1;
            return;
        }
        if !self.is_of(channel.as_deref().unwrap_or_default()) {
            return;
        }
        if let Became::Gap(kind) = became {
            if kind == GapKind::NotStored {
                self.missing.insert(record.number);
            }
            let gap = self.gap_of(kind, channel.as_deref(), Some(record.number), arrived_at);
            return self.gap(with_names(gap, named));
        }
        let Some(channel) = channel else { return };
        let records = &mut self.channel(&channel).accepted;
        let count = match became {
            Became::Message => &mut records.messages,
            Became::Change => &mut records.changes,
            Became::Waits => &mut records.waiting,
            Became::Redelivery => &mut records.redeliveries,
            Became::DeadLetter => &mut records.dead_letters,
            Became::UnderWay => &mut records.under_way,
            Became::Gone | Became::Gap(_) => return,
        };
        *count += 1;
    }

    /// A partition of a bus elsewhere is not decided through its newest record.
    pub fn undecided(&mut self, newest: i64, reason: String) {
        let kind = GapKind::NotDecided;
        let gap = self.gap_of(kind, None, Some(newest), self.whole.now);
        self.gap(Gap {
            at: None,
            reason: Some(reason),
            ..gap
        });
    }

    /// A dead letter that nobody filed yet.
    pub fn parked(&mut self, parked: &Parked) {
        let named = parked.named.as_ref();
        let channel = named.map(|named| named.channel.as_str());
        if parked.at < self.whole.since || !self.is_of(channel.unwrap_or_default()) {
            return;
        }
        let kind = GapKind::DeadLetter;
        let mut gap = self.gap_of(kind, channel, Some(parked.record), parked.at);
        gap.reason = Some(parked.reason.clone());
        self.gap(with_names(gap, named));
    }

    /// Counts an item of a provider; a gap is to be looked at once more before it is told.
    pub fn item(&mut self, channel: &str, item: &ProviderItem, known: Known) -> Option<Gap> {
        let at = item.at.map(Timestamp::as_microsecond);
        let fate = fate(item.standing, at, known, self.whole.now);
        let provider = &mut self.channel(channel).provider;
        provider.items += 1;
        match fate {
            Fate::Accepted => provider.accepted += 1,
            Fate::UnderWay => provider.under_way += 1,
            Fate::Outside => provider.outside += 1,
            Fate::Copy => provider.copies += 1,
            Fate::Untold => {
                provider.not_compared += 1;
                let id = &item.provider_id;
                self.note(format!(
                    "{channel}: {id} has no id of its own, so it was not compared"
                ));
            }
            Fate::Gap(kind) => {
                let gap = self.gap_of(kind, Some(channel), None, at.unwrap_or_default());
                return Some(Gap {
                    provider_id: Some(item.provider_id.clone()),
                    message_id: item.message_id.clone(),
                    at: item.at,
                    ..gap
                });
            }
        }
        None
    }

    /// What the provider was asked came to.
    pub fn asked(&mut self, channel: &str, state: ProviderState, reason: Option<String>) {
        let provider = &mut self.channel(channel).provider;
        provider.state = state;
        provider.reason = reason;
        self.incomplete |= state != ProviderState::Asked;
    }

    /// `copied`: as [`reply`] takes it.
    pub fn said(&mut self, said: &Said, copied: Option<bool>) {
        if !self.is_of(&said.channel) {
            return;
        }
        if let Some(missing) = said.missing.filter(|_| !said.going)
            && self.missing.insert(missing)
        {
            let kind = GapKind::NotStored;
            let mut gap = self.gap_of(kind, Some(&said.channel), Some(missing), said.arrived_at);
            gap.conversation_id = Some(self.ids.encode(IdKind::Conversation, said.conversation));
            gap.at = None;
            gap.reason = Some("the message after it names it".to_owned());
            self.gap(gap);
        }
        match said.delivery {
            Some(_) if said.going => {}
            Some(delivery) => self.reply(said, delivery, copied),
            None => {}
        }
        if said.inbound {
            self.placed(said);
        } else if said.stands.is_none() && !said.going {
            self.gap_of_said(GapKind::NoConversation, said, false);
        }
    }

    fn placed(&mut self, said: &Said) {
        let place = match placed(said) {
            Ok(place) => place,
            Err(kind) => return self.gap_of_said(kind, said, false),
        };
        let routed = &mut self.channel(&said.channel).routed;
        let count = match place {
            Place::Queue => &mut routed.in_queues,
            Place::Agent => &mut routed.with_agents,
            Place::Customer => &mut routed.with_customers,
            Place::Snoozed => &mut routed.snoozed,
            Place::Automation => &mut routed.automation,
            Place::Ended => &mut routed.ended,
            Place::Going => &mut routed.going,
        };
        *count += 1;
    }

    fn reply(&mut self, said: &Said, delivery: Delivery, copied: Option<bool>) {
        let reply = reply(said, delivery, copied, self.whole.now);
        let replies = &mut self.channel(&said.channel).replies;
        let count = match reply {
            Reply::Waiting => &mut replies.waiting,
            Reply::UnderWay => &mut replies.under_way,
            Reply::Sent => &mut replies.sent,
            Reply::Delivered => &mut replies.delivered,
            Reply::Refused => &mut replies.refused,
            Reply::Gap(kind) => {
                let count = match kind {
                    GapKind::NoCopy => &mut replies.sent,
                    GapKind::ReplyUnknown => &mut replies.unknown,
                    _ => &mut replies.waiting,
                };
                *count += 1;
                return self.gap_of_said(kind, said, copied == Some(true));
            }
        };
        *count += 1;
    }

    fn gap_of_said(&mut self, kind: GapKind, said: &Said, copied: bool) {
        let mut gap = self.gap_of(
            kind,
            Some(&said.channel),
            Some(said.number),
            said.arrived_at,
        );
        gap.conversation_id = Some(self.ids.encode(IdKind::Conversation, said.conversation));
        if copied {
            let id = gap.id.clone().unwrap_or_default();
            gap.next = kind.next(&said.channel, &id, true);
        }
        gap.reason = said.stands.as_ref().map(|stands| {
            let status = stands.status.as_str();
            format!(
                "the conversation is {status}, its queue is {}",
                stands.queue
            )
        });
        self.gap(gap);
    }

    fn gap_of(&self, kind: GapKind, channel: Option<&str>, number: Option<i64>, at: i64) -> Gap {
        let id = number.map(|number| self.ids.encode(IdKind::Message, number));
        let next = kind.next(
            channel.unwrap_or("CHANNEL"),
            id.as_deref().unwrap_or_default(),
            false,
        );
        Gap {
            kind,
            channel: channel.map(str::to_owned),
            provider_id: None,
            message_id: None,
            id,
            conversation_id: None,
            at: Some(timestamp(at)),
            reason: None,
            next,
        }
    }

    pub fn gap(&mut self, gap: Gap) {
        self.gaps_total += 1;
        if self.gaps.len() < GAPS_NAMED_MAX {
            self.gaps.push(gap);
        }
    }

    /// Gaps beyond those that can be named.
    pub fn unnamed(&mut self, more: u64) {
        self.gaps_total += more;
    }

    /// An item that seemed to be a gap was filed meanwhile.
    pub fn accepted_after_all(&mut self, channel: &str) {
        self.channel(channel).provider.accepted += 1;
    }

    pub fn report(mut self) -> Report {
        let by = |gap: &Gap| (gap.channel.clone(), gap.kind, gap.at);
        self.gaps.sort_by_key(by);
        let outcome = match (self.gaps_total, self.incomplete) {
            (0, false) => Outcome::Clean,
            (0, true) => Outcome::Incomplete,
            _ => Outcome::Gaps,
        };
        Report {
            since: timestamp(self.whole.since),
            as_of: timestamp(self.whole.now),
            outcome,
            channels: self.channels.into_values().collect(),
            gone: self.gone,
            notes: self.notes,
            gaps: self.gaps,
            gaps_total: self.gaps_total,
        }
    }
}

fn with_names(gap: Gap, named: Option<&Named>) -> Gap {
    Gap {
        provider_id: named.map(|named| named.provider_id.clone()),
        message_id: named.and_then(|named| named.message_id.clone()),
        ..gap
    }
}
