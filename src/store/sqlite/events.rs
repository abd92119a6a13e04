//! Reading the event log, and how long what of it is kept.

use async_trait::async_trait;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};
use tokio::sync::watch;

use crate::ids::{ConversationId, MessageId};
use crate::router::effects::{Author, EventType};
use crate::store::StoreError;
use crate::store::events::{
    Departure, EventFilter, EventLog, EventPage, Moved, Place, StoredEvent,
};

use super::SqliteStore;
use super::facts::{from_json, named};
use super::names::Names;
use super::permission::only_visible;

type Result<T> = std::result::Result<T, StoreError>;

/// Numbers that one page looks at, whatever fits: bounds how long a reader is taken.
const SCANNED_MAX: i64 = 10_000;
/// Events that one sweep removes: some 15 million a day, and a few milliseconds of the writer.
const SWEPT_MAX: i64 = 10_000;
const FLOOR: &str = "events_floor";

#[async_trait]
impl EventLog for SqliteStore {
    fn moved(&self) -> watch::Receiver<Moved> {
        self.state.moved.subscribe()
    }

    async fn events(&self, after: i64, filter: EventFilter) -> Result<EventPage> {
        self.read(move |conn, names| page(conn, names, after, &filter))
            .await
    }
}

/// The number of the newest event, also where that is swept.
pub fn last(conn: &Connection) -> rusqlite::Result<i64> {
    let newest: Option<i64> = conn
        .prepare_cached("SELECT max(seq) FROM event")?
        .query_row([], |row| row.get(0))?;
    newest.map_or_else(|| floor(conn), Ok)
}

pub fn floor(conn: &Connection) -> rusqlite::Result<i64> {
    let floor = conn
        .prepare_cached("SELECT value FROM meta WHERE key = ?1")?
        .query_row([FLOOR], |row| row.get(0))
        .optional()?;
    Ok(floor.unwrap_or(0))
}

fn page(conn: &Connection, names: &Names, after: i64, filter: &EventFilter) -> Result<EventPage> {
    // One snapshot: what an event shows of its conversation is as old as the end of the log.
    let snapshot = conn.unchecked_transaction()?;
    let floor = floor(&snapshot)?;
    let until = last(&snapshot)?.min(after.saturating_add(SCANNED_MAX));
    let (events, through) = events(&snapshot, names, after, until, filter)?;
    let through = through.max(after);
    let departures = departures(&snapshot, names, after, through)?;
    Ok(EventPage {
        events,
        departures,
        through,
        floor,
    })
}

