//! The outbox: replies accepted and waiting to be sent, and what became of each attempt.

use std::collections::HashSet;

use connector_api::{Capabilities, ChannelId, Event};

use crate::bus::{Content, decode};
use crate::conversation::Delivery;
use crate::dispatch::fit::{Fitting, fit};
use crate::ids::{ConversationId, MessageId};
use crate::router::effects::{Author, NewEvent};
use crate::store::sql::{self, Conn, Optional as _, params};
use crate::store::{
    Draft, Leased, OutboxState, SettleAs, SettledWhy, Settlement, StoreError, Taken,
};

use super::desk;
use super::effects::json;
use super::events::write_events;
use super::facts::{conversation, from_json};
use crate::store::rows::Tx;

pub mod heard;
pub mod held;
pub mod recipients;
pub mod sent;
mod settle;

pub use settle::{back_in_queue, settle, settle_attempt};

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
pub fn insert(conn: Conn<'_>, new: &NewOutbound<'_>) -> Result<(), StoreError> {
    let leaves = new.draft.to.is_some();
    conn.write(
        "INSERT INTO body (id, content) VALUES (?1, ?2)",
        params![new.id.0, json(new.draft)?.into_bytes()],
    )?;
    conn.write("INSERT INTO message (id, conversation, seq, prev, author, channel, agent, arrived_at, delivery, body,
         deleted, flags) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?1, 0, ?10)", params![
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
    if let Some(to) = &new.draft.to {
        recipients::note(conn, new.id, to, new.at)?;
        conn.write("INSERT INTO outbox (id, channel, conversation, seq, state, attempts, next_at, send_at, due_since)
             VALUES (?1, ?2, ?3, ?4, ?5, 0, ?6, ?7, ?6)", params![
            new.id.0,
            new.channel,
            new.conversation.0,
            new.seq,
            OutboxState::Queued.code(),
            new.draft.send_at.unwrap_or(new.at),
            new.draft.send_at
        ])?;
    }
    Ok(())
}

