//! Splits a mail's text into the writer's new words, what it quotes, and the signature.
//!
//! Losing a customer's words is worse than showing a quotation: what is not clearly quoted stays,
//! words between and below quoted lines stay, and an empty result means the whole text.

mod attribution;
mod phrases;
mod signature;

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// Text behind this many lines is kept as the writer's own without a look.
const LINES_MAX: usize = 20_000;

/// Which bytes of a text are what; white space around the parts belongs to none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// The writer's new words, in order; several parts when answers stand between quotations.
    pub own: Vec<Range<usize>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quoted: Vec<Range<usize>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signature: Vec<Range<usize>>,
}

impl Split {
    /// The writer's new words, parts joined by a blank line.
    pub fn visible(&self, text: &str) -> String {
        let parts: Vec<&str> = self
            .own
            .iter()
            .filter_map(|part| text.get(part.clone()))
            .collect();
        parts.join("\n\n")
    }

    /// True when the new words are the whole text.
    pub fn is_whole(&self) -> bool {
        self.quoted.is_empty() && self.signature.is_empty()
    }
}

/// What a line is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Own,
    Quoted,
    Signature,
}

struct Line<'a> {
    span: Range<usize>,
    /// Without white space around it.
    text: &'a str,
}

impl Line<'_> {
    fn is_blank(&self) -> bool {
        self.text.is_empty()
    }

    fn is_quoted(&self) -> bool {
        self.text.starts_with('>')
    }
}

/// Splits `text`, whose line ends are `\n`.
pub fn split(text: &str) -> Split {
    let whole = || Split {
        own: trimmed(text, 0..text.len()).into_iter().collect(),
        ..Split::default()
    };
    if !text.trim_end().contains('\n') {
        return whole();
    }
    let lines = lines(text);
    let mut parts = vec![Part::Own; lines.len()];
    mark_quotations(&lines, &mut parts);
    signature::mark(&lines, &mut parts);
    let split = collect(text, &lines, &parts);
    if split.own.is_empty() { whole() } else { split }
}

fn lines(text: &str) -> Vec<Line<'_>> {
    let mut start = 0;
    text.splitn(LINES_MAX, '\n')
        .map(|line| {
            let span = start..start + line.len();
            start = span.end + 1;
            Line {
                span,
                text: line.trim(),
            }
        })
        .collect()
}

fn mark_quotations(lines: &[Line<'_>], parts: &mut [Part]) {
    let mut headed = false;
    let mut at = 0;
    while let Some(line) = lines.get(at) {
        if line.is_quoted() {
            mark(parts, at..at + 1, Part::Quoted);
            at += 1;
            continue;
        }
        let Some(header) = attribution::header_at(lines, at) else {
            at += 1;
            continue;
        };
        headed = true;
        // Marked lines below a header say themselves how far the quotation goes.
        let next = lines
            .iter()
            .skip(at + header.lines)
            .find(|line| !line.is_blank());
        let marked = next.is_some_and(Line::is_quoted);
        if marked {
            mark(parts, at..at + header.lines, Part::Quoted);
            mark_bars_before(lines, parts, at);
            at += header.lines;
        } else if header.is_certain && (header.is_forward || has_own_words(lines, parts, at)) {
            mark(parts, at..lines.len(), Part::Quoted);
            mark_bars_before(lines, parts, at);
            return;
        } else {
            at += header.lines;
        }
    }
    let marked = lines.iter().filter(|line| line.is_quoted()).count();
    if marked == 1 && !headed {
        // One `>` is as likely an arrow or a sign as a quotation.
        for (line, part) in lines.iter().zip(parts.iter_mut()) {
            if line.is_quoted() && !line.text.starts_with("> ") {
                *part = Part::Own;
            }
        }
    }
    mark_wrapped_lines(lines, parts);
}

/// The rest of a quoted line that a mail program wrapped without repeating the mark.
fn mark_wrapped_lines(lines: &[Line<'_>], parts: &mut [Part]) {
    const WRAPPED_CHARS_MIN: usize = 70;
    for at in 1..lines.len().saturating_sub(1) {
        let (Some(before), Some(line), Some(after)) =
            (lines.get(at - 1), lines.get(at), lines.get(at + 1))
        else {
            return;
        };
        let wraps = before.is_quoted()
            && !line.is_quoted()
            && after.is_quoted()
            && before.text.chars().count() >= WRAPPED_CHARS_MIN
            && before.text.ends_with(char::is_alphanumeric)
            && line.text.starts_with(char::is_lowercase);
        if wraps {
            mark(parts, at..at + 1, Part::Quoted);
        }
    }
}

fn has_own_words(lines: &[Line<'_>], parts: &[Part], before: usize) -> bool {
    let own = |(line, part): (&Line<'_>, &Part)| {
        *part == Part::Own && line.text.contains(char::is_alphanumeric)
    };
    lines.iter().zip(parts).take(before).any(own) || has_emoji(lines, before)
}

/// An answer may be one emoji or `:+1:`.
fn has_emoji(lines: &[Line<'_>], before: usize) -> bool {
    let is_picture = |c: char| c >= '\u{2190}';
    lines
        .iter()
        .take(before)
        .any(|line| !line.is_quoted() && !is_bar(line.text) && line.text.contains(is_picture))
}

/// Bars and blank lines directly above a quotation belong to it.
fn mark_bars_before(lines: &[Line<'_>], parts: &mut [Part], at: usize) {
    for (line, part) in lines.iter().zip(parts.iter_mut()).take(at).rev() {
        if !line.is_blank() && !is_bar(line.text) {
            return;
        }
        *part = Part::Quoted;
    }
}

/// A line of dashes, underscores or the like.
fn is_bar(text: &str) -> bool {
    let is_mark = |c: char| {
        matches!(
            c,
            '-' | '_' | '=' | '*' | '\u{2010}'..='\u{2015}' | '\u{2500}'
        )
    };
    text.chars().filter(|c| is_mark(*c)).count() >= 3
        && text.chars().all(|c| is_mark(c) || c.is_whitespace())
}

fn mark(parts: &mut [Part], range: Range<usize>, part: Part) {
    if let Some(marked) = parts.get_mut(range) {
        marked.fill(part);
    }
}

fn collect(text: &str, lines: &[Line<'_>], parts: &[Part]) -> Split {
    let mut split = Split::default();
    let mut from = 0;
    for at in 1..=lines.len() {
        if at < lines.len() && parts.get(at) == parts.get(from) {
            continue;
        }
        let (Some(first), Some(last), Some(part)) =
            (lines.get(from), lines.get(at - 1), parts.get(from))
        else {
            break;
        };
        if let Some(range) = trimmed(text, first.span.start..last.span.end) {
            match part {
                Part::Own => split.own.push(range),
                Part::Quoted => split.quoted.push(range),
                Part::Signature => split.signature.push(range),
            }
        }
        from = at;
    }
    split
}

/// `range` without white space at its ends; none when nothing is left.
fn trimmed(text: &str, range: Range<usize>) -> Option<Range<usize>> {
    let part = text.get(range.clone())?;
    let start = range.start + (part.len() - part.trim_start().len());
    let end = range.start + part.trim_end().len();
    (start < end).then_some(start..end)
}

#[cfg(test)]
mod tests;
