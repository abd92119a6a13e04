//! Tokens, dead letters, cursors, retention: what operators and their commands ask for.

use std::sync::Arc;

use connector_api::{ChannelId, Cursor};

use crate::bus::{Content, decode};
use crate::ids::{IdSource, MessageId};
use crate::router::facts::Facts;
use crate::router::{self, Policy, Prepared, Verdict};
use crate::store::sql::{self, Conn, Optional as _, Row, params};
use crate::store::{Retention, Rings, StoreError, StoredDeadLetter, Token};

use super::effects::json;
use super::facts::from_json;
use super::privacy::erasing;
use super::privacy::holds::NOT_HELD;
use super::{arrived, effects, events, facts, gate, locks, outbox, seen, uploads};
use crate::store::rows::Tx;

type Result<T> = std::result::Result<T, StoreError>;

const PARKED: i64 = 0;
const FILED: i64 = 1;
/// Rows one sweep removes of each kind: a short transaction, the rest at the next sweep.
const SWEEP_ROWS_MAX: i64 = 2_000;

pub fn cursor(conn: Conn<'_>, channel: i64) -> Result<Option<Cursor>> {
    let text: Option<String> = conn
        .prepare("SELECT value FROM cursor WHERE channel = ?1")?
        .query_row([channel], |row| row.get(0))
        .optional()?;
    Ok(text.map(|text| from_json(0, &text)).transpose()?)
}

pub fn save_cursor(tx: &mut Tx<'_>, channel: &ChannelId, cursor: &Cursor) -> Result<()> {
    let number = tx.memory.names.id(channel.as_str());
    tx.conn.write(
        "INSERT INTO cursor (channel, value) VALUES (?1, ?2)
             ON CONFLICT (channel) DO UPDATE SET value = excluded.value",
        params![number, json(cursor)?],
    )?;
    Ok(())
}

pub fn create_token(tx: &mut Tx<'_>, hash: &[u8], mut token: Token) -> Result<Token> {
    token.id = tx.memory.next();
    tx.memory.token_changes += 1;
    tx.conn.write(
        "INSERT INTO token (id, hash, label, role, agent, queues, brands, scopes, created_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        params![
            token.id,
            hash,
            token.label,
            token.role,
            token.agent,
            json(&token.queues)?,
            json(&token.brands)?,
            json(&token.scopes)?,
            token.created_at
        ],
    )?;
    Ok(token)
}

const TOKEN_COLUMNS: &str =
    "id, label, role, agent, queues, brands, scopes, created_at, revoked_at";

pub fn tokens(conn: Conn<'_>) -> Result<Vec<Token>> {
    let mut statement = conn.prepare(&format!(
        "SELECT {TOKEN_COLUMNS} FROM token ORDER BY created_at, id"
    ))?;
    let rows = statement.query_map((), token_of)?;
    Ok(rows.collect::<sql::Result<_>>()?)
}

pub fn token_by_hash(conn: Conn<'_>, hash: &[u8]) -> Result<Option<Token>> {
    Ok(conn
        .prepare(&format!(
            "SELECT {TOKEN_COLUMNS} FROM token WHERE hash = ?1 AND revoked_at IS NULL"
        ))?
        .query_row([hash], token_of)
        .optional()?)
}

/// Those of an agent that hold now.
pub fn tokens_of(conn: Conn<'_>, agent: &str) -> Result<Vec<Token>> {
    let mut statement = conn.prepare(&format!(
        "SELECT {TOKEN_COLUMNS} FROM token WHERE agent = ?1 AND revoked_at IS NULL"
    ))?;
    let rows = statement.query_map([agent], token_of)?;
    Ok(rows.collect::<sql::Result<_>>()?)
}

/// Also one that is revoked: whoever asks looks.
pub fn token_by_id(conn: Conn<'_>, id: i64) -> Result<Option<Token>> {
    Ok(conn
        .prepare(&format!("SELECT {TOKEN_COLUMNS} FROM token WHERE id = ?1"))?
        .query_row([id], token_of)
        .optional()?)
}

fn token_of(row: &Row<'_>) -> sql::Result<Token> {
    Ok(Token {
        id: row.get(0)?,
        label: row.get(1)?,
        role: row.get(2)?,
        agent: row.get(3)?,
        queues: from_json(4, &row.get::<String>(4)?)?,
        brands: from_json(5, &row.get::<String>(5)?)?,
        scopes: from_json(6, &row.get::<String>(6)?)?,
        created_at: row.get(7)?,
        revoked_at: row.get(8)?,
    })
}

pub fn revoke_token(tx: &mut Tx<'_>, id: i64, now: i64) -> Result<bool> {
    tx.memory.token_changes += 1;
    let revoked = tx
        .conn
        .prepare("UPDATE token SET revoked_at = ?1 WHERE id = ?2 AND revoked_at IS NULL")?
        .execute([now, id])?;
    Ok(revoked == 1)
}

