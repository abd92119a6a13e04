//! Who may hold, hand out and erase what is kept of a person. All of it is of one person as a whole, so it takes
//! a supervisor: one who sees every queue where it hands out or erases, because a conversation may be in any.

use connector_api::{BrandId, Timestamp};

use super::{Actor, Refusal, Role};

/// Why not, beyond what a token may do at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error(
        "a legal hold keeps what is known of {contact}: {reason} (by {who}, since {since}); lift it first"
    )]
    OnHold {
        /// "this contact", or who took part in one of its conversations.
        contact: &'static str,
        reason: String,
        who: String,
        since: Timestamp,
    },
    #[error(
        "this token is of some queues only, and a contact's conversations may be in any: use one of all queues"
    )]
    SomeQueues,
}

/// A hold is put on and lifted by a supervisor who sees the contact.
pub fn may_hold(actor: &Actor) -> Result<(), Refusal> {
    match actor.role {
        Role::Supervisor => Ok(()),
        role => Err(Refusal::Role { role }),
    }
}

/// Handing out everything of a person, and erasing it.
pub fn may_answer_for(actor: &Actor) -> Result<(), Refusal> {
    may_hold(actor)?;
    match actor.queues.is_empty() {
        true => Ok(()),
        false => Err(Refused::SomeQueues.into()),
    }
}

/// Whether what is of the brand exists for the actor.
pub fn reaches(actor: &Actor, brand: &BrandId) -> bool {
    actor.brands.is_empty() || actor.brands.contains(brand)
}

/// Whoever owns the data directory: what its commands do is done in this name.
pub fn operator() -> Actor {
    Actor {
        role: Role::Supervisor,
        agent: None,
        queues: Vec::new(),
        brands: Vec::new(),
        acting: None,
        acts: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_person_is_a_matter_of_supervisors_who_see_every_queue() {
        let check = |role: Role, queues: &[&str], expected: [bool; 2]| {
            let actor = Actor {
                role,
                queues: queues.iter().map(|queue| queue.parse().unwrap()).collect(),
                ..operator()
            };
            let may = [may_hold(&actor).is_ok(), may_answer_for(&actor).is_ok()];
            assert_eq!(may, expected, "{role:?} of {queues:?}");
        };
        check(Role::Supervisor, &[], [true, true]);
        check(Role::Supervisor, &["frontline"], [true, false]);
        for role in [Role::Agent, Role::Admin, Role::Connector, Role::Reader] {
            check(role, &[], [false, false]);
        }
    }
}