/// Ids of the channel's messages up to `last`, oldest first, and the native thread of `last` itself:
/// what one provider calls things means nothing, or something else, to another.
pub fn thread_of(
    conn: Conn<'_>,
    last: Option<MessageId>,
    channel: i64,
) -> Result<(Vec<String>, Option<String>), StoreError> {
    let mut references = Vec::new();
    let mut thread = None;
    let mut next = last;
    for _ in 0..REFERENCES_MAX {
        let Some(id) = next else { break };
        let row = conn
            .prepare(
                "SELECT message.prev, message.provider_ids, body.content, message.channel FROM message
                 LEFT JOIN body ON body.id = message.id WHERE message.id = ?1",
            )?
            .query_row([id.0], |row| {
                Ok((
                    row.get::<Option<i64>>(0)?,
                    row.get::<Option<String>>(1)?,
                    row.get::<Option<Vec<u8>>>(2)?,
                    row.get::<i64>(3)?,
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
            // The last is what the receiver knows; the first is ours, and brings the token back.
            let mut ids = from_json::<Vec<String>>(1, &ids)?;
            references.extend(ids.pop());
            references.extend(ids.into_iter().next());
        } else if let Some(Content::Envelope(envelope)) = body.as_deref().map(decode)
            && let Event::Message(message) | Event::Echo(message) = &envelope.event.event
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
    conn: Conn<'_>,
    id: MessageId,
    delivery: Delivery,
    reason: Option<&str>,
) -> Result<(), StoreError> {
    // A reason is why it was refused, or why nobody knows; what is known to go on has none.
    let explained = matches!(delivery, Delivery::Refused | Delivery::Unknown);
    let sql = if explained {
        "UPDATE message SET delivery = ?1, reason = coalesce(?2, reason) WHERE id = ?3"
    } else {
        "UPDATE message SET delivery = ?1, reason = ?2 WHERE id = ?3"
    };
    conn.write(sql, params![delivery.code(), reason, id.0])?;
    // A receipt settles what an attempt left open.
    if !matches!(
        delivery,
        Delivery::Queued | Delivery::Sending | Delivery::Unknown
    ) {
        conn.write("DELETE FROM outbox WHERE id = ?1", [id.0])?;
    }
    Ok(())
}

/// The conversation that a message is in.
pub fn conversation_of(tx: &Tx<'_>, id: MessageId) -> Result<Option<ConversationId>, StoreError> {
    let found = tx
        .conn
        .prepare("SELECT conversation FROM message WHERE id = ?1")?
        .query_row([id.0], |row| row.get(0))
        .optional()?;
    Ok(found.map(ConversationId))
}

/// Takes due rows and writes the attempt down, before the first byte leaves. What cannot be sent
/// (its text cannot be read, the channel does not carry it) is refused here: it stops nobody.
/// `can` are the channel's limits; `None` where they are not known.
pub fn lease(
    tx: &mut Tx<'_>,
    channel: &ChannelId,
    can: Option<&Capabilities>,
    limit: u32,
    now: i64,
) -> Result<Taken, StoreError> {
    let mut taken = Taken::default();
    for row in due_and_locked(tx, channel, limit, now)? {
        match sendable(tx, &row, channel, can, now)? {
            Ok(draft) => {
                let state = match bug!("attempt-not-written-down") {
                    true => OutboxState::Queued,
                    false => OutboxState::Sending,
                };
                tx.conn.write(
                    "UPDATE outbox SET state = ?1, attempts = attempts + 1 WHERE id = ?2",
                    [state.code(), row.id.0],
                )?;
                deliver(tx.conn, row.id, Delivery::Sending, None)?;
                let event = NewEvent::delivery(row.conversation, row.id, Delivery::Sending, now);
                write_events(tx, &[event])?;
                taken.leased.push(Leased {
                    id: row.id,
                    conversation: row.conversation,
                    channel: channel.clone(),
                    accepted_at: row.accepted_at.max(draft.send_at.unwrap_or_default()),
                    tried_since: tried_since(&row).max(draft.send_at.unwrap_or_default()),
                    draft,
                    attempts: row.attempts + 1,
                });
            }
            Err(reason) => {
                let rings = settle(tx, row.id, &Settlement::Refused { reason }, now)?;
                taken.rings.add(rings);
            }
        }
    }
    Ok(taken)
}

/// When the channel's next reply is due; those that wait for an earlier one of their conversation
/// are not: asking for them would keep the lane busy with nothing.
pub fn next_due(conn: Conn<'_>, channel: i64, now: i64) -> Result<Option<i64>, StoreError> {
    let sql = format!(
        "SELECT next_at FROM outbox WHERE channel = ?1 AND state = ?2 AND {FIRST_OF_CONVERSATION}
         ORDER BY next_at LIMIT 1"
    );
    Ok(conn
        .prepare(&sql)?
        .query_row([channel, OutboxState::Queued.code(), now], |row| row.get(0))
        .optional()?)
}

/// Within a conversation, answers leave in the order they were written; held ones, and those that
/// are to leave later than `?3`, hold nobody up.
const FIRST_OF_CONVERSATION: &str = "NOT EXISTS (SELECT 1 FROM outbox AS earlier \
     WHERE earlier.conversation = outbox.conversation AND earlier.seq < outbox.seq AND earlier.state < 2 \
     AND (earlier.send_at IS NULL OR earlier.send_at <= ?3))";

struct Due {
    id: MessageId,
    conversation: ConversationId,
    attempts: u32,
    accepted_at: i64,
    body: Option<Vec<u8>>,
    explanation: Option<String>,
}

fn due(tx: &Tx<'_>, channel: &ChannelId, limit: u32, now: i64) -> Result<Vec<Due>, StoreError> {
    let number = tx.memory.names.id(channel.as_str());
    let sql = format!(
        "SELECT outbox.id, outbox.conversation, outbox.attempts, message.arrived_at, body.content,
                message.explanation
         FROM outbox JOIN message ON message.id = outbox.id LEFT JOIN body ON body.id = outbox.id
         WHERE outbox.channel = ?1 AND outbox.state = ?2 AND outbox.next_at <= ?3
         AND {FIRST_OF_CONVERSATION} ORDER BY outbox.next_at, outbox.id LIMIT ?4"
    );
    let mut statement = tx.conn.prepare(&sql)?;
    let rows = statement.query_map(
        params![number, OutboxState::Queued.code(), now, limit],
        |row| {
            Ok(Due {
                id: MessageId(row.get(0)?),
                conversation: ConversationId(row.get(1)?),
                attempts: row.get(2)?,
                accepted_at: row.get(3)?,
                body: row.get(4)?,
                explanation: row.get(5)?,
            })
        },
    )?;
    Ok(rows.collect::<sql::Result<_>>()?)
}

/// What is due, looked at again under its locks: another lane may have taken it, or its writer.
fn due_and_locked(
    tx: &mut Tx<'_>,
    channel: &ChannelId,
    limit: u32,
    now: i64,
) -> Result<Vec<Due>, StoreError> {
    let mut rows = due(tx, channel, limit, now)?;
    if !tx.is_alone() && !rows.is_empty() {
        let locked: HashSet<ConversationId> = rows.iter().map(|row| row.conversation).collect();
        tx.lock_matters(locked.iter().copied())?;
        rows = due(tx, channel, limit, now)?;
        rows.retain(|row| locked.contains(&row.conversation));
    }
    Ok(rows)
}

/// What to send, or why that is not possible.
fn sendable(
    tx: &Tx<'_>,
    row: &Due,
    channel: &ChannelId,
    can: Option<&Capabilities>,
    now: i64,
) -> Result<Result<Draft, String>, StoreError> {
    let Some(body) = &row.body else {
        return Ok(Err("what was written is gone".to_owned()));
    };
    // serde's own words may quote the text.
    let Ok(draft) = serde_json::from_slice::<Draft>(body) else {
        return Ok(Err("what was written cannot be read".to_owned()));
    };
    let Some(to) = &draft.to else {
        return Ok(Err("it has no destination".to_owned()));
    };
    if let Some(read) = draft.if_last_message
        && let Some(conversation) = conversation(tx.conn, &tx.memory.names, row.conversation)?
        && desk::overtaken(tx, &conversation, MessageId(read))?.is_some()
    {
        return Ok(Err("the customer wrote before it was to leave".to_owned()));
    }
    let Some(can) = can else {
        return Ok(Ok(draft));
    };
    let heard_at = match can.reply_window {
        Some(window) => heard::heard_at(tx, row.conversation, channel, to, window, now)?,
        None => None,
    };
    let files: Vec<u64> = draft
        .attachments
        .iter()
        .map(|file| file.size_bytes)
        .collect();
    let fitting = Fitting {
        text: &draft.text,
        html: draft.html.is_some(),
        // The conversation's own subject is carried where there is room for one.
        subject: false,
        recipients: to.recipients_len(),
        files: &files,
    };
    let fits = fit(channel, can, fitting, heard_at, now);
    Ok(fits.map(|()| draft).map_err(|refusal| refusal.to_string()))
}

fn tried_since(row: &Due) -> i64 {
    let why = row.explanation.as_deref();
    let why = why.and_then(|text| serde_json::from_str::<SettledWhy>(text).ok());
    let retried = why.and_then(|why| {
        let retried = |settled: &&crate::store::Settled| settled.outcome == SettleAs::Retry;
        why.settled
            .iter()
            .rev()
            .find(retried)
            .map(|settled| settled.at)
    });
    retried.unwrap_or(row.accepted_at)
}
