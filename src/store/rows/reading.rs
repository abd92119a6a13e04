//! What the API reads, on reader connections. Permission is part of each question: what the actor
//! may not see is not found.

use std::sync::Arc;

use connector_api::{BrandId, Namespace};

use crate::bus::{Content, Envelope, decode};
use crate::conversation::Delivery;
use crate::dispatch::Actor;
use crate::ids::{ContactId, ConversationId, MessageId};
use crate::router::effects::Author;
use crate::router::facts::{Change, Conversation, MERGES_FOLLOWED_MAX};
use crate::store::attachments::Fetches;
use crate::store::sql::{self, Conn, Optional as _, Row, params};
use crate::store::{
    ConversationFilter, ConversationSort, Counts, OutboxState, QueueDepth, StoreError,
    StoredContact, StoredContent, StoredIdentity, StoredMessage,
};

use super::effects::{FLAG_AUTOMATIC, FLAG_CONFLICTING};
use super::facts::{conversation as find, from_json, named};
use super::names::Names;

mod opened;
mod waiting;

type Result<T> = std::result::Result<T, StoreError>;

/// Depth and age of the queues named, of these brands alone (none: all); those nobody waits in have
/// depth 0.
pub fn queue_depths(
    conn: Conn<'_>,
    names: &Names,
    queues: &[connector_api::QueueId],
    brands: &[BrandId],
) -> Result<Vec<QueueDepth>> {
    let brands: Vec<String> = (brands.iter())
        .map(|brand| names.id(brand.as_str()).to_string())
        .collect();
    let sql = match brands.is_empty() {
        true => "SELECT count(*), min(enqueued_at) FROM waiting WHERE queue = ?1".to_owned(),
        false => format!(
            "SELECT count(*), min(waiting.enqueued_at) FROM waiting
             JOIN conversation ON conversation.id = waiting.id
             WHERE waiting.queue = ?1 AND conversation.brand IN ({})",
            brands.join(",")
        ),
    };
    let mut depths = Vec::new();
    for queue in queues {
        let (waiting, oldest) = conn
            .prepare(&sql)?
            .query_row([names.id(queue.as_str())], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
        depths.push(QueueDepth {
            id: queue.clone(),
            waiting,
            oldest_enqueued_at: oldest,
        });
    }
    Ok(depths)
}

pub fn conversations(
    conn: Conn<'_>,
    names: &Names,
    actor: &Actor,
    filter: &ConversationFilter,
) -> Result<Vec<Conversation>> {
    if !actor.role.reads_messages() {
        return Ok(Vec::new());
    }
    match filter.sort {
        ConversationSort::Opened { before } => {
            opened::conversations(conn, names, actor, filter, before)
        }
        ConversationSort::Waiting { after } => {
            waiting::conversations(conn, names, actor, filter, after)
        }
    }
}

pub fn conversation(
    conn: Conn<'_>,
    names: &Names,
    actor: &Actor,
    id: ConversationId,
) -> Result<Option<Conversation>> {
    Ok(find(conn, names, id)?.filter(|found| actor.may_see(found)))
}

const MESSAGE_SELECT: &str = "SELECT message.id, message.conversation, message.seq, message.prev, message.author, \
     message.channel, message.agent, message.arrived_at, message.sent_at, message.delivery, message.reason, \
     message.deleted, message.body, message.duplicate_of, message.flags, message.labels, message.explanation, \
     first.content, edit.content, identity.namespace, identity.address, identity.method, identity.name \
     FROM message LEFT JOIN body AS first ON first.id = message.id \
     LEFT JOIN body AS edit ON edit.id = message.body AND message.body <> message.id \
     LEFT JOIN identity ON identity.id = message.identity WHERE message.id = ?1";

/// Walks the timeline backwards by its links; `None` when the conversation is not the actor's.
pub fn messages(
    conn: Conn<'_>,
    names: &Names,
    actor: &Actor,
    id: ConversationId,
    from: Option<MessageId>,
    limit: u32,
) -> Result<Option<Vec<StoredMessage>>> {
    let Some(found) = conversation(conn, names, actor, id)? else {
        return Ok(None);
    };
    let mut next = from.or(found.last_message);
    let mut messages = Vec::new();
    while let Some(at) = next
        && messages.len() < limit as usize
    {
        let Some(message) = message_row(conn, names, at)? else {
            break;
        };
        if message.conversation != id {
            break;
        }
        next = message.prev;
        messages.push(message);
    }
    Ok(Some(messages))
}

pub fn message(
    conn: Conn<'_>,
    names: &Names,
    actor: &Actor,
    id: MessageId,
) -> Result<Option<StoredMessage>> {
    let Some(message) = message_row(conn, names, id)? else {
        return Ok(None);
    };
    let visible = conversation(conn, names, actor, message.conversation)?.is_some();
    Ok(visible.then_some(message))
}

/// A message by its number, whoever asks: for callers that checked before.
pub fn message_row(conn: Conn<'_>, names: &Names, id: MessageId) -> Result<Option<StoredMessage>> {
    let found = conn
        .prepare(MESSAGE_SELECT)?
        .query_row([id.0], |row| message_of(row, names))
        .optional()?;
    let Some(mut message) = found else {
        return Ok(None);
    };
    message.fetches = super::attachments::fetches(conn, &message.content, id)?;
    if message.delivery.is_some() {
        message.recipients = super::outbox::recipients::stored(conn, id)?;
    }
    let mut statement =
        conn.prepare("SELECT change FROM change WHERE message = ?1 ORDER BY record")?;
    for change in
        statement.query_map([id.0], |row| from_json::<Change>(0, &row.get::<String>(0)?))?
    {
        match change? {
            Change::Reaction {
                emoji,
                removed: false,
            } => message.reactions.push(emoji),
            Change::Reaction {
                emoji,
                removed: true,
            } => {
                if let Some(at) = message.reactions.iter().position(|known| *known == emoji) {
                    message.reactions.remove(at);
                }
            }
            Change::Edited | Change::Deleted | Change::Receipt { .. } => {}
        }
    }
    Ok(Some(message))
}

fn message_of(row: &Row<'_>, names: &Names) -> sql::Result<StoredMessage> {
    let author = Author::from_code(row.get(4)?);
    let body: i64 = row.get(12)?;
    let id: i64 = row.get(0)?;
    let flags: i64 = row.get(14)?;
    let channel: i64 = row.get(5)?;
    let namespace: Option<String> = row.get(19)?;
    let address: Option<String> = row.get(20)?;
    let method: Option<String> = row.get(21)?;
    let from = match (namespace, address, method) {
        (Some(namespace), Some(address), Some(method)) => Some(StoredIdentity {
            namespace: Namespace::named(namespace),
            address,
            method,
            name: row.get(22)?,
        }),
        _ => None,
    };
    let first: Option<Vec<u8>> = row.get(17)?;
    let edit: Option<Vec<u8>> = row.get(18)?;
    Ok(StoredMessage {
        id: MessageId(id),
        conversation: ConversationId(row.get(1)?),
        seq: row.get(2)?,
        prev: row.get::<Option<i64>>(3)?.map(MessageId),
        author,
        // A note has no channel.
        channel: if channel == 0 {
            note_channel()
        } else {
            named(names, channel)?
        },
        from,
        agent: row.get(6)?,
        arrived_at: row.get(7)?,
        sent_at: row.get(8)?,
        delivery: row.get::<Option<i64>>(9)?.and_then(Delivery::from_code),
        reason: row.get(10)?,
        deleted: row.get(11)?,
        edited: body != id,
        duplicate_of: row.get::<Option<i64>>(13)?.map(MessageId),
        automatic: flags & FLAG_AUTOMATIC != 0,
        conflicting: flags & FLAG_CONFLICTING != 0,
        labels: json_column(row, 15)?,
        explanation: json_column(row, 16)?,
        content: content(author, first.as_deref(), edit.as_deref()),
        fetches: Fetches::new(),
        reactions: Vec::new(),
        recipients: Vec::new(),
    })
}

fn note_channel() -> connector_api::ChannelId {
    "note".parse().expect("a constant of allowed letters")
}

fn json_column(row: &Row<'_>, column: usize) -> sql::Result<serde_json::Value> {
    let text: Option<String> = row.get(column)?;
    text.map_or(Ok(serde_json::Value::Null), |text| from_json(column, &text))
}

fn content(author: Author, first: Option<&[u8]>, edit: Option<&[u8]>) -> StoredContent {
    let Some(first) = first else {
        return StoredContent::Unreadable("erased".to_owned());
    };
    if matches!(author, Author::Agent | Author::Automation | Author::Note) {
        return match serde_json::from_slice(first) {
            Ok(draft) => StoredContent::Written(Box::new(draft)),
            Err(error) => StoredContent::Unreadable(error.to_string()),
        };
    }
    match envelope(first) {
        Ok(first) => StoredContent::Inbound {
            first,
            edit: edit.and_then(|edit| envelope(edit).ok()),
        },
        Err(reason) => StoredContent::Unreadable(reason),
    }
}

fn envelope(body: &[u8]) -> std::result::Result<Arc<Envelope>, String> {
    match decode(body) {
        Content::Envelope(envelope) => Ok(envelope),
        Content::Unreadable { reason } => Err(reason),
        Content::Newer { major } => Err(format!("written by a newer version (major {major})")),
    }
}

/// A contact that the actor may see by one of its conversations; one that was merged, by those of
/// the contact it became.
pub fn contact(
    conn: Conn<'_>,
    names: &Names,
    actor: &Actor,
    id: ContactId,
) -> Result<Option<StoredContact>> {
    let merged_into = |id: ContactId| -> Result<Option<ContactId>> {
        let into: Option<Option<i64>> = conn
            .prepare("SELECT merged_into FROM contact WHERE id = ?1")?
            .query_row([id.0], |row| row.get(0))
            .optional()?;
        Ok(into.flatten().map(ContactId))
    };
    let mut stands = id;
    for _ in 0..MERGES_FOLLOWED_MAX {
        match merged_into(stands)? {
            Some(into) => stands = into,
            None => break,
        }
    }
    let filter = ConversationFilter {
        contact: Some(stands),
        merged: true,
        limit: 1,
        ..ConversationFilter::default()
    };
    if conversations(conn, names, actor, &filter)?.is_empty() {
        return Ok(None);
    }
    contact_row(conn, names, id)
}

/// A contact by its number, whoever asks: for callers that checked before.
pub fn contact_row(conn: Conn<'_>, names: &Names, id: ContactId) -> Result<Option<StoredContact>> {
    let found = conn
        .prepare(
            "SELECT brand, verified, name, version, created_at, attributes, merged_into FROM contact
             WHERE id = ?1",
        )?
        .query_row([id.0], |row| {
            Ok(StoredContact {
                id,
                brand: named::<BrandId>(names, row.get(0)?)?,
                verified: row.get(1)?,
                name: row.get(2)?,
                version: row.get(3)?,
                created_at: row.get(4)?,
                attributes: match row.get::<Option<String>>(5)? {
                    Some(text) => from_json(5, &text)?,
                    None => Default::default(),
                },
                identities: Vec::new(),
                suggestions: Vec::new(),
                hold: None,
                merged_into: row.get::<Option<i64>>(6)?.map(ContactId),
                merged: Vec::new(),
            })
        })
        .optional()?;
    let Some(mut contact) = found else {
        return Ok(None);
    };
    let mut statement = conn.prepare(
        "SELECT namespace, address, method, name FROM identity WHERE contact = ?1 ORDER BY at, id",
    )?;
    let identities = statement.query_map([id.0], |row| {
        Ok(StoredIdentity {
            namespace: Namespace::named(row.get::<String>(0)?),
            address: row.get(1)?,
            method: row.get(2)?,
            name: row.get(3)?,
        })
    })?;
    contact.hold = super::privacy::holds::of(conn, id)?;
    contact.identities = identities.collect::<sql::Result<_>>()?;
    let mut statement =
        conn.prepare("SELECT namespace, address FROM suggestion WHERE contact = ?1 LIMIT 100")?;
    let suggestions = statement.query_map([id.0], |row| {
        Ok((Namespace::named(row.get::<String>(0)?), row.get(1)?))
    })?;
    contact.suggestions = suggestions.collect::<sql::Result<_>>()?;
    let mut statement = conn.prepare(
        "SELECT id FROM contact WHERE merged_into = ?1 ORDER BY created_at DESC, id DESC LIMIT 100",
    )?;
    let merged = statement.query_map([id.0], |row| Ok(ContactId(row.get(0)?)))?;
    contact.merged = merged.collect::<sql::Result<_>>()?;
    Ok(Some(contact))
}

/// Counts for metrics.
pub fn counts(conn: Conn<'_>, names: &Names, queues: &[connector_api::QueueId]) -> Result<Counts> {
    let mut counts = Counts {
        queues: queue_depths(conn, names, queues, &[])?,
        ..Counts::default()
    };
    let mut statement = conn.prepare("SELECT state, count(*) FROM outbox GROUP BY state")?;
    for row in statement.query_map((), |row| Ok((row.get::<i64>(0)?, row.get::<i64>(1)?)))? {
        let (state, count) = row?;
        // Whatever the reason, a held one waits for a person.
        let [queued, sending, held] = &mut counts.outbox;
        match OutboxState::from_code(state) {
            Some(OutboxState::Queued) => *queued = count,
            Some(OutboxState::Sending) => *sending = count,
            Some(OutboxState::Held) => *held += count,
            Some(OutboxState::Restored) => {
                *held += count;
                counts.restored = count;
            }
            None => {}
        }
    }
    counts.dead_letters = conn
        .prepare("SELECT count(*) FROM dead_letter WHERE state = 0")?
        .query_row(params![], |row| row.get(0))?;
    counts.pending = conn
        .prepare("SELECT count(*) FROM pending")?
        .query_row((), |row| row.get(0))?;
    let waiting = "SELECT count(*) FROM file_fetch WHERE state = 0";
    counts.fetches = conn.prepare(waiting)?.query_row((), |row| row.get(0))?;
    Ok(counts)
}
