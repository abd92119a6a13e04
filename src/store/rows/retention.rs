//! Conversations whose time is over go with everything that was said in them, in steps: first the
//! conversation, so that nothing finds the rest any more, then its messages from the newest back,
//! some in each transaction. A contact goes with its last conversation.

use crate::store::retention::{Forgotten, Periods};
use crate::store::sql::{self, Conn, Optional as _};
use crate::store::{Result, StoreError};

use super::operating::drop_unused;
use super::privacy::elsewhere::not_erasing;
use super::privacy::erasing::note_files;
use super::privacy::holds::NOT_HELD;

/// Rows of each other kind that one step removes.
const ROWS_MAX: i64 = 200;

/// What a message leaves in other tables, with the column that names it. A test holds this and the
/// lists below against the schema.
const OF_A_MESSAGE: [(&str, &str); 7] = [
    ("change", "message"),
    ("file_fetch", "message"),
    ("reference", "message"),
    ("outbox", "id"),
    ("recipient", "message"),
    ("message_search", "rowid"),
    ("dead_letter", "record"),
];
/// What came with a record, the message's own or a change's.
const OF_A_RECORD: [(&str, &str); 3] = [("body", "id"), ("blob", "body"), ("raw", "id")];
const OF_A_CONVERSATION: [(&str, &str); 4] = [
    ("draft", "conversation"),
    ("draft_version", "conversation"),
    ("guest", "conversation"),
    ("search_moved", "conversation"),
];
const OF_A_CONTACT: [(&str, &str); 5] = [
    ("hold", "contact"),
    ("identity", "contact"),
    ("suggestion", "contact"),
    ("contact_search", "rowid"),
    ("guest", "contact"),
];

/// All of these, for the test.
pub fn forgotten_columns() -> impl Iterator<Item = (&'static str, &'static str)> {
    let of = OF_A_MESSAGE.into_iter().chain(OF_A_RECORD);
    of.chain(OF_A_CONVERSATION).chain(OF_A_CONTACT)
}

/// One step: at most so many messages and what belongs to them.
pub fn forget(conn: Conn<'_>, periods: &Periods, messages: u32, now: i64) -> Result<Forgotten> {
    let before =
        |kept: std::time::Duration| now - i64::try_from(kept.as_micros()).unwrap_or(i64::MAX);
    let mut gone = Forgotten::default();
    let mut left = i64::from(messages);
    while left > 0 {
        let removed = match remains(conn)? {
            Some((conversation, message)) => {
                remove_remains(conn, conversation, message, left, None)?
            }
            None => match due(conn, before(periods.resolved))? {
                Some((conversation, _)) => {
                    gone.contacts += remove_conversation(conn, conversation)?;
                    gone.conversations += 1;
                    // A conversation without messages is work as well.
                    left -= 1;
                    0
                }
                None => break,
            },
        };
        gone.messages += removed;
        left -= i64::try_from(removed).unwrap_or(i64::MAX);
    }
    let next = due(conn, before(periods.resolved))?;
    gone.overdue = next.map(|(_, ended)| before(periods.resolved) - ended);
    gone.more = next.is_some() || remains(conn)?.is_some();
    forget_letters(conn, before(periods.dead_letters), &mut gone)?;
    let drafts = format!(
        "at < ?1 AND NOT EXISTS (SELECT 1 FROM conversation WHERE conversation.id = draft.conversation AND NOT ({NOT_HELD}))"
    );
    gone.drafts = delete_some(conn, "draft", &drafts, before(periods.drafts))?;
    gone.tokens = delete_some(conn, "token", "revoked_at < ?1", before(periods.audit))?;
    let full = [gone.dead_letters, gone.drafts, gone.tokens];
    gone.more |= full.iter().any(|rows| *rows >= ROWS_MAX as u64);
    Ok(gone)
}

