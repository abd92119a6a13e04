//! What became of an attempt, and what that does to its conversation.

use connector_api::{BrandId, ChannelId, QueueId, RefusedRecipient};

use crate::conversation::{Delivery, Status, receipt};
use crate::ids::{ConversationId, MessageId};
use crate::router::effects::{Author, EventType, NewEvent, RecipientChange};
use crate::router::facts::{Change, Key16};
use crate::router::keys;
use crate::store::sql::{self, Conn, Optional as _, params};
use crate::store::{OutboxState, Rings, Settlement, StoreError};

use super::super::desk;
use super::super::effects::{json, write_conversation};
use super::super::events::write_events;
use super::super::facts::{conversation, from_json, named};
use super::{conversation_of, deliver, recipients};
use crate::store::rows::Tx;

/// Files the outcome of an attempt, unless another one was begun since: a process that stood still may bring
/// it, and would have a message sent twice that is being sent now. That it was sent is true whenever it comes.
pub fn settle_attempt(
    tx: &mut Tx<'_>,
    id: MessageId,
    attempt: u32,
    settlement: &Settlement,
    now: i64,
) -> Result<Rings, StoreError> {
    if !matches!(settlement, Settlement::Sent { .. }) {
        tx.lock_matters(conversation_of(tx, id)?)?;
        let begun = tx
            .conn
            .prepare("SELECT attempts FROM outbox WHERE id = ?1")?
            .query_row([id.0], |row| row.get::<u32>(0))
            .optional()?;
        if begun.is_some_and(|begun| begun != attempt) {
            return Ok(Rings::default());
        }
    }
    settle(tx, id, settlement, now)
}

/// Files the outcome of an attempt. What a receipt settled meanwhile is left as it is.
pub fn settle(
    tx: &mut Tx<'_>,
    id: MessageId,
    settlement: &Settlement,
    now: i64,
) -> Result<Rings, StoreError> {
    pass_gate(tx, id, settlement)?;
    tx.lock_matters(conversation_of(tx, id)?)?;
    let conn = tx.conn;
    let row = conn
        .prepare("SELECT conversation, delivery, channel, author FROM message WHERE id = ?1")?
        .query_row([id.0], |row| {
            Ok((
                ConversationId(row.get(0)?),
                row.get::<Option<i64>>(1)?,
                row.get::<i64>(2)?,
                Author::from_code(row.get(3)?),
            ))
        })
        .optional()?;
    let Some((conversation_id, delivery, channel, author)) = row else {
        return Ok(Rings::default());
    };
    let now_at = delivery
        .and_then(Delivery::from_code)
        .unwrap_or(Delivery::Unknown);
    let open = matches!(
        now_at,
        Delivery::Queued | Delivery::Sending | Delivery::Unknown
    );
    let comes_back = match settlement {
        Settlement::Sent {
            provider_ids,
            namespace,
            refused,
        } => {
            conn.write(
                "UPDATE message SET provider_ids = ?1 WHERE id = ?2",
                params![json(provider_ids)?, id.0],
            )?;
            if open {
                deliver(conn, id, Delivery::Sent, not_taken(refused).as_deref())?;
            }
            recipients::refuse(conn, id, refused, now)?;
            let channel: ChannelId = named(&tx.memory.names, channel)?;
            let namespace = namespace.as_ref();
            let failed = name_sent(
                tx,
                id,
                conversation_id,
                &channel,
                provider_ids,
                namespace,
                now,
            )?;
            failed || !refused.is_empty()
        }
        Settlement::Refused { reason } if open => {
            deliver(conn, id, Delivery::Refused, Some(reason))?;
            true
        }
        Settlement::Unknown { reason } if open => {
            deliver(conn, id, Delivery::Unknown, Some(reason))?;
            conn.write(
                "UPDATE outbox SET state = ?1, error = ?2 WHERE id = ?3",
                params![OutboxState::Held.code(), reason, id.0],
            )?;
            true
        }
        Settlement::Retry { at, reason } if open => {
            deliver(conn, id, Delivery::Queued, None)?;
            conn.write(
                "UPDATE outbox SET state = ?1, next_at = ?2, error = ?3 WHERE id = ?4",
                params![OutboxState::Queued.code(), at, reason, id.0],
            )?;
            let event = NewEvent::delivery(conversation_id, id, Delivery::Queued, now);
            write_events(tx, &[event])?;
            return Ok(Rings::default());
        }
        _ => return Ok(Rings::default()),
    };
    let mut rings = Rings {
        channels: waiting_behind(tx, conversation_id, channel)?,
        ..Rings::default()
    };
    // Nobody wrote an acknowledgement, so nobody takes it up again.
    if comes_back && author != Author::Automation {
        rings
            .queues
            .extend(return_to_person(tx, conversation_id, now)?);
    }
    // A receipt that overtook the answer may have moved it further.
    let stands = delivery_of(tx.conn, id)?.unwrap_or(now_at);
    let event = NewEvent::delivery(conversation_id, id, stands, now);
    write_events(tx, &[event])?;
    Ok(rings)
}

