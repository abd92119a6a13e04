//! Files a message: into the conversation that joining names, or into a new one; with its place
//! in the timeline, its queue, and at most one acknowledgement.

use std::collections::hash_map::Entry;

use connector_api::{AttachmentBody, Event, InboundMessage, ThreadHints};

use crate::conversation::Status;
use crate::ids::{ConversationId, IdSource, IdentityId, MessageId};

use super::effects::{
    Acknowledgement, Author, Effects, EventType, NewEvent, NewFetch, NewMessage, NewReference,
};
use super::explain::{AcknowledgeWhy, DedupeWhy, Explanation, JoinReason, JoinWhy, QueueWhy};
use super::facts::{
    Conversation, Detail, Facts, Link, LinkReason, Message, Participant, RecentText, Reference,
    Role,
};
use super::identify::{Writer, identify};
use super::join::{join, names_by_key};
use super::policy::Policy;
use super::rules;
use super::{Prepared, Verdict, change, enqueue, is_quiet, keys, sender_of, touch, touch_contact};

/// Participants kept per conversation; more are dropped from the list, not from the messages.
pub const PARTICIPANTS_MAX: usize = 50;
const RECENT_TEXTS_MAX: usize = 4;
/// Links kept per conversation; the messages' explanations keep them all.
pub(super) const LINKS_MAX: usize = 20;

/// Files a customer's message, or an echo of one written on our side elsewhere (whose `from` names
/// the customer it went to).
pub fn file(
    record: &Prepared,
    message: &InboundMessage,
    other_content: Option<MessageId>,
    facts: &mut Facts,
    policy: &Policy,
    ids: &mut dyn IdSource,
    effects: &mut Effects,
) -> Verdict {
    let sender = sender_of(record, message);
    let Some(writer) = identify(record, &sender, facts, effects, ids) else {
        return Verdict::Dead;
    };
    let echo = matches!(record.envelope.event.event, Event::Echo(_));
    let quiet = is_quiet(record) || echo;
    let joined = join(record, message, &writer, quiet, facts, policy);

    let (id, queue) = match joined.conversation {
        Some(id) => (
            id,
            receive(id, record, message, quiet, facts, policy, effects),
        ),
        None => open(
            record,
            message,
            &writer,
            joined.links,
            echo,
            facts,
            policy,
            effects,
        ),
    };
    let Some(conversation) = facts.conversations.get_mut(&id) else {
        return Verdict::Dead;
    };
    take_part(conversation, message, &writer, record);
    conversation.last_seq += 1;
    let (seq, prev) = (conversation.last_seq, conversation.last_message);
    conversation.last_message = Some(record.message_id());
    if !echo && !record.envelope.event.history {
        conversation.last_inbound_at = conversation.last_inbound_at.max(record.arrived_at());
    }
    let duplicate_of = near_duplicate(conversation, record, policy);
    touch(conversation, effects);

    let opened = joined.conversation.is_none();
    let acknowledged = match opened && !echo {
        true => acknowledge(id, record, &writer, facts, policy, ids, effects),
        false => None,
    };
    let deleted = apply_pending(record, id, facts, effects);
    refer(id, record, message, &writer, facts, effects);
    if !deleted {
        fetch(record, message, effects);
    }
    effects.messages.push(NewMessage {
        id: record.message_id(),
        conversation: id,
        seq,
        prev,
        author: if echo { Author::Echo } else { Author::Customer },
        channel: record.envelope.channel.clone(),
        identity: Some(writer.identity),
        arrived_at: record.arrived_at(),
        sent_at: record.envelope.event.sent_at.map(|at| at.as_microsecond()),
        deleted,
        duplicate_of,
        conflicting: other_content.is_some(),
        automatic: record.envelope.event.automatic.is_some(),
        labels: record.labels.clone(),
        explanation: Explanation {
            dedupe: other_content.map_or(DedupeWhy::First, |seen_as| DedupeWhy::OtherContent {
                seen_as,
            }),
            identity: Some(writer.why.clone()),
            join: joined.why,
            queue,
            acknowledged,
        },
    });
    effects.events.push(event(
        EventType::MessageCreated,
        id,
        Some(record.message_id()),
        record.arrived_at(),
    ));
    Verdict::Filed
}

