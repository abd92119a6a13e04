//! Everything that is kept of one person, as one JSON document against a published schema.
//!
//! It is written in pieces, each of a few messages: no export is in memory as a whole, however long somebody was a
//! customer. Where it has got to is a value, so whoever writes it out may come for one piece at a time. A document
//! that ends early is no JSON. Files stand beside it, by reference.
//!
//! What is in it is the person's own: what they wrote, what we wrote to them and noted about them (opinions about
//! somebody are personal data of theirs), and of what others wrote in their conversations only what they got. Whom
//! else a conversation is with, who got a blind copy and which agent wrote are other people's (GDPR 15(4)).

use std::sync::Arc;

use connector_api::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{OpenApi, ToSchema};

use crate::clock::timestamp;
use crate::dispatch::Actor;
use crate::ids::{ContactId, ConversationId, IdCodec, MessageId};
use crate::router::effects::Author;
use crate::router::facts::Conversation;
use crate::store::privacy::Spoken;
use crate::store::{
    AttachmentState, ConversationFilter, ConversationSort, Result, Store, StoredContact,
};

use super::views::message::{MessageView, RecipientView};
use super::views::{ContactView, ConversationView, PublicIds};

/// What an export says it is; another major version is another document.
pub const SCHEMA: &str = "switchboard.export.v1";
/// Messages that one piece has at most.
const PIECE_MESSAGES: u32 = 20;
/// Longest name of a file in the export, in characters, beside its id.
const FILE_NAME_CHARS_MAX: usize = 80;

/// Everything that is kept of one person.
#[derive(Debug, Serialize, ToSchema)]
pub struct Export {
    #[schema(example = "switchboard.export.v1")]
    pub schema: &'static str,
    pub exported_at: Timestamp,
    pub contact: ContactView,
    /// Contacts that turned out to be the same person.
    pub merged: Vec<ContactView>,
    /// The person's conversations, opened last first.
    pub conversations: Vec<ExportedConversation>,
    /// What the person wrote in conversations of others.
    pub took_part: Vec<ExportedPart>,
    /// How much of each there is: a document that ends before this is not whole.
    pub counts: ExportCounts,
}

/// A conversation of the person. Its participants are the person alone.
#[derive(Debug, Serialize, ToSchema)]
pub struct ExportedConversation {
    pub conversation: ConversationView,
    /// What agents have begun to write and not sent.
    #[schema(value_type = Vec<Object>)]
    pub drafts: Vec<Value>,
    /// Newest first.
    pub messages: Vec<ExportedMessage>,
}

/// What the person wrote in a conversation of somebody else.
#[derive(Debug, Serialize, ToSchema)]
pub struct ExportedPart {
    #[schema(example = "cnv_5b1c9d1e7a0f8c3d9f2a6b4c8d7e1f03")]
    pub conversation_id: String,
    /// Newest first.
    pub messages: Vec<ExportedMessage>,
}

/// Whose words a message of an export is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WrittenBy {
    /// The person whose export it is.
    Contact,
    /// The shop: an answer, an acknowledgement, an internal note, what the channel said.
    Us,
    AnotherPerson,
}

/// One thing said.
#[derive(Debug, Serialize, ToSchema)]
pub struct ExportedMessage {
    #[schema(example = "msg_9a7b3c5d1e2f8a4b8c6d0e1f2a3b4c5d")]
    pub id: String,
    pub arrived_at: Timestamp,
    pub written_by: WrittenBy,
    /// Null where another person wrote it and did not send it to this one, too.
    #[schema(required)]
    pub message: Option<MessageView>,
    /// The message's files that are here.
    pub files: Vec<ExportedFile>,
}

/// A file of an export.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ExportedFile {
    /// For `/v1/attachments/{id}`.
    #[schema(example = "att_2f8a9a7b3c5d4d5e8c6d0e1f2a3b4c5d")]
    pub id: String,
    /// Where `switchboard export` puts it, beside the document.
    #[schema(example = "attachments/att_2f8a9a7b3c5d4d5e8c6d0e1f2a3b4c5d-photo.jpg")]
    pub path: String,
}

/// How much an export has.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct ExportCounts {
    pub conversations: u64,
    pub took_part: u64,
    pub messages: u64,
    /// Messages of other people that are named and not shown.
    pub withheld: u64,
    pub files: u64,
}

/// Where an export has got to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Place {
    at: At,
    counts: ExportCounts,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
enum At {
    Start,
    /// Behind the conversation that was opened then.
    Conversations(Option<(i64, i64)>),
    /// In a conversation: the message that comes next, and whether others came before.
    Messages {
        opened: (i64, i64),
        next: Option<i64>,
        more: bool,
    },
    TookPart(Option<i64>),
    Part {
        conversation: i64,
        next: Option<i64>,
        more: bool,
    },
}

