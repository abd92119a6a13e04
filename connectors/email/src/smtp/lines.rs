//! Connections that are used for several mails. Connecting, TLS and login cost more than a mail;
//! so while others are being sent, a connection that is done waits for the next one. The last one
//! out closes them all: nothing is held open for later.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// `L` is a connection.
pub(crate) struct Lines<L>(Mutex<State<L>>);

struct State<L> {
    under_way: usize,
    idle: Vec<L>,
}

/// One mail being sent.
pub(crate) struct Turn<'a, L> {
    lines: &'a Lines<L>,
    has_left: bool,
}

impl<L> Default for Lines<L> {
    fn default() -> Self {
        Self(Mutex::new(State {
            under_way: 0,
            idle: Vec::new(),
        }))
    }
}

impl<L> Lines<L> {
    pub(crate) fn enter(&self) -> Turn<'_, L> {
        self.state().under_way += 1;
        Turn {
            lines: self,
            has_left: false,
        }
    }

    fn state(&self) -> MutexGuard<'_, State<L>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<L> State<L> {
    /// One out; what has to be closed by it. In one step, so that of two who leave at once one is
    /// the last.
    fn leave(&mut self) -> Vec<L> {
        self.under_way -= 1;
        match self.under_way {
            0 => std::mem::take(&mut self.idle),
            _ => Vec::new(),
        }
    }
}

impl<L> Turn<'_, L> {
    /// A connection that is open already.
    pub(crate) fn take(&self) -> Option<L> {
        self.lines.state().idle.pop()
    }

    /// Leaves a connection for the next mail.
    pub(crate) fn keep(&self, line: L) {
        self.lines.state().idle.push(line);
    }

    /// Ends the turn and returns what has to be closed: everything, where nobody else sends.
    pub(crate) fn leave(mut self) -> Vec<L> {
        self.has_left = true;
        self.lines.state().leave()
    }
}

impl<L> Drop for Turn<'_, L> {
    /// A turn that is broken off closes without a goodbye what nobody is left to use.
    fn drop(&mut self) {
        if !self.has_left {
            let unused = self.lines.state().leave();
            drop(unused);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Where two threads meet; neither sleeps, so that they go on at the same moment.
    #[derive(Default)]
    struct Meeting(AtomicUsize);

    impl Meeting {
        fn wait(&self) {
            let arrived = self.0.fetch_add(1, Ordering::SeqCst) + 1;
            let all = arrived.next_multiple_of(2);
            let mut spins = 0;
            while self.0.load(Ordering::SeqCst) < all {
                spins += 1;
                match spins % 1_000 {
                    0 => std::thread::yield_now(),
                    _ => std::hint::spin_loop(),
                }
            }
        }
    }

    #[test]
    fn of_two_who_leave_at_once_one_closes_what_is_left() {
        const ROUNDS: usize = 20_000;
        let lines = Lines::default();
        let meeting = Meeting::default();
        let go = |line: u8| {
            let mut closed = 0;
            for _ in 0..ROUNDS {
                let turn = lines.enter();
                turn.keep(line);
                meeting.wait();
                closed += turn.leave().len();
                meeting.wait();
                assert!(lines.state().idle.is_empty(), "one stays open");
                meeting.wait();
            }
            closed
        };
        let closed: usize = std::thread::scope(|scope| {
            let both = [1, 2].map(|line| scope.spawn(move || go(line)));
            both.into_iter().map(|one| one.join().unwrap()).sum()
        });
        assert_eq!(closed, 2 * ROUNDS);
    }

    #[test]
    fn a_turn_that_is_broken_off_leaves_nothing_open() {
        let lines = Lines::default();
        let (first, second) = (lines.enter(), lines.enter());
        second.keep(1);
        drop(second);
        assert_eq!(first.take(), Some(1));
        first.keep(1);
        drop(first);
        assert!(lines.state().idle.is_empty());
        assert_eq!(lines.enter().take(), None);
    }
}
