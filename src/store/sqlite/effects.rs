//! Writes the effects of a batch: rows only, every decision was made before.

use rusqlite::{Connection, params};

use crate::conversation::{Delivery, Status, rank};
use crate::ids::ConversationId;
use crate::router::effects::{
    Acknowledgement, Author, Effects, EventType, Merge, NewChange, NewEvent, NewMessage,
    NewReference,
};
use crate::router::facts::{Change, Conversation, Facts};
use crate::store::{Destination, Draft, StoreError};

use super::facts::scope;
use super::names::Names;
use super::writer::{Memory, Tx};
use super::{attachments, operating, outbox, seen};

/// Bits of `message.flags`.
pub const FLAG_AUTOMATIC: i64 = 1;
pub const FLAG_CONFLICTING: i64 = 2;

/// Writes everything; the caller moves the position in the same transaction.
pub fn write(
    tx: &mut Tx<'_>,
    facts: &Facts,
    effects: &Effects,
    now: i64,
) -> Result<(), StoreError> {
    let conn = tx.conn;
    seen::insert(conn, tx.memory, &effects.seen, now)?;
    let names = tx.memory.names.clone();
    write_contacts(conn, &names, facts, effects)?;
    for merge in &effects.merges {
        write_merge(tx, *merge)?;
    }
    let touched = effects
        .touched_conversations
        .iter()
        .filter_map(|id| facts.conversations.get(id));
    // Whoever gets a matter of its own first: another takes the empty one it leaves.
    let (own, empty): (Vec<_>, Vec<_>) =
        touched.partition(|conversation| conversation.matter.is_some());
    for conversation in own.into_iter().chain(empty) {
        let new = effects.new_conversations.contains(&conversation.id);
        write_conversation(conn, &names, conversation, new)?;
    }
    for message in &effects.messages {
        write_message(conn, &names, message)?;
    }
    for reference in &effects.references {
        write_reference(conn, reference)?;
    }
    for delivery in &effects.deliveries {
        outbox::deliver(conn, delivery.message, delivery.delivery, None)?;
    }
    for change in &effects.changes {
        write_change(conn, change)?;
    }
    for pending in &effects.pending {
        conn.prepare_cached(
            "INSERT OR IGNORE INTO pending (target, record, change, at) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![
            pending.target.as_slice(),
            pending.record,
            json(&pending.change)?,
            pending.at
        ])?;
    }
    for key in &effects.settled_pending {
        conn.prepare_cached("DELETE FROM pending WHERE target = ?1")?
            .execute([key.as_slice()])?;
    }
    for acknowledgement in &effects.acknowledgements {
        write_acknowledgement(conn, &names, facts, acknowledgement)?;
    }
    attachments::ask_for(conn, &effects.fetches)?;
    for letter in &effects.dead {
        operating::bury(
            tx,
            letter.record,
            &letter.reason,
            letter.attempts,
            letter.at,
        )?;
    }
    write_events(conn, tx.memory, &effects.events)
}

fn write_contacts(
    conn: &Connection,
    names: &Names,
    facts: &Facts,
    effects: &Effects,
) -> Result<(), StoreError> {
    for id in &effects.contacts {
        let Some(contact) = facts.contacts.get(id) else {
            continue;
        };
        conn.prepare_cached(
            "INSERT INTO contact (id, brand, verified, name, version, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            id.0,
            names.id(contact.brand.as_str()),
            contact.verified,
            contact.name,
            contact.version,
            effects.identities.iter().find(|new| new.contact == *id).map_or(0, |new| new.at)
        ])?;
    }
    for contact in (effects.touched_contacts.iter()).filter_map(|id| facts.contacts.get(id)) {
        conn.prepare_cached("UPDATE contact SET version = ?1 WHERE id = ?2")?
            .execute([contact.version, contact.id.0])?;
    }
    for identity in &effects.identities {
        conn.prepare_cached(
            "INSERT INTO identity (id, brand, scope, namespace, address, contact, method, name, at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            identity.id.0,
            names.id(identity.key.brand.as_str()),
            scope(names, &identity.key),
            identity.key.namespace.as_str(),
            identity.key.address,
            identity.contact.0,
            identity.method,
            identity.name,
            identity.at
        ])?;
    }
    for suggestion in &effects.suggestions {
        conn.prepare_cached(
            "INSERT OR IGNORE INTO suggestion (contact, namespace, address, at) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![
            suggestion.contact.0,
            suggestion.namespace.as_str(),
            suggestion.address,
            suggestion.at
        ])?;
    }
    Ok(())
}

