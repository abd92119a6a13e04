//! The one automatic answer: to a person who opens a conversation, never to a machine, once a day.

use crate::ids::{ConversationId, IdSource, MessageId};
use crate::router::effects::{Acknowledgement, Effects};
use crate::router::explain::AcknowledgeWhy;
use crate::router::facts::Facts;
use crate::router::identify::Writer;
use crate::router::policy::Policy;
use crate::router::{Prepared, keys};

/// Answers the message that opened conversation `id`, where its channel does that; says why or why
/// not.
pub fn acknowledge(
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
