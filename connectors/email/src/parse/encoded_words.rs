//! Encoded words (RFC 2047) as senders really write them.

use crate::parse::charset;
use crate::parse::mime::{decode_base64, decode_quoted_printable};

/// Replaces every run of adjacent encoded words (RFC 2047) by `render(decoded)`.
///
/// The bytes of neighbours in one charset are joined before they are decoded: senders split
/// multi-byte characters between words although they must not.
pub(crate) fn decode_words(line: &str, render: impl Fn(&str) -> String) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
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
    out
}

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

/// The text before the next well-formed encoded word, the word, and the text behind it.
fn next_word(text: &str) -> Option<(&str, Word, &str)> {
    let mut from = 0;
    loop {
        let start = from + text.get(from..)?.find("=?")?;
        // Without a further word's end there is no word: keeps the search linear.
        text.get(start..)?.find("?=")?;
        if let Some((word, after)) = parse_word(text.get(start + 2..)?) {
            return Some((text.get(..start)?, word, after));
        }
        from = start + 2;
    }
}

fn parse_word(text: &str) -> Option<(Word, &str)> {
    let (charset, rest) = text.split_once('?')?;
    let (encoding, rest) = rest.split_once('?')?;
    let (data, after) = rest.split_once("?=")?;
    // RFC 2231, section 5: a language may follow the charset.
    let charset = charset.split('*').next().unwrap_or_default();
    if charset.is_empty() || charset.len() > 40 || charset.contains(char::is_whitespace) {
        return None;
    }
    let bytes = match encoding {
        "B" | "b" => decode_base64(data.as_bytes()),
        "Q" | "q" => decode_q(data),
        _ => return None,
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
