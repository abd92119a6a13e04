//! The one automatic answer: to a person who opens a conversation, never to a machine, once a day.
//!
//! Two machines that answer each other without saying that they are machines are stopped by what
//! they do: their mail carries our own reply token, comes from the same mailbox again, or says the
//! same again from the same domain.

use connector_api::{Event, InboundMessage};

use crate::ids::{ConversationId, IdSource, MessageId};
use crate::router::effects::{Acknowledgement, Effects};
use crate::router::explain::AcknowledgeWhy;
use crate::router::facts::{Facts, Key16};
use crate::router::identify::Writer;
use crate::router::policy::Policy;
use crate::router::{Prepared, keys};

/// Under what an acknowledgement of `message` is remembered: any of them known stops the next.
pub fn acknowledgement_keys(
    record: &Prepared,
    message: &InboundMessage,
    address: &str,
) -> Vec<Key16> {
    let channel = &record.envelope.channel;
    let mailbox = keys::acknowledged(channel, address);
    let text = keys::acknowledged_text(channel, address, &message.text);
    std::iter::once(mailbox).chain(text).collect()
}

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
    let Event::Message(message) = &envelope.event.event else {
        return None;
    };
    let text = policy
        .channels
        .get(&envelope.channel)?
        .acknowledge
        .as_ref()?;
    let automatic = envelope.event.automatic.is_some() && !bug!("machines-are-answered");
    if envelope.event.history || automatic {
        return Some(AcknowledgeWhy::AutomaticMessage);
    }
    if record.labels.is_spam() {
        return Some(AcknowledgeWhy::Spam);
    }
    if envelope.event.answers_suppressed {
        return Some(AcknowledgeWhy::NotWanted);
    }
    let tokens = &message.thread.reply_tokens;
    let is_answer = |token: &String| policy.reply_tokens.verify(token).is_some();
    if tokens.iter().any(is_answer) {
        return Some(AcknowledgeWhy::AnswersOurs);
    }
    let keys = acknowledgement_keys(record, message, &writer.claim.address);
    if keys.iter().any(|key| facts.acknowledged.contains(key)) {
        return Some(AcknowledgeWhy::Recently);
    }
    facts.acknowledged.extend(&keys);
    let conversation = facts.conversations.get_mut(&id)?;
    conversation.last_seq += 1;
    let prev = conversation.last_message;
    let id_of_answer = MessageId(ids.next());
    conversation.last_message = Some(id_of_answer);
    effects.acknowledgements.push(Acknowledgement {
        id: id_of_answer,
        keys,
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
