//! Edits, deletions, reactions and receipts: they change a message and are never new ones. What
//! comes before its message waits for it.

use connector_api::Event;

use crate::conversation::{Delivery, Status, receipt};
use crate::ids::{ConversationId, IdKind, MessageId};

use super::effects::{
    DeliveryChange, Effects, EventType, NewChange, NewEvent, NewPending, RecipientChange,
};
use super::facts::{Change, Facts, Key16, Message, PendingChange};
use super::policy::Policy;
use super::{Prepared, Verdict, enqueue, keys, touch};

/// Applies `event` to its message, or keeps it until the message is there.
pub fn apply(
    record: &Prepared,
    event: &Event,
    facts: &mut Facts,
    policy: &Policy,
    effects: &mut Effects,
) -> Verdict {
    let Some((target, change)) = change_of(record, event) else {
        return Verdict::Dead;
    };
    let message = match &change {
        Change::Receipt { .. } => sent_message(record, event, target, facts, policy),
        _ => facts
            .seen
            .get(&target)
            .and_then(|seen| seen.first())
            .map(|seen| seen.message),
    };
    let known = message.and_then(|id| facts.messages.get(&id)).cloned();
    match known {
        Some(message) => {
            receive(&message, &change, record.arrived_at(), facts, effects);
            note(
                record.offset,
                message.id,
                message.conversation,
                change,
                record.arrived_at(),
                effects,
            );
            Verdict::Changed
        }
        None if bug!("early-change-forgotten") => Verdict::Pending,
        None => {
            facts
                .pending
                .entry(target)
                .or_default()
                .push(PendingChange {
                    record: record.offset,
                    change: change.clone(),
                });
            effects.pending.push(NewPending {
                target,
                record: record.offset,
                change,
                at: record.arrived_at(),
            });
            Verdict::Pending
        }
    }
}

/// Writes a change down beside its message.
pub fn note(
    record: i64,
    message: MessageId,
    conversation: ConversationId,
    change: Change,
    at: i64,
    effects: &mut Effects,
) {
    let what = match &change {
        Change::Edited => "edited",
        Change::Deleted => "deleted",
        Change::Reaction { .. } => "reaction",
        Change::Receipt { .. } => "receipt",
    };
    effects.changes.push(NewChange {
        record,
        message,
        conversation,
        change,
        at,
    });
    let event = NewEvent::new(EventType::MessageChanged, conversation, Some(message), at);
    effects
        .events
        .push(event.with(serde_json::json!({ "change": what })));
}

/// The key of the customer's message that a record edits, deletes or reacts to.
pub fn target(record: &Prepared) -> Option<Key16> {
    match &record.envelope.event.event {
        Event::Receipt { .. } => None,
        event => change_of(record, event).map(|(target, _)| target),
    }
}

/// The key of the message an event changes, and what it does to it.
fn change_of(record: &Prepared, event: &Event) -> Option<(Key16, Change)> {
    let envelope = &record.envelope;
    let of_event = |target: &str| keys::event(&envelope.brand, &envelope.channel, target);
    Some(match event {
        Event::Edit { target, .. } => (of_event(target), Change::Edited),
        Event::Delete { target } => (of_event(target), Change::Deleted),
        Event::Reaction {
            target,
            emoji,
            removed,
            ..
        } => (
            of_event(target),
            Change::Reaction {
                emoji: emoji.clone(),
                removed: *removed,
            },
        ),
        Event::Receipt {
            target,
            stage,
            reason,
            recipient,
        } => (
            keys::sent(&envelope.brand, &envelope.channel, target),
            Change::Receipt {
                stage: *stage,
                reason: reason.clone(),
                recipient: recipient.clone(),
            },
        ),
        _ => return None,
    })
}

/// The message we sent that a receipt speaks of: by the provider's id, by our own, or by the token of
/// its conversation and whom it went to. Only a message of the same channel.
fn sent_message(
    record: &Prepared,
    event: &Event,
    target: Key16,
    facts: &Facts,
    policy: &Policy,
) -> Option<MessageId> {
    let Event::Receipt {
        target: name,
        recipient,
        ..
    } = event
    else {
        return None;
    };
    let by_provider = facts
        .references
        .get(&target)
        .map(|reference| reference.message);
    let by_token = || sent_to(record, name, recipient.as_deref()?, facts, policy);
    let id = by_provider
        .or_else(|| own_id(name, policy))
        .or_else(by_token)?;
    let message = facts.messages.get(&id)?;
    (message.channel == record.envelope.channel && message.delivery.is_some()).then_some(id)
}

