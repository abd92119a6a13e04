//! Digits with separators between them, and which of their groups are a card number.

use std::ops::Range;

use super::{DIGITS_MAX, DIGITS_MIN, iban, issuer};

/// Most separator characters between two digits; a line break counts apart.
const SEPARATORS_MAX: usize = 3;
/// How far before a number a word such as "card" explains it, in bytes.
const WORD_DISTANCE_BYTES: usize = 48;

/// Words that announce a card number, in lower case without marks.
#[rustfmt::skip]
const CARD_WORDS: &[&str] = &[
    "amex", "american express", "card", "carta", "carte", "cartao", "credit", "debit", "diners",
    "discover", "jcb", "kaart", "kart", "kredit", "maestro", "master", "tarjeta", "unionpay", "visa",
];

/// What stands between two digits.
#[derive(Debug, Default)]
pub struct Gap {
    spaces: usize,
    marks: usize,
    line_breaks: usize,
    /// A comma or full stop came last; white space behind it ends a sentence.
    stop: bool,
    /// Something that never stands inside a card number.
    other: bool,
}

impl Gap {
    pub fn push(&mut self, c: char) {
        let after_stop = std::mem::replace(&mut self.stop, matches!(c, '.' | ','));
        match c {
            ' ' | '\t' | '\n' if after_stop => self.other = true,
            '\n' => self.line_breaks += 1,
            '\r' => {}
            // Variation selectors and the keycap belong to digit emoji; the others are invisible.
            '\u{fe0f}' | '\u{20e3}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{ad}' => {}
            ' '
            | '\t'
            | '\u{a0}'
            | '\u{2000}'..='\u{200a}'
            | '\u{202f}'
            | '\u{205f}'
            | '\u{3000}' => self.spaces += 1,
            // A quoted line goes on after its prefix.
            '>' if self.line_breaks > 0 => self.spaces += 1,
            '-'
            | '.'
            | ','
            | '_'
            | '/'
            | '·'
            | '•'
            | '\u{2010}'..='\u{2015}'
            | '\u{2212}'
            | '\u{ff0d}'
            | '\u{ff0e}' => self.marks += 1,
            _ => self.other = true,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.spaces + self.marks + self.line_breaks == 0 && !self.other
    }

    pub fn breaks_run(&self) -> bool {
        self.other
            || self.line_breaks > 1
            || self.marks > 1
            || self.spaces > SEPARATORS_MAX + self.line_breaks * SEPARATORS_MAX
    }
}

/// Digits written without anything between them.
#[derive(Debug)]
pub struct Group {
    span: Range<usize>,
    /// Where its digits are in [`Run::digits`].
    first: usize,
    count: usize,
    after_line_break: bool,
}

/// Groups that only separators stand between.
#[derive(Debug, Default)]
pub struct Run {
    pub groups: Vec<Group>,
    digits: Vec<u8>,
    /// A letter stands directly before the first or behind the last group.
    attached_before: bool,
    pub attached_behind: bool,
    plus_before: bool,
}

impl Run {
    pub fn push(&mut self, digit: u8, span: Range<usize>, gap: &Gap, before: Option<char>) {
        if self.groups.is_empty() {
            self.attached_before = before.is_some_and(|c| c.is_ascii_alphabetic());
            self.plus_before = before == Some('+');
        }
        match self.groups.last_mut() {
            Some(group) if gap.is_empty() => {
                group.span.end = span.end;
                group.count += 1;
            }
            _ => self.groups.push(Group {
                span,
                first: self.digits.len(),
                count: 1,
                after_line_break: gap.line_breaks > 0,
            }),
        }
        self.digits.push(digit);
    }

    pub fn search(&self, text: &str, found: &mut Vec<(Range<usize>, String)>) {
        // E.164 numbers have at most 15 digits.
        if self.digits.len() < DIGITS_MIN || (self.plus_before && self.digits.len() <= 15) {
            return;
        }
        let mut from = 0;
        let mut card_end = None;
        while from < self.groups.len() {
            from = match self.longest_from(from, card_end, text) {
                Some(to) => {
                    found.push(self.redaction(from..to));
                    card_end = Some(to);
                    to
                }
                None => from + 1,
            };
        }
    }

    /// One past the last group of the longest card number that starts with group `from`.
    fn longest_from(&self, from: usize, card_end: Option<usize>, text: &str) -> Option<usize> {
        let mut count = 0;
        let mut longest = None;
        for (to, group) in self.groups.iter().enumerate().skip(from) {
            count += group.count;
            if count > DIGITS_MAX {
                break;
            }
            if count >= DIGITS_MIN && self.is_card(from..to + 1, card_end, text) {
                longest = Some(to + 1);
            }
        }
        longest
    }

    fn is_card(&self, window: Range<usize>, card_end: Option<usize>, text: &str) -> bool {
        let Some(digits) = self.valid_digits(&window) else {
            return false;
        };
        let Some(groups @ [first, ..]) = self.groups.get(window.clone()) else {
            return false;
        };
        let whole = window.start == 0 && window.end == self.groups.len();
        if !(is_written_like_a_card(groups, whole) || self.is_spelled_out(&window))
            || !self.stands_alone(&window, card_end)
        {
            return false;
        }
        let named = has_card_word_before(text, first.span.start);
        let attached = (window.start == 0 && self.attached_before)
            || (window.end == self.groups.len() && self.attached_behind);
        let doubtful = attached || issuer::may_be_something_else(digits);
        let explained = named || groups.len() > 1;
        (explained || !doubtful) && !iban::covers(text, first.span.start)
    }

