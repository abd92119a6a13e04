//! Keeps the index up with the event log: what an event changed is read again and indexed as it
//! stands. Where the log does not reach back far enough the index is made anew from the messages.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension, params};

use crate::dispatch::{Actor, Role};
use crate::ids::{ContactId, MessageId};
use crate::router::effects::EventType;
use crate::search::indexed;
use crate::store::StoreError;
use crate::store::search::{Indexed, Words, contact_words};
use crate::store::sqlite::facts::from_json;
use crate::store::sqlite::names::Names;
use crate::store::sqlite::{events, reading};

type Result<T> = std::result::Result<T, StoreError>;

/// What one step writes.
pub struct Step {
    messages: Vec<(MessageId, Option<Words>)>,
    contacts: Vec<(ContactId, Option<(String, String)>)>,
    from: Cursor,
    to: Cursor,
    pub indexed: Indexed,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Cursor {
    event: i64,
    rebuilding: Option<i64>,
}

impl Step {
    pub fn has_work(&self) -> bool {
        self.from != self.to
    }
}

/// Reads what the next step indexes, as words: the writer only writes them.
pub fn plan(conn: &Connection, names: &Names, limit: u32) -> Result<Step> {
    let snapshot = conn.unchecked_transaction()?;
    let from = cursor(&snapshot)?;
    let newest = events::last(&snapshot)?;
    let mut to = from;
    if from.rebuilding.is_none() && from.event < events::swept(&snapshot)? {
        to = Cursor {
            event: newest,
            rebuilding: Some(0),
        };
    }
    let mut touched = Touched::default();
    match to.rebuilding {
        Some(after) => to.rebuilding = touched.rebuild(&snapshot, after, limit)?,
        None => to.event = touched.follow(&snapshot, to.event, newest, limit)?,
    }
    let messages = touched.messages.into_iter().map(|id| {
        let message = reading::message_row(&snapshot, names, id)?;
        Ok((id, message.as_ref().and_then(Words::of).map(Words::indexed)))
    });
    let everybody = everybody();
    let contacts = touched.contacts.into_iter().map(|id| {
        let contact = reading::contact(&snapshot, names, &everybody, id)?;
        let words = contact.as_ref().map(contact_words);
        Ok((
            id,
            words.map(|(name, address)| (indexed(&name), indexed(&address))),
        ))
    });
    Ok(Step {
        messages: messages.collect::<Result<_>>()?,
        contacts: contacts.collect::<Result<_>>()?,
        from,
        to,
        indexed: Indexed {
            behind: events::ahead(&snapshot, to.event)?
                + match to.rebuilding {
                    Some(at) => (events::ahead(&snapshot, 0)? - at).max(1),
                    None => 0,
                },
            behind_since: since(&snapshot, to.event)?,
        },
    })
}

/// Writes a step, unless another one was written since it was planned. What was forgotten since has
/// no words any more.
pub fn write(conn: &Connection, step: &Step) -> Result<()> {
    if cursor(conn)? != step.from {
        return Ok(());
    }
    for (id, words) in &step.messages {
        conn.prepare_cached("DELETE FROM message_search WHERE rowid = ?1")?
            .execute([id.0])?;
        if let Some(words) = words {
            conn.prepare_cached(
                "INSERT INTO message_search (rowid, subject, text, files) SELECT ?1, ?2, ?3, ?4
                 WHERE EXISTS (SELECT 1 FROM message WHERE id = ?1)",
            )?
            .execute(params![id.0, words.subject, words.text, words.files])?;
        }
    }
    for (id, words) in &step.contacts {
        conn.prepare_cached("DELETE FROM contact_search WHERE rowid = ?1")?
            .execute([id.0])?;
        if let Some((name, address)) = words {
            conn.prepare_cached(
                "INSERT INTO contact_search (rowid, name, address) SELECT ?1, ?2, ?3
                 WHERE EXISTS (SELECT 1 FROM contact WHERE id = ?1)",
            )?
            .execute(params![id.0, name, address])?;
        }
    }
    conn.prepare_cached(
        "INSERT OR REPLACE INTO search_cursor (id, event, rebuilding) VALUES (1, ?1, ?2)",
    )?
    .execute(params![step.to.event, step.to.rebuilding])?;
    Ok(())
}

fn cursor(conn: &Connection) -> Result<Cursor> {
    let row = conn
        .prepare_cached("SELECT event, rebuilding FROM search_cursor")?
        .query_row([], |row| {
            Ok(Cursor {
                event: row.get(0)?,
                rebuilding: row.get(1)?,
            })
        })
        .optional()?;
    Ok(row.unwrap_or_default())
}

fn since(conn: &Connection, event: i64) -> Result<Option<i64>> {
    Ok(conn
        .prepare_cached("SELECT at FROM event WHERE seq > ?1 ORDER BY seq LIMIT 1")?
        .query_row([event], |row| row.get(0))
        .optional()?)
}

/// What has to be indexed again.
#[derive(Default)]
struct Touched {
    messages: BTreeSet<MessageId>,
    contacts: BTreeSet<ContactId>,
}

impl Touched {
    /// Of the events after one up to `newest`; gives up to which number it was looked.
    fn follow(&mut self, conn: &Connection, after: i64, newest: i64, limit: u32) -> Result<i64> {
        let mut statement = conn.prepare_cached(
            "SELECT event.seq, event.kind, event.message, event.detail, conversation.contact FROM event
             LEFT JOIN conversation ON conversation.id = event.conversation
             WHERE event.seq > ?1 ORDER BY event.seq LIMIT ?2",
        )?;
        let mut rows = statement.query(params![after, limit])?;
        let (mut last, mut count) = (after, 0);
        while let Some(row) = rows.next()? {
            last = row.get(0)?;
            count += 1;
            let Some(kind) = EventType::from_code(row.get(1)?) else {
                continue;
            };
            // Whatever happens to a message or to a contact's conversations may change its words;
            // only how far a message got does not.
            if kind == EventType::MessageDelivery {
                continue;
            }
            match row.get::<_, Option<i64>>(2)? {
                Some(message) => drop(self.messages.insert(MessageId(message))),
                None => self
                    .contacts
                    .extend(row.get::<_, Option<i64>>(4)?.map(ContactId)),
            }
            if let Some(detail) = row.get::<_, Option<String>>(3)? {
                let detail: serde_json::Value = from_json(3, &detail)?;
                let named = ["contact", "into", "from"].map(|key| detail.get(key)?.as_i64());
                self.contacts
                    .extend(named.into_iter().flatten().map(ContactId));
            }
        }
        // After a restore the log ends above its last event.
        Ok(if count < limit { newest } else { last })
    }

