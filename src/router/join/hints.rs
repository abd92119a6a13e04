//! Rules 1 to 3: tokens, references, threads. What they lead to is joined by participants only.

use connector_api::{InboundMessage, Namespace};

use crate::ids::{ConversationId, IdKind, MessageId};
use crate::router::Prepared;
use crate::router::explain::{Hint, JoinReason, RefusedHint, Through};
use crate::router::facts::{Conversation, LinkReason, Reference};
use crate::router::keys;
use crate::router::policy::Policy;

use super::{Scene, is_own};

/// The conversations and references that [`join`] may look up for `message`.
pub fn reference_keys(
    record: &Prepared,
    message: &InboundMessage,
    namespace: &Namespace,
) -> Vec<[u8; 16]> {
    let envelope = &record.envelope;
    // Also where messages are named by their keys: an answer of ours is named by its provider's id.
    let ids = message.thread.references.iter();
    let ids = ids.map(|id| keys::message_id(&envelope.brand, namespace, id));
    let mut wanted: Vec<_> = ids.collect();
    if let Some(native) = &message.thread.native {
        wanted.push(keys::thread(&envelope.brand, &envelope.channel, native));
    }
    wanted
}

/// The keys of the events that `message` refers to, where its connector names messages by them.
pub fn named_keys(record: &Prepared, message: &InboundMessage) -> Vec<[u8; 16]> {
    let envelope = &record.envelope;
    let ids = message.thread.references.iter();
    let keys = ids.map(|id| keys::event(&envelope.brand, &envelope.channel, id));
    match names_by_key(record, message) {
        true => keys.collect(),
        false => Vec::new(),
    }
}

/// Whether messages of this kind are named by their dedupe keys: then the table of these finds
/// them, and nothing more is kept.
pub fn names_by_key(record: &Prepared, message: &InboundMessage) -> bool {
    message.thread.message_id.as_deref() == Some(record.envelope.event.dedupe_key.as_str())
}

/// The messages of ours that `message` refers to by our own ids for them.
pub fn own_ids(message: &InboundMessage, policy: &Policy) -> impl Iterator<Item = MessageId> {
    let own = |id: &String| own_id(id, policy);
    message.thread.references.iter().filter_map(own)
}

fn own_id(id: &str, policy: &Policy) -> Option<MessageId> {
    policy.ids.decode(IdKind::Message, id).map(MessageId)
}

/// A conversation that a hint leads to.
pub(super) struct Found {
    pub(super) id: ConversationId,
    pub(super) rule: u8,
    pub(super) reason: JoinReason,
    pub(super) through: Option<Through>,
}

impl<'a> Scene<'a> {
    /// Rules 1 to 3.
    pub(super) fn by_hint(&self, refused: &mut Vec<RefusedHint>) -> Option<Found> {
        let mut refuse = |hint, conversation: &Conversation, why: &str| {
            let known = |other: &RefusedHint| other.conversation == conversation.id;
            if !refused.iter().any(known) {
                refused.push(RefusedHint {
                    hint,
                    conversation: conversation.id,
                    why: why.to_owned(),
                });
            }
        };
        let claim = &self.writer.claim;

        for named in self.by_token() {
            let (conversation, through) = self.led_on(named);
            let participant = named.has_participant(&claim.namespace, &claim.address);
            if participant || bug!("token-is-a-right") {
                return Some(Found {
                    id: conversation.id,
                    rule: 1,
                    reason: JoinReason::ReplyToken,
                    through,
                });
            }
            refuse(
                Hint::ReplyToken,
                conversation,
                "the sender's address is no participant's",
            );
        }
        for (conversation, reference) in self.by_reference() {
            let participant = conversation.has_participant(&claim.namespace, &claim.address);
            let participant = participant || bug!("reference-is-a-right");
            let verified = claim.evidence.is_verified() || bug!("claimed-sender-joins");
            if participant && verified {
                let reason = JoinReason::Reference {
                    message: reference.message,
                };
                return Some(Found {
                    id: conversation.id,
                    rule: 2,
                    reason,
                    through: None,
                });
            }
            if self.is_own_claimed(conversation) {
                let reason = JoinReason::OwnReference {
                    message: reference.message,
                };
                return Some(Found {
                    id: conversation.id,
                    rule: 2,
                    reason,
                    through: None,
                });
            }
            refuse(
                Hint::Reference,
                conversation,
                "the sender is no participant by verified evidence",
            );
        }
        if let Some((conversation, reference)) = self.by_native_thread() {
            if claim.evidence.is_verified() || is_own(conversation, self.writer, self.facts) {
                let anchor = Through::Message(reference.message);
                return Some(Found {
                    id: conversation.id,
                    rule: 3,
                    reason: JoinReason::NativeThread,
                    through: reference.moved.then_some(anchor),
                });
            }
            refuse(
                Hint::NativeThread,
                conversation,
                "the sender is not verified",
            );
        }
        None
    }

