//! Which conversation a message belongs to: the six joining rules, first match wins. A token, a
//! reference or a thread is a hint and not a right: following one is refused to whoever is not a
//! participant, and then the message opens a conversation of its own, linked.

use connector_api::{InboundMessage, Namespace};

use crate::conversation::Status;
use crate::ids::{ConversationId, IdKind, MessageId};

use super::Prepared;
use super::explain::{Hint, JoinReason, JoinWhy, RefusedHint, Through};
use super::facts::{Conversation, Facts, Link, LinkReason, Reference};
use super::identify::Writer;
use super::keys;
use super::policy::Policy;

/// Where a message goes. `conversation: None` opens a new one with `links`.
#[derive(Debug, Clone, PartialEq)]
pub struct Joined {
    pub conversation: Option<ConversationId>,
    pub links: Vec<Link>,
    pub why: JoinWhy,
}

/// Decides where `message`, written by `writer`, belongs. A quiet message (history, a vacation
/// notice) joins resolved conversations as they are.
pub fn join(
    record: &Prepared,
    message: &InboundMessage,
    writer: &Writer,
    quiet: bool,
    facts: &Facts,
    policy: &Policy,
) -> Joined {
    let scene = Scene {
        record,
        message,
        writer,
        quiet,
        facts,
        policy,
    };
    if message.thread.forward {
        return scene.forwarded();
    }
    let mut refused = Vec::new();
    if let Some(found) = scene.by_hint(&mut refused) {
        return scene.settle_found(found, refused);
    }
    if !refused.is_empty() {
        let links = refused.iter().map(|hint| Link {
            conversation: hint.conversation,
            reason: LinkReason::NotAParticipant,
        });
        return new(6, JoinReason::NotAParticipant, links.collect(), refused);
    }
    scene.by_contact()
}

/// A conversation of its own, whatever else there is.
pub fn apart(reason: JoinReason) -> Joined {
    new(6, reason, Vec::new(), Vec::new())
}

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

/// Whether the writer may go on in `conversation` because it is the writer's own. A claimed sender
/// whom a person merged with a verified contact still has only what claimed senders wrote.
pub fn is_own(conversation: &Conversation, writer: &Writer, facts: &Facts) -> bool {
    let contact = facts.contacts.get(&writer.contact);
    conversation.contact == writer.contact
        && (writer.claim.evidence.is_verified()
            || contact.is_some_and(|contact| !contact.verified)
            || conversation.is_only_claimed())
}

/// A conversation that a hint leads to.
struct Found {
    id: ConversationId,
    rule: u8,
    reason: JoinReason,
    through: Option<Through>,
}

struct Scene<'a> {
    record: &'a Prepared,
    message: &'a InboundMessage,
    writer: &'a Writer,
    quiet: bool,
    facts: &'a Facts,
    policy: &'a Policy,
}

