//! Loads the facts of a batch. On the writer's own thread a prepared statement per row is faster
//! than a set-based query over JSON (measured: 95,000 against 38,000 rows/s); each distinct key is
//! read once per batch.

use std::collections::HashSet;
use std::collections::hash_map::Entry;

use connector_api::{BrandId, QueueId};

use crate::conversation::{Delivery, Priority, Status};
use crate::ids::{ContactId, ConversationId, IdentityId, MessageId};
use crate::router::facts::{
    Contact, Conversation, Facts, Identity, IdentityKey, MERGES_FOLLOWED_MAX, Message,
    PendingChange, Reference,
};
use crate::router::{Needs, Prepared};
use crate::store::StoreError;
use crate::store::sql::{self, Conn, Optional as _, Row, params};

use super::names::Names;
use super::outbox::recipients;
use super::outbox::sent::sent_in;
use super::seen;
use crate::store::rows::Tx;

/// Everything `needs` names and what follows from it.
pub fn load(
    tx: &Tx<'_>,
    batch: &[Prepared],
    needs: &Needs,
    acknowledged_since: i64,
) -> Result<Facts, StoreError> {
    let conn = tx.conn;
    let names = &tx.memory.names;
    let mut facts = Facts::default();
    for key in &needs.seen {
        facts.seen.insert(*key, seen::find(conn, tx.memory, key)?);
    }
    for key in &needs.named {
        facts
            .seen
            .insert(*key, seen::find_named(conn, tx.memory, key)?);
    }
    let mut contacts = HashSet::new();
    for key in &needs.identities {
        if let Some(identity) = identity(conn, names, key)? {
            contacts.insert(identity.contact);
            facts.identities.insert(key.clone(), identity);
        }
    }
    let mut conversations: HashSet<ConversationId> = needs.conversations.clone();
    let mut messages: HashSet<MessageId> = needs.messages.clone();
    for key in &needs.references {
        if let Some(reference) = reference(conn, key)? {
            conversations.insert(reference.conversation);
            messages.insert(reference.message);
            facts.references.insert(*key, reference);
        }
    }
    for id in &needs.sent_in {
        let sent = sent_in(conn, names, *id)?;
        messages.extend(sent.iter().map(|one| one.message));
        facts.sent_in.insert(*id, sent);
    }
    let named = needs
        .named
        .iter()
        .filter_map(|key| facts.seen.get(key)?.first());
    messages.extend(named.map(|seen| seen.message));
    for id in messages {
        if let Some(message) = message(conn, names, id)? {
            conversations.insert(message.conversation);
            facts.messages.insert(id, message);
        }
    }
    // What refers to a message finds it where it is now: it may have been merged, split off or moved.
    for reference in facts.references.values_mut() {
        if let Some(message) = facts.messages.get(&reference.message) {
            reference.moved = reference.conversation != message.conversation;
            reference.conversation = message.conversation;
        }
    }
    // Most messages go on in a conversation of their own author, which is loaded with the author.
    load_apart(conn, &contacts, &mut facts)?;
    for id in contacts {
        load_contact(conn, names, id, &mut facts)?;
    }
    conversations.retain(|id| !facts.conversations.contains_key(id));
    for id in conversations {
        let mut next = Some(id);
        for _ in 0..=MERGES_FOLLOWED_MAX {
            let Some(id) = next.filter(|id| !facts.conversations.contains_key(id)) else {
                break;
            };
            let Some(conversation) = conversation(conn, names, id)? else {
                break;
            };
            // A token names a conversation for ever, also one that was merged.
            next = conversation.detail.merged_into;
            let contact = conversation.contact;
            facts.conversations.insert(id, conversation);
            if !facts.contacts.contains_key(&contact) {
                load_contact(conn, names, contact, &mut facts)?;
            }
        }
    }
    for conversation in facts.conversations.values() {
        if let Some(contact) = facts.contacts.get_mut(&conversation.contact) {
            contact.conversations.push(conversation.id);
        }
    }
    for contact in facts.contacts.values_mut() {
        contact.conversations.sort();
    }
    for record in batch {
        let pending = pending(conn, &record.key)?;
        if !pending.is_empty() {
            facts.pending.insert(record.key, pending);
        }
    }
    for key in &needs.acknowledged {
        let mut statement =
            conn.prepare("SELECT 1 FROM acknowledged WHERE key = ?1 AND at > ?2")?;
        if statement.exists(params![key.as_slice(), acknowledged_since])? {
            facts.acknowledged.insert(*key);
        }
    }
    Ok(facts)
}

