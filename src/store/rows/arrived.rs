//! What a record brings: its body, the bytes it was captured as, its files.

use std::collections::HashSet;

use crate::bus::{Carried, NewBlob};
use crate::router::{Effects, Prepared};
use crate::store::Result;
use crate::store::sql::{Conn, params};

use super::effects::json;

const BODY: &str = "INSERT INTO body (id, content) VALUES (?1, ?2)";

pub fn insert_body(conn: Conn<'_>, id: i64, body: &[u8]) -> Result<()> {
    conn.write(BODY, params![id, body])?;
    Ok(())
}

/// What stands beside the body.
pub fn insert_beside(
    conn: Conn<'_>,
    id: i64,
    raw: Option<&NewBlob>,
    blobs: &[NewBlob],
    arrived_at: i64,
) -> Result<()> {
    if let Some(raw) = raw {
        conn.write("INSERT INTO raw (id, content, sha256, bytes_len, arrived_at) VALUES (?1, ?2, ?3, ?4, ?5)", params![
            id,
            raw.inline.as_deref(),
            raw.inline.is_none().then_some(raw.sha256.as_slice()),
            raw.bytes_len as i64,
            arrived_at
        ])?;
    }
    for blob in blobs {
        conn.write("INSERT INTO blob (body, sha256, bytes_len, content) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING", params![
            id,
            blob.sha256.as_slice(),
            blob.bytes_len as i64,
            blob.inline.as_deref()
        ])?;
    }
    Ok(())
}

/// Writes what a record brought.
pub fn keep(conn: Conn<'_>, id: i64, carried: &Carried) -> Result<()> {
    insert_body(conn, id, &carried.body)?;
    let Carried { raw, blobs, .. } = carried;
    insert_beside(conn, id, raw.as_ref(), blobs, carried.arrived_at)
}

/// The same for those records of a batch that something refers to now: not for redeliveries.
pub fn keep_needed(conn: Conn<'_>, batch: &[Prepared], effects: &Effects) -> Result<()> {
    let carried = batch
        .iter()
        .filter_map(|record| Some((record.offset, record.carried.as_ref()?)));
    let mut carried = carried.peekable();
    if carried.peek().is_none() {
        return Ok(());
    }
    let needed = named(effects);
    let mut bodies = conn.write_each(BODY)?;
    for (id, carried) in carried.filter(|(id, _)| needed.contains(id)) {
        bodies.add(params![id, carried.body.as_ref()])?;
        let Carried { raw, blobs, .. } = &**carried;
        insert_beside(conn, id, raw.as_ref(), blobs, carried.arrived_at)?;
    }
    Ok(bodies.done()?)
}

/// Keeps what stood beside those records of a batch that are dead letters now.
pub fn keep_headers(conn: Conn<'_>, batch: &[Prepared], effects: &Effects) -> Result<()> {
    for letter in &effects.dead {
        let record = batch.iter().find(|record| record.offset == letter.record);
        if let Some(carried) = record.and_then(|record| record.carried.as_ref()) {
            note_headers(conn, letter.record, carried)?;
        }
    }
    Ok(())
}

/// Notes with a dead letter what stood beside it.
pub fn note_headers(conn: Conn<'_>, record: i64, carried: &Carried) -> Result<()> {
    if !carried.headers.is_empty() {
        conn.prepare("UPDATE dead_letter SET headers = ?1 WHERE record = ?2")?
            .execute(params![json(&carried.headers)?, record])?;
    }
    Ok(())
}

fn named(effects: &Effects) -> HashSet<i64> {
    let messages = effects.messages.iter().map(|message| message.id.0);
    let changes = effects.changes.iter().map(|change| change.record);
    let pending = effects.pending.iter().map(|pending| pending.record);
    let dead = effects.dead.iter().map(|letter| letter.record);
    messages.chain(changes).chain(pending).chain(dead).collect()
}
