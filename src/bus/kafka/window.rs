//! What was fetched of a partition and is not read past yet. A reader that goes back is given what comes
//! after its position again; how much is fetched ahead is bounded over all partitions.

use std::collections::VecDeque;

use super::numbers::{next_offset, record};
use super::record::Taken;

/// Records and bytes of one reading.
const READ_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes and records fetched ahead of all readers together.
const AHEAD_BYTES_MAX: usize = 32 * 1024 * 1024;
const AHEAD_RECORDS_MAX: usize = 8_192;

/// What the consumer has to do for a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Fetch from behind this position.
    Seat(i64),
    Pause,
    Resume,
}

/// What a reader finds.
#[derive(Debug)]
pub enum Found {
    Records(Vec<Taken>),
    /// Nothing yet.
    Nothing,
    Trouble(String),
}

/// A partition that is this process's.
pub struct Window {
    number: u32,
    /// Everything after this position is in `held` or still to come; `None` until somebody reads.
    start: Option<i64>,
    /// The consumer was told where to fetch from and has not done so: what comes meanwhile is of before.
    seating: bool,
    held: VecDeque<Taken>,
    bytes: usize,
    paused: bool,
    trouble: Option<String>,
    /// The last record decided, and the offset behind the newest that is known of.
    pub decided: i64,
    pub end_offset: i64,
    /// Records behind the last one that say nothing, as far as they were fetched.
    passed: i64,
}

impl Window {
    /// Nothing is fetched until somebody reads.
    pub fn new(number: u32) -> Self {
        Self {
            number,
            start: None,
            seating: false,
            held: VecDeque::new(),
            bytes: 0,
            paused: true,
            trouble: None,
            decided: 0,
            end_offset: 0,
            passed: 0,
        }
    }

    /// The records after `position`, and what the consumer has to do for more of them.
    pub fn read(
        &mut self,
        position: i64,
        records_max: usize,
        windows: usize,
    ) -> (Found, Option<Command>) {
        if self.start.is_none_or(|start| position < start) {
            self.decided = self.decided.max(position);
            self.start = Some(position);
            self.held.clear();
            self.bytes = 0;
            self.seating = true;
            self.passed = 0;
            self.trouble = None;
            return (Found::Nothing, Some(Command::Seat(position)));
        }
        self.start = Some(position);
        while let Some(first) = self.held.front()
            && record(first.offset, self.number) <= position
        {
            self.bytes -= first.bytes_len();
            self.held.pop_front();
        }
        let fits = self.bytes <= AHEAD_BYTES_MAX / windows / 2
            && self.held.len() <= AHEAD_RECORDS_MAX / windows / 2;
        let resumes = self.paused && fits && !self.seating;
        let command = resumes.then_some(Command::Resume);
        self.paused &= !resumes;
        let mut bytes = 0;
        let within = |taken: &&Taken| {
            let more = bytes < READ_BYTES_MAX;
            bytes += taken.bytes_len();
            more
        };
        let some = self.held.iter().take(records_max).take_while(within);
        let records: Vec<Taken> = some.cloned().collect();
        if !records.is_empty() {
            return (Found::Records(records), command);
        }
        let found = match self.trouble.take() {
            Some(trouble) => {
                // The next reading begins anew.
                self.start = None;
                Found::Trouble(trouble)
            }
            None => Found::Nothing,
        };
        (found, command)
    }

    /// The consumer fetches from behind `position` now, unless somebody went elsewhere meanwhile.
    pub fn seated(&mut self, position: i64) {
        if self.start.is_some_and(|start| start >= position) {
            self.seating = false;
            self.paused = false;
        }
    }

    /// Takes what was fetched; whether fetching has to pause.
    pub fn take(&mut self, taken: Taken, windows: usize) -> Option<Command> {
        self.end_offset = self.end_offset.max(taken.offset + 1);
        let start = self.start.filter(|_| !self.seating)?;
        // One that is known already, or of before a reader went back.
        let expected = match self.held.back() {
            Some(last) => last.offset + 1,
            None => next_offset(start),
        };
        if taken.offset < expected {
            return None;
        }
        self.trouble = None;
        self.passed = 0;
        self.bytes += taken.bytes_len();
        self.held.push_back(taken);
        let full =
            self.bytes > AHEAD_BYTES_MAX / windows || self.held.len() > AHEAD_RECORDS_MAX / windows;
        let pauses = full && !self.paused;
        self.paused |= pauses;
        pauses.then_some(Command::Pause)
    }

