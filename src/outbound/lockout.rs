//! After a refused login nothing of the channel is tried for a while: hundreds of answers that each
//! try the same password have an account locked, and none of them leaves.

use std::time::Duration;

use crate::health::State;

/// First and longest pause after a refused login.
const FIRST: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_secs(15 * 60);

/// Whether a lane's login is refused, and until when it waits. Times are UTC microseconds.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Lockout {
    pause: Option<Duration>,
    until: i64,
}

impl Lockout {
    /// Notes what a send said of the channel. What was under way beside it says the same once more:
    /// only a try after the pause makes the next one longer.
    pub(super) fn note(&mut self, state: Option<&State>, now: i64) {
        match state {
            Some(State::Unauthorized { .. }) if self.pause.is_none() || now >= self.until => {
                let pause = self.pause.map_or(FIRST, |pause| (pause * 2).min(LONGEST));
                let micros = i64::try_from(pause.as_micros()).unwrap_or(i64::MAX);
                self.until = now.saturating_add(micros);
                self.pause = Some(pause);
            }
            Some(State::Ready) => *self = Self::default(),
            _ => {}
        }
    }

    /// Whether the last try to log in was refused.
    pub(super) fn holds(&self) -> bool {
        self.pause.is_some()
    }

    /// How long nothing is tried.
    pub(super) fn left(&self, now: i64) -> Option<Duration> {
        let left = self.until.saturating_sub(now);
        let left = u64::try_from(left).ok().filter(|left| *left > 0)?;
        self.holds().then(|| Duration::from_micros(left))
    }
}
