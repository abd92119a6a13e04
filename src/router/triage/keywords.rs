//! Finds the phrases of the keyword tables in one pass and weighs them.

use std::collections::HashMap;

use super::fold::fold_phrase;
use super::{EVIDENCE_MAX, Label};

/// A phrase that decides alone weighs this much; a hint needs company.
const DECISIVE: u32 = 2;
/// How far the best intent must be ahead of the next.
const LEAD_MIN: u32 = 2;

/// What a phrase speaks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    Intent(&'static str),
    Urgent,
    Negative,
    Positive,
}

/// Phrases that speak for one sign. A `*` at the end of a phrase lets the word go on.
pub struct Table {
    pub sign: Sign,
    pub decisive: &'static [&'static str],
    pub hints: &'static [&'static str],
}

/// Keyword tables, compiled.
pub struct Keywords {
    phrases: Vec<Phrase>,
    begun: Beginnings,
}

struct Phrase {
    folded: String,
    shown: String,
    sign: Sign,
    weight: u32,
    /// The word may go on behind it.
    open: bool,
}

impl Keywords {
    /// Phrases begin with a letter or a digit and have at least four bytes when folded; others are
    /// never found.
    pub fn compile(tables: &[Table]) -> Self {
        let mut phrases = Vec::new();
        for table in tables {
            let decisive = table.decisive.iter().map(|words| (words, DECISIVE));
            for (words, weight) in decisive.chain(table.hints.iter().map(|words| (words, 1))) {
                let open = words.ends_with('*');
                let words = words.trim_end_matches('*');
                let phrase = |folded| Phrase {
                    folded,
                    shown: words.to_owned(),
                    sign: table.sign,
                    weight,
                    open,
                };
                phrases.extend(spellings(words).into_iter().map(phrase));
            }
        }
        let begun = Beginnings::of(&phrases);
        Self { phrases, begun }
    }

    /// The phrases in a folded text, whole words only, the longest where they overlap.
    pub fn find(&self, folded: &str) -> Found<'_> {
        let mut hits: Vec<Hit<'_>> = Vec::new();
        each_word(folded, |start| {
            let text = folded.split_at(start).1;
            let begun = self.begun.by(text).iter();
            for phrase in begun.filter_map(|place| self.phrases.get(*place)) {
                let Some(behind) = text.strip_prefix(phrase.folded.as_str()) else {
                    continue;
                };
                if phrase.open || !behind.starts_with(char::is_alphanumeric) {
                    let end = start + phrase.folded.len();
                    hits.push(Hit { start, end, phrase });
                }
            }
        });
        // A phrase inside a longer one has been said by it.
        let kept = hits
            .iter()
            .filter(|hit| !hits.iter().any(|other| other.contains(hit)));
        let mut phrases: Vec<&Phrase> = kept.map(|hit| hit.phrase).collect();
        let mut seen: Vec<&str> = Vec::new();
        phrases.retain(|phrase| {
            let first = !seen.contains(&phrase.shown.as_str());
            seen.push(&phrase.shown);
            first
        });
        Found { phrases }
    }
}

/// Phrases by the letters that they begin with. A text has hundreds of words and says few phrases:
/// almost every word is known by its beginning to begin none.
struct Beginnings {
    /// A bit for each hash of a beginning.
    some: Vec<u64>,
    /// Only phrases of ours are keys, so the hash need not withstand an attacker's choice.
    places: HashMap<u32, Vec<usize>, foldhash::fast::FixedState>,
}

/// Bits of a hash: few enough for a table that stays in the processor's cache.
const HASH_BITS: u32 = 14;

