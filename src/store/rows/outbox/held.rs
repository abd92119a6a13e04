//! What waits for a person: replies of which nobody knows whether they left, and everything that a
//! restored backup left unsent.

use connector_api::ChannelId;

use crate::conversation::Delivery;
use crate::dispatch::{self, Action, Actor, Refusal};
use crate::ids::{ConversationId, MessageId};
use crate::router::effects::{Author, EventType, NewEvent};
use crate::store::sql::{self, Conn, Optional as _, Row, params};
use crate::store::{
    OutboxFilter, OutboxState, Rings, SettleAs, Settled, SettledWhy, Settlement, Settling,
    StoreError, UnsentReply,
};

use super::super::desk;
use super::super::effects::json;
use super::super::events::write_events;
use super::super::facts::{conversation, named};
use super::super::names::Names;
use super::super::reading::message_row;
use super::settle::return_to_person;
use super::{conversation_of, deliver, settle};
use crate::store::rows::Tx;

/// Settlements kept with a message: more than anybody's patience.
const SETTLED_KEPT_MAX: usize = 20;

/// Settles what was under way when the process ended (or one channel's lane broke): nobody knows
/// whether it left.
pub fn recover(
    tx: &mut Tx<'_>,
    channel: Option<&ChannelId>,
    idempotent: &[ChannelId],
    now: i64,
) -> Result<(u64, Rings), StoreError> {
    let mut rings = Rings::default();
    let mut recovered = 0;
    for (id, of) in in_state(tx, &[OutboxState::Sending])? {
        if channel.is_some_and(|channel| channel.as_str() != of) {
            continue;
        }
        let reason = match channel {
            None => "the process ended while this was being sent",
            Some(_) => "the lane broke while this was being sent",
        };
        let reason = reason.to_owned();
        let once = idempotent.iter().any(|known| known.as_str() == of);
        let settlement = if once || bug!("what-was-being-sent-is-sent-again") {
            Settlement::Retry { at: now, reason }
        } else {
            Settlement::Unknown { reason }
        };
        rings.add(settle(tx, id, &settlement, now)?);
        recovered += 1;
    }
    Ok((recovered, rings))
}

/// Refuses what waits on a channel that cannot send (any more): it would wait for ever.
pub fn refuse_unsendable(
    tx: &mut Tx<'_>,
    can_send: impl Fn(&str) -> bool,
    now: i64,
) -> Result<Rings, StoreError> {
    let mut rings = Rings::default();
    for (id, channel) in in_state(tx, &[OutboxState::Queued])? {
        if !can_send(&channel) {
            let reason = cannot_send(&channel);
            rings.add(settle(tx, id, &Settlement::Refused { reason }, now)?);
        }
    }
    Ok(rings)
}

/// Holds everything unsent, and with `sending` what was under way: a backup's store does not know
/// what left after it was made.
pub fn hold(tx: &mut Tx<'_>, sending: bool, now: i64) -> Result<(u64, Rings), StoreError> {
    let states: &[OutboxState] = match sending {
        true => &[OutboxState::Queued, OutboxState::Sending],
        false => &[OutboxState::Queued],
    };
    let mut rings = Rings::default();
    let unsent = in_state(tx, states)?;
    for (id, _) in &unsent {
        let reason = "unsent in a backup that was restored: it may have been sent since";
        let reason = reason.to_owned();
        rings.add(settle(tx, *id, &Settlement::Unknown { reason }, now)?);
        tx.conn.write(
            "UPDATE outbox SET state = ?1 WHERE id = ?2",
            [OutboxState::Restored.code(), id.0],
        )?;
    }
    Ok((unsent.len() as u64, rings))
}

