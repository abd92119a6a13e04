//! Folds text for matching: lower case, without diacritics, white space as single blanks.

use super::TEXT_BYTES_MAX;

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
        let beyond = rest.bytes().position(|byte| !byte.is_ascii());
        let (ascii, after) = rest.split_at(beyond.unwrap_or(rest.len()));
        push_ascii(out, ascii);
        let mut chars = after.chars();
        while let Some(c) = chars.as_str().chars().next().filter(|c| !c.is_ascii()) {
            chars.next();
            match c.is_whitespace() {
                true => push_ascii(out, " "),
                false => push_unmarked(out, c),
            }
        }
        rest = chars.as_str();
    }
}

/// Almost every text goes through here, so no letter costs a branch.
fn push_ascii(out: &mut Vec<u8>, text: &str) {
    let mut end = out.len();
    let mut after_blank = out.last() == Some(&b' ');
    out.resize(end + text.len(), 0);
    for byte in text.bytes() {
        let is_blank = byte.is_ascii_whitespace();
        if let Some(place) = out.get_mut(end) {
            *place = if is_blank {
                b' '
            } else {
                byte.to_ascii_lowercase()
            };
        }
        end += usize::from(!(is_blank && after_blank));
        after_blank = is_blank;
    }
    out.truncate(end);
}

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
    use super::*;

    #[test]
    fn case_marks_and_line_breaks_do_not_matter() {
        assert_eq!(
            fold("Rückgabe", "Où est\n ma  COMMANDE?"),
            "ruckgabe | ou est ma commande?"
        );
        assert_eq!(fold_phrase("Größe łódź I’m"), "grosse lodz i'm");
    }
}
