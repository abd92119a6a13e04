//! Files of messages: those to be fetched, reading them, and which files rows name.

use std::time::Duration;

use bytes::Bytes;
use connector_api::{AttachmentBody, Event, InboundMessage};

use crate::bus::{Content, decode};
use crate::dispatch::Actor;
use crate::ids::{ConversationId, MessageId};
use crate::router::effects::{EventType, NewEvent, NewFetch};
use crate::store::attachments::{
    AttachmentState, DueFetch, FETCH_ATTEMPTS_MAX, FetchOutcome, Fetched, Fetches, Standing,
};
use crate::store::sql::{self, Conn, Optional as _, Row, params};
use crate::store::{StoreError, StoredAttachment, StoredContent, StoredMessage};

use super::events::write_events;
use super::facts::named;
use super::names::Names;
use super::outbox::conversation_of;
use super::reading;
use crate::store::rows::Tx;

type Result<T> = std::result::Result<T, StoreError>;

/// Pauses after each try; the first is longer than a try may take, so that one that ended with the
/// process is simply made again.
const PAUSES: [Duration; FETCH_ATTEMPTS_MAX as usize] = [
    Duration::from_secs(2 * 60),
    Duration::from_secs(10 * 60),
    Duration::from_secs(60 * 60),
    Duration::from_secs(4 * 60 * 60),
    Duration::from_secs(12 * 60 * 60),
    Duration::from_secs(24 * 60 * 60),
];

/// Notes what is to be fetched, with the message that names it.
pub fn ask_for(conn: Conn<'_>, fetches: &[NewFetch]) -> Result<()> {
    let mut insert = conn.write_each(
        "INSERT INTO file_fetch (message, place, state, attempts, next_at) VALUES (?1, ?2, ?3, 0, ?4) ON CONFLICT DO NOTHING",
    )?;
    for fetch in fetches {
        let pending = code(AttachmentState::Pending);
        insert.add(params![
            fetch.message.0,
            fetch.place as i64,
            pending,
            fetch.at
        ])?;
    }
    Ok(insert.done()?)
}

pub fn lease(tx: &mut Tx<'_>, limit: u32, now: i64) -> Result<Vec<DueFetch>> {
    let conn = tx.conn;
    tx.lock_name("fetches", &[])?;
    let mut statement = conn.prepare(
        "SELECT file_fetch.message, file_fetch.place, file_fetch.attempts, message.channel, body.content, message.deleted
         FROM file_fetch LEFT JOIN message ON message.id = file_fetch.message LEFT JOIN body ON body.id = file_fetch.message
         WHERE file_fetch.state = 0 AND file_fetch.next_at <= ?1 ORDER BY file_fetch.next_at LIMIT ?2",
    )?;
    let rows = statement.query_map(params![now, limit], |row| {
        Ok((
            (MessageId(row.get(0)?), row.get::<u32>(1)? as usize),
            row.get::<u32>(2)?,
            row.get::<Option<i64>>(3)?,
            row.get::<Option<Vec<u8>>>(4)?,
            row.get::<Option<bool>>(5)?,
        ))
    })?;
    let rows: Vec<_> = rows.collect::<sql::Result<_>>()?;
    let mut due = Vec::new();
    for ((message, place), attempts, channel, body, deleted) in rows {
        let reference = body.and_then(|body| reference(&body, place));
        let (Some(channel), Some(reference), Some(false)) = (channel, reference, deleted) else {
            let reason = "its message is gone".to_owned();
            settle(tx, message, place, &FetchOutcome::Failed { reason }, now)?;
            continue;
        };
        let pause = PAUSES.get(attempts as usize).or(PAUSES.last());
        let pause = pause.map_or(i64::MAX / 2, |pause| pause.as_micros() as i64);
        conn.write("UPDATE file_fetch SET attempts = attempts + 1, next_at = ?1 WHERE message = ?2 AND place = ?3", params![now + pause, message.0, place as i64])?;
        due.push(DueFetch {
            message,
            place,
            channel: named(&tx.memory.names, channel)?,
            reference,
            attempts: attempts + 1,
        });
    }
    Ok(due)
}

pub fn next(conn: Conn<'_>) -> Result<Option<i64>> {
    Ok(conn
        .prepare("SELECT min(next_at) FROM file_fetch WHERE state = 0")?
        .query_row((), |row| row.get(0))?)
}

pub fn settle(
    tx: &mut Tx<'_>,
    message: MessageId,
    place: usize,
    outcome: &FetchOutcome,
    now: i64,
) -> Result<()> {
    let conn = tx.conn;
    let (state, reason, blob, content_type) = match outcome {
        FetchOutcome::Stored { blob, content_type } => (
            AttachmentState::Stored,
            None,
            Some(blob),
            content_type.as_deref(),
        ),
        FetchOutcome::Failed { reason } => (AttachmentState::Failed, Some(reason), None, None),
        FetchOutcome::Retry { reason } => (AttachmentState::Pending, Some(reason), None, None),
    };
    if let Some(conversation) = conversation_of(tx, message)? {
        tx.lock_conversation(conversation)?;
    }
    let changed = conn
        .prepare(
            "UPDATE file_fetch SET state = ?1, reason = ?2, sha256 = ?3, bytes_len = ?4, content_type = ?5
             WHERE message = ?6 AND place = ?7 AND state = 0",
        )?
        .execute(params![
            code(state),
            reason,
            blob.map(|blob| blob.sha256.as_slice()),
            blob.map(|blob| blob.bytes_len as i64),
            content_type,
            message.0,
            place as i64
        ])?;
    if changed == 0 || state == AttachmentState::Pending {
        return Ok(());
    }
    if let Some(blob) = blob {
        conn.write("INSERT INTO blob (body, sha256, bytes_len, content) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING", params![
            message.0,
            blob.sha256.as_slice(),
            blob.bytes_len as i64,
            blob.inline.as_deref()
        ])?;
    }
    let conversation: Option<i64> = conn
        .prepare("SELECT conversation FROM message WHERE id = ?1")?
        .query_row([message.0], |row| row.get(0))
        .optional()?;
    let Some(conversation) = conversation else {
        return Ok(());
    };
    let conversation = ConversationId(conversation);
    let event = NewEvent::new(EventType::MessageChanged, conversation, Some(message), now)
        .with(serde_json::json!({ "change": "attachment" }));
    write_events(tx, &[event])
}

