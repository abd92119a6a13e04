//! What this user may not do. Clients tell of it once and never that it is allowed now, so they are made anew to
//! be told again; those that are told nothing are allowed it.

use std::time::Duration;

use tokio::time::Instant;

/// How long until it is tried again what was refused.
const TRIED_AGAIN_AFTER: Duration = Duration::from_secs(10);
/// How long brokers have to refuse it again: a member joins within three seconds, and fetches.
const REFUSED_WITHIN: Duration = Duration::from_secs(6);

pub struct Refusal {
    reason: String,
    at: Instant,
    is_tried: bool,
}

/// What is to be done about one.
#[derive(Debug, PartialEq, Eq)]
pub enum Then {
    Wait(String),
    TryAgain(String),
    Forget,
}

impl Refusal {
    pub fn new(reason: String, at: Instant) -> Self {
        Self {
            reason,
            at,
            is_tried: false,
        }
    }

    pub fn then(&mut self, now: Instant) -> Then {
        let since = now.saturating_duration_since(self.at);
        if self.is_tried && since >= REFUSED_WITHIN {
            return Then::Forget;
        }
        if self.is_tried || since < TRIED_AGAIN_AFTER {
            return Then::Wait(self.reason.clone());
        }
        self.is_tried = true;
        self.at = now;
        Then::TryAgain(self.reason.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_refused_is_tried_again_and_forgotten_once_nobody_refuses_it() {
        let (no, mut now) = (|| "no".to_owned(), Instant::now());
        let mut refusal = Refusal::new(no(), now);
        assert_eq!(refusal.then(now), Then::Wait(no()));
        now += TRIED_AGAIN_AFTER;
        assert_eq!(refusal.then(now), Then::TryAgain(no()));
        assert_eq!(refusal.then(now), Then::Wait(no()));
        now += REFUSED_WITHIN;
        assert_eq!(refusal.then(now), Then::Forget);
    }
}
