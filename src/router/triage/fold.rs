//! Folds text for matching: lower case, without diacritics, white space as single blanks.

use super::TEXT_CHARS_MAX;

/// Stands between subject and text, so that no phrase spans them.
const DIVIDER: &str = " | ";

/// Subject and text as one folded line.
pub fn fold(subject: &str, text: &str) -> String {
    let mut out =
        String::with_capacity(subject.len() + DIVIDER.len() + text.len().min(TEXT_CHARS_MAX * 2));
    push_folded(&mut out, subject);
    out.push_str(DIVIDER);
    push_folded(&mut out, text);
    out
}

/// One phrase, folded like the text it is looked for in.
pub fn fold_phrase(phrase: &str) -> String {
    let mut out = String::with_capacity(phrase.len());
    push_folded(&mut out, phrase);
    out
}

fn push_folded(out: &mut String, text: &str) {
    if text.is_ascii() {
        return push_ascii(out, text);
    }
    for c in text.chars().take(TEXT_CHARS_MAX) {
        match c {
            'a'..='z' | '0'..='9' => out.push(c),
            'A'..='Z' => out.push(c.to_ascii_lowercase()),
            _ if c.is_whitespace() => {
                if !out.ends_with(' ') {
                    out.push(' ');
                }
            }
            _ if c.is_ascii() => out.push(c),
            _ => push_unmarked(out, c),
        }
    }
}

fn push_ascii(out: &mut String, text: &str) {
    let text = text.get(..TEXT_CHARS_MAX).unwrap_or(text);
    let mut words = text.split_ascii_whitespace();
    if text.starts_with(|c: char| c.is_ascii_whitespace()) && !out.ends_with(' ') {
        out.push(' ');
    }
    let from = out.len();
    if let Some(first) = words.next() {
        out.push_str(first);
    }
    for word in words {
        out.push(' ');
        out.push_str(word);
    }
    if let Some(added) = out.get_mut(from..) {
        added.make_ascii_lowercase();
    }
}

/// Latin letters without their marks; text is composed (NFC) when it comes here.
fn push_unmarked(out: &mut String, c: char) {
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
                out.push(c);
                continue;
            }
        };
        out.push_str(plain);
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