/// Files something nobody wrote into the conversation of its thread; without one there is nobody
/// to show it to, and it is a dead letter.
pub fn file_system(
    record: &Prepared,
    thread: &ThreadHints,
    facts: &mut Facts,
    effects: &mut Effects,
) -> Verdict {
    let envelope = &record.envelope;
    let known = thread.native.as_deref().and_then(|native| {
        facts
            .references
            .get(&keys::thread(&envelope.brand, &envelope.channel, native))
    });
    let Some(id) = known.map(|reference| reference.conversation) else {
        return Verdict::Dead;
    };
    let Some(conversation) = facts.conversations.get_mut(&id) else {
        return Verdict::Dead;
    };
    conversation.last_seq += 1;
    let (seq, prev) = (conversation.last_seq, conversation.last_message);
    conversation.last_message = Some(record.message_id());
    touch(conversation, effects);
    effects.messages.push(NewMessage {
        id: record.message_id(),
        conversation: id,
        seq,
        prev,
        author: Author::System,
        channel: envelope.channel.clone(),
        identity: None::<IdentityId>,
        arrived_at: record.arrived_at(),
        sent_at: envelope.event.sent_at.map(|at| at.as_microsecond()),
        deleted: false,
        duplicate_of: None,
        conflicting: false,
        automatic: true,
        labels: record.labels.clone(),
        explanation: Explanation {
            dedupe: DedupeWhy::First,
            identity: None,
            join: JoinWhy {
                rule: 3,
                reason: JoinReason::NativeThread,
                refused: Vec::new(),
            },
            queue: None,
            acknowledged: None,
        },
    });
    effects.events.push(event(
        EventType::MessageCreated,
        id,
        Some(record.message_id()),
        record.arrived_at(),
    ));
    Verdict::Filed
}

/// A message for a conversation that exists: wakes it as its state says, or leaves it as it is.
fn receive(
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
            .push(event(EventType::ConversationReopened, id, None, at));
    }
    enqueue(conversation, at);
    effects
        .events
        .push(event(EventType::ConversationQueued, id, None, at));
    Some(QueueWhy {
        queue: conversation.queue.clone(),
        priority: conversation.priority,
        status: conversation.status,
        rule: None,
        rules_version: policy.rules_version.clone(),
        channel: record.envelope.channel.clone(),
    })
}

/// Whether opening `id` again would make two open conversations without a matter of one contact.
pub fn collides_when_open(id: ConversationId, facts: &Facts) -> bool {
    let Some(conversation) = facts.conversations.get(&id) else {
        return false;
    };
    conversation.matter.is_none() && has_open(conversation.contact, Some(id), facts)
}

fn has_open(contact: crate::ids::ContactId, except: Option<ConversationId>, facts: &Facts) -> bool {
    let known = facts.contacts.get(&contact);
    known
        .iter()
        .flat_map(|contact| &contact.conversations)
        .filter(|id| Some(**id) != except)
        .filter_map(|id| facts.conversations.get(id))
        .any(|other| other.status.is_open())
}

#[expect(
    clippy::too_many_arguments,
    reason = "each is one fact of the decision"
)]
fn open(
    record: &Prepared,
    message: &InboundMessage,
    writer: &Writer,
    links: Vec<Link>,
    echo: bool,
    facts: &mut Facts,
    policy: &Policy,
    effects: &mut Effects,
) -> (ConversationId, Option<QueueWhy>) {
    let id = ConversationId(record.offset);
    let at = record.arrived_at();
    let routing = rules::choose(record, message, policy);
    let status = match (echo, is_quiet(record)) {
        (true, _) => Status::Pending,
        (_, true) => Status::Closed,
        _ => Status::Queued,
    };
    let matter =
        (status.is_open() && has_open(writer.contact, None, facts)).then_some(record.message_id());
    let why = (status == Status::Queued).then(|| routing.why(record, status, policy));
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
        opened_at: at,
        enqueued_at: at,
        last_inbound_at: at,
        resolved_at: (!status.is_open()).then_some(at),
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
        .push(event(EventType::ConversationCreated, id, None, at));
    if why.is_some() {
        effects
            .events
            .push(event(EventType::ConversationQueued, id, None, at));
    }
    (id, why)
}

