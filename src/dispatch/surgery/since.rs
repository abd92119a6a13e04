//! What came between an operation and its undo, and where that belongs.

use std::collections::HashSet;

use connector_api::ChannelId;

use crate::ids::{ConversationId, MessageId};
use crate::router::facts::{Conversation, Participant};
use crate::router::file::PARTICIPANTS_MAX;

use super::Side;

/// A message that came since.
#[derive(Debug, Clone, PartialEq)]
pub struct Since {
    pub id: MessageId,
    pub hangs_on: Option<Hang>,
    /// When it arrived, where a customer wrote it (and not long ago: history wakes nobody).
    pub inbound_at: Option<i64>,
    /// Whether it says anything to anybody: notes do not.
    pub is_said: bool,
    /// Whom it names, and the channel it came over.
    pub people: Vec<Participant>,
    pub channel: Option<ChannelId>,
}

/// What a message was joined by, or answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hang {
    Message(MessageId),
    /// By its token.
    Conversation(ConversationId),
}

/// Those of `since`, oldest first, that go back with the messages `given` to the conversation
/// `home`, by what they hang on.
pub fn followers(
    given: &HashSet<MessageId>,
    home: ConversationId,
    since: &[Since],
) -> HashSet<MessageId> {
    let mut following = HashSet::new();
    for message in since {
        let follows = match message.hangs_on {
            Some(Hang::Message(on)) => given.contains(&on) || following.contains(&on),
            Some(Hang::Conversation(on)) => on == home,
            None => false,
        };
        if follows {
            following.insert(message.id);
        }
    }
    following
}

pub fn newest_inbound(before: i64, since: &[&Since]) -> i64 {
    let inbound = since.iter().filter_map(|since| since.inbound_at);
    inbound.fold(before, i64::max)
}

/// Those who came with `since` take part in `conversation`.
pub fn take_in(conversation: &mut Conversation, since: &Since) {
    let detail = &mut conversation.detail;
    for person in &since.people {
        let known = detail.participants.iter().any(|known| same(known, person));
        if !known && detail.participants.len() < PARTICIPANTS_MAX {
            detail.participants.push(person.clone());
        }
    }
    if let Some(channel) = &since.channel
        && !detail.channels.contains(channel)
    {
        detail.channels.push(channel.clone());
    }
}

/// Whoever came only with what goes back to `from` goes with it.
pub fn part_people(
    sides: &[Side; 2],
    from: &mut Conversation,
    to: &mut Conversation,
    followed: &[&Since],
    stayed: &[&Since],
) {
    let [_, kept] = sides;
    let named = |by: &[&Since], person: &Participant| {
        let mut people = by.iter().flat_map(|since| &since.people);
        people.any(|known| same(known, person))
    };
    to.detail.participants.retain(|person| {
        kept.participants.iter().any(|known| same(known, person))
            || named(stayed, person)
            || !named(followed, person)
    });
    let used = |by: &[&Since], channel: &ChannelId| {
        by.iter()
            .any(|since| since.channel.as_ref() == Some(channel))
    };
    to.detail.channels.retain(|channel| {
        kept.channels.contains(channel) || used(stayed, channel) || !used(followed, channel)
    });
    for since in followed {
        take_in(from, since);
    }
}

fn same(one: &Participant, other: &Participant) -> bool {
    one.namespace == other.namespace && one.address == other.address
}
