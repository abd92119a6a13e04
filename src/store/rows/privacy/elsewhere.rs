//! Erasing what there is of a person outside of their own conversations: in those of others, among what could not be
//! filed, in copies of redeliveries, in what events tell.

use std::collections::HashSet;

use connector_api::{Event, Recipient};
use serde_json::{Map, Value};

use crate::bus::{Content, Envelope, decode};
use crate::dispatch::address::Destination;
use crate::ids::ConversationId;
use crate::router::effects::{EventType, NewEvent};
use crate::router::facts::Participant;
use crate::store::rows::Tx;
use crate::store::rows::effects::{json, write_conversation};
use crate::store::rows::events::write_events;
use crate::store::rows::facts::conversation;
use crate::store::rows::operating::{drop_unused, referred};
use crate::store::sql::{self, Optional as _, params};
use crate::store::{Draft, Result};

use super::erasing::{CONTACT, CONVERSATION, GUEST, Work, addresses, numbers};

/// Rows that one step looks at, of kinds of which nearly none is the person's.
const LOOKED_AT: i64 = 2_000;
/// What stands where an address was that a message of ours went to.
const ERASED: &str = "erased";
/// What an event keeps of its detail: who did it, and numbers.
const KEPT: [&str; 9] = [
    "agent",
    "acting_token",
    "role",
    "by",
    "contact",
    "operation",
    "undoes",
    "status",
    "delivery",
];

type Addresses = HashSet<(String, String)>;

