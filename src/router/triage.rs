//! Labels a message from what it says: language, intent, urgency, sentiment, spam, automatic.
//! Pure, and modest: a label that is not clear is `unknown`, because a wrong intent splits a
//! conversation in two and a missing one does not. Every label names its evidence.

mod fold;
mod keywords;
mod language;
mod tables;

use std::borrow::Cow;
use std::sync::LazyLock;

use connector_api::{Automatic, InboundMessage};
use serde::{Deserialize, Serialize};

pub use keywords::Keywords;
pub use tables::INTENTS;

/// What a label says when nothing is clear enough.
pub const UNKNOWN: &str = "unknown";
/// Only so much of a text is read; what a message is about stands at its start.
pub const TEXT_BYTES_MAX: usize = 2_000;
const EVIDENCE_MAX: usize = 4;

/// What triage reads of a message.
#[derive(Debug, Clone, Copy, Default)]
pub struct TriageInput<'a> {
    pub subject: Option<&'a str>,
    /// The customer's new words, without quotations and signature.
    pub text: &'a str,
    pub automatic: Option<Automatic>,
    /// What the provider or the mail's own filter said about spam.
    pub provider_spam: Option<bool>,
}

/// The labels of one message. Stored with every message, so `unknown` ones are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Labels {
    #[serde(skip_serializing_if = "Label::is_unknown")]
    pub language: Label,
    #[serde(skip_serializing_if = "Label::is_unknown")]
    pub intent: Label,
    #[serde(skip_serializing_if = "Label::is_unknown")]
    pub urgency: Label,
    #[serde(skip_serializing_if = "Label::is_unknown")]
    pub sentiment: Label,
    #[serde(skip_serializing_if = "Label::is_unknown")]
    pub spam: Label,
    #[serde(skip_serializing_if = "Label::is_unknown")]
    pub automatic: Label,
}

impl Labels {
    /// The labels by name, in a fixed order.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Label)> {
        [
            ("language", &self.language),
            ("intent", &self.intent),
            ("urgency", &self.urgency),
            ("sentiment", &self.sentiment),
            ("spam", &self.spam),
            ("automatic", &self.automatic),
        ]
        .into_iter()
    }

    /// The label called `name`.
    pub fn get(&self, name: &str) -> Option<&Label> {
        self.iter()
            .find(|(found, _)| *found == name)
            .map(|(_, label)| label)
    }

    /// Whether a condition such as `urgency:high` holds.
    pub fn has(&self, condition: &str) -> bool {
        condition
            .split_once(':')
            .and_then(|(name, value)| Some(self.get(name)?.value == value))
            .unwrap_or(false)
    }

    pub fn known_intent(&self) -> Option<&str> {
        self.intent.known()
    }

    pub fn known_language(&self) -> Option<&str> {
        self.language.known()
    }

    pub fn is_spam(&self) -> bool {
        self.spam.value == "yes"
    }
}

/// One label, with how sure it is and why. As JSON: `["refund", 90, ["money back"]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Compact", into = "Compact")]
pub struct Label {
    pub value: Cow<'static, str>,
    /// Per cent.
    pub confidence: u8,
    /// The words or facts it rests on.
    pub evidence: Vec<String>,
}

impl Label {
    pub fn new(value: impl Into<Cow<'static, str>>, confidence: u8, evidence: Vec<String>) -> Self {
        Self {
            value: value.into(),
            confidence,
            evidence,
        }
    }

    pub fn known(&self) -> Option<&str> {
        (!self.is_unknown()).then_some(&*self.value)
    }

    pub fn is_unknown(&self) -> bool {
        self.value == UNKNOWN
    }
}

impl Default for Label {
    fn default() -> Self {
        Self::new(UNKNOWN, 0, Vec::new())
    }
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Compact {
    Explained(Cow<'static, str>, u8, Vec<String>),
    Bare(Cow<'static, str>, u8),
}

impl From<Label> for Compact {
    fn from(label: Label) -> Self {
        match label.evidence.is_empty() {
            true => Self::Bare(label.value, label.confidence),
            false => Self::Explained(label.value, label.confidence, label.evidence),
        }
    }
}

impl From<Compact> for Label {
    fn from(compact: Compact) -> Self {
        match compact {
            Compact::Explained(value, confidence, evidence) => {
                Self::new(value, confidence, evidence)
            }
            Compact::Bare(value, confidence) => Self::new(value, confidence, Vec::new()),
        }
    }
}

/// Labels a message with the built-in keyword tables.
pub fn triage(message: &InboundMessage, automatic: Option<Automatic>) -> Labels {
    let input = TriageInput {
        subject: message.subject.as_deref(),
        text: &message.text,
        automatic,
        provider_spam: None,
    };
    classify(&input, Keywords::builtin())
}

/// Labels a message.
pub fn classify(input: &TriageInput<'_>, keywords: &Keywords) -> Labels {
    let folded = fold::fold(input.subject.unwrap_or_default(), input.text);
    let found = keywords.find(&folded);
    Labels {
        language: language::detect(input.subject.unwrap_or_default(), input.text),
        intent: found.intent(),
        urgency: found.urgency(),
        sentiment: found.sentiment(),
        spam: spam(input),
        automatic: automatic(input.automatic),
    }
}

impl Keywords {
    /// The tables that come with the daemon, compiled once.
    pub fn builtin() -> &'static Self {
        static BUILTIN: LazyLock<Keywords> = LazyLock::new(|| Keywords::compile(tables::ALL));
        &BUILTIN
    }
}

/// Only what the provider's own filter said counts; words alone condemn nobody.
fn spam(input: &TriageInput<'_>) -> Label {
    match input.provider_spam {
        Some(true) => Label::new("yes", 90, vec!["provider".to_owned()]),
        Some(false) => Label::new("no", 90, vec!["provider".to_owned()]),
        None => Label::default(),
    }
}

fn automatic(automatic: Option<Automatic>) -> Label {
    let kind = match automatic {
        None => return Label::new("no", 100, Vec::new()),
        Some(Automatic::AutoReply) => "auto_reply",
        Some(Automatic::Bounce) => "bounce",
        Some(Automatic::FeedbackReport) => "feedback_report",
        Some(Automatic::ReadReceipt) => "read_receipt",
        Some(Automatic::Bulk) => "bulk",
        Some(Automatic::Loop) => "loop",
        Some(_) => "generated",
    };
    Label::new("yes", 100, vec![kind.to_owned()])
}

#[cfg(test)]
mod tests;