fn identity(conn: Conn<'_>, names: &Names, key: &IdentityKey) -> sql::Result<Option<Identity>> {
    conn.prepare(
        "SELECT id, contact FROM identity WHERE brand = ?1 AND scope = ?2 AND namespace = ?3 AND address = ?4",
    )?
    .query_row(
        params![
            names.id(key.brand.as_str()),
            scope(names, key),
            key.namespace.as_str(),
            key.address
        ],
        |row| Ok(Identity { id: IdentityId(row.get(0)?), contact: ContactId(row.get(1)?) }),
    )
    .optional()
}

/// The stored scope: the channel of a claimed identity, 0 for a verified one.
pub fn scope(names: &Names, key: &IdentityKey) -> i64 {
    key.scope
        .as_ref()
        .map_or(0, |channel| names.id(channel.as_str()))
}

fn reference(conn: Conn<'_>, key: &[u8; 16]) -> sql::Result<Option<Reference>> {
    conn.prepare("SELECT conversation, message FROM reference WHERE key = ?1")?
        .query_row([key.as_slice()], |row| {
            Ok(Reference {
                conversation: ConversationId(row.get(0)?),
                message: MessageId(row.get(1)?),
                moved: false,
            })
        })
        .optional()
}

pub fn message(conn: Conn<'_>, names: &Names, id: MessageId) -> sql::Result<Option<Message>> {
    let found = conn
        .prepare(
            "SELECT conversation, channel, delivery FROM message WHERE id = ?1 AND channel > 0",
        )?
        .query_row([id.0], |row| {
            let delivery: Option<i64> = row.get(2)?;
            Ok(Message {
                id,
                conversation: ConversationId(row.get(0)?),
                channel: named(names, row.get(1)?)?,
                delivery: delivery.and_then(Delivery::from_code),
                recipients: Vec::new(),
            })
        })
        .optional()?;
    match found {
        Some(sent) if sent.delivery.is_some() => Ok(Some(Message {
            recipients: recipients::of(conn, id)?,
            ..sent
        })),
        other => Ok(other),
    }
}

/// A query of conversations, with the columns that [`conversation_of`] reads.
macro_rules! select_conversations {
    ($rest:literal) => {
        concat!(
            "SELECT id, brand, contact, matter, status, queue, priority, assignee, version, last_seq, \
             last_message, opened_at, enqueued_at, last_inbound_at, resolved_at, detail FROM conversation ",
            $rest
        )
    };
}
pub(super) use select_conversations;

const CONTACT_CONVERSATIONS: &str = select_conversations!("WHERE contact = ?1 ORDER BY id DESC");
const CONTACT_OPEN: &str =
    select_conversations!("WHERE contact = ?1 AND status < 8 ORDER BY id DESC LIMIT 50");
const CONTACT_MATTERLESS: &str =
    select_conversations!("WHERE contact = ?1 AND status < 8 AND matter = 0 LIMIT 1");

pub fn conversation(
    conn: Conn<'_>,
    names: &Names,
    id: ConversationId,
) -> sql::Result<Option<Conversation>> {
    conn.prepare(select_conversations!("WHERE id = ?1"))?
        .query_row([id.0], |row| conversation_of(row, names))
        .optional()
}

/// A row of `select_conversations`.
pub fn conversation_of(row: &Row<'_>, names: &Names) -> sql::Result<Conversation> {
    let matter: i64 = row.get(3)?;
    let status: i64 = row.get(4)?;
    let detail: String = row.get(15)?;
    Ok(Conversation {
        id: ConversationId(row.get(0)?),
        brand: named::<BrandId>(names, row.get(1)?)?,
        contact: ContactId(row.get(2)?),
        matter: (matter != 0).then_some(MessageId(matter)),
        status: Status::from_code(status).ok_or(sql::Error::Meaningless {
            column: 4,
            value: status,
        })?,
        queue: named::<QueueId>(names, row.get(5)?)?,
        priority: Priority::from_code(row.get(6)?),
        assignee: row.get(7)?,
        version: row.get(8)?,
        last_seq: row.get(9)?,
        last_message: row.get::<Option<i64>>(10)?.map(MessageId),
        opened_at: row.get(11)?,
        enqueued_at: row.get(12)?,
        last_inbound_at: row.get(13)?,
        resolved_at: row.get(14)?,
        detail: from_json(15, &detail)?,
    })
}

/// A name of the `name` table as a typed id; a number without a name is a damaged row.
pub fn named<T: std::str::FromStr>(names: &Names, id: i64) -> sql::Result<T> {
    names.name(id).parse().map_err(|_| sql::Error::Meaningless {
        column: 0,
        value: id,
    })
}