/// Notes who takes part, over which channel, about what.
fn take_part(
    conversation: &mut Conversation,
    message: &InboundMessage,
    writer: &Writer,
    record: &Prepared,
) {
    let claim = &writer.claim;
    let verified = claim.evidence.is_verified();
    let detail = &mut conversation.detail;
    let writes = |known: &&mut Participant| {
        known.namespace == claim.namespace && known.address == claim.address
    };
    match detail.participants.iter_mut().find(writes) {
        Some(known) => known.verified |= verified,
        None => detail.participants.push(Participant {
            namespace: claim.namespace.clone(),
            address: claim.address.clone(),
            verified,
            role: Role::Customer,
            name: message.from.name.clone(),
        }),
    }
    for other in &message.participants {
        let known = |known: &Participant| {
            known.namespace == other.namespace && known.address == other.address
        };
        if detail.participants.len() < PARTICIPANTS_MAX && !detail.participants.iter().any(known) {
            detail.participants.push(Participant {
                namespace: other.namespace.clone(),
                address: other.address.clone(),
                verified: false,
                role: if other.role == connector_api::ParticipantRole::Cc {
                    Role::Cc
                } else {
                    Role::To
                },
                name: other.name.clone(),
            });
        }
    }
    // A verified author asks for answers there: whoever answers from there takes part, as after a Cc.
    if let Some(address) = &record.envelope.event.reply_to
        && detail.participants.len() < PARTICIPANTS_MAX
        && !detail
            .participants
            .iter()
            .any(|known| known.namespace == claim.namespace && known.address == *address)
    {
        detail.participants.push(Participant {
            namespace: claim.namespace.clone(),
            address: address.clone(),
            verified: false,
            role: Role::Cc,
            name: None,
        });
    }
    if !detail.channels.contains(&record.envelope.channel) {
        detail.channels.push(record.envelope.channel.clone());
    }
    if detail.subject.is_none() {
        detail.subject = message.subject.clone();
    }
    if detail.intent.is_none() {
        detail.intent = record.labels.known_intent().map(str::to_owned);
    }
    if let Some(language) = record.labels.known_language() {
        detail.language = Some(language.to_owned());
    }
}

/// The earlier message of the conversation with the same words, within the window.
fn near_duplicate(
    conversation: &mut Conversation,
    record: &Prepared,
    policy: &Policy,
) -> Option<MessageId> {
    let at = record.arrived_at();
    let window = i64::try_from(policy.joining.duplicate_window.as_micros()).unwrap_or(i64::MAX);
    let recent = &mut conversation.detail.recent;
    recent.retain(|RecentText(_, _, seen_at)| at.saturating_sub(*seen_at) <= window);
    let fingerprint = record.fingerprint?;
    let earlier = recent
        .iter()
        .find(|RecentText(known, _, _)| *known == fingerprint);
    let found = earlier.map(|RecentText(_, message, _)| *message);
    if found.is_none() {
        recent.push(RecentText(fingerprint, record.message_id(), at));
        if recent.len() > RECENT_TEXTS_MAX {
            recent.remove(0);
        }
    }
    found
}

