//! Surgery: merging, splitting and moving what was joined wrongly, and undoing it exactly. Pure
//! decisions over what the store read; it applies them in the transaction that read it.
//!
//! # What undoing gives back
//! After an undo everything that the operation changed is as it was: where each message is, its
//! number in its conversation and the one before it, how both conversations stood, who takes part,
//! what they are linked with. Versions, and the numbers that were given out, only grow.
//!
//! # What came since
//! Between an operation and its undo the day goes on, and none of that is taken back:
//! - A state that somebody changed since (claimed, answered, resolved, a priority) stays as it is;
//!   a part of the state that nobody touched is as it was before the operation.
//! - A customer's message belongs with what it was joined by: by a token of a merged conversation to
//!   that one, by a reference or a thread to wherever the message that it names goes. So does
//!   everything joined by such a message. An answer belongs with the customer's message that it
//!   answers. Whatever hangs on nothing that goes back, and every note, belongs to the conversation
//!   that goes on.
//! - Where a split is undone, all that came to the new conversation goes back with it.
//! - Whoever came with a message goes with it; a conversation that a customer wrote to since is
//!   woken as by that message.
//! - An answer leaves for the address that it was written for, wherever its message is by then.
//!
//! # Order
//! What two operations share, the later one is undone first; others in any order.

use connector_api::{ChannelId, QueueId};
use serde::{Deserialize, Serialize};

use crate::conversation::{Priority, Status};
use crate::ids::{ContactId, ConversationId};
use crate::router::facts::{Absorbed, Conversation, Link, LinkReason, Participant};

use super::{Actor, Refusal, Role};

mod since;
mod timeline;

pub use since::{Hang, Since, followers};
use since::{newest_inbound, part_people, take_in};
pub use timeline::{Entry, arrange};

/// Messages that one operation gives another place, and that it looks at: as many as a commit
/// holds. More would hold up everything else that is written meanwhile.
pub const MESSAGES_MAX: usize = 1_000;
/// Messages that one split names.
pub const SPLIT_MAX: usize = 500;
/// Conversations merged into one, and moved messages that brought somebody along.
pub const ABSORBED_MAX: usize = 50;
/// Conversations of a contact that a person merges with another.
pub const CONVERSATIONS_MAX: usize = 2_000;
const LINKS_MAX: usize = 20;

/// Why an operation is not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("give another one: it is the same")]
    Same,
    #[error("this conversation was merged into another one, which stands for it now")]
    Gone { into: ConversationId },
    #[error("this contact was merged into another one, which stands for it now")]
    ContactGone { into: ContactId },
    #[error("the other conversation is {}: reopen it first", .status.as_str())]
    NotOpen {
        status: Status,
        holder: Option<String>,
    },
    #[error("an agent does this to conversations of its own, and to one that nobody holds")]
    NotYours {
        status: Status,
        holder: Option<String>,
    },
    #[error(
        "the conversations are of different contacts: if they are one person, merge these first"
    )]
    AnotherContact,
    #[error("a message that is named is not in this conversation")]
    NotThere,
    #[error("every message would leave the conversation: merge it instead")]
    NothingLeft,
    #[error("this would touch more than {max} {what}: {hint}")]
    TooMany {
        max: usize,
        what: &'static str,
        hint: &'static str,
    },
    #[error("a later operation builds on this one: undo that first")]
    UndoFirst { event: i64 },
    #[error("this was undone before; to do it again, undo that")]
    AlreadyUndone { by: i64 },
}

/// How a conversation stands among those that wait and are held. One thing: it is given back whole
/// or not at all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stand {
    pub status: Status,
    pub queue: QueueId,
    pub assignee: Option<String>,
    pub enqueued_at: i64,
    pub resolved_at: Option<i64>,
}

impl Stand {
    pub fn of(conversation: &Conversation) -> Self {
        Self {
            status: conversation.status,
            queue: conversation.queue.clone(),
            assignee: conversation.assignee.clone(),
            enqueued_at: conversation.enqueued_at,
            resolved_at: conversation.resolved_at,
        }
    }

    fn give(&self, conversation: &mut Conversation) {
        conversation.status = self.status;
        conversation.queue = self.queue.clone();
        conversation.assignee.clone_from(&self.assignee);
        conversation.enqueued_at = self.enqueued_at;
        conversation.resolved_at = self.resolved_at;
    }
}

/// What an operation changed of one conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Side {
    pub id: ConversationId,
    before: Stand,
    after: Stand,
    priority_before: Priority,
    priority_after: Priority,
    /// Before.
    pub last_inbound_at: i64,
    pub participants: Vec<Participant>,
    pub channels: Vec<ChannelId>,
    /// The link to the other side that the operation added.
    linked: Option<LinkReason>,
    /// Whether people of the other side may write here since.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    absorbed: bool,
    /// The last numbers given out before and after; what has a greater one came since.
    pub seq_before: i64,
    pub last_seq: i64,
}

