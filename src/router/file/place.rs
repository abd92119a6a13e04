//! The conversation a message goes into: one that is there is woken as its state says, another is
//! opened in the queue that the rules choose.

use connector_api::InboundMessage;

use crate::conversation::Status;
use crate::ids::{ContactId, ConversationId};
use crate::router::effects::{Effects, EventType, NewEvent};
use crate::router::explain::QueueWhy;
use crate::router::facts::{Conversation, Detail, Facts, Link, LinkReason};
use crate::router::identify::Writer;
use crate::router::policy::Policy;
use crate::router::{Prepared, enqueue, is_quiet, rules, touch, touch_contact};

use super::LINKS_MAX;

/// A message for a conversation that exists: wakes it as its state says, or leaves it as it is.
pub fn receive(
    id: ConversationId,
    record: &Prepared,
    message: &InboundMessage,
    quiet: bool,
    facts: &mut Facts,
    policy: &Policy,
    effects: &mut Effects,
) -> Option<QueueWhy> {
    let at = record.arrived_at();
    let collides = collides_when_open(id, facts);
    let conversation = facts.conversations.get_mut(&id)?;
    if quiet {
        return None;
    }
    let before = conversation.status;
    let mut next = before.after_customer_message();
    if next == Status::Assigned && conversation.assignee.is_none() {
        next = Status::Queued;
    }
    if next == before {
        return None;
    }
    if next != Status::Queued {
        conversation.status = next;
        effects.events.push(NewEvent::status(id, next, at));
        return None;
    }
    if before == Status::Resolved {
        if collides {
            conversation.matter = Some(conversation.founding_message());
        }
        let routing = rules::choose(record, message, policy);
        conversation.priority = conversation.priority.max(routing.priority);
        effects
            .events
            .push(NewEvent::new(EventType::ConversationReopened, id, None, at));
    }
    enqueue(conversation, at);
    effects
        .events
        .push(NewEvent::new(EventType::ConversationQueued, id, None, at));
    Some(QueueWhy {
        queue: conversation.queue.clone(),
        priority: conversation.priority,
        status: conversation.status,
        rule: None,
        rules_version: policy.rules_version.clone(),
        channel: record.envelope.channel.clone(),
    })
}

/// A closed conversation that history goes into began and ended when what is said in it was. An open or
/// resolved one stands as it did: what its windows count from happened here.
pub fn reach_back(conversation: &mut Conversation, record: &Prepared) {
    if !record.is_history() || conversation.status != Status::Closed {
        return;
    }
    let said_at = record.said_at();
    conversation.opened_at = conversation.opened_at.min(said_at);
    conversation.last_inbound_at = conversation.last_inbound_at.max(said_at);
    conversation.resolved_at = conversation.resolved_at.max(Some(said_at));
}

/// Whether opening `id` again would make two open conversations without a matter of one contact.
pub fn collides_when_open(id: ConversationId, facts: &Facts) -> bool {
    let Some(conversation) = facts.conversations.get(&id) else {
        return false;
    };
    conversation.matter.is_none() && has_open(conversation.contact, Some(id), facts)
}

fn has_open(contact: ContactId, except: Option<ConversationId>, facts: &Facts) -> bool {
    let known = facts.contacts.get(&contact);
    known
        .iter()
        .flat_map(|contact| &contact.conversations)
        .filter(|id| Some(**id) != except)
        .filter_map(|id| facts.conversations.get(id))
        .any(|other| other.status.is_open())
}

/// The tag of conversations that `switchboard channel test` makes.
pub const TEST_TAG: &str = "channel-test";

/// What opens a conversation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    Customer,
    /// Our own side wrote first.
    Echo,
    /// A channel's test: closed at once, with the queue it would wait in.
    Test,
}

#[expect(
    clippy::too_many_arguments,
    reason = "each is one fact of the decision"
)]
pub fn open(
    record: &Prepared,
    message: &InboundMessage,
    writer: &Writer,
    links: Vec<Link>,
    opening: Opening,
    facts: &mut Facts,
    policy: &Policy,
    effects: &mut Effects,
) -> (ConversationId, Option<QueueWhy>) {
    let id = ConversationId(record.offset);
    let (at, said_at) = (record.arrived_at(), record.said_at());
    let mut routing = rules::choose(record, message, policy);
    if opening == Opening::Test {
        routing.tags.push(TEST_TAG.to_owned());
    }
    let status = match opening {
        _ if record.is_history() => Status::Closed,
        Opening::Echo => Status::Pending,
        Opening::Customer if !is_quiet(record) => Status::Queued,
        Opening::Customer | Opening::Test => Status::Closed,
    };
    let matter =
        (status.is_open() && has_open(writer.contact, None, facts)).then_some(record.message_id());
    let is_queued = status == Status::Queued;
    let explains = is_queued || opening == Opening::Test;
    let why = explains.then(|| routing.why(record, status, policy));
    // A stranger's hint shows in the stranger's conversation only.
    let mutual = links
        .iter()
        .filter(|link| link.reason != LinkReason::NotAParticipant);
    for link in mutual {
        if let Some(other) = facts.conversations.get_mut(&link.conversation)
            && other.detail.links.len() < LINKS_MAX
        {
            other.detail.links.push(Link {
                conversation: id,
                reason: link.reason,
            });
            touch(other, effects);
            let changed = EventType::ConversationUpdated;
            let event = NewEvent::new(changed, link.conversation, None, at);
            effects.events.push(event);
        }
    }
    let conversation = Conversation {
        id,
        brand: record.envelope.brand.clone(),
        contact: writer.contact,
        matter,
        status,
        queue: routing.queue,
        priority: routing.priority,
        assignee: None,
        version: 0,
        last_seq: 0,
        last_message: None,
        opened_at: said_at,
        enqueued_at: said_at,
        last_inbound_at: said_at,
        resolved_at: (!status.is_open()).then_some(said_at),
        detail: Detail {
            subject: message.subject.clone(),
            intent: record.labels.known_intent().map(str::to_owned),
            tags: routing.tags,
            links,
            ..Detail::default()
        },
    };
    facts.conversations.insert(id, conversation);
    if let Some(contact) = facts.contacts.get_mut(&writer.contact) {
        contact.conversations.push(id);
        touch_contact(contact, effects);
    }
    effects.new_conversations.push(id);
    effects.touched_conversations.push(id);
    effects
        .events
        .push(NewEvent::new(EventType::ConversationCreated, id, None, at));
    if is_queued {
        effects
            .events
            .push(NewEvent::new(EventType::ConversationQueued, id, None, at));
    }
    (id, why)
}
