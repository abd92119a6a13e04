//! How far a mailbox has been read, and which mails in it are news.
//!
//! UIDs rise only while UIDVALIDITY stays the same. When it changes (an index rebuilt, a mailbox
//! moved) everything is read again from UID 1 and the daemon's dedupe drops what it knows. What
//! lay in the mailbox before the channel was first connected was never news and must not become
//! news then: the position keeps the date of the newest such mail by the server's own clock
//! (INTERNALDATE, which survives copies), so no clock of ours has to agree with it.

mod standing;

use std::collections::BTreeMap;

use connector_api::{Cursor, Error, Result};
use serde::{Deserialize, Serialize};

/// Some servers assign UIDs in order but show them late; as many UIDs below the next one are
/// looked at again, each only if it was not seen before.
pub(crate) const LATE_UIDS: u32 = 20;

/// How far the server's clock may be ahead of ours.
const CLOCK_SLACK_SECONDS: i64 = 3_600;

/// The cursor of one mailbox. Fields may be added; removing one is a breaking change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    pub(crate) uidvalidity: u32,
    /// First UID not yet seen.
    pub(crate) next_uid: u32,
    /// The UIDs among the last [`LATE_UIDS`] that were seen.
    #[serde(default)]
    recent: Vec<u32>,
    /// UIDs below this were there before the first connection (0 after a UIDVALIDITY change).
    #[serde(default)]
    old_below: u32,
    /// Date of the newest mail that was there before, in seconds; `None`: the mailbox was empty.
    #[serde(default)]
    old_until: Option<i64>,
    /// Sizes of the old mails of that very second: dates are whole seconds, and a new mail of the
    /// same second must not pass for an old one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    old_sizes: Vec<u64>,
    /// Old mails from this date on are imported as history.
    #[serde(default)]
    history_since: Option<i64>,
    /// UIDVALIDITY changed: old mails are told by their date.
    #[serde(default)]
    was_reset: bool,
    /// What lies far behind the news and is read beside them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    behind: Option<Behind>,
    /// Filed, and not yet marked or moved as `imap.after` says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) unfinished: Vec<u32>,
}

/// UIDs that are still to be read, in the background.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Behind {
    pub(crate) next: u32,
    /// The first UID that is not among them.
    pub(crate) end: u32,
}

/// The cursor of a channel: a position in each of its mailboxes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Places {
    mailboxes: BTreeMap<String, Position>,
    /// What was read today of what lies behind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    spent: Option<Spent>,
}

/// Bytes read within a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Spent {
    /// When the day began, in seconds.
    since: i64,
    bytes: u64,
}

impl Spent {
    const DAY_SECONDS: i64 = 24 * 60 * 60;

    /// A clock that was set back does not make the day longer.
    fn is_today(&self, now: i64) -> bool {
        (0..Self::DAY_SECONDS).contains(&now.saturating_sub(self.since))
    }
}

impl Places {
    /// Reads a cursor. One of a single mailbox, as channels had them, is the `first` one's.
    pub(crate) fn read(cursor: &Cursor, first: &str) -> Result<Self> {
        let unreadable = |error| Error::config(format!("cannot read the mailbox cursor: {error}"));
        if cursor.0.get("mailboxes").is_some() {
            return serde_json::from_value(cursor.0.clone()).map_err(unreadable);
        }
        let position = serde_json::from_value(cursor.0.clone()).map_err(unreadable)?;
        let mut places = Self::default();
        places.put(first, position);
        Ok(places)
    }

    pub(crate) fn cursor(&self) -> Cursor {
        Cursor(serde_json::to_value(self).unwrap_or_default())
    }

    pub(crate) fn of(&self, mailbox: &str) -> Option<&Position> {
        self.mailboxes.get(name_of(mailbox))
    }

    /// Whether more of what lies behind may be read today.
    pub(crate) fn may_read_behind(&self, bytes_max: Option<u64>, now: i64) -> bool {
        let spent = self.spent.filter(|spent| spent.is_today(now));
        let spent = spent.map_or(0, |spent| spent.bytes);
        bytes_max.is_none_or(|max| spent < max)
    }

    /// Notes that so many bytes of it are read.
    pub(crate) fn spend(&mut self, bytes: u64, now: i64) {
        let spent = self.spent.filter(|spent| spent.is_today(now));
        let spent = spent.unwrap_or(Spent {
            since: now,
            bytes: 0,
        });
        self.spent = Some(Spent {
            bytes: spent.bytes.saturating_add(bytes),
            ..spent
        });
    }

    pub(crate) fn put(&mut self, mailbox: &str, position: Position) {
        self.mailboxes.insert(name_of(mailbox).to_owned(), position);
    }
}

/// The one name whose case does not matter is always written alike.
fn name_of(mailbox: &str) -> &str {
    match mailbox.eq_ignore_ascii_case("INBOX") {
        true => "INBOX",
        false => mailbox,
    }
}

