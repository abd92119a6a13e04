//! Surgery on the embedded store: one transaction reads both sides, has `dispatch::surgery` decide,
//! and writes the messages' places, the conversations, the event and what undoing it needs.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::conversation::Status;
use crate::dispatch::surgery::{
    self, Entry, MESSAGES_MAX, Moving, Refused, SPLIT_MAX, Side, arrange,
};
use crate::dispatch::{Actor, Refusal};
use crate::ids::{ConversationId, IdSource, MessageId};
use crate::router::effects::{Author, By, EventType, NewEvent};
use crate::router::facts::Conversation;
use crate::store::StoreError;
use crate::store::sql::{self, Conn, Optional as _, Row as SqlRow, params};
use crate::store::surgery::{Operated, OperationKind, Order, StoredOperation};

use super::desk::has_other_open;
use super::effects::{json, write_conversation};
use super::events::{new_operation, write_events};
use super::facts::conversation;
use crate::store::rows::Tx;

mod again;
mod chain;
pub mod contacts;
mod said;
mod undo;

pub use again::once;
use chain::{Chain, Row, before, place, walk};
pub use undo::undo;

type Result<T> = std::result::Result<T, StoreError>;

/// What is kept with an operation.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    by: Option<By>,
    #[serde(flatten)]
    what: What,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum What {
    Conversations {
        sides: Box<[Side; 2]>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<MessageId>,
    },
    Contacts(contacts::Moved),
    Undo {
        of: i64,
    },
}

pub fn by(actor: &Actor) -> By {
    By {
        role: actor.role.as_str().to_owned(),
        agent: actor.agent.clone(),
    }
}

/// Merges `from` into `into`; the timeline of both is one, by arrival.
pub fn merge(
    tx: &mut Tx<'_>,
    from: ConversationId,
    into: ConversationId,
    order: &Order,
) -> Result<Operated> {
    let mut from = visible(tx, from, &order.actor, order.version)?;
    let mut into = visible(tx, into, &order.actor, order.other_version)?;
    let mut sides = surgery::merge(&mut from, &mut into, &order.actor, order.at)?;
    let given = walk(tx, &from, MESSAGES_MAX, |_| false)?;
    let first = given.rows.first().map(arrival);
    let room = MESSAGES_MAX - given.rows.len();
    let kept = walk(tx, &into, room, |row| {
        first.is_none_or(|first| arrival(row) < first)
    })?;
    let (all, _) = arrange(&kept.entries(), &given.entries(), into.last_seq);
    let event = new_operation(tx)?;
    place(tx, event, &mut into, &kept, &all, &before(&[&given, &kept]))?;
    from.last_message = None;
    write(tx, &mut from)?;
    write(tx, &mut into)?;
    tell(
        tx,
        EventType::ConversationMerged,
        [&from, &into],
        None,
        (event, &serde_json::json!({ "messages": given.rows.len() })),
        order,
    )?;
    keep_sides(&mut sides, &from, &into);
    keep(tx, event, OperationKind::Merge, &sides, None, order)?;
    Ok(operated(event, OperationKind::Merge, [from, into]))
}

/// Makes a new conversation of `messages`, or the one `again` that an undone split left.
pub fn split(
    tx: &mut Tx<'_>,
    source: ConversationId,
    messages: &[MessageId],
    again: Option<ConversationId>,
    order: &Order,
) -> Result<Operated> {
    let mut source = visible(tx, source, &order.actor, order.version)?;
    surgery::whole(&source)?;
    let named: HashSet<MessageId> = messages.iter().copied().collect();
    if again.is_none() && named.len() > SPLIT_MAX {
        return Err(too_many_named());
    }
    let chain = reach(tx, &source, &named)?;
    let (leaving, staying) = parted(&chain, &named);
    if staying.is_empty() && !chain.has_older() {
        return Err(Refusal::from(Refused::NothingLeft).into());
    }
    let part = said::part(tx, &source, &leaving, &staying)?;
    let again = match again {
        Some(id) => conversation(tx.conn, &tx.memory.names, id)?,
        None => None,
    };
    let is_new = again.is_none();
    let id = ConversationId(tx.memory.next());
    let (mut new, mut sides) =
        surgery::split(&mut source, id, again, part, &order.actor, order.at)?;
    let event = new_operation(tx)?;
    let was = before(&[&chain]);
    let (kept, given) = (entries(&staying), entries(&leaving));
    place(tx, event, &mut source, &chain, &kept, &was)?;
    let (given, _) = arrange(&[], &given, new.last_seq);
    place(tx, event, &mut new, &Chain::default(), &given, &was)?;
    write(tx, &mut source)?;
    match is_new {
        true => write_conversation(tx, &new, true)?,
        false => write(tx, &mut new)?,
    }
    tell(
        tx,
        EventType::ConversationSplit,
        [&source, &new],
        None,
        (event, &serde_json::json!({ "messages": leaving.len() })),
        order,
    )?;
    keep_sides(&mut sides, &source, &new);
    keep(tx, event, OperationKind::Split, &sides, None, order)?;
    Ok(operated(event, OperationKind::Split, [source, new]))
}

