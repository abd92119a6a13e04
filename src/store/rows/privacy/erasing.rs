//! Erasing a person, in steps that each are one transaction: a row says how far it is, so that whoever comes after a
//! crash goes on there. What is known of the person (addresses, conversations) is kept beside it until nothing is left
//! to be looked for, and goes then, too.

use std::collections::HashSet;

use crate::dispatch::privacy::{may_answer_for, reaches};
use crate::dispatch::{Actor, Refusal};
use crate::ids::{ContactId, IdSource as _};
use crate::router::effects::{EventType, NewEvent};
use crate::store::privacy::{Asking, Copies, Erasure, Report, Stage, Step};
use crate::store::rows::Tx;
use crate::store::rows::effects::json;
use crate::store::rows::events::write_events;
use crate::store::rows::facts::from_json;
use crate::store::rows::retention;
use crate::store::sql::{self, Conn, Optional as _, Row, params};
use crate::store::{Result, StoreError};

use super::elsewhere;
use super::{holds, whole};

/// What `erasing` rows are of.
pub(super) const CONTACT: i64 = 0;
pub(super) const CONVERSATION: i64 = 1;
/// Conversations of others that have words of the person.
pub(super) const GUEST: i64 = 2;

/// Conversations that one step takes away.
const CONVERSATIONS: i64 = 20;
/// A reply that is being sent now.
const SENDING: i64 = 1;

const COLUMNS: &str = "id, contact, brand, stage, asked_at, done_at, who, reason, report";

/// Begins an erasure, or tells of the one that there is.
pub fn ask(tx: &mut Tx<'_>, asking: &Asking) -> Result<Erasure> {
    may_answer_for(&asking.actor)?;
    let names = tx.memory.names.clone();
    if let Some(known) = of_contact(tx, &asking.actor, asking.contact)? {
        return Ok(known);
    }
    let contact = whole::standing(tx.conn, &names, &asking.actor, asking.contact)?;
    if let Some(refused) = holds::keeps(tx.conn, contact.id)? {
        return Err(Refusal::from(refused).into());
    }
    let id = tx.memory.next();
    let report = Report {
        same_address: same_address(tx.conn, contact.id)?,
        ..Report::default()
    };
    tx.conn
        .prepare(
            "INSERT INTO erasure (id, contact, brand, stage, place, asked_at, who, reason, report)
             VALUES (?1, ?2, ?3, ?4, 0, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            id,
            contact.id.0,
            names.id(contact.brand.as_str()),
            Stage::Asked.code(),
            asking.at,
            asking.who,
            asking.reason,
            json(&report)?
        ])?;
    know(tx.conn, id, contact.id.0)?;
    let asked = find(tx, id)?;
    asked.ok_or_else(|| StoreError::Poisoned("an erasure just asked for is not there".to_owned()))
}

fn of_contact(tx: &Tx<'_>, actor: &Actor, contact: ContactId) -> Result<Option<Erasure>> {
    let id = tx
        .conn
        .prepare("SELECT id FROM erasure WHERE contact = ?1")?
        .query_row([contact.0], |row| row.get(0))
        .optional()?;
    let found = id.map(|id| find(tx, id)).transpose()?.flatten();
    Ok(found.filter(|found| reaches(actor, &found.brand)))
}

fn find(tx: &Tx<'_>, id: i64) -> Result<Option<Erasure>> {
    one(tx.conn, &tx.memory.names, id)
}

pub fn one(
    conn: Conn<'_>,
    names: &crate::store::rows::names::Names,
    id: i64,
) -> Result<Option<Erasure>> {
    Ok(conn
        .prepare(&format!("SELECT {COLUMNS} FROM erasure WHERE id = ?1"))?
        .query_row([id], |row| erasure_of(row, names))
        .optional()?)
}

/// Asked for last first, behind one of them.
pub fn list(
    conn: Conn<'_>,
    names: &crate::store::rows::names::Names,
    before: Option<(i64, i64)>,
    limit: u32,
) -> Result<Vec<Erasure>> {
    let (at, id) = before.unwrap_or((i64::MAX, i64::MAX));
    let mut statement = conn.prepare(&format!(
        "SELECT {COLUMNS} FROM erasure WHERE asked_at < ?1 OR (asked_at = ?1 AND id < ?2)
         ORDER BY asked_at DESC, id DESC LIMIT ?3"
    ))?;
    let rows = statement.query_map(params![at, id, limit], |row| erasure_of(row, names))?;
    Ok(rows.collect::<sql::Result<_>>()?)
}

