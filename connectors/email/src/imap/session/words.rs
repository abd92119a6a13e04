//! Errors in words, without what a server repeats of logins and mails.

use connector_api::Error;

/// Longest piece of a server's words in an error, in characters.
const WORDS_CHARS_MAX: usize = 200;

/// What passes by itself: response codes of RFC 5530, and what Gmail (too many connections, too many
/// bytes a day) and Exchange (a backend that moves) say in words.
pub(super) fn is_passing(words: &str) -> bool {
    const SIGNS: [&str; 8] = [
        "[unavailable]",
        "[inuse]",
        "[limit]",
        "[serverbug]",
        "[overquota]",
        "too many simultaneous connections",
        "exceeded command or bandwidth limits",
        "authenticated but not connected",
    ];
    let words = words.to_ascii_lowercase();
    SIGNS.iter().any(|sign| words.contains(sign))
}

/// A server's own words: one line, bounded.
pub(super) fn words(text: Option<&str>) -> String {
    let text = text.unwrap_or("no reason given");
    text.chars()
        .filter(|c| !c.is_control())
        .take(WORDS_CHARS_MAX)
        .collect()
}

/// What broke, without the bytes that async-imap would quote: they may be somebody's mail.
pub(super) fn broken(error: &async_imap::error::Error) -> String {
    match error {
        async_imap::error::Error::Io(error) => io_words(error).to_owned(),
        async_imap::error::Error::ConnectionLost => "the connection was closed".to_owned(),
        async_imap::error::Error::No(text) | async_imap::error::Error::Bad(text) => {
            words(Some(&said(text)))
        }
        _ => "an unexpected answer".to_owned(),
    }
}

pub(super) fn io_words(error: &std::io::Error) -> &'static str {
    use std::io::ErrorKind as Kind;
    match error.kind() {
        Kind::ConnectionRefused => "connection refused",
        Kind::ConnectionReset | Kind::BrokenPipe | Kind::ConnectionAborted => "connection reset",
        Kind::UnexpectedEof => "the connection was closed",
        Kind::TimedOut => "timed out",
        Kind::FileTooLarge => "the answer is larger than allowed",
        Kind::HostUnreachable | Kind::NetworkUnreachable => "unreachable",
        Kind::InvalidData => "a broken TLS record or certificate",
        Kind::Other => "an answer that cannot be read",
        _ => "a network error",
    }
}

/// What the server said, out of how async-imap shows it: `code: None, info: Some("…")`.
pub(super) fn said(text: &str) -> String {
    let info = text.split_once(", info: Some(\"").map(|(_, info)| info);
    let info = info.and_then(|info| info.strip_suffix("\")"));
    match info {
        Some(info) => info.replace("\\\"", "\"").replace("\\\\", "\\"),
        None if text.ends_with(", info: None") => "no reason given".to_owned(),
        None => text.to_owned(),
    }
}

pub(super) fn unavailable(place: &str, verb: &str, why: &str) -> Error {
    Error::unavailable(format!("{place}: cannot {verb}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::{is_passing, said};

    #[test]
    fn a_servers_words_are_taken_out_of_what_async_imap_makes_of_them() {
        for (text, expected) in [
            (
                "code: None, info: Some(\"[AUTHENTICATIONFAILED] no\")",
                "[AUTHENTICATIONFAILED] no",
            ),
            (
                "code: None, info: Some(\"say \\\"please\\\"\")",
                "say \"please\"",
            ),
            ("code: None, info: None", "no reason given"),
            ("as it was", "as it was"),
        ] {
            assert_eq!(said(text), expected);
        }
    }

    #[test]
    fn what_passes_by_itself_is_told_from_what_does_not() {
        for (words, expected) in [
            ("[UNAVAILABLE] backend", true),
            ("[ALERT] Too many simultaneous connections. (Failure)", true),
            (
                "[OVERQUOTA] Account exceeded command or bandwidth limits. (Failure)",
                true,
            ),
            ("[OVERQUOTA] come back tomorrow", true),
            (
                "[ALERT] Account exceeded command or bandwidth limits.",
                true,
            ),
            ("User is authenticated but not connected.", true),
            (
                "[AUTHENTICATIONFAILED] Invalid credentials (Failure)",
                false,
            ),
            ("[NONEXISTENT] Unknown Mailbox: Nope (Failure)", false),
            ("LOGIN failed.", false),
        ] {
            assert_eq!(is_passing(words), expected, "{words}");
        }
    }
}
