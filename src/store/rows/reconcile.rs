//! What was accepted, and where it is: one snapshot and a few set-based questions a page.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use connector_api::Event;

use crate::bus::{Content, Envelope, decode};
use crate::reconcile::facts::{Body, Letter, Named, Parked, Record, Said};
use crate::router::effects::Author;
use crate::router::facts::Key16;
use crate::router::keys;
use crate::store::Result;
use crate::store::reconcile::{Page, Reconciles, Start};
use crate::store::sql::{self, Conn};

use super::names::Names;
use super::{Engine, RowStore, seen};

mod said;

const PARKED: i64 = 0;

#[async_trait]
impl<E: Engine> Reconciles for RowStore<E> {
    async fn reconcile_from(&self, since: i64) -> Result<Start> {
        self.engine.read(move |conn, _| from(conn, since)).await
    }

    async fn records_after(&self, after: i64, limit: u32) -> Result<Page<Record>> {
        self.engine
            .read(move |conn, names| {
                let snapshot = conn.snapshot()?;
                records(snapshot.conn(), names, after, limit)
            })
            .await
    }

    async fn parked_after(&self, after: i64, limit: u32) -> Result<Page<Parked>> {
        self.engine
            .read(move |conn, _| {
                let snapshot = conn.snapshot()?;
                parked(snapshot.conn(), after, limit)
            })
            .await
    }

    async fn said_after(&self, after: i64, since: i64, limit: u32) -> Result<Page<Said>> {
        self.engine
            .read(move |conn, names| {
                let snapshot = conn.snapshot()?;
                said::after(snapshot.conn(), names, (after, since), limit)
            })
            .await
    }

    async fn filed_keys(&self, keys: Vec<Key16>) -> Result<HashSet<Key16>> {
        self.engine
            .read(move |conn, _| {
                let found = seen::find_kept(conn, &keys.iter().copied().collect())?;
                let filed = found.into_iter().filter(|(_, seen)| !seen.is_empty());
                Ok(filed.map(|(key, _)| key).collect())
            })
            .await
    }
}

/// Whether the bus is a log in this database.
fn has_log(conn: Conn<'_>) -> bool {
    match conn {
        Conn::Sqlite(_) => true,
        #[cfg(feature = "postgres")]
        Conn::Postgres(_) => false,
    }
}

fn position(conn: Conn<'_>) -> sql::Result<i64> {
    conn.prepare("SELECT coalesce(min(position), 0) FROM position")?
        .query_row((), |row| row.get(0))
}