/// Receipts of the ids that the provider gave may come at this moment (rows/gate.rs).
fn pass_gate(tx: &Tx<'_>, id: MessageId, settlement: &Settlement) -> Result<(), StoreError> {
    let Settlement::Sent { provider_ids, .. } = settlement else {
        return Ok(());
    };
    if tx.is_alone() || provider_ids.is_empty() {
        return Ok(());
    }
    let of = tx
        .conn
        .prepare(
            "SELECT conversation.brand, message.channel FROM message
             JOIN conversation ON conversation.id = message.conversation WHERE message.id = ?1",
        )?
        .query_row([id.0], |row| {
            let names = &tx.memory.names;
            Ok((named(names, row.get(0)?)?, named(names, row.get(1)?)?))
        })
        .optional()?;
    let Some((brand, channel)): Option<(BrandId, ChannelId)> = of else {
        return Ok(());
    };
    let given = provider_ids.iter();
    let keys: Vec<Key16> = given
        .map(|given| keys::sent(&brand, &channel, given))
        .collect();
    tx.lock_stripes(&keys, &[])
}

/// Whom a message that was sent did not go to, and whom perhaps, in the words of the provider.
fn not_taken(refused: &[RefusedRecipient]) -> Option<String> {
    let told = |unknown: bool, words: &str| {
        let each = refused
            .iter()
            .filter(|one| one.unknown == unknown)
            .map(|one| format!("{}: {}", one.address, one.reason));
        let all: Vec<String> = each.collect();
        (!all.is_empty()).then(|| format!("{words} {}", all.join("; ")))
    };
    let all = [
        told(false, "it did not go to"),
        told(true, "nobody knows whether it went to"),
    ];
    let all: Vec<String> = all.into_iter().flatten().collect();
    (!all.is_empty()).then(|| all.join("; "))
}

/// Other channels with a reply of this conversation, which waited for this one.
fn waiting_behind(tx: &Tx<'_>, id: ConversationId, own: i64) -> Result<Vec<ChannelId>, StoreError> {
    let mut statement = tx.conn.prepare(
        "SELECT DISTINCT channel FROM outbox WHERE conversation = ?1 AND state = ?2 AND channel <> ?3",
    )?;
    let rows = statement.query_map(params![id.0, OutboxState::Queued.code(), own], |row| {
        named(&tx.memory.names, row.get(0)?)
    })?;
    Ok(rows.collect::<sql::Result<_>>()?)
}

