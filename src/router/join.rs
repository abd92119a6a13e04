//! Which conversation a message belongs to: the six joining rules, first match wins. A token, a
//! reference or a thread is a hint and not a right: following one is refused to whoever is not a
//! participant, and then the message opens a conversation of its own, linked.

use connector_api::InboundMessage;

use crate::conversation::Status;
use crate::ids::ConversationId;
use crate::subject;

use super::Prepared;
use super::explain::{JoinReason, JoinWhy, RefusedHint, Through};
use super::facts::{Conversation, Facts, Link, LinkReason};
use super::identify::Writer;
use super::policy::Policy;

mod hints;

use hints::Found;
pub use hints::{named_keys, names_by_key, own_ids, reference_keys};

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

/// Whether the writer may go on in `conversation` because it is the writer's own. A claimed sender
/// whom a person merged with a verified contact still has only what claimed senders wrote.
pub fn is_own(conversation: &Conversation, writer: &Writer, facts: &Facts) -> bool {
    let contact = facts.contacts.get(&writer.contact);
    conversation.contact == writer.contact
        && (writer.claim.evidence.is_verified()
            || contact.is_some_and(|contact| !contact.verified)
            || conversation.is_only_claimed())
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
        let subject = subject::plain(self.message.subject.as_deref()?);
        let open_subject = conversation.detail.subject.as_deref().map(subject::plain);
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