impl Side {
    fn begin(conversation: &Conversation) -> Self {
        Self {
            id: conversation.id,
            before: Stand::of(conversation),
            after: Stand::of(conversation),
            priority_before: conversation.priority,
            priority_after: conversation.priority,
            last_inbound_at: conversation.last_inbound_at,
            participants: conversation.detail.participants.clone(),
            channels: conversation.detail.channels.clone(),
            linked: None,
            absorbed: false,
            seq_before: conversation.last_seq,
            last_seq: conversation.last_seq,
        }
    }

    fn end(&mut self, conversation: &mut Conversation) {
        self.after = Stand::of(conversation);
        self.priority_after = conversation.priority;
        conversation.version += 1;
    }

    /// Gives back what nobody changed since.
    fn give_back(&self, conversation: &mut Conversation) {
        if Stand::of(conversation) == self.after {
            self.before.give(conversation);
        }
        if conversation.priority == self.priority_after {
            conversation.priority = self.priority_before;
        }
    }
}

/// An agent works on what it holds, and takes what nobody holds to it; a supervisor on everything.
pub fn may_operate(actor: &Actor, on: &[&Conversation]) -> Result<(), Refusal> {
    if !actor.role.works() {
        return Err(Refusal::Role { role: actor.role });
    }
    let own = |one: &Conversation| actor.agent.is_some() && actor.agent == one.assignee;
    let others = on.iter().find(|one| one.assignee.is_some() && !own(one));
    let nobodys = on.first().filter(|_| !on.iter().any(|one| own(one)));
    match others.or(nobodys) {
        Some(other) if actor.role != Role::Supervisor => Err(Refused::NotYours {
            status: other.status,
            holder: other.assignee.clone(),
        }
        .into()),
        _ => Ok(()),
    }
}

/// Contacts are merged by supervisors: it shows one person's conversations as another's.
pub fn may_merge_contacts(actor: &Actor) -> Result<(), Refusal> {
    match actor.role {
        Role::Supervisor => Ok(()),
        role => Err(Refusal::Role { role }),
    }
}

/// Merges `from` into `into`, which keeps its subject, its tags and its recipients. Who took part in
/// `from` may go on writing. Whoever holds either holds both, and if a customer waits in one, it is
/// the merged one that waits, since then.
pub fn merge(
    from: &mut Conversation,
    into: &mut Conversation,
    actor: &Actor,
    now: i64,
) -> Result<[Side; 2], Refusal> {
    related(from, into)?;
    may_operate(actor, &[from, into])?;
    if into.status == Status::Closed || (from.status.is_open() && !into.status.is_open()) {
        return Err(not_open(into));
    }
    let mut sides = [Side::begin(from), Side::begin(into)];
    let newcomers = (from.everybody())
        .filter(|person| !into.has_participant(&person.namespace, &person.address));
    let absorbed = Absorbed {
        conversation: from.id,
        participants: newcomers.cloned().collect(),
        channels: from.channels().into_iter().cloned().collect(),
    };
    absorb(into, absorbed, &mut sides)?;
    into.priority = into.priority.max(from.priority);
    into.last_inbound_at = into.last_inbound_at.max(from.last_inbound_at);
    join_stands(from, into);
    close(from, into.id, now);
    link(&mut sides, from, into, LinkReason::Merged);
    Ok(finish(sides, from, into))
}

/// What a conversation that is split off begins with.
#[derive(Debug, Clone, Default)]
pub struct Part {
    pub subject: Option<String>,
    pub intent: Option<String>,
    pub language: Option<String>,
    /// Those of the source that the messages name.
    pub participants: Vec<Participant>,
    pub channels: Vec<ChannelId>,
    /// Of the newest customer's message that leaves, and of the newest that stays.
    pub last_inbound_at: Option<i64>,
    pub stays_inbound_at: Option<i64>,
}

