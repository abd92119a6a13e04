//! Files a message: into the conversation that joining names, or into a new one; with its place
//! in the timeline, its queue, and at most one acknowledgement.

mod acknowledge;
mod answered;
mod part;
mod place;

use std::collections::hash_map::Entry;

use connector_api::{AttachmentBody, Event, InboundMessage, ThreadHints};

use crate::ids::{ConversationId, IdSource, IdentityId, MessageId};

use super::effects::{Author, Effects, EventType, NewEvent, NewFetch, NewMessage, NewReference};
use super::explain::{AcknowledgeWhy, DedupeWhy, Explanation, JoinReason, JoinWhy, Through};
use super::facts::{Change, Facts, Message, Reference};
use super::identify::{Writer, identify};
use super::join::{self, is_own, join, names_by_key};
use super::policy::Policy;
use super::{Prepared, Verdict, change, is_quiet, keys, sender_of, test_token, touch};

use acknowledge::acknowledge;
pub use acknowledge::acknowledgement_keys;
pub use part::named_by;
use part::{near_duplicate, take_part};
pub use place::collides_when_open;
use place::{Opening, open, reach_back, receive};

/// Participants kept per conversation; more are dropped from the list, not from the messages.
pub const PARTICIPANTS_MAX: usize = 50;
/// Marks of threads that one message is found by.
const MARKS_MAX: usize = 2;
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
    let test = test_token(record, policy);
    let quiet = is_quiet(record) || echo || test.is_some();
    let joined = match test.is_some() {
        true => join::apart(JoinReason::ChannelTest),
        false => join(record, message, &writer, quiet, facts, policy),
    };

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
            match (echo, test.is_some()) {
                (_, true) => Opening::Test,
                (true, _) => Opening::Echo,
                _ => Opening::Customer,
            },
            facts,
            policy,
            effects,
        ),
    };
    let answered = match echo && joined.conversation.is_some() {
        true => answered::answer(id, record, &writer, &joined.why.reason, facts, effects),
        false => None,
    };
    let Some(conversation) = facts.conversations.get_mut(&id) else {
        return Verdict::Dead;
    };
    take_part(conversation, message, &writer, record);
    conversation.last_seq += 1;
    let (seq, prev) = (conversation.last_seq, conversation.last_message);
    conversation.last_message = Some(record.message_id());
    if !echo && !record.is_history() {
        conversation.last_inbound_at = conversation.last_inbound_at.max(record.arrived_at());
    }
    reach_back(conversation, record);
    let duplicate_of = near_duplicate(conversation, record, policy);
    let guest = (writer.contact != conversation.contact).then_some(writer.contact);
    touch(conversation, effects);

    let opened = joined.conversation.is_none();
    let acknowledged = match opened && !echo && test.is_none() {
        true => acknowledge(id, record, &writer, facts, policy, ids, effects),
        false => None,
    };
    let created = |message| {
        let kind = EventType::MessageCreated;
        NewEvent::new(kind, id, Some(message), record.arrived_at())
    };
    effects.events.push(created(record.message_id()));
    if acknowledged == Some(AcknowledgeWhy::Sent) {
        let answer = effects.acknowledgements.last().map(|new| created(new.id));
        effects.events.extend(answer);
    }
    let deleted = apply_pending(record, id, facts, effects);
    refer(id, record, message, &writer, facts, effects);
    effects.references.extend(test.map(|token| NewReference {
        key: keys::channel_test(&token),
        replace: false,
        conversation: id,
        message: record.message_id(),
    }));
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
        guest,
        arrived_at: record.arrived_at(),
        sent_at: record.envelope.event.sent_at.map(|at| at.as_microsecond()),
        deleted,
        duplicate_of,
        conflicting: other_content.is_some(),
        automatic: record.envelope.event.automatic.is_some(),
        history: record.is_history(),
        labels: record.labels.clone(),
        explanation: Explanation {
            dedupe: other_content.map_or(DedupeWhy::First, |seen_as| DedupeWhy::OtherContent {
                seen_as,
            }),
            identity: Some(writer.why.clone()),
            join: joined.why,
            queue,
            answered,
            acknowledged,
        },
    });
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
    let Some(known) = known.copied() else {
        return Verdict::Dead;
    };
    let id = known.conversation;
    let through = known.moved.then_some(Through::Message(known.message));
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
        guest: None,
        arrived_at: record.arrived_at(),
        sent_at: envelope.event.sent_at.map(|at| at.as_microsecond()),
        deleted: false,
        duplicate_of: None,
        conflicting: false,
        automatic: true,
        history: record.is_history(),
        labels: record.labels.clone(),
        explanation: Explanation {
            dedupe: DedupeWhy::First,
            identity: None,
            join: JoinWhy {
                rule: 3,
                reason: JoinReason::NativeThread,
                refused: Vec::new(),
                through,
            },
            queue: None,
            answered: None,
            acknowledged: None,
        },
    });
    effects.events.push(NewEvent::new(
        EventType::MessageCreated,
        id,
        Some(record.message_id()),
        record.arrived_at(),
    ));
    Verdict::Filed
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
        recipients: Vec::new(),
    };
    facts.messages.insert(message.id, message);
    let Some(waiting) = facts.pending.remove(&record.key) else {
        return false;
    };
    effects.settled_pending.push(record.key);
    let mut deleted = false;
    for pending in waiting {
        deleted |= pending.change == Change::Deleted;
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
        moved: false,
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
    // A thread's mark names the conversation of the first message that bears it.
    for mark in message.thread.marks().take(MARKS_MAX) {
        let key = keys::message_id(&envelope.brand, &writer.claim.namespace, mark);
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
    let own = conversation.is_none_or(|conversation| is_own(conversation, writer, facts));
    known.conversation != id && (own || writer.claim.evidence.is_verified())
}
