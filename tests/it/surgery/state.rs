//! Everything that surgery may change, as values that a test can compare: without versions and
//! without the counters of what was given out, which only grow.

use std::collections::BTreeMap;

use switchboard::ids::{ContactId, ConversationId, MessageId};
use switchboard::router::facts::Conversation;
use switchboard::store::{ConversationFilter, ConversationSort, Store, StoredMessage};

use crate::support::supervisor;

/// The store as it stands.
#[derive(Debug, Clone)]
pub struct State {
    pub conversations: BTreeMap<ConversationId, Conversation>,
    pub messages: BTreeMap<ConversationId, Vec<StoredMessage>>,
    pub contacts: BTreeMap<ContactId, String>,
}

/// Every conversation, those too that were merged away.
pub async fn conversations(store: &dyn Store) -> Vec<Conversation> {
    let mut all: Vec<Conversation> = Vec::new();
    loop {
        let filter = ConversationFilter {
            sort: ConversationSort::Opened {
                before: all.last().map(|last| (last.opened_at, last.id)),
            },
            merged: true,
            limit: 100,
            ..ConversationFilter::default()
        };
        let page = store.conversations(supervisor(), filter).await.unwrap();
        if page.is_empty() {
            all.sort_by_key(|found| found.id);
            return all;
        }
        all.extend(page);
    }
}

/// A conversation's messages, oldest first.
pub async fn timeline(store: &dyn Store, id: ConversationId) -> Vec<StoredMessage> {
    let found = store.messages(supervisor(), id, None, u32::MAX).await;
    let mut messages = found.unwrap().unwrap();
    messages.reverse();
    messages
}

impl State {
    /// Reads all of it, and what holds of every state: each message is in one conversation, once,
    /// numbered upwards and linked by `prev`; a contact has one open conversation per matter; who
    /// waits is queued.
    pub async fn read(store: &dyn Store) -> Self {
        let mut state = Self {
            conversations: BTreeMap::new(),
            messages: BTreeMap::new(),
            contacts: BTreeMap::new(),
        };
        let mut seen: BTreeMap<MessageId, ConversationId> = BTreeMap::new();
        let mut open = BTreeMap::new();
        for conversation in conversations(store).await {
            let messages = timeline(store, conversation.id).await;
            let mut before: Option<&StoredMessage> = None;
            for message in &messages {
                assert_eq!(message.conversation, conversation.id);
                assert_eq!(message.prev, before.map(|before| before.id));
                assert!(before.is_none_or(|before| before.seq < message.seq));
                assert!(before.is_none_or(|before| before.arrived_at <= message.arrived_at));
                assert!(message.seq <= conversation.last_seq);
                assert_eq!(seen.insert(message.id, conversation.id), None, "twice");
                before = Some(message);
            }
            assert_eq!(conversation.last_message, before.map(|last| last.id));
            if conversation.status.is_open() {
                let matter = (conversation.contact, conversation.matter);
                let other = open.insert(matter, conversation.id);
                assert_eq!(other, None, "two open conversations of one matter");
            }
            let merged = conversation.detail.merged_into;
            assert!(merged.is_none() || (messages.is_empty() && !conversation.status.is_open()));
            let contact = store.contact(supervisor(), conversation.contact).await;
            let contact = contact.unwrap().unwrap();
            assert_eq!(contact.merged_into, None, "a merged contact has nothing");
            let mut shown = format!(
                "{} {:?} {:?}",
                contact.verified, contact.name, contact.merged
            );
            for identity in &contact.identities {
                shown += &format!(" {} {}", identity.address, identity.method);
            }
            shown += &format!(" {:?}", contact.suggestions);
            state.contacts.insert(conversation.contact, shown);
            state.messages.insert(conversation.id, messages);
            state.conversations.insert(conversation.id, conversation);
        }
        let queued = state.conversations.values();
        let queued = queued.filter(|one| one.status.as_str() == "queued").count();
        let depths = store.queues(supervisor()).await.unwrap();
        let waiting: i64 = depths.iter().map(|depth| depth.waiting).sum();
        assert_eq!(waiting, queued as i64);
        state
    }

    /// What an undo gives back: everything but versions, counters, and what only bears a name.
    pub fn comparable(&self) -> BTreeMap<ConversationId, String> {
        let live = self.conversations.values();
        live.filter(|one| one.detail.merged_into.is_none())
            .map(|one| {
                let mut shown = one.clone();
                shown.version = 0;
                shown.last_seq = 0;
                let mut text = format!("{shown:#?}\n{}\n", self.contacts[&one.contact]);
                for message in &self.messages[&one.id] {
                    text += &format!("{:?} {} {:?}\n", message.id, message.seq, message.prev);
                }
                (one.id, text)
            })
            .collect()
    }
}