impl Place {
    pub fn start() -> Self {
        Self {
            at: At::Start,
            counts: ExportCounts::default(),
        }
    }
}

/// A piece of the document, the files that it names, and where the next one begins.
#[derive(Debug)]
pub struct Piece {
    pub text: String,
    pub files: Vec<ExportedFile>,
    pub next: Option<Place>,
}

/// Writes the export of one contact.
#[derive(Clone)]
pub struct Exporter {
    pub store: Arc<dyn Store>,
    pub ids: IdCodec,
    pub actor: Actor,
    pub contact: ContactId,
    /// UTC microseconds.
    pub now: i64,
}

impl Exporter {
    /// The piece at a place. Whether the actor may have it is asked for each.
    pub async fn piece(&self, place: Place) -> Result<Piece> {
        let Place { at, mut counts } = place;
        let whole = self
            .store
            .whole_contact(self.actor.clone(), self.contact)
            .await?;
        let mut files = Vec::new();
        let (text, at) = match at {
            At::Start => {
                let mut view = ContactView::of(&whole.contact, &self.ids);
                view.suggest(&whole.suggestions);
                let merged: Vec<ContactView> = (whole.merged.iter())
                    .map(|one| ContactView::of(one, &self.ids))
                    .collect();
                let head = json!({
                    "schema": SCHEMA, "exported_at": timestamp(self.now), "contact": view, "merged": merged,
                });
                let head = head.to_string();
                let open = head.strip_suffix('}').unwrap_or(&head);
                (
                    format!("{open},\"conversations\":["),
                    Some(At::Conversations(None)),
                )
            }
            At::Conversations(before) => match self.conversation_behind(before).await? {
                Some(found) => {
                    let text = self.conversation(&found, &whole.contact).await?;
                    let text = separated(counts.conversations > 0, text);
                    counts.conversations += 1;
                    let next = found.last_message.map(|id| id.0);
                    let opened = (found.opened_at, found.id.0);
                    let more = false;
                    (text, Some(At::Messages { opened, next, more }))
                }
                None => ("],\"took_part\":[".to_owned(), Some(At::TookPart(None))),
            },
            At::Messages {
                opened,
                next: Some(from),
                more,
            } => {
                let id = ConversationId(opened.1);
                let page = self.page(id, from, &mut counts, |_| true, &whole.contact);
                let (text, named, next) = page.await?;
                files = named;
                let text = separated(more && !text.is_empty(), text);
                let more = more || !text.is_empty();
                (text, Some(At::Messages { opened, next, more }))
            }
            At::Messages {
                opened, next: None, ..
            } => ("]}".to_owned(), Some(At::Conversations(Some(opened)))),
            At::TookPart(after) => {
                let after = after.map(ConversationId);
                let found = self.store.took_part(self.contact, after, 1).await?;
                match found.first() {
                    Some(found) => {
                        let id = json!(self.ids.conversation(found.id));
                        let text = format!("{{\"conversation_id\":{id},\"messages\":[");
                        let text = separated(counts.took_part > 0, text);
                        counts.took_part += 1;
                        let (conversation, more) = (found.id.0, false);
                        let next = found.last_message.map(|id| id.0);
                        (
                            text,
                            Some(At::Part {
                                conversation,
                                next,
                                more,
                            }),
                        )
                    }
                    None => (format!("],\"counts\":{}}}", json!(counts)), None),
                }
            }
            At::Part {
                conversation,
                next: Some(from),
                more,
            } => {
                let own = |by| by == WrittenBy::Contact;
                let id = ConversationId(conversation);
                let page = self.page(id, from, &mut counts, own, &whole.contact);
                let (text, named, next) = page.await?;
                files = named;
                let text = separated(more && !text.is_empty(), text);
                let more = more || !text.is_empty();
                (
                    text,
                    Some(At::Part {
                        conversation,
                        next,
                        more,
                    }),
                )
            }
            At::Part {
                conversation,
                next: None,
                ..
            } => ("]}".to_owned(), Some(At::TookPart(Some(conversation)))),
        };
        Ok(Piece {
            text,
            files,
            next: at.map(|at| Place { at, counts }),
        })
    }

    /// The contact's conversation that was opened before that one.
    async fn conversation_behind(
        &self,
        before: Option<(i64, i64)>,
    ) -> Result<Option<Conversation>> {
        let filter = ConversationFilter {
            contact: Some(self.contact),
            merged: true,
            sort: ConversationSort::Opened {
                before: before.map(|(at, id)| (at, ConversationId(id))),
            },
            limit: 1,
            ..ConversationFilter::default()
        };
        let found = self.store.conversations(self.actor.clone(), filter).await?;
        Ok(found.into_iter().next())
    }

