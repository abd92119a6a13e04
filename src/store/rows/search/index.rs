//! Keeps the index up with the event log: what an event changed is read again and indexed as it
//! stands. Where the log does not reach back far enough the index is made anew from the messages.
//!
//! A conversation that goes to another queue takes its words to another scope: its messages are
//! indexed again, some in each step.

use std::collections::BTreeSet;

use crate::dispatch::{Actor, Role};
use crate::ids::{ContactId, ConversationId, MessageId};
use crate::router::effects::EventType;
use crate::search::{Scope, indexed};
use crate::store::StoreError;
use crate::store::rows::facts::from_json;
use crate::store::rows::names::Names;
use crate::store::rows::{Engine, events, reading};
use crate::store::search::{Indexed, Words, contact_words};
use crate::store::sql::{self, Conn, Optional as _, params};

type Result<T> = std::result::Result<T, StoreError>;

/// Messages of conversations that moved which one step indexes again.
const MOVED_MESSAGES_MAX: usize = 128;
/// A contact is found in the queues of this many of its conversations, the newest.
const CONTACT_CONVERSATIONS_MAX: i64 = 1_000;

/// What one step writes.
struct Step {
    messages: Vec<(MessageId, Option<Words>)>,
    contacts: Vec<(ContactId, Option<(String, String)>)>,
    scopes: BTreeSet<Scope>,
    /// What moved with more messages than fit.
    left: Vec<Moved>,
    from: Cursor,
    to: Cursor,
    indexed: Indexed,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Cursor {
    event: i64,
    rebuilding: Option<i64>,
    /// What is indexed at its new place before anything else.
    moved: Option<Moved>,
}

/// A conversation whose messages from here back are to be indexed again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Moved {
    conversation: ConversationId,
    message: MessageId,
}

/// Plans a step on a reader, and writes it.
pub async fn step<E: Engine>(engine: &E, limit: u32) -> Result<Indexed> {
    engine.number_events().await?;
    let step = engine
        .read(move |conn, names| plan(conn, names, limit))
        .await?;
    let indexed = step.indexed;
    if step.has_work() {
        let written = engine.write_beside(0, move |tx| {
            tx.lock_name("search", &[])?;
            write(tx.conn, &step)
        });
        written.await?;
    }
    Ok(indexed)
}

impl Step {
    fn has_work(&self) -> bool {
        self.from != self.to
    }
}

/// Reads what the next step indexes, as words: the writer only writes them.
fn plan(conn: Conn<'_>, names: &Names, limit: u32) -> Result<Step> {
    let snapshot = conn.snapshot()?;
    let conn = snapshot.conn();
    let from = cursor(conn)?;
    let newest = events::last(conn)?;
    let mut to = from;
    if from.rebuilding.is_none() && from.event < events::swept(conn)? {
        to = Cursor {
            event: newest,
            rebuilding: Some(0),
            moved: None,
        };
    }
    let mut touched = Touched::default();
    match (from.moved, to.rebuilding) {
        (Some(moved), _) => to.moved = touched.again(conn, moved)?,
        (None, Some(after)) => to.rebuilding = touched.rebuild(conn, after, limit)?,
        (None, None) => to.event = touched.follow(conn, to.event, newest, limit)?,
    }
    let mut scopes = BTreeSet::new();
    let mut messages = Vec::new();
    for id in touched.messages {
        let message = reading::message_row(conn, names, id)?;
        let scope = match &message {
            Some(message) => scope_of(conn, message.conversation)?,
            None => None,
        };
        let words = message.as_ref().and_then(Words::of).zip(scope);
        scopes.extend(scope);
        messages.push((id, words.map(|(words, scope)| words.indexed(scope))));
    }
    let everybody = everybody();
    let mut contacts = Vec::new();
    for id in touched.contacts {
        let contact = reading::contact(conn, names, &everybody, id)?;
        let within = scopes_of_contact(conn, id)?;
        let words = contact.as_ref().map(contact_words);
        let words = words.filter(|_| !within.is_empty());
        let in_each =
            |text: &str| -> String { within.iter().map(|scope| indexed(text, *scope)).collect() };
        contacts.push((
            id,
            words.map(|(name, address)| (in_each(&name), in_each(&address))),
        ));
        scopes.extend(within);
    }
    Ok(Step {
        messages,
        contacts,
        scopes,
        from,
        to,
        indexed: Indexed {
            behind: events::ahead(conn, to.event)?
                + i64::from(to.moved.is_some() || !touched.left.is_empty())
                + match to.rebuilding {
                    Some(at) => (events::ahead(conn, 0)? - at).max(1),
                    None => 0,
                },
            behind_since: since(conn, to.event)?,
        },
        left: touched.left,
    })
}

