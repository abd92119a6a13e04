//! Requests that may be made again: what came of the first is kept with it, in its transaction.
//! Only the number of what it was about is kept; a repeated request is told how that stands now.

use crate::dispatch::Refusal;
use crate::ids::{ConversationId, MessageId};
use crate::store::sql::{Optional as _, params};
use crate::store::{Idempotency, StoreError};

use crate::store::rows::Tx;

/// What a request came to; the stored form is a number for each kind, only ever added to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    Message(MessageId),
    Conversation(ConversationId),
    /// An operation of surgery, by its event.
    Operation(i64),
}

impl Kept {
    fn parts(self) -> (i64, i64) {
        match self {
            Self::Message(id) => (0, id.0),
            Self::Conversation(id) => (1, id.0),
            Self::Operation(event) => (2, event),
        }
    }

    fn of(kind: i64, number: i64) -> Option<Self> {
        match kind {
            0 => Some(Self::Message(MessageId(number))),
            1 => Some(Self::Conversation(ConversationId(number))),
            2 => Some(Self::Operation(number)),
            _ => None,
        }
    }
}

/// Remembers what a request with this key came to.
pub fn keep(
    tx: &Tx<'_>,
    idempotency: Option<&Idempotency>,
    came_to: Kept,
    at: i64,
) -> Result<(), StoreError> {
    if let Some((key, fingerprint)) = idempotency {
        let (kind, number) = came_to.parts();
        tx.conn.write("INSERT INTO idempotency (key, fingerprint, kind, number, at) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (key) DO UPDATE SET fingerprint = excluded.fingerprint, kind = excluded.kind, number = excluded.number, at = excluded.at", params![key, fingerprint, kind, number, at])?;
    }
    Ok(())
}

/// What an earlier request with this key came to; another request under it is refused.
pub fn kept(
    tx: &Tx<'_>,
    idempotency: Option<&Idempotency>,
    at: i64,
) -> Result<Option<Kept>, StoreError> {
    let Some((key, fingerprint)) = idempotency.filter(|_| !bug!("idempotency-key-ignored")) else {
        return Ok(None);
    };
    tx.lock_name("idempotency", key)?;
    let kept = i64::try_from(crate::store::IDEMPOTENCY_KEPT.as_micros()).unwrap_or(i64::MAX);
    let row = tx
        .conn
        .prepare("SELECT fingerprint, kind, number FROM idempotency WHERE key = ?1 AND at > ?2")?
        .query_row(params![key, at - kept], |row| {
            Ok((row.get::<Vec<u8>>(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()?;
    let Some((known, kind, number)) = row else {
        return Ok(None);
    };
    if known != *fingerprint {
        return Err(Refusal::KeyReused.into());
    }
    Ok(Kept::of(kind, number))
}

/// The message that an earlier request with this key was about.
pub fn kept_message(
    tx: &Tx<'_>,
    idempotency: Option<&Idempotency>,
    at: i64,
) -> Result<Option<MessageId>, StoreError> {
    match kept(tx, idempotency, at)? {
        Some(Kept::Message(id)) => still_there(tx, id).map(Some),
        _ => Ok(None),
    }
}

/// Nothing is done again because what was done is past its retention.
pub fn still_there(tx: &Tx<'_>, id: MessageId) -> Result<MessageId, StoreError> {
    let there = tx
        .conn
        .prepare("SELECT 1 FROM message WHERE id = ?1")?
        .exists([id.0])?;
    match there {
        true => Ok(id),
        false => Err(Refusal::NotFound { what: "message" }.into()),
    }
}
