//! Messages and where they are.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::conversation::{Delivery, Status, rank};
use crate::ids::ConversationId;
use crate::reconcile::facts::{Said, Stands, Unsent};
use crate::router::effects::Author;
use crate::router::facts::Conversation;
use crate::store::reconcile::Page;
use crate::store::sql::{self, Conn};
use crate::store::{OutboxState, Result};

use super::super::facts::conversations_named;
use super::super::names::Names;
use super::is_inbound;

/// A row of `message`, and the one before it.
struct Row {
    said: Said,
    prev: Option<i64>,
}

pub fn after(
    conn: Conn<'_>,
    names: &Names,
    (after, since): (i64, i64),
    limit: u32,
) -> Result<Page<Said>> {
    let mut statement = conn.prepare(
        "SELECT id, arrived_at, channel, author, delivery, conversation, prev FROM message WHERE id > ?1 ORDER BY id LIMIT ?2",
    )?;
    let rows = statement.query_map([after, i64::from(limit)], |row| {
        let delivery: Option<i64> = row.get(4)?;
        let said = Said {
            number: row.get(0)?,
            arrived_at: row.get(1)?,
            channel: names.name(row.get(2)?),
            inbound: is_inbound(Author::from_code(row.get(3)?)),
            delivery: delivery.and_then(Delivery::from_code),
            unsent: None,
            conversation: row.get(5)?,
            stands: None,
            going: false,
            missing: None,
        };
        Ok(Row {
            said,
            prev: row.get(6)?,
        })
    })?;
    let mut rows: Vec<Row> = rows.collect::<sql::Result<_>>()?;
    let is_full = u32::try_from(rows.len()).is_ok_and(|read| read == limit);
    let next = rows.last().map(|row| row.said.number).filter(|_| is_full);
    rows.retain(|row| row.said.arrived_at >= since);
    find_missing(conn, &mut rows)?;
    let mut items: Vec<Said> = rows.into_iter().map(|row| row.said).collect();
    find_unsent(conn, &mut items)?;
    find_stands(conn, names, &mut items)?;
    Ok(Page { items, next })
}

fn find_missing(conn: Conn<'_>, rows: &mut [Row]) -> Result<()> {
    let prevs: BTreeSet<i64> = rows.iter().filter_map(|row| row.prev).collect();
    let there = those_of(conn, "SELECT 1 FROM message WHERE id = ?1", &prevs)?;
    for row in rows {
        row.said.missing = row.prev.filter(|prev| !there.contains(prev));
    }
    Ok(())
}

fn find_unsent(conn: Conn<'_>, items: &mut [Said]) -> Result<()> {
    let mut leaving: Vec<&mut Said> = items
        .iter_mut()
        .filter(|said| said.delivery.is_some())
        .collect();
    let numbers: Vec<i64> = leaving.iter().map(|said| said.number).collect();
    if numbers.is_empty() {
        return Ok(());
    }
    let sql = "SELECT state, next_at, due_since FROM outbox WHERE id = ?1";
    let mut asked = conn.read_each(sql, |place, row| {
        let state = OutboxState::from_code(row.get(0)?);
        let held = matches!(state, Some(OutboxState::Held | OutboxState::Restored));
        let unsent = Unsent {
            held,
            next_at: row.get(1)?,
            due_since: row.get(2)?,
        };
        let of = leaving.get_mut(place);
        of.into_iter().for_each(|said| said.unsent = Some(unsent));
        Ok(())
    })?;
    for number in numbers {
        asked.add([number])?;
    }
    Ok(asked.done()?)
}

fn find_stands(conn: Conn<'_>, names: &Names, items: &mut [Said]) -> Result<()> {
    let wanted: BTreeSet<i64> = items.iter().map(|said| said.conversation).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let found = conversations_named(
        conn,
        names,
        &wanted.iter().copied().map(ConversationId).collect(),
    )?;
    let waits = waiting(conn, names, &found)?;
    let wakes = timed(conn, &found)?;
    let mut stands: BTreeMap<i64, Stands> = BTreeMap::new();
    for conversation in found {
        let id = conversation.id.0;
        let stand = Stands {
            status: conversation.status,
            queue: conversation.queue.as_str().to_owned(),
            assignee: conversation.assignee,
            waits: waits.contains(&id),
            wakes: wakes.contains(&id),
        };
        stands.insert(id, stand);
    }
    let without = wanted.iter().filter(|id| !stands.contains_key(id));
    let without: BTreeSet<i64> = without.copied().collect();
    let going = those_of(
        conn,
        "SELECT 1 FROM remains WHERE conversation = ?1",
        &without,
    )?;
    for said in items {
        said.stands = stands.get(&said.conversation).cloned();
        said.going = going.contains(&said.conversation);
    }
    Ok(())
}

/// Those that have the row which their state asks for, or would ask for.
fn waiting(conn: Conn<'_>, names: &Names, all: &[Conversation]) -> Result<HashSet<i64>> {
    let sql = "SELECT id FROM waiting WHERE queue = ?1 AND fit_class = 0 AND rank = ?2 AND id = ?3";
    let mut waits = HashSet::new();
    let mut asked = conn.read_each(sql, |_, row| {
        waits.insert(row.get(0)?);
        Ok(())
    })?;
    for one in all {
        let rank = rank(one.enqueued_at, one.priority);
        asked.add([names.id(one.queue.as_str()), rank, one.id.0])?;
    }
    asked.done()?;
    Ok(waits)
}

fn timed(conn: Conn<'_>, all: &[Conversation]) -> Result<HashSet<i64>> {
    let mut snoozed: HashMap<i64, i64> = HashMap::new();
    for one in all.iter().filter(|one| one.status == Status::Snoozed) {
        snoozed.extend(one.detail.snoozed_until.map(|until| (one.id.0, until)));
    }
    let mut wakes = HashSet::new();
    if snoozed.is_empty() {
        return Ok(wakes);
    }
    let sql = "SELECT conversation FROM timer WHERE due_at = ?1 AND conversation = ?2";
    let mut asked = conn.read_each(sql, |_, row| {
        wakes.insert(row.get(0)?);
        Ok(())
    })?;
    for (id, until) in &snoozed {
        asked.add([*until, *id])?;
    }
    asked.done()?;
    Ok(wakes)
}

/// Those of the numbers that a question has a row for.
fn those_of(conn: Conn<'_>, sql: &str, numbers: &BTreeSet<i64>) -> Result<HashSet<i64>> {
    let mut there = HashSet::new();
    if numbers.is_empty() {
        return Ok(there);
    }
    let all: Vec<i64> = numbers.iter().copied().collect();
    let mut asked = conn.read_each(sql, |place, _| {
        there.extend(all.get(place).copied());
        Ok(())
    })?;
    for number in &all {
        asked.add([*number])?;
    }
    asked.done()?;
    Ok(there)
}