/// A mail as the server lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) uid: u32,
    pub(crate) size_bytes: u64,
    /// INTERNALDATE, in seconds.
    pub(crate) date: Option<i64>,
    /// Google's number of the mail, the same in all its mailboxes.
    pub(crate) gmail_id: Option<u64>,
    /// Google's number of its thread.
    pub(crate) gmail_thread: Option<u64>,
}

/// What to do with a listed mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Seen before, or older than the first connection and not wanted.
    Skip,
    /// From before the first connection: filed closed.
    History,
    New,
}

impl Position {
    /// The position of a first connection: everything present is old. `newest` are the last
    /// mails of the mailbox, `oldest_wanted` is where a backfill starts.
    pub(crate) fn first(
        uidvalidity: u32,
        uid_next: u32,
        newest: &[Listed],
        now: i64,
        backfill: Option<Backfill>,
    ) -> Self {
        let old_until = newest.iter().filter_map(|mail| mail.date).max();
        let last = newest.iter().filter(|mail| mail.date == old_until);
        let mut position = Self {
            uidvalidity,
            next_uid: uid_next,
            recent: newest.iter().map(|mail| mail.uid).collect(),
            old_below: uid_next,
            // A mail dated in the future must not turn later mails into old ones; the server's
            // clock and ours need not agree to the minute.
            old_until: old_until.map(|date| date.min(now.saturating_add(CLOCK_SLACK_SECONDS))),
            old_sizes: last.map(|mail| mail.size_bytes).collect(),
            history_since: None,
            was_reset: false,
            behind: None,
            unfinished: Vec::new(),
        };
        if let Some(backfill) = backfill {
            position.history_since = Some(backfill.since);
            // They were listed, not read.
            position.recent.clear();
            position.leave_behind(backfill.first_uid.unwrap_or(uid_next));
        }
        position.forget_far();
        position
    }

    /// What lies between `first` and the UIDs that are looked at anyway is read in the background.
    fn leave_behind(&mut self, first: u32) {
        let (next, end) = (first.max(1), self.list_from());
        self.behind = (next < end).then_some(Behind { next, end });
    }

    pub(crate) fn behind(&self) -> Option<Behind> {
        self.behind
    }

    /// Notes that everything behind was dealt with below `next`.
    pub(crate) fn pass_behind(&mut self, next: u32) {
        let behind = self.behind.map(|behind| Behind {
            next: next.max(behind.next),
            ..behind
        });
        self.behind = behind.filter(|behind| behind.next < behind.end);
    }

    /// Starts again at UID 1 when the server's numbers no longer mean what they meant.
    pub(crate) fn follow_server(&mut self, uidvalidity: u32, uid_next: Option<u32>) -> bool {
        let went_back = uid_next.is_some_and(|next| next < self.next_uid);
        if uidvalidity == self.uidvalidity && !went_back {
            return false;
        }
        self.uidvalidity = uidvalidity;
        self.next_uid = uid_next.unwrap_or(1);
        self.recent.clear();
        self.unfinished.clear();
        self.old_below = 0;
        self.was_reset = true;
        self.leave_behind(1);
        true
    }

    /// The first UID worth listing.
    pub(crate) fn list_from(&self) -> u32 {
        self.next_uid.saturating_sub(LATE_UIDS).max(1)
    }

    pub(crate) fn judge(&self, mail: &Listed) -> Verdict {
        let is_far = mail.uid < self.list_from();
        if is_far || (mail.uid < self.next_uid && self.recent.contains(&mail.uid)) {
            return Verdict::Skip;
        }
        self.judge_by_age(mail)
    }

    /// The same for a mail behind, where nothing was seen before.
    pub(crate) fn judge_by_age(&self, mail: &Listed) -> Verdict {
        let is_old_by_date = || match (mail.date, self.old_until) {
            (Some(date), Some(until)) if date == until => self.old_sizes.contains(&mail.size_bytes),
            (Some(date), Some(until)) => date < until,
            _ => false,
        };
        if mail.uid >= self.old_below && !(self.was_reset && is_old_by_date()) {
            return Verdict::New;
        }
        match (mail.date, self.history_since) {
            (Some(date), Some(since)) if date >= since => Verdict::History,
            _ => Verdict::Skip,
        }
    }

    /// Notes that a UID was dealt with.
    pub(crate) fn pass(&mut self, uid: u32) {
        if !self.recent.contains(&uid) {
            self.recent.push(uid);
        }
        self.next_uid = self.next_uid.max(uid.saturating_add(1));
        self.forget_far();
    }

    fn forget_far(&mut self) {
        let from = self.list_from();
        self.recent.retain(|&uid| uid >= from);
        self.recent.sort_unstable();
    }
}

