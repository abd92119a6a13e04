//! Tells international bank account numbers (ISO 13616) from card numbers: their digits come in
//! groups of four, too.

/// An IBAN has at most 34 characters, printed in groups of four.
const CHARS_MAX: usize = 34;
const SPAN_CHARS_MAX: usize = CHARS_MAX + CHARS_MAX / 4 + 1;

/// Country codes with the length of their IBANs (the SWIFT registry).
#[rustfmt::skip]
const LENGTHS: &[(&str, usize)] = &[
    ("AD", 24), ("AE", 23), ("AL", 28), ("AT", 20), ("AZ", 28), ("BA", 20), ("BE", 16), ("BG", 22),
    ("BH", 22), ("BR", 29), ("BY", 28), ("CH", 21), ("CR", 22), ("CY", 28), ("CZ", 24), ("DE", 22),
    ("DK", 18), ("DO", 28), ("EE", 20), ("EG", 29), ("ES", 24), ("FI", 18), ("FO", 18), ("FR", 27),
    ("GB", 22), ("GE", 22), ("GI", 23), ("GL", 18), ("GR", 27), ("GT", 28), ("HR", 21), ("HU", 28),
    ("IE", 22), ("IL", 23), ("IQ", 23), ("IS", 26), ("IT", 27), ("JO", 30), ("KW", 30), ("KZ", 20),
    ("LB", 28), ("LC", 32), ("LI", 21), ("LT", 20), ("LU", 20), ("LV", 21), ("LY", 25), ("MC", 27),
    ("MD", 24), ("ME", 22), ("MK", 19), ("MR", 27), ("MT", 31), ("MU", 30), ("NL", 18), ("NO", 15),
    ("PK", 24), ("PL", 28), ("PS", 29), ("PT", 25), ("QA", 29), ("RO", 24), ("RS", 22), ("SA", 24),
    ("SC", 31), ("SE", 24), ("SI", 19), ("SK", 24), ("SM", 27), ("ST", 25), ("SV", 28), ("TL", 23),
    ("TN", 24), ("TR", 26), ("UA", 29), ("VA", 22), ("VG", 24), ("XK", 20),
];

/// True when the digit at byte `at` lies inside an IBAN.
pub fn covers(text: &str, at: usize) -> bool {
    let Some(before) = text.get(..at) else {
        return false;
    };
    let starts = before.char_indices().rev().take(SPAN_CHARS_MAX);
    for (start, _) in starts {
        let stands_alone = before
            .get(..start)
            .and_then(|rest| rest.chars().next_back())
            .is_none_or(|c| !c.is_ascii_alphanumeric());
        if stands_alone
            && text
                .get(start..)
                .and_then(end_of_iban)
                .is_some_and(|end| start + end > at)
        {
            return true;
        }
    }
    false
}

/// Where the IBAN at the start of `text` ends. Its check digits are not asked: a mistyped account
/// number is none the less no card.
fn end_of_iban(text: &str) -> Option<usize> {
    let country = text.get(..2)?.to_ascii_uppercase();
    let (_, length) = LENGTHS.iter().find(|(code, _)| *code == country)?;
    let mut count = 0;
    for (at, c) in text.char_indices() {
        match c {
            ' ' | '-' | '\u{a0}' | '\u{202f}' => continue,
            _ if !c.is_ascii_alphanumeric() => return None,
            _ if matches!(count, 2 | 3) && !c.is_ascii_digit() => return None,
            _ => count += 1,
        }
        if count == *length {
            let ends = !text
                .get(at + 1..)?
                .starts_with(|next: char| next.is_ascii_alphanumeric());
            return ends.then_some(at + 1);
        }
    }
    None
}
