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

use connector_api::ChannelId;

use crate::conversation::Status;
use crate::ids::{ContactId, ConversationId};
use crate::router::facts::{Absorbed, Conversation, LinkReason, Participant};

use super::{Actor, Refusal, Role};

mod since;
mod stand;
mod timeline;
mod undo;

pub use since::{Hang, Since, followers};
pub use stand::{Side, Stand};
use stand::{close, finish, join_stands, link, wake};
pub use timeline::{Entry, arrange};
pub use undo::{part, rejoin};

/// Messages that one operation gives another place, and that it looks at: as many as a commit
/// holds. More would hold up everything else that is written meanwhile.
pub const MESSAGES_MAX: usize = 1_000;
/// Messages that one split names.
pub const SPLIT_MAX: usize = 500;
/// Conversations merged into one, and moved messages that brought somebody along.
pub const ABSORBED_MAX: usize = 50;
/// Conversations of a contact that a person merges with another.
pub const CONVERSATIONS_MAX: usize = 2_000;

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