/// Where an import of old mail starts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backfill {
    /// In seconds.
    pub(crate) since: i64,
    /// The lowest UID that the server found; `None`: nothing that young.
    pub(crate) first_uid: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mail(uid: u32, date: i64) -> Listed {
        Listed {
            uid,
            size_bytes: 1,
            date: Some(date),
            gmail_id: None,
            gmail_thread: None,
        }
    }

    fn connected() -> Position {
        Position::first(7, 101, &[mail(99, 500), mail(100, 400)], 1_000, None)
    }

    #[test]
    fn a_first_connection_starts_at_now() {
        let position = connected();
        assert_eq!(position.judge(&mail(100, 400)), Verdict::Skip);
        assert_eq!(position.judge(&mail(50, 400)), Verdict::Skip);
        assert_eq!(position.judge(&mail(101, 400)), Verdict::New);
    }

    #[test]
    fn a_uid_shown_late_is_read_once() {
        let mut position = connected();
        position.pass(103);
        assert_eq!(position.judge(&mail(102, 600)), Verdict::New);
        position.pass(102);
        assert_eq!(position.judge(&mail(102, 600)), Verdict::Skip);
        assert_eq!(position.judge(&mail(103, 600)), Verdict::Skip);
        assert_eq!(position.next_uid, 104);
    }

    #[test]
    fn after_a_uidvalidity_change_old_mail_stays_old() {
        let mut position = connected();
        assert!(!position.follow_server(7, Some(101)));
        assert!(position.follow_server(8, Some(3)));
        assert_eq!(position.list_from(), 1);
        assert_eq!(position.judge(&mail(1, 400)), Verdict::Skip);
        assert_eq!(position.judge(&mail(2, 501)), Verdict::New);
        let mut places = Places::default();
        places.put("Inbox", position.clone());
        let again = Places::read(&places.cursor(), "another").unwrap();
        assert_eq!(again.of("INBOX"), Some(&position));
    }

    #[test]
    fn uids_that_fall_back_are_read_again() {
        let mut position = connected();
        assert!(position.follow_server(7, Some(90)));
        assert_eq!(position.list_from(), 70);
        assert_eq!(position.behind(), Some(Behind { next: 1, end: 70 }));
    }

    #[test]
    fn a_backfill_imports_old_mail_as_history() {
        let backfill = Backfill {
            since: 450,
            first_uid: Some(99),
        };
        let newest = [mail(98, 100), mail(99, 500), mail(100, 400)];
        let mut position = Position::first(7, 101, &newest, 1_000, Some(backfill));
        assert_eq!(position.judge(&mail(99, 500)), Verdict::History);
        assert_eq!(position.judge(&mail(100, 400)), Verdict::Skip);
        assert_eq!(position.judge(&mail(101, 700)), Verdict::New);
        position.follow_server(8, None);
        assert_eq!(position.judge(&mail(1, 460)), Verdict::History);
    }

    #[test]
    fn a_new_mail_of_the_same_second_as_the_newest_old_one_is_news_after_a_reset() {
        let old = Listed {
            size_bytes: 500,
            ..mail(1, 900)
        };
        let mut position = Position::first(7, 2, &[old], 1_000, None);
        assert!(position.follow_server(8, Some(3)));
        let new = Listed {
            size_bytes: 501,
            ..mail(1, 900)
        };
        assert_eq!(position.judge(&new), Verdict::New);
        let moved = Listed { uid: 2, ..old };
        assert_eq!(position.judge(&moved), Verdict::Skip);
    }

    #[test]
    fn a_long_history_is_read_behind_the_news_and_meets_them_without_a_gap() {
        let backfill = Backfill {
            since: 0,
            first_uid: Some(3),
        };
        let mut position = Position::first(7, 1_001, &[mail(1_000, 5)], 10, Some(backfill));
        assert_eq!(position.behind(), Some(Behind { next: 3, end: 981 }));
        assert_eq!(position.list_from(), 981);
        assert_eq!(position.judge(&mail(981, 5)), Verdict::History);
        assert_eq!(position.judge(&mail(1_001, 5)), Verdict::New);
        assert_eq!(position.judge_by_age(&mail(3, 5)), Verdict::History);
        position.pass_behind(500);
        position.pass_behind(400);
        assert_eq!(
            position.behind(),
            Some(Behind {
                next: 500,
                end: 981
            })
        );
        position.pass_behind(981);
        assert_eq!(position.behind(), None);
    }

    #[test]
    fn the_cursor_of_a_single_mailbox_is_the_first_ones() {
        let old = serde_json::json!({ "uidvalidity": 7, "next_uid": 101, "recent": [100], "old_below": 101, "old_until": 5 });
        let places = Places::read(&Cursor(old), "Support").unwrap();
        assert_eq!(places.of("Support").map(|one| one.next_uid), Some(101));
        assert_eq!(places.of("INBOX"), None);
        assert!(Places::read(&Cursor(serde_json::json!("?")), "INBOX").is_err());
    }

    #[test]
    fn an_empty_mailbox_has_no_old_mail() {
        let mut position = Position::first(7, 1, &[], 1_000, None);
        position.follow_server(8, None);
        assert_eq!(position.judge(&mail(1, 5)), Verdict::New);
    }
}
