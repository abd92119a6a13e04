//! Connections that are used for several mails. Connecting, TLS and login cost more than a mail;
//! so while others are being sent, a connection that is done waits for the next one. The last one
//! out closes them all: nothing is held open for later.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::smtp::dialogue::Dialogue;

#[derive(Default)]
pub(crate) struct Lines(Mutex<State>);

#[derive(Default)]
struct State {
    under_way: usize,
    idle: Vec<Dialogue>,
}

/// One mail being sent.
pub(crate) struct Turn<'a>(&'a Lines);

impl Lines {
    pub(crate) fn enter(&self) -> Turn<'_> {
        self.state().under_way += 1;
        Turn(self)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn<'_> {
    /// A connection that is open already.
    pub(crate) fn take(&self) -> Option<Dialogue> {
        self.0.state().idle.pop()
    }

    /// Leaves a connection for the next mail.
    pub(crate) fn keep(&self, dialogue: Dialogue) {
        self.0.state().idle.push(dialogue);
    }

    /// Ends the turn and returns what has to be closed: everything, where nobody else sends.
    pub(crate) fn leave(self) -> Vec<Dialogue> {
        let mut state = self.0.state();
        match state.under_way {
            1 => std::mem::take(&mut state.idle),
            _ => Vec::new(),
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.state().under_way -= 1;
    }
}
