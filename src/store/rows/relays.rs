//! What relays read, and how far they are.

use std::collections::BTreeMap;

use async_trait::async_trait;
use connector_api::Event;

use crate::bus::{Envelope, PARTITION_BITS};
use crate::store::events::EventFilter;
use crate::store::relays::{Letter, Origin, Relays, Told};
use crate::store::sql::{self, Conn, Optional as _, Row, params};
use crate::store::{Result, StoreError, StoredContent, StoredMessage};

use super::facts::from_json;
use super::names::Names;
use super::{Engine, RowStore, events, facts, reading};

/// Bytes of what is read at once, give or take one message or letter.
const BYTES_MAX: usize = 8 * 1024 * 1024;

#[async_trait]
impl<E: Engine> Relays for RowStore<E> {
    async fn own_relay(&self, name: &str, epoch: i64) -> Result<i64> {
        let name = name.to_owned();
        self.engine
            .write_beside(0, move |tx| {
                let position = tx
                    .conn
                    .prepare(
                        "INSERT INTO relay (name, position, epoch) VALUES (?1, 0, ?2)
                         ON CONFLICT (name) DO UPDATE SET epoch = excluded.epoch
                         WHERE relay.epoch <= excluded.epoch RETURNING position",
                    )?
                    .query_row(params![name, epoch], |row| row.get(0))
                    .optional()?;
                position.ok_or_else(|| stale(&name))
            })
            .await
    }

    async fn move_relay(&self, name: &str, epoch: i64, from: i64, to: i64) -> Result<()> {
        let name = name.to_owned();
        self.engine
            .write_beside(0, move |tx| {
                let moved = tx
                    .conn
                    .prepare(
                        "UPDATE relay SET position = ?1 WHERE name = ?2 AND epoch = ?3 AND position = ?4",
                    )?
                    .execute(params![to, name, epoch, from])?;
                match moved {
                    1 => Ok(()),
                    _ => Err(stale(&name)),
                }
            })
            .await
    }

    async fn told_after(&self, after: i64, limit: u32, whole: bool) -> Result<Told> {
        self.engine
            .read(move |conn, names| told(conn, names, after, limit, whole))
            .await
    }

    async fn uncopied_letters(&self, limit: u32) -> Result<(Vec<Letter>, i64)> {
        self.engine
            .read(move |conn, _| letters(conn, i64::from(limit)))
            .await
    }

    async fn letters_copied(&self, letters: Vec<Letter>) -> Result<()> {
        self.engine
            .write_beside(0, move |tx| {
                for letter in &letters {
                    tx.conn
                        .prepare("UPDATE dead_letter SET copied = 1 WHERE record = ?1 AND at = ?2")?
                        .execute([letter.record, letter.at])?;
                }
                Ok(())
            })
            .await
    }
}

fn stale(name: &str) -> StoreError {
    StoreError::StaleEpoch(format!("the relay {name} is another process's"))
}

fn told(conn: Conn<'_>, names: &Names, after: i64, limit: u32, whole: bool) -> Result<Told> {
    let snapshot = conn.snapshot()?;
    let conn = snapshot.conn();
    let filter = EventFilter {
        limit,
        ..EventFilter::default()
    };
    let mut told = Told {
        page: events::page(conn, names, after, &filter)?,
        conversations: BTreeMap::new(),
        messages: BTreeMap::new(),
    };
    if !whole {
        return Ok(told);
    }
    let mut bytes = 0;
    for event in &told.page.events {
        if let Some((id, _)) = event.conversation
            && !told.conversations.contains_key(&id)
            && let Some(found) = facts::conversation(conn, names, id)?
        {
            told.conversations.insert(id, found);
        }
        if let Some(id) = event.message
            && !told.messages.contains_key(&id)
            && let Some(found) = reading::message_row(conn, names, id)?
        {
            bytes += bytes_of(&found);
            told.messages.insert(id, found);
        }
        if bytes > BYTES_MAX {
            told.page.through = event.seq;
            break;
        }
    }
    let through = told.page.through;
    told.page.events.retain(|event| event.seq <= through);
    (told.page.departures).retain(|departure| departure.seq <= through);
    Ok(told)
}

/// About as many as it takes in memory.
fn bytes_of(message: &StoredMessage) -> usize {
    let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let said = |envelope: &Envelope| {
        let said = match &envelope.event.event {
            Event::Message(message) | Event::Echo(message) => {
                message.text.len() + length(&message.html)
            }
            Event::Edit { text, html, .. } => text.len() + length(html),
            _ => 0,
        };
        said + length(&envelope.full_text)
    };
    match &message.content {
        StoredContent::Inbound { first, edit } => {
            said(first) + edit.as_ref().map_or(0, |edit| said(edit))
        }
        StoredContent::Written(draft) => draft.text.len() + length(&draft.html),
        StoredContent::Unreadable(_) => 0,
    }
}

fn letters(conn: Conn<'_>, limit: i64) -> Result<(Vec<Letter>, i64)> {
    let count = conn
        .prepare("SELECT count(*) FROM dead_letter WHERE copied = 0")?
        .query_row((), |row| row.get(0))?;
    if count == 0 {
        return Ok((Vec::new(), 0));
    }
    let number_of_partition = (1_i64 << PARTITION_BITS) - 1;
    let mut statement = conn.prepare(&format!(
        "SELECT dead_letter.record, dead_letter.reason, dead_letter.attempts, dead_letter.at,
         dead_letter.headers, topic_partition.topic, topic_partition.at, bus_generation.base
         FROM dead_letter LEFT JOIN topic_partition
         ON topic_partition.id = (dead_letter.record & {number_of_partition})
         LEFT JOIN bus_generation ON bus_generation.topic = topic_partition.topic
         WHERE dead_letter.copied = 0 ORDER BY dead_letter.at, dead_letter.record LIMIT ?1"
    ))?;
    let found = statement.query_map([limit], letter_of)?;
    let found: Vec<Letter> = found.collect::<sql::Result<_>>()?;
    let (mut letters, mut bytes) = (Vec::new(), 0);
    for mut letter in found {
        letter.body = conn
            .prepare("SELECT content FROM body WHERE id = ?1")?
            .query_row([letter.record], |row| row.get(0))
            .optional()?;
        bytes += letter.body.as_ref().map_or(0, Vec::len);
        letters.push(letter);
        if bytes > BYTES_MAX {
            break;
        }
    }
    Ok((letters, count))
}

/// Records below the base stood on no topic.
fn letter_of(row: &Row<'_>) -> sql::Result<Letter> {
    let record: i64 = row.get(0)?;
    let topic: Option<String> = row.get(5)?;
    let partition: Option<i64> = row.get(6)?;
    let base = row.get::<Option<i64>>(7)?.unwrap_or(0);
    let place = topic.zip(partition).filter(|_| record > base);
    let origin = place.map(|(topic, partition)| Origin {
        topic,
        partition,
        offset: (record - base) >> PARTITION_BITS,
    });
    let headers: Option<String> = row.get(4)?;
    Ok(Letter {
        record,
        origin,
        reason: row.get(1)?,
        attempts: row.get(2)?,
        at: row.get(3)?,
        body: None,
        headers: headers.map_or(Ok(Vec::new()), |text| from_json(4, &text))?,
    })
}
