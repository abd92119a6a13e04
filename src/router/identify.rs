//! Who is writing. Only verified evidence links identities; a claim makes a contact of its own.

use connector_api::{Evidence, IdentityClaim, MessageSender};

use crate::ids::{ContactId, ConversationId, IdSource, IdentityId};

use super::Prepared;
use super::effects::{By, Effects, EventType, Merge, NewEvent, NewIdentity, Suggestion};
use super::explain::{Found, IdentityWhy};
use super::facts::{Contact, Conversation, Facts, Identity, IdentityKey, Link, LinkReason};
use super::file::LINKS_MAX;

/// The writer of a message, as far as it is known.
#[derive(Debug, Clone)]
pub struct Writer {
    pub contact: ContactId,
    pub identity: IdentityId,
    /// The identity that wrote; a reply goes there.
    pub claim: IdentityClaim,
    pub why: IdentityWhy,
}

/// The identity that counts as the writer: the first verified one, else the first.
pub fn writing_claim(sender: &MessageSender) -> Option<&IdentityClaim> {
    let verified = sender
        .identities
        .iter()
        .find(|claim| claim.evidence.is_verified());
    verified.or(sender.identities.first())
}

/// Where `claim` is looked up: verified ones brand-wide, claimed ones within their channel.
pub fn identity_key(record: &Prepared, claim: &IdentityClaim) -> IdentityKey {
    let envelope = &record.envelope;
    IdentityKey {
        brand: envelope.brand.clone(),
        scope: (!claim.evidence.is_verified() && !bug!("claimed-is-verified"))
            .then(|| envelope.channel.clone()),
        namespace: claim.namespace.clone(),
        address: claim.address.clone(),
    }
}

/// The identities of an event that decide who wrote it: every verified one; where there is none,
/// the first claimed one.
pub fn deciding_claims(sender: &MessageSender) -> Vec<&IdentityClaim> {
    let verified: Vec<_> = sender
        .identities
        .iter()
        .filter(|claim| claim.evidence.is_verified())
        .collect();
    if verified.is_empty() {
        sender.identities.first().into_iter().collect()
    } else {
        verified
    }
}

/// Finds or makes the contact of a message's sender.
pub fn identify(
    record: &Prepared,
    sender: &MessageSender,
    facts: &mut Facts,
    effects: &mut Effects,
    ids: &mut dyn IdSource,
) -> Option<Writer> {
    let claim = writing_claim(sender)?.clone();
    let deciding = deciding_claims(sender);
    let keys: Vec<IdentityKey> = deciding
        .iter()
        .map(|claim| identity_key(record, claim))
        .collect();

    let mut known: Vec<ContactId> = keys
        .iter()
        .filter_map(|key| facts.identities.get(key))
        .map(|identity| identity.contact)
        .collect();
    known.sort();
    known.dedup();

    let mut found = Found::Known;
    let contact = match known.first() {
        Some(oldest) => *oldest,
        None => {
            found = Found::New;
            new_contact(record, sender, claim.evidence, facts, effects, ids)
        }
    };
    let mut linked = None;
    for other in known.iter().skip(1) {
        // A person who told two contacts apart knew more than the evidence.
        if facts.apart.contains(&(contact, *other)) {
            continue;
        }
        found = Found::Linked;
        linked = linked.or(Some(*other));
        link(*other, contact, record.arrived_at(), None, facts, effects);
    }
    let mut proven = keys.iter().filter_map(|key| facts.identities.get(key));
    let beside = proven.next().map(|identity| identity.id);
    let writing = facts.identities.get(&identity_key(record, &claim));
    let contact = writing.map_or(contact, |identity| identity.contact);
    for (key, claim) in keys.iter().zip(&deciding) {
        if !facts.identities.contains_key(key) {
            let id = IdentityId(ids.next());
            effects.identities.push(NewIdentity {
                id,
                key: key.clone(),
                contact,
                method: method(claim.evidence),
                name: sender.name.clone(),
                at: record.arrived_at(),
                beside,
            });
            facts
                .identities
                .insert(key.clone(), Identity { id, contact });
            if found != Found::New
                && let Some(known) = facts.contacts.get_mut(&contact)
            {
                super::touch_contact(known, effects);
                let changed = EventType::ContactUpdated;
                let event = NewEvent::of_contact(changed, contact, record.arrived_at());
                effects.events.push(event);
            }
        }
    }
    if claim.evidence.is_verified() {
        suggest(contact, sender, record.arrived_at(), effects);
    }

    let identity = facts.identities.get(&identity_key(record, &claim))?.id;
    let why = IdentityWhy {
        contact,
        evidence: method(claim.evidence).to_owned(),
        found,
        linked,
    };
    Some(Writer {
        contact,
        identity,
        claim,
        why,
    })
}

