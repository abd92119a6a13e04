//! Makes text safe to store, index and show: line ends, control and invisible characters, Unicode
//! form, length. What was taken away is counted, so that the event can say so.

use connector_api::Defect;
use icu_normalizer::ComposingNormalizerBorrowed;

/// How line breaks are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lines {
    Kept,
    /// For subjects and names: a line break becomes a space.
    Joined,
}

/// What cleaning took away, over all fields of one event.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Removed {
    pub control: usize,
    pub bidi: usize,
    pub invisible: usize,
    /// Fields that were longer than their bound.
    pub cut: Vec<&'static str>,
}

impl Removed {
    pub fn defects(&self) -> Vec<Defect> {
        let counted = [
            ("control_characters_removed", self.control),
            ("bidi_controls_removed", self.bidi),
            ("invisible_characters_removed", self.invisible),
        ];
        let mut defects: Vec<Defect> = counted
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(code, count)| Defect::new(code, count.to_string()))
            .collect();
        if !self.cut.is_empty() {
            defects.push(Defect::new("text_cut", self.cut.join(", ")));
        }
        defects
    }
}

/// Cleans `text` in place and cuts it at `chars_max` characters; `field` names it in the defect.
pub fn clean(
    text: &mut String,
    lines: Lines,
    chars_max: usize,
    field: &'static str,
    removed: &mut Removed,
) {
    if !is_plain(text.as_bytes(), lines) {
        *text = rebuild(text, lines, removed);
    }
    if text.len() > chars_max
        && let Some((cut_at, _)) = text.char_indices().nth(chars_max)
    {
        text.truncate(cut_at);
        removed.cut.push(field);
    }
}

/// True when nothing needs to be done, which is most text: no control character, and no letter
/// that could be invisible or not composed.
fn is_plain(bytes: &[u8], lines: Lines) -> bool {
    // Without early exit inside a chunk, so that the compiler checks many bytes at once.
    let unusual = |byte: u8| {
        let control = byte < 0x20 && (lines == Lines::Joined || (byte != b'\n' && byte != b'\t'));
        control || byte >= 0x7f
    };
    let mut rest = bytes;
    loop {
        let plain = rest.chunks(32).take_while(|chunk| {
            !chunk
                .iter()
                .fold(false, |found, &byte| found | unusual(byte))
        });
        let length: usize = plain.map(<[u8]>::len).sum();
        let left = rest.split_at(length).1;
        if left.is_empty() {
            return true;
        }
        let Some(after) = after_plain_unicode(left, lines) else {
            return false;
        };
        rest = after;
    }
}

/// What follows the first 32 bytes or more of plain text, with letters beyond ASCII known by their
/// UTF-8 bytes; in doubt none.
fn after_plain_unicode(bytes: &[u8], lines: Lines) -> Option<&[u8]> {
    let mut rest = bytes;
    while bytes.len() - rest.len() < 32 {
        rest = match rest {
            [] => return Some(rest),
            [b'\n' | b'\t', rest @ ..] if lines == Lines::Kept => rest,
            [0x20..=0x7e, rest @ ..] => rest,
            // U+00A0 to U+00BF, without the soft hyphen.
            [0xc2, 0xa0..=0xac | 0xae..=0xbf, rest @ ..] => rest,
            // Latin letters, then Greek and Cyrillic without their combining marks.
            [0xc3..=0xcb | 0xce..=0xd1, _, rest @ ..] => rest,
            // Punctuation without invisible characters, and the euro sign.
            [0xe2, 0x80, 0x90..=0xa7 | 0xaf..=0xbf, rest @ ..] => rest,
            [0xe2, 0x82, _, rest @ ..] => rest,
            // Ideographs and Hangul syllables.
            [0xe4..=0xe9 | 0xeb..=0xec, _, _, rest @ ..] => rest,
            // Most emoji.
            [0xf0, 0x9f, 0x98..=0x99 | 0xa4..=0xa7, _, rest @ ..] => rest,
            _ => return None,
        };
    }
    Some(rest)
}

