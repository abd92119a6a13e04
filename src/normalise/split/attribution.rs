//! Recognises the lines that introduce a quotation: "On … wrote:", blocks of From, Sent, To and
//! Subject, "Original Message" and forwarding lines, in the languages mail programs speak.

use super::Line;
use super::phrases::{FORWARDS, LABELS, LEADS, Label, ORIGINALS, VERBS};

/// Longest "On … wrote:", and over how many lines it is wrapped.
const ATTRIBUTION_BYTES_MAX: usize = 400;
const ATTRIBUTION_LINES_MAX: usize = 4;
/// Where the date starts at the latest in an introduction that starts with no known word.
const DATE_STARTS_WITHIN_CHARS: usize = 30;
/// An introduction without a mail address is short; a sentence that ends in "wrote:" is not.
const WORDS_WITHOUT_ADDRESS_MAX: usize = 14;
/// Longest first word of an introduction.
const LEAD_BYTES_MAX: usize = 12;
/// Longest name of a header line, in characters.
const LABEL_CHARS_MAX: usize = 30;
/// Lines of a header block, wrapped ones included.
const BLOCK_LINES_MAX: usize = 16;

/// Lines that introduce a quotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub lines: usize,
    /// Enough to take unmarked text below it for a quotation.
    pub is_certain: bool,
    pub is_forward: bool,
}

