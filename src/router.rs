//! The router decides what every accepted event means. The core is pure: it takes a batch and the
//! facts of that batch, and gives effects; the store loads the ones and writes the others, in one
//! transaction with the position. Deciding again gives the same, so it may be done again.
//!
//! `dedupe → identify → triage → join → rules → queue`, as [`route`] reads.

use std::collections::HashSet;
use std::sync::Arc;

use connector_api::{
    Automatic, Event, Evidence, IdentityClaim, InboundMessage, MessageSender, Namespace,
    reply_token_candidates,
};

use crate::bus::{Carried, Envelope};
use crate::conversation::Status;
use crate::ids::{ConversationId, IdSource, MessageId};

mod ascii;
pub mod change;
pub mod effects;
pub mod explain;
pub mod facts;
pub mod file;
pub mod identify;
pub mod join;
pub mod keys;
pub mod policy;
pub mod reply_token;
pub mod rules;
pub mod triage;

pub use effects::{Effects, Verdict};
pub use facts::Facts;
pub use policy::Policy;

use effects::{DeadLetter, NewSeen};
use facts::{Contact, Conversation, IdentityKey, Key16, Seen};
use triage::{Keywords, Labels, TriageInput};

/// A record with everything that can be computed from it alone.
#[derive(Debug, Clone)]
pub struct Prepared {
    pub offset: i64,
    pub envelope: Arc<Envelope>,
    pub key: Key16,
    pub labels: Labels,
    /// [`keys::fingerprint`] of a message's text.
    pub fingerprint: Option<u64>,
    /// What its record brought; decides nothing.
    pub carried: Option<Arc<Carried>>,
}

impl Prepared {
    /// Computes keys and labels; pure, and done outside of any transaction.
    pub fn new(offset: i64, envelope: Arc<Envelope>) -> Self {
        let fingerprint = match &envelope.event.event {
            Event::Message(message) | Event::Echo(message) => keys::fingerprint(&message.text),
            _ => None,
        };
        let labels = match &envelope.event.event {
            Event::Message(message) => {
                let input = TriageInput {
                    subject: message.subject.as_deref(),
                    text: &message.text,
                    automatic: envelope.event.automatic,
                    provider_spam: envelope.event.provider_spam.as_ref().map(|_| true),
                };
                let mut labels = triage::classify(&input, Keywords::builtin());
                // By which mark of the filter.
                labels
                    .spam
                    .evidence
                    .extend(envelope.event.provider_spam.clone());
                labels
            }
            _ => Labels::default(),
        };
        let key = keys::event(
            &envelope.brand,
            &envelope.channel,
            envelope.event.dedupe_key.as_str(),
        );
        Self {
            offset,
            carried: None,
            envelope,
            key,
            labels,
            fingerprint,
        }
    }

    pub fn arrived_at(&self) -> i64 {
        self.envelope.arrived_at
    }

    /// When it was said: of what comes late as history the provider's time, which is never later
    /// than now; else when it arrived.
    pub fn said_at(&self) -> i64 {
        let arrived_at = self.arrived_at();
        let sent_at = self.envelope.event.sent_at;
        match sent_at.filter(|_| self.is_history()) {
            Some(sent_at) => sent_at.as_microsecond().min(arrived_at),
            None => arrived_at,
        }
    }

    pub fn is_history(&self) -> bool {
        self.envelope.event.history
    }

    /// The message this record becomes.
    pub fn message_id(&self) -> MessageId {
        MessageId(self.offset)
    }
}

/// The rows a batch must be decided with; loaded set by set.
#[derive(Debug, Default, Clone)]
pub struct Needs {
    pub seen: HashSet<Key16>,
    /// Keys of events that others name: what an edit changes, what a message answers.
    pub named: HashSet<Key16>,
    pub identities: HashSet<IdentityKey>,
    pub references: HashSet<Key16>,
    pub conversations: HashSet<ConversationId>,
    pub messages: HashSet<MessageId>,
    /// Conversations of which it matters what left in them, and to whom.
    pub sent_in: HashSet<ConversationId>,
    pub acknowledged: HashSet<Key16>,
}

/// Names what [`route`] will look up for `batch`. The contacts of the identities, the messages
/// behind `seen` and `references`, and the conversations of all of them follow from these.
pub fn needs(batch: &[Prepared], policy: &Policy) -> Needs {
    let mut needs = Needs::default();
    for record in batch {
        let envelope = &record.envelope;
        // A file may show again what a provider pushed long ago.
        match envelope.imported {
            true => needs.named.insert(record.key),
            false => needs.seen.insert(record.key),
        };
        needs.references.extend(sent_as(record));
        match &envelope.event.event {
            Event::Message(message) | Event::Echo(message) => {
                needs_of_message(record, message, policy, &mut needs);
            }
            Event::Edit { .. } | Event::Delete { .. } | Event::Reaction { .. } => {
                needs.named.extend(change::target(record));
            }
            Event::Receipt { target, .. } => {
                needs
                    .references
                    .insert(keys::sent(&envelope.brand, &envelope.channel, target));
                needs.messages.extend(change::own_id(target, policy));
                needs.sent_in.extend(change::named_by_token(target, policy));
            }
            Event::System { thread, .. } => {
                let native = thread.native.as_deref();
                needs
                    .references
                    .extend(native.map(|id| keys::thread(&envelope.brand, &envelope.channel, id)));
            }
            _ => {}
        }
    }
    needs
}

