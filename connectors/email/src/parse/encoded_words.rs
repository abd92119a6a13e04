//! Encoded words (RFC 2047) as senders really write them.

use crate::parse::charset;
use crate::parse::mime::{decode_base64, decode_quoted_printable};

/// Replaces every run of adjacent encoded words (RFC 2047) by `render(decoded)`.
///
/// The bytes of neighbours in one charset are joined before they are decoded: senders split
/// multi-byte characters between words although they must not.
pub(crate) fn decode_words(line: &str, render: impl Fn(&str) -> String) -> String {
    let mut out = String::with_capacity(line.len());
    // Behind the last end of a word there is none.
    let end = line.rfind("?=").map_or(0, |at| at + 2);
    let (mut rest, tail) = line.split_at(end);
    while let Some((before, word, after)) = next_word(rest) {
        out.push_str(before);
        let mut run = vec![word];
        rest = after;
        while let Some((gap, word, after)) = next_word(rest)
            && gap.chars().all(char::is_whitespace)
        {
            run.push(word);
            rest = after;
        }
        out.push_str(&render(&decode_run(run)));
    }
    out.push_str(rest);
    out.push_str(tail);
    out
}

/// Longest name of a charset, in bytes.
const CHARSET_BYTES_MAX: usize = 40;

struct Word {
    charset: String,
    bytes: Vec<u8>,
}

fn decode_run(words: Vec<Word>) -> String {
    let mut text = String::new();
    let mut words = words.into_iter().peekable();
    while let Some(mut word) = words.next() {
        while let Some(next) =
            words.next_if(|next| next.charset.eq_ignore_ascii_case(&word.charset))
        {
            // Each ISO-2022 word starts in ASCII again, so joining is right there, too.
            word.bytes.extend(next.bytes);
        }
        text.push_str(&charset::decode(&word.bytes, Some(&word.charset)).text);
    }
    text
}

/// The text before the next well-formed encoded word, the word, and the text behind it. What only
/// begins like a word is left after a few bytes: a header of beginnings costs no more than another.
fn next_word(text: &str) -> Option<(&str, Word, &str)> {
    let mut from = 0;
    loop {
        let start = from + text.get(from..)?.find("=?")?;
        if let Some((word, after)) = parse_word(text.get(start + 2..)?) {
            return Some((text.get(..start)?, word, after));
        }
        from = start + 2;
    }
}

fn parse_word(text: &str) -> Option<(Word, &str)> {
    let head = text.bytes().take(CHARSET_BYTES_MAX + 1);
    let charset_len = head.take_while(|&byte| byte != b'?').count();
    let (charset, rest) = text.split_at_checked(charset_len)?;
    let rest = rest.strip_prefix('?')?;
    // RFC 2231, section 5: a language may follow the charset.
    let charset = charset.split('*').next().unwrap_or_default();
    if charset.is_empty() || charset.contains(char::is_whitespace) {
        return None;
    }
    let is_base64 = match rest.get(..2)? {
        "B?" | "b?" => true,
        "Q?" | "q?" => false,
        _ => return None,
    };
    let (data, after) = rest.get(2..)?.split_once("?=")?;
    let bytes = match is_base64 {
        true => decode_base64(data.as_bytes()),
        false => decode_q(data),
    };
    let word = Word {
        charset: charset.to_owned(),
        bytes,
    };
    Some((word, after))
}

fn decode_q(data: &str) -> Vec<u8> {
    let spaced = data.replace('_', " ");
    decode_quoted_printable(spaced.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: &str) {
        assert_eq!(decode_words(line, str::to_owned), expected, "{line}");
    }

    #[test]
    fn words_join_across_split_characters() {
        check("=?utf-8?Q?caf=C3=A9?=", "café");
        check("=?utf-8?Q?caf=C3?= =?UTF-8?Q?=A9?=", "café");
        check("=?utf-8?B?w4=?= =?utf-8?B?qQ==?= x", "é x");
        check("=?iso-8859-1*de?q?Gr=FC=DFe?= aus", "Grüße aus");
        check("=?utf-8?Q?a_b?= plain =?utf-8?Q?c?=", "a b plain c");
        check("=?utf-8?Q?=?=", "");
    }

    #[test]
    fn what_is_no_word_stays() {
        check("=?broken?= =?x?y?z?=", "=?broken?= =?x?y?z?=");
        check("2 =? 3", "2 =? 3");
    }
}
