//! Searching messages and contacts, and keeping the index up with the log. The index follows the
//! event log with a cursor of its own, so that filing pays nothing for it.

use async_trait::async_trait;
use connector_api::{ChannelId, Event, QueueId};

use crate::conversation::Status;
use crate::dispatch::Actor;
use crate::ids::MessageId;
use crate::router::facts::Conversation;
use crate::search::{Query, Scope, indexed};

use super::{Result, StoredContact, StoredContent, StoredMessage};

/// What is searched for; all given filters hold.
#[derive(Debug, Clone)]
pub struct SearchRequest {
    pub actor: Actor,
    pub query: Query,
    pub queue: Option<QueueId>,
    pub status: Option<Status>,
    pub channel: Option<ChannelId>,
    /// The address of whoever wrote.
    pub from: Option<String>,
    /// Said in [after, before), UTC microseconds: of history when it was written, else when it arrived.
    pub after: Option<i64>,
    pub before: Option<i64>,
    /// Goes on below this one; contacts are given on the first page only.
    pub below: Option<MessageId>,
    pub limit: u32,
}

impl SearchRequest {
    /// Without a filter.
    pub fn new(actor: Actor, query: Query, limit: u32) -> Self {
        Self {
            actor,
            query,
            queue: None,
            status: None,
            channel: None,
            from: None,
            after: None,
            before: None,
            below: None,
            limit,
        }
    }
}

#[derive(Debug, Clone)]
pub struct Hit {
    pub message: StoredMessage,
    pub conversation: Conversation,
}

#[derive(Debug, Clone)]
pub enum Searched {
    /// Newest first.
    Found {
        hits: Vec<Hit>,
        contacts: Vec<StoredContact>,
    },
    /// It would have taken too long.
    TooBroad,
}

/// How far the index is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Indexed {
    /// Events that are not looked at yet.
    pub behind: i64,
    /// When the first of them happened.
    pub behind_since: Option<i64>,
}

#[async_trait]
pub trait Search: Send + Sync {
    async fn search(&self, request: SearchRequest) -> Result<Searched>;
    /// Indexes what the next `limit` events changed.
    async fn index(&self, limit: u32) -> Result<Indexed>;
}

/// Contacts named on a page.
pub const CONTACTS_MAX: u32 = 10;

/// Of conversations that an agent holds from queues that are not theirs, how many are searched, the
/// newest, and how many messages of them: they are read word by word.
pub const HELD_CONVERSATIONS_MAX: u32 = 100;
pub const HELD_MESSAGES_MAX: u32 = 500;

/// What is indexed of a contact.
pub fn contact_words(contact: &StoredContact) -> (String, String) {
    let names = contact
        .identities
        .iter()
        .filter_map(|known| known.name.as_deref());
    let names: Vec<&str> = contact.name.as_deref().into_iter().chain(names).collect();
    let addresses: Vec<&str> = contact
        .identities
        .iter()
        .map(|known| known.address.as_str())
        .collect();
    (names.join("\n"), addresses.join("\n"))
}

/// The words of a message, as its view shows them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Words {
    pub subject: String,
    pub text: String,
    pub files: String,
}

impl Words {
    /// `None` for what says nothing (any more). Of an answer only what is new in it: what it quotes
    /// is in the conversation anyway. The first message may quote what is nowhere else.
    pub fn of(message: &StoredMessage) -> Option<Self> {
        if message.deleted {
            return None;
        }
        match &message.content {
            StoredContent::Unreadable(_) => None,
            StoredContent::Written(draft) => {
                let to = draft.to.as_ref();
                let subject = to.and_then(|to| to.subject.clone());
                let names = draft.attachments.iter().map(|file| file.name.as_str());
                let names: Vec<&str> = names.collect();
                Some(Self {
                    subject: subject.unwrap_or_default(),
                    text: draft.text.clone(),
                    files: names.join("\n"),
                })
            }
            StoredContent::Inbound { first, edit } => {
                let newest = edit.as_ref().unwrap_or(first);
                let new = match &newest.event.event {
                    Event::Message(said) | Event::Echo(said) => said.text.as_str(),
                    Event::Edit { text, .. } | Event::System { text, .. } => text,
                    _ => "",
                };
                let whole = newest.full_text.as_deref().filter(|_| message.seq == 1);
                let mut words = Self {
                    text: whole.unwrap_or(new).to_owned(),
                    ..Self::default()
                };
                if let Event::Message(said) | Event::Echo(said) = &first.event.event {
                    words.subject = said.subject.clone().unwrap_or_default();
                    let names = said
                        .attachments
                        .iter()
                        .filter_map(|file| file.name.as_deref());
                    words.files = names.collect::<Vec<_>>().join("\n");
                }
                Some(words)
            }
        }
    }
}

impl Words {
    /// As the index is to have them.
    pub fn indexed(self, scope: Scope) -> Self {
        Self {
            subject: indexed(&self.subject, scope),
            text: indexed(&self.text, scope),
            files: indexed(&self.files, scope),
        }
    }

    pub fn all(&self) -> [&str; 3] {
        [&self.subject, &self.text, &self.files]
    }
}