    fn by_token(&self) -> impl Iterator<Item = &'a Conversation> {
        let tokens = &self.message.thread.reply_tokens;
        tokens
            .iter()
            .filter_map(|token| self.policy.reply_tokens.verify(token))
            .filter_map(|id| self.conversation(id))
    }

    /// Where the thread of a conversation that a token names goes on: in the one it was merged
    /// into, or in one that took over the message that is answered.
    fn led_on(&self, named: &'a Conversation) -> (&'a Conversation, Option<Through>) {
        let stands = self.facts.stands_for(named);
        let took_over = |other: &Conversation| {
            let mut links = other.detail.links.iter();
            links.any(|link| {
                (link.conversation == named.id || link.conversation == stands.id)
                    && matches!(link.reason, LinkReason::Split | LinkReason::Moved)
            })
        };
        match self.by_reference().next() {
            Some((other, reference))
                if other.id != stands.id && other.contact == stands.contact && took_over(other) =>
            {
                (other, Some(Through::Message(reference.message)))
            }
            _ if stands.id != named.id => (stands, Some(Through::Conversation(named.id))),
            _ => (named, None),
        }
    }

    pub(super) fn by_reference(&self) -> impl Iterator<Item = (&'a Conversation, Reference)> {
        let ids = self.message.thread.references.iter();
        ids.filter_map(|id| {
            let reference = self.reference(id)?;
            Some((self.conversation(reference.conversation)?, reference))
        })
    }

    /// The message that `id` names: theirs by its key, or ours by their id or our own for it.
    fn reference(&self, id: &str) -> Option<Reference> {
        let envelope = &self.record.envelope;
        let by_key = || {
            let key = keys::event(&envelope.brand, &envelope.channel, id);
            let seen = self.facts.seen.get(&key)?.first()?;
            let message = self.facts.messages.get(&seen.message)?;
            Some(Reference {
                conversation: message.conversation,
                message: message.id,
                moved: false,
            })
        };
        let by_id = || {
            let namespace = &self.writer.claim.namespace;
            let key = keys::message_id(&envelope.brand, namespace, id);
            self.facts.references.get(&key).copied()
        };
        let known = match names_by_key(self.record, self.message) {
            true => by_key().or_else(by_id),
            false => by_id(),
        };
        known.or_else(|| self.own_answer(id))
    }

    /// An answer that left by this channel, under our own id for it.
    fn own_answer(&self, id: &str) -> Option<Reference> {
        let id = own_id(id, self.policy)?;
        let sent = self.facts.messages.get(&id)?;
        let ours = sent.delivery.is_some() && sent.channel == self.record.envelope.channel;
        ours.then_some(Reference {
            conversation: sent.conversation,
            message: id,
            moved: false,
        })
    }

    fn by_native_thread(&self) -> Option<(&'a Conversation, Reference)> {
        let envelope = &self.record.envelope;
        let native = self.message.thread.native.as_deref()?;
        let key = keys::thread(&envelope.brand, &envelope.channel, native);
        let reference = *self.facts.references.get(&key)?;
        Some((self.conversation(reference.conversation)?, reference))
    }

    /// A loaded conversation of the same brand: nothing else exists for this message.
    pub(super) fn conversation(&self, id: ConversationId) -> Option<&'a Conversation> {
        let conversation = self.facts.conversations.get(&id)?;
        (conversation.brand == self.record.envelope.brand).then_some(conversation)
    }

    fn is_own_claimed(&self, conversation: &Conversation) -> bool {
        !self.writer.claim.evidence.is_verified() && is_own(conversation, self.writer, self.facts)
    }
}