    /// Opens a conversation in the document, up to its messages.
    async fn conversation(&self, found: &Conversation, who: &StoredContact) -> Result<String> {
        let mut view = ConversationView::of(found, &self.ids);
        view.assignee = None;
        (view.participants).retain(|one| is_theirs(who, &one.namespace, &one.address));
        let drafts = self.store.drafts_in(found.id).await?;
        let drafts: Vec<Value> = drafts
            .into_iter()
            .map(|draft| json!({ "content": draft.content, "at": timestamp(draft.at) }))
            .collect();
        Ok(format!(
            "{{\"conversation\":{},\"drafts\":{},\"messages\":[",
            json!(view),
            json!(drafts)
        ))
    }

    /// Some messages of a conversation, their files, and the message that comes next.
    async fn page(
        &self,
        id: ConversationId,
        from: i64,
        counts: &mut ExportCounts,
        wanted: impl Fn(WrittenBy) -> bool + Send,
        who: &StoredContact,
    ) -> Result<(String, Vec<ExportedFile>, Option<i64>)> {
        let found = self.store.spoken(id, Some(MessageId(from)), PIECE_MESSAGES);
        let found = found.await?;
        let next = match found.last() {
            // Only a full page has another behind it.
            Some(last) if found.len() == PIECE_MESSAGES as usize => last.message.prev,
            _ => None,
        };
        let (mut texts, mut files) = (Vec::new(), Vec::new());
        for spoken in &found {
            let by = self.written_by(spoken);
            if !wanted(by) {
                continue;
            }
            let message = self.message(spoken, by, who);
            counts.messages += 1;
            counts.withheld += u64::from(message.message.is_none());
            counts.files += message.files.len() as u64;
            texts.push(json!(message).to_string());
            files.extend(message.files);
        }
        Ok((texts.join(","), files, next.map(|id| id.0)))
    }

    fn written_by(&self, spoken: &Spoken) -> WrittenBy {
        match (spoken.author, spoken.message.author) {
            (Some(author), _) if author == self.contact => WrittenBy::Contact,
            // What an echo names is the customer it went to.
            (_, Author::Customer) => WrittenBy::AnotherPerson,
            _ => WrittenBy::Us,
        }
    }

    fn message(&self, spoken: &Spoken, by: WrittenBy, who: &StoredContact) -> ExportedMessage {
        let mut view = MessageView::whole(&spoken.message, &self.ids);
        view.agent = None;
        let theirs = |one: &RecipientView| is_theirs(who, &one.namespace, &one.address);
        view.bcc.retain(theirs);
        let got = view.to.iter().chain(&view.cc).any(theirs);
        let shown = by != WrittenBy::AnotherPerson || got;
        let stored = view
            .attachments
            .iter()
            .filter(|file| shown && file.state == AttachmentState::Stored);
        let files = stored.filter_map(|file| {
            let id = file.id.clone()?;
            let path = format!("attachments/{id}-{}", plain(file.name.as_deref()));
            Some(ExportedFile { id, path })
        });
        ExportedMessage {
            id: view.id.clone(),
            arrived_at: view.arrived_at,
            written_by: by,
            files: files.collect(),
            message: shown.then_some(view),
        }
    }
}

/// Whether the address is one of the contact's, proven or claimed.
fn is_theirs(who: &StoredContact, namespace: &str, address: &str) -> bool {
    let same = |known: &crate::store::StoredIdentity| {
        known.namespace.as_str() == namespace && known.address == address
    };
    who.identities.iter().any(same)
}

/// What a sender calls a file, as a name that every file system takes.
fn plain(name: Option<&str>) -> String {
    let safe = |c: char| match c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') {
        true => c,
        false => '_',
    };
    let name = name.unwrap_or("file").chars().map(safe);
    name.take(FILE_NAME_CHARS_MAX).collect()
}

fn separated(behind_another: bool, text: String) -> String {
    match behind_another {
        true => format!(",{text}"),
        false => text,
    }
}

#[derive(OpenApi)]
#[openapi(components(schemas(Export)))]
struct Schemas;

/// The JSON Schema of the document, made from its types.
pub fn schema() -> Value {
    let all = serde_json::to_value(Schemas::openapi()).unwrap_or_default();
    let text = all["components"]["schemas"].to_string();
    let definitions = text.replace("#/components/schemas/", "#/$defs/");
    let definitions: Value = serde_json::from_str(&definitions).unwrap_or_default();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Everything that Switchboard keeps of one person",
        "$ref": "#/$defs/Export",
        "$defs": definitions,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_files_name_is_one_that_leads_nowhere_else() {
        for (name, expected) in [
            (Some("photo.jpg"), "photo.jpg"),
            (Some("../../etc/passwd"), ".._.._etc_passwd"),
            (Some("Rechnung März.pdf"), "Rechnung_M_rz.pdf"),
            (Some("a/b\\c\0d"), "a_b_c_d"),
            (None, "file"),
        ] {
            assert_eq!(plain(name), expected);
        }
        assert_eq!(plain(Some(&"x".repeat(500))).len(), FILE_NAME_CHARS_MAX);
    }
}
