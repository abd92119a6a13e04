//! Requests that may be made again: what came of the first is kept with it, in its transaction.

use rusqlite::{OptionalExtension, params};

use crate::dispatch::Refusal;
use crate::ids::MessageId;
use crate::store::{Idempotency, StoreError};

use super::super::writer::Tx;

/// Remembers the message that a request with this key was about.
pub fn keep_answer(
    tx: &Tx<'_>,
    idempotency: Option<&Idempotency>,
    id: MessageId,
    at: i64,
) -> Result<(), StoreError> {
    if let Some((key, fingerprint)) = idempotency {
        tx.conn
            .prepare_cached(
                "INSERT OR REPLACE INTO idempotency (key, fingerprint, status, answer, at) VALUES (?1, ?2, 202, ?3, ?4)",
            )?
            .execute(params![key, fingerprint, id.0.to_be_bytes().as_slice(), at])?;
    }
    Ok(())
}

/// The message an earlier request with this key was about; another request under it is refused.
pub fn kept_answer(
    tx: &Tx<'_>,
    idempotency: Option<&Idempotency>,
    at: i64,
) -> Result<Option<MessageId>, StoreError> {
    let Some((key, fingerprint)) = idempotency else {
        return Ok(None);
    };
    let kept = i64::try_from(crate::store::IDEMPOTENCY_KEPT.as_micros()).unwrap_or(i64::MAX);
    let row = tx
        .conn
        .prepare_cached("SELECT fingerprint, answer FROM idempotency WHERE key = ?1 AND at > ?2")?
        .query_row(params![key, at - kept], |row| {
            Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Vec<u8>>(1)?))
        })
        .optional()?;
    let Some((known, answer)) = row else {
        return Ok(None);
    };
    if known != *fingerprint {
        return Err(Refusal::KeyReused.into());
    }
    let number = answer
        .iter()
        .fold(0, |number: i64, byte| number << 8 | i64::from(*byte));
    // Nothing is done again because what was done is past its retention.
    let there = tx
        .conn
        .prepare_cached("SELECT 1 FROM message WHERE id = ?1")?
        .exists([number])?;
    match there {
        true => Ok(Some(MessageId(number))),
        false => Err(Refusal::NotFound { what: "message" }.into()),
    }
}