fn acknowledge(
    id: ConversationId,
    record: &Prepared,
    writer: &Writer,
    facts: &mut Facts,
    policy: &Policy,
    ids: &mut dyn IdSource,
    effects: &mut Effects,
) -> Option<AcknowledgeWhy> {
    let envelope = &record.envelope;
    let text = policy
        .channels
        .get(&envelope.channel)?
        .acknowledge
        .as_ref()?;
    if envelope.event.history || envelope.event.automatic.is_some() {
        return Some(AcknowledgeWhy::AutomaticMessage);
    }
    if record.labels.is_spam() {
        return Some(AcknowledgeWhy::Spam);
    }
    if envelope.event.answers_suppressed {
        return Some(AcknowledgeWhy::NotWanted);
    }
    let key = keys::acknowledged(&envelope.channel, &writer.claim.address);
    if !facts.acknowledged.insert(key) {
        return Some(AcknowledgeWhy::Recently);
    }
    let conversation = facts.conversations.get_mut(&id)?;
    conversation.last_seq += 1;
    let prev = conversation.last_message;
    let message = MessageId(ids.next());
    conversation.last_message = Some(message);
    effects.acknowledgements.push(Acknowledgement {
        id: message,
        key,
        conversation: id,
        answers: record.message_id(),
        seq: conversation.last_seq,
        prev,
        channel: envelope.channel.clone(),
        namespace: writer.claim.namespace.clone(),
        address: writer.claim.address.clone(),
        text: text.clone(),
        at: envelope.arrived_at,
    });
    Some(AcknowledgeWhy::Sent)
}

/// Applies the changes that came before their message; says whether one of them deleted it.
fn apply_pending(
    record: &Prepared,
    id: ConversationId,
    facts: &mut Facts,
    effects: &mut Effects,
) -> bool {
    let message = Message {
        id: record.message_id(),
        conversation: id,
        channel: record.envelope.channel.clone(),
        delivery: None,
    };
    facts.messages.insert(message.id, message);
    let Some(waiting) = facts.pending.remove(&record.key) else {
        return false;
    };
    effects.settled_pending.push(record.key);
    let mut deleted = false;
    for pending in waiting {
        deleted |= pending.change == super::facts::Change::Deleted;
        change::note(
            pending.record,
            record.message_id(),
            id,
            pending.change,
            record.arrived_at(),
            effects,
        );
    }
    deleted
}

/// Asks for the files that are still at their provider.
fn fetch(record: &Prepared, message: &InboundMessage, effects: &mut Effects) {
    for (place, attachment) in message.attachments.iter().enumerate() {
        if matches!(attachment.body, AttachmentBody::Reference { .. }) {
            effects.fetches.push(NewFetch {
                message: record.message_id(),
                place,
                at: record.arrived_at(),
            });
        }
    }
}

/// Makes the message findable by what later ones will name.
fn refer(
    id: ConversationId,
    record: &Prepared,
    message: &InboundMessage,
    writer: &Writer,
    facts: &mut Facts,
    effects: &mut Effects,
) {
    let envelope = &record.envelope;
    let reference = Reference {
        conversation: id,
        message: record.message_id(),
    };
    if let Some(name) = &message.thread.message_id
        && !names_by_key(record, message)
    {
        let key = keys::message_id(&envelope.brand, &writer.claim.namespace, name);
        if let Entry::Vacant(free) = facts.references.entry(key) {
            free.insert(reference);
            effects.references.push(NewReference {
                key,
                replace: false,
                conversation: id,
                message: record.message_id(),
            });
        }
    }
    if let Some(native) = &message.thread.native {
        let key = keys::thread(&envelope.brand, &envelope.channel, native);
        if may_move_thread(facts.references.get(&key), id, writer, facts) {
            facts.references.insert(key, reference);
            effects.references.push(NewReference {
                key,
                replace: true,
                conversation: id,
                message: record.message_id(),
            });
        }
    }
}

/// Whether a native thread goes on in `id`: a stranger who merely names one takes nothing over.
fn may_move_thread(
    known: Option<&Reference>,
    id: ConversationId,
    writer: &Writer,
    facts: &Facts,
) -> bool {
    let Some(known) = known else { return true };
    let conversation = facts.conversations.get(&known.conversation);
    let own = conversation.is_none_or(|conversation| conversation.contact == writer.contact);
    known.conversation != id && (own || writer.claim.evidence.is_verified())
}

pub(super) fn event(
    kind: EventType,
    conversation: ConversationId,
    message: Option<MessageId>,
    at: i64,
) -> NewEvent {
    NewEvent {
        kind,
        conversation: Some(conversation),
        message,
        at,
        detail: None,
    }
}