pub fn count_attempt(tx: &mut Tx<'_>, record: i64) -> Result<u32> {
    if bug!("tries-not-counted") {
        return Ok(1);
    }
    Ok(tx
        .conn
        .prepare(
            "INSERT INTO attempt (record, attempts) VALUES (?1, 1)
             ON CONFLICT (record) DO UPDATE SET attempts = attempt.attempts + 1 RETURNING attempts",
        )?
        .query_row([record], |row| row.get(0))?)
}

pub fn bury(tx: &mut Tx<'_>, record: i64, reason: &str, attempts: u32, now: i64) -> Result<()> {
    tx.conn.write("INSERT INTO dead_letter (record, state, reason, attempts, at) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (record) DO UPDATE SET state = excluded.state, reason = excluded.reason, attempts = excluded.attempts, at = excluded.at, copied = 0", params![record, PARKED, reason, attempts, now])?;
    tx.conn
        .write("DELETE FROM attempt WHERE record = ?1", [record])?;
    Ok(())
}

const LETTER_SELECT: &str = "SELECT dead_letter.record, dead_letter.state, dead_letter.reason, dead_letter.attempts, \
     dead_letter.at, body.content FROM dead_letter LEFT JOIN body ON body.id = dead_letter.record";

/// The newest first: their numbers rise with time within a partition only.
pub fn dead_letters(conn: Conn<'_>, limit: u32) -> Result<Vec<StoredDeadLetter>> {
    let sql =
        format!("{LETTER_SELECT} ORDER BY dead_letter.at DESC, dead_letter.record DESC LIMIT ?1");
    let mut statement = conn.prepare(&sql)?;
    let rows = statement.query_map([limit], letter_of)?;
    Ok(rows.collect::<sql::Result<_>>()?)
}

pub fn dead_letter(conn: Conn<'_>, record: i64) -> Result<Option<StoredDeadLetter>> {
    let sql = format!("{LETTER_SELECT} WHERE dead_letter.record = ?1");
    Ok(conn
        .prepare(&sql)?
        .query_row([record], letter_of)
        .optional()?)
}

fn letter_of(row: &Row<'_>) -> sql::Result<StoredDeadLetter> {
    let state: i64 = row.get(1)?;
    Ok(StoredDeadLetter {
        record: row.get(0)?,
        state: if state == PARKED { "parked" } else { "filed" },
        reason: row.get(2)?,
        attempts: row.get(3)?,
        at: row.get(4)?,
        body: row.get(5)?,
    })
}

/// Files a parked letter now: decided and written in one transaction with its change from parked
/// to filed, so redriving twice files once. A letter that still cannot be filed stays parked.
pub fn redrive(
    tx: &mut Tx<'_>,
    record: i64,
    policy: &Arc<Policy>,
    now: i64,
) -> Result<Option<Rings>> {
    tx.lock_position_of(record)?;
    let changed = tx
        .conn
        .prepare("UPDATE dead_letter SET state = ?1 WHERE record = ?2 AND state = ?3")?
        .execute([FILED, record, PARKED])?;
    if changed == 0 && !bug!("redriven-over-and-over") {
        return Ok(None);
    }
    let body: Option<Vec<u8>> = tx
        .conn
        .prepare("SELECT content FROM body WHERE id = ?1")?
        .query_row([record], |row| row.get(0))
        .optional()?;
    let envelope = match body.as_deref().map(decode) {
        Some(Content::Envelope(envelope)) => envelope,
        Some(Content::Unreadable { reason }) => return Err(StoreError::Poisoned(reason)),
        Some(Content::Newer { major }) => {
            return Err(StoreError::Poisoned(format!(
                "written by a newer version (major {major})"
            )));
        }
        None => return Err(StoreError::Poisoned("its bytes are gone".to_owned())),
    };
    if !policy.channels.contains_key(&envelope.channel) {
        let reason = format!("channel {} is not configured", envelope.channel);
        return Err(StoreError::Poisoned(reason));
    }
    let batch = [Prepared::new(record, envelope)];
    let effects = decide(tx, &batch, policy, now)?;
    match effects.dead.first() {
        Some(letter) => Err(StoreError::Poisoned(letter.reason.clone())),
        None => Ok(Some(rings_of(tx, &effects)?)),
    }
}