/// Begins the conversation that messages of `source` go to: the same contact's, a matter of its own,
/// standing as the source stands. `again` is what an undone split left of it.
pub fn split(
    source: &mut Conversation,
    id: ConversationId,
    again: Option<Conversation>,
    part: Part,
    actor: &Actor,
    now: i64,
) -> Result<(Conversation, [Side; 2]), Refusal> {
    whole(source)?;
    may_operate(actor, &[source])?;
    let mut new = match again {
        Some(mut again) => {
            again.detail.merged_into = None;
            again
        }
        None => {
            let mut new = Conversation {
                id,
                version: 0,
                last_seq: 0,
                last_message: None,
                opened_at: now,
                ..source.clone()
            };
            new.detail = crate::router::facts::Detail {
                subject: part.subject.or_else(|| source.detail.subject.clone()),
                participants: part.participants,
                channels: part.channels,
                intent: part.intent,
                language: part.language.or_else(|| source.detail.language.clone()),
                tags: source.detail.tags.clone(),
                ..Default::default()
            };
            new
        }
    };
    new.contact = source.contact;
    new.matter = Some(new.founding_message());
    new.last_inbound_at = part.last_inbound_at.unwrap_or(source.last_inbound_at);
    let mut stand = Stand::of(source);
    match stand.status {
        Status::Wrapping => stand.status = Status::Assigned,
        Status::New | Status::Offered | Status::Snoozed | Status::Automation => {
            stand.status = Status::Queued;
            stand.assignee = None;
        }
        _ => {}
    }
    stand.give(&mut new);
    let mut sides = [Side::begin(source), Side::begin(&new)];
    if part.last_inbound_at.is_some() {
        source.last_inbound_at = part.stays_inbound_at.unwrap_or(source.opened_at);
    }
    link(&mut sides, source, &mut new, LinkReason::Split);
    let sides = finish(sides, source, &mut new);
    Ok((new, sides))
}

/// What a moved message is to the two conversations.
#[derive(Debug, Clone)]
pub struct Moving {
    /// Whom it names of those who take part where it was, and its channel.
    pub part: Part,
    /// Whether nothing said in the conversation it goes to came after it.
    pub is_last: bool,
}

/// Moves a message between two conversations of one contact. A customer's that becomes the last one
/// said wakes the conversation it comes to. Whoever it names may go on writing there.
pub fn move_message(
    from: &mut Conversation,
    to: &mut Conversation,
    moving: Moving,
    actor: &Actor,
) -> Result<[Side; 2], Refusal> {
    related(from, to)?;
    may_operate(actor, &[from, to])?;
    if to.status == Status::Closed {
        return Err(not_open(to));
    }
    let mut sides = [Side::begin(from), Side::begin(to)];
    let part = moving.part;
    if let Some(at) = part.last_inbound_at {
        if from.last_inbound_at <= at {
            from.last_inbound_at = part.stays_inbound_at.unwrap_or(from.opened_at);
        }
        to.last_inbound_at = to.last_inbound_at.max(at);
        if moving.is_last && to.status.is_open() {
            wake(to, at);
        }
    }
    let strange = |person: &Participant| !to.has_participant(&person.namespace, &person.address);
    let knows = part.channels.iter().all(|one| to.channels().contains(&one));
    if part.participants.iter().any(strange) || !knows {
        let people = part
            .participants
            .iter()
            .filter(|&one| strange(one))
            .cloned();
        let absorbed = Absorbed {
            conversation: from.id,
            participants: people.collect(),
            channels: part.channels,
        };
        absorb(to, absorbed, &mut sides)?;
    }
    link(&mut sides, from, to, LinkReason::Moved);
    Ok(finish(sides, from, to))
}

fn absorb(
    into: &mut Conversation,
    absorbed: Absorbed,
    sides: &mut [Side; 2],
) -> Result<(), Refusal> {
    if into.detail.absorbed.len() >= ABSORBED_MAX {
        let refused = Refused::TooMany {
            max: ABSORBED_MAX,
            what: "conversations and messages taken into one",
            hint: "use another one",
        };
        return Err(refused.into());
    }
    into.detail.absorbed.push(absorbed);
    sides[1].absorbed = true;
    Ok(())
}

/// Undoes a merge or a move: what the operation changed of both is given back, and each gets of
/// what came since what belongs to it. `woken`: when a customer's message arrived that goes back to
/// `from` and is the last thing said there.
pub fn part(
    sides: &[Side; 2],
    from: &mut Conversation,
    to: &mut Conversation,
    followed: &[&Since],
    stayed: &[&Since],
    woken: Option<i64>,
) {
    let [given, kept] = sides;
    if from.detail.merged_into == Some(to.id) {
        from.detail.merged_into = None;
    }
    let absorbed = &mut to.detail.absorbed;
    let of = |absorbed: &Absorbed| absorbed.conversation == given.id;
    if let Some(at) = absorbed.iter().rposition(of).filter(|_| kept.absorbed) {
        absorbed.remove(at);
    }
    given.give_back(from);
    kept.give_back(to);
    unlink(sides, from, to);
    from.last_inbound_at = newest_inbound(given.last_inbound_at, followed);
    to.last_inbound_at = newest_inbound(kept.last_inbound_at, stayed);
    part_people(sides, from, to, followed, stayed);
    if let Some(at) = woken {
        wake(from, at);
    }
    from.version += 1;
    to.version += 1;
}

