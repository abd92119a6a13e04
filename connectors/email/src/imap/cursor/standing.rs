//! Where a mail stands towards a position, for whoever compares the mailbox with what was accepted.

use connector_api::Standing;

use crate::imap::cursor::{Listed, Position, Verdict};

impl Position {
    /// `uidvalidity` is the mailbox's now: it may have been renumbered and not be read since.
    pub(crate) fn standing(&self, uidvalidity: u32, mail: &Listed) -> Standing {
        let mut position = self.clone();
        let is_renumbered = position.follow_server(uidvalidity, None);
        if position.judge_by_age(mail) == Verdict::Skip {
            return Standing::Outside;
        }
        let lies_behind = |behind: super::Behind| (behind.next..behind.end).contains(&mail.uid);
        if !is_renumbered && self.behind.is_some_and(lies_behind) {
            return Standing::Behind;
        }
        let may_come_late = mail.uid >= self.list_from() && !self.recent.contains(&mail.uid);
        match is_renumbered || mail.uid >= self.next_uid || may_come_late {
            true => Standing::Ahead,
            false => Standing::Passed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imap::cursor::Backfill;

    fn mail(uid: u32, date: i64) -> Listed {
        Listed {
            uid,
            size_bytes: 1,
            date: Some(date),
            gmail_id: None,
            gmail_thread: None,
        }
    }

    #[test]
    fn what_was_there_before_is_outside_what_was_read_is_passed_and_the_rest_is_ahead() {
        let mut position = Position::first(7, 101, &[mail(100, 400)], 1_000, None);
        position.pass(101);
        position.pass(103);
        for (uid, date, expected) in [
            (100, 400, Standing::Outside),
            (101, 500, Standing::Passed),
            (102, 500, Standing::Ahead),
            (103, 500, Standing::Passed),
            (104, 500, Standing::Ahead),
        ] {
            assert_eq!(position.standing(7, &mail(uid, date)), expected, "{uid}");
        }
        assert_eq!(position.standing(8, &mail(1, 300)), Standing::Outside);
        assert_eq!(position.standing(8, &mail(2, 500)), Standing::Ahead);
    }

    #[test]
    fn a_history_that_is_still_to_be_read_lies_behind() {
        let backfill = Backfill {
            since: 0,
            first_uid: Some(3),
        };
        let mut position = Position::first(7, 1_001, &[mail(1_000, 5)], 10, Some(backfill));
        assert_eq!(position.standing(7, &mail(500, 5)), Standing::Behind);
        position.pass_behind(501);
        assert_eq!(position.standing(7, &mail(500, 5)), Standing::Passed);
    }
}
