//! What full-text search takes words for: how a text is indexed, how a question is read, and which
//! piece of a text answers it. Pure.
//!
//! The index is SQLite's FTS5; what a word is, is decided here. Scripts that put no spaces between
//! words are given to it letter by letter and asked for as phrases, so that a word of any length is
//! found. Measured over 20,000 messages (8.7 MB of text, a tenth of it Chinese, Japanese and
//! Korean): this takes 5.4 MB and finds every word; `unicode61` alone 5.5 MB and no Chinese word
//! within a sentence; `trigram` 34.6 MB, three times the work, and no word of two letters, which
//! most Chinese ones are.
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HERE: Scope = Scope { brand: 1, queue: 2 };
    const THERE: Scope = Scope {
        brand: 1,
        queue: 23,
    };

    /// As asked of one scope, without what is the same in each.
    fn fts(text: &str) -> String {
        let query = match Query::parse(text) {
            Ok(query) => query.to_fts(&[HERE]).unwrap(),
            Err(error) => return error.to_string(),
        };
        let query = query.replace("1b2q", "").replace(" AND ", " ");
        query.trim_matches(['(', ')']).to_owned()
    }

    #[test]
    fn every_word_is_asked_for_in_each_scope_and_stands_in_one() {
        let query = Query::parse("\"money back\" ord*").unwrap();
        assert_eq!(
            query.to_fts(&[HERE, THERE]).unwrap(),
            "(\"1b2qmoney 1b2qback\" AND \"1b2qord\"*) OR (\"1b23qmoney 1b23qback\" AND \"1b23qord\"*)"
        );
        assert_eq!(query.to_fts(&[]), None);
        assert_eq!(
            indexed("Money-back, \u{9000}\u{6b3e}!", THERE),
            "1b23qmoney 1b23qback 1b23q\u{9000} 1b23q\u{6b3e} "
        );
    }

    #[test]
    fn what_is_written_in_pieces_or_in_another_form_is_the_same_word() {
        for (query, text) in [
            // As macOS writes names of files: NFD.
            ("\u{304b}\u{3099}", "\u{304c}"),
            (
                "\u{1112}\u{116a}\u{11ab}\u{1107}\u{116e}\u{11af}",
                "\u{d658}\u{bd88}",
            ),
            (
                "\u{d658}\u{bd88}",
                "\u{1112}\u{116a}\u{11ab}\u{1107}\u{116e}\u{11af}",
            ),
            ("R\u{fc}ckgabe", "RU\u{308}CKGABE"),
            ("STRASSE", "Stra\u{df}e"),
            ("\u{3c3}\u{3bf}\u{3c2}", "\u{3a3}\u{39f}\u{3a3}"),
            ("\u{130}zmir", "izmir"),
        ] {
            let asked = Query::parse(query).unwrap();
            assert!(asked.is_in(&[text]), "{query} in {text}");
            let there = Query::parse(text).unwrap().to_fts(&[HERE]);
            assert_eq!(asked.to_fts(&[HERE]), there, "{query}");
        }
        let two = Query::parse("ada parcel").unwrap();
        assert!(two.is_in(&["my parcel", "from Ada"]));
        assert!(!two.is_in(&["my parcel", "from Adam"]));
        assert!(
            !Query::parse("\"ada parcel\"")
                .unwrap()
                .is_in(&["parcel", "ada"])
        );
    }

    #[test]
    fn a_question_is_words_and_phrases_and_never_syntax() {
        for (text, expected) in [
            ("refund", "\"refund\""),
            ("where is  it", "\"where\" \"is\" \"it\""),
            ("\"money back\" please", "\"money back\" \"please\""),
            ("ord* A-1042", "\"ord\"* \"a 1042\""),
            ("\"lost par\"*", "\"lost par\"*"),
            ("ada@shop.example", "\"ada shop example\""),
            (
                "AND OR NOT (x) {y}: z^2 -w",
                "\"and\" \"or\" \"not\" \"x\" \"y\" \"z 2\" \"w\"",
            ),
            ("col:umn NEAR(a b)", "\"col umn\" \"near a\" \"b\""),
            ("\"open", "\"open\""),
            ("Rückerstattung", "\"ruckerstattung\""),
            ("\u{9000}\u{6b3e}", "\"\u{9000} \u{6b3e}\""),
            ("\u{9000}*", "\"\u{9000}\"*"),
            ("", "there is no word in it"),
            ("\"\" * -- !", "there is no word in it"),
            ("a*", "a word with * needs 2 letters before it"),
        ] {
            assert_eq!(fts(text), expected, "{text}");
        }
        assert_eq!(
            fts(&"x".repeat(QUERY_CHARS_MAX + 1)),
            QueryError::TooLong.to_string()
        );
        let many = "x ".repeat(QUERY_WORDS_MAX + 1);
        assert_eq!(fts(&many), QueryError::TooManyWords.to_string());
    }

    fn shown(query: &str, text: &str) -> Option<String> {
        let Snippet { text, matches } = Query::parse(query).unwrap().snippet(text)?;
        let units: Vec<u16> = text.encode_utf16().collect();
        let (mut marked, mut at) = (String::new(), 0);
        for (from, to) in matches {
            marked += &String::from_utf16(&units[at..from]).unwrap();
            marked += &format!("[{}]", String::from_utf16(&units[from..to]).unwrap());
            at = to;
        }
        marked += &String::from_utf16(&units[at..]).unwrap();
        Some(marked)
    }

    #[test]
    fn a_snippet_marks_what_was_asked_for_as_it_is_written() {
        for (query, text, expected) in [
            ("refund", "A Refund, please.", Some("A [Refund], please.")),
            (
                "ruck* straße",
                "R\u{fc}ckgabe,\nStra\u{df}e 5",
                Some("[R\u{fc}ckgabe], [Stra\u{df}e] 5"),
            ),
            (
                "cafe",
                "cafe\u{301} \u{1f600} cafe",
                Some("[cafe\u{301}] \u{1f600} [cafe]"),
            ),
            ("\"is it\"", "it is, is it?", Some("it is, [is it]?")),
            (
                "\u{9000}\u{6b3e}",
                "\u{8bf7}\u{9000}\u{6b3e}\u{5417}",
                Some("\u{8bf7}[\u{9000}\u{6b3e}]\u{5417}"),
            ),
            (
                "\u{d658}\u{bd88}",
                "\u{c8fc}\u{bb38}\u{d658}\u{bd88}\u{c744}",
                Some("\u{c8fc}\u{bb38}[\u{d658}\u{bd88}]\u{c744}"),
            ),
            ("refund", "nothing here", None),
        ] {
            assert_eq!(shown(query, text).as_deref(), expected, "{query}");
        }
        let long = format!("{} needle {}", "hay ".repeat(500), "straw ".repeat(500));
        let snippet = Query::parse("needle").unwrap().snippet(&long).unwrap();
        assert!(
            snippet.text.chars().count() <= SNIPPET_CHARS,
            "{}",
            snippet.text.len()
        );
        assert_eq!(
            snippet.matches,
            [(SNIPPET_BEFORE_CHARS, SNIPPET_BEFORE_CHARS + 6)]
        );
    }

    #[test]
    fn a_snippet_is_looked_for_in_the_beginning_of_a_long_text_only() {
        let needle = Query::parse("needle").unwrap();
        let after = |hay: usize| format!("{} needle", "\u{fc}".repeat(hay / 2));
        assert!(
            needle
                .snippet(&after(SNIPPET_TEXT_BYTES_MAX - 10))
                .is_some()
        );
        assert_eq!(needle.snippet(&after(SNIPPET_TEXT_BYTES_MAX)), None);
        assert_eq!(needle.snippet(&after(SNIPPET_TEXT_BYTES_MAX - 5)), None);
    }

    proptest! {
        #[test]
        fn whatever_is_asked_of_whatever_text_offsets_are_within_it(query in ".{0,60}", text in ".{0,400}") {
            if let Ok(query) = Query::parse(&query) {
                if let Some(snippet) = query.snippet(&text) {
                    let units = snippet.text.encode_utf16().count();
                    prop_assert!(snippet.matches.iter().all(|(from, to)| from < to && *to <= units));
                }
                let fts = query.to_fts(&[HERE]).unwrap();
                prop_assert!(fts.chars().filter(|c| *c == '"').count() % 2 == 0);
            }
            // The index takes words apart at ASCII that is no letter and no digit.
            let words = indexed(&text, HERE);
            prop_assert!(words.chars().all(|c| c == ' ' || !c.is_ascii() || c.is_ascii_alphanumeric()));
        }
    }
}