/// Undoes a split: the new conversation becomes what it was for the time of its life, a name for
/// its source.
pub fn rejoin(
    sides: &[Side; 2],
    source: &mut Conversation,
    new: &mut Conversation,
    since: &[&Since],
    now: i64,
) {
    let [given, made] = sides;
    given.give_back(source);
    let unchanged = Stand::of(new) == made.after && new.last_seq == made.last_seq;
    if (!unchanged || Stand::of(source) != given.before) && new.status.is_open() {
        match source.status.is_open() {
            true => join_stands(new, source),
            // It was ended without what is still open here.
            false => Stand::of(new).give(source),
        }
    }
    unlink(sides, source, new);
    source.last_inbound_at = newest_inbound(given.last_inbound_at, since);
    for since in since {
        take_in(source, since);
    }
    close(new, source.id, now);
    source.version += 1;
    new.version += 1;
}

fn related(one: &Conversation, other: &Conversation) -> Result<(), Refusal> {
    whole(one)?;
    whole(other)?;
    if one.id == other.id {
        return Err(Refused::Same.into());
    }
    if one.brand != other.brand {
        return Err(Refusal::NotFound {
            what: "conversation",
        });
    }
    if one.contact != other.contact {
        return Err(Refused::AnotherContact.into());
    }
    Ok(())
}

/// What was merged away is operated on by its other name.
pub fn whole(conversation: &Conversation) -> Result<(), Refusal> {
    match conversation.detail.merged_into {
        Some(into) => Err(Refused::Gone { into }.into()),
        None => Ok(()),
    }
}

fn not_open(conversation: &Conversation) -> Refusal {
    Refused::NotOpen {
        status: conversation.status,
        holder: conversation.assignee.clone(),
    }
    .into()
}

/// Whoever holds one of two holds both; whoever waits in one waits in both, since it began to.
fn join_stands(from: &Conversation, into: &mut Conversation) {
    if !from.status.is_open() {
        return;
    }
    let waits = |one: &Conversation| {
        matches!(
            one.status,
            Status::New | Status::Queued | Status::Offered | Status::Assigned | Status::Wrapping
        )
    };
    let waiting = [from, &*into].into_iter().filter(|one| waits(one));
    let since = waiting.map(|one| one.enqueued_at).min();
    let holder = into.assignee.clone().or(from.assignee.clone());
    match (holder, since) {
        (Some(_), Some(_)) if into.assignee.is_some() && waits(into) => {}
        (Some(holder), Some(_)) => {
            into.status = Status::Assigned;
            into.assignee = Some(holder);
        }
        (Some(holder), None) if into.assignee.is_none() => {
            // Only its own clock wakes a conversation.
            into.status = match from.status {
                Status::Snoozed => Status::Pending,
                other => other,
            };
            into.assignee = Some(holder);
        }
        (None, Some(since)) => {
            into.status = Status::Queued;
            into.enqueued_at = since;
        }
        (Some(_) | None, None) => {}
    }
}

/// What a customer's message makes of a conversation that it comes back to.
fn wake(conversation: &mut Conversation, at: i64) {
    let mut next = conversation.status.after_customer_message();
    if next == Status::Assigned && conversation.assignee.is_none() {
        next = Status::Queued;
    }
    if next == Status::Queued && conversation.status != Status::Queued {
        conversation.assignee = None;
        conversation.resolved_at = None;
        conversation.enqueued_at = at;
    }
    conversation.status = next;
}

fn close(conversation: &mut Conversation, into: ConversationId, now: i64) {
    conversation.status = Status::Closed;
    conversation.assignee = None;
    conversation.resolved_at = Some(now);
    conversation.detail.merged_into = Some(into);
}

fn link(
    sides: &mut [Side; 2],
    one: &mut Conversation,
    other: &mut Conversation,
    reason: LinkReason,
) {
    let [first, second] = sides;
    let ids = [one.id, other.id];
    for (side, conversation, to) in [(first, one, ids[1]), (second, other, ids[0])] {
        let new = Link {
            conversation: to,
            reason,
        };
        let links = &mut conversation.detail.links;
        if links.len() < LINKS_MAX && !links.contains(&new) {
            links.push(new);
            side.linked = Some(reason);
        }
    }
}

fn unlink(sides: &[Side; 2], one: &mut Conversation, other: &mut Conversation) {
    let [first, second] = sides;
    let ids = [one.id, other.id];
    for (side, conversation, to) in [(first, one, ids[1]), (second, other, ids[0])] {
        let links = &mut conversation.detail.links;
        links.retain(|link| link.conversation != to || Some(link.reason) != side.linked);
    }
}

fn finish(mut sides: [Side; 2], one: &mut Conversation, other: &mut Conversation) -> [Side; 2] {
    let [first, second] = &mut sides;
    first.end(one);
    second.end(other);
    sides
}
