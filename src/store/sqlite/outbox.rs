//! The outbox: replies accepted and waiting to be sent, and what became of each attempt.

use connector_api::{ChannelId, DeliveryStage, Event};
use rusqlite::{Connection, OptionalExtension, params};

use crate::bus::{Content, decode};
use crate::conversation::Delivery;
use crate::ids::{ConversationId, MessageId};
use crate::router::effects::{Author, EventType, NewEvent};
use crate::router::facts::Change;
use crate::router::keys;
use crate::store::{Draft, Leased, OutboxState, Settlement, StoreError};

use super::effects::{json, write_events};
use super::facts::{conversation, from_json, named};
use super::writer::Tx;

/// Messages back that References are gathered from (RFC 5322 sets no limit; receivers do).
const REFERENCES_MAX: usize = 20;

/// An outbound message or a note.
pub struct NewOutbound<'a> {
    pub id: MessageId,
    pub conversation: ConversationId,
    pub seq: i64,
    pub prev: Option<MessageId>,
    pub author: Author,
    pub agent: Option<&'a str>,
    pub channel: i64,
    pub draft: &'a Draft,
    pub at: i64,
}

/// Writes the message, and its outbox row unless it is a note.
pub fn insert(conn: &Connection, new: &NewOutbound<'_>) -> Result<(), StoreError> {
    let leaves = new.draft.to.is_some();
    conn.prepare_cached("INSERT INTO body (id, content) VALUES (?1, ?2)")?
        .execute(params![new.id.0, json(new.draft)?.into_bytes()])?;
    conn.prepare_cached(
        "INSERT INTO message (id, conversation, seq, prev, author, channel, agent, arrived_at, delivery, body,
         deleted, flags) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?1, 0, ?10)",
    )?
    .execute(params![
        new.id.0,
        new.conversation.0,
        new.seq,
        new.prev.map(|prev| prev.0),
        new.author.code(),
        new.channel,
        new.agent,
        new.at,
        leaves.then(|| Delivery::Queued.code()),
        if new.draft.automatic { super::effects::FLAG_AUTOMATIC } else { 0 },
    ])?;
    if leaves {
        conn.prepare_cached(
            "INSERT INTO outbox (id, channel, conversation, seq, state, attempts, next_at) VALUES (?1, ?2, ?3, ?4, ?5, 0, ?6)",
        )?
        .execute([new.id.0, new.channel, new.conversation.0, new.seq, OutboxState::Queued.code(), new.at])?;
    }
    Ok(())
}

/// Ids of the channel's messages up to `last`, oldest first, and the native thread of `last` itself:
/// what one provider calls things means nothing, or something else, to another.
pub fn thread_of(
    conn: &Connection,
    last: Option<MessageId>,
    channel: i64,
) -> Result<(Vec<String>, Option<String>), StoreError> {
    let mut references = Vec::new();
    let mut thread = None;
    let mut next = last;
    for _ in 0..REFERENCES_MAX {
        let Some(id) = next else { break };
        let row = conn
            .prepare_cached(
                "SELECT message.prev, message.provider_ids, body.content, message.channel FROM message
                 LEFT JOIN body ON body.id = message.id WHERE message.id = ?1",
            )?
            .query_row([id.0], |row| {
                Ok((
                    row.get::<_, Option<i64>>(0)?,
                    row.get::<_, Option<String>>(1)?,
                    row.get::<_, Option<Vec<u8>>>(2)?,
                    row.get::<_, i64>(3)?,
                ))
            })
            .optional()?;
        let Some((prev, provider_ids, body, of_channel)) = row else {
            break;
        };
        next = prev.map(MessageId);
        if of_channel != channel {
            continue;
        }
        if let Some(ids) = provider_ids {
            references.extend(from_json::<Vec<String>>(1, &ids)?.pop());
        } else if let Some(Content::Envelope(envelope)) = body.as_deref().map(decode)
            && let Event::Message(message) = &envelope.event.event
        {
            references.extend(message.thread.message_id.clone());
            if last == Some(id) {
                thread = message.thread.native.clone();
            }
        }
    }
    references.reverse();
    Ok((references, thread))
}