impl Beginnings {
    fn of(phrases: &[Phrase]) -> Self {
        let mut all = Self {
            some: vec![0; (1 << HASH_BITS) / 64],
            places: HashMap::default(),
        };
        for (place, phrase) in phrases.iter().enumerate() {
            let Some(beginning) = beginning(&phrase.folded) else {
                continue;
            };
            let (word, bit) = Self::bit(beginning);
            if let Some(bits) = all.some.get_mut(word) {
                *bits |= bit;
            }
            all.places.entry(beginning).or_default().push(place);
        }
        all
    }

    /// The places of phrases that begin as `text` does.
    fn by(&self, text: &str) -> &[usize] {
        let Some(beginning) = beginning(text) else {
            return &[];
        };
        let (word, bit) = Self::bit(beginning);
        if self.some.get(word).is_none_or(|bits| bits & bit == 0) {
            return &[];
        }
        self.places.get(&beginning).map_or(&[], Vec::as_slice)
    }

    /// Multiplied by 2^32 over the golden ratio, whose upper bits depend on all of the lower ones.
    fn bit(beginning: u32) -> (usize, u64) {
        let hash = beginning.wrapping_mul(0x9e37_79b1) >> (32 - HASH_BITS);
        (hash as usize / 64, 1 << (hash % 64))
    }
}

/// The first four bytes, as a number; phrases are not shorter when folded.
fn beginning(text: &str) -> Option<u32> {
    text.as_bytes()
        .first_chunk()
        .map(|bytes| u32::from_le_bytes(*bytes))
}

/// Calls `at` with the start of each word: where a letter or digit follows something else.
/// Starts are noted for a block of bytes without a branch for each: there is no guessing them.
fn each_word(text: &str, mut at: impl FnMut(usize)) {
    const BLOCK: usize = 64;
    let mut after_word = false;
    let mut block_start = 0;
    for block in text.as_bytes().chunks(BLOCK) {
        let mut starts = [0_u8; BLOCK];
        let mut count = 0;
        for (place, &byte) in (0_u8..).zip(block) {
            let is_word = match byte {
                0..=0x7f => byte.is_ascii_alphanumeric(),
                // The bytes of a letter after its first one.
                0x80..=0xbf => after_word,
                0xc0.. => text
                    .get(block_start + usize::from(place)..)
                    .is_some_and(|rest| rest.starts_with(char::is_alphanumeric)),
            };
            if let Some(start) = starts.get_mut(count) {
                *start = place;
            }
            count += usize::from(is_word & !after_word);
            after_word = is_word;
        }
        for start in starts.iter().take(count) {
            at(block_start + usize::from(*start));
        }
        block_start += block.len();
    }
}

/// The folded phrase, and its German spelling without umlauts.
fn spellings(words: &str) -> Vec<String> {
    let mut spellings = vec![fold_phrase(words)];
    if words.contains(['ä', 'ö', 'ü']) {
        let spelled = words
            .replace('ä', "ae")
            .replace('ö', "oe")
            .replace('ü', "ue");
        spellings.push(fold_phrase(&spelled));
    }
    spellings
}

struct Hit<'a> {
    start: usize,
    end: usize,
    phrase: &'a Phrase,
}

impl Hit<'_> {
    fn contains(&self, other: &Hit<'_>) -> bool {
        let longer = self.end - self.start > other.end - other.start;
        longer && self.start <= other.start && other.end <= self.end
    }
}

/// The phrases found in one message, each once.
pub struct Found<'a> {
    phrases: Vec<&'a Phrase>,
}