/// Where a conversation's words are.
fn scope_of(conn: Conn<'_>, conversation: ConversationId) -> Result<Option<Scope>> {
    Ok(conn
        .prepare("SELECT brand, queue FROM conversation WHERE id = ?1")?
        .query_row([conversation.0], |row| {
            Ok(Scope {
                brand: row.get(0)?,
                queue: row.get(1)?,
            })
        })
        .optional()?)
}

fn scopes_of_contact(conn: Conn<'_>, contact: ContactId) -> Result<BTreeSet<Scope>> {
    let mut statement = conn.prepare(
        "SELECT brand, queue FROM conversation WHERE contact = ?1 ORDER BY opened_at DESC, id DESC LIMIT ?2",
    )?;
    let rows = statement.query_map(params![contact.0, CONTACT_CONVERSATIONS_MAX], |row| {
        Ok(Scope {
            brand: row.get(0)?,
            queue: row.get(1)?,
        })
    })?;
    Ok(rows.collect::<sql::Result<_>>()?)
}

/// Writes a step, unless another one was written since it was planned. What was forgotten since has
/// no words any more.
fn write(conn: Conn<'_>, step: &Step) -> Result<()> {
    if cursor(conn)? != step.from {
        return Ok(());
    }
    for (id, words) in &step.messages {
        conn.write("DELETE FROM message_search WHERE rowid = ?1", [id.0])?;
        if let Some(words) = words {
            insert(
                conn,
                OF_A_MESSAGE,
                id.0,
                [&words.subject, &words.text, &words.files],
            )?;
        }
    }
    for (id, words) in &step.contacts {
        conn.write("DELETE FROM contact_search WHERE rowid = ?1", [id.0])?;
        if let Some((name, address)) = words {
            insert(conn, OF_A_CONTACT, id.0, [name, address, ""])?;
        }
    }
    for scope in &step.scopes {
        conn.write(
            "INSERT INTO search_scope (brand, queue) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
            [scope.brand, scope.queue],
        )?;
    }
    if let Some(moved) = step.from.moved {
        conn.write(
            "DELETE FROM search_moved WHERE conversation = ?1",
            [moved.conversation.0],
        )?;
    }
    for moved in step.left.iter().chain(&step.to.moved) {
        conn.write("INSERT INTO search_moved (conversation, message) SELECT id, ?2 FROM conversation WHERE id = ?1
             ON CONFLICT (conversation) DO UPDATE SET message = excluded.message", [moved.conversation.0, moved.message.0])?;
    }
    conn.write(
        "INSERT INTO search_cursor (id, event, rebuilding) VALUES (1, ?1, ?2)
         ON CONFLICT (id) DO UPDATE SET event = excluded.event, rebuilding = excluded.rebuilding",
        params![step.to.event, step.to.rebuilding],
    )?;
    Ok(())
}

/// How words are put into the index of messages, or of contacts: for FTS5, and as PostgreSQL's vectors. Not of
/// what is gone by now.
type Insert = [&'static str; 2];

const OF_A_MESSAGE: Insert = [
    "INSERT INTO message_search (rowid, subject, text, files) SELECT id, ?2, ?3, ?4 FROM message WHERE id = ?1",
    "INSERT INTO message_search (rowid, words) SELECT id, CAST(?2 AS text)::tsvector FROM message WHERE id = ?1",
];
const OF_A_CONTACT: Insert = [
    "INSERT INTO contact_search (rowid, name, address) SELECT id, ?2, ?3 || ?4 FROM contact WHERE id = ?1",
    "INSERT INTO contact_search (rowid, words) SELECT id, CAST(?2 AS text)::tsvector FROM contact WHERE id = ?1",
];

fn insert(conn: Conn<'_>, insert: Insert, id: i64, parts: [&str; 3]) -> Result<()> {
    match conn {
        Conn::Sqlite(_) => {
            let [one, other, third] = parts;
            conn.prepare(insert[0])?
                .execute(params![id, one, other, third])?;
        }
        #[cfg(feature = "postgres")]
        Conn::Postgres(_) => {
            conn.prepare(insert[1])?
                .execute(params![id, crate::search::vector(&parts)])?;
        }
    }
    Ok(())
}

fn cursor(conn: Conn<'_>) -> Result<Cursor> {
    let row = conn
        .prepare("SELECT event, rebuilding FROM search_cursor")?
        .query_row((), |row| {
            Ok(Cursor {
                event: row.get(0)?,
                rebuilding: row.get(1)?,
                moved: None,
            })
        })
        .optional()?;
    let moved = conn
        .prepare("SELECT conversation, message FROM search_moved LIMIT 1")?
        .query_row((), |row| {
            Ok(Moved {
                conversation: ConversationId(row.get(0)?),
                message: MessageId(row.get(1)?),
            })
        })
        .optional()?;
    Ok(Cursor {
        moved,
        ..row.unwrap_or_default()
    })
}

fn since(conn: Conn<'_>, event: i64) -> Result<Option<i64>> {
    Ok(conn
        .prepare("SELECT at FROM event WHERE seq > ?1 ORDER BY seq LIMIT 1")?
        .query_row([event], |row| row.get(0))
        .optional()?)
}

/// Whatever happens to a message or to a contact's conversations may change what is found of it, but for how far a message
/// got, and who has a conversation in hand. One that went to another queue meanwhile has a departure.
fn changes_words(kind: EventType, of_message: bool) -> bool {
    match kind {
        EventType::MessageDelivery => false,
        EventType::ConversationAssigned
        | EventType::ConversationReleased
        | EventType::ConversationResolved
        | EventType::ConversationReopened
        | EventType::ConversationSnoozed
        | EventType::ConversationWoken => of_message,
        _ => true,
    }
}

/// What has to be indexed again.
#[derive(Default)]
struct Touched {
    messages: BTreeSet<MessageId>,
    contacts: BTreeSet<ContactId>,
    left: Vec<Moved>,
}

impl Touched {
    /// Of the events after one up to `newest`; gives up to which number it was looked.
    fn follow(&mut self, conn: Conn<'_>, after: i64, newest: i64, limit: u32) -> Result<i64> {
        let mut statement = conn.prepare(
            "SELECT event.seq, event.kind, event.message, event.detail, conversation.contact FROM event
             LEFT JOIN conversation ON conversation.id = event.conversation
             WHERE event.seq > ?1 ORDER BY event.seq LIMIT ?2",
        )?;
        let mut rows = statement.query(params![after, limit])?;
        let (mut last, mut count) = (after, 0);
        while let Some(row) = rows.next_row()? {
            last = row.get(0)?;
            count += 1;
            let Some(kind) = EventType::from_code(row.get(1)?) else {
                continue;
            };
            let message: Option<i64> = row.get(2)?;
            if !changes_words(kind, message.is_some()) {
                continue;
            }
            match message {
                Some(message) => drop(self.messages.insert(MessageId(message))),
                None => self
                    .contacts
                    .extend(row.get::<Option<i64>>(4)?.map(ContactId)),
            }
            if let Some(detail) = row.get::<Option<String>>(3)? {
                let detail: serde_json::Value = from_json(3, &detail)?;
                if let Some(operation) = detail.get("operation").and_then(serde_json::Value::as_i64)
                {
                    self.placed(conn, operation)?;
                }
                let named = ["contact", "into", "from"].map(|key| detail.get(key)?.as_i64());
                self.contacts
                    .extend(named.into_iter().flatten().map(ContactId));
            }
        }
        // After a restore the log ends above its last event.
        let until = if count < limit { newest } else { last };
        self.follow_moved(conn, after, until)?;
        Ok(until)
    }

    /// Messages that an operation put elsewhere: a thousand at most.
    fn placed(&mut self, conn: Conn<'_>, operation: i64) -> Result<()> {
        let mut statement = conn.prepare("SELECT message FROM place WHERE event = ?1")?;
        let rows = statement.query_map([operation], |row| row.get(0).map(MessageId))?;
        for message in rows {
            self.messages.insert(message?);
        }
        Ok(())
    }

    /// Conversations that went to other queues by events of a range.
    fn follow_moved(&mut self, conn: Conn<'_>, after: i64, until: i64) -> Result<()> {
        let mut statement = conn.prepare(
            "SELECT DISTINCT conversation.id, conversation.last_message, conversation.contact FROM departure
             JOIN conversation ON conversation.id = departure.conversation
             WHERE departure.seq > ?1 AND departure.seq <= ?2 AND departure.queue <> conversation.queue",
        )?;
        let mut rows = statement.query([after, until])?;
        let mut room = MOVED_MESSAGES_MAX;
        while let Some(row) = rows.next_row()? {
            self.contacts.insert(ContactId(row.get(2)?));
            if let Some(message) = row.get::<Option<i64>>(1)? {
                let moved = Moved {
                    conversation: ConversationId(row.get(0)?),
                    message: MessageId(message),
                };
                let left = self.walk(conn, moved, &mut room)?;
                self.left.extend(left);
            }
        }
        Ok(())
    }

    /// More of a conversation that moved; gives where to go on.
    fn again(&mut self, conn: Conn<'_>, moved: Moved) -> Result<Option<Moved>> {
        let mut moved = moved;
        let there = conn
            .prepare("SELECT 1 FROM message WHERE id = ?1 AND conversation = ?2")?
            .exists([moved.message.0, moved.conversation.0])?;
        if !there {
            // It was taken out of the conversation meanwhile: once more from the newest.
            let newest: Option<Option<i64>> = conn
                .prepare("SELECT last_message FROM conversation WHERE id = ?1")?
                .query_row([moved.conversation.0], |row| row.get(0))
                .optional()?;
            let Some(newest) = newest.flatten() else {
                return Ok(None);
            };
            moved.message = MessageId(newest);
        }
        let mut room = MOVED_MESSAGES_MAX;
        self.walk(conn, moved, &mut room)
    }

    /// Takes messages of a conversation, back from one, as far as there is room; gives where to go on.
    fn walk(&mut self, conn: Conn<'_>, moved: Moved, room: &mut usize) -> Result<Option<Moved>> {
        let mut next = Some(moved.message);
        while let Some(message) = next.filter(|_| *room > 0) {
            let prev: Option<Option<i64>> = conn
                .prepare("SELECT prev FROM message WHERE id = ?1")?
                .query_row([message.0], |row| row.get(0))
                .optional()?;
            self.messages.insert(message);
            *room -= 1;
            next = prev.flatten().map(MessageId);
        }
        Ok(next.map(|message| Moved { message, ..moved }))
    }

    /// Of the messages after one; gives where to go on.
    fn rebuild(&mut self, conn: Conn<'_>, after: i64, limit: u32) -> Result<Option<i64>> {
        let mut statement = conn.prepare(
            "SELECT message.id, conversation.contact FROM message
             JOIN conversation ON conversation.id = message.conversation
             WHERE message.id > ?1 ORDER BY message.id LIMIT ?2",
        )?;
        let mut rows = statement.query(params![after, limit])?;
        let mut last = None;
        while let Some(row) = rows.next_row()? {
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
            scopes: BTreeSet::new(),
            left: Vec::new(),
            from: Cursor::default(),
            to: Cursor {
                event: 5,
                ..Cursor::default()
            },
            indexed: Indexed::default(),
        };
        write((&conn).into(), &step).unwrap();
        assert_eq!(cursor((&conn).into()).unwrap(), step.to);
        for table in ["message_search", "contact_search"] {
            let sql = format!("SELECT count(*) FROM {table} WHERE {table} MATCH 'secret'");
            let found: i64 = conn.query_row(&sql, [], |row| row.get(0)).unwrap();
            assert_eq!(found, 0, "{table}");
        }
    }
}