    /// The digits of the groups in `window`, where an issuer could have given them out.
    fn valid_digits(&self, window: &Range<usize>) -> Option<&[u8]> {
        let groups = self.groups.get(window.clone())?;
        let (first, last) = (groups.first()?, groups.last()?);
        let digits = self.digits.get(first.first..last.first + last.count)?;
        (issuer::is_known(digits) && passes_luhn(digits)).then_some(digits)
    }

    /// Four-digit groups beside the window make it a part of a longer number, except an expiry
    /// date behind it or another card.
    fn stands_alone(&self, window: &Range<usize>, card_end: Option<usize>) -> bool {
        let group = |at: usize| self.groups.get(at).filter(|group| group.count == 4);
        let Some(first) = group(window.start) else {
            return true;
        };
        let before = window.start.checked_sub(1).and_then(group);
        let free_before =
            before.is_none() || first.after_line_break || card_end == Some(window.start);
        let free_behind = group(window.end).is_none_or(|behind| {
            behind.after_line_break
                || self.is_expiry(behind)
                || self.valid_digits(&(window.end..window.end + 4)).is_some()
        });
        free_before && free_behind
    }

    /// Groups of up to three digits that are all alike, unlike their neighbours.
    fn is_spelled_out(&self, window: &Range<usize>) -> bool {
        let size = |at: usize| self.groups.get(at).map(|group| group.count);
        let Some(common @ 1..=3) = size(window.start) else {
            return false;
        };
        let last = window.end - 1;
        let alike = (window.start..last).all(|at| size(at) == Some(common));
        let ends = size(last) == Some(common)
            || (window.end == self.groups.len() && size(last) < Some(common));
        let before = window.start.checked_sub(1).and_then(size);
        alike && ends && before != Some(common) && size(window.end) != Some(common)
    }

    /// MMYY, or a year.
    fn is_expiry(&self, group: &Group) -> bool {
        let digits = self.digits.get(group.first..group.first + group.count);
        matches!(
            digits,
            Some([0, 1..=9, 2..=4, _] | [1, 0..=2, 2..=4, _] | [2, 0, 2..=4, _])
        )
    }

    fn redaction(&self, window: Range<usize>) -> (Range<usize>, String) {
        let groups = self.groups.get(window).unwrap_or_default();
        let start = groups.first().map_or(0, |group| group.span.start);
        let end = groups.last().map_or(start, |group| group.span.end);
        let digits: Vec<u8> = groups
            .iter()
            .flat_map(|group| self.digits.iter().skip(group.first).take(group.count))
            .copied()
            .collect();
        let hidden = digits.len().saturating_sub(10);
        let redacted = digits
            .iter()
            .enumerate()
            .map(|(at, digit)| match at {
                _ if (6..6 + hidden).contains(&at) => '*',
                _ => char::from(b'0' + digit),
            })
            .collect();
        (start..end, redacted)
    }
}

/// True when the groups look like a card: one piece, equal groups, or a known pattern. A line
/// break may also stand inside a group.
fn is_written_like_a_card(groups: &[Group], whole: bool) -> bool {
    let counts: Vec<usize> = groups.iter().map(|group| group.count).collect();
    if is_card_pattern(&counts, whole) {
        return true;
    }
    if !groups.iter().skip(1).any(|group| group.after_line_break) {
        return false;
    }
    let mut joined: Vec<usize> = Vec::with_capacity(groups.len());
    for (at, group) in groups.iter().enumerate() {
        match joined.last_mut() {
            Some(count) if at > 0 && group.after_line_break => *count += group.count,
            _ => joined.push(group.count),
        }
    }
    is_card_pattern(&joined, whole)
}

fn is_card_pattern(counts: &[usize], whole: bool) -> bool {
    match counts {
        [_] => true,
        // As printed: Visa and Mastercard, American Express, Diners, 19 digits, old Visa.
        [4, 4, 4, 1..=4] | [4, 4, 4, 4, 1..=3] | [4, 6, 4 | 5] | [6, 13] | [4, 3, 3, 3] => true,
        // The rest is too common in lists of numbers to be taken out of one.
        _ if !whole => false,
        [6, 7 | 9 | 10 | 12] | [4, 12] | [12, 4] | [8, 4, 4] | [4, 8, 4] | [4, 4, 8] => true,
        [5, 5, 5] | [4, 5, 5] | [4, 4, 5] | [4, 4, 4, 5..=7] | [6, 4, 4, 5] => true,
        [size, middle @ .., last] => {
            (1..=8).contains(size) && last <= size && middle.iter().all(|count| count == size)
        }
        [] => false,
    }
}

/// ISO/IEC 7812-1 annex B.
pub fn passes_luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(at, &digit)| match u32::from(digit) {
            digit if at % 2 == 0 => digit,
            digit if digit < 5 => digit * 2,
            digit => digit * 2 - 9,
        })
        .sum();
    sum.is_multiple_of(10)
}

fn has_card_word_before(text: &str, at: usize) -> bool {
    let mut from = at.saturating_sub(WORD_DISTANCE_BYTES);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    let Some(before) = text.get(from..at) else {
        return false;
    };
    let before = before.to_lowercase().replace('ã', "a");
    CARD_WORDS.iter().any(|word| before.contains(word))
}