/// One conversation of somebody else: what the person wrote in it loses its words and its writer, and nobody is sent
/// anything there any more under these addresses. What others wrote is theirs.
pub(super) fn others(tx: &mut Tx<'_>, work: &mut Work<'_>, now: i64) -> Result<bool> {
    let conn = tx.conn;
    let next = conn
        .prepare(
            "SELECT number FROM erasing WHERE erasure = ?1 AND kind = ?2 AND number > ?3 ORDER BY number LIMIT 1",
        )?
        .query_row([work.erasure, GUEST, work.place], |row| row.get(0))
        .optional()?;
    let Some(id) = next else {
        unsuggest(work)?;
        return Ok(true);
    };
    work.place = id;
    let names = tx.memory.names.clone();
    let Some(mut found) = conversation(conn, &names, ConversationId(id))? else {
        return Ok(false);
    };
    let theirs = addresses(conn, work.erasure)?;
    let mut next = found.last_message.map(|id| id.0);
    while let Some(message) = next {
        let row: Option<(Option<i64>, i64, i64)> = conn
            .prepare(
                "SELECT prev, (SELECT count(*) FROM erasing_address WHERE identity = message.identity AND erasure = ?2),
                 CASE WHEN delivery IS NULL THEN 0 ELSE 1 END FROM message WHERE id = ?1",
            )?
            .query_row([message, work.erasure], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .optional()?;
        let Some((prev, is_theirs, is_sent)) = row else {
            break;
        };
        if is_theirs > 0 {
            blank(work, message)?;
        } else if is_sent > 0 {
            readdress(work, message, &theirs)?;
        }
        next = prev;
    }
    let is_theirs = |one: &Participant| {
        let (namespace, address) = (one.namespace.as_str(), &one.address);
        theirs.contains(&(namespace.to_owned(), address.clone()))
    };
    let before = found.everybody().count();
    found.detail.participants.retain(|one| !is_theirs(one));
    for absorbed in &mut found.detail.absorbed {
        absorbed.participants.retain(|one| !is_theirs(one));
    }
    work.count(
        "participations",
        (before - found.everybody().count()) as u64,
    );
    found.version += 1;
    write_conversation(tx, &found, false)?;
    let changed = NewEvent::new(EventType::ConversationUpdated, found.id, None, now);
    write_events(tx, &[changed])?;
    Ok(false)
}

/// A message loses all that it says and who wrote it; its place in the conversation stays.
fn blank(work: &mut Work<'_>, message: i64) -> Result<()> {
    let conn = work.conn;
    let mut statement = conn.prepare("SELECT record FROM change WHERE message = ?1")?;
    let records = statement.query_map([message], |row| row.get(0))?;
    let mut records: Vec<i64> = records.collect::<sql::Result<_>>()?;
    records.push(message);
    for record in records {
        work.note_files(record)?;
        for (table, column) in [("body", "id"), ("blob", "body"), ("raw", "id")] {
            conn.prepare(&format!("DELETE FROM {table} WHERE {column} = ?1"))?
                .execute([record])?;
        }
    }
    for (table, column) in [
        ("change", "message"),
        ("file_fetch", "message"),
        ("message_search", "rowid"),
        ("dead_letter", "record"),
    ] {
        conn.prepare(&format!("DELETE FROM {table} WHERE {column} = ?1"))?
            .execute([message])?;
    }
    conn.prepare(
        "UPDATE message SET deleted = 1, identity = NULL, body = id, reason = NULL, labels = NULL, explanation = NULL,
         provider_ids = NULL WHERE id = ?1",
    )?
    .execute([message])?;
    work.count("messages_of_others", 1);
    Ok(())
}

/// Takes the addresses out of where a message of ours went.
fn readdress(work: &mut Work<'_>, message: i64, theirs: &Addresses) -> Result<()> {
    let conn = work.conn;
    for (_, address) in theirs {
        conn.prepare("DELETE FROM recipient WHERE message = ?1 AND address = ?2")?
            .execute(params![message, address])?;
    }
    let body: Option<Vec<u8>> = conn
        .prepare("SELECT content FROM body WHERE id = ?1")?
        .query_row([message], |row| row.get(0))
        .optional()?;
    let Some(mut draft) = body.and_then(|body| serde_json::from_slice::<Draft>(&body).ok()) else {
        return Ok(());
    };
    if draft.to.as_mut().is_some_and(|to| forget_in(to, theirs)) {
        conn.prepare("UPDATE body SET content = ?2 WHERE id = ?1")?
            .execute(params![message, json(&draft)?.into_bytes()])?;
    }
    Ok(())
}

/// Whether one of the addresses was there.
fn forget_in(to: &mut Destination, theirs: &Addresses) -> bool {
    let is_theirs = |one: &Recipient| {
        theirs.contains(&(one.namespace.as_str().to_owned(), one.address.clone()))
    };
    let mut found = is_theirs(&to.first());
    if found {
        ERASED.clone_into(&mut to.address);
        to.name = None;
    }
    for list in [&mut to.also_to, &mut to.cc, &mut to.bcc] {
        let before = list.len();
        list.retain(|one| !is_theirs(one));
        found |= list.len() < before;
    }
    found
}

/// What others were suggested to be.
fn unsuggest(work: &mut Work<'_>) -> Result<()> {
    for (namespace, address) in addresses(work.conn, work.erasure)? {
        let removed = work
            .conn
            .prepare(
                "DELETE FROM suggestion WHERE namespace = ?1 AND address = ?2
                 AND contact IN (SELECT id FROM contact WHERE brand = ?3)",
            )?
            .execute(params![namespace, address, work.brand])?;
        work.count("suggestions", removed as u64);
    }
    Ok(())
}

/// Messages of the person that could not be filed.
pub(super) fn letters(work: &mut Work<'_>) -> Result<bool> {
    let conn = work.conn;
    let mut statement = conn.prepare(
        "SELECT dead_letter.record, body.content, dead_letter.headers FROM dead_letter
         LEFT JOIN body ON body.id = dead_letter.record WHERE dead_letter.record > ?1 ORDER BY dead_letter.record LIMIT ?2",
    )?;
    let rows = statement.query_map([work.place, work.limit], |row| {
        Ok((
            row.get(0)?,
            row.get::<Option<Vec<u8>>>(1)?,
            row.get::<Option<String>>(2)?,
        ))
    })?;
    let some: Vec<(i64, Option<Vec<u8>>, Option<String>)> = rows.collect::<sql::Result<_>>()?;
    let theirs = addresses(conn, work.erasure)?;
    for (record, body, headers) in &some {
        work.place = *record;
        let body = body.as_deref().unwrap_or_default();
        let headers = headers.as_deref().unwrap_or_default();
        let is_theirs = match decode(body) {
            Content::Envelope(envelope) => is_of(&envelope, &theirs),
            // What nobody can read is theirs where it has an address of theirs anywhere.
            Content::Unreadable { .. } | Content::Newer { .. } => {
                mentions(body, &theirs) || mentions(headers.as_bytes(), &theirs)
            }
        };
        if is_theirs {
            work.note_files(*record)?;
            conn.prepare("DELETE FROM dead_letter WHERE record = ?1")?
                .execute([*record])?;
            drop_unused(conn, *record)?;
            work.count("dead_letters", 1);
        }
    }
    Ok(some.is_empty())
}

fn is_of(envelope: &Envelope, theirs: &Addresses) -> bool {
    match &envelope.event.event {
        Event::Message(message) | Event::Echo(message) => {
            let known = message
                .from
                .identities
                .iter()
                .map(|one| (one.namespace.as_str().to_owned(), one.address.clone()));
            known.into_iter().any(|one| theirs.contains(&one))
        }
        _ => false,
    }
}

fn mentions(bytes: &[u8], theirs: &Addresses) -> bool {
    let text = String::from_utf8_lossy(bytes).to_lowercase();
    theirs
        .iter()
        .any(|(_, address)| !address.is_empty() && text.contains(&address.to_lowercase()))
}

/// What came again was decided as known, and nothing refers to its copy: nobody needs it, whosever it is. So all of
/// them go, rather than those in which a name is found.
pub(super) fn redelivered(work: &mut Work<'_>) -> Result<bool> {
    let conn = work.conn;
    let position: i64 = conn
        .prepare("SELECT coalesce(min(position), 0) FROM position")?
        .query_row((), |row| row.get(0))?;
    let mut statement = conn.prepare(&format!(
        "SELECT log.record, CASE WHEN {} THEN 1 ELSE 0 END FROM log WHERE log.record > ?1 AND log.record <= ?2
         ORDER BY log.record LIMIT ?3",
        referred("log.record")
    ))?;
    let rows = statement.query_map([work.place, position, LOOKED_AT], |row| {
        Ok((row.get(0)?, row.get(1)?))
    })?;
    let some: Vec<(i64, i64)> = rows.collect::<sql::Result<_>>()?;
    let mut copies = 0;
    for (record, is_referred) in &some {
        work.place = *record;
        if *is_referred == 0 {
            work.note_files(*record)?;
            drop_unused(conn, *record)?;
            copies += 1;
        }
    }
    work.count("copies_of_redeliveries", copies);
    Ok(some.len() < LOOKED_AT as usize)
}

/// Events keep who did what, and lose what they tell of the person.
pub(super) fn events(work: &mut Work<'_>) -> Result<bool> {
    let conn = work.conn;
    let of = |kind| numbers(conn, work.erasure, kind).map(HashSet::<i64>::from_iter);
    let (contacts, own, others) = (of(CONTACT)?, of(CONVERSATION)?, of(GUEST)?);
    let theirs = addresses(conn, work.erasure)?;
    let mut statement = conn.prepare(
        "SELECT seq, conversation, detail FROM event WHERE seq > ?1 ORDER BY seq LIMIT ?2",
    )?;
    let rows = statement.query_map([work.place, LOOKED_AT], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?))
    })?;
    let some: Vec<(i64, Option<i64>, Option<String>)> = rows.collect::<sql::Result<_>>()?;
    for (seq, conversation, detail) in &some {
        work.place = *seq;
        let Some(Ok(detail)) = detail.as_deref().map(serde_json::from_str::<Value>) else {
            continue;
        };
        let about = ["contact", "from", "into"].map(|key| detail.get(key).and_then(Value::as_i64));
        let is_own = match conversation {
            Some(id) => own.contains(id) || (others.contains(id) && names_one(&detail, &theirs)),
            None => about.iter().flatten().any(|id| contacts.contains(id)),
        };
        if is_own {
            let kept = without_words(&detail);
            if kept != detail {
                conn.prepare("UPDATE event SET detail = ?1 WHERE seq = ?2")?
                    .execute(params![kept.to_string(), seq])?;
                work.count("events_blanked", 1);
            }
        }
    }
    Ok(some.len() < LOOKED_AT as usize)
}

fn names_one(detail: &Value, theirs: &Addresses) -> bool {
    mentions(detail.to_string().as_bytes(), theirs)
}

/// Who did it and numbers; `from` and `into` are numbers of what was merged, or places that are nobody's words.
fn without_words(detail: &Value) -> Value {
    let members = detail.as_object().into_iter().flatten();
    let kept = members.filter(|(key, value)| {
        KEPT.contains(&key.as_str()) || (matches!(key.as_str(), "from" | "into") && value.is_i64())
    });
    let kept: Map<String, Value> = kept
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    Value::Object(kept)
}

/// Whether a conversation is one that an erasure takes its messages from: retention leaves these to it.
pub fn not_erasing() -> String {
    format!(
        "NOT EXISTS (SELECT 1 FROM erasing WHERE erasing.kind = {CONVERSATION} AND erasing.number = remains.conversation)"
    )
}