/// Moves a message to its place by arrival in another conversation.
pub fn move_message(
    tx: &mut Tx<'_>,
    message: MessageId,
    to: ConversationId,
    order: &Order,
) -> Result<Operated> {
    let missing = || StoreError::from(Refusal::NotFound { what: "message" });
    let of: Option<i64> = tx
        .conn
        .prepare("SELECT conversation FROM message WHERE id = ?1")?
        .query_row([message.0], |row| row.get(0))
        .optional()?;
    let of = ConversationId(of.ok_or_else(missing)?);
    let mut from = visible(tx, of, &order.actor, order.version).map_err(|error| match error {
        StoreError::Refused(Refusal::NotFound { .. }) => missing(),
        other => other,
    })?;
    let mut to = visible(tx, to, &order.actor, order.other_version)?;
    let named = HashSet::from([message]);
    let chain = reach(tx, &from, &named)?;
    let (leaving, staying) = parted(&chain, &named);
    if staying.is_empty() && !chain.has_older() {
        return Err(Refusal::from(Refused::NothingLeft).into());
    }
    let first = leaving.first().map(|row| arrival(row));
    let kept = walk(tx, &to, MESSAGES_MAX, |row| {
        first.is_none_or(|first| arrival(row) < first)
    })?;
    let moving = Moving {
        part: said::part(tx, &from, &leaving, &staying)?,
        is_last: kept.rows.iter().all(|row| row.author == Author::Note),
    };
    let mut sides = surgery::move_message(&mut from, &mut to, moving, &order.actor)?;
    let event = new_operation(tx)?;
    let was = before(&[&chain, &kept]);
    place(tx, event, &mut from, &chain, &entries(&staying), &was)?;
    let (all, _) = arrange(&kept.entries(), &entries(&leaving), to.last_seq);
    place(tx, event, &mut to, &kept, &all, &was)?;
    write(tx, &mut from)?;
    write(tx, &mut to)?;
    tell(
        tx,
        EventType::MessageMoved,
        [&from, &to],
        Some(message),
        (event, &serde_json::Value::Null),
        order,
    )?;
    keep_sides(&mut sides, &from, &to);
    keep(tx, event, OperationKind::Move, &sides, Some(message), order)?;
    Ok(operated(event, OperationKind::Move, [from, to]))
}

/// What was done to a conversation or contact, newest first.
pub fn operations(conn: Conn<'_>, on: i64, limit: u32) -> Result<Vec<StoredOperation>> {
    let mut statement = conn.prepare(
        "SELECT event, kind, one, other, at, undone_by, detail FROM surgery WHERE one = ?1
         UNION SELECT event, kind, one, other, at, undone_by, detail FROM surgery WHERE other = ?1
         ORDER BY event DESC LIMIT ?2",
    )?;
    let rows = statement.query_map(params![on, limit], stored)?;
    let rows = rows.collect::<sql::Result<Vec<_>>>()?;
    Ok(rows.into_iter().map(|(operation, _)| operation).collect())
}

fn stored(row: &SqlRow<'_>) -> sql::Result<(StoredOperation, Kept)> {
    let kind: i64 = row.get(1)?;
    let kept: Kept = super::facts::from_json(6, &row.get::<String>(6)?)?;
    let operation = StoredOperation {
        event: row.get(0)?,
        kind: OperationKind::from_code(kind).ok_or(sql::Error::Meaningless {
            column: 1,
            value: kind,
        })?,
        one: row.get(2)?,
        other: row.get(3)?,
        at: row.get(4)?,
        by: kept.by.clone(),
        undoes: match kept.what {
            What::Undo { of } => Some(of),
            _ => None,
        },
        undone_by: row.get(5)?,
    };
    Ok((operation, kept))
}

/// The operation of an event, or of one that an event tells of.
fn find(conn: Conn<'_>, event: i64) -> Result<Option<(StoredOperation, Kept)>> {
    let told: Option<String> = conn
        .prepare("SELECT detail FROM event WHERE seq = ?1")?
        .query_row([event], |row| row.get(0))
        .optional()?
        .flatten();
    let told = told.and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
    let event = told
        .and_then(|told| told["operation"].as_i64())
        .unwrap_or(event);
    Ok(conn
        .prepare(
            "SELECT event, kind, one, other, at, undone_by, detail FROM surgery WHERE event = ?1",
        )?
        .query_row([event], stored)
        .optional()?)
}

/// The conversation, where the actor may see it and it is at the version the caller knows.
fn visible(
    tx: &Tx<'_>,
    id: ConversationId,
    actor: &Actor,
    version: Option<i64>,
) -> Result<Conversation> {
    let found = conversation(tx.conn, &tx.memory.names, id)?;
    let missing = Refusal::NotFound {
        what: "conversation",
    };
    let found = found.filter(|found| actor.may_see(found)).ok_or(missing)?;
    fresh(found.version, version)?;
    Ok(found)
}