/// Writes how far a sent message got; the router or a settlement decided it.
pub fn deliver(
    conn: &Connection,
    id: MessageId,
    delivery: Delivery,
    reason: Option<&str>,
) -> Result<(), StoreError> {
    conn.prepare_cached(
        "UPDATE message SET delivery = ?1, reason = coalesce(?2, reason) WHERE id = ?3",
    )?
    .execute(params![delivery.code(), reason, id.0])?;
    // A receipt settles what an attempt left open.
    if !matches!(
        delivery,
        Delivery::Queued | Delivery::Sending | Delivery::Unknown
    ) {
        conn.prepare_cached("DELETE FROM outbox WHERE id = ?1")?
            .execute([id.0])?;
    }
    Ok(())
}

/// Refuses what waits on a channel that cannot send (any more): it would wait for ever.
pub fn refuse_unsendable(
    tx: &mut Tx<'_>,
    senders: &[ChannelId],
    now: i64,
) -> Result<(), StoreError> {
    let mut statement = tx
        .conn
        .prepare_cached("SELECT id, channel FROM outbox WHERE state = ?1 ORDER BY id")?;
    let rows = statement.query_map([OutboxState::Queued.code()], |row| {
        Ok((MessageId(row.get(0)?), row.get::<_, i64>(1)?))
    })?;
    let queued: Vec<(MessageId, i64)> = rows.collect::<rusqlite::Result<_>>()?;
    for (id, channel) in queued {
        let name = tx.memory.names.name(channel);
        if !senders.iter().any(|known| known.as_str() == name) {
            let reason = format!("the channel {name} cannot send");
            settle(tx, id, &Settlement::Refused { reason }, now)?;
        }
    }
    Ok(())
}

/// Takes due rows and writes the attempt down, before the first byte leaves.
pub fn lease(
    tx: &mut Tx<'_>,
    channel: &ChannelId,
    limit: u32,
    now: i64,
) -> Result<Vec<Leased>, StoreError> {
    let conn = tx.conn;
    let number = tx.memory.names.id(channel.as_str());
    let mut statement = conn.prepare_cached(
        "SELECT outbox.id, outbox.conversation, outbox.attempts, message.arrived_at, body.content,
                conversation.opened_at
         FROM outbox JOIN message ON message.id = outbox.id JOIN body ON body.id = outbox.id
         JOIN conversation ON conversation.id = outbox.conversation
         WHERE outbox.channel = ?1 AND outbox.state = ?2 AND outbox.next_at <= ?3
         AND NOT EXISTS (SELECT 1 FROM outbox AS earlier WHERE earlier.conversation = outbox.conversation
                         AND earlier.seq < outbox.seq AND earlier.state < 2)
         ORDER BY outbox.next_at, outbox.id LIMIT ?4",
    )?;
    let rows = statement.query_map(
        params![number, OutboxState::Queued.code(), now, limit],
        |row| {
            let body: Vec<u8> = row.get(4)?;
            let draft = serde_json::from_slice(&body).map_err(|error| {
                rusqlite::Error::FromSqlConversionFailure(
                    4,
                    rusqlite::types::Type::Blob,
                    Box::new(error),
                )
            })?;
            Ok(Leased {
                id: MessageId(row.get(0)?),
                conversation: ConversationId(row.get(1)?),
                conversation_opened_at: row.get(5)?,
                channel: channel.clone(),
                draft,
                accepted_at: row.get(3)?,
                attempts: row.get::<_, u32>(2)? + 1,
            })
        },
    )?;
    let leased: Vec<Leased> = rows.collect::<rusqlite::Result<_>>()?;
    for lease in &leased {
        conn.prepare_cached("UPDATE outbox SET state = ?1, attempts = attempts + 1 WHERE id = ?2")?
            .execute([OutboxState::Sending.code(), lease.id.0])?;
        deliver(conn, lease.id, Delivery::Sending, None)?;
    }
    Ok(leased)
}