/// Settles a held reply as a person says. A request repeated under its key is answered alike.
/// `can_send` says whether a channel can send (any more).
pub fn settle_held(
    tx: &mut Tx<'_>,
    settling: &Settling,
    can_send: impl Fn(&str) -> bool,
) -> Result<Rings, StoreError> {
    let key = settling.idempotency.as_ref();
    if desk::kept_message(tx, key, settling.at)?.is_some() {
        return Ok(Rings::default());
    }
    let missing = Refusal::NotFound { what: "message" };
    tx.lock_matters(conversation_of(tx, settling.message)?)?;
    let found = message_row(tx.conn, &tx.memory.names, settling.message)?.ok_or(missing.clone())?;
    let mut of = conversation(tx.conn, &tx.memory.names, found.conversation)?
        .filter(|of| settling.by.as_ref().is_none_or(|actor| actor.may_see(of)))
        .ok_or(missing)?;
    if let Some(actor) = &settling.by {
        dispatch::act(&mut of, actor, Action::Settle, settling.at)?;
    }
    if found.delivery != Some(Delivery::Unknown) {
        let delivery = found.delivery;
        return Err(Refusal::NotHeld { delivery }.into());
    }
    let channel = found.channel.as_str();
    if settling.outcome == SettleAs::Retry && !can_send(channel) {
        let reason = cannot_send(channel);
        return Err(Refusal::NotAnswerable { reason }.into());
    }
    let rings = write_settled(tx, settling, found.conversation, &found.channel)?;
    desk::keep(tx, key, desk::Kept::Message(settling.message), settling.at)?;
    Ok(rings)
}

/// Settles, oldest first, what a restored backup left unsent; how many there were.
pub fn settle_restored(
    tx: &mut Tx<'_>,
    outcome: SettleAs,
    channel: Option<&ChannelId>,
    limit: u32,
    can_send: impl Fn(&str) -> bool,
    now: i64,
) -> Result<(u64, Rings), StoreError> {
    let filter = OutboxFilter {
        states: vec![OutboxState::Restored],
        channel: channel.cloned(),
        limit,
    };
    let restored = list(tx.conn, &tx.memory.names, &filter)?;
    let mut rings = Rings::default();
    for row in &restored {
        if outcome == SettleAs::Retry && !can_send(row.channel.as_str()) {
            let reason = cannot_send(row.channel.as_str());
            rings.add(settle(tx, row.id, &Settlement::Refused { reason }, now)?);
            continue;
        }
        let settling = Settling {
            message: row.id,
            by: None,
            outcome,
            idempotency: None,
            at: now,
        };
        rings.add(write_settled(
            tx,
            &settling,
            row.conversation,
            &row.channel,
        )?);
    }
    Ok((restored.len() as u64, rings))
}

fn cannot_send(channel: &str) -> String {
    format!("the channel {channel} cannot send")
}

fn write_settled(
    tx: &mut Tx<'_>,
    settling: &Settling,
    of: ConversationId,
    channel: &ChannelId,
) -> Result<Rings, StoreError> {
    let (id, at) = (settling.message, settling.at);
    let mut rings = Rings::default();
    let delivery = match settling.outcome {
        SettleAs::Sent => {
            deliver(tx.conn, id, Delivery::Sent, None)?;
            Delivery::Sent
        }
        SettleAs::Refused => {
            deliver(
                tx.conn,
                id,
                Delivery::Refused,
                Some("a person settled it as refused"),
            )?;
            if !by_automation(tx.conn, id)? {
                rings.queues.extend(return_to_person(tx, of, at)?);
            }
            Delivery::Refused
        }
        SettleAs::Retry => {
            deliver(tx.conn, id, Delivery::Queued, None)?;
            tx.conn.write("UPDATE outbox SET state = ?1, attempts = 0, next_at = ?2, due_since = ?2 WHERE id = ?3", [OutboxState::Queued.code(), at, id.0])?;
            rings.channels.push(channel.clone());
            Delivery::Queued
        }
    };
    let settled = Settled {
        outcome: settling.outcome,
        role: settling.by.as_ref().map(|actor| actor.role),
        agent: settling
            .by
            .as_ref()
            .and_then(|actor: &Actor| actor.agent.clone()),
        at,
    };
    let mut detail = serde_json::json!({ "settled": settled, "delivery": delivery });
    if let Some(token) = settling.by.as_ref().and_then(|actor| actor.acting) {
        detail["acting_token"] = token.into();
    }
    let event = NewEvent::new(EventType::MessageDelivery, of, Some(id), at).with(detail);
    explain(tx.conn, id, settled)?;
    write_events(tx, &[event])?;
    Ok(rings)
}