/// Those that are not done, the oldest first.
pub fn open(
    conn: Conn<'_>,
    names: &crate::store::rows::names::Names,
    limit: u32,
) -> Result<Vec<Erasure>> {
    let mut statement = conn.prepare(&format!(
        "SELECT {COLUMNS} FROM erasure WHERE done_at IS NULL ORDER BY asked_at LIMIT ?1"
    ))?;
    let rows = statement.query_map([limit], |row| erasure_of(row, names))?;
    Ok(rows.collect::<sql::Result<_>>()?)
}

fn erasure_of(row: &Row<'_>, names: &crate::store::rows::names::Names) -> sql::Result<Erasure> {
    Ok(Erasure {
        id: row.get(0)?,
        contact: ContactId(row.get(1)?),
        brand: crate::store::rows::facts::named(names, row.get(2)?)?,
        stage: Stage::from_code(row.get(3)?),
        asked_at: row.get(4)?,
        done_at: row.get(5)?,
        who: row.get(6)?,
        reason: row.get(7)?,
        report: from_json(8, &row.get::<String>(8)?)?,
    })
}

/// Notes what is known of the person now: again at each step, because more may have come.
fn know(conn: Conn<'_>, erasure: i64, contact: i64) -> Result<()> {
    for id in whole::merged_into(conn, contact)? {
        remember(conn, erasure, CONTACT, id)?;
        conn.prepare(
            "INSERT INTO erasing_address (identity, erasure, scope, namespace, address)
             SELECT id, ?1, scope, namespace, address FROM identity WHERE contact = ?2 ON CONFLICT DO NOTHING",
        )?
        .execute([erasure, id])?;
        conn.prepare(
            "INSERT INTO erasing (erasure, kind, number) SELECT ?1, ?2, conversation FROM guest WHERE contact = ?3
             ON CONFLICT DO NOTHING",
        )?
        .execute([erasure, GUEST, id])?;
    }
    Ok(())
}

fn remember(conn: Conn<'_>, erasure: i64, kind: i64, number: i64) -> Result<()> {
    conn.prepare(
        "INSERT INTO erasing (erasure, kind, number) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
    )?
    .execute([erasure, kind, number])?;
    Ok(())
}

/// Other contacts of the brand with one of the addresses: somebody unproven wrote under it, perhaps the same person.
fn same_address(conn: Conn<'_>, contact: ContactId) -> Result<Vec<i64>> {
    let mut statement = conn.prepare(
        "SELECT DISTINCT other.contact FROM identity JOIN identity AS other ON other.address = identity.address
           AND other.namespace = identity.namespace AND other.brand = identity.brand
         WHERE identity.contact = ?1 AND other.contact <> ?1 ORDER BY 1 LIMIT 100",
    )?;
    let rows = statement.query_map([contact.0], |row| row.get(0))?;
    Ok(rows.collect::<sql::Result<_>>()?)
}

pub(super) fn numbers(conn: Conn<'_>, erasure: i64, kind: i64) -> Result<Vec<i64>> {
    let mut statement = conn
        .prepare("SELECT number FROM erasing WHERE erasure = ?1 AND kind = ?2 ORDER BY number")?;
    let rows = statement.query_map([erasure, kind], |row| row.get(0))?;
    Ok(rows.collect::<sql::Result<_>>()?)
}

/// An erasure as its steps see it.
pub(super) struct Work<'a> {
    pub conn: Conn<'a>,
    pub erasure: i64,
    pub brand: i64,
    /// How far the stage is.
    pub place: i64,
    pub report: Report,
    pub limit: i64,
}

impl Work<'_> {
    pub fn count(&mut self, kind: &str, more: u64) {
        if more > 0 {
            *self.report.removed.entry(kind.to_owned()).or_default() += more;
        }
    }

    /// Notes the files that a record's rows name, before they go.
    pub fn note_files(&self, record: i64) -> Result<()> {
        note_files(self.conn, self.erasure, record)
    }
}

/// The same, for retention that removes what an erasure left behind it.
pub fn note_files(conn: Conn<'_>, erasure: i64, record: i64) -> Result<()> {
    for of in [
        "SELECT sha256, ?1 FROM blob WHERE body = ?2 AND content IS NULL",
        "SELECT sha256, ?1 FROM raw WHERE id = ?2 AND sha256 IS NOT NULL",
    ] {
        let sql = format!("INSERT INTO erasing_file (sha256, erasure) {of} ON CONFLICT DO NOTHING");
        conn.prepare(&sql)?.execute([erasure, record])?;
    }
    Ok(())
}

