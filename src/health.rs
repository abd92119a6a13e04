//! What is well and what is not, as states: the API, the metrics and the log say the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

/// The state of a part or a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    Starting,
    Ready,
    /// Another process does it; this one takes over once that one is gone.
    Standby,
    /// Works, not as it should.
    Degraded {
        reason: String,
    },
    /// The provider refuses our credentials: a person must act.
    Unauthorized {
        reason: String,
    },
    Unreachable {
        reason: String,
    },
}

impl State {
    /// Why it is not as it should be.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Starting | Self::Ready | Self::Standby => None,
            Self::Degraded { reason }
            | Self::Unauthorized { reason }
            | Self::Unreachable { reason } => Some(reason),
        }
    }

    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Standby => "standby",
            Self::Degraded { .. } => "degraded",
            Self::Unauthorized { .. } => "unauthorized",
            Self::Unreachable { .. } => "unreachable",
        }
    }
}

/// Whether a name is that of a channel: `channel:support-mail`.
pub fn is_channel(name: &str) -> bool {
    name.starts_with("channel:")
}

/// Whether a name is that of work beside the life of a message: `work:retention`.
fn is_beside(name: &str) -> bool {
    name.starts_with("work:")
}

/// Whether the daemon is unready without it: neither a channel nor work beside.
pub fn is_core(name: &str) -> bool {
    !is_channel(name) && !is_beside(name)
}

/// The states of this process, by name: `router`, `work:retention`, `channel:support-mail`.
#[derive(Default)]
pub struct Health {
    states: Mutex<BTreeMap<String, State>>,
    /// When something was last done, in UTC microseconds: `ready` alone says that nothing is known
    /// against it.
    worked: Mutex<BTreeMap<String, i64>>,
    /// What was logged of each since it last was in another state.
    said: Mutex<BTreeMap<String, BTreeSet<String>>>,
    /// Tells whoever waits that a state is another one.
    changed: Notify,
}

/// Reasons of one state that are remembered as logged.
const SAID_MAX: usize = 32;

impl Health {
    /// Notes a state; logs it where it changed. Of two reasons that take turns each is logged once.
    pub fn set(&self, name: &str, state: State) {
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        let before = states.get(name);
        if before == Some(&state) {
            return;
        }
        tell(name, state.reason().is_some());
        let is_another = before.map(State::as_str) != Some(state.as_str());
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if is_news(said.entry(name.to_owned()).or_default(), &state, is_another) {
            log(name, &state);
        }
        drop(said);
        states.insert(name.to_owned(), state);
        drop(states);
        self.changed.notify_waiters();
    }

    /// Notes that a part has done what it is there for.
    pub fn worked(&self, name: &str, at: i64) {
        let mut worked = self.worked.lock().unwrap_or_else(PoisonError::into_inner);
        worked.insert(name.to_owned(), at);
    }

    /// When each part last did, where it ever did since the start.
    pub fn last_worked(&self) -> BTreeMap<String, i64> {
        self.worked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Forgets a part that is gone.
    pub fn remove(&self, name: &str) {
        self.worked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(name);
        self.said
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(name);
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        if states.remove(name).is_some() {
            tell(name, false);
            tracing::info!(part = name, "{name} is gone");
        }
        drop(states);
        self.changed.notify_waiters();
    }

    pub fn snapshot(&self) -> BTreeMap<String, State> {
        self.states
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Waits until each part that the daemon needs has said how it is.
    pub async fn begun(&self) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Before the look: what changes after it is heard.
            changed.as_mut().enable();
            if !self.is_starting() {
                return;
            }
            changed.await;
        }
    }

    fn is_starting(&self) -> bool {
        let states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        let mut parts = states.iter();
        parts.any(|(name, state)| is_core(name) && *state == State::Starting)
    }

    /// Whether the daemon can do its work: the router decides and the store answers. A channel
    /// that is unauthorised or unreachable does not make the daemon unready, nor does work that can
    /// wait.
    pub fn is_ready(&self) -> bool {
        let states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        let mut parts = states.iter().filter(|(name, _)| is_core(name)).peekable();
        parts.peek().is_some()
            && parts.all(|(_, state)| {
                matches!(
                    state,
                    State::Ready | State::Standby | State::Degraded { .. }
                )
            })
    }
}

/// Whether a state is to be logged: another one is, and a reason that it did not have yet.
fn is_news(said: &mut BTreeSet<String>, state: &State, is_another: bool) -> bool {
    if is_another || said.len() >= SAID_MAX {
        said.clear();
    }
    said.insert(state.reason().unwrap_or_default().to_owned())
}

fn log(name: &str, state: &State) {
    let word = state.as_str();
    match state {
        State::Starting | State::Ready | State::Standby => {
            tracing::info!(part = name, "{name} is {word}");
        }
        State::Degraded { reason } | State::Unreachable { reason } => {
            tracing::warn!(part = name, reason, "{name} is {word}: {reason}");
        }
        State::Unauthorized { reason } => {
            tracing::error!(part = name, reason, "{name} is {word}: {reason}");
        }
    }
}

fn tell(name: &str, unwell: bool) {
    let value = if unwell { 1.0 } else { 0.0 };
    metrics::gauge!("switchboard_part_unwell", "part" => name.to_owned()).set(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_start_is_over_once_each_part_that_is_needed_has_said_how_it_is() {
        let health = Health::default();
        for part in ["router", "intake", "bus", "channel:shop", "work:retention"] {
            health.set(part, State::Starting);
        }
        let begun = health.begun();
        tokio::pin!(begun);
        let mut is_over = async || {
            let waited = std::future::poll_fn(|context| {
                std::task::Poll::Ready(begun.as_mut().poll(context).is_ready())
            });
            waited.await
        };
        assert!(!is_over().await);
        health.set("router", State::Ready);
        assert!(!is_over().await);
        let reason = "no answer".to_owned();
        health.set("bus", State::Unreachable { reason });
        assert!(!is_over().await, "intake has not said how it is");
        health.remove("intake");
        assert!(is_over().await, "channels and work beside start later");
    }

    #[test]
    fn a_state_is_logged_as_it_changes_and_each_reason_of_it_once() {
        let away = |reason: &str| State::Unreachable {
            reason: reason.to_owned(),
        };
        let mut said = BTreeSet::new();
        let mut before = "";
        let mut logged = Vec::new();
        for state in [
            State::Ready,
            away("no answer"),
            away("refused"),
            away("no answer"),
            away("refused"),
            State::Ready,
            away("no answer"),
        ] {
            if is_news(&mut said, &state, before != state.as_str()) {
                logged.push(state.reason().unwrap_or("well").to_owned());
            }
            before = state.as_str();
        }
        assert_eq!(
            logged,
            ["well", "no answer", "refused", "well", "no answer"]
        );
        for reason in 0..10 * SAID_MAX {
            is_news(&mut said, &away(&reason.to_string()), false);
        }
        assert!(said.len() <= SAID_MAX);
    }
}
