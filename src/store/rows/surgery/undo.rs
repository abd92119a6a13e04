//! Undoing: the messages go back to the places that were kept, the conversations to how they stood,
//! and what came since goes where `dispatch::surgery` says.

use std::collections::{HashMap, HashSet};

use crate::dispatch::Refusal;
use crate::dispatch::surgery::{
    self, Entry, MESSAGES_MAX, Refused, Side, Since, arrange, followers, may_operate,
};
use crate::ids::{ContactId, ConversationId, MessageId};
use crate::router::effects::EventType;
use crate::router::facts::Conversation;
use crate::store::StoreError;
use crate::store::rows::Tx;
use crate::store::rows::events::new_operation;
use crate::store::rows::facts::conversation;
use crate::store::surgery::{Operated, OperationKind, Order, StoredOperation};

use super::chain::{Chain, Row, before, place, places, walk};
use super::{
    Result, What, by, contacts, entries, find, insert, merge, move_message, operated, said, split,
    tell, write,
};

/// Messages looked at for an undo: those that were given another place, and what came since.
const UNDONE_MAX: usize = 2 * MESSAGES_MAX;

/// Undoes the operation of an event, or does an undone one again.
pub fn undo(tx: &mut Tx<'_>, event: i64, order: &Order) -> Result<Operated> {
    let missing = || StoreError::from(Refusal::NotFound { what: "operation" });
    let (operation, kept) = find(tx.conn, event)?.ok_or_else(missing)?;
    let operated = match (operation.kind, kept.what) {
        (OperationKind::MergeContacts, What::Contacts(moved)) => {
            contacts::parting::unmerge(tx, &operation, &moved, order)?
        }
        (kind, What::Conversations { sides, .. }) => {
            let other = seen(tx, sides[1].id, order)?;
            let one = match kind {
                OperationKind::Merge => merged(tx, sides[0].id, &other, order)?,
                _ => seen(tx, sides[0].id, order)?,
            };
            standing(tx, &operation)?;
            may_operate(&order.actor, &[&one, &other])?;
            match kind {
                OperationKind::Split => rejoin(tx, &operation, &sides, one, other, order)?,
                _ => part(tx, &operation, &sides, one, other, order)?,
            }
        }
        (_, What::Undo { of }) => again(tx, &operation, of, order)?,
        _ => return Err(missing()),
    };
    tx.conn
        .prepare("UPDATE surgery SET undone_by = ?1 WHERE event = ?2")?
        .execute([operated.event, operation.event])?;
    Ok(operated)
}

/// What an actor may not see was never operated on.
fn seen(tx: &Tx<'_>, id: ConversationId, order: &Order) -> Result<Conversation> {
    let found = conversation(tx.conn, &tx.memory.names, id)?;
    let missing = Refusal::NotFound { what: "operation" };
    Ok(found
        .filter(|found| order.actor.may_see(found))
        .ok_or(missing)?)
}

/// The conversation that was merged into one that the actor sees. Nobody holds it any more, so whoever
/// saw it only as its holder sees it in the other, where all that was said in it is.
fn merged(
    tx: &Tx<'_>,
    id: ConversationId,
    into: &Conversation,
    order: &Order,
) -> Result<Conversation> {
    let found = conversation(tx.conn, &tx.memory.names, id)?;
    let is_in = |found: &Conversation| found.detail.merged_into == Some(into.id);
    match found.filter(|found| is_in(found) && found.brand == into.brand) {
        Some(found) => Ok(found),
        None => seen(tx, id, order),
    }
}

/// Refuses what was undone, and what a later operation on either conversation builds on.
fn standing(tx: &Tx<'_>, operation: &StoredOperation) -> Result<()> {
    if let Some(by) = operation.undone_by {
        return Err(Refusal::from(Refused::AlreadyUndone { by }).into());
    }
    let mut later = None;
    for of in [operation.one, operation.other] {
        later = later.max(latest_on(tx, of, operation.event)?);
    }
    match later {
        Some(event) => Err(Refusal::from(Refused::UndoFirst { event }).into()),
        None => Ok(()),
    }
}