pub fn from_json<T: serde::de::DeserializeOwned>(column: usize, text: &str) -> sql::Result<T> {
    serde_json::from_str(text).map_err(|error| sql::Error::Json {
        column,
        category: error.classify(),
        line: error.line(),
        at: error.column(),
    })
}

/// Resolved conversations of a contact that a message may reopen: those opened last.
const RESOLVED_MAX: usize = 5;
const OPEN_MAX: usize = 50;
/// Conversations of one contact that are looked at, newest first. Who has more is asked for what
/// may lie further back by queries of their own.
const LOOKED_AT_MAX: usize = 200;

/// Which of these contacts a person told apart; nearly always nobody did.
fn load_apart(conn: Conn<'_>, contacts: &HashSet<ContactId>, facts: &mut Facts) -> sql::Result<()> {
    if !conn.prepare("SELECT 1 FROM apart LIMIT 1")?.exists(())? {
        return Ok(());
    }
    for contact in contacts {
        let mut statement = conn.prepare("SELECT other FROM apart WHERE one = ?1")?;
        for other in statement.query_map([contact.0], |row| row.get(0))? {
            facts.apart.insert((*contact, ContactId(other?)));
        }
    }
    Ok(())
}

/// A contact with its open conversations and those it had last.
pub fn load_contact(
    conn: Conn<'_>,
    names: &Names,
    id: ContactId,
    facts: &mut Facts,
) -> sql::Result<()> {
    let found = conn
        .prepare("SELECT brand, verified, name, version FROM contact WHERE id = ?1")?
        .query_row([id.0], |row| {
            Ok(Contact {
                id,
                brand: named::<BrandId>(names, row.get(0)?)?,
                verified: row.get(1)?,
                name: row.get(2)?,
                version: row.get(3)?,
                conversations: Vec::new(),
            })
        })
        .optional()?;
    let Some(contact) = found else {
        return Ok(());
    };
    facts.contacts.insert(id, contact);
    match load_newest(conn, names, id, facts)? {
        true => Ok(()),
        false => load_further_back(conn, names, id, facts),
    }
}

/// Loads what matters of a contact's newest conversations in one pass; says whether nothing that
/// matters can be further back.
fn load_newest(
    conn: Conn<'_>,
    names: &Names,
    contact: ContactId,
    facts: &mut Facts,
) -> sql::Result<bool> {
    let mut statement = conn.prepare(CONTACT_CONVERSATIONS)?;
    let mut rows = statement.query([contact.0])?;
    let (mut looked_at, mut open, mut resolved) = (0, 0, 0);
    while let Some(row) = rows.next_row()? {
        looked_at += 1;
        if looked_at > LOOKED_AT_MAX || open == OPEN_MAX {
            return Ok(false);
        }
        let status = Status::from_code(row.get(4)?);
        if status.is_some_and(Status::is_open) {
            open += 1;
        } else if status == Some(Status::Resolved) && resolved < RESOLVED_MAX {
            resolved += 1;
        } else {
            continue;
        }
        keep(&row, names, facts)?;
    }
    Ok(true)
}

/// The open conversations of somebody who has very many, the one without a matter always among
/// them: no second one may come to be.
fn load_further_back(
    conn: Conn<'_>,
    names: &Names,
    contact: ContactId,
    facts: &mut Facts,
) -> sql::Result<()> {
    for sql in [CONTACT_OPEN, CONTACT_MATTERLESS] {
        let mut statement = conn.prepare(sql)?;
        let mut rows = statement.query([contact.0])?;
        while let Some(row) = rows.next_row()? {
            keep(&row, names, facts)?;
        }
    }
    Ok(())
}

/// Adds a conversation that is not loaded yet.
fn keep(row: &Row<'_>, names: &Names, facts: &mut Facts) -> sql::Result<()> {
    if let Entry::Vacant(free) = facts.conversations.entry(ConversationId(row.get(0)?)) {
        free.insert(conversation_of(row, names)?);
    }
    Ok(())
}

fn pending(conn: Conn<'_>, key: &[u8; 16]) -> sql::Result<Vec<PendingChange>> {
    let mut statement =
        conn.prepare("SELECT record, change FROM pending WHERE target = ?1 ORDER BY record")?;
    let rows = statement.query_map([key.as_slice()], |row| {
        let change: String = row.get(1)?;
        Ok(PendingChange {
            record: row.get(0)?,
            change: from_json(1, &change)?,
        })
    })?;
    rows.collect()
}
