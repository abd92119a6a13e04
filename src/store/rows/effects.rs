//! Writes the effects of a batch: rows only, every decision was made before.

mod conversation;

use connector_api::{DeliveryStage, Recipient};

use crate::conversation::Delivery;
use crate::router::effects::{
    Acknowledgement, Author, Effects, EventType, NewChange, NewEvent, NewMessage, NewReference,
};
use crate::router::facts::{Change, Facts};
use crate::store::sql::{Conn, params};
use crate::store::{Destination, Draft, StoreError};
use crate::subject;

use super::facts::scope;
use super::names::Names;
use super::{attachments, operating, outbox, seen, surgery};
use crate::store::rows::Tx;

pub use conversation::write_conversation;

/// Bits of `message.flags`.
pub const FLAG_AUTOMATIC: i64 = 1;
pub const FLAG_CONFLICTING: i64 = 2;
pub const FLAG_HISTORY: i64 = 4;

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
    let suggested = write_contacts(conn, &names, facts, effects)?;
    write_events(tx, &suggested)?;
    // Merges carry over where a contact is a guest, those of messages of this batch as well.
    write_guests(conn, &effects.messages)?;
    for merge in &effects.merges {
        surgery::contacts::write_merge(tx, merge)?;
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
        write_conversation(tx, conversation, new)?;
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
    for reached in &effects.reached {
        outbox::recipients::write(conn, reached)?;
    }
    for change in &effects.changes {
        write_change(conn, change)?;
    }
    for pending in &effects.pending {
        conn.prepare(
            "INSERT INTO pending (target, record, change, at) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
        )?
        .execute(params![
            pending.target.as_slice(),
            pending.record,
            json(&pending.change)?,
            pending.at
        ])?;
    }
    for key in &effects.settled_pending {
        conn.prepare("DELETE FROM pending WHERE target = ?1")?
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
    write_events(tx, &effects.events)
}

fn write_contacts(
    conn: Conn<'_>,
    names: &Names,
    facts: &Facts,
    effects: &Effects,
) -> Result<Vec<NewEvent>, StoreError> {
    for id in &effects.contacts {
        let Some(contact) = facts.contacts.get(id) else {
            continue;
        };
        conn.prepare(
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
        conn.prepare("UPDATE contact SET version = ?1 WHERE id = ?2")?
            .execute([contact.version, contact.id.0])?;
    }
    for identity in &effects.identities {
        conn.prepare(
            "INSERT INTO identity (id, brand, scope, namespace, address, contact, method, name, at, beside)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
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
            identity.at,
            identity.beside.map(|beside| beside.0)
        ])?;
    }
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
    let mut insert = conn.prepare(
        "INSERT INTO guest (contact, conversation) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
    )?;
    for message in messages {
        if let Some(guest) = message.guest {
            insert.execute([guest.0, message.conversation.0])?;
        }
    }
    Ok(())
}

fn write_message(conn: Conn<'_>, names: &Names, message: &NewMessage) -> Result<(), StoreError> {
    let flags = [
        (message.automatic, FLAG_AUTOMATIC),
        (message.conflicting, FLAG_CONFLICTING),
        (message.history, FLAG_HISTORY),
    ];
    let flags: i64 = (flags.into_iter())
        .filter_map(|(is, flag)| is.then_some(flag))
        .sum();
    conn.prepare(
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

fn write_reference(conn: Conn<'_>, reference: &NewReference) -> Result<(), StoreError> {
    let sql = if reference.replace {
        "INSERT INTO reference (key, conversation, message) VALUES (?1, ?2, ?3)
             ON CONFLICT (key) DO UPDATE SET conversation = excluded.conversation, message = excluded.message"
    } else {
        "INSERT INTO reference (key, conversation, message) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING"
    };
    conn.prepare(sql)?.execute(params![
        reference.key.as_slice(),
        reference.conversation.0,
        reference.message.0
    ])?;
    Ok(())
}

fn write_change(conn: Conn<'_>, change: &NewChange) -> Result<(), StoreError> {
    conn.prepare("INSERT INTO change (record, message, change, at) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![
            change.record,
            change.message.0,
            json(&change.change)?,
            change.at
        ])?;
    match &change.change {
        Change::Edited => {
            conn.prepare("UPDATE message SET body = ?1 WHERE id = ?2")?
                .execute([change.record, change.message.0])?;
        }
        Change::Deleted => {
            conn.prepare("UPDATE message SET deleted = 1 WHERE id = ?1")?
                .execute([change.message.0])?;
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
    outbox::insert(conn, &outbound)?;
    for key in &new.keys {
        conn.prepare(
            "INSERT INTO acknowledged (key, at) VALUES (?1, ?2)
             ON CONFLICT (key) DO UPDATE SET at = excluded.at",
        )?
        .execute(params![key.as_slice(), new.at])?;
    }
    Ok(())
}

pub fn write_events(tx: &mut Tx<'_>, events: &[NewEvent]) -> Result<(), StoreError> {
    for event in events {
        tx.memory.next_seq += 1;
        tx.conn.prepare(
            "INSERT INTO event (seq, kind, conversation, message, at, detail) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?.execute(params![
            tx.memory.next_seq,
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
