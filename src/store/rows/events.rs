//! Reading the event log, and how long what of it is kept.

use async_trait::async_trait;
use tokio::sync::watch;

use crate::ids::{ConversationId, MessageId};
use crate::router::effects::{Author, EventType, NewEvent};
use crate::store::StoreError;
use crate::store::events::{
    Departure, EventFilter, EventLog, EventPage, Moved, Place, StoredEvent,
};
use crate::store::sql::{self, Conn, Row, ToSql, Value, params};

use super::facts::{from_json, named};
use super::names::Names;
use super::permission::only_visible;
use super::{Engine, RowStore};
#[cfg(feature = "postgres")]
use crate::store::postgres::IDS_BLOCK;
use crate::store::rows::Tx;

type Result<T> = std::result::Result<T, StoreError>;

/// Numbers that one page looks at, whatever fits: bounds how long a reader is taken.
const SCANNED_MAX: i64 = 10_000;
/// Events that one sweep removes: some 15 million a day, and a few milliseconds of the writer.
const SWEPT_MAX: i64 = 10_000;
/// Up to where routine events were swept.
const SWEPT: &str = "events_floor";
/// Where the numbers of a restored log go on.
const RESUMED: &str = "events_resumed";
/// By how much at least they go on higher than what is there.
const RESUMED_EVENTS_MIN: i64 = 1_000_000;

#[async_trait]
impl<E: Engine> EventLog for RowStore<E> {
    fn moved(&self) -> watch::Receiver<Moved> {
        self.engine.moved()
    }

    async fn events(&self, after: i64, filter: EventFilter) -> Result<EventPage> {
        self.engine.number_events().await?;
        self.engine
            .read(move |conn, names| {
                // One snapshot: what an event shows of its conversation is as old as the end of the log.
                let snapshot = conn.snapshot()?;
                page(snapshot.conn(), names, after, &filter)
            })
            .await
    }
}

/// A conversation leaves a place.
pub struct NewDeparture<'a> {
    pub conversation: ConversationId,
    pub queue: i64,
    pub assignee: Option<&'a str>,
}

/// Writes events, in order. SQLite's one writer gives them their numbers at once. On PostgreSQL they wait in
/// `event_new` and are numbered once they are committed (store/postgres/sequencer.rs).
pub fn write_events(tx: &mut Tx<'_>, events: &[NewEvent]) -> Result<()> {
    if events.is_empty() {
        return Ok(());
    }
    let mut insert = tx.conn.write_each(match tx.conn {
        Conn::Sqlite(_) => {
            "INSERT INTO event (kind, conversation, message, at, detail, seq) VALUES (?1, ?2, ?3, ?4, ?5, ?6)"
        }
        #[cfg(feature = "postgres")]
        Conn::Postgres(_) => {
            "INSERT INTO event_new (kind, conversation, message, at, detail) VALUES (?1, ?2, ?3, ?4, ?5)"
        }
    })?;
    for event in events {
        tx.memory.next_seq += 1;
        let detail = event.detail.as_ref().map(ToString::to_string);
        let row: [&dyn ToSql; 6] = [
            &event.kind.code(),
            &event.conversation.map(|conversation| conversation.0),
            &event.message.map(|message| message.0),
            &event.at,
            &detail,
            &tx.memory.next_seq,
        ];
        insert.add(match tx.conn {
            Conn::Sqlite(_) => &row[..],
            #[cfg(feature = "postgres")]
            Conn::Postgres(_) => row.split_at(5).0,
        })?;
    }
    Ok(insert.done()?)
}

/// Notes departures, told of with the event that is written next.
pub fn write_departures<'a>(
    tx: &Tx<'_>,
    left: impl Iterator<Item = NewDeparture<'a>>,
) -> Result<()> {
    let mut left = left.peekable();
    if left.peek().is_none() {
        return Ok(());
    }
    let mut insert = tx.conn.write_each(match tx.conn {
        Conn::Sqlite(_) => {
            "INSERT INTO departure (conversation, queue, assignee, seq) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING"
        }
        #[cfg(feature = "postgres")]
        Conn::Postgres(_) => {
            "INSERT INTO departure_new (conversation, queue, assignee) VALUES (?1, ?2, ?3)"
        }
    })?;
    let next = tx.memory.next_seq + 1;
    for one in left {
        let row: [&dyn ToSql; 4] = [&one.conversation.0, &one.queue, &one.assignee, &next];
        insert.add(match tx.conn {
            Conn::Sqlite(_) => &row[..],
            #[cfg(feature = "postgres")]
            Conn::Postgres(_) => row.split_at(3).0,
        })?;
    }
    Ok(insert.done()?)
}

