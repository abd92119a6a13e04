//! What full-text search takes words for: how a text is indexed, how a question is read, and which
//! piece of a text answers it. Pure.
//!
//! The index is SQLite's FTS5; what a word is, is decided here. Scripts that put no spaces between
//! words are given to it letter by letter and asked for as phrases, so that a word of any length is
//! found. Measured over 20,000 messages (8.7 MB of text, a tenth of it Chinese, Japanese and Korean)
//! before words had scopes, which cost next to nothing: this took 5.4 MB and found every word;
//! `unicode61` alone 5.5 MB and no Chinese word within a sentence; `trigram` 34.6 MB, three times the
//! work, and no word of two letters, which most Chinese ones are.
//!
//! Every word stands in the index with the brand and the queue it was said in: a question reads
//! only what its asker may see, and takes no longer for what others wrote.

use std::borrow::Cow;
use std::fmt;

use icu_normalizer::{ComposingNormalizerBorrowed, DecomposingNormalizerBorrowed};

/// Longest question, in characters.
pub const QUERY_CHARS_MAX: usize = 200;
/// Words of a question: each is a walk through the index.
pub const QUERY_WORDS_MAX: usize = 32;
/// Letters before a `*`: fewer would match nearly everything.
pub const PREFIX_CHARS_MIN: usize = 2;
/// Bytes of a text that are indexed.
pub const TEXT_BYTES_MAX: usize = 256 * 1024;
/// Bytes of it that are looked through for a snippet: nearly all messages are shorter, and a page of
/// a hundred that are not takes some 30 ms.
pub const SNIPPET_TEXT_BYTES_MAX: usize = 16 * 1024;
/// Characters of a snippet, and of it before the first match.
const SNIPPET_CHARS: usize = 200;
const SNIPPET_BEFORE_CHARS: usize = 60;

/// The part of the index that the words of one brand's conversations in one queue are in; both by
/// the store's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Scope {
    pub brand: i64,
    pub queue: i64,
}

/// What each word of it begins with. No scope's words are the beginning of another's.
impl fmt::Display for Scope {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{}b{}q", self.brand, self.queue)
    }
}

/// A question: all of its terms must be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    terms: Vec<Term>,
}

/// Words that stand next to each other.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Term {
    words: Vec<String>,
    /// The last word is only the beginning of one.
    prefix: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    #[error("there is no word in it")]
    Empty,
    #[error("it may have {QUERY_CHARS_MAX} characters")]
    TooLong,
    #[error("it may have {QUERY_WORDS_MAX} words")]
    TooManyWords,
    #[error("a word with * needs {PREFIX_CHARS_MIN} letters before it")]
    ShortPrefix,
}

/// A piece of a text around what was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snippet {
    pub text: String,
    /// Begin and end of each match, in UTF-16 units as JavaScript counts.
    pub matches: Vec<(usize, usize)>,
}