/// The events of a range that fit, and how far it was looked at: less far where they are too many.
fn events(
    conn: &Connection,
    names: &Names,
    after: i64,
    until: i64,
    filter: &EventFilter,
) -> Result<(Vec<StoredEvent>, i64)> {
    // What happened to a contact has no conversation: who may see that is asked one by one.
    let mut sql = "SELECT event.seq, event.kind, event.at, event.conversation, event.message, event.detail,
         conversation.brand, conversation.queue, conversation.assignee, message.author, message.seq
         FROM event LEFT JOIN conversation ON conversation.id = event.conversation
         LEFT JOIN message ON message.id = event.message
         WHERE event.seq > ? AND event.seq <= ? AND (event.conversation IS NULL OR (conversation.id IS NOT NULL"
        .to_owned();
    let mut values: Vec<Value> = vec![after.into(), until.into()];
    if let Some(actor) = &filter.actor {
        only_visible(&mut sql, &mut values, actor, names);
    }
    sql.push_str("))");
    if let Some(queue) = &filter.queue {
        sql.push_str(" AND conversation.queue = ?");
        values.push(names.id(queue.as_str()).into());
    }
    if let Some(conversation) = filter.conversation {
        sql.push_str(" AND event.conversation = ?");
        values.push(conversation.0.into());
    }
    if !filter.kinds.is_empty() {
        let codes = filter.kinds.iter().map(|kind| kind.code().to_string());
        let codes = codes.collect::<Vec<_>>().join(",");
        sql.push_str(&format!(" AND event.kind IN ({codes})"));
    }
    sql.push_str(" ORDER BY event.seq LIMIT ?");
    values.push(i64::from(filter.limit).into());
    let mut statement = conn.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(values))?;
    let (mut events, mut count, mut through) = (Vec::new(), 0, until);
    while let Some(row) = rows.next()? {
        count += 1;
        if count == filter.limit {
            through = row.get(0)?;
        }
        // One that a newer version wrote is not known here.
        if let Some(kind) = EventType::from_code(row.get(1)?) {
            events.push(event_of(row, names, kind)?);
        }
    }
    Ok((events, through))
}

fn event_of(row: &Row<'_>, names: &Names, kind: EventType) -> rusqlite::Result<StoredEvent> {
    let conversation = match row.get::<_, Option<i64>>(3)? {
        Some(id) => Some((ConversationId(id), place_of(row, names, 6)?)),
        None => None,
    };
    let author: Option<i64> = row.get(9)?;
    let number: Option<i64> = row.get(10)?;
    let detail: Option<String> = row.get(5)?;
    Ok(StoredEvent {
        seq: row.get(0)?,
        kind,
        at: row.get(2)?,
        conversation,
        message: row.get::<_, Option<i64>>(4)?.map(MessageId),
        said: author.map(Author::from_code).zip(number),
        detail: detail.map_or(Ok(serde_json::Value::Null), |text| from_json(5, &text))?,
    })
}

/// Brand, queue and assignee, from a column on.
fn place_of(row: &Row<'_>, names: &Names, from: usize) -> rusqlite::Result<Place> {
    Ok(Place {
        brand: named(names, row.get(from)?)?,
        queue: named(names, row.get(from + 1)?)?,
        assignee: row.get(from + 2)?,
    })
}

fn departures(
    conn: &Connection,
    names: &Names,
    after: i64,
    through: i64,
) -> Result<Vec<Departure>> {
    let mut statement = conn.prepare_cached(
        "SELECT departure.seq, departure.conversation, departure.queue, departure.assignee,
         conversation.brand, conversation.queue, conversation.assignee, event.at
         FROM departure JOIN conversation ON conversation.id = departure.conversation
         LEFT JOIN event ON event.seq = departure.seq
         WHERE departure.seq > ?1 AND departure.seq <= ?2 ORDER BY departure.seq",
    )?;
    let rows = statement.query_map([after, through], |row| {
        let now = place_of(row, names, 4)?;
        Ok(Departure {
            seq: row.get(0)?,
            at: row.get(7)?,
            conversation: ConversationId(row.get(1)?),
            before: Place {
                brand: now.brand.clone(),
                queue: named(names, row.get(2)?)?,
                assignee: row.get(3)?,
            },
            now,
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Drops routine events before one time, and before another all others and those that name the
/// agent who did it. The newest event stays:
/// the next one is counted from it.
pub fn sweep(conn: &Connection, routine_before: i64, before: i64) -> Result<()> {
    let floor = floor(conn)?;
    let newest = last(conn)?;
    if let Some(through) = due(conn, (floor, newest - 1), routine_before)? {
        let routine = EventType::ALL.iter().filter(|kind| kind.is_routine());
        let codes = routine.map(|kind| kind.code().to_string());
        let codes = codes.collect::<Vec<_>>().join(",");
        conn.prepare_cached(&format!(
            "DELETE FROM event WHERE seq > ?1 AND seq <= ?2 AND kind IN ({codes})
             AND (detail IS NULL OR instr(detail, '\"agent\":\"') = 0)"
        ))?
        .execute([floor, through])?;
        conn.prepare_cached("DELETE FROM departure WHERE seq <= ?1")?
            .execute([through])?;
        conn.prepare_cached("INSERT OR REPLACE INTO meta (key, value) VALUES (?1, ?2)")?
            .execute(params![FLOOR, through])?;
    }
    if let Some(through) = due(conn, (0, floor), before)? {
        conn.prepare_cached("DELETE FROM event WHERE seq <= ?1")?
            .execute([through])?;
    }
    Ok(())
}

/// The last of the first events of a range that are due. Time rises with the number, so looking
/// stops at the first that is not: nothing due costs one row.
fn due(conn: &Connection, (after, until): (i64, i64), before: i64) -> Result<Option<i64>> {
    let mut statement = conn.prepare_cached(
        "SELECT seq, at FROM event WHERE seq > ?1 AND seq <= ?2 ORDER BY seq LIMIT ?3",
    )?;
    let mut rows = statement.query([after, until, SWEPT_MAX])?;
    let mut due = None;
    while let Some(row) = rows.next()? {
        if row.get::<_, i64>(1)? >= before {
            break;
        }
        due = Some(row.get(0)?);
    }
    Ok(due)
}
