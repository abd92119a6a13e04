//! Commands and answers: every command runs under a deadline to its tagged answer, and what the
//! server announces on the way is noted.

use std::io::ErrorKind;
use std::time::Duration;

use async_imap::imap_proto::{MailboxDatum, RequestId, Response, Status};
use async_imap::types::UnsolicitedResponse;
use connector_api::{Error, Result};
use tokio::time::{Instant, timeout_at};

use crate::imap::session::answer::Answer;
use crate::imap::session::words::{broken, io_words, unavailable, words};
use crate::imap::session::{ANSWER_BYTES_MAX, Session};

/// The tagged answer of a command.
pub(super) enum Tagged {
    Ok,
    /// `NO` or `BAD`, with the server's words.
    No(String),
}

impl Session {
    pub(super) async fn short(
        &mut self,
        command: &str,
        mut on: impl FnMut(&Response<'_>),
    ) -> Result<Tagged> {
        self.budget(ANSWER_BYTES_MAX);
        let each = |answer: Answer| answer.response().into_iter().for_each(&mut on);
        self.command(command, self.patience, each).await
    }

    /// Runs a command to its tagged answer; every response goes to `on`, that one, too.
    pub(super) async fn command(
        &mut self,
        command: &str,
        limit: Duration,
        mut on: impl FnMut(Answer),
    ) -> Result<Tagged> {
        let deadline = Instant::now() + limit;
        let id = self.send(command, deadline).await?;
        let verb = verb_of(command);
        loop {
            let Some(answer) = self.read(&verb, deadline).await? else {
                return Err(self.lost(&verb, "no answer in time"));
            };
            let tagged = match answer.response() {
                Some(Response::Done {
                    tag,
                    status,
                    outcome,
                }) if *tag == id => Some(match status {
                    Status::Ok => Tagged::Ok,
                    _ => Tagged::No(words(outcome.information.as_deref())),
                }),
                _ => None,
            };
            on(answer);
            if let Some(tagged) = tagged {
                return Ok(tagged);
            }
        }
    }

    pub(super) async fn send(&mut self, command: &str, deadline: Instant) -> Result<RequestId> {
        match timeout_at(deadline, self.inner.run_command(command)).await {
            Ok(Ok(id)) => Ok(id),
            Ok(Err(error)) => Err(self.lost(&verb_of(command), &broken(&error))),
            Err(_) => Err(self.lost(&verb_of(command), "no answer in time")),
        }
    }

    /// Reads one response; `None` when the deadline passed first.
    pub(super) async fn read(&mut self, verb: &str, deadline: Instant) -> Result<Option<Answer>> {
        let Ok(read) = timeout_at(deadline, self.inner.read_response()).await else {
            return Ok(None);
        };
        let answer = match read {
            Ok(Some(response)) => Answer(UnsolicitedResponse::Other(response)),
            Ok(None) => return Err(self.lost(verb, "the connection was closed")),
            Err(error) => {
                // async-imap calls what it cannot parse `Other`.
                let kind = error.kind();
                self.is_confused = matches!(kind, ErrorKind::FileTooLarge | ErrorKind::Other);
                return Err(self.lost(verb, io_words(&error)));
            }
        };
        match answer.response() {
            Some(Response::Data {
                status: Status::Bye,
                outcome,
            }) => {
                let words = words(outcome.information.as_deref());
                return Err(self.lost(verb, &format!("goodbye, {words}")));
            }
            Some(Response::MailboxData(MailboxDatum::Exists(count))) => {
                self.has_news |= *count > self.exists;
                self.exists = *count;
            }
            Some(Response::Expunge(_)) => self.exists = self.exists.saturating_sub(1),
            _ => {}
        }
        Ok(Some(answer))
    }

    pub(super) fn lost(&self, verb: &str, why: &str) -> Error {
        unavailable(&self.place, verb, why)
    }

    pub(super) fn budget(&mut self, budget_bytes: u64) {
        self.inner.get_mut().allow(budget_bytes);
    }
}

impl Tagged {
    pub(super) fn or_unavailable(self, place: &str, verb: &str) -> Result<()> {
        match self {
            Self::Ok => Ok(()),
            Self::No(words) => Err(unavailable(place, verb, &words)),
        }
    }
}

fn verb_of(command: &str) -> String {
    command.split(' ').take(2).collect::<Vec<_>>().join(" ")
}