/// Files the outcome of an attempt. What a receipt settled meanwhile is left as it is.
pub fn settle(
    tx: &mut Tx<'_>,
    id: MessageId,
    settlement: &Settlement,
    now: i64,
) -> Result<(), StoreError> {
    let conn = tx.conn;
    let row = conn
        .prepare_cached("SELECT conversation, delivery, channel FROM message WHERE id = ?1")?
        .query_row([id.0], |row| {
            Ok((
                ConversationId(row.get(0)?),
                row.get::<_, Option<i64>>(1)?,
                row.get::<_, i64>(2)?,
            ))
        })
        .optional()?;
    let Some((conversation_id, delivery, channel)) = row else {
        return Ok(());
    };
    let now_at = delivery
        .and_then(Delivery::from_code)
        .unwrap_or(Delivery::Unknown);
    let open = matches!(
        now_at,
        Delivery::Queued | Delivery::Sending | Delivery::Unknown
    );
    match settlement {
        Settlement::Sent {
            provider_ids,
            namespace,
        } => {
            conn.prepare_cached("UPDATE message SET provider_ids = ?1 WHERE id = ?2")?
                .execute(params![json(provider_ids)?, id.0])?;
            if open {
                deliver(conn, id, Delivery::Sent, None)?;
            }
            let channel: ChannelId = named(&tx.memory.names, channel)?;
            let namespace = namespace.as_ref();
            if name_sent(tx, id, conversation_id, &channel, provider_ids, namespace)? {
                return_to_person(tx, conversation_id, now)?;
            }
        }
        Settlement::Refused { reason } if open => {
            deliver(conn, id, Delivery::Refused, Some(reason))?
        }
        Settlement::Unknown { reason } if open => {
            deliver(conn, id, Delivery::Unknown, Some(reason))?;
            conn.prepare_cached("UPDATE outbox SET state = ?1, error = ?2 WHERE id = ?3")?
                .execute(params![OutboxState::Held.code(), reason, id.0])?;
        }
        Settlement::Retry { at, reason } if open => {
            deliver(conn, id, Delivery::Queued, None)?;
            conn.prepare_cached(
                "UPDATE outbox SET state = ?1, next_at = ?2, error = ?3 WHERE id = ?4",
            )?
            .execute(params![OutboxState::Queued.code(), at, reason, id.0])?;
            return Ok(());
        }
        _ => return Ok(()),
    }
    if matches!(
        settlement,
        Settlement::Refused { .. } | Settlement::Unknown { .. }
    ) {
        return_to_person(tx, conversation_id, now)?;
    }
    let event = NewEvent {
        kind: EventType::MessageDelivery,
        conversation: Some(conversation_id),
        message: Some(id),
        at: now,
        detail: None,
    };
    write_events(conn, tx.memory, &[event])
}

/// Makes a sent message findable by its provider's ids, and applies the receipts that overtook the
/// provider's answer.
fn name_sent(
    tx: &mut Tx<'_>,
    id: MessageId,
    conversation_id: ConversationId,
    channel: &ChannelId,
    provider_ids: &[String],
    namespace: Option<&connector_api::Namespace>,
) -> Result<Refused, StoreError> {
    let conn = tx.conn;
    let mut refused = false;
    let Some(conversation) = conversation(conn, &tx.memory.names, conversation_id)? else {
        return Ok(refused);
    };
    let brand = &conversation.brand;
    for provider_id in provider_ids {
        let sent = keys::sent(brand, channel, provider_id);
        let named = namespace.map(|namespace| keys::message_id(brand, namespace, provider_id));
        for key in std::iter::once(sent).chain(named) {
            conn.prepare_cached(
                "INSERT OR IGNORE INTO reference (key, conversation, message) VALUES (?1, ?2, ?3)",
            )?
            .execute(params![key.as_slice(), conversation_id.0, id.0])?;
        }
        let mut statement = conn.prepare_cached(
            "SELECT record, change FROM pending WHERE target = ?1 ORDER BY record",
        )?;
        let early = statement.query_map([sent.as_slice()], |row| {
            Ok((
                row.get::<_, i64>(0)?,
                from_json::<Change>(1, &row.get::<_, String>(1)?)?,
            ))
        })?;
        for row in early {
            let (record, change) = row?;
            if let Change::Receipt { stage, reason } = &change {
                refused |= receive(conn, id, *stage, reason.as_deref())?;
            }
            conn.prepare_cached("INSERT OR IGNORE INTO change (record, message, change, at) VALUES (?1, ?2, ?3, ?4)")?
                .execute(params![record, id.0, json(&change)?, conversation.last_inbound_at])?;
        }
        conn.prepare_cached("DELETE FROM pending WHERE target = ?1")?
            .execute([sent.as_slice()])?;
    }
    Ok(refused)
}