    /// Notes one that says nothing: no position is ever there.
    pub fn pass(&mut self, offset: i64) {
        if self.start.is_some() && !self.seating {
            self.passed += 1;
        }
        self.end_offset = self.end_offset.max(offset + 1);
    }

    /// Nothing more comes, and why: readers are told once they have read what is there.
    pub fn fail(&mut self, trouble: String) {
        self.trouble = Some(trouble);
    }

    /// Where it is fetched from, while it is.
    pub fn fetches_from(&self) -> Option<i64> {
        let start = self.start.filter(|_| !self.seating)?;
        Some(match self.held.back() {
            Some(last) => last.offset + 1,
            None => next_offset(start),
        })
    }

    /// Records accepted and not decided, as far as is known.
    pub fn lag(&self) -> i64 {
        (self.end_offset - self.passed - next_offset(self.decided)).max(0)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::bus::kafka::record::Beside;

    fn taken(offset: i64, bytes: usize) -> Taken {
        Taken {
            offset,
            value: Some(Bytes::from(vec![b' '; bytes])),
            beside: Ok(Beside::default()),
            headers: Vec::new(),
            taken_at: 0,
        }
    }

    fn offsets(found: Found) -> Vec<i64> {
        match found {
            Found::Records(records) => records.iter().map(|taken| taken.offset).collect(),
            Found::Nothing => Vec::new(),
            Found::Trouble(trouble) => panic!("{trouble}"),
        }
    }

    fn at(offset: i64) -> i64 {
        record(offset, 3)
    }

    /// One that is read from the start of its partition.
    fn seated() -> Window {
        let mut window = Window::new(3);
        assert_eq!(window.read(0, 10, 1).1, Some(Command::Seat(0)));
        window.seated(0);
        window
    }

    #[test]
    fn a_reader_that_goes_back_gets_everything_after_its_position_again() {
        let mut window = seated();
        for offset in 0..5 {
            window.take(taken(offset, 1), 1);
        }
        assert_eq!(offsets(window.read(0, 3, 1).0), [0, 1, 2]);
        assert_eq!(offsets(window.read(at(2), 3, 1).0), [3, 4]);
        let (found, command) = window.read(at(0), 3, 1);
        assert_eq!(
            (offsets(found), command),
            (vec![], Some(Command::Seat(at(0))))
        );
        // What was on its way is of before: taking it would leave out what lies between.
        window.take(taken(5, 1), 1);
        window.seated(at(0));
        for offset in 1..3 {
            window.take(taken(offset, 1), 1);
        }
        assert_eq!(offsets(window.read(at(0), 9, 1).0), [1, 2]);
    }

    #[test]
    fn no_more_is_fetched_ahead_than_fits_and_fetching_goes_on_once_half_of_it_is_read() {
        let mut window = seated();
        let share = AHEAD_BYTES_MAX / 4;
        let mut command = None;
        let mut last = 0;
        while command.is_none() {
            command = window.take(taken(last, share / 4), 4);
            last += 1;
        }
        assert_eq!((command, last), (Some(Command::Pause), 5));
        assert_eq!(window.read(at(0), 1, 4).1, None);
        assert_eq!(window.read(at(1), 1, 4).1, None);
        assert_eq!(window.read(at(2), 1, 4).1, Some(Command::Resume));
    }

    #[test]
    fn what_says_nothing_is_no_lag_and_not_read() {
        let mut window = seated();
        window.take(taken(0, 1), 1);
        window.pass(1);
        window.pass(2);
        assert_eq!(window.lag(), 1);
        assert_eq!(offsets(window.read(0, 9, 1).0), [0]);
        window.decided = at(0);
        assert_eq!(window.lag(), 0);
        window.take(taken(3, 1), 1);
        assert_eq!(offsets(window.read(at(0), 9, 1).0), [3]);
        assert!(window.lag() > 0);
    }

    #[test]
    fn trouble_is_told_after_what_was_there_and_the_next_reading_begins_anew() {
        let mut window = seated();
        window.take(taken(0, 1), 1);
        window.fail("gone".to_owned());
        assert_eq!(offsets(window.read(0, 9, 1).0), [0]);
        assert!(matches!(window.read(at(0), 9, 1).0, Found::Trouble(_)));
        assert_eq!(window.read(at(0), 9, 1).1, Some(Command::Seat(at(0))));
    }
}