/// The latest operation on conversations after `event` that this one took part in and that stands.
pub fn latest_on(tx: &Tx<'_>, conversation: i64, event: i64) -> Result<Option<i64>> {
    Ok(tx
        .conn
        .prepare(
            "SELECT max(event) FROM (
               SELECT event FROM surgery WHERE one = ?1 AND event > ?2 AND undone_by IS NULL AND kind < 3
               UNION ALL
               SELECT event FROM surgery WHERE other = ?1 AND event > ?2 AND undone_by IS NULL AND kind < 3) AS later",
        )?
        .query_row([conversation, event], |row| row.get(0))?)
}

/// Writes that an operation was undone.
pub fn undone(
    tx: &mut Tx<'_>,
    operation: &StoredOperation,
    event: i64,
    order: &Order,
) -> Result<()> {
    let pair = (operation.one, operation.other);
    let what = What::Undo {
        of: operation.event,
    };
    let who = Some(by(&order.actor));
    insert(tx, event, OperationKind::Undo, pair, order.at, who, what)
}

/// Undoes a merge or a move.
fn part(
    tx: &mut Tx<'_>,
    operation: &StoredOperation,
    sides: &[Side; 2],
    mut from: Conversation,
    mut to: Conversation,
    order: &Order,
) -> Result<Operated> {
    let places = places(tx, operation.event)?;
    let old = places.values().filter(|(of, _)| *of == from.id);
    let oldest = old.map(|(_, seq)| *seq).min().unwrap_or(i64::MAX);
    let of_to = walk(tx, &to, UNDONE_MAX, |row| {
        row.entry.seq <= sides[1].seq_before
    })?;
    let of_from = walk(tx, &from, UNDONE_MAX, |row| row.entry.seq < oldest)?;
    let given: HashSet<MessageId> = (of_to.rows.iter())
        .map(|row| row.entry.id)
        .filter(|id| places.get(id).is_some_and(|(of, _)| *of == from.id))
        .collect();

    let to_since = since(tx, &to, &of_to, &sides[1])?;
    let from_since = since(tx, &from, &of_from, &sides[0])?;
    let following = followers(&given, from.id, &to_since);
    let (followed, stayed): (Vec<&Since>, Vec<&Since>) = to_since
        .iter()
        .partition(|since| following.contains(&since.id));

    let back = |row: &Row| given.contains(&row.entry.id);
    let follows = |row: &Row| following.contains(&row.entry.id);
    let mut kept: Vec<Entry> = of_from.entries();
    kept.extend(
        of_to
            .rows
            .iter()
            .filter(|row| back(row))
            .map(|row| was(row, &places)),
    );
    kept.sort_by_key(|entry| entry.seq);
    let came: Vec<&Row> = of_to.rows.iter().filter(|row| follows(row)).collect();
    let (to_from, _) = arrange(&kept, &entries(&came), from.last_seq);
    let to_to: Vec<Entry> = (of_to.rows.iter())
        .filter(|row| !back(row) && !follows(row))
        .map(|row| was(row, &places))
        .collect();

    let event = new_operation(tx)?;
    let rows = before(&[&of_to, &of_from]);
    place(tx, event, &mut from, &of_from, &to_from, &rows)?;
    place(tx, event, &mut to, &of_to, &to_to, &rows)?;
    let woken = woken(&to_from, &followed, &from_since);
    let followed: Vec<&Since> = followed.into_iter().chain(&from_since).collect();
    surgery::part(sides, &mut from, &mut to, &followed, &stayed, woken);
    write(tx, &mut to)?;
    write(tx, &mut from)?;
    tell_undone(tx, operation, event, [&from, &to], order)?;
    undone(tx, operation, event, order)?;
    Ok(operated(event, OperationKind::Undo, [from, to]))
}

/// When a customer's message arrived that goes back and is the last thing said there.
fn woken(now: &[Entry], followed: &[&Since], others: &[Since]) -> Option<i64> {
    let said = |id: MessageId| {
        let since = followed.iter().copied().chain(others);
        since
            .filter(|since| since.is_said)
            .find(|since| since.id == id)
    };
    let last = now.iter().rev().find_map(|entry| said(entry.id))?;
    let came = followed.iter().any(|since| since.id == last.id);
    last.inbound_at.filter(|_| came)
}