/// What became of a message's files that were at their provider.
pub fn fetches(conn: Conn<'_>, content: &StoredContent, id: MessageId) -> Result<Fetches> {
    let remote = said(content).is_some_and(|said| {
        let mut bodies = said.attachments.iter().map(|file| &file.body);
        bodies.any(|body| matches!(body, AttachmentBody::Reference { .. }))
    });
    if !remote {
        return Ok(Fetches::new());
    }
    let mut statement = conn.prepare(
        "SELECT place, state, reason, sha256, bytes_len, content_type FROM file_fetch WHERE message = ?1",
    )?;
    let rows = statement.query_map([id.0], fetched_of)?;
    Ok(rows.collect::<sql::Result<_>>()?)
}

fn fetched_of(row: &Row<'_>) -> sql::Result<(usize, Fetched)> {
    let fetched = Fetched {
        state: match row.get::<i64>(1)? {
            0 => AttachmentState::Pending,
            1 => AttachmentState::Stored,
            _ => AttachmentState::Failed,
        },
        reason: row.get(2)?,
        sha256: row.get(3)?,
        bytes_len: row.get::<Option<i64>>(4)?.map(|bytes| bytes as u64),
        content_type: row.get(5)?,
    };
    Ok((row.get::<u32>(0)? as usize, fetched))
}

pub fn read(
    conn: Conn<'_>,
    names: &Names,
    actor: &Actor,
    id: MessageId,
    place: usize,
) -> Result<Option<StoredAttachment>> {
    let found = reading::message(conn, names, actor, id)?;
    let Some(message) = found.filter(|found| !found.deleted) else {
        return Ok(None);
    };
    let StoredMessage {
        content, fetches, ..
    } = message;
    let standing = match &content {
        StoredContent::Written(draft) => draft.attachments.get(place).map(Standing::of_written),
        _ => {
            let attachment = said(&content).and_then(|said| said.attachments.get(place));
            attachment.map(|attachment| Standing::of(attachment, fetches.get(&place)))
        }
    };
    let Some(standing) = standing else {
        return Ok(None);
    };
    let digest = standing.sha256.as_ref().map(|sha256| sha256.as_slice());
    let row = conn
        .prepare("SELECT content, bytes_len FROM blob WHERE body = ?1 AND sha256 = ?2")?
        .query_row(params![id.0, digest], |row| {
            Ok((row.get::<Option<Vec<u8>>>(0)?, row.get::<i64>(1)?))
        })
        .optional()?;
    let (inline, bytes_len) = row.unzip();
    Ok(Some(StoredAttachment {
        standing: Standing {
            size_bytes: bytes_len.map(|bytes| bytes as u64).or(standing.size_bytes),
            ..standing
        },
        inline: inline.flatten().map(Bytes::from),
    }))
}

fn said(content: &StoredContent) -> Option<&InboundMessage> {
    let StoredContent::Inbound { first, .. } = content else {
        return None;
    };
    match &first.event.event {
        Event::Message(message) | Event::Echo(message) => Some(message),
        _ => None,
    }
}

fn reference(body: &[u8], place: usize) -> Option<String> {
    let Content::Envelope(envelope) = decode(body) else {
        return None;
    };
    let (Event::Message(message) | Event::Echo(message)) = &envelope.event.event else {
        return None;
    };
    match &message.attachments.get(place)?.body {
        AttachmentBody::Reference { reference } => Some(reference.clone()),
        _ => None,
    }
}

/// Those of `files` that are neither captured bytes nor an attachment, nor wait for an answer.
pub fn unnamed(conn: Conn<'_>, files: &[[u8; 32]]) -> Result<Vec<[u8; 32]>> {
    let mut statement = conn.prepare(
        "SELECT EXISTS (SELECT 1 FROM raw WHERE sha256 = ?1)
             OR EXISTS (SELECT 1 FROM blob WHERE sha256 = ?1 AND content IS NULL)
             OR EXISTS (SELECT 1 FROM upload WHERE sha256 = ?1 AND content IS NULL)",
    )?;
    let mut unnamed = Vec::new();
    for file in files {
        if !statement.query_row([file.as_slice()], |row| row.get::<bool>(0))? {
            unnamed.push(*file);
        }
    }
    Ok(unnamed)
}

/// The stored form; only ever added to.
fn code(state: AttachmentState) -> i64 {
    match state {
        AttachmentState::Pending => 0,
        AttachmentState::Stored => 1,
        AttachmentState::Failed => 2,
    }
}

/// The bytes of a file of what was written, where they are in its row.
pub fn written(
    conn: Conn<'_>,
    message: MessageId,
    sha256: &[u8; 32],
) -> Result<Option<Option<Bytes>>> {
    let found = conn
        .prepare("SELECT content FROM blob WHERE body = ?1 AND sha256 = ?2")?
        .query_row(params![message.0, sha256.as_slice()], |row| {
            row.get::<Option<Vec<u8>>>(0)
        })
        .optional()?;
    Ok(found.map(|content| content.map(Bytes::from)))
}
