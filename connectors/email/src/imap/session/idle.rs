//! IDLE (RFC 2177): waiting until the server announces something.

use std::time::Duration;

use async_imap::imap_proto::{RequestId, Response};
use connector_api::Result;
use tokio::time::{Instant, timeout_at};

use crate::imap::session::answer::Answer;
use crate::imap::session::words::broken;
use crate::imap::session::{ANSWER_BYTES_MAX, Session};

/// Why IDLE ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Woken {
    /// The server announced something, or the time was up.
    Ended,
    /// The server does not idle after all.
    Refused,
}

impl Session {
    /// Waits until the server announces something or `wait` is over. `on_alive` is called for
    /// every sign of life.
    pub(crate) async fn idle(&mut self, wait: Duration, on_alive: impl Fn()) -> Result<Woken> {
        self.budget(ANSWER_BYTES_MAX);
        let id = self.send("IDLE", Instant::now() + self.patience).await?;
        let mut deadline = Instant::now() + self.patience;
        let mut is_idling = false;
        while !(is_idling && self.has_news) {
            let answer = self.read("IDLE", deadline).await?;
            match answer.map(|answer| Sign::of(&answer, &id)) {
                Some(Sign::GoAhead) => {
                    is_idling = true;
                    deadline = Instant::now() + wait;
                }
                Some(Sign::Tagged) => return Ok(Woken::Refused),
                Some(Sign::Alive) => {}
                None if is_idling => break,
                None => return Err(self.lost("IDLE", "no answer in time")),
            }
            on_alive();
        }
        let deadline = Instant::now() + self.patience;
        timeout_at(deadline, self.inner.run_command_untagged("DONE"))
            .await
            .map_err(|_| self.lost("DONE", "no answer in time"))?
            .map_err(|error| self.lost("DONE", &broken(&error)))?;
        loop {
            let answer = self.read("DONE", deadline).await?;
            match answer.map(|answer| Sign::of(&answer, &id)) {
                Some(Sign::Tagged) => return Ok(Woken::Ended),
                Some(_) => {}
                None => return Err(self.lost("DONE", "the link is dead")),
            }
        }
    }
}

/// What a response means to somebody idling.
enum Sign {
    GoAhead,
    Tagged,
    Alive,
}

impl Sign {
    fn of(answer: &Answer, id: &RequestId) -> Self {
        match answer.response() {
            Some(Response::Continue(_)) => Self::GoAhead,
            Some(Response::Done { tag, .. }) if tag == id => Self::Tagged,
            _ => Self::Alive,
        }
    }
}