impl Found<'_> {
    /// The intent that is clearly ahead.
    pub fn intent(&self) -> Label {
        let mut scores: Vec<(&'static str, u32)> = Vec::new();
        for phrase in &self.phrases {
            let Sign::Intent(intent) = phrase.sign else {
                continue;
            };
            match scores.iter_mut().find(|(name, _)| *name == intent) {
                Some((_, score)) => *score += phrase.weight,
                None => scores.push((intent, phrase.weight)),
            }
        }
        scores.sort_by_key(|(_, score)| std::cmp::Reverse(*score));
        let Some((best, score)) = scores.first().copied() else {
            return Label::default();
        };
        let next = scores.get(1).map_or(0, |(_, score)| *score);
        if score < DECISIVE || score < next + LEAD_MIN {
            return Label::default();
        }
        let lead = u8::try_from((score - next).min(6)).unwrap_or(6);
        Label::new(best, 60 + lead * 5, self.evidence(Sign::Intent(best)))
    }

    pub fn urgency(&self) -> Label {
        match self.score(Sign::Urgent) {
            score if score >= DECISIVE => Label::new("high", 80, self.evidence(Sign::Urgent)),
            _ => Label::default(),
        }
    }

    pub fn sentiment(&self) -> Label {
        let (negative, positive) = (self.score(Sign::Negative), self.score(Sign::Positive));
        let (value, sign) = match negative.cmp(&positive) {
            std::cmp::Ordering::Greater if negative >= DECISIVE => ("negative", Sign::Negative),
            std::cmp::Ordering::Less if positive >= DECISIVE && negative == 0 => {
                ("positive", Sign::Positive)
            }
            _ => return Label::default(),
        };
        Label::new(value, 70, self.evidence(sign))
    }

    fn score(&self, sign: Sign) -> u32 {
        self.of(sign).map(|phrase| phrase.weight).sum()
    }

    fn evidence(&self, sign: Sign) -> Vec<String> {
        self.of(sign)
            .take(EVIDENCE_MAX)
            .map(|phrase| phrase.shown.clone())
            .collect()
    }

    fn of(&self, sign: Sign) -> impl Iterator<Item = &Phrase> {
        self.phrases
            .iter()
            .copied()
            .filter(move |phrase| phrase.sign == sign)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_phrase_of_ours_can_be_found() {
        let keywords = Keywords::builtin();
        for phrase in &keywords.phrases {
            let found = keywords.find(&phrase.folded);
            let said = |found: &&Phrase| found.shown == phrase.shown;
            assert!(found.phrases.iter().any(said), "{}", phrase.shown);
        }
    }

    /// Pieces of phrases, other letters and what stands between words.
    fn texts() -> impl Strategy<Value = String> {
        let phrases = Keywords::builtin().phrases.iter();
        let phrases: Vec<String> = phrases.map(|phrase| phrase.folded.clone()).collect();
        let piece = prop_oneof![
            4 => proptest::sample::select(phrases.clone()),
            2 => (proptest::sample::select(phrases), 0..12_usize).prop_map(|(phrase, at)| {
                phrase.split_at(phrase.floor_char_boundary(at)).1.to_owned()
            }),
            4 => proptest::sample::select(vec![" ", " ", ".", "€", "\u{2014}", "x", "7", "я", "語"])
                .prop_map(str::to_owned),
        ];
        proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn what_is_found_is_what_looking_for_each_phrase_alone_finds(text in texts()) {
            let keywords = Keywords::builtin();
            let is_word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
            let alone = |phrase: &Phrase| text.match_indices(&phrase.folded).any(|(start, _)| {
                let (before, rest) = text.split_at(start);
                let behind = rest.split_at(phrase.folded.len()).1;
                !is_word(before.chars().next_back())
                    && (phrase.open || !is_word(behind.chars().next()))
            });
            let found = keywords.find(&text);
            let said: Vec<&str> = found.phrases.iter().map(|phrase| phrase.shown.as_str()).collect();
            for phrase in keywords.phrases.iter().filter(|phrase| alone(phrase)) {
                // It, or a longer one that it is part of.
                let by_longer = said.iter().any(|said| fold_phrase(said).contains(&phrase.folded));
                prop_assert!(by_longer || said.contains(&phrase.shown.as_str()), "{}", phrase.shown);
            }
            for phrase in &found.phrases {
                prop_assert!(keywords.phrases.iter().any(|known| known.shown == phrase.shown && alone(known)));
            }
        }
    }
}