/// The header that starts at line `at`.
pub fn header_at(lines: &[Line<'_>], at: usize) -> Option<Header> {
    let line = lines.get(at).filter(|line| !line.is_blank())?;
    if let Some(is_forward) = separator(line.text) {
        return Some(Header {
            lines: 1,
            is_certain: true,
            is_forward,
        });
    }
    if let Some(count) = block_at(lines, at) {
        return Some(Header {
            lines: count,
            is_certain: true,
            is_forward: false,
        });
    }
    attribution_at(lines, at)
}

/// "-----Original Message-----" and its like; true for a forward.
fn separator(text: &str) -> Option<bool> {
    let is_rule = |c: char| matches!(c, '-' | '_' | '=' | '*' | '\u{2010}'..='\u{2015}' | '>');
    let inner = text.trim_matches(|c: char| is_rule(c) || c.is_whitespace());
    if inner.is_empty() || inner.len() > 80 {
        return None;
    }
    let rules = text.chars().filter(|c| is_rule(*c)).count()
        - inner.chars().filter(|c| is_rule(*c)).count();
    let inner = inner.trim_end_matches(':').trim_end().to_lowercase();
    let is_one_of = |phrases: &[&str]| phrases.contains(&inner.as_str());
    if is_one_of(FORWARDS) && (rules >= 2 || text.ends_with(':')) {
        return Some(true);
    }
    (rules >= 2 && is_one_of(ORIGINALS)).then_some(false)
}

/// The length of a block of at least three labelled lines with an address among them, or of four.
fn block_at(lines: &[Line<'_>], at: usize) -> Option<usize> {
    label(lines.get(at)?.text)?;
    let mut seen: Vec<Label> = Vec::new();
    let mut has_address = false;
    let mut unlabelled = 0;
    let mut count = 0;
    for line in lines.iter().skip(at).take(BLOCK_LINES_MAX) {
        if line.is_blank() || line.is_quoted() {
            break;
        }
        match label(line.text) {
            Some(found) if seen.contains(&found) && found != Label::Copy => break,
            Some(found) => {
                seen.push(found);
                unlabelled = 0;
            }
            // A long list of recipients goes on in the next line.
            None if unlabelled < 2 => unlabelled += 1,
            None => break,
        }
        has_address |= line.text.contains('@');
        count += 1;
    }
    let has = |wanted| seen.contains(&wanted);
    let complete = has(Label::From) && has(Label::Date) && has(Label::Subject);
    let addressed = has(Label::From) && has_address && seen.len() >= 3;
    let folded = has(Label::From) && has(Label::Date) && seen.len() == 2 && has_address;
    let is_block = (complete && (has_address || has(Label::To))) || addressed || folded;
    // Lines behind the last label belong to the text, unless they are an address gone over the edge.
    is_block.then(|| {
        let wrapped = lines
            .get(at + count - unlabelled..at + count)
            .unwrap_or_default();
        let kept = wrapped
            .iter()
            .take_while(|line| line.text.starts_with('<') || line.text.contains('@'));
        count - unlabelled + kept.count()
    })
}

fn label(text: &str) -> Option<Label> {
    let text =
        text.trim_start_matches(|c: char| matches!(c, '*' | '_' | '|' | '#') || c.is_whitespace());
    let (name, _) = text
        .char_indices()
        .take(LABEL_CHARS_MAX)
        .find(|(_, c)| matches!(c, ':' | '：'))
        .and_then(|(at, _)| text.split_at_checked(at))?;
    let name = name
        .trim_end_matches(|c: char| c == '*' || c.is_whitespace())
        .to_lowercase();
    LABELS
        .iter()
        .find(|(names, _)| names.contains(&name.as_str()))
        .map(|(_, label)| *label)
}

/// "On … wrote:", over as few lines as possible, so that it does not swallow the writer's line
/// above it.
fn attribution_at(lines: &[Line<'_>], at: usize) -> Option<Header> {
    if !may_start(lines.get(at)?.text) {
        return None;
    }
    for count in 1..=ATTRIBUTION_LINES_MAX {
        let line = lines.get(at + count - 1)?;
        if line.is_blank() || line.is_quoted_text(count) {
            return None;
        }
        let candidate = lines.get(at..at + count)?;
        if let Some(is_certain) = introduction(candidate) {
            let starts_later = (1..count).filter_map(|from| candidate.get(from..));
            let mut later = starts_later
                .filter(|later| later.first().is_some_and(|first| may_start(first.text)));
            if later.any(|later| introduction(later).is_some()) {
                return None;
            }
            return Some(Header {
                lines: count,
                is_certain,
                is_forward: false,
            });
        }
    }
    None
}

/// Says whether these lines together introduce a quotation, and whether they do so for certain.
fn introduction(lines: &[Line<'_>]) -> Option<bool> {
    let length: usize = lines.iter().map(|line| line.text.len() + 1).sum();
    if length > ATTRIBUTION_BYTES_MAX {
        return None;
    }
    let words = lines
        .iter()
        .map(|line| line.text.trim_start_matches(['>', ' ']));
    introduces(&words.collect::<Vec<_>>().join(" "))
}

impl Line<'_> {
    /// Mail programs wrap "<ada@shop.example>" so that `>:` starts the second line.
    fn is_quoted_text(&self, count: usize) -> bool {
        self.is_quoted() && !(count > 1 && matches!(self.text, ">:" | "> :"))
    }
}

/// The cheap look at a line: a known first word, an early digit, or "Ada <address> wrote".
fn may_start(text: &str) -> bool {
    if text.len() > ATTRIBUTION_BYTES_MAX {
        return false;
    }
    let text = text.trim_start_matches(['-', '*', '_', ' ', '>']);
    let early_digit = text
        .chars()
        .take(DATE_STARTS_WITHIN_CHARS)
        .any(|c| c.is_ascii_digit());
    let names = || text.contains('@') || text.ends_with(':');
    early_digit || starts_with_lead(text) || (names() && has_verb(&text.to_lowercase()))
}

fn has_verb(lower: &str) -> bool {
    VERBS.iter().any(|verb| contains_word(lower, verb))
}

fn starts_with_lead(text: &str) -> bool {
    let first = text.split([' ', ',']).next().unwrap_or_default();
    if first.len() > LEAD_BYTES_MAX {
        return false;
    }
    let lower: String = text
        .chars()
        .take(LEAD_BYTES_MAX)
        .flat_map(char::to_lowercase)
        .collect();
    LEADS.iter().any(|lead| {
        lower
            .strip_prefix(lead)
            .is_some_and(|rest| rest.starts_with([' ', ',']))
    })
}

/// Says whether a joined line introduces a quotation, and whether it does so for certain.
fn introduces(joined: &str) -> Option<bool> {
    let bare = joined.trim_end_matches(['-', ' ', '*']);
    let ruled = joined.starts_with("--") && joined.ends_with("--");
    let ends = bare.ends_with([':', '：']) || ruled;
    if !ends || !joined.contains(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let lower = bare.to_lowercase();
    let has_address = lower.contains('@');
    let dated = has_clock(&lower) || has_year(&lower);
    if !has_verb(&lower) {
        // Yandex and others write the date, the name and the address only.
        let bare = lower.trim_end_matches([':', '：', ' ']);
        return (has_address && dated && bare.ends_with('>')).then_some(true);
    }
    if has_address {
        return Some(true);
    }
    let words = lower.split_whitespace().count();
    let personal = [" i ", " ich ", " je ", " j'ai ", " ik ", " io "]
        .iter()
        .any(|word| lower.contains(word));
    if words > WORDS_WITHOUT_ADDRESS_MAX || personal {
        return None;
    }
    Some(dated)
}

fn contains_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, found)| {
        let before = text.get(..at).and_then(|before| before.chars().next_back());
        let behind = text
            .get(at + found.len()..)
            .and_then(|behind| behind.chars().next());
        // "<ada@shop.example>wrote:" is written without a space.
        let is_letter = |c: Option<char>| c.is_some_and(char::is_alphabetic);
        !word.is_ascii() || (!is_letter(before) && !is_letter(behind))
    })
}

/// 9:41, 17.50, 10h30.
fn has_clock(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.windows(4).any(|window| {
        matches!(window, [hour, b':' | b'.' | b'h', tens, ones]
            if hour.is_ascii_digit() && matches!(tens, b'0'..=b'5') && ones.is_ascii_digit())
    })
}

fn has_year(text: &str) -> bool {
    text.split(|c: char| !c.is_ascii_digit())
        .any(|number| number.len() == 4 && (number.starts_with("19") || number.starts_with("20")))
}
