//! Finds the phrases of the keyword tables in one pass and weighs them.

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};

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
    automaton: AhoCorasick,
    phrases: Vec<Phrase>,
}

struct Phrase {
    shown: String,
    sign: Sign,
    weight: u32,
    /// The word may go on behind it.
    open: bool,
}

impl Keywords {
    pub fn compile(tables: &[Table]) -> Self {
        let mut patterns: Vec<String> = Vec::new();
        let mut phrases = Vec::new();
        for table in tables {
            let decisive = table.decisive.iter().map(|words| (words, DECISIVE));
            for (words, weight) in decisive.chain(table.hints.iter().map(|words| (words, 1))) {
                let open = words.ends_with('*');
                let words = words.trim_end_matches('*');
                for pattern in spellings(words) {
                    patterns.push(pattern);
                    phrases.push(Phrase {
                        shown: words.to_owned(),
                        sign: table.sign,
                        weight,
                        open,
                    });
                }
            }
        }
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::Standard)
            // Two megabytes instead of a tenth of one, for a third of the time per message.
            .kind(Some(AhoCorasickKind::DFA))
            .build(&patterns)
            .expect("the tables are far below the size an automaton can have");
        Self { automaton, phrases }
    }

    /// The phrases in a folded text, whole words only, the longest where they overlap.
    pub fn find(&self, folded: &str) -> Found<'_> {
        let mut hits: Vec<Hit<'_>> = Vec::new();
        for found in self.automaton.find_overlapping_iter(folded) {
            let Some(phrase) = self.phrases.get(found.pattern().as_usize()) else {
                continue;
            };
            let is_word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
            let before = folded
                .get(..found.start())
                .and_then(|text| text.chars().next_back());
            let behind = folded
                .get(found.end()..)
                .and_then(|text| text.chars().next());
            if !is_word(before) && (phrase.open || !is_word(behind)) {
                hits.push(Hit {
                    start: found.start(),
                    end: found.end(),
                    phrase,
                });
            }
        }
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
