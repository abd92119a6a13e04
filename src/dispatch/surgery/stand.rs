//! How conversations stand, and what an operation changed of them.

use connector_api::{ChannelId, QueueId};
use serde::{Deserialize, Serialize};

use crate::conversation::{Priority, Status};
use crate::ids::ConversationId;
use crate::router::facts::{Conversation, Link, LinkReason, Participant};

const LINKS_MAX: usize = 20;

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

    pub(super) fn give(&self, conversation: &mut Conversation) {
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
    pub(super) before: Stand,
    pub(super) after: Stand,
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
    pub(super) absorbed: bool,
    /// The last numbers given out before and after; what has a greater one came since.
    pub seq_before: i64,
    pub last_seq: i64,
}

impl Side {
    pub(super) fn begin(conversation: &Conversation) -> Self {
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
    pub(super) fn give_back(&self, conversation: &mut Conversation) {
        if Stand::of(conversation) == self.after {
            self.before.give(conversation);
        }
        if conversation.priority == self.priority_after {
            conversation.priority = self.priority_before;
        }
    }
}

/// Whoever holds one of two holds both; whoever waits in one waits in both, since it began to.
pub(super) fn join_stands(from: &Conversation, into: &mut Conversation) {
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
pub(super) fn wake(conversation: &mut Conversation, at: i64) {
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

pub(super) fn close(conversation: &mut Conversation, into: ConversationId, now: i64) {
    conversation.status = Status::Closed;
    conversation.assignee = None;
    conversation.resolved_at = Some(now);
    conversation.detail.merged_into = Some(into);
}

pub(super) fn link(
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

pub(super) fn unlink(sides: &[Side; 2], one: &mut Conversation, other: &mut Conversation) {
    let [first, second] = sides;
    let ids = [one.id, other.id];
    for (side, conversation, to) in [(first, one, ids[1]), (second, other, ids[0])] {
        let links = &mut conversation.detail.links;
        links.retain(|link| link.conversation != to || Some(link.reason) != side.linked);
    }
}

pub(super) fn finish(
    mut sides: [Side; 2],
    one: &mut Conversation,
    other: &mut Conversation,
) -> [Side; 2] {
    let [first, second] = &mut sides;
    first.end(one);
    second.end(other);
    sides
}