/// Loads facts, locks what they are of, decides, writes effects: the router's step, inside a transaction.
pub fn decide(
    tx: &mut Tx<'_>,
    batch: &[Prepared],
    policy: &Policy,
    now: i64,
) -> Result<router::Effects> {
    // What another connection made is looked through as well.
    seen::generation(tx, now)?;
    let needs = router::needs(batch, policy);
    let receipts = gate::pass(tx, batch, policy)?;
    let window = i64::try_from(crate::store::ACKNOWLEDGE_WINDOW.as_micros()).unwrap_or(i64::MAX);
    let load = |tx: &Tx<'_>| facts::load(tx, batch, &needs, now - window);
    let known = load(tx)?;
    // How far an answer got has no version.
    let mut known = locks::hold(tx, known, receipts, load)?;
    let effects = router::route(batch, &mut known, policy, tx.memory);
    arrived::keep_needed(tx.conn, batch, &effects)?;
    effects::write(tx, &known, &effects, now)?;
    arrived::keep_headers(tx.conn, batch, &effects)?;
    drop_copies_of_the_gone(tx.conn, batch, &known, &effects)?;
    Ok(effects)
}

/// Set while copies of what is gone were dropped, and may still stand in unused bytes of the database.
pub const COPIES_DROPPED: &str = "copies_dropped";

/// Under which number the files of such copies are noted to be removed: that of no erasure.
pub const COPIES: i64 = 0;

/// What comes again of a message that is gone has a copy in the log: that goes at once, so that a redelivery brings
/// back nothing of whoever was erased.
fn drop_copies_of_the_gone(
    conn: Conn<'_>,
    batch: &[Prepared],
    known: &Facts,
    effects: &router::Effects,
) -> Result<()> {
    let verdicts = batch.iter().zip(&effects.verdicts);
    // A bus elsewhere brings its bytes with the record, and they are not kept.
    let again: Vec<&Prepared> = verdicts
        .filter(|(record, verdict)| **verdict == Verdict::Duplicate && record.carried.is_none())
        .map(|(record, _)| record)
        .collect();
    if again.is_empty() {
        return Ok(());
    }
    let filed: Vec<(usize, MessageId)> = again
        .iter()
        .enumerate()
        .flat_map(|(place, record)| {
            let seen = known.seen.get(&record.key).into_iter().flatten();
            seen.map(move |seen| (place, seen.message))
        })
        .collect();
    let mut is_there = vec![false; again.len()];
    let sql = "SELECT 1 FROM message WHERE id = ?1 AND deleted = 0";
    let mut asked = conn.read_each(sql, |row, _| {
        let there = filed
            .get(row)
            .and_then(|(place, _)| is_there.get_mut(*place));
        there.into_iter().for_each(|there| *there = true);
        Ok(())
    })?;
    for (_, message) in &filed {
        asked.add([message.0])?;
    }
    asked.done()?;
    let gone: Vec<i64> = (again.iter().zip(is_there))
        .filter(|(_, is_there)| !is_there)
        .map(|(record, _)| record.offset)
        .collect();
    for record in &gone {
        erasing::note_files(conn, COPIES, *record)?;
        drop_unused(conn, *record)?;
    }
    if !gone.is_empty() {
        conn.prepare("INSERT INTO meta (key, value) VALUES (?1, 1) ON CONFLICT DO NOTHING")?
            .execute([COPIES_DROPPED])?;
    }
    Ok(())
}

/// Queues whose waiting rows a batch added to, by messages or by refused answers, and channels
/// that have an acknowledgement to send.
pub fn rings_of(tx: &Tx<'_>, effects: &router::Effects) -> Result<Rings> {
    let mut queues = outbox::back_in_queue(tx, &effects.returned)?;
    let chosen = effects
        .messages
        .iter()
        .filter_map(|message| message.explanation.queue.as_ref());
    queues.extend(chosen.map(|why| why.queue.clone()));
    queues.sort();
    queues.dedup();
    let answering = effects.acknowledgements.iter();
    let mut channels: Vec<ChannelId> = answering.map(|new| new.channel.clone()).collect();
    channels.sort();
    channels.dedup();
    Ok(Rings { queues, channels })
}

/// Drops what is past its time: log entries (the bodies stay with their messages), bodies that no
/// message refers to, raw bytes, kept answers, events. Says whether there may be more.
pub fn sweep(tx: &mut Tx<'_>, keep: &Retention, now: i64) -> Result<bool> {
    let before =
        |kept: std::time::Duration| now - i64::try_from(kept.as_micros()).unwrap_or(i64::MAX);
    let conn = tx.conn;
    let position: i64 = conn
        .prepare("SELECT coalesce(min(position), 0) FROM position")?
        .query_row((), |row| row.get(0))?;
    let expired = expire_pending(conn, before(keep.bus))?;
    let due = due_log(conn, before(keep.bus), position)?;
    for record in &due {
        drop_unused(conn, *record)?;
        conn.write("DELETE FROM log WHERE record = ?1", [record])?;
    }
    let raw = due_raw(conn, before(keep.raw))?;
    for record in &raw {
        conn.write("DELETE FROM raw WHERE id = ?1", [record])?;
    }
    conn.write(
        "DELETE FROM idempotency WHERE key IN (SELECT key FROM idempotency WHERE at < ?1 LIMIT ?2)",
        [before(keep.idempotency), SWEEP_ROWS_MAX],
    )?;
    conn.write(
        "DELETE FROM acknowledged WHERE at < ?1",
        [before(crate::store::ACKNOWLEDGE_WINDOW)],
    )?;
    uploads::sweep(conn, now, SWEEP_ROWS_MAX)?;
    events::sweep(conn, before(keep.events), before(keep.audit))?;
    // Tries of what was decided at last.
    conn.prepare("DELETE FROM attempt WHERE record <= ?1")?
        .execute([position])?;
    let full = |rows: usize| rows >= SWEEP_ROWS_MAX as usize;
    Ok(full(expired) || full(due.len()) || full(raw.len()))
}