    /// Of the messages after one; gives where to go on.
    fn rebuild(&mut self, conn: &Connection, after: i64, limit: u32) -> Result<Option<i64>> {
        let mut statement = conn.prepare_cached(
            "SELECT message.id, conversation.contact FROM message
             JOIN conversation ON conversation.id = message.conversation
             WHERE message.id > ?1 ORDER BY message.id LIMIT ?2",
        )?;
        let mut rows = statement.query(params![after, limit])?;
        let mut last = None;
        while let Some(row) = rows.next()? {
            let id = row.get(0)?;
            last = Some(id);
            self.messages.insert(MessageId(id));
            self.contacts.insert(ContactId(row.get(1)?));
        }
        Ok(last)
    }
}

/// The index knows everything; who may see what is asked with each question.
fn everybody() -> Actor {
    Actor {
        role: Role::Reader,
        agent: None,
        queues: Vec::new(),
        brands: Vec::new(),
        acting: None,
        acts: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sqlite::open::{migrate, open_writing};

    #[test]
    fn what_was_forgotten_between_reading_and_writing_is_not_indexed() {
        let dir = tempfile::tempdir().unwrap();
        let conn = open_writing(&dir.path().join("switchboard.db")).unwrap();
        migrate(&conn).unwrap();
        let words = |text: &str| Words {
            text: text.to_owned(),
            ..Words::default()
        };
        let step = Step {
            messages: vec![(MessageId(7), Some(words("secret")))],
            contacts: vec![(ContactId(3), Some(("secret".to_owned(), String::new())))],
            from: Cursor::default(),
            to: Cursor {
                event: 5,
                ..Cursor::default()
            },
            indexed: Indexed::default(),
        };
        write(&conn, &step).unwrap();
        assert_eq!(cursor(&conn).unwrap(), step.to);
        for table in ["message_search", "contact_search"] {
            let sql = format!("SELECT count(*) FROM {table} WHERE {table} MATCH 'secret'");
            let found: i64 = conn.query_row(&sql, [], |row| row.get(0)).unwrap();
            assert_eq!(found, 0, "{table}");
        }
    }
}
