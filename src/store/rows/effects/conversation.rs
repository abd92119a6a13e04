//! A conversation's row, and its place among those that wait.

use crate::conversation::{Priority, Status, rank};
use crate::ids::ConversationId;
use crate::router::facts::Conversation;
use crate::store::StoreError;
use crate::store::rows::Tx;
use crate::store::sql::{self, Conn, params};

use super::json;

/// Writes a conversation and the waiting row that its state asks for.
pub fn write_conversation(
    tx: &mut Tx<'_>,
    conversation: &Conversation,
    new: bool,
) -> Result<(), StoreError> {
    let conn = tx.conn;
    let names = tx.memory.names.clone();
    let queue = names.id(conversation.queue.as_str());
    let before = if new {
        None
    } else {
        indexed(conn, conversation.id)?
    };
    if let Some(before) = &before {
        note_departure(tx, conversation, before, queue)?;
    }
    let now = Indexed {
        queue,
        contact: conversation.contact.0,
        matter: conversation.matter.map_or(0, |matter| matter.0),
        status: conversation.status.code(),
        assignee: conversation.assignee.clone(),
        opened_at: conversation.opened_at,
        waiting: (conversation.status == Status::Queued)
            .then(|| (queue, rank(conversation.enqueued_at, conversation.priority))),
    };
    // An UPDATE that names an indexed column rewrites that index: most messages change none.
    let same_keys = before.as_ref().is_some_and(|before| before.same_keys(&now));
    let sql = match (new, same_keys) {
        (true, _) => {
            "INSERT INTO conversation (id, version, last_seq, last_message, enqueued_at, last_inbound_at,
             resolved_at, priority, queue, detail, brand, contact, matter, status, assignee, opened_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)"
        }
        (false, false) => {
            "UPDATE conversation SET version = ?2, last_seq = ?3, last_message = ?4, enqueued_at = ?5,
             last_inbound_at = ?6, resolved_at = ?7, priority = ?8, queue = ?9, detail = ?10, brand = ?11,
             contact = ?12, matter = ?13, status = ?14, assignee = ?15, opened_at = ?16 WHERE id = ?1"
        }
        (false, true) => {
            "UPDATE conversation SET version = ?2, last_seq = ?3, last_message = ?4, enqueued_at = ?5,
             last_inbound_at = ?6, resolved_at = ?7, priority = ?8, queue = ?9, detail = ?10 WHERE id = ?1"
        }
    };
    let detail = json(&conversation.detail)?;
    let brand = names.id(conversation.brand.as_str());
    let last_message = conversation.last_message.map(|message| message.0);
    let priority = conversation.priority.code();
    let mut values: Vec<&dyn sql::ToSql> = vec![
        &conversation.id.0,
        &conversation.version,
        &conversation.last_seq,
        &last_message,
        &conversation.enqueued_at,
        &conversation.last_inbound_at,
        &conversation.resolved_at,
        &priority,
        &queue,
        &detail,
    ];
    if !same_keys {
        let keys: [&dyn sql::ToSql; 6] = [
            &brand,
            &now.contact,
            &now.matter,
            &now.status,
            &now.assignee,
            &conversation.opened_at,
        ];
        values.extend(keys);
    }
    conn.prepare(sql)?.execute(values.as_slice())?;
    write_waiting(
        conn,
        conversation,
        before.and_then(|before| before.waiting),
        now.waiting,
    )
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
            && self.opened_at == other.opened_at
    }
}

/// A conversation's indexed columns as they stand in its row now.
fn indexed(conn: Conn<'_>, id: ConversationId) -> Result<Option<Indexed>, StoreError> {
    let mut statement = conn.prepare(
        "SELECT contact, matter, status, assignee, queue, enqueued_at, priority, opened_at FROM conversation
         WHERE id = ?1",
    )?;
    let mut rows = statement.query([id.0])?;
    let Some(row) = rows.next_row()? else {
        return Ok(None);
    };
    let status: i64 = row.get(2)?;
    let priority = Priority::from_code(row.get(6)?);
    let queue = row.get(4)?;
    let place = (queue, rank(row.get(5)?, priority));
    Ok(Some(Indexed {
        queue,
        contact: row.get(0)?,
        matter: row.get(1)?,
        status,
        assignee: row.get(3)?,
        opened_at: row.get(7)?,
        waiting: (status == Status::Queued.code()).then_some(place),
    }))
}

/// Notes where a conversation was when it leaves its queue or its agent, under the number of the
/// event that comes next: the one that tells of it.
fn note_departure(
    tx: &mut Tx<'_>,
    conversation: &Conversation,
    before: &Indexed,
    queue: i64,
) -> Result<(), StoreError> {
    let held = before.assignee.is_some() && before.assignee != conversation.assignee;
    if before.queue == queue && !held {
        return Ok(());
    }
    tx.conn.prepare(
        "INSERT INTO departure (seq, conversation, queue, assignee) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
    )?.execute(params![
        tx.next_event(),
        conversation.id.0,
        before.queue,
        before.assignee
    ])?;
    Ok(())
}

fn write_waiting(
    conn: Conn<'_>,
    conversation: &Conversation,
    before: Option<(i64, i64)>,
    after: Option<(i64, i64)>,
) -> Result<(), StoreError> {
    if before == after {
        return Ok(());
    }
    if let Some((queue, rank)) = before {
        conn.prepare(
            "DELETE FROM waiting WHERE queue = ?1 AND fit_class = 0 AND rank = ?2 AND id = ?3",
        )?
        .execute([queue, rank, conversation.id.0])?;
    }
    if let Some((queue, rank)) = after {
        conn.prepare("INSERT INTO waiting (queue, fit_class, rank, id, enqueued_at) VALUES (?1, 0, ?2, ?3, ?4)")?
            .execute([queue, rank, conversation.id.0, conversation.enqueued_at])?;
    }
    Ok(())
}