/// Drops what came with a record, unless something still refers to it. Attachments go with the body
/// that nothing refers to: a redelivery brings its own.
pub(super) fn drop_unused(conn: Conn<'_>, record: i64) -> Result<()> {
    let kept = referred("?1");
    for (table, column) in [("blob", "body"), ("body", "id"), ("raw", "id")] {
        let sql = format!("DELETE FROM {table} WHERE {column} = ?1 AND NOT ({kept})");
        conn.prepare(&sql)?.execute([record])?;
    }
    Ok(())
}

/// Whether something still refers to what came with a record.
pub fn referred(record: &str) -> String {
    let by = [
        ("message", "id", ""),
        ("change", "record", ""),
        ("dead_letter", "record", " AND state = 0"),
        ("pending", "record", ""),
    ];
    let by = by.map(|(table, column, which)| {
        format!("EXISTS (SELECT 1 FROM {table} WHERE {table}.{column} = {record}{which})")
    });
    by.join(" OR ")
}

/// Gives up on messages that never came: what was to change them goes, with its words.
fn expire_pending(conn: Conn<'_>, before: i64) -> Result<usize> {
    let mut statement =
        conn.prepare("SELECT record, target FROM pending WHERE at < ?1 ORDER BY at LIMIT ?2")?;
    let rows = statement.query_map([before, SWEEP_ROWS_MAX], |row| {
        Ok((row.get::<i64>(0)?, row.get::<Vec<u8>>(1)?))
    })?;
    let due: Vec<(i64, Vec<u8>)> = rows.collect::<sql::Result<_>>()?;
    for (record, target) in &due {
        conn.write(
            "DELETE FROM pending WHERE target = ?1 AND record = ?2",
            params![target, record],
        )?;
        drop_unused(conn, *record)?;
    }
    if !due.is_empty() {
        metrics::counter!("switchboard_pending_expired_total").increment(due.len() as u64);
    }
    Ok(due.len())
}

/// Log entries past their time and decided. Arrival rises with the number, so looking stops at
/// the first that is not due: nothing due costs one row.
fn due_log(conn: Conn<'_>, before: i64, position: i64) -> Result<Vec<i64>> {
    let mut statement =
        conn.prepare("SELECT record, arrived_at FROM log ORDER BY record LIMIT ?1")?;
    let mut rows = statement.query([SWEEP_ROWS_MAX])?;
    let mut due = Vec::new();
    while let Some(row) = rows.next_row()? {
        let (record, arrived_at): (i64, i64) = (row.get(0)?, row.get(1)?);
        if arrived_at >= before || record > position {
            break;
        }
        due.push(record);
    }
    Ok(due)
}

/// Captured bytes past their time, unless a legal hold keeps them. On a bus of several partitions numbers do not rise with it.
fn due_raw(conn: Conn<'_>, before: i64) -> Result<Vec<i64>> {
    let held = format!(
        "SELECT 1 FROM message JOIN conversation ON conversation.id = message.conversation
         WHERE (message.id = raw.id OR message.id = (SELECT message FROM change WHERE record = raw.id)) AND NOT ({NOT_HELD})"
    );
    let mut statement = conn.prepare(&format!(
        "SELECT id FROM raw WHERE arrived_at < ?1 AND NOT EXISTS ({held}) ORDER BY arrived_at LIMIT ?2"
    ))?;
    let rows = statement.query_map([before, SWEEP_ROWS_MAX], |row| row.get(0))?;
    Ok(rows.collect::<sql::Result<_>>()?)
}

/// Notes a number under a name unless there is one; gives the one there is.
pub fn agree(tx: &Tx<'_>, name: &str, number: i64) -> Result<i64> {
    tx.conn
        .prepare("INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT DO NOTHING")?
        .execute(params![name, number])?;
    let mut noted = tx.conn.prepare("SELECT value FROM meta WHERE key = ?1")?;
    Ok(noted.query_row([name], |row| row.get(0))?)
}
