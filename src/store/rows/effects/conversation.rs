//! A conversation's row, and its place among those that wait.

use std::collections::HashMap;

use crate::conversation::{Priority, Status, rank};
use crate::ids::ConversationId;
use crate::router::facts::Conversation;
use crate::store::StoreError;
use crate::store::rows::Tx;
use crate::store::rows::events::{self, NewDeparture};
use crate::store::sql::{self, Conn};

use super::json;

/// Writes a conversation and the waiting row that its state asks for.
pub fn write_conversation(
    tx: &mut Tx<'_>,
    conversation: &Conversation,
    new: bool,
) -> Result<(), StoreError> {
    write_conversations(tx, &[(conversation, new)])
}

/// Writes conversations, each with whether it is new, and the waiting rows that their states ask for.
pub fn write_conversations(
    tx: &mut Tx<'_>,
    conversations: &[(&Conversation, bool)],
) -> Result<(), StoreError> {
    let names = tx.memory.names.clone();
    let known = conversations.iter().filter(|(_, new)| !new);
    let mut before = indexed(tx.conn, known.map(|(known, _)| known.id))?;
    let mut all: Vec<Changed<'_>> = Vec::with_capacity(conversations.len());
    for (conversation, new) in conversations {
        let queue = names.id(conversation.queue.as_str());
        let rank = rank(conversation.enqueued_at, conversation.priority);
        all.push(Changed {
            conversation,
            new: *new,
            before: before.remove(&conversation.id),
            now: Indexed {
                queue,
                contact: conversation.contact.0,
                matter: conversation.matter.map_or(0, |matter| matter.0),
                status: conversation.status.code(),
                assignee: conversation.assignee.clone(),
                opened_at: conversation.opened_at,
                waiting: (conversation.status == Status::Queued).then_some((queue, rank)),
            },
            brand: names.id(conversation.brand.as_str()),
            detail: json(&conversation.detail)?,
        });
    }
    write_departures(tx, &all)?;
    // An UPDATE that names an indexed column rewrites that index: most messages change none.
    let (same, others): (Vec<_>, Vec<_>) = all.iter().partition(|one| one.has_same_keys());
    write_columns(tx.conn, UPDATE, same.into_iter(), false)?;
    // Whoever leaves the empty matter first, or has one of its own: another takes it.
    for turn in [Turn::Over, Turn::OwnMatter, Turn::EmptyMatter] {
        let mine = others.iter().copied().filter(|one| one.turn() == turn);
        let (new, known): (Vec<_>, Vec<_>) = mine.partition(|one| one.new);
        write_columns(tx.conn, UPDATE_KEYS, known.into_iter(), true)?;
        write_columns(tx.conn, INSERT, new.into_iter(), true)?;
    }
    write_waiting(tx.conn, &all)
}

const INSERT: &str =
    "INSERT INTO conversation (id, version, last_seq, last_message, enqueued_at, last_inbound_at,
     resolved_at, priority, detail, queue, brand, contact, matter, status, assignee, opened_at)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)";
const UPDATE_KEYS: &str =
    "UPDATE conversation SET version = ?2, last_seq = ?3, last_message = ?4, enqueued_at = ?5,
     last_inbound_at = ?6, resolved_at = ?7, priority = ?8, detail = ?9, queue = ?10, brand = ?11,
     contact = ?12, matter = ?13, status = ?14, assignee = ?15, opened_at = ?16 WHERE id = ?1";
const UPDATE: &str =
    "UPDATE conversation SET version = ?2, last_seq = ?3, last_message = ?4, enqueued_at = ?5,
     last_inbound_at = ?6, resolved_at = ?7, priority = ?8, detail = ?9 WHERE id = ?1";

/// A conversation on its way into its row.
struct Changed<'a> {
    conversation: &'a Conversation,
    new: bool,
    before: Option<Indexed>,
    now: Indexed,
    brand: i64,
    detail: String,
}

/// In which order rows with other keys are written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    Over,
    OwnMatter,
    EmptyMatter,
}

impl Changed<'_> {
    fn has_same_keys(&self) -> bool {
        let before = self.before.as_ref();
        before.is_some_and(|before| before.same_keys(&self.now))
    }

    fn turn(&self) -> Turn {
        match (self.conversation.status.is_open(), self.now.matter) {
            (false, _) => Turn::Over,
            (true, 0) => Turn::EmptyMatter,
            (true, _) => Turn::OwnMatter,
        }
    }
}

