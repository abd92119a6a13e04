//! Mails that their server does not hand out. One that never comes must stop nobody; a server whose
//! storage is down refuses every mail, with the same words, and must lose none.

use std::collections::HashMap;

/// A refusal says something about the mail; a lost link says little, unless it happens again and
/// again with the same mail (a server that crashes on it).
pub(crate) const REFUSED_WEIGHT: u32 = 5;
pub(crate) const LOST_WEIGHT: u32 = 1;
/// What weighs on a mail without proof that it is the mail, not the server: nothing is given up.
const UNPROVEN_MAX: u32 = 5;
const HEADERS_WEIGHT: u32 = 15;
const GIVE_UP_WEIGHT: u32 = 20;
/// With no other mail to ask for, time tells, in seconds since the first refusal.
const ALONE_SECONDS: i64 = 60 * 60;
/// With others refused as well it is the server, unless it stays so for this long, in seconds.
const ALL_REFUSED_SECONDS: i64 = 24 * 60 * 60;
/// Most mails remembered as troublesome.
const TROUBLES_MAX: usize = 1_000;

/// What became of another mail on the connection on which one was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Witness {
    /// It came: the server hands out mails.
    Read,
    /// There is none to ask for.
    Nobody,
    /// It was refused, too, or nobody asked.
    Silent,
}

/// How much of a mail is still asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    None,
    /// The body cannot be had; the headers may.
    Bodies,
    All,
}

/// How often fetching a mail failed since it last went well, by UID.
#[derive(Debug, Default)]
pub(crate) struct Troubles(HashMap<u32, Refusals>);

#[derive(Debug, Clone, Copy)]
struct Refusals {
    weight: u32,
    /// When the first one was, in seconds since the epoch.
    since: i64,
    /// Asked for alone, it broke the connection.
    breaks_link: bool,
}

impl Troubles {
    pub(crate) fn weight(&self, uid: u32) -> u32 {
        self.0.get(&uid).map_or(0, |refusals| refusals.weight)
    }

    pub(crate) fn of(&self, uid: u32) -> Trouble {
        match self.weight(uid) {
            weight if weight >= GIVE_UP_WEIGHT => Trouble::All,
            weight if weight >= HEADERS_WEIGHT => Trouble::Bodies,
            _ => Trouble::None,
        }
    }

    pub(crate) fn add(&mut self, uid: u32, weight: u32, witness: Witness, now: i64) {
        if self.0.len() >= TROUBLES_MAX && !self.0.contains_key(&uid) {
            return;
        }
        let refusals = self.0.entry(uid).or_insert(Refusals {
            weight: 0,
            since: now,
            breaks_link: false,
        });
        let age = now.saturating_sub(refusals.since);
        let is_proven = match witness {
            Witness::Read => true,
            Witness::Nobody => age >= ALONE_SECONDS,
            Witness::Silent => age >= ALL_REFUSED_SECONDS,
        };
        let sum = refusals.weight.saturating_add(weight);
        refusals.weight = match is_proven {
            true => sum,
            false => sum.min(UNPROVEN_MAX).max(refusals.weight),
        };
    }

    /// Whether nobody can be asked any more after this mail was.
    pub(crate) fn breaks_link(&self, uid: u32) -> bool {
        let refusals = self.0.get(&uid);
        refusals.is_some_and(|one| one.breaks_link && one.weight >= UNPROVEN_MAX)
    }

    pub(crate) fn note_broken_link(&mut self, uid: u32) {
        if let Some(refusals) = self.0.get_mut(&uid) {
            refusals.breaks_link = true;
        }
    }

    pub(crate) fn forgive(&mut self, uid: u32) {
        self.0.remove(&uid);
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Refuses mail 2 a hundred times at each of the given times.
    fn check(witness: Witness, times: &[i64], expected: Trouble) {
        let mut troubles = Troubles::default();
        for now in times {
            for _ in 0..100 {
                troubles.add(2, REFUSED_WEIGHT, witness, *now);
            }
        }
        assert_eq!(troubles.of(2), expected, "{witness:?} {times:?}");
        troubles.forgive(2);
        assert_eq!(troubles.weight(2), 0);
    }

    #[test]
    fn a_mail_is_given_up_when_another_came_or_after_a_long_time() {
        use Witness::{Nobody, Read, Silent};
        check(Read, &[0], Trouble::All);
        check(Nobody, &[0, 3_599], Trouble::None);
        check(Nobody, &[0, 3_600], Trouble::All);
        check(Silent, &[0, 3_600, 86_399], Trouble::None);
        check(Silent, &[0, 86_400], Trouble::All);
    }

    #[test]
    fn one_proven_refusal_is_not_enough_to_leave_a_body_out() {
        let mut troubles = Troubles::default();
        troubles.add(2, REFUSED_WEIGHT, Witness::Silent, 0);
        troubles.add(2, REFUSED_WEIGHT, Witness::Read, 0);
        assert_eq!(troubles.of(2), Trouble::None);
        troubles.add(2, REFUSED_WEIGHT, Witness::Read, 0);
        assert_eq!(troubles.of(2), Trouble::Bodies);
    }
}