/// Whether a receipt said that the message was refused after all.
type Refused = bool;

fn receive(
    conn: &Connection,
    id: MessageId,
    stage: DeliveryStage,
    reason: Option<&str>,
) -> Result<Refused, StoreError> {
    let now: Option<i64> = conn
        .prepare_cached("SELECT delivery FROM message WHERE id = ?1")?
        .query_row([id.0], |row| row.get(0))?;
    let next = now
        .and_then(Delivery::from_code)
        .and_then(|now| now.after_receipt(stage));
    if let Some(next) = next {
        deliver(conn, id, next, reason)?;
    }
    Ok(next == Some(Delivery::Refused))
}

/// An answer that did not certainly leave comes back to whoever wrote it.
fn return_to_person(tx: &mut Tx<'_>, id: ConversationId, now: i64) -> Result<(), StoreError> {
    use crate::conversation::Status;
    let Some(mut conversation) = conversation(tx.conn, &tx.memory.names, id)? else {
        return Ok(());
    };
    match (conversation.status, &conversation.assignee) {
        (Status::Pending, Some(_)) => conversation.status = Status::Assigned,
        // Answered and resolved at once, as desks do: the customer still has no answer.
        (Status::Pending | Status::Resolved, _) => {
            if conversation.matter.is_none() && super::desk::has_other_open(tx, &conversation)? {
                conversation.matter = Some(conversation.founding_message());
            }
            conversation.status = Status::Queued;
            conversation.assignee = None;
            conversation.resolved_at = None;
            conversation.enqueued_at = now;
            let event = NewEvent {
                kind: EventType::ConversationQueued,
                conversation: Some(id),
                message: None,
                at: now,
                detail: None,
            };
            write_events(tx.conn, tx.memory, &[event])?;
        }
        _ => return Ok(()),
    }
    conversation.version += 1;
    super::effects::write_conversation(tx.conn, &tx.memory.names, &conversation, false)
}

/// Settles what was under way when the process ended: nobody knows whether it left.
pub fn recover(tx: &mut Tx<'_>, idempotent: &[ChannelId], now: i64) -> Result<u64, StoreError> {
    let conn = tx.conn;
    let mut statement =
        conn.prepare_cached("SELECT id, channel FROM outbox WHERE state = ?1 ORDER BY id")?;
    let rows = statement.query_map([OutboxState::Sending.code()], |row| {
        Ok((MessageId(row.get(0)?), row.get::<_, i64>(1)?))
    })?;
    let under_way: Vec<(MessageId, i64)> = rows.collect::<rusqlite::Result<_>>()?;
    for (id, channel) in &under_way {
        let name = tx.memory.names.name(*channel);
        let reason = "the process ended while this was being sent".to_owned();
        let settlement = if idempotent.iter().any(|known| known.as_str() == name) {
            Settlement::Retry { at: now, reason }
        } else {
            Settlement::Unknown { reason }
        };
        settle(tx, *id, &settlement, now)?;
    }
    Ok(under_way.len() as u64)
}