fn write_columns<'a>(
    conn: Conn<'_>,
    sql: &str,
    changed: impl ExactSizeIterator<Item = &'a Changed<'a>>,
    keys: bool,
) -> Result<(), StoreError> {
    if changed.len() == 0 {
        return Ok(());
    }
    let mut write = conn.write_each(sql)?;
    for Changed {
        conversation,
        now,
        brand,
        detail,
        ..
    } in changed
    {
        let last_message = conversation.last_message.map(|message| message.0);
        let priority = conversation.priority.code();
        let all: [&dyn sql::ToSql; 16] = [
            &conversation.id.0,
            &conversation.version,
            &conversation.last_seq,
            &last_message,
            &conversation.enqueued_at,
            &conversation.last_inbound_at,
            &conversation.resolved_at,
            &priority,
            detail,
            &now.queue,
            brand,
            &now.contact,
            &now.matter,
            &now.status,
            &now.assignee,
            &now.opened_at,
        ];
        let (others, _) = all.split_at(9);
        write.add(if keys { &all[..] } else { others })?;
    }
    Ok(write.done()?)
}

/// The columns of a conversation that indexes and the waiting row are made of, and what hardly ever
/// changes.
struct Indexed {
    queue: i64,
    contact: i64,
    matter: i64,
    status: i64,
    assignee: Option<String>,
    opened_at: i64,
    /// Queue and rank, while it waits.
    waiting: Option<(i64, i64)>,
}

impl Indexed {
    fn same_keys(&self, other: &Self) -> bool {
        (self.contact, self.matter, self.status) == (other.contact, other.matter, other.status)
            && self.assignee == other.assignee
            && (self.opened_at, self.queue) == (other.opened_at, other.queue)
    }
}

/// Conversations' indexed columns as they stand in their rows now.
fn indexed(
    conn: Conn<'_>,
    ids: impl Iterator<Item = ConversationId>,
) -> Result<HashMap<ConversationId, Indexed>, StoreError> {
    let mut found = HashMap::new();
    let mut asked = conn.read_each(
        "SELECT id, contact, matter, status, assignee, queue, enqueued_at, priority, opened_at FROM conversation
         WHERE id = ?1",
        |_, row| {
            let status: i64 = row.get(3)?;
            let priority = Priority::from_code(row.get(7)?);
            let queue = row.get(5)?;
            let place = (queue, rank(row.get(6)?, priority));
            let indexed = Indexed {
                queue,
                contact: row.get(1)?,
                matter: row.get(2)?,
                status,
                assignee: row.get(4)?,
                opened_at: row.get(8)?,
                waiting: (status == Status::Queued.code()).then_some(place),
            };
            found.insert(ConversationId(row.get(0)?), indexed);
            Ok(())
        },
    )?;
    for id in ids {
        asked.add([id.0])?;
    }
    asked.done()?;
    Ok(found)
}

/// Notes where conversations were when they leave their queue or their agent: told of by the event that comes
/// next.
fn write_departures(tx: &mut Tx<'_>, all: &[Changed<'_>]) -> Result<(), StoreError> {
    let left = all.iter().filter_map(|one| {
        let before = one.before.as_ref()?;
        let held = before.assignee.is_some() && before.assignee != one.now.assignee;
        (held || before.queue != one.now.queue).then_some(NewDeparture {
            conversation: one.conversation.id,
            queue: before.queue,
            assignee: before.assignee.as_deref(),
        })
    });
    events::write_departures(tx, left)
}

fn write_waiting(conn: Conn<'_>, all: &[Changed<'_>]) -> Result<(), StoreError> {
    let place = |one: &Changed<'_>| one.before.as_ref().and_then(|before| before.waiting);
    let moved: Vec<&Changed<'_>> = (all.iter())
        .filter(|one| place(one) != one.now.waiting)
        .collect();
    if moved.is_empty() {
        return Ok(());
    }
    let mut delete = conn.write_each(
        "DELETE FROM waiting WHERE queue = ?1 AND fit_class = 0 AND rank = ?2 AND id = ?3",
    )?;
    for one in &moved {
        let left = place(one).filter(|_| !bug!("claimed-still-waits"));
        if let Some((queue, rank)) = left {
            delete.add([queue, rank, one.conversation.id.0])?;
        }
    }
    delete.done()?;
    let mut insert = conn.write_each(
        "INSERT INTO waiting (queue, fit_class, rank, id, enqueued_at) VALUES (?1, 0, ?2, ?3, ?4)",
    )?;
    for one in &moved {
        if let Some((queue, rank)) = one.now.waiting {
            let Conversation {
                id, enqueued_at, ..
            } = one.conversation;
            insert.add([queue, rank, id.0, *enqueued_at])?;
        }
    }
    Ok(insert.done()?)
}
