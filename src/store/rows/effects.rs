//! Writes the effects of a batch: rows only, every decision was made before.

mod conversation;

use std::collections::BTreeMap;

use connector_api::{DeliveryStage, Recipient};

use crate::conversation::Delivery;
use crate::router::effects::{
    Acknowledgement, Author, Effects, EventType, NewChange, NewEvent, NewIdentity, NewMessage,
    NewReference,
};
use crate::router::facts::{Change, Conversation, Facts};
use crate::store::sql::{Conn, params};
use crate::store::{Destination, Draft, StoreError};
use crate::subject;

use super::events::write_events;
use super::facts::scope;
use super::names::Names;
use super::{attachments, operating, outbox, seen, surgery};
use crate::store::rows::Tx;

pub use conversation::write_conversation;
use conversation::write_conversations;

/// Bits of `message.flags`.
pub const FLAG_AUTOMATIC: i64 = 1;
pub const FLAG_CONFLICTING: i64 = 2;
pub const FLAG_HISTORY: i64 = 4;

/// Writes everything; the caller moves the position in the same transaction. Tables, and what is unique in each,
/// always in the same order: who waits for a row of another transaction waits in a circle never.
pub fn write(
    tx: &mut Tx<'_>,
    facts: &Facts,
    effects: &Effects,
    now: i64,
) -> Result<(), StoreError> {
    let conn = tx.conn;
    seen::insert(tx, &effects.seen, now)?;
    let names = tx.memory.names.clone();
    let suggested = write_contacts(conn, &names, facts, effects)?;
    write_events(tx, &suggested)?;
    // Merges carry over where a contact is a guest, those of messages of this batch as well.
    write_guests(conn, &effects.messages)?;
    for merge in &effects.merges {
        surgery::contacts::write_merge(tx, merge)?;
    }
    let touched = effects.touched_conversations.iter();
    let touched = touched.filter_map(|id| facts.conversations.get(id));
    let touched: Vec<(&Conversation, bool)> = touched
        .map(|known| (known, effects.new_conversations.contains(&known.id)))
        .collect();
    write_conversations(tx, &touched)?;
    write_messages(conn, &names, &effects.messages)?;
    write_references(conn, &effects.references)?;
    for delivery in &effects.deliveries {
        outbox::deliver(conn, delivery.message, delivery.delivery, None)?;
    }
    for reached in &effects.reached {
        outbox::recipients::write(conn, reached)?;
    }
    for change in &effects.changes {
        write_change(conn, change)?;
    }
    write_pending(conn, effects)?;
    for acknowledgement in &effects.acknowledgements {
        write_acknowledgement(conn, &names, facts, acknowledgement)?;
    }
    write_acknowledged(conn, &effects.acknowledgements)?;
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
    write_events(tx, &effects.events)
}