impl Query {
    /// Reads a question as people write it: words, "phrases in quotes", begin* of words. Nothing in
    /// it is syntax of the index.
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        if text.chars().count() > QUERY_CHARS_MAX {
            return Err(QueryError::TooLong);
        }
        // As texts are: macOS decomposes what is pasted from file names.
        let text = &composed(text);
        let mut terms = Vec::new();
        for (at, part) in text.split('"').enumerate() {
            // Every other part is inside of quotes; a star right after them belongs to the phrase.
            let quoted = at % 2 == 1;
            let begins = match (quoted, part.strip_prefix('*')) {
                (false, Some(rest)) if at > 0 => {
                    let phrase: Option<&mut Term> = terms.last_mut();
                    if let Some(phrase) = phrase {
                        phrase.prefix = true;
                    }
                    rest
                }
                _ => part,
            };
            match quoted {
                true => terms.extend(Term::of(begins, false)),
                false => {
                    for word in begins.split_whitespace() {
                        let bare = word.strip_suffix('*');
                        terms.extend(Term::of(bare.unwrap_or(word), bare.is_some()));
                    }
                }
            }
        }
        let words: usize = terms.iter().map(|term| term.words.len()).sum();
        let short = |term: &Term| {
            let last = term.words.last();
            // A single letter of a script without spaces is a word.
            let chars = last.map_or(0, |word| word.chars().count());
            let single = last.is_some_and(|word| word.chars().any(is_unspaced));
            term.prefix && !single && term.words.len() == 1 && chars < PREFIX_CHARS_MIN
        };
        if terms.is_empty() {
            return Err(QueryError::Empty);
        }
        if words > QUERY_WORDS_MAX {
            return Err(QueryError::TooManyWords);
        }
        if terms.iter().any(short) {
            return Err(QueryError::ShortPrefix);
        }
        Ok(Self { terms })
    }

    /// The question in the index's own language, asked of some scopes; `None` where there are none.
    /// Words are in quotes and have letters and digits only.
    pub fn to_fts(&self, scopes: &[Scope]) -> Option<String> {
        let within = |scope: &Scope| {
            let terms = self.terms.iter().map(|term| {
                let words = term.words.iter().map(|word| format!("{scope}{word}"));
                let words = words.collect::<Vec<_>>().join(" ");
                let star = if term.prefix { "*" } else { "" };
                format!("\"{words}\"{star}")
            });
            format!("({})", terms.collect::<Vec<_>>().join(" AND "))
        };
        let all: Vec<_> = scopes.iter().map(within).collect();
        (!all.is_empty()).then(|| all.join(" OR "))
    }

    /// The same for PostgreSQL.
    #[cfg(feature = "postgres")]
    pub fn to_tsquery(&self, scopes: &[Scope]) -> Option<String> {
        let within = |scope: &Scope| {
            let terms = self.terms.iter().map(|term| {
                let last = term.words.len().saturating_sub(1);
                let words = term.words.iter().enumerate().map(|(at, word)| {
                    let star = if term.prefix && at == last { ":*" } else { "" };
                    format!("'{scope}{word}'{star}")
                });
                format!("({})", words.collect::<Vec<_>>().join(" <-> "))
            });
            format!("({})", terms.collect::<Vec<_>>().join(" & "))
        };
        let all: Vec<_> = scopes.iter().map(within).collect();
        (!all.is_empty()).then(|| all.join(" | "))
    }

    /// Whether texts have all that is asked for, each term in one of them: as the index finds it.
    pub fn is_in(&self, texts: &[&str]) -> bool {
        let texts: Vec<_> = texts
            .iter()
            .map(|text| composed(bounded(text, TEXT_BYTES_MAX)))
            .collect();
        let words: Vec<_> = texts.iter().map(|text| words_of(text)).collect();
        self.terms.iter().all(|term| {
            words.iter().any(|words| {
                let starts = 0..words.len();
                starts
                    .filter_map(|start| words.get(start..))
                    .any(|rest| term.at(rest).is_some())
            })
        })
    }

    /// The piece of `text` around the first thing that was asked for; `None` where nothing is in its
    /// first [`SNIPPET_TEXT_BYTES_MAX`].
    pub fn snippet(&self, text: &str) -> Option<Snippet> {
        let text = bounded(text, SNIPPET_TEXT_BYTES_MAX);
        let words = words_of(text);
        let mut found: Vec<(usize, usize)> = Vec::new();
        for start in 0..words.len() {
            let rest = words.get(start..).unwrap_or_default();
            let longest = self.terms.iter().filter_map(|term| term.at(rest)).max();
            if let (Some(count), Some(first)) = (longest, rest.first())
                && let Some(last) = rest.get(count - 1)
            {
                match found.last_mut() {
                    Some((_, end)) if *end >= first.start => *end = (*end).max(last.end),
                    _ => found.push((first.start, last.end)),
                }
            }
        }
        let (first, _) = *found.first()?;
        Some(cut(text, first, &found))
    }
}

impl Term {
    fn of(text: &str, prefix: bool) -> Option<Self> {
        let words: Vec<String> = words_of(text).into_iter().map(|word| word.folded).collect();
        (!words.is_empty()).then_some(Self { words, prefix })
    }

    /// How many of `words` it is, if it stands at their beginning.
    fn at(&self, words: &[Word]) -> Option<usize> {
        let beginning = words.get(..self.words.len())?;
        let (last, others) = self.words.split_last()?;
        let (last_there, others_there) = beginning.split_last()?;
        let same = others
            .iter()
            .zip(others_there)
            .all(|(wanted, there)| *wanted == there.folded);
        let ends = match self.prefix {
            true => last_there.folded.starts_with(last.as_str()),
            false => last_there.folded == *last,
        };
        (same && ends).then_some(self.words.len())
    }
}

/// A text as the index is to have it in a scope: its words, each behind the scope. The index takes
/// them apart at the spaces and changes nothing in them.
pub fn indexed(text: &str, scope: Scope) -> String {
    let text = composed(bounded(text, TEXT_BYTES_MAX));
    let scope = scope.to_string();
    let mut words = String::with_capacity(text.len() * 2);
    for word in words_of(&text) {
        words.extend([scope.as_str(), word.folded.as_str(), " "]);
    }
    words
}

/// Bytes of a vector: PostgreSQL takes less than a megabyte of them.
#[cfg(feature = "postgres")]
const VECTOR_BYTES_MAX: usize = 900 * 1024;
/// Places of words that PostgreSQL tells apart.
#[cfg(feature = "postgres")]
const PLACE_MAX: usize = 16_383;