/// Queues that have a conversation again because of what receipts said.
pub fn back_in_queue(tx: &Tx<'_>, returned: &[MessageId]) -> Result<Vec<QueueId>, StoreError> {
    let mut queues = Vec::new();
    for message in returned {
        let queue = tx
            .conn
            .prepare(
                "SELECT conversation.queue FROM message JOIN conversation ON conversation.id = message.conversation
                 WHERE message.id = ?1 AND conversation.status = ?2",
            )?
            .query_row(params![message.0, Status::Queued.code()], |row| {
                named(&tx.memory.names, row.get(0)?)
            })
            .optional()?;
        queues.extend(queue);
    }
    Ok(queues)
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
    now: i64,
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
            conn.write("INSERT INTO reference (key, conversation, message) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING", params![key.as_slice(), conversation_id.0, id.0])?;
        }
        let mut statement =
            conn.prepare("SELECT record, change FROM pending WHERE target = ?1 ORDER BY record")?;
        let early = statement.query_map([sent.as_slice()], |row| {
            Ok((
                row.get::<i64>(0)?,
                from_json::<Change>(1, &row.get::<String>(1)?)?,
            ))
        })?;
        for row in early {
            let (record, change) = row?;
            refused |= receive(conn, id, &change, now)?;
            conn.write("INSERT INTO change (record, message, change, at) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING", params![record, id.0, json(&change)?, conversation.last_inbound_at])?;
        }
        conn.write("DELETE FROM pending WHERE target = ?1", [sent.as_slice()])?;
    }
    Ok(refused)
}

/// Whether a receipt said that somebody did not get it after all.
type Refused = bool;

fn receive(conn: Conn<'_>, id: MessageId, change: &Change, at: i64) -> Result<Refused, StoreError> {
    let Change::Receipt {
        stage,
        reason,
        recipient,
    } = change
    else {
        return Ok(false);
    };
    let Some(now) = delivery_of(conn, id)? else {
        return Ok(false);
    };
    let all = recipients::of(conn, id)?;
    let received = receipt::receive(now, &all, recipient.as_deref(), *stage);
    if let Some(place) = received.place
        && received.says
    {
        let change = RecipientChange {
            message: id,
            place,
            delivery: received.recipient,
            reason: reason.clone(),
            at,
        };
        recipients::write(conn, &change)?;
    }
    if let Some(next) = received.message {
        deliver(conn, id, next, reason.as_deref())?;
    }
    Ok(received.comes_back)
}

fn delivery_of(conn: Conn<'_>, id: MessageId) -> Result<Option<Delivery>, StoreError> {
    let code: Option<i64> = conn
        .prepare("SELECT delivery FROM message WHERE id = ?1")?
        .query_row([id.0], |row| row.get(0))?;
    Ok(code.and_then(Delivery::from_code))
}

/// An answer that did not certainly leave comes back to whoever wrote it; the queue it waits in
/// where that is nobody any more.
pub fn return_to_person(
    tx: &mut Tx<'_>,
    id: ConversationId,
    now: i64,
) -> Result<Option<QueueId>, StoreError> {
    let Some(mut conversation) = conversation(tx.conn, &tx.memory.names, id)? else {
        return Ok(None);
    };
    let event = match (conversation.status, &conversation.assignee) {
        (Status::Pending, Some(_)) => {
            conversation.status = Status::Assigned;
            NewEvent::status(id, Status::Assigned, now)
        }
        // Answered and resolved at once, as desks do: the customer still has no answer.
        (Status::Pending | Status::Resolved, _) => {
            if conversation.matter.is_none() && desk::has_other_open(tx, &conversation)? {
                conversation.matter = Some(conversation.founding_message());
            }
            conversation.status = Status::Queued;
            conversation.assignee = None;
            conversation.resolved_at = None;
            conversation.enqueued_at = now;
            NewEvent::new(EventType::ConversationQueued, id, None, now)
        }
        _ => return Ok(None),
    };
    conversation.version += 1;
    write_conversation(tx, &conversation, false)?;
    write_events(tx, &[event])?;
    let waits = conversation.status == Status::Queued;
    Ok(waits.then_some(conversation.queue))
}