impl<'a> Scene<'a> {
    /// Rules 1 to 3.
    fn by_hint(&self, refused: &mut Vec<RefusedHint>) -> Option<Found> {
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
            if named.has_participant(&claim.namespace, &claim.address) {
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
            if participant && claim.evidence.is_verified() {
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

    fn by_reference(&self) -> impl Iterator<Item = (&'a Conversation, Reference)> {
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
    fn conversation(&self, id: ConversationId) -> Option<&'a Conversation> {
        let conversation = self.facts.conversations.get(&id)?;
        (conversation.brand == self.record.envelope.brand).then_some(conversation)
    }

    fn is_own_claimed(&self, conversation: &Conversation) -> bool {
        !self.writer.claim.evidence.is_verified() && is_own(conversation, self.writer, self.facts)
    }

    /// A conversation found by rules 1 to 3: open, it is joined; resolved, rule 5 decides.
    fn settle_found(&self, found: Found, refused: Vec<RefusedHint>) -> Joined {
        let Some(conversation) = self.conversation(found.id) else {
            return new(6, JoinReason::FirstOfContact, Vec::new(), refused);
        };
        let mut joined = match conversation.status.is_open() || self.quiet {
            true => existing(found.id, found.rule, found.reason.clone(), refused),
            false => self.resolved(conversation, refused),
        };
        // The reason for reopening it names no message.
        joined.why.through = found.through.or(match (&joined.why.reason, &found.reason) {
            (
                JoinReason::Reopened { .. },
                JoinReason::Reference { message } | JoinReason::OwnReference { message },
            ) => Some(Through::Message(*message)),
            _ => None,
        });
        joined
    }

    /// Rule 5: reopen within the window, else a new one that links back.
    fn resolved(&self, conversation: &Conversation, refused: Vec<RefusedHint>) -> Joined {
        let resolved_at = conversation
            .resolved_at
            .unwrap_or(conversation.last_inbound_at);
        let recent = self.within(resolved_at, self.policy.joining.reopen_window);
        if conversation.status == Status::Resolved && recent {
            return existing(
                conversation.id,
                5,
                JoinReason::Reopened { resolved_at },
                refused,
            );
        }
        let link = Link {
            conversation: conversation.id,
            reason: LinkReason::Continues,
        };
        new(
            5,
            JoinReason::Continues {
                conversation: conversation.id,
            },
            vec![link],
            refused,
        )
    }

    /// Rules 4 to 6: what the contact has open, or had.
    fn by_contact(&self) -> Joined {
        let contact = self.facts.contacts.get(&self.writer.contact);
        let mut known: Vec<&Conversation> = contact
            .iter()
            .flat_map(|contact| &contact.conversations)
            .filter_map(|id| self.conversation(*id))
            .filter(|conversation| conversation.status != Status::Closed)
            .filter(|conversation| is_own(conversation, self.writer, self.facts))
            .collect();
        known.sort_by_key(|conversation| {
            (
                std::cmp::Reverse(conversation.last_inbound_at),
                conversation.id,
            )
        });
        if known.is_empty() {
            return new(6, JoinReason::FirstOfContact, Vec::new(), Vec::new());
        }
        if self.record.envelope.event.history {
            return new(6, JoinReason::History, Vec::new(), Vec::new());
        }
        known.retain(|conversation| self.joins_channels(conversation));

        let mut another = None;
        for conversation in known
            .iter()
            .filter(|conversation| conversation.status.is_open())
        {
            if !self.within(
                conversation.last_inbound_at,
                self.policy.joining.unify_window,
            ) {
                continue;
            }
            match self.another_matter(conversation) {
                None => {
                    return existing(conversation.id, 4, JoinReason::OpenConversation, Vec::new());
                }
                Some(reason) => another = another.or(Some((conversation.id, reason))),
            }
        }
        if let Some((id, reason)) = another {
            let link = Link {
                conversation: id,
                reason: LinkReason::AnotherMatter,
            };
            return new(6, reason, vec![link], Vec::new());
        }
        if known
            .iter()
            .any(|conversation| conversation.status.is_open())
        {
            return new(6, JoinReason::NothingWithinWindow, Vec::new(), Vec::new());
        }
        known.retain(|conversation| self.another_matter(conversation).is_none());
        match known
            .iter()
            .max_by_key(|conversation| (conversation.resolved_at, conversation.id))
        {
            Some(last) if self.quiet => {
                existing(last.id, 5, JoinReason::NothingWithinWindow, Vec::new())
            }
            Some(last) => self.resolved(last, Vec::new()),
            None => new(6, JoinReason::NothingWithinWindow, Vec::new(), Vec::new()),
        }
    }

    /// A mail with a new subject and a known, different intent is another matter. An unknown
    /// intent never splits.
    fn another_matter(&self, conversation: &Conversation) -> Option<JoinReason> {
        let subject = plain_subject(self.message.subject.as_deref()?);
        let open_subject = conversation.detail.subject.as_deref().map(plain_subject);
        let intent = self.record.labels.known_intent()?;
        let open_intent = conversation.detail.intent.as_deref()?;
        let other = open_subject.is_some_and(|open| open != subject) && intent != open_intent;
        other.then(|| JoinReason::AnotherMatter {
            intent: intent.to_owned(),
            open: open_intent.to_owned(),
        })
    }

    fn joins_channels(&self, conversation: &Conversation) -> bool {
        let channels = conversation.channels();
        channels.iter().any(|other| {
            self.policy
                .joining
                .joins(&self.record.envelope.channel, other)
        })
    }

    fn within(&self, since: i64, window: std::time::Duration) -> bool {
        let window = i64::try_from(window.as_micros()).unwrap_or(i64::MAX);
        self.record.arrived_at().saturating_sub(since) <= window
    }

    /// A forward is a new conversation whatever it refers to, linked to what it came from where
    /// the sender took part in that.
    fn forwarded(&self) -> Joined {
        let claim = &self.writer.claim;
        let from = self
            .by_reference()
            .map(|(conversation, _)| conversation)
            .find(|conversation| conversation.has_participant(&claim.namespace, &claim.address));
        let links = from.map(|conversation| Link {
            conversation: conversation.id,
            reason: LinkReason::Forwarded,
        });
        new(
            6,
            JoinReason::Forward,
            links.into_iter().collect(),
            Vec::new(),
        )
    }
}

fn existing(id: ConversationId, rule: u8, reason: JoinReason, refused: Vec<RefusedHint>) -> Joined {
    Joined {
        conversation: Some(id),
        links: Vec::new(),
        why: JoinWhy {
            rule,
            reason,
            refused,
            through: None,
        },
    }
}

fn new(rule: u8, reason: JoinReason, links: Vec<Link>, refused: Vec<RefusedHint>) -> Joined {
    Joined {
        conversation: None,
        links,
        why: JoinWhy {
            rule,
            reason,
            refused,
            through: None,
        },
    }
}

/// A subject without reply and forward marks, in lower case and single spaces.
fn plain_subject(subject: &str) -> String {
    const MARKS: [&str; 14] = [
        "re:", "aw:", "fw:", "fwd:", "wg:", "antw:", "sv:", "vs:", "tr:", "rv:", "odp:", "ynt:",
        "rif:", "r:",
    ];
    let mut plain = subject
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .to_lowercase();
    while let Some(rest) = MARKS.iter().find_map(|mark| plain.strip_prefix(mark)) {
        plain = rest.trim_start().to_owned();
    }
    plain
}
