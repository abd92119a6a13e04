//! What a bounce says that uses no report: qmail, older Exchange, gateways.

use crate::parse::dsn::REASON_CHARS_MAX;
use crate::parse::identity::{OwnAddresses, normalise};
use crate::parse::mime::Part;

/// Lines looked at; what a machine has to say stands at the top.
const LINES_MAX: usize = 200;

/// Whether the mail is only late: it will be tried again.
pub(super) fn is_delay(root: &Part<'_>, text: &str) -> bool {
    const SUBJECTS: [&str; 6] = [
        "delay",
        "warning",
        "verzöger",
        "retard",
        "deferred",
        "ritard",
    ];
    const WORDS: [&str; 5] = [
        "will be retried",
        "you do not need to resend",
        "this is a warning message only",
        "will continue trying",
        "wird weiterhin versucht",
    ];
    let subject = root.headers.lower("subject").unwrap_or_default();
    let text = text.chars().take(2_000).collect::<String>().to_lowercase();
    SUBJECTS.iter().any(|word| subject.contains(word))
        || WORDS.iter().any(|words| text.contains(words))
}

/// The first line with an SMTP answer or an enhanced status in it.
pub(super) fn diagnostic(text: &str) -> Option<String> {
    let is_code = |word: &str| {
        let word = word.trim_matches(|c: char| !c.is_ascii_digit());
        let is_answer = word.len() == 3 && word.starts_with(['4', '5']);
        let is_status = word.starts_with("5.") || word.starts_with("4.");
        (is_answer || is_status) && word.chars().all(|c| c.is_ascii_digit() || c == '.')
    };
    text.lines()
        .take(LINES_MAX)
        .take_while(|line| !begins_returned_mail(line))
        .find(|line| line.split_whitespace().any(is_code))
        .map(|line| line.trim().chars().take(REASON_CHARS_MAX).collect())
}

/// Whether a server is quoted that did not take a mail: by an enhanced status (RFC 3463), by a code
/// with the words that stand beside it, or by the words alone that only mail systems use.
pub(super) fn is_refusal(text: &str) -> bool {
    const BESIDE: [&str; 12] = [
        "smtp",
        "host",
        "said",
        "remote",
        "server",
        "mailbox",
        "recipient",
        "user",
        "address",
        "rejected",
        "denied",
        "relay",
    ];
    const ALONE: [&str; 12] = [
        "was not delivered to:",
        "failure reasons",
        "the following address",
        "permanent fatal error",
        "permanent error",
        "unknown user",
        "user unknown",
        "no such user",
        "no mailbox here by that name",
        "mailbox unavailable",
        "mailbox full",
        "could not deliver your message to",
    ];
    let is_status = |word: &str| {
        let word = word.trim_matches(|c: char| !c.is_ascii_digit());
        let digits = |part: &str| part.len() <= 3 && part.parse::<u16>().is_ok();
        let parts: Vec<&str> = word.split('.').collect();
        matches!(parts.as_slice(), [class @ ("4" | "5"), subject, detail]
            if !class.is_empty() && digits(subject) && digits(detail))
    };
    let is_answer = |word: &str| {
        let word = word.trim_matches(|c: char| !c.is_ascii_digit());
        word.len() == 3 && word.starts_with(['4', '5']) && word.parse::<u16>().is_ok()
    };
    text.lines().take(LINES_MAX).any(|line| {
        let line = line.to_lowercase();
        begins_returned_mail(&line)
            || line.split_whitespace().any(is_status)
            || ALONE.iter().any(|words| line.contains(words))
            || (line.split_whitespace().any(is_answer)
                && BESIDE.iter().any(|word| line.contains(word)))
    })
}

/// The first address of somebody else above the returned mail.
pub(super) fn recipient(text: &str, own: &OwnAddresses) -> Option<String> {
    text.lines()
        .take(LINES_MAX)
        .take_while(|line| !begins_returned_mail(line))
        .flat_map(|line| line.split(|c: char| c.is_whitespace() || "<>()[]\"',;".contains(c)))
        .filter(|word| word.contains('@'))
        .filter_map(|word| normalise(word.trim_end_matches(['.', ':'])))
        .find(|address| !own.contains(address) && !is_machine(address) && has_domain(address))
}

fn begins_returned_mail(line: &str) -> bool {
    let line = line
        .trim_start_matches(['>', ' ', '\t', '|'])
        .to_lowercase();
    [
        "received:",
        "return-path:",
        "message-id:",
        "--- below this line",
    ]
    .iter()
    .any(|start| line.starts_with(start))
}

fn is_machine(address: &str) -> bool {
    ["mailer-daemon@", "postmaster@", "abuse@"]
        .iter()
        .any(|start| address.starts_with(start))
}

fn has_domain(address: &str) -> bool {
    let domain = address.rsplit_once('@').map(|(_, domain)| domain);
    domain.is_some_and(|domain| domain.contains('.'))
}