fn fresh(current: i64, given: Option<i64>) -> Result<()> {
    match given {
        Some(given) if given != current => Err(Refusal::Stale { current, given }.into()),
        _ => Ok(()),
    }
}

/// Loads a conversation back to the oldest of `named`, and further to a customer's message that
/// stays.
fn reach(tx: &Tx<'_>, of: &Conversation, named: &HashSet<MessageId>) -> Result<Chain> {
    let (mut found, mut stays) = (0, false);
    let chain = walk(tx, of, MESSAGES_MAX, |row| {
        if found == named.len() && stays {
            return true;
        }
        match named.contains(&row.entry.id) {
            true => found += 1,
            false => stays |= row.author == Author::Customer,
        }
        false
    })?;
    if found < named.len() {
        return Err(Refusal::from(Refused::NotThere).into());
    }
    Ok(chain)
}

/// Those that are named, and those that are not.
fn parted<'a>(chain: &'a Chain, named: &HashSet<MessageId>) -> (Vec<&'a Row>, Vec<&'a Row>) {
    (chain.rows.iter()).partition(|row| named.contains(&row.entry.id))
}

fn too_many_named() -> StoreError {
    let refused = Refused::TooMany {
        max: SPLIT_MAX,
        what: "messages in one split",
        hint: "name fewer",
    };
    Refusal::from(refused).into()
}

fn arrival(row: &Row) -> (i64, MessageId) {
    (row.entry.arrived_at, row.entry.id)
}

fn entries(rows: &[&Row]) -> Vec<Entry> {
    rows.iter().map(|row| row.entry).collect()
}

/// Writes a conversation; one that is open again beside another without a matter gets its own.
fn write(tx: &mut Tx<'_>, found: &mut Conversation) -> Result<()> {
    if found.status.is_open() && found.matter.is_none() && has_other_open(tx, found)? {
        found.matter = Some(found.founding_message());
    }
    // What sleeps again needs its clock again: that of a merged conversation may have run out.
    if let Some(until) = found.detail.snoozed_until
        && found.status == Status::Snoozed
    {
        tx.conn
            .prepare(
                "INSERT INTO timer (due_at, conversation) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
            )?
            .execute([until, found.id.0])?;
    }
    write_conversation(tx, found, false)
}

/// Writes the event of an operation, and for the other conversation one that tells of it. After the
/// conversations: who lost sight of one is told under the number of the event that comes next.
fn tell(
    tx: &mut Tx<'_>,
    kind: EventType,
    [one, other]: [&Conversation; 2],
    message: Option<MessageId>,
    (event, about): (i64, &serde_json::Value),
    order: &Order,
) -> Result<()> {
    let mut detail = serde_json::json!({
        "operation": event, "from": one.id.0, "into": other.id.0,
        "role": order.actor.role.as_str(),
    });
    order.actor.sign(&mut detail);
    if let (Some(detail), Some(about)) = (detail.as_object_mut(), about.as_object()) {
        detail.extend(about.clone());
    }
    let events = [one.id, other.id].map(|id| NewEvent {
        kind,
        conversation: Some(id),
        message,
        at: order.at,
        detail: Some(detail.clone()),
    });
    write_events(tx, &events)
}

fn keep_sides(sides: &mut [Side; 2], one: &Conversation, other: &Conversation) {
    let [first, second] = sides;
    first.last_seq = one.last_seq;
    second.last_seq = other.last_seq;
}

fn keep(
    tx: &Tx<'_>,
    event: i64,
    kind: OperationKind,
    sides: &[Side; 2],
    message: Option<MessageId>,
    order: &Order,
) -> Result<()> {
    let [one, other] = sides;
    let what = What::Conversations {
        sides: Box::new(sides.clone()),
        message,
    };
    let who = Some(by(&order.actor));
    insert(tx, event, kind, (one.id.0, other.id.0), order.at, who, what)
}

fn insert(
    tx: &Tx<'_>,
    event: i64,
    kind: OperationKind,
    (one, other): (i64, i64),
    at: i64,
    by: Option<By>,
    what: What,
) -> Result<()> {
    tx.conn
        .prepare(
            "INSERT INTO surgery (event, kind, one, other, at, detail) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            event,
            kind.code(),
            one,
            other,
            at,
            json(&Kept { by, what })?
        ])?;
    Ok(())
}

fn operated(event: i64, kind: OperationKind, conversations: [Conversation; 2]) -> Operated {
    let waits = conversations
        .iter()
        .filter(|one| one.status == Status::Queued);
    Operated {
        event,
        kind,
        queues: waits.map(|one| one.queue.clone()).collect(),
        conversations: conversations.into(),
        contacts: Vec::new(),
    }
}