/// One step of the rows' stages: some `limit` messages, or as many rows of another kind as take as long. Stages that
/// are not of rows are left to whoever knows the database and the files.
pub fn step(tx: &mut Tx<'_>, id: i64, limit: u32, now: i64) -> Result<Step> {
    let Some(erasure) = find(tx, id)? else {
        return Err(Refusal::NotFound { what: "erasure" }.into());
    };
    let place = tx
        .conn
        .prepare("SELECT place FROM erasure WHERE id = ?1")?
        .query_row([id], |row| row.get(0))?;
    let mut work = Work {
        conn: tx.conn,
        erasure: id,
        brand: tx.memory.names.id(erasure.brand.as_str()),
        place,
        report: erasure.report,
        limit: i64::from(limit),
    };
    work.report.waits = None;
    let is_through = match erasure.stage {
        Stage::Asked => take_away(&mut work, erasure.contact)?,
        Stage::Messages => messages(&mut work)?,
        Stage::Others => elsewhere::others(tx, &mut work, now)?,
        Stage::Letters => elsewhere::letters(&mut work)?,
        Stage::Log => elsewhere::redelivered(&mut work)?,
        Stage::Events => elsewhere::events(&mut work)?,
        stage => {
            return Ok(Step { stage, waits: None });
        }
    };
    let mut stage = erasure.stage;
    if is_through {
        stage = stage.next();
        work.place = 0;
    }
    let waits = work.report.waits.clone();
    tx.conn
        .prepare("UPDATE erasure SET stage = ?1, place = ?2, report = ?3 WHERE id = ?4")?
        .execute(params![stage.code(), work.place, json(&work.report)?, id])?;
    Ok(Step { stage, waits })
}