fn needs_of_message(
    record: &Prepared,
    message: &InboundMessage,
    policy: &Policy,
    needs: &mut Needs,
) {
    let sender = sender_of(record, message);
    for claim in identify::deciding_claims(&sender) {
        needs
            .identities
            .insert(identify::identity_key(record, claim));
    }
    needs.named.extend(join::named_keys(record, message));
    if let Some(claim) = identify::writing_claim(&sender) {
        needs
            .references
            .extend(join::reference_keys(record, message, &claim.namespace));
        let channel = policy.channels.get(&record.envelope.channel);
        if channel.is_some_and(|channel| channel.acknowledge.is_some()) {
            needs
                .acknowledged
                .extend(file::acknowledgement_keys(record, message, &claim.address));
        }
    }
    needs.messages.extend(join::own_ids(message, policy));
    let tokens = &message.thread.reply_tokens;
    needs.conversations.extend(
        tokens
            .iter()
            .filter_map(|token| policy.reply_tokens.verify(token)),
    );
}

/// Decides a batch in order, changing `facts` as it goes.
pub fn route(
    batch: &[Prepared],
    facts: &mut Facts,
    policy: &Policy,
    ids: &mut dyn IdSource,
) -> Effects {
    let mut effects = Effects::default();
    for record in batch {
        let verdict = route_one(record, facts, policy, ids, &mut effects);
        effects.verdicts.push(verdict);
    }
    effects
}

fn route_one(
    record: &Prepared,
    facts: &mut Facts,
    policy: &Policy,
    ids: &mut dyn IdSource,
    effects: &mut Effects,
) -> Verdict {
    let seen = facts.seen.entry(record.key).or_default();
    if seen
        .iter()
        .any(|seen| seen.digest == record.envelope.digest || bug!("other-content-dropped"))
    {
        return Verdict::Duplicate;
    }
    // An answer of ours in an imported folder: it stands in its conversation since it left.
    if sent_as(record).is_some_and(|key| facts.references.contains_key(&key)) {
        return Verdict::Duplicate;
    }
    let other_content = seen.first().map(|seen| seen.message);
    let verdict = match &record.envelope.event.event {
        Event::Message(message) | Event::Echo(message) => {
            file::file(record, message, other_content, facts, policy, ids, effects)
        }
        Event::System { thread, .. } => file::file_system(record, thread, facts, effects),
        event => change::apply(record, event, facts, policy, effects),
    };
    // A dead letter is not known: filing it again must not be taken for a redelivery.
    match verdict {
        Verdict::Dead => effects.dead.push(DeadLetter {
            record: record.offset,
            reason: "it belongs to nothing that is known".to_owned(),
            attempts: 1,
            at: record.arrived_at(),
        }),
        _ => remember(record, facts, policy, effects),
    }
    verdict
}

/// By which key an imported message is known, if it is one that this channel sent.
fn sent_as(record: &Prepared) -> Option<Key16> {
    let envelope = record.envelope.as_ref();
    let id = match &envelope.event.event {
        Event::Message(message) | Event::Echo(message) => message.thread.message_id.as_deref(),
        _ => None,
    };
    let id = id.filter(|_| envelope.imported)?;
    Some(keys::sent(&envelope.brand, &envelope.channel, id))
}

fn remember(record: &Prepared, facts: &mut Facts, policy: &Policy, effects: &mut Effects) {
    let (digest, message) = (record.envelope.digest, record.message_id());
    facts
        .seen
        .entry(record.key)
        .or_default()
        .push(Seen { digest, message });
    let channel = policy.channels.get(&record.envelope.channel);
    effects.seen.push(NewSeen {
        key: record.key,
        digest,
        message,
        lasting: record.envelope.imported || channel.is_some_and(|channel| channel.replayable),
    });
}

/// The sender of a message; one that names nobody is a stranger of its own, never "the same nobody".
pub fn sender_of(record: &Prepared, message: &InboundMessage) -> MessageSender {
    if !message.from.identities.is_empty() {
        return message.from.clone();
    }
    let channel = record.envelope.channel.as_str();
    MessageSender {
        identities: vec![IdentityClaim {
            namespace: Namespace::account("unknown", channel),
            address: record.envelope.event.dedupe_key.as_str().to_owned(),
            evidence: Evidence::Claimed,
        }],
        name: message.from.name.clone(),
    }
}

/// History and answers of machines to our own mail are filed without waking anybody.
pub fn is_quiet(record: &Prepared) -> bool {
    let event = &record.envelope.event;
    let answers_ours = matches!(
        event.automatic,
        Some(Automatic::AutoReply | Automatic::ReadReceipt | Automatic::Loop)
    );
    event.history || answers_ours
}

/// The token of a channel's test, where the message is one: it is filed as a customer's would be,
/// and closed at once, so that no agent is handed it.
pub fn test_token(record: &Prepared, policy: &Policy) -> Option<String> {
    let message = match &record.envelope.event.event {
        Event::Message(message) => message,
        _ => return None,
    };
    let own = message.thread.message_id.as_deref().unwrap_or_default();
    let hints = message.thread.reply_tokens.iter().cloned();
    reply_token_candidates(own)
        .into_iter()
        .chain(hints)
        .find(|token| policy.reply_tokens.is_test(token))
}

/// Marks a conversation as changed.
fn touch(conversation: &mut Conversation, effects: &mut Effects) {
    conversation.version += 1;
    if !effects.touched_conversations.contains(&conversation.id) {
        effects.touched_conversations.push(conversation.id);
    }
}

/// Marks a contact as changed: it has another set of conversations or identities.
fn touch_contact(contact: &mut Contact, effects: &mut Effects) {
    contact.version += 1;
    if !effects.contacts.contains(&contact.id) && !effects.touched_contacts.contains(&contact.id) {
        effects.touched_contacts.push(contact.id);
    }
}

/// Puts a conversation (back) into its queue.
fn enqueue(conversation: &mut Conversation, at: i64) {
    conversation.status = Status::Queued;
    conversation.enqueued_at = at;
    conversation.assignee = None;
    conversation.resolved_at = None;
}
