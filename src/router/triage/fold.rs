//! Folds text for matching: lower case, without diacritics, white space as single blanks.

use super::TEXT_BYTES_MAX;
use crate::router::ascii;

/// Stands between subject and text, so that no phrase spans them.
const DIVIDER: &str = " | ";

/// Subject and text as one folded line.
pub fn fold(subject: &str, text: &str) -> String {
    let mut out = Vec::with_capacity(subject.len() + DIVIDER.len() + text.len());
    push_folded(&mut out, subject);
    out.extend_from_slice(DIVIDER.as_bytes());
    push_folded(&mut out, text);
    String::from_utf8(out).unwrap_or_default()
}

/// One phrase, folded like the text it is looked for in.
pub fn fold_phrase(phrase: &str) -> String {
    let mut out = Vec::with_capacity(phrase.len());
    push_folded(&mut out, phrase);
    String::from_utf8(out).unwrap_or_default()
}

/// Appends whole characters only, so `out` stays UTF-8.
fn push_folded(out: &mut Vec<u8>, text: &str) {
    let mut rest = text.split_at(text.floor_char_boundary(TEXT_BYTES_MAX)).0;
    while !rest.is_empty() {
        let mut after_blank = usize::from(out.last() == Some(&b' '));
        rest = ascii::push(out, rest, |byte| {
            let folded = FOLDED[usize::from(byte)];
            let blank = usize::from(folded == b' ');
            let kept = 1 - (blank & after_blank);
            after_blank = blank;
            (folded, kept)
        });
        let mut chars = rest.chars();
        let Some(c) = chars.next().filter(|c| !c.is_ascii()) else {
            continue;
        };
        rest = chars.as_str();
        match c.is_whitespace() {
            true if out.last() == Some(&b' ') => {}
            true => out.push(b' '),
            false => push_unmarked(out, c),
        }
    }
}

/// What becomes of each ASCII byte.
static FOLDED: [u8; 256] = {
    let mut folded = [0; 256];
    let mut byte = 0_u8;
    while byte.is_ascii() {
        folded[byte as usize] = match byte.is_ascii_whitespace() {
            true => b' ',
            false => byte.to_ascii_lowercase(),
        };
        byte += 1;
    }
    folded
};

/// Latin letters without their marks; text is composed (NFC) when it comes here.
fn push_unmarked(out: &mut Vec<u8>, c: char) {
    for c in c.to_lowercase() {
        let plain = match c {
            'à'..='å' | 'ā' | 'ă' | 'ą' | 'ǎ' => "a",
            'æ' => "ae",
            'ç' | 'ć' | 'č' | 'ċ' => "c",
            'ď' | 'đ' | 'ð' => "d",
            'è'..='ë' | 'ē' | 'ė' | 'ę' | 'ě' => "e",
            'ğ' | 'ģ' => "g",
            'ì'..='ï' | 'ī' | 'į' | 'ı' => "i",
            'ķ' => "k",
            'ł' | 'ľ' | 'ļ' => "l",
            'ñ' | 'ń' | 'ň' | 'ņ' => "n",
            'ò'..='ö' | 'ø' | 'ō' | 'ő' => "o",
            'œ' => "oe",
            'ř' => "r",
            'ś' | 'š' | 'ş' | 'ș' => "s",
            'ß' => "ss",
            'ť' | 'ț' | 'ţ' | 'þ' => "t",
            'ù'..='ü' | 'ū' | 'ů' | 'ű' | 'ų' => "u",
            'ý' | 'ÿ' => "y",
            'ź' | 'ż' | 'ž' => "z",
            '\u{2018}' | '\u{2019}' | '\u{2bc}' | '´' => "'",
            '\u{300}'..='\u{36f}' => "",
            _ => {
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
        };
        out.extend_from_slice(plain.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_text_is_folded_letter_by_letter(text in "(?s)([ -~]|.|[ \n]{60,70}|[A-Za-z]{60,70}|[ÄßİéЖ語€\u{a0}]){0,20}") {
            let mut plain = Vec::new();
            for c in text.chars() {
                match c.is_whitespace() && (!c.is_ascii() || c.is_ascii_whitespace()) {
                    true if plain.last() == Some(&b' ') => {}
                    true => plain.push(b' '),
                    false => push_unmarked(&mut plain, c),
                }
            }
            let mut out = Vec::new();
            push_folded(&mut out, &text);
            prop_assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(&plain));
        }
    }

    #[test]
    fn case_marks_and_line_breaks_do_not_matter() {
        assert_eq!(
            fold("Rückgabe", "Où est\n ma  COMMANDE?"),
            "ruckgabe | ou est ma commande?"
        );
        assert_eq!(fold_phrase("Größe łódź I’m"), "grosse lodz i'm");
    }
}
