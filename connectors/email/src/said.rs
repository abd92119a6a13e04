//! What a server says about a login, as it may be shown: its own words are the best help, and some
//! servers repeat what they were given.

/// Longest piece of a server's words in an error, in characters.
const WORDS_CHARS_MAX: usize = 300;
/// So much of a secret in a row gives it away, in bytes.
const PIECE_BYTES: usize = 8;

/// A server's words: one line, bounded, without addresses.
pub(crate) fn shown(words: &str) -> String {
    let words = words.split_whitespace().map(|word| match word {
        word if word.contains('@') => "(address)",
        word => word,
    });
    let line = words.collect::<Vec<_>>().join(" ");
    let line = line.chars().filter(|c| !c.is_control());
    line.take(WORDS_CHARS_MAX).collect()
}

/// The same of words that answer a login with `given`: its secrets, in every form in which they
/// were sent. Words with a piece of one are not shown at all.
pub(crate) fn about_login(words: &str, given: &[&str]) -> String {
    let plain = |text: &str| {
        let bytes = text.bytes().filter(|byte| !byte.is_ascii_whitespace());
        bytes
            .map(|byte| byte.to_ascii_lowercase())
            .collect::<Vec<u8>>()
    };
    let said = plain(words);
    let is_in = |piece: &[u8]| said.windows(piece.len()).any(|window| window == piece);
    let repeats = given.iter().any(|secret| {
        let secret = plain(secret);
        let length = secret.len().min(PIECE_BYTES);
        length > 0 && secret.windows(length).any(is_in)
    });
    match repeats {
        true => "(its words repeat the login and are not shown)".to_owned(),
        false => shown(words),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(words: &str, expected: &str) {
        let given = ["pass-4711-word", "AHN1cHBvcnQAcGFzcy00NzExLXdvcmQ=", ""];
        assert_eq!(about_login(words, &given), expected);
    }

    #[test]
    fn a_servers_words_are_shown_unless_they_repeat_a_piece_of_the_login() {
        check(
            "535 5.7.8 Error:\r\nauthentication failed",
            "535 5.7.8 Error: authentication failed",
        );
        check(
            "no user support@shop.example here",
            "no user (address) here",
        );
        let hidden = "(its words repeat the login and are not shown)";
        for words in [
            "LOGIN support pass-4711-word failed",
            "wrong: PASS-4711-WORD",
            "wrong: pass-4711...",
            "cannot read AHN1cHBvcnQAcGFzcy00N",
            "p a s s - 4 7 1 1 - w o r d",
        ] {
            check(words, hidden);
        }
        check(&"x".repeat(1_000), &"x".repeat(WORDS_CHARS_MAX));
        assert_eq!(about_login("no", &["pin"]), "no");
        assert_eq!(about_login("no: pin 17", &["pin"]), hidden);
    }
}
