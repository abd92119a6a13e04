//! What a message adds to its conversation: who takes part over which channel, what it is about,
//! and whether its words were said just before.

use connector_api::{InboundMessage, Namespace};

use crate::ids::MessageId;
use crate::router::Prepared;
use crate::router::facts::{Conversation, Participant, RecentText, Role};
use crate::router::identify::Writer;
use crate::router::policy::Policy;

use super::PARTICIPANTS_MAX;

const RECENT_TEXTS_MAX: usize = 4;

/// Notes who takes part, over which channel, about what.
pub fn take_part(
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
    for other in named_by(
        message,
        &claim.namespace,
        record.envelope.event.reply_to.as_deref(),
    ) {
        let known = |known: &Participant| {
            known.namespace == other.namespace && known.address == other.address
        };
        if detail.participants.len() < PARTICIPANTS_MAX && !detail.participants.iter().any(known) {
            detail.participants.push(other);
        }
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

/// Whom a message brings along beside its author. A verified author asks for answers at `reply_to`:
/// whoever answers from there takes part, as after a Cc.
pub fn named_by(
    message: &InboundMessage,
    namespace: &Namespace,
    reply_to: Option<&str>,
) -> Vec<Participant> {
    let named = message.participants.iter().map(|other| Participant {
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
    let answering = reply_to.map(|address| Participant {
        namespace: namespace.clone(),
        address: address.to_owned(),
        verified: false,
        role: Role::Cc,
        name: None,
    });
    named.chain(answering).collect()
}

/// The earlier message of the conversation with the same words, within the window.
pub fn near_duplicate(
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