/// Everything of `from` becomes `into`'s. The conversations the router settled are written after.
/// The event keeps what moved and what it was, so that a merge can be undone.
fn write_merge(tx: &mut Tx<'_>, merge: Merge) -> Result<(), StoreError> {
    let conn = tx.conn;
    let pair = [merge.into.0, merge.from.0];
    let moved = |sql: &str| -> Result<Vec<(i64, i64)>, StoreError> {
        let mut statement = conn.prepare_cached(sql)?;
        let rows = statement.query_map([merge.from.0], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    };
    let identities = moved("SELECT id, contact FROM identity WHERE contact = ?1")?;
    let conversations = moved("SELECT id, matter FROM conversation WHERE contact = ?1")?;
    let event = NewEvent {
        kind: EventType::ContactMerged,
        conversation: None,
        message: None,
        at: merge.at,
        detail: Some(serde_json::json!({
            "from": merge.from.0, "into": merge.into.0, "by": "evidence",
            "identities": identities.iter().map(|(id, _)| id).collect::<Vec<_>>(),
            "conversations": conversations,
        })),
    };
    write_events(conn, tx.memory, &[event])?;
    conn.prepare_cached("UPDATE identity SET contact = ?1 WHERE contact = ?2")?
        .execute(pair)?;
    // Of two open conversations without a matter one is about to get its own: until its row is
    // written both would stand under the same key, so they move with their own numbers first.
    conn.prepare_cached(
        "UPDATE conversation SET contact = ?1, matter = CASE WHEN matter = 0 AND status < 8 THEN id ELSE matter END,
         version = version + 1 WHERE contact = ?2",
    )?
    .execute(pair)?;
    conn.prepare_cached(
        "INSERT OR IGNORE INTO suggestion (contact, namespace, address, at)
         SELECT ?1, namespace, address, at FROM suggestion WHERE contact = ?2",
    )?
    .execute(pair)?;
    conn.prepare_cached("UPDATE contact SET merged_into = ?1 WHERE id = ?2")?
        .execute(pair)?;
    Ok(())
}

/// Writes a conversation and the waiting row that its state asks for.
pub fn write_conversation(
    conn: &Connection,
    names: &Names,
    conversation: &Conversation,
    new: bool,
) -> Result<(), StoreError> {
    let queue = names.id(conversation.queue.as_str());
    let before = if new {
        None
    } else {
        indexed(conn, conversation.id)?
    };
    let now = Indexed {
        contact: conversation.contact.0,
        matter: conversation.matter.map_or(0, |matter| matter.0),
        status: conversation.status.code(),
        assignee: conversation.assignee.clone(),
        waiting: (conversation.status == Status::Queued)
            .then(|| (queue, rank(conversation.enqueued_at, conversation.priority))),
    };
    // An UPDATE that names an indexed column rewrites that index: most messages change none.
    let same_keys = before.as_ref().is_some_and(|before| before.same_keys(&now));
    let sql = match (new, same_keys) {
        (true, _) => {
            "INSERT INTO conversation (id, version, last_seq, last_message, enqueued_at, last_inbound_at,
             resolved_at, priority, queue, detail, brand, contact, matter, status, assignee, opened_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)"
        }
        (false, false) => {
            "UPDATE conversation SET version = ?2, last_seq = ?3, last_message = ?4, enqueued_at = ?5,
             last_inbound_at = ?6, resolved_at = ?7, priority = ?8, queue = ?9, detail = ?10, brand = ?11,
             contact = ?12, matter = ?13, status = ?14, assignee = ?15, opened_at = ?16 WHERE id = ?1"
        }
        (false, true) => {
            "UPDATE conversation SET version = ?2, last_seq = ?3, last_message = ?4, enqueued_at = ?5,
             last_inbound_at = ?6, resolved_at = ?7, priority = ?8, queue = ?9, detail = ?10 WHERE id = ?1"
        }
    };
    let detail = json(&conversation.detail)?;
    let brand = names.id(conversation.brand.as_str());
    let last_message = conversation.last_message.map(|message| message.0);
    let priority = conversation.priority.code();
    let mut values: Vec<&dyn rusqlite::ToSql> = vec![
        &conversation.id.0,
        &conversation.version,
        &conversation.last_seq,
        &last_message,
        &conversation.enqueued_at,
        &conversation.last_inbound_at,
        &conversation.resolved_at,
        &priority,
        &queue,
        &detail,
    ];
    if !same_keys {
        let keys: [&dyn rusqlite::ToSql; 6] = [
            &brand,
            &now.contact,
            &now.matter,
            &now.status,
            &now.assignee,
            &conversation.opened_at,
        ];
        values.extend(keys);
    }
    conn.prepare_cached(sql)?.execute(values.as_slice())?;
    write_waiting(
        conn,
        conversation,
        before.and_then(|before| before.waiting),
        now.waiting,
    )
}