/// Writes down with the message who settled it, how and when.
fn explain(conn: Conn<'_>, id: MessageId, settled: Settled) -> Result<(), StoreError> {
    let kept: Option<String> = conn
        .prepare("SELECT explanation FROM message WHERE id = ?1")?
        .query_row([id.0], |row| row.get(0))?;
    let kept = kept.and_then(|text| serde_json::from_str::<SettledWhy>(&text).ok());
    let mut why = kept.unwrap_or_default();
    why.settled.push(settled);
    let over = why.settled.len().saturating_sub(SETTLED_KEPT_MAX);
    why.settled.drain(..over);
    conn.write(
        "UPDATE message SET explanation = ?1 WHERE id = ?2",
        params![json(&why)?, id.0],
    )?;
    Ok(())
}

fn by_automation(conn: Conn<'_>, id: MessageId) -> Result<bool, StoreError> {
    let author = conn
        .prepare("SELECT author FROM message WHERE id = ?1")?
        .query_row([id.0], |row| row.get(0))
        .optional()?;
    Ok(author.map(Author::from_code) == Some(Author::Automation))
}

/// Message and channel of the rows in these states, oldest first.
fn in_state(tx: &Tx<'_>, states: &[OutboxState]) -> Result<Vec<(MessageId, String)>, StoreError> {
    let mut statement = tx
        .conn
        .prepare("SELECT id, channel, state FROM outbox ORDER BY id")?;
    let mut rows = statement.query(())?;
    let mut found = Vec::new();
    while let Some(row) = rows.next_row()? {
        let state = OutboxState::from_code(row.get(2)?);
        if state.is_some_and(|state| states.contains(&state)) {
            found.push((MessageId(row.get(0)?), tx.memory.names.name(row.get(1)?)));
        }
    }
    Ok(found)
}

/// Rows of the outbox, oldest first.
pub fn list(
    conn: Conn<'_>,
    names: &Names,
    filter: &OutboxFilter,
) -> Result<Vec<UnsentReply>, StoreError> {
    let mut sql =
        "SELECT outbox.id, outbox.conversation, outbox.channel, outbox.state, outbox.attempts,
         message.arrived_at, outbox.next_at, outbox.error FROM outbox
         JOIN message ON message.id = outbox.id WHERE TRUE"
            .to_owned();
    if !filter.states.is_empty() {
        let codes = filter.states.iter().map(|state| state.code().to_string());
        let codes: Vec<String> = codes.collect();
        sql.push_str(&format!(" AND outbox.state IN ({})", codes.join(",")));
    }
    let mut values = Vec::new();
    if let Some(channel) = &filter.channel {
        sql.push_str(" AND outbox.channel = ?");
        values.push(names.id(channel.as_str()));
    }
    sql.push_str(" ORDER BY message.arrived_at, outbox.id LIMIT ?");
    values.push(i64::from(filter.limit));
    let mut statement = conn.prepare(&sql)?;
    let rows = statement.query_map(values.as_slice(), |row| unsent_of(row, names))?;
    Ok(rows.collect::<sql::Result<_>>()?)
}

fn unsent_of(row: &Row<'_>, names: &Names) -> sql::Result<UnsentReply> {
    let state: i64 = row.get(3)?;
    Ok(UnsentReply {
        id: MessageId(row.get(0)?),
        conversation: ConversationId(row.get(1)?),
        channel: named(names, row.get(2)?)?,
        state: OutboxState::from_code(state).ok_or(sql::Error::Meaningless {
            column: 3,
            value: state,
        })?,
        attempts: row.get(4)?,
        accepted_at: row.get(5)?,
        due_at: row.get(6)?,
        reason: row.get(7)?,
    })
}