fn method(evidence: Evidence) -> &'static str {
    match evidence {
        Evidence::Claimed => "claimed",
        Evidence::Verified(method) => method.as_str(),
    }
}

fn new_contact(
    record: &Prepared,
    sender: &MessageSender,
    evidence: Evidence,
    facts: &mut Facts,
    effects: &mut Effects,
    ids: &mut dyn IdSource,
) -> ContactId {
    let id = ContactId(ids.next());
    let contact = Contact {
        id,
        brand: record.envelope.brand.clone(),
        verified: evidence.is_verified(),
        name: sender.name.clone(),
        version: 0,
        conversations: Vec::new(),
    };
    facts.contacts.insert(id, contact);
    effects.contacts.push(id);
    id
}

/// Claimed identities beside a verified one are shown to people, and link nothing.
fn suggest(contact: ContactId, sender: &MessageSender, at: i64, effects: &mut Effects) {
    for claim in sender
        .identities
        .iter()
        .filter(|claim| !claim.evidence.is_verified())
    {
        effects.suggestions.push(Suggestion {
            contact,
            namespace: claim.namespace.clone(),
            address: claim.address.clone(),
            at,
        });
    }
}

/// Makes `from` part of `into`, and settles their open conversations: the older keeps the empty
/// matter, a younger one takes its founding message as its matter, and the two are linked. A
/// `from` that is new in this batch is kept, too: a merge can be undone.
///
/// By verified evidence, or by the person that `by` names.
pub fn link(
    from: ContactId,
    into: ContactId,
    at: i64,
    by: Option<By>,
    facts: &mut Facts,
    effects: &mut Effects,
) {
    for identity in facts
        .identities
        .values_mut()
        .filter(|identity| identity.contact == from)
    {
        identity.contact = into;
    }
    let moved: Vec<ConversationId> = facts
        .contacts
        .get_mut(&from)
        .map(|contact| {
            super::touch_contact(contact, effects);
            std::mem::take(&mut contact.conversations)
        })
        .unwrap_or_default();
    let verified = facts.contacts.get(&from).is_some_and(|from| from.verified);
    for id in &moved {
        if let Some(conversation) = facts.conversations.get_mut(id) {
            conversation.contact = into;
        }
    }
    if let Some(contact) = facts.contacts.get_mut(&into) {
        contact.conversations.extend(moved);
        contact.conversations.sort();
        contact.verified |= verified;
        super::touch_contact(contact, effects);
    }
    effects.merges.push(Merge { from, into, at, by });
    settle(into, at, facts, effects);
}

fn settle(contact: ContactId, at: i64, facts: &mut Facts, effects: &mut Effects) {
    let Some(contact) = facts.contacts.get(&contact) else {
        return;
    };
    let mut without_matter: Vec<(i64, ConversationId)> = contact
        .conversations
        .iter()
        .filter_map(|id| facts.conversations.get(id))
        .filter(|conversation| conversation.status.is_open() && conversation.matter.is_none())
        .map(|conversation| (conversation.opened_at, conversation.id))
        .collect();
    without_matter.sort();
    let Some(((_, older), younger)) = without_matter.split_first() else {
        return;
    };
    for (_, id) in younger {
        if let Some(conversation) = facts.conversations.get_mut(id) {
            conversation.matter = Some(conversation.founding_message());
            note_same_person(conversation, *older);
            super::touch(conversation, effects);
            effects.events.push(changed(*id, at));
        }
    }
    if !younger.is_empty()
        && let Some(conversation) = facts.conversations.get_mut(older)
    {
        for (_, id) in younger {
            note_same_person(conversation, *id);
        }
        super::touch(conversation, effects);
        effects.events.push(changed(*older, at));
    }
}

fn changed(id: ConversationId, at: i64) -> NewEvent {
    NewEvent::new(EventType::ConversationUpdated, id, None, at)
}

fn note_same_person(conversation: &mut Conversation, other: ConversationId) {
    let links = &mut conversation.detail.links;
    if links.len() < LINKS_MAX {
        links.push(Link {
            conversation: other,
            reason: LinkReason::SamePerson,
        });
    }
}
