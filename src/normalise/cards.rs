//! Finds payment card numbers in text and leaves at most their first six and last four digits,
//! so that nothing we store, index or publish holds one (PCI DSS 3.4).
//!
//! A number counts when its digits pass the Luhn check, belong to an issuer at that length, and
//! are written the way people write cards: in any script's digits, in one piece or in groups,
//! also over a line break. IBANs, phone numbers and parts of longer numbers do not count.

mod iban;
mod issuer;
mod run;

use std::ops::Range;

use run::{Gap, Run};

/// Shortest and longest card number (ISO/IEC 7812), in digits.
pub const DIGITS_MIN: usize = 13;
pub const DIGITS_MAX: usize = 19;

/// Replaces every card number in `text` by its redacted form and returns how many there were.
pub fn redact(text: &mut String) -> usize {
    let found = find(text);
    if found.is_empty() {
        return 0;
    }
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    for (range, redacted) in &found {
        out.push_str(text.get(from..range.start).unwrap_or_default());
        out.push_str(redacted);
        from = range.end;
    }
    out.push_str(text.get(from..).unwrap_or_default());
    *text = out;
    found.len()
}

/// Where card numbers stand, first to last, each with what may be kept of it.
pub fn find(text: &str) -> Vec<(Range<usize>, String)> {
    if !has_enough_digits(text) {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(start) = next_digit(text, from) {
        from = read_run(text, start, &mut found);
    }
    found
}

/// Where the next digit is, or a letter beyond U+0640, which may be one.
fn next_digit(text: &str, from: usize) -> Option<usize> {
    let may_be = |byte: &u8| byte.is_ascii_digit() || *byte >= 0xd9;
    let rest = text.as_bytes().get(from..)?;
    rest.iter().position(may_be).map(|at| from + at)
}

/// Searches the run of digits that starts at `start` and returns where to go on.
fn read_run(text: &str, start: usize, found: &mut Vec<(Range<usize>, String)>) -> usize {
    let mut run = Run::default();
    let mut gap = Gap::default();
    let before = text
        .get(..start)
        .and_then(|before| before.chars().next_back());
    let mut end = text.len();
    for (offset, c) in text.get(start..).unwrap_or_default().char_indices() {
        let at = start + offset;
        if let Some(digit) = digit_value(c) {
            run.push(digit, at..at + c.len_utf8(), &gap, before);
            gap = Gap::default();
            continue;
        }
        run.attached_behind = gap.is_empty() && c.is_ascii_alphabetic();
        gap.push(c);
        if run.groups.is_empty() || gap.breaks_run() {
            end = at + c.len_utf8();
            break;
        }
    }
    run.search(text, found);
    end
}

/// The cheap answer for almost every text. Digits of other scripts start at U+0660.
fn has_enough_digits(text: &str) -> bool {
    let bytes = text.as_bytes();
    if bytes.len() < DIGITS_MIN {
        return false;
    }
    let ascii = count(bytes, |byte| byte.is_ascii_digit());
    if ascii >= DIGITS_MIN {
        return true;
    }
    // A dash or an apostrophe is no digit, and a text has few of them.
    if ascii + count(bytes, |byte| byte >= 0xd9) < DIGITS_MIN {
        return false;
    }
    text.chars()
        .filter_map(digit_value)
        .nth(DIGITS_MIN - 1)
        .is_some()
}

/// Counts bytes in pieces whose count fits a byte, so that the compiler takes many at once.
fn count(bytes: &[u8], counts: impl Fn(u8) -> bool) -> usize {
    let in_piece = |piece: &[u8]| piece.iter().map(|byte| u8::from(counts(*byte))).sum::<u8>();
    bytes
        .chunks(128)
        .map(|piece| usize::from(in_piece(piece)))
        .sum()
}

/// The value of a decimal digit in any script (Unicode general category Nd, by its zeros).
fn digit_value(c: char) -> Option<u8> {
    const ZEROS: &[u32] = &[
        0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66, 0xde6,
        0xe50, 0xed0, 0xf20, 0x1040, 0x1090, 0x17e0, 0x1810, 0x1946, 0x19d0, 0x1a80, 0x1a90,
        0x1b50, 0x1bb0, 0x1c40, 0x1c50, 0xa620, 0xa8d0, 0xa900, 0xa9d0, 0xa9f0, 0xaa50, 0xabf0,
        0xff10, 0x104a0, 0x11066, 0x1d7ce, 0x1d7d8, 0x1d7e2, 0x1d7ec, 0x1d7f6, 0x1e950, 0x1fbf0,
    ];
    let code = c as u32;
    if code < 0x660 {
        return c.to_digit(10).and_then(|digit| u8::try_from(digit).ok());
    }
    let after = ZEROS.partition_point(|&zero| zero <= code);
    let zero = ZEROS.get(after.checked_sub(1)?)?;
    u8::try_from(code - zero).ok().filter(|&digit| digit < 10)
}

#[cfg(test)]
mod tests;
