//! Which queue a conversation waits in: ordered rules, first match wins, else the channel's queue.

use connector_api::{InboundMessage, QueueId};

use crate::conversation::{Priority, Status};

use super::explain::QueueWhy;
use super::policy::{Policy, Rule};
use super::{Prepared, test_token};

/// The outcome of the rules for one message.
#[derive(Debug, Clone, PartialEq)]
pub struct Routing {
    pub queue: QueueId,
    pub priority: Priority,
    pub tags: Vec<String>,
    pub rule: Option<String>,
}

impl Routing {
    pub fn why(&self, record: &Prepared, status: Status, policy: &Policy) -> QueueWhy {
        QueueWhy {
            queue: self.queue.clone(),
            priority: self.priority,
            status,
            rule: self.rule.clone(),
            rules_version: policy.rules_version.clone(),
            channel: record.envelope.channel.clone(),
        }
    }
}

/// Applies the rules to a message that opens or reopens a conversation.
pub fn choose(record: &Prepared, message: &InboundMessage, policy: &Policy) -> Routing {
    let channel_queue = policy
        .channels
        .get(&record.envelope.channel)
        .map(|channel| &channel.queue);
    let queue = channel_queue.unwrap_or(&policy.fallback_queue);
    // A test shows where a person's message would wait.
    let is_test = || test_token(record, policy).is_some();
    let is_machine = record.envelope.event.automatic.is_some() && !is_test();
    let rule = policy
        .rules
        .iter()
        .find(|rule| matches(rule, is_machine, record, message));
    let queue = rule.and_then(|rule| rule.queue.as_ref()).unwrap_or(queue);
    let of_queue = policy.priorities.get(queue).copied().unwrap_or_default();
    Routing {
        queue: queue.clone(),
        priority: rule.and_then(|rule| rule.priority).unwrap_or(of_queue),
        tags: rule.map(|rule| rule.tags.clone()).unwrap_or_default(),
        rule: rule.map(|rule| rule.name.clone()),
    }
}

fn matches(rule: &Rule, is_machine: bool, record: &Prepared, message: &InboundMessage) -> bool {
    let labels = &record.labels;
    given(&rule.channels, |channel| {
        *channel == record.envelope.channel
    }) && given(&rule.languages, |language| {
        labels.language.value == *language
    }) && given(&rule.intents, |intent| labels.intent.value == *intent)
        && given(&rule.labels, |label| labels.has(label))
        && rule
            .automatic
            .is_none_or(|automatic| automatic == is_machine)
        && (rule.keywords.is_empty() || has_keyword(&rule.keywords, message))
}

fn given<T>(condition: &[T], holds: impl Fn(&T) -> bool) -> bool {
    condition.is_empty() || condition.iter().any(holds)
}

fn has_keyword(keywords: &[String], message: &InboundMessage) -> bool {
    let subject = message.subject.as_deref().unwrap_or_default();
    let text = format!("{subject}\n{}", message.text).to_lowercase();
    keywords.iter().any(|keyword| has_words(&text, keyword))
}

/// Whether `keyword` stands in `text` as whole words.
fn has_words(text: &str, keyword: &str) -> bool {
    let is_word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    text.match_indices(keyword).any(|(at, found)| {
        let (before, rest) = text.split_at(at);
        let (_, after) = rest.split_at(found.len());
        !is_word(before.chars().next_back()) && !is_word(after.chars().next())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keywords_match_whole_words_only() {
        for (text, keyword, expected) in [
            ("i want a refund now", "refund", true),
            ("refunded already", "refund", false),
            ("wo ist meine bestellung?", "bestellung", true),
            ("über übergröße", "größe", false),
            ("return label please", "return label", true),
        ] {
            assert_eq!(has_words(text, keyword), expected, "{keyword} in {text}");
        }
    }
}