/// Takes the person's conversations away, then the person: from then on whoever writes under one of the addresses
/// is somebody new. A reply that is being sent is waited for; one that is not will not be.
fn take_away(work: &mut Work<'_>, contact: ContactId) -> Result<bool> {
    let conn = work.conn;
    if let Some(refused) = holds::keeps(conn, contact)? {
        work.report.waits = Some(refused.to_string());
        return Ok(false);
    }
    know(conn, work.erasure, contact.0)?;
    let contacts = numbers(conn, work.erasure, CONTACT)?;
    let (mut looked_at, mut sending) = (0, 0);
    for contact in &contacts {
        let mut statement = conn.prepare(
            "SELECT id, queue FROM conversation WHERE contact = ?1 ORDER BY opened_at, id LIMIT ?2",
        )?;
        let rows = statement.query_map([*contact, CONVERSATIONS], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
        let some: Vec<(i64, i64)> = rows.collect::<sql::Result<_>>()?;
        for (id, queue) in some {
            looked_at += 1;
            let unsent = conn
                .prepare("DELETE FROM outbox WHERE conversation = ?1 AND state <> ?2")?
                .execute([id, SENDING])?;
            work.count("unsent_replies", unsent as u64);
            let under_way: i64 = conn
                .prepare("SELECT count(*) FROM outbox WHERE conversation = ?1")?
                .query_row([id], |row| row.get(0))?;
            if under_way > 0 {
                sending += under_way;
                continue;
            }
            let drafts: i64 = conn
                .prepare("SELECT count(*) FROM draft WHERE conversation = ?1")?
                .query_row([id], |row| row.get(0))?;
            conn.prepare("DELETE FROM waiting WHERE queue = ?1 AND id = ?2")?
                .execute([queue, id])?;
            remember(conn, work.erasure, CONVERSATION, id)?;
            // Others who took part, and have no other conversation, go as they do with its retention.
            let counted = count_of(conn, "identity", *contact)?;
            let claimed = count_of(conn, "suggestion", *contact)?;
            let gone = retention::remove_conversation(conn, id)?;
            if gone > 0 && count_of(conn, "identity", *contact)? == 0 {
                work.count("identities", counted);
                work.count("suggestions", claimed);
            }
            work.count("conversations", 1);
            work.count("drafts", drafts as u64);
            work.count("contacts", gone);
        }
    }
    if sending > 0 {
        work.report.waits = Some(format!("{sending} replies are being sent"));
    }
    if looked_at > 0 {
        return Ok(false);
    }
    for contact in contacts {
        work.count("identities", count_of(conn, "identity", contact)?);
        work.count("suggestions", count_of(conn, "suggestion", contact)?);
        conn.prepare("DELETE FROM guest WHERE contact = ?1")?
            .execute([contact])?;
        let gone = retention::remove_contact(conn, contact)?;
        work.count("contacts", gone);
    }
    Ok(true)
}

fn count_of(conn: Conn<'_>, table: &str, contact: i64) -> Result<u64> {
    let sql = format!("SELECT count(*) FROM {table} WHERE contact = ?1");
    let count: i64 = conn.prepare(&sql)?.query_row([contact], |row| row.get(0))?;
    Ok(count as u64)
}

/// Removes what was said in the conversations, from the newest back.
fn messages(work: &mut Work<'_>) -> Result<bool> {
    let next = work
        .conn
        .prepare(
            "SELECT remains.conversation, remains.message FROM remains
             JOIN erasing ON erasing.number = remains.conversation
             WHERE erasing.erasure = ?1 AND erasing.kind = ?2 LIMIT 1",
        )?
        .query_row([work.erasure, CONVERSATION], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    let Some((conversation, newest)) = next else {
        return Ok(true);
    };
    let erasure = Some(work.erasure);
    let (conn, limit) = (work.conn, work.limit);
    let removed = retention::remove_remains(conn, conversation, newest, limit, erasure)?;
    work.count("messages", removed);
    Ok(false)
}

/// Forgets what was known of the person: nothing is looked for any more.
pub fn forget_known(tx: &mut Tx<'_>, id: i64) -> Result<()> {
    for table in ["erasing", "erasing_address", "erasing_file"] {
        let sql = format!("DELETE FROM {table} WHERE erasure = ?1");
        tx.conn.prepare(&sql)?.execute([id])?;
    }
    Ok(())
}

/// Goes on to the next stage, from the one that it is at.
pub fn advance(tx: &mut Tx<'_>, id: i64, from: Stage) -> Result<()> {
    tx.conn
        .prepare("UPDATE erasure SET stage = ?1, place = 0 WHERE id = ?2 AND stage = ?3")?
        .execute([from.next().code(), id, from.code()])?;
    Ok(())
}

/// Says why it does not go on.
pub fn wait(tx: &mut Tx<'_>, id: i64, why: Option<&str>) -> Result<()> {
    let Some(mut erasure) = find(tx, id)? else {
        return Ok(());
    };
    erasure.report.waits = why.map(str::to_owned);
    tx.conn
        .prepare("UPDATE erasure SET report = ?1 WHERE id = ?2")?
        .execute(params![json(&erasure.report)?, id])?;
    Ok(())
}

/// Is done: says until when copies are elsewhere, and tells those who keep some.
pub fn finish(tx: &mut Tx<'_>, id: i64, copies: &Copies, now: i64) -> Result<()> {
    let Some(mut erasure) = find(tx, id)? else {
        return Ok(());
    };
    if erasure.done_at.is_some() {
        return Ok(());
    }
    let until = |kept: std::time::Duration| {
        now.saturating_add(i64::try_from(kept.as_micros()).unwrap_or(i64::MAX))
    };
    erasure.report.waits = None;
    erasure.report.backups_until = Some(until(copies.backups));
    erasure.report.bus_until = copies.bus.map(until);
    erasure.report.files_until = copies.files.map(until);
    erasure.report.unused_space = copies.unused_space.clone();
    tx.conn
        .prepare("UPDATE erasure SET stage = ?1, done_at = ?2, report = ?3 WHERE id = ?4")?
        .execute(params![Stage::Done.code(), now, json(&erasure.report)?, id])?;
    let event = NewEvent::of_contact(EventType::ContactErased, erasure.contact, now);
    write_events(tx, &[event])
}

/// Some of the files that its rows named.
pub fn files(conn: Conn<'_>, id: i64, limit: u32) -> Result<Vec<[u8; 32]>> {
    let mut statement = conn
        .prepare("SELECT sha256 FROM erasing_file WHERE erasure = ?1 ORDER BY sha256 LIMIT ?2")?;
    let rows = statement.query_map(params![id, limit], |row| row.get::<Vec<u8>>(0))?;
    let rows: Vec<Vec<u8>> = rows.collect::<sql::Result<_>>()?;
    Ok(rows
        .into_iter()
        .filter_map(|file| file.try_into().ok())
        .collect())
}

/// These are seen to; `removed` of them were.
pub fn forget_files(tx: &mut Tx<'_>, id: i64, files: &[[u8; 32]], removed: u64) -> Result<()> {
    for file in files {
        tx.conn
            .prepare("DELETE FROM erasing_file WHERE erasure = ?1 AND sha256 = ?2")?
            .execute(params![id, file.as_slice()])?;
    }
    let Some(mut erasure) = find(tx, id)? else {
        return Ok(());
    };
    *erasure
        .report
        .removed
        .entry("files".to_owned())
        .or_default() += removed;
    tx.conn
        .prepare("UPDATE erasure SET report = ?1 WHERE id = ?2")?
        .execute(params![json(&erasure.report)?, id])?;
    Ok(())
}

/// The addresses that are looked for, each with its namespace.
pub(super) fn addresses(conn: Conn<'_>, erasure: i64) -> Result<HashSet<(String, String)>> {
    let mut statement =
        conn.prepare("SELECT namespace, address FROM erasing_address WHERE erasure = ?1")?;
    let rows = statement.query_map([erasure], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<sql::Result<_>>()?)
}