/// The columns of a conversation that indexes and the waiting row are made of.
struct Indexed {
    contact: i64,
    matter: i64,
    status: i64,
    assignee: Option<String>,
    /// Queue and rank, while it waits.
    waiting: Option<(i64, i64)>,
}

impl Indexed {
    fn same_keys(&self, other: &Self) -> bool {
        (self.contact, self.matter, self.status) == (other.contact, other.matter, other.status)
            && self.assignee == other.assignee
    }
}

/// A conversation's indexed columns as they stand in its row now.
fn indexed(conn: &Connection, id: ConversationId) -> Result<Option<Indexed>, StoreError> {
    let mut statement = conn.prepare_cached(
        "SELECT contact, matter, status, assignee, queue, enqueued_at, priority FROM conversation WHERE id = ?1",
    )?;
    let mut rows = statement.query([id.0])?;
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    let status: i64 = row.get(2)?;
    let priority = crate::conversation::Priority::from_code(row.get(6)?);
    let place = (row.get(4)?, rank(row.get(5)?, priority));
    Ok(Some(Indexed {
        contact: row.get(0)?,
        matter: row.get(1)?,
        status,
        assignee: row.get(3)?,
        waiting: (status == Status::Queued.code()).then_some(place),
    }))
}

fn write_waiting(
    conn: &Connection,
    conversation: &Conversation,
    before: Option<(i64, i64)>,
    after: Option<(i64, i64)>,
) -> Result<(), StoreError> {
    if before == after {
        return Ok(());
    }
    if let Some((queue, rank)) = before {
        conn.prepare_cached(
            "DELETE FROM waiting WHERE queue = ?1 AND fit_class = 0 AND rank = ?2 AND id = ?3",
        )?
        .execute([queue, rank, conversation.id.0])?;
    }
    if let Some((queue, rank)) = after {
        conn.prepare_cached("INSERT INTO waiting (queue, fit_class, rank, id, enqueued_at) VALUES (?1, 0, ?2, ?3, ?4)")?
            .execute([queue, rank, conversation.id.0, conversation.enqueued_at])?;
    }
    Ok(())
}

fn write_message(conn: &Connection, names: &Names, message: &NewMessage) -> Result<(), StoreError> {
    let flags = if message.automatic { FLAG_AUTOMATIC } else { 0 }
        | if message.conflicting {
            FLAG_CONFLICTING
        } else {
            0
        };
    conn.prepare_cached(
        "INSERT INTO message (id, conversation, seq, prev, author, channel, identity, arrived_at, sent_at, body,
         deleted, duplicate_of, flags, labels, explanation)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?1, ?10, ?11, ?12, ?13, ?14)",
    )?
    .execute(params![
        message.id.0,
        message.conversation.0,
        message.seq,
        message.prev.map(|prev| prev.0),
        message.author.code(),
        names.id(message.channel.as_str()),
        message.identity.map(|identity| identity.0),
        message.arrived_at,
        message.sent_at,
        message.deleted,
        message.duplicate_of.map(|duplicate| duplicate.0),
        flags,
        json(&message.labels)?,
        json(&message.explanation)?
    ])?;
    Ok(())
}