/// Undoes a split: everything goes back.
fn rejoin(
    tx: &mut Tx<'_>,
    operation: &StoredOperation,
    sides: &[Side; 2],
    mut source: Conversation,
    mut new: Conversation,
    order: &Order,
) -> Result<Operated> {
    let places = places(tx, operation.event)?;
    let oldest = places.values().map(|(_, seq)| *seq).min();
    let of_new = walk(tx, &new, UNDONE_MAX, |_| false)?;
    let of_source = walk(tx, &source, UNDONE_MAX, |row| {
        oldest.is_none_or(|oldest| row.entry.seq < oldest)
    })?;
    let mut all_since = since(tx, &new, &of_new, &sides[1])?;
    all_since.extend(since(tx, &source, &of_source, &sides[0])?);

    let (back, came): (Vec<&Row>, Vec<&Row>) =
        (of_new.rows.iter()).partition(|row| places.contains_key(&row.entry.id));
    let mut kept: Vec<Entry> = of_source.entries();
    kept.extend(back.iter().map(|row| was(row, &places)));
    kept.sort_by_key(|entry| entry.seq);
    let (all, _) = arrange(&kept, &entries(&came), source.last_seq);

    let event = new_operation(tx)?;
    let rows = before(&[&of_new, &of_source]);
    place(tx, event, &mut source, &of_source, &all, &rows)?;
    let since: Vec<&Since> = all_since.iter().collect();
    surgery::rejoin(sides, &mut source, &mut new, &since, order.at);
    new.last_message = None;
    write(tx, &mut new)?;
    write(tx, &mut source)?;
    tell_undone(tx, operation, event, [&source, &new], order)?;
    undone(tx, operation, event, order)?;
    Ok(operated(event, OperationKind::Undo, [source, new]))
}

/// Does again what an undo took back.
fn again(tx: &mut Tx<'_>, undo: &StoredOperation, of: i64, order: &Order) -> Result<Operated> {
    let missing = || StoreError::from(Refusal::NotFound { what: "operation" });
    let (operation, kept) = find(tx.conn, of)?.ok_or_else(missing)?;
    // As things stood after the undo; what a later merge of contacts means, the merge itself says.
    standing(tx, undo)?;
    let [one, other] = [operation.one, operation.other].map(ConversationId);
    match (operation.kind, kept.what) {
        (OperationKind::Merge, _) => merge(tx, one, other, order),
        (OperationKind::Split, _) => {
            let places = places(tx, undo.event)?;
            let left = places.iter().filter(|(_, (was, _))| *was == other);
            let messages: Vec<MessageId> = left.map(|(id, _)| *id).collect();
            seen(tx, other, order)?;
            split(tx, one, &messages, Some(other), order)
        }
        (
            OperationKind::Move,
            What::Conversations {
                message: Some(message),
                ..
            },
        ) => move_message(tx, message, other, order),
        (OperationKind::MergeContacts, _) => {
            let [one, other] = [operation.one, operation.other].map(ContactId);
            contacts::merge(tx, one, other, order)
        }
        _ => Err(missing()),
    }
}

/// What came to a conversation since the operation, oldest first.
fn since(tx: &Tx<'_>, of: &Conversation, chain: &Chain, side: &Side) -> Result<Vec<Since>> {
    let rows: Vec<&Row> = (chain.rows.iter())
        .filter(|row| row.entry.seq > side.last_seq)
        .collect();
    said::since(tx, of, &rows)
}

/// The place a message had before the operation, where that gave it another in this conversation
/// or the other.
fn was(row: &Row, places: &HashMap<MessageId, (ConversationId, i64)>) -> Entry {
    let seq = places.get(&row.entry.id).map(|(_, seq)| *seq);
    Entry {
        seq: seq.unwrap_or(row.entry.seq),
        ..row.entry
    }
}

fn tell_undone(
    tx: &mut Tx<'_>,
    operation: &StoredOperation,
    event: i64,
    pair: [&Conversation; 2],
    order: &Order,
) -> Result<()> {
    let about = serde_json::json!({ "undoes": operation.event });
    let kind = EventType::OperationUndone;
    tell(tx, kind, pair, None, (event, &about), order)
}
