//! One mail for several people, some of whom the server does not take it for. Nobody may get it
//! twice and nobody may be lost without a word, and there is one outcome for all of them.

use std::time::Duration;

use connector_api::{Error, RefusedRecipient, Result};
use lettre::Address;

use crate::smtp::dialogue::No;

/// For how long everybody waits for one who is put off (4xx), from when the mail was to leave.
/// Greylisting is over by then: receivers ask for 5 to 30 minutes (RFC 6647, section 5, says to
/// take a retry after 1 minute to 24 hours).
pub(crate) const PUT_OFF_MAX: Duration = Duration::from_secs(60 * 60);

/// Who gets it now, and who never will.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Split {
    /// Places in the list of recipients.
    pub(crate) taken: Vec<usize>,
    pub(crate) refused: Vec<RefusedRecipient>,
}

/// Decides from the answers to all recipients, whom it answers first.
///
/// A mail that was handed over for some cannot be tried again for the others: the daemon keeps one
/// outcome of a message. So as long as it may still become a yes for all, nobody gets it and the
/// whole mail is tried again. After [`PUT_OFF_MAX`] whoever is still put off counts as refused,
/// with the server's words, and the rest gets it; only the one whom it answers is always waited
/// for, because a copy without the letter helps nobody.
pub(crate) fn split(
    place: &str,
    recipients: &[Address],
    answers: &[std::result::Result<(), No>],
    waited: Duration,
) -> Result<Split> {
    let no = |answer: &std::result::Result<(), No>| answer.as_ref().err().cloned();
    let nos: Vec<Option<No>> = answers.iter().map(no).collect();
    let put_off = nos.iter().flatten().find(|no| no.is_passing);
    let all_refused = nos.iter().all(Option::is_some);
    let addressee_waits = nos
        .first()
        .is_some_and(|no| no.as_ref().is_some_and(|no| no.is_passing));
    if let Some(no) = put_off
        && (all_refused || addressee_waits || waited < PUT_OFF_MAX)
    {
        return Err(Error::unavailable(format!(
            "{place}: cannot RCPT: {}",
            no.words
        )));
    }
    if let (true, Some(no)) = (all_refused, nos.first().and_then(Option::as_ref)) {
        return Err(Error::rejected(format!(
            "{place}: cannot RCPT: {}",
            no.words
        )));
    }
    let taken = (0..recipients.len()).filter(|at| nos.get(*at) == Some(&None));
    let refused = recipients
        .iter()
        .zip(&nos)
        .filter_map(|(address, no)| no.as_ref().map(|no| refused(address, no.words.clone())));
    Ok(Split {
        taken: taken.collect(),
        refused: refused.collect(),
    })
}

pub(crate) fn refused(address: &Address, reason: String) -> RefusedRecipient {
    RefusedRecipient::new(address.to_string(), reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `y` is taken, `4` put off, `5` refused; the result names who gets it, `later` or `never`.
    fn check(answers: &str, waited: Duration, expected: &str) {
        let recipients: Vec<Address> = (0..answers.len())
            .map(|place| format!("r{place}@example.org").parse().unwrap())
            .collect();
        let answers: Vec<_> = answers
            .chars()
            .map(|answer| match answer {
                'y' => Ok(()),
                code => Err(No {
                    is_passing: code == '4',
                    words: format!("{code}50 words"),
                }),
            })
            .collect();
        let found = match split("mx", &recipients, &answers, waited) {
            Ok(split) => {
                let taken: Vec<String> = split.taken.iter().map(usize::to_string).collect();
                let refused: Vec<_> = split.refused.iter().map(|no| &no.address).collect();
                assert_eq!(
                    taken.len() + refused.len(),
                    recipients.len(),
                    "nobody is left out"
                );
                taken.join(" ")
            }
            Err(error) if error.kind == connector_api::ErrorKind::Rejected => "never".to_owned(),
            Err(_) => "later".to_owned(),
        };
        assert_eq!(found, expected, "{answers:?} after {waited:?}");
    }

    #[test]
    fn everybody_waits_an_hour_for_whoever_is_put_off_and_always_for_whom_it_answers() {
        let (early, late) = (Duration::ZERO, PUT_OFF_MAX);
        for (answers, after_a_second, after_an_hour) in [
            ("y", "0", "0"),
            ("5", "never", "never"),
            ("4", "later", "later"),
            ("yyy", "0 1 2", "0 1 2"),
            ("y5y", "0 2", "0 2"),
            ("5yy", "1 2", "1 2"),
            ("555", "never", "never"),
            ("y4y", "later", "0 2"),
            ("y45", "later", "0"),
            ("4yy", "later", "later"),
            ("54y", "later", "2"),
            ("554", "later", "later"),
            ("444", "later", "later"),
        ] {
            check(answers, early, after_a_second);
            check(answers, late, after_an_hour);
        }
    }
}