/// The newest message to `recipient` that had left when the report came. Who knows a conversation's
/// token saw a mail of it; that a mail to somebody failed is believed of nobody else.
fn sent_to(
    record: &Prepared,
    token: &str,
    recipient: &str,
    facts: &Facts,
    policy: &Policy,
) -> Option<MessageId> {
    let conversation = named_by_token(token, policy)?;
    let has_left = |id: &MessageId| {
        let delivery = facts.messages.get(id).and_then(|message| message.delivery);
        delivery.is_some_and(|delivery| delivery != Delivery::Queued)
    };
    let mut sent = facts.sent_in.get(&conversation)?.iter();
    let found = sent.find(|sent| {
        sent.at <= record.arrived_at()
            && has_left(&sent.message)
            && sent.to.iter().any(|to| to.eq_ignore_ascii_case(recipient))
    });
    found.map(|sent| sent.message)
}

/// The conversation whose reply token a receipt names in the place of a message.
pub fn named_by_token(name: &str, policy: &Policy) -> Option<ConversationId> {
    policy.reply_tokens.verify(name)
}

/// Our own id in what a receipt names: bare, or inside a Message-ID we made (a bounce of a mail
/// whose answer was lost names nothing else).
pub fn own_id(name: &str, policy: &Policy) -> Option<MessageId> {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let mut known = words.filter_map(|word| policy.ids.decode(IdKind::Message, word));
    known.next().map(MessageId)
}

/// What a receipt makes of the message, or of what one of its recipients got.
fn receive(message: &Message, change: &Change, at: i64, facts: &mut Facts, effects: &mut Effects) {
    let (
        Change::Receipt {
            stage,
            reason,
            recipient,
        },
        Some(now),
    ) = (change, message.delivery)
    else {
        return;
    };
    let received = receipt::receive(now, &message.recipients, recipient.as_deref(), *stage);
    if let Some(place) = received.place
        && received.says
    {
        reach(message, place, received.recipient, facts);
        effects.reached.push(RecipientChange {
            message: message.id,
            place,
            delivery: received.recipient,
            reason: reason.clone(),
            at,
        });
    }
    if let Some(delivery) = received.message {
        deliver(message, delivery, facts, effects);
    }
    if received.message.is_some() || received.recipient.is_some() {
        let stands = received.message.unwrap_or(now);
        let event = NewEvent::delivery(message.conversation, message.id, stands, at);
        effects.events.push(event);
    }
    if received.comes_back {
        bring_back(message, at, facts, effects);
    }
}

fn reach(message: &Message, place: u16, delivery: Option<Delivery>, facts: &mut Facts) {
    let known = facts.messages.get_mut(&message.id);
    let recipients = known.into_iter().flat_map(|known| &mut known.recipients);
    for recipient in recipients.filter(|one| one.place == place) {
        recipient.delivery = delivery.or(recipient.delivery);
    }
}

fn deliver(message: &Message, delivery: Delivery, facts: &mut Facts, effects: &mut Effects) {
    if let Some(known) = facts.messages.get_mut(&message.id) {
        known.delivery = Some(delivery);
    }
    effects.deliveries.push(DeliveryChange {
        message: message.id,
        delivery,
    });
}

/// A refused message comes back to a person: somebody never got the answer.
fn bring_back(message: &Message, at: i64, facts: &mut Facts, effects: &mut Effects) {
    let collides = super::file::collides_when_open(message.conversation, facts);
    let Some(conversation) = facts.conversations.get_mut(&message.conversation) else {
        return;
    };
    match (conversation.status, &conversation.assignee) {
        (Status::Pending, Some(_)) => {
            conversation.status = Status::Assigned;
            let event = NewEvent::status(message.conversation, Status::Assigned, at);
            effects.events.push(event);
        }
        (Status::Pending | Status::Resolved, _) => {
            if conversation.status == Status::Resolved && collides {
                conversation.matter = Some(conversation.founding_message());
            }
            enqueue(conversation, at);
            effects.events.push(NewEvent::new(
                EventType::ConversationQueued,
                message.conversation,
                None,
                at,
            ));
        }
        _ => return,
    }
    effects.returned.push(message.id);
    touch(conversation, effects);
}