/// Arrival rises with the number in a log, so its place is searched for; elsewhere numbers say nothing of it.
fn from(conn: Conn<'_>, since: i64) -> Result<Start> {
    if !has_log(conn) {
        return Ok(Start {
            after: 0,
            has_log: false,
        });
    }
    let (mut low, mut high): (i64, i64) = conn
        .prepare("SELECT coalesce(min(record), 0), coalesce(max(record), 0) FROM log")?
        .query_row((), |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut at =
        conn.prepare("SELECT arrived_at FROM log WHERE record >= ?1 ORDER BY record LIMIT 1")?;
    let mut is_old = |record: i64| -> sql::Result<bool> {
        at.query_row([record], |row| row.get::<i64>(0))
            .map(|arrived_at| arrived_at < since)
    };
    let mut after = 0;
    // Everything below `low` is old, and everything above `high` is not.
    while low > 0 && low <= high {
        let middle = low + (high - low) / 2;
        match is_old(middle)? {
            true => (after, low) = (middle, middle + 1),
            false => high = middle - 1,
        }
    }
    Ok(Start {
        after: after.min(position(conn)?),
        has_log: true,
    })
}

/// With `?1` the number behind which it begins, and `?2` how many.
fn select_records(has_log: bool) -> String {
    let (table, number, arrived_at) = match has_log {
        true => ("log", "log.record", "log.arrived_at"),
        false => ("body", "body.id", "NULL"),
    };
    let body = match has_log {
        true => "LEFT JOIN body ON body.id = log.record",
        false => "",
    };
    format!(
        "SELECT {number}, {arrived_at}, message.arrived_at, message.author, message.channel, change.at, changed.channel,
           pending.at, dead_letter.state, dead_letter.at, body.id
         FROM {table} {body} LEFT JOIN message ON message.id = {number} LEFT JOIN change ON change.record = {number}
           LEFT JOIN message AS changed ON changed.id = change.message
           LEFT JOIN pending ON pending.record = {number} LEFT JOIN dead_letter ON dead_letter.record = {number}
         WHERE {number} > ?1 ORDER BY {number} LIMIT ?2"
    )
}

fn records(conn: Conn<'_>, names: &Names, after: i64, limit: u32) -> Result<Page<Record>> {
    let log = has_log(conn);
    let position = if log { position(conn)? } else { i64::MAX };
    // NULL alone has no type on a server that asks for one.
    let sql = select_records(log).replace("NULL,", "CAST(NULL AS bigint),");
    let mut items = Vec::new();
    let (mut read, mut last) = (0, None);
    let mut statement = conn.prepare(&sql)?;
    let mut rows = statement.query([after, i64::from(limit)])?;
    while let Some(row) = rows.next_row()? {
        let number: i64 = row.get(0)?;
        let author = row.get::<Option<i64>>(3)?.map(Author::from_code);
        (read, last) = (read + 1, Some(number));
        // What we wrote has bytes, and was no record.
        if author.is_some_and(|author| !is_inbound(author)) {
            continue;
        }
        let at: [Option<i64>; 5] = [
            row.get(1)?,
            row.get(2)?,
            row.get(5)?,
            row.get(7)?,
            row.get(9)?,
        ];
        let channel: Option<i64> = row.get(4)?;
        let channel = channel.or(row.get(6)?);
        let letter: Option<i64> = row.get(8)?;
        let body: Option<i64> = row.get(10)?;
        items.push(Record {
            number,
            arrived_at: at.into_iter().flatten().next().unwrap_or_default(),
            channel: channel.map(|channel| names.name(channel)),
            decided: number <= position,
            message: author.is_some(),
            change: row.get::<Option<i64>>(5)?.is_some(),
            pending: row.get::<Option<i64>>(7)?.is_some(),
            letter: letter.map(|state| match state {
                PARKED => Letter::Parked,
                _ => Letter::Filed,
            }),
            body: match body {
                Some(_) => Body::Unasked,
                None => Body::Gone,
            },
        });
    }
    name_unclear(conn, &mut items)?;
    Ok(Page {
        items,
        next: last.filter(|_| read == limit),
    })
}

/// Reads the bytes of those records of which nothing else says what they are.
fn name_unclear(conn: Conn<'_>, records: &mut [Record]) -> Result<()> {
    let unclear = records
        .iter_mut()
        .filter(|record| record.body == Body::Unasked && !record.message && !record.change);
    let mut unclear: Vec<&mut Record> = unclear.collect();
    let numbers: Vec<i64> = unclear.iter().map(|record| record.number).collect();
    for (record, named) in unclear.iter_mut().zip(named(conn, &numbers)?) {
        record.body = named.map_or(Body::Unreadable, Body::Read);
    }
    Ok(())
}

/// What these records call themselves, as far as their bytes can be read.
fn named(conn: Conn<'_>, numbers: &[i64]) -> Result<Vec<Option<Named>>> {
    let mut found: Vec<Option<(Named, u64)>> = vec![None; numbers.len()];
    if numbers.is_empty() {
        return Ok(Vec::new());
    }
    let mut asked = conn.read_each("SELECT content FROM body WHERE id = ?1", |place, row| {
        let content: Vec<u8> = row.get(0)?;
        if let (Content::Envelope(envelope), Some(found)) = (decode(&content), found.get_mut(place))
        {
            *found = Some((name_of(&envelope), envelope.digest));
        }
        Ok(())
    })?;
    for number in numbers {
        asked.add([*number])?;
    }
    asked.done()?;
    let keys = found.iter().flatten().map(|(named, _)| named.key).collect();
    let seen = seen::find_kept(conn, &keys)?;
    let file = |(mut named, digest): (Named, u64)| {
        let same = seen.get(&named.key).into_iter().flatten();
        let mut same = same.filter(|seen| seen.digest == digest);
        named.filed_as = same.next().map(|seen| seen.message.0);
        named
    };
    let mut all: Vec<Option<Named>> = found.into_iter().map(|found| found.map(file)).collect();
    name_sent(conn, numbers, &mut all)?;
    Ok(all)
}

/// An answer of ours in an imported folder is known by the id that it left under.
fn name_sent(conn: Conn<'_>, numbers: &[i64], all: &mut [Option<Named>]) -> Result<()> {
    let mut sent: HashMap<usize, i64> = HashMap::new();
    let mut asked = conn.read_each(
        "SELECT message FROM reference WHERE key = ?1",
        |place, row| {
            sent.insert(place, row.get(0)?);
            Ok(())
        },
    )?;
    let mut places = Vec::new();
    for (at, (named, _)) in all.iter().zip(numbers).enumerate() {
        let Some(named) = named.as_ref().filter(|named| named.filed_as.is_none()) else {
            continue;
        };
        if let Some(key) = named.sent_key {
            asked.add([key.as_slice()])?;
            places.push(at);
        }
    }
    asked.done()?;
    for (place, message) in sent {
        let named = places
            .get(place)
            .and_then(|at| all.get_mut(*at))
            .and_then(Option::as_mut);
        if let Some(named) = named {
            named.filed_as = Some(message);
        }
    }
    Ok(())
}

fn name_of(envelope: &Envelope) -> Named {
    let message_id = match &envelope.event.event {
        Event::Message(message) | Event::Echo(message) => message.thread.message_id.clone(),
        _ => None,
    };
    let (brand, channel) = (&envelope.brand, &envelope.channel);
    let provider_id = envelope.event.dedupe_key.as_str();
    let sent = message_id.as_deref().filter(|_| envelope.imported);
    Named {
        channel: channel.as_str().to_owned(),
        arrived_at: envelope.arrived_at,
        key: keys::event(brand, channel, provider_id),
        sent_key: sent.map(|id| keys::sent(brand, channel, id)),
        provider_id: provider_id.to_owned(),
        message_id,
        filed_as: None,
    }
}

fn parked(conn: Conn<'_>, after: i64, limit: u32) -> Result<Page<Parked>> {
    let mut statement = conn.prepare(
        "SELECT record, at, reason FROM dead_letter WHERE state = 0 AND record > ?1 ORDER BY record LIMIT ?2",
    )?;
    let rows = statement.query_map([after, i64::from(limit)], |row| {
        Ok(Parked {
            record: row.get(0)?,
            at: row.get(1)?,
            reason: row.get(2)?,
            named: None,
        })
    })?;
    let mut items: Vec<Parked> = rows.collect::<sql::Result<_>>()?;
    let numbers: Vec<i64> = items.iter().map(|parked| parked.record).collect();
    for (parked, named) in items.iter_mut().zip(named(conn, &numbers)?) {
        parked.named = named;
    }
    let is_full = u32::try_from(items.len()).is_ok_and(|read| read == limit);
    let next = items.last().map(|last| last.record).filter(|_| is_full);
    Ok(Page { items, next })
}

/// Whether it came in: a customer's words, or those of our side from elsewhere.
fn is_inbound(author: Author) -> bool {
    matches!(author, Author::Customer | Author::Echo | Author::System)
}
