//! Undoing: what nobody changed since is given back, and what came since goes where it belongs.

use crate::router::facts::{Absorbed, Conversation};

use super::since::{Since, newest_inbound, part_people, take_in};
use super::stand::{Side, Stand, close, join_stands, unlink, wake};

/// Undoes a merge or a move: what the operation changed of both is given back, and each gets of
/// what came since what belongs to it. `woken`: when a customer's message arrived that goes back to
/// `from` and is the last thing said there.
pub fn part(
    sides: &[Side; 2],
    from: &mut Conversation,
    to: &mut Conversation,
    followed: &[&Since],
    stayed: &[&Since],
    woken: Option<i64>,
) {
    let [given, kept] = sides;
    if from.detail.merged_into == Some(to.id) {
        from.detail.merged_into = None;
    }
    let absorbed = &mut to.detail.absorbed;
    let of = |absorbed: &Absorbed| absorbed.conversation == given.id;
    if let Some(at) = absorbed.iter().rposition(of).filter(|_| kept.absorbed) {
        absorbed.remove(at);
    }
    given.give_back(from);
    kept.give_back(to);
    unlink(sides, from, to);
    from.last_inbound_at = newest_inbound(given.last_inbound_at, followed);
    to.last_inbound_at = newest_inbound(kept.last_inbound_at, stayed);
    part_people(sides, from, to, followed, stayed);
    if let Some(at) = woken {
        wake(from, at);
    }
    from.version += 1;
    to.version += 1;
}

/// Undoes a split: the new conversation becomes what it was for the time of its life, a name for
/// its source.
pub fn rejoin(
    sides: &[Side; 2],
    source: &mut Conversation,
    new: &mut Conversation,
    since: &[&Since],
    now: i64,
) {
    let [given, made] = sides;
    given.give_back(source);
    let unchanged = Stand::of(new) == made.after && new.last_seq == made.last_seq;
    if (!unchanged || Stand::of(source) != given.before) && new.status.is_open() {
        match source.status.is_open() {
            true => join_stands(new, source),
            // It was ended without what is still open here.
            false => Stand::of(new).give(source),
        }
    }
    unlink(sides, source, new);
    source.last_inbound_at = newest_inbound(given.last_inbound_at, since);
    for since in since {
        take_in(source, since);
    }
    close(new, source.id, now);
    source.version += 1;
    new.version += 1;
}