fn write_contacts(
    conn: Conn<'_>,
    names: &Names,
    facts: &Facts,
    effects: &Effects,
) -> Result<Vec<NewEvent>, StoreError> {
    let mut insert = conn.write_each(
        "INSERT INTO contact (id, brand, verified, name, version, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    for contact in effects
        .contacts
        .iter()
        .filter_map(|id| facts.contacts.get(id))
    {
        let made = effects
            .identities
            .iter()
            .find(|new| new.contact == contact.id);
        insert.add(params![
            contact.id.0,
            names.id(contact.brand.as_str()),
            contact.verified,
            contact.name,
            contact.version,
            made.map_or(0, |new| new.at)
        ])?;
    }
    insert.done()?;
    let mut update = conn.write_each("UPDATE contact SET version = ?1 WHERE id = ?2")?;
    for contact in (effects.touched_contacts.iter()).filter_map(|id| facts.contacts.get(id)) {
        update.add([contact.version, contact.id.0])?;
    }
    update.done()?;
    write_identities(conn, names, &effects.identities)?;
    write_suggestions(conn, effects)
}

fn write_identities(
    conn: Conn<'_>,
    names: &Names,
    identities: &[NewIdentity],
) -> Result<(), StoreError> {
    let mut sorted: Vec<&NewIdentity> = identities.iter().collect();
    sorted.sort_by(|one, other| {
        let by = |new: &&NewIdentity| {
            (
                new.key.brand.as_str().to_owned(),
                new.key.namespace.as_str().to_owned(),
            )
        };
        (by(one), &one.key.address).cmp(&(by(other), &other.key.address))
    });
    let mut insert = conn.write_each(
        "INSERT INTO identity (id, brand, scope, namespace, address, contact, method, name, at, beside)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?;
    for identity in sorted {
        insert.add(params![
            identity.id.0,
            names.id(identity.key.brand.as_str()),
            scope(names, &identity.key),
            identity.key.namespace.as_str(),
            identity.key.address,
            identity.contact.0,
            identity.method,
            identity.name,
            identity.at,
            identity.beside.map(|beside| beside.0)
        ])?;
    }
    Ok(insert.done()?)
}

fn write_suggestions(conn: Conn<'_>, effects: &Effects) -> Result<Vec<NewEvent>, StoreError> {
    let mut suggested = Vec::new();
    for suggestion in &effects.suggestions {
        let new = conn.prepare(
            "INSERT INTO suggestion (contact, namespace, address, at) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
        )?
        .execute(params![
            suggestion.contact.0,
            suggestion.namespace.as_str(),
            suggestion.address,
            suggestion.at
        ])?;
        if new > 0 && !effects.contacts.contains(&suggestion.contact) {
            let changed = EventType::ContactUpdated;
            suggested.push(NewEvent::of_contact(
                changed,
                suggestion.contact,
                suggestion.at,
            ));
        }
    }
    Ok(suggested)
}

fn write_guests(conn: Conn<'_>, messages: &[NewMessage]) -> Result<(), StoreError> {
    let mut insert = conn.write_each(
        "INSERT INTO guest (contact, conversation) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
    )?;
    for message in messages {
        if let Some(guest) = message.guest {
            insert.add([guest.0, message.conversation.0])?;
        }
    }
    Ok(insert.done()?)
}

fn write_messages(
    conn: Conn<'_>,
    names: &Names,
    messages: &[NewMessage],
) -> Result<(), StoreError> {
    let mut insert = conn.write_each(
        "INSERT INTO message (id, conversation, seq, prev, author, channel, identity, arrived_at, sent_at, body,
         deleted, duplicate_of, flags, labels, explanation)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?1, ?10, ?11, ?12, ?13, ?14)",
    )?;
    for message in messages {
        let flags = [
            (message.automatic, FLAG_AUTOMATIC),
            (message.conflicting, FLAG_CONFLICTING),
            (message.history, FLAG_HISTORY),
        ];
        let flags: i64 = (flags.into_iter())
            .filter_map(|(is, flag)| is.then_some(flag))
            .sum();
        insert.add(params![
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
    }
    Ok(insert.done()?)
}

/// Native threads go on to another conversation, and to the last one of a batch; a Message-ID stays with whoever
/// had it first.
fn write_references(conn: Conn<'_>, references: &[NewReference]) -> Result<(), StoreError> {
    let keeps = "INSERT INTO reference (key, conversation, message) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
    let replaces = "INSERT INTO reference (key, conversation, message) VALUES (?1, ?2, ?3)
         ON CONFLICT (key) DO UPDATE SET conversation = excluded.conversation, message = excluded.message";
    let kept = references.iter().rev().filter(|new| !new.replace);
    let moved = references.iter().filter(|new| new.replace);
    for (sql, new) in [
        (keeps, BTreeMap::from_iter(kept.map(|new| (new.key, new)))),
        (
            replaces,
            BTreeMap::from_iter(moved.map(|new| (new.key, new))),
        ),
    ] {
        let mut insert = conn.write_each(sql)?;
        for reference in new.values() {
            insert.add(params![
                reference.key.as_slice(),
                reference.conversation.0,
                reference.message.0
            ])?;
        }
        insert.done()?;
    }
    Ok(())
}

fn write_change(conn: Conn<'_>, change: &NewChange) -> Result<(), StoreError> {
    conn.write(
        "INSERT INTO change (record, message, change, at) VALUES (?1, ?2, ?3, ?4)",
        params![
            change.record,
            change.message.0,
            json(&change.change)?,
            change.at
        ],
    )?;
    match &change.change {
        Change::Edited => {
            conn.write(
                "UPDATE message SET body = ?1 WHERE id = ?2",
                [change.record, change.message.0],
            )?;
        }
        Change::Deleted => {
            conn.write(
                "UPDATE message SET deleted = 1 WHERE id = ?1",
                [change.message.0],
            )?;
        }
        Change::Receipt {
            stage: DeliveryStage::Accepted,
            reason: Some(reason),
            ..
        } => {
            // It is late. Of one of several, its own row says so.
            conn.prepare(
                "UPDATE message SET reason = ?1 WHERE id = ?2 AND delivery = ?3
                 AND NOT EXISTS (SELECT 1 FROM recipient WHERE message = ?2)",
            )?
            .execute(params![reason, change.message.0, Delivery::Sent.code()])?;
        }
        Change::Receipt {
            reason: Some(reason),
            ..
        } => {
            // A failure reported of what was delivered changes nothing, so it gives no reason either.
            conn.prepare("UPDATE message SET reason = ?1 WHERE id = ?2 AND delivery = ?3")?
                .execute(params![reason, change.message.0, Delivery::Refused.code()])?;
        }
        Change::Receipt { .. } | Change::Reaction { .. } => {}
    }
    Ok(())
}

fn write_pending(conn: Conn<'_>, effects: &Effects) -> Result<(), StoreError> {
    let mut insert = conn.write_each(
        "INSERT INTO pending (target, record, change, at) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
    )?;
    for pending in &effects.pending {
        insert.add(params![
            pending.target.as_slice(),
            pending.record,
            json(&pending.change)?,
            pending.at
        ])?;
    }
    insert.done()?;
    let mut delete = conn.write_each("DELETE FROM pending WHERE target = ?1")?;
    for key in &effects.settled_pending {
        delete.add([key.as_slice()])?;
    }
    Ok(delete.done()?)
}

fn write_acknowledgement(
    conn: Conn<'_>,
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
            thread,
            subject: subject::of_answer(&new.namespace, subject),
            references,
            answers: Some(new.answers),
            ..Destination::of(Recipient {
                namespace: new.namespace.clone(),
                address: new.address.clone(),
                name: None,
            })
        }),
        automatic: true,
        ..Draft::default()
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
    outbox::insert(conn, &outbound)
}

/// Who got one gets no second one for a while.
fn write_acknowledged(conn: Conn<'_>, new: &[Acknowledgement]) -> Result<(), StoreError> {
    let keys = new
        .iter()
        .flat_map(|new| new.keys.iter().map(|key| (*key, new.at)));
    let mut insert = conn.write_each(
        "INSERT INTO acknowledged (key, at) VALUES (?1, ?2)
         ON CONFLICT (key) DO UPDATE SET at = excluded.at",
    )?;
    for (key, at) in BTreeMap::from_iter(keys) {
        insert.add(params![key.as_slice(), at])?;
    }
    Ok(insert.done()?)
}

pub fn json<T: serde::Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value)
        .map_err(|error| StoreError::Poisoned(format!("writing JSON: {error}")))
}