/// A number for an operation of surgery, above those of all that were done before it to the same. On SQLite it is
/// the operation's event's, which has to be the next one written. Where events are numbered later it is
/// one of its own, above every event's; the event names it (`operation`).
pub fn new_operation(tx: &Tx<'_>) -> Result<i64> {
    match tx.conn {
        Conn::Sqlite(_) => Ok(tx.memory.next_seq + 1),
        #[cfg(feature = "postgres")]
        Conn::Postgres(_) => Ok(tx
            .conn
            .prepare("SELECT nextval('operation')")?
            .query_row((), |row| row.get(0))?),
    }
}

/// Has the numbers of a restored store go on where no number was given out since the backup was made, those of events and those
/// of rows, which ids are made of: a client that has one of those would not notice that it is another event's or message's now.
/// At the time in microseconds, which a store reaches by counting no sooner than time does; so they are higher than those of
/// every other store that was made of the same backup, too, and JavaScript holds those of events until the year 2255.
pub fn resume(tx: &mut Tx<'_>, now: i64) -> Result<()> {
    let resumed = now.max(last(tx.conn)? + RESUMED_EVENTS_MIN);
    set_number(tx.conn, RESUMED, resumed)?;
    tx.memory.next_seq = resumed;
    match tx.conn {
        Conn::Sqlite(_) => tx.memory.leave_out(now),
        #[cfg(feature = "postgres")]
        Conn::Postgres(_) => {
            let sql = "UPDATE sequencer SET last = ?1";
            tx.conn.prepare(sql)?.execute([resumed])?;
            let block = tx.memory.block_at(now, IDS_BLOCK);
            let sql = "SELECT setval('id_block', GREATEST(nextval('id_block'), ?1))";
            let block: i64 = tx.conn.prepare(sql)?.query_row([block], |row| row.get(0))?;
            tx.memory.names.leave_ids_out(now);
            tx.memory.take_ids(block * IDS_BLOCK, IDS_BLOCK);
        }
    }
    Ok(())
}

/// How far the log reaches.
struct Reach {
    /// Every event above it is in the log.
    swept: i64,
    /// Above which number it went on after a restore; 0 where it never was restored.
    resumed: i64,
    /// The newest event, also where that is swept.
    last: i64,
}

/// One statement: it is asked with every page, by every process.
fn reach(conn: Conn<'_>) -> sql::Result<Reach> {
    conn.prepare(&format!(
        "SELECT coalesce((SELECT max(seq) FROM event), 0),
           coalesce((SELECT value FROM meta WHERE key = '{SWEPT}'), 0),
           coalesce((SELECT value FROM meta WHERE key = '{RESUMED}'), 0)"
    ))?
    .query_row((), |row| {
        let (newest, swept, resumed): (i64, _, _) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(Reach {
            swept,
            resumed,
            last: newest.max(swept).max(resumed),
        })
    })
}

/// The number of the newest event, also where that is swept.
pub fn last(conn: Conn<'_>) -> sql::Result<i64> {
    Ok(reach(conn)?.last)
}

/// Every event above it is in the log.
pub fn swept(conn: Conn<'_>) -> sql::Result<i64> {
    Ok(reach(conn)?.swept)
}

/// How many numbers above `after` were given out: not those passed over after a restore.
pub fn ahead(conn: Conn<'_>, after: i64) -> sql::Result<i64> {
    let Reach { last, resumed, .. } = reach(conn)?;
    if after >= resumed {
        return Ok(last - after);
    }
    let before: Option<i64> = conn
        .prepare("SELECT max(seq) FROM event WHERE seq <= ?1")?
        .query_row([resumed], |row| row.get(0))?;
    Ok(last - resumed + (before.unwrap_or(0) - after).max(0))
}

fn set_number(conn: Conn<'_>, key: &str, value: i64) -> sql::Result<()> {
    conn.prepare(
        "INSERT INTO meta (key, value) VALUES (?1, ?2)
             ON CONFLICT (key) DO UPDATE SET value = excluded.value",
    )?
    .execute(params![key, value])?;
    Ok(())
}

