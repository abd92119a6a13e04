//! Finds signatures at the end of the writer's words: behind `-- `, the line a phone adds, contact
//! details under a bar.

use std::ops::Range;

use super::phrases::{CONTACT_SIGNS, DEVICE_SIGNATURES, DEVICES, OWN_DEVICE};
use super::{Line, Part, is_bar, mark as mark_lines};

/// Without the space of the standard `-- `, only a short block below it is a signature.
const LOOSE_LINES_MAX: usize = 10;
const BAR_LINES_MAX: usize = 8;
const LINE_CHARS_MAX: usize = 90;
const DEVICE_CHARS_MAX: usize = 110;

/// Marks the signatures among the lines that are the writer's own.
pub fn mark(lines: &[Line<'_>], parts: &mut [Part]) {
    for segment in own_segments(parts) {
        let Some(own) = lines.get(segment.clone()) else {
            continue;
        };
        let from = [delimiter(own), bar(own), device_line(own)];
        if let Some(from) = from.into_iter().flatten().min() {
            mark_lines(parts, segment.start + from..segment.end, Part::Signature);
        }
    }
}

fn own_segments(parts: &[Part]) -> Vec<Range<usize>> {
    let mut segments = Vec::new();
    let mut start = 0;
    for chunk in parts.chunk_by(|a, b| a == b) {
        if chunk.first() == Some(&Part::Own) {
            segments.push(start..start + chunk.len());
        }
        start += chunk.len();
    }
    segments
}

/// `-- ` on a line of its own (RFC 3676 4.3); many programs lose the space.
fn delimiter(own: &[Line<'_>]) -> Option<usize> {
    let is_delimiter = |line: &Line<'_>| matches!(line.text, "--" | "\u{2013}" | "\u{2014}");
    let from = own.iter().position(is_delimiter)?;
    let is_standard = |line: &Line<'_>| line.text == "--" && line.has_space_behind();
    let standard = own.get(from).is_some_and(is_standard);
    let alone = own.iter().filter(|line| is_delimiter(line)).count() == 1;
    let below = own.get(from + 1..).unwrap_or_default();
    (standard || (alone && is_short(below, LOOSE_LINES_MAX))).then_some(from)
}

impl Line<'_> {
    fn has_space_behind(&self) -> bool {
        self.span.len() > self.text.len()
    }
}

/// Contact details or a list's footer under a bar.
fn bar(own: &[Line<'_>]) -> Option<usize> {
    let is_low_bar = |text: &str| {
        let rule = |c: char| matches!(c, '_' | '\u{2013}'..='\u{2015}' | '\u{2500}');
        text.len() >= 2 && text.chars().all(rule)
    };
    let from = own.iter().rposition(|line| is_low_bar(line.text))?;
    let below = own.get(from + 1..).unwrap_or_default();
    let has_contact = below.iter().any(|line| {
        let lower = line.text.to_lowercase();
        CONTACT_SIGNS.iter().any(|sign| lower.contains(sign))
    });
    let apart = from
        .checked_sub(1)
        .and_then(|at| own.get(at))
        .is_none_or(Line::is_blank);
    (apart && has_contact && is_short(below, BAR_LINES_MAX)).then_some(from)
}

/// "Sent from my phone" as the last line, with the bars around it.
fn device_line(own: &[Line<'_>]) -> Option<usize> {
    let mut found = None;
    for (at, line) in own.iter().enumerate().rev() {
        if line.is_blank() || is_bar(line.text) {
            continue;
        }
        if !is_device_line(line.text) {
            break;
        }
        found = Some(at);
    }
    found
}

fn is_device_line(text: &str) -> bool {
    let bare = text
        .trim_matches(['(', ')', '[', ']', '*', '_', '<', '>'])
        .trim_start();
    let count = text.chars().count();
    if count > DEVICE_CHARS_MAX || text.ends_with(['?', '!', ',', ';']) {
        return false;
    }
    let lower = bare.to_lowercase();
    let words = lower.split_whitespace().count();
    let starts = |starts: &[&str]| starts.iter().any(|start| lower.starts_with(start));
    // "Von meinem Konto wurden 20 Euro abgebucht" and "sent with DHL" name no device.
    let named = DEVICES.iter().any(|device| lower.contains(device));
    words <= 14
        && !(text.ends_with('.') && words > 7)
        && ((starts(OWN_DEVICE) && words <= 9) || (starts(DEVICE_SIGNATURES) && named))
}

/// At most so many lines, none of them a paragraph.
fn is_short(below: &[Line<'_>], lines_max: usize) -> bool {
    let written = below.iter().filter(|line| !line.is_blank());
    written.clone().count() <= lines_max
        && written
            .into_iter()
            .all(|line| line.text.chars().count() <= LINE_CHARS_MAX)
}