/// The conversation that is due first, with the time it ended at. One that a legal hold keeps is never due,
/// one that has something unsent is not over, one in which something was said since is as young as that, and tokens of one that was
/// merged lead to the other for as long as that is there.
fn due(conn: Conn<'_>, before: i64) -> Result<Option<(i64, i64)>> {
    Ok(conn
        .prepare(&format!(
            "SELECT id, resolved_at FROM conversation INDEXED BY conversation_ended
             WHERE status >= 8 AND resolved_at < ?1 AND last_inbound_at < ?1 AND {NOT_HELD}
             AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.conversation = conversation.id)
             AND NOT EXISTS (SELECT 1 FROM conversation AS into_
               WHERE into_.id = json_extract(conversation.detail, '$.merged_into'))
             ORDER BY resolved_at LIMIT 1"
        ))?
        .query_row([before], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?)
}

/// Takes a conversation away and leaves its newest message to be removed next. Contacts that have
/// no other one go as well; how many.
pub(super) fn remove_conversation(conn: Conn<'_>, id: i64) -> Result<u64> {
    let (contact, last): (i64, Option<i64>) = conn
        .prepare("SELECT contact, last_message FROM conversation WHERE id = ?1")?
        .query_row([id], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut who = numbers(
        conn,
        "SELECT contact FROM guest WHERE conversation = ?1",
        id,
    )?;
    who.push(contact);
    conn.prepare("DELETE FROM conversation WHERE id = ?1")?
        .execute([id])?;
    delete_each(conn, &OF_A_CONVERSATION, id)?;
    forget_operations(conn, id, "kind < 3")?;
    if let Some(last) = last {
        conn.prepare("INSERT INTO remains (conversation, message) VALUES (?1, ?2)")?
            .execute([id, last])?;
    }
    let mut gone = 0;
    for contact in who {
        gone += remove_contact(conn, contact)?;
    }
    Ok(gone)
}

/// Takes a contact away, and those that were merged into it, unless a conversation is theirs or has
/// words of theirs.
pub(super) fn remove_contact(conn: Conn<'_>, id: i64) -> Result<u64> {
    let needed = conn
        .prepare(
            "SELECT 1 WHERE EXISTS (SELECT 1 FROM conversation WHERE contact = ?1)
             OR EXISTS (SELECT 1 FROM guest WHERE contact = ?1)",
        )?
        .exists([id])?;
    if needed {
        return Ok(0);
    }
    let mut gone = 0;
    let mut all = vec![id];
    while let Some(contact) = all.pop() {
        let merged = "SELECT id FROM contact WHERE merged_into = ?1";
        all.extend(numbers(conn, merged, contact)?);
        delete_each(conn, &OF_A_CONTACT, contact)?;
        forget_operations(conn, contact, "kind = 3")?;
        // All of it is looked through: it has a row for each merge that a person took back.
        conn.prepare("DELETE FROM apart WHERE one = ?1 OR other = ?1")?
            .execute([contact])?;
        gone += conn
            .prepare("DELETE FROM contact WHERE id = ?1")?
            .execute([contact])? as u64;
    }
    Ok(gone)
}

/// Nothing that was done to what is gone can be undone. Kinds below 3 are of conversations, 3 is of
/// contacts, and an undo is of either; only its own operation leads to it.
fn forget_operations(conn: Conn<'_>, id: i64, kinds: &str) -> Result<()> {
    for column in ["one", "other"] {
        let of = format!("SELECT event FROM surgery WHERE {column} = ?1 AND {kinds}");
        for event in numbers(conn, &of, id)? {
            let undo = "SELECT undone_by FROM surgery WHERE event = ?1 AND undone_by IS NOT NULL";
            let mut events = numbers(conn, undo, event)?;
            events.push(event);
            for event in events {
                conn.prepare("DELETE FROM place WHERE event = ?1")?
                    .execute([event])?;
                conn.prepare("DELETE FROM surgery WHERE event = ?1")?
                    .execute([event])?;
            }
        }
    }
    Ok(())
}

fn remains(conn: Conn<'_>) -> Result<Option<(i64, i64)>> {
    let sql = format!(
        "SELECT conversation, message FROM remains WHERE {} LIMIT 1",
        not_erasing()
    );
    Ok(conn
        .prepare(&sql)?
        .query_row((), |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?)
}

/// Removes up to `limit` messages of a conversation that is gone, the newest first, by their links. An erasure has the
/// files noted that they named.
pub(super) fn remove_remains(
    conn: Conn<'_>,
    conversation: i64,
    newest: i64,
    limit: i64,
    erasure: Option<i64>,
) -> Result<u64> {
    let mut next = Some(newest);
    let mut removed = 0;
    while let Some(message) = next.filter(|_| (removed as i64) < limit) {
        let prev: Option<Option<i64>> = conn
            .prepare("SELECT prev FROM message WHERE id = ?1 AND conversation = ?2")?
            .query_row([message, conversation], |row| row.get(0))
            .optional()?;
        if prev.is_some() {
            remove_message(conn, message, erasure)?;
            removed += 1;
        }
        next = prev.flatten();
    }
    match next {
        Some(next) => conn
            .prepare("UPDATE remains SET message = ?2 WHERE conversation = ?1")?
            .execute([conversation, next])?,
        None => conn
            .prepare("DELETE FROM remains WHERE conversation = ?1")?
            .execute([conversation])?,
    };
    Ok(removed)
}

fn remove_message(conn: Conn<'_>, id: i64, erasure: Option<i64>) -> Result<()> {
    let mut records = numbers(conn, "SELECT record FROM change WHERE message = ?1", id)?;
    records.push(id);
    for record in records {
        if let Some(erasure) = erasure {
            note_files(conn, erasure, record)?;
        }
        delete_each(conn, &OF_A_RECORD, record)?;
    }
    delete_each(conn, &OF_A_MESSAGE, id)?;
    conn.prepare("DELETE FROM message WHERE id = ?1")?
        .execute([id])?;
    Ok(())
}

/// Dead letters past their time, with what came in them unless it was filed.
fn forget_letters(conn: Conn<'_>, before: i64, gone: &mut Forgotten) -> Result<()> {
    let mut statement =
        conn.prepare("SELECT record, state FROM dead_letter WHERE at < ?1 LIMIT ?2")?;
    let rows = statement.query_map([before, ROWS_MAX], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let due: Vec<(i64, i64)> = rows.collect::<sql::Result<_>>()?;
    for (record, state) in due {
        conn.prepare("DELETE FROM dead_letter WHERE record = ?1")?
            .execute([record])?;
        drop_unused(conn, record)?;
        gone.dead_letters += 1;
        gone.parked += u64::from(state == 0);
    }
    Ok(())
}

fn delete_some(conn: Conn<'_>, table: &str, condition: &str, before: i64) -> Result<u64> {
    // Tables without row numbers have no LIMIT by them; these are small.
    let key = match table {
        "draft" => "(conversation, agent)",
        _ => "id",
    };
    let columns = key.trim_matches(['(', ')']);
    let sql = format!(
        "DELETE FROM {table} WHERE {key} IN (SELECT {columns} FROM {table} WHERE {condition} LIMIT ?2)"
    );
    let removed = conn.prepare(&sql)?.execute([before, ROWS_MAX])?;
    Ok(removed as u64)
}

fn delete_each(conn: Conn<'_>, tables: &[(&str, &str)], id: i64) -> Result<()> {
    for (table, column) in tables {
        conn.prepare(&format!("DELETE FROM {table} WHERE {column} = ?1"))?
            .execute([id])?;
    }
    Ok(())
}

fn numbers(conn: Conn<'_>, sql: &str, id: i64) -> Result<Vec<i64>> {
    let mut statement = conn.prepare(sql)?;
    let rows = statement.query_map([id], |row| row.get(0))?;
    rows.collect::<sql::Result<_>>().map_err(StoreError::from)
}