/// A page of the log, of a snapshot.
pub fn page(conn: Conn<'_>, names: &Names, after: i64, filter: &EventFilter) -> Result<EventPage> {
    let Reach {
        swept,
        resumed,
        last,
    } = reach(conn)?;
    let until = last.min(after.saturating_add(SCANNED_MAX));
    let (events, mut through) = events(conn, names, after, until, filter)?;
    if through == until && until < last {
        // Over numbers that nothing has, however many.
        let next: Option<i64> = conn
            .prepare("SELECT min(seq) FROM event WHERE seq > ?1")?
            .query_row([until], |row| row.get(0))?;
        through = next.map_or(last, |next| next - 1);
    }
    let through = through.max(after);
    let departures = departures(conn, names, after, through)?;
    Ok(EventPage {
        events,
        departures,
        through,
        floor: swept.max(resumed),
        resumed,
    })
}

/// The events of a range that fit, and how far it was looked at: less far where they are too many.
fn events(
    conn: Conn<'_>,
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
    let mut statement = conn.prepare(&sql)?;
    let mut rows = statement.query(values.as_slice())?;
    let (mut events, mut count, mut through) = (Vec::new(), 0, until);
    while let Some(row) = rows.next_row()? {
        count += 1;
        if count == filter.limit {
            through = row.get(0)?;
        }
        // One that a newer version wrote is not known here.
        if let Some(kind) = EventType::from_code(row.get(1)?) {
            events.push(event_of(&row, names, kind)?);
        }
    }
    Ok((events, through))
}

fn event_of(row: &Row<'_>, names: &Names, kind: EventType) -> sql::Result<StoredEvent> {
    let conversation = match row.get::<Option<i64>>(3)? {
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
        message: row.get::<Option<i64>>(4)?.map(MessageId),
        said: author.map(Author::from_code).zip(number),
        detail: detail.map_or(Ok(serde_json::Value::Null), |text| from_json(5, &text))?,
    })
}

/// Brand, queue and assignee, from a column on.
fn place_of(row: &Row<'_>, names: &Names, from: usize) -> sql::Result<Place> {
    Ok(Place {
        brand: named(names, row.get(from)?)?,
        queue: named(names, row.get(from + 1)?)?,
        assignee: row.get(from + 2)?,
    })
}

fn departures(conn: Conn<'_>, names: &Names, after: i64, through: i64) -> Result<Vec<Departure>> {
    let mut statement = conn.prepare(
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
    Ok(rows.collect::<sql::Result<_>>()?)
}

/// Drops routine events before one time, and before another all others and those that name the
/// agent who did it. The newest event stays:
/// the next one is counted from it.
pub fn sweep(conn: Conn<'_>, routine_before: i64, before: i64) -> Result<()> {
    let floor = swept(conn)?;
    let newest = last(conn)?;
    if let Some(through) = due(conn, (floor, newest - 1), routine_before)? {
        let routine = EventType::ALL.iter().filter(|kind| kind.is_routine());
        let codes = routine.map(|kind| kind.code().to_string());
        let codes = codes.collect::<Vec<_>>().join(",");
        conn.prepare(&format!(
            "DELETE FROM event WHERE seq > ?1 AND seq <= ?2 AND kind IN ({codes})
             AND (detail IS NULL OR detail NOT LIKE '%\"agent\":\"%')"
        ))?
        .execute([floor, through])?;
        conn.prepare("DELETE FROM departure WHERE seq <= ?1")?
            .execute([through])?;
        set_number(conn, SWEPT, through)?;
    }
    if let Some(through) = due(conn, (0, floor), before)? {
        conn.prepare("DELETE FROM event WHERE seq <= ?1")?
            .execute([through])?;
    }
    Ok(())
}

/// The last of the first events of a range that are due. Time rises with the number, so looking
/// stops at the first that is not: nothing due costs one row.
fn due(conn: Conn<'_>, (after, until): (i64, i64), before: i64) -> Result<Option<i64>> {
    let mut statement = conn
        .prepare("SELECT seq, at FROM event WHERE seq > ?1 AND seq <= ?2 ORDER BY seq LIMIT ?3")?;
    let mut rows = statement.query([after, until, SWEPT_MAX])?;
    let mut due = None;
    while let Some(row) = rows.next_row()? {
        if row.get::<i64>(1)? >= before {
            break;
        }
        due = Some(row.get(0)?);
    }
    Ok(due)
}