/// Texts that were made for the index, as a vector of words with their places: words have letters and digits
/// only. No phrase goes from one text into the next.
#[cfg(feature = "postgres")]
pub fn vector(texts: &[&str]) -> String {
    use std::fmt::Write as _;

    let mut vector = String::new();
    let mut place = 1;
    for text in texts {
        for word in text.split(' ').filter(|word| !word.is_empty()) {
            if vector.len() + word.len() > VECTOR_BYTES_MAX {
                return vector;
            }
            // Writing to a string cannot fail.
            write!(vector, "'{word}':{} ", place.min(PLACE_MAX)).ok();
            place += 1;
        }
        place += 1;
    }
    vector
}

fn composed(text: &str) -> Cow<'_, str> {
    ComposingNormalizerBorrowed::new_nfc().normalize(text)
}

/// The beginning of a piece of text, for where no match is to be shown.
pub fn beginning(text: &str) -> Snippet {
    cut(bounded(text, SNIPPET_TEXT_BYTES_MAX), 0, &[])
}

fn bounded(text: &str, bytes_max: usize) -> &str {
    let end = text.floor_char_boundary(bytes_max);
    text.get(..end).unwrap_or(text)
}

struct Word {
    /// In bytes.
    start: usize,
    end: usize,
    folded: String,
}

/// Runs of letters and digits, without case and marks.
fn words_of(text: &str) -> Vec<Word> {
    let mut words: Vec<Word> = Vec::new();
    let mut begun: Option<usize> = None;
    let mut end_word = |begun: &mut Option<usize>, end: usize| {
        if let Some(start) = begun.take() {
            let folded = folded(text.get(start..end).unwrap_or_default());
            words.push(Word { start, end, folded });
        }
    };
    for (at, c) in text.char_indices() {
        if is_unspaced(c) {
            end_word(&mut begun, at);
            begun = Some(at);
            end_word(&mut begun, at + c.len_utf8());
        } else if c.is_alphanumeric() || is_mark(c) {
            begun.get_or_insert(at);
        } else {
            end_word(&mut begun, at);
        }
    }
    end_word(&mut begun, text.len());
    words.retain(|word| !word.folded.is_empty());
    words
}

fn folded(word: &str) -> String {
    if word.is_ascii() {
        return word.to_ascii_lowercase();
    }
    // Hangul would fall apart into its letters.
    if word.chars().any(is_unspaced) {
        return word.to_lowercase();
    }
    let apart = DecomposingNormalizerBorrowed::new_nfd().normalize(word);
    let letters = apart.chars().filter(|c| !is_mark(*c));
    // By way of capitals, which the forms of a letter share: those of sigma, sharp s and ss.
    let capitals = letters.flat_map(char::to_uppercase);
    capitals.flat_map(char::to_lowercase).collect()
}

/// The combining marks of Latin, Greek and Cyrillic.
fn is_mark(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36f}')
}

/// Letters of scripts that are written without spaces between words.
fn is_unspaced(c: char) -> bool {
    matches!(c,
        '\u{0e00}'..='\u{0eff}'       // Thai, Lao
        | '\u{1000}'..='\u{109f}'     // Myanmar
        | '\u{1780}'..='\u{17ff}'     // Khmer
        | '\u{3005}'..='\u{3007}'
        | '\u{3041}'..='\u{30ff}'     // Hiragana, Katakana
        | '\u{31f0}'..='\u{31ff}'
        | '\u{3400}'..='\u{4dbf}'     // Han
        | '\u{4e00}'..='\u{9fff}'
        | '\u{ac00}'..='\u{d7af}'     // Hangul, whose particles stick to their words
        | '\u{f900}'..='\u{faff}'
        | '\u{ff66}'..='\u{ff9f}'
        | '\u{20000}'..='\u{3ffff}'
    ) && c.is_alphanumeric()
}

fn cut(text: &str, first: usize, found: &[(usize, usize)]) -> Snippet {
    let (head, tail) = text.split_at(text.floor_char_boundary(first));
    let back = head.char_indices().rev().take(SNIPPET_BEFORE_CHARS);
    let start = back.last().map_or(head.len(), |(at, _)| at);
    let before = head.len() - start;
    let mut ahead = tail
        .char_indices()
        .skip(SNIPPET_CHARS - before.min(SNIPPET_CHARS / 2));
    let end = ahead.next().map_or(text.len(), |(at, _)| head.len() + at);
    let units = |until: usize| {
        let piece = text.get(start..until).unwrap_or_default();
        piece.chars().map(char::len_utf16).sum::<usize>()
    };
    let inside = found
        .iter()
        .filter(|(from, to)| *from >= start && *to <= end);
    let piece = text.get(start..end).unwrap_or_default();
    // One character for one: offsets stay.
    let flat = |c: char| {
        if c.is_control() && c.len_utf16() == 1 {
            ' '
        } else {
            c
        }
    };
    Snippet {
        text: piece.chars().map(flat).collect(),
        matches: inside
            .map(|(from, to)| (units(*from), units(*to)))
            .collect(),
    }
}

#[cfg(test)]
mod tests;