fn write_reference(conn: &Connection, reference: &NewReference) -> Result<(), StoreError> {
    let sql = if reference.replace {
        "INSERT OR REPLACE INTO reference (key, conversation, message) VALUES (?1, ?2, ?3)"
    } else {
        "INSERT OR IGNORE INTO reference (key, conversation, message) VALUES (?1, ?2, ?3)"
    };
    conn.prepare_cached(sql)?.execute(params![
        reference.key.as_slice(),
        reference.conversation.0,
        reference.message.0
    ])?;
    Ok(())
}

fn write_change(conn: &Connection, change: &NewChange) -> Result<(), StoreError> {
    conn.prepare_cached(
        "INSERT INTO change (record, message, change, at) VALUES (?1, ?2, ?3, ?4)",
    )?
    .execute(params![
        change.record,
        change.message.0,
        json(&change.change)?,
        change.at
    ])?;
    match &change.change {
        Change::Edited => {
            conn.prepare_cached("UPDATE message SET body = ?1 WHERE id = ?2")?
                .execute([change.record, change.message.0])?;
        }
        Change::Deleted => {
            conn.prepare_cached("UPDATE message SET deleted = 1 WHERE id = ?1")?
                .execute([change.message.0])?;
        }
        Change::Receipt {
            reason: Some(reason),
            ..
        } => {
            // A failure reported of what was delivered changes nothing, so it gives no reason either.
            conn.prepare_cached("UPDATE message SET reason = ?1 WHERE id = ?2 AND delivery = ?3")?
                .execute(params![reason, change.message.0, Delivery::Refused.code()])?;
        }
        Change::Receipt { .. } | Change::Reaction { .. } => {}
    }
    Ok(())
}

fn write_acknowledgement(
    conn: &Connection,
    names: &Names,
    facts: &Facts,
    new: &Acknowledgement,
) -> Result<(), StoreError> {
    let subject = facts
        .conversations
        .get(&new.conversation)
        .and_then(|known| known.detail.subject.clone());
    let (references, thread) = outbox::thread_of(conn, new.prev, names.id(new.channel.as_str()))?;
    let draft = Draft {
        text: new.text.clone(),
        to: Some(Destination {
            namespace: new.namespace.clone(),
            address: new.address.clone(),
            name: None,
            thread,
            subject,
            references,
        }),
        automatic: true,
    };
    let outbound = outbox::NewOutbound {
        id: new.id,
        conversation: new.conversation,
        seq: new.seq,
        prev: new.prev,
        author: Author::Automation,
        agent: None,
        channel: names.id(new.channel.as_str()),
        draft: &draft,
        at: new.at,
    };
    outbox::insert(conn, &outbound)?;
    conn.prepare_cached("INSERT OR REPLACE INTO acknowledged (key, at) VALUES (?1, ?2)")?
        .execute(params![new.key.as_slice(), new.at])?;
    Ok(())
}

pub fn write_events(
    conn: &Connection,
    memory: &mut Memory,
    events: &[NewEvent],
) -> Result<(), StoreError> {
    for event in events {
        memory.next_seq += 1;
        conn.prepare_cached(
            "INSERT INTO event (seq, kind, conversation, message, at, detail) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            memory.next_seq,
            event.kind.code(),
            event.conversation.map(|conversation| conversation.0),
            event.message.map(|message| message.0),
            event.at,
            event.detail.as_ref().map(ToString::to_string)
        ])?;
    }
    Ok(())
}

pub fn json<T: serde::Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value)
        .map_err(|error| StoreError::Poisoned(format!("writing JSON: {error}")))
}
