//! Which parts are unwell, and which nobody has seen well since the start. Pure over their states.

use std::collections::BTreeMap;

use crate::health::{State, is_channel};

/// A channel that is configured.
#[derive(Debug, Clone)]
pub struct Configured {
    pub id: String,
    pub sends: bool,
    /// Whether an answer waits to leave by it, as far as that is known.
    pub due: bool,
}

const LANE: &str = "channel:outbound:";

/// A channel's source that is degraded works, and its silence is told by itself; any other part that
/// is does less than it should. Restored answers are held ones, which are told by themselves.
pub fn is_unwell(name: &str, state: &State) -> bool {
    let source = is_channel(name) && !name.starts_with(LANE);
    match state {
        State::Starting | State::Ready | State::Standby => false,
        State::Degraded { .. } => !source && name != "outbox",
        State::Unauthorized { .. } | State::Unreachable { .. } => true,
    }
}

/// Parts of which nothing is known: a source that has not come to anything yet, a lane that has
/// something to send and has sent nothing (a lane is `ready` at once).
pub fn unproven(
    states: &BTreeMap<String, State>,
    worked: &BTreeMap<String, i64>,
    channels: &[Configured],
) -> Vec<String> {
    let is_open = |name: &String| matches!(states.get(name), None | Some(State::Starting));
    let mut found = Vec::new();
    for channel in channels {
        let source = format!("channel:{}", channel.id);
        if is_open(&source) {
            found.push(source);
        }
        let lane = format!("{LANE}{}", channel.id);
        let silent = channel.due && !worked.contains_key(&lane);
        if channel.sends && (is_open(&lane) || silent) {
            found.push(lane);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use crate::daemon::{accepting, alerting, forgetting, housekeeping, indexing, timers};

    use super::*;

    fn because() -> String {
        "why".to_owned()
    }

    #[test]
    fn whatever_does_less_than_it_should_is_told_but_a_channel_that_works() {
        let degraded = State::Degraded { reason: because() };
        let unreachable = State::Unreachable { reason: because() };
        let unauthorized = State::Unauthorized { reason: because() };
        let works_beside = [
            alerting::NAME,
            timers::NAME,
            forgetting::NAME,
            indexing::INDEXING,
            housekeeping::KEEPING,
            housekeeping::FILES,
        ];
        let others = ["router", "tls", "config", accepting::NAME];
        // A provider that limits how much is sent keeps every answer here.
        let lane = ["channel:outbound:support-mail"];
        for name in works_beside.into_iter().chain(others).chain(lane) {
            assert!(is_unwell(name, &degraded), "{name}");
        }
        for name in ["channel:support-mail", "outbox"] {
            assert!(!is_unwell(name, &degraded), "{name}");
        }
        for name in works_beside
            .into_iter()
            .chain(["channel:support-mail", "router"])
        {
            assert!(
                is_unwell(name, &unreachable) && is_unwell(name, &unauthorized),
                "{name}"
            );
            assert!(
                !is_unwell(name, &State::Ready) && !is_unwell(name, &State::Starting),
                "{name}"
            );
        }
    }

    #[test]
    fn after_a_start_a_part_is_well_only_once_it_was_seen_well() {
        let (source, lane) = ("channel:support-mail", "channel:outbound:support-mail");
        let check = |states: &[(&str, State)], worked: bool, due: bool, expected: &[&str]| {
            let named = states.iter();
            let states = named.map(|(name, state)| ((*name).to_owned(), state.clone()));
            let worked: BTreeMap<String, i64> =
                worked.then(|| (lane.to_owned(), 1)).into_iter().collect();
            let channel = Configured {
                id: "support-mail".to_owned(),
                sends: true,
                due,
            };
            let states: BTreeMap<String, State> = states.collect();
            assert_eq!(unproven(&states, &worked, &[channel]), expected);
            let gone = unproven(&states, &worked, &[]);
            assert!(gone.is_empty(), "what is not there any more is over");
        };
        let ready = || State::Ready;
        check(&[], false, false, &[source, lane]);
        check(&[(lane, ready())], false, false, &[source]);
        check(
            &[(source, State::Starting), (lane, ready())],
            false,
            false,
            &[source],
        );
        check(&[(source, ready()), (lane, ready())], false, true, &[lane]);
        check(&[(source, ready()), (lane, ready())], true, true, &[]);
        check(&[(source, ready()), (lane, ready())], false, false, &[]);
    }
}
