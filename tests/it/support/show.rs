//! Conversations as text that a test can compare: without ids and times, so that two stores with
//! the same content show the same.

use std::collections::HashMap;
use std::fmt::Write as _;

use connector_api::Event;
use switchboard::ids::{ConversationId, MessageId};
use switchboard::router::facts::Conversation;
use switchboard::store::{
    ConversationFilter, ConversationSort, Store, StoredContent, StoredMessage,
};

use super::supervisor;

const PAGE: u32 = 100;

/// Every conversation, in the order of filing: history comes after what it is older than.
pub async fn conversations(store: &dyn Store) -> Vec<Conversation> {
    let mut all = Vec::new();
    loop {
        let last = all.last();
        let before = last.map(|last: &Conversation| (last.opened_at, last.id));
        let filter = ConversationFilter {
            sort: ConversationSort::Opened { before },
            limit: PAGE,
            ..ConversationFilter::default()
        };
        let page = store
            .conversations(supervisor(), filter)
            .await
            .expect("listing conversations");
        if page.is_empty() {
            all.sort_by_key(|found| found.id);
            return all;
        }
        all.extend(page);
    }
}

/// A conversation's messages, oldest first.
pub async fn messages(store: &dyn Store, id: ConversationId) -> Vec<StoredMessage> {
    let found = store
        .messages(supervisor(), id, None, u32::MAX)
        .await
        .expect("reading messages");
    let mut messages = found.expect("a supervisor sees every conversation");
    messages.reverse();
    messages
}

/// Conversations bear numbers in the order of filing, messages their dedupe keys.
pub async fn show(store: &dyn Store) -> String {
    let all = conversations(store).await;
    let numbers: HashMap<ConversationId, String> = all
        .iter()
        .enumerate()
        .map(|(at, found)| (found.id, (at + 1).to_string()))
        .collect();
    let mut text = String::new();
    for conversation in &all {
        text += &block(store, conversation, &numbers).await;
    }
    text
}

/// Blocks in an order that does not depend on when each was opened; conversations bear the keys of
/// the messages that founded them.
pub async fn show_sorted(store: &dyn Store) -> String {
    let all = conversations(store).await;
    let mut names = HashMap::new();
    for conversation in &all {
        let founder = messages(store, conversation.id).await.first().map(key_of);
        names.insert(conversation.id, founder.unwrap_or_default());
    }
    let mut blocks = Vec::new();
    for conversation in &all {
        blocks.push(block(store, conversation, &names).await);
    }
    blocks.sort();
    blocks.concat()
}

async fn block(
    store: &dyn Store,
    conversation: &Conversation,
    names: &HashMap<ConversationId, String>,
) -> String {
    let messages = messages(store, conversation.id).await;
    let keys: HashMap<MessageId, String> = messages
        .iter()
        .map(|message| (message.id, key_of(message)))
        .collect();
    let name = |id: ConversationId| names.get(&id).cloned().unwrap_or_else(|| "?".to_owned());
    let mut text = format!(
        "#{} {}",
        name(conversation.id),
        conversation.status.as_str()
    );
    if conversation.matter.is_some() {
        text += " own-matter";
    }
    write!(
        text,
        " {} {}",
        conversation.queue,
        conversation.priority.as_str()
    )
    .expect("writing to a string");
    if let Some(assignee) = &conversation.assignee {
        text += &format!(" @{assignee}");
    }
    let contact = store
        .contact(supervisor(), conversation.contact)
        .await
        .expect("reading a contact");
    let contact = contact.expect("a conversation's contact exists");
    let mut identities: Vec<String> = contact
        .identities
        .iter()
        .map(|known| format!("{} {}", known.address, known.method))
        .collect();
    identities.sort();
    text += &format!(" [{}]", identities.join(", "));
    let others: Vec<&str> = conversation
        .detail
        .participants
        .iter()
        .map(|other| other.address.as_str())
        .filter(|address| {
            !contact
                .identities
                .iter()
                .any(|known| known.address == *address)
        })
        .collect();
    if !others.is_empty() {
        text += &format!(" with {}", others.join(", "));
    }
    let mut links: Vec<String> = conversation
        .detail
        .links
        .iter()
        .map(|link| format!("#{} {}", name(link.conversation), word(&link.reason)))
        .collect();
    links.sort();
    for link in links {
        text += &format!(" -> {link}");
    }
    text.push('\n');
    for message in &messages {
        text += &line(message, &keys);
    }
    text
}

fn line(message: &StoredMessage, keys: &HashMap<MessageId, String>) -> String {
    let author = match (&message.from, &message.agent) {
        (Some(from), _) => from.address.clone(),
        (None, Some(agent)) => format!("@{agent}"),
        (None, None) => word(&message.author),
    };
    let mut line = format!(
        "  {} {}: {}",
        key_of(message),
        author,
        what_it_says(message)
    );
    let join = &message.explanation["join"];
    if let Some(rule) = join["rule"].as_i64() {
        line += &format!(" | {rule} {}", variant(&join["reason"]));
        for refused in join["refused"].as_array().into_iter().flatten() {
            line += &format!(", not by {}", refused["hint"].as_str().unwrap_or("?"));
        }
    }
    if let Some(delivery) = message.delivery {
        line += &format!(" | {}", delivery.as_str());
    }
    if let Some(reason) = &message.reason {
        line += &format!(" ({reason})");
    }
    let acknowledged = &message.explanation["acknowledged"];
    if !acknowledged.is_null() {
        line += &format!(" | acknowledged: {}", variant(acknowledged));
    }
    if let Some(earlier) = message.duplicate_of {
        let key = keys.get(&earlier).map_or("?", String::as_str);
        line += &format!(" | duplicate of {key}");
    }
    let flags = [
        (message.conflicting, "conflicting"),
        (message.deleted, "deleted"),
        (message.edited, "edited"),
    ];
    for (_, flag) in flags.iter().filter(|(set, _)| *set) {
        line += &format!(" | {flag}");
    }
    if !message.reactions.is_empty() {
        line += &format!(" | {}", message.reactions.join(""));
    }
    line.push('\n');
    line
}

/// The dedupe key; what we wrote has none.
fn key_of(message: &StoredMessage) -> String {
    match &message.content {
        StoredContent::Inbound { first, .. } => first.event.dedupe_key.to_string(),
        StoredContent::Written(_) | StoredContent::Unreadable(_) => "-".to_owned(),
    }
}

fn what_it_says(message: &StoredMessage) -> String {
    let said = |event: &Event| match event {
        Event::Message(message) | Event::Echo(message) => message.text.clone(),
        Event::Edit { text, .. } | Event::System { text, .. } => text.clone(),
        other => format!("({})", other.kind().as_str()),
    };
    let text = match &message.content {
        StoredContent::Inbound { first, edit } => said(&edit.as_ref().unwrap_or(first).event.event),
        StoredContent::Written(draft) => match &draft.to {
            Some(to) => format!("to {}: {}", to.address, draft.text),
            None => draft.text.clone(),
        },
        StoredContent::Unreadable(reason) => format!("(unreadable: {reason})"),
    };
    text.replace('\n', " ")
}

fn word<T: serde::Serialize>(value: &T) -> String {
    variant(&serde_json::to_value(value).expect("a plain enum"))
}

/// The name of a serialised enum's variant.
fn variant(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(name) => name.clone(),
        serde_json::Value::Object(fields) => fields.keys().next().cloned().unwrap_or_default(),
        other => other.to_string(),
    }
}