fn rebuild(text: &str, lines: Lines, removed: &mut Removed) -> String {
    let line_end = if lines == Lines::Kept { '\n' } else { ' ' };
    let mut out = String::with_capacity(text.len());
    let mut may_compose = false;
    let mut chars = text.chars().peekable();
    let mut before = '\0';
    while let Some(c) = chars.next() {
        match c {
            '\r' => {
                if chars.peek() == Some(&'\n') {
                    continue;
                }
                out.push(line_end);
            }
            '\n' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}' => out.push(line_end),
            '\t' if lines == Lines::Joined => out.push(' '),
            '\t' => out.push('\t'),
            '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' => removed.control += 1,
            // Overrides, embeddings and isolates reorder what follows them.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => removed.bidi += 1,
            // Marks and soft hyphens are common in honest text and change nothing that is read.
            '\u{ad}' | '\u{61c}' | '\u{200e}' | '\u{200f}' => {}
            // Joiners carry meaning inside emoji and in Persian or Indic words.
            '\u{200c}' | '\u{200d}' if joins(before, chars.peek().copied()) => out.push(c),
            '\u{180e}' | '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{2064}' => {
                removed.invisible += 1;
            }
            // A byte order mark at the start is a leftover of the encoding.
            '\u{feff}' if out.is_empty() => {}
            '\u{feff}' | '\u{fff9}'..='\u{fffb}' => removed.invisible += 1,
            // Tags spell the flags of England, Scotland and Wales; elsewhere they hide text.
            '\u{e0000}'..='\u{e007f}'
                if !matches!(before, '\u{1f3f4}' | '\u{e0000}'..='\u{e007f}') =>
            {
                removed.invisible += 1;
                continue;
            }
            _ => {
                may_compose |= c >= '\u{300}';
                out.push(c);
            }
        }
        before = c;
    }
    if may_compose {
        let composed = ComposingNormalizerBorrowed::new_nfc().normalize(&out);
        if composed != out {
            return composed.into_owned();
        }
    }
    out
}

fn joins(before: char, after: Option<char>) -> bool {
    let joinable = |c: char| c >= '\u{600}' && !c.is_whitespace();
    joinable(before) && after.is_some_and(joinable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(input: &str, lines: Lines, expected: &str, codes: &[&str]) {
        let mut removed = Removed::default();
        let mut text = input.to_owned();
        clean(&mut text, lines, 40, "text", &mut removed);
        assert_eq!(text, expected, "{input:?}");
        let found: Vec<String> = removed.defects().into_iter().map(|d| d.code).collect();
        assert_eq!(found, codes, "{input:?}");
    }

    #[test]
    fn text_is_made_safe_to_store_and_says_what_was_taken_away() {
        use Lines::{Joined, Kept};
        check("plain\ttext\n", Kept, "plain\ttext\n", &[]);
        check("a\r\nb\rc\u{2028}d", Kept, "a\nb\nc\nd", &[]);
        check("Re:\r\n hello\tyou", Joined, "Re:  hello you", &[]);
        check(
            "a\0b\u{1b}[0m\u{9c}",
            Kept,
            "ab[0m",
            &["control_characters_removed"],
        );
        check(
            "pay \u{202e}000,1\u{202c} now",
            Kept,
            "pay 000,1 now",
            &["bidi_controls_removed"],
        );
        check(
            "re\u{200b}fund",
            Kept,
            "refund",
            &["invisible_characters_removed"],
        );
        check("\u{feff}hi", Kept, "hi", &[]);
        check(
            "hid\u{e0041}den",
            Kept,
            "hidden",
            &["invisible_characters_removed"],
        );
        check("Gru\u{308}\u{df}e", Kept, "Grüße", &[]);
        check("שלום \u{200f}123", Kept, "שלום 123", &[]);
    }

    #[test]
    fn joiners_that_carry_meaning_stay() {
        for kept in [
            "👨\u{200d}👩\u{200d}👧",
            "می\u{200c}خواهم",
            "🏴\u{e0067}\u{e0062}\u{e007f}",
        ] {
            check(kept, Lines::Kept, kept, &[]);
        }
    }

    #[test]
    fn long_text_is_cut_between_characters_and_flagged() {
        check(&"ä".repeat(41), Lines::Kept, &"ä".repeat(40), &["text_cut"]);
        check(&"ä".repeat(40), Lines::Kept, &"ä".repeat(40), &[]);
    }
}
