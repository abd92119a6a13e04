//! The timeline of a conversation as surgery reads and writes it: rows linked by `prev`.

use std::collections::HashMap;

use crate::dispatch::surgery::{Entry, Refused};
use crate::ids::{ConversationId, MessageId};
use crate::router::effects::Author;
use crate::router::facts::Conversation;
use crate::store::StoreError;
use crate::store::rows::Tx;
use crate::store::sql::{self, Optional as _, params};

#[derive(Debug, Clone, Copy)]
pub struct Row {
    pub entry: Entry,
    pub prev: Option<MessageId>,
    pub author: Author,
    /// A note has none: 0.
    pub channel: i64,
}

/// The newest messages of a conversation, oldest first.
#[derive(Debug, Default)]
pub struct Chain {
    pub rows: Vec<Row>,
    /// The message before them.
    base: Option<MessageId>,
}

impl Chain {
    pub fn entries(&self) -> Vec<Entry> {
        self.rows.iter().map(|row| row.entry).collect()
    }

    pub fn has_older(&self) -> bool {
        self.base.is_some()
    }
}

/// Walks back from the newest message to the first that `ends` says lies beyond what matters.
pub fn walk(
    tx: &Tx<'_>,
    conversation: &Conversation,
    max: usize,
    mut ends: impl FnMut(&Row) -> bool,
) -> Result<Chain, StoreError> {
    let mut chain = Chain::default();
    let mut next = conversation.last_message;
    while let Some(id) = next {
        let Some(row) = row(tx, id)? else { break };
        if ends(&row) {
            chain.base = Some(id);
            break;
        }
        if chain.rows.len() == max {
            return Err(StoreError::Refused(
                Refused::TooMany {
                    max,
                    what: "messages",
                    hint: "merge a long conversation the other way round, or name newer messages",
                }
                .into(),
            ));
        }
        next = row.prev;
        chain.rows.push(row);
    }
    chain.rows.reverse();
    Ok(chain)
}

fn row(tx: &Tx<'_>, id: MessageId) -> Result<Option<Row>, StoreError> {
    Ok(tx
        .conn
        .prepare(
            "SELECT conversation, seq, prev, author, channel, arrived_at FROM message WHERE id = ?1",
        )?
        .query_row([id.0], |row| {
            Ok(Row {
                entry: Entry {
                    id,
                    conversation: ConversationId(row.get(0)?),
                    seq: row.get(1)?,
                    arrived_at: row.get(5)?,
                },
                prev: row.get::<Option<i64>>(2)?.map(MessageId),
                author: Author::from_code(row.get(3)?),
                channel: row.get(4)?,
            })
        })
        .optional()?)
}

/// What the rows were before an operation, by message.
pub type Before = HashMap<MessageId, Row>;

pub fn before(chains: &[&Chain]) -> Before {
    let rows = chains.iter().flat_map(|chain| &chain.rows);
    rows.map(|row| (row.entry.id, *row)).collect()
}

/// Makes `entries` the newest messages of `conversation`, after what `chain` did not load. Keeps
/// under `event` where each of them was.
pub fn place(
    tx: &Tx<'_>,
    event: i64,
    conversation: &mut Conversation,
    chain: &Chain,
    entries: &[Entry],
    before: &Before,
) -> Result<(), StoreError> {
    let conn = tx.conn;
    let mut prev = chain.base;
    for entry in entries {
        let was = before.get(&entry.id);
        let moved = was.is_none_or(|was| {
            (was.entry.conversation, was.entry.seq) != (conversation.id, entry.seq)
        });
        if moved || was.is_none_or(|was| was.prev != prev) {
            conn.prepare(
                "UPDATE message SET conversation = ?1, seq = ?2, prev = ?3 WHERE id = ?4",
            )?
            .execute(params![
                conversation.id.0,
                entry.seq,
                prev.map(|prev| prev.0),
                entry.id.0,
            ])?;
        }
        if let Some(was) = was.filter(|_| moved) {
            conn.prepare(
                "INSERT INTO place (event, message, conversation, seq) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute([event, entry.id.0, was.entry.conversation.0, was.entry.seq])?;
            conn.prepare("UPDATE outbox SET conversation = ?1, seq = ?2 WHERE id = ?3")?
                .execute([conversation.id.0, entry.seq, entry.id.0])?;
            conn.prepare(
                "INSERT INTO guest (contact, conversation) SELECT identity.contact, ?1 FROM message
                 JOIN identity ON identity.id = message.identity WHERE message.id = ?2 AND identity.contact <> ?3 ON CONFLICT DO NOTHING",
            )?
            .execute([conversation.id.0, entry.id.0, conversation.contact.0])?;
        }
        prev = Some(entry.id);
    }
    conversation.last_message = prev;
    if let Some(last) = entries.last() {
        conversation.last_seq = conversation.last_seq.max(last.seq);
    }
    Ok(())
}

/// Where messages were before an operation: conversation and number.
pub fn places(
    tx: &Tx<'_>,
    event: i64,
) -> Result<HashMap<MessageId, (ConversationId, i64)>, StoreError> {
    let mut statement = tx
        .conn
        .prepare("SELECT message, conversation, seq FROM place WHERE event = ?1")?;
    let rows = statement.query_map([event], |row| {
        let place = (ConversationId(row.get(1)?), row.get(2)?);
        Ok((MessageId(row.get(0)?), place))
    })?;
    Ok(rows.collect::<sql::Result<_>>()?)
}
