//! An operation that is asked for again under its `Idempotency-Key`: done once, and told as it
//! stands now.

use crate::dispatch::Refusal;
use crate::ids::{ContactId, ConversationId};
use crate::store::StoreError;
use crate::store::rows::Tx;
use crate::store::rows::desk::{Kept, keep, kept, told};
use crate::store::surgery::{Operated, OperationKind, Order};

use super::{Result, contacts, find};

/// Undoing an undo is one more; more than anybody does by hand.
const UNDOES_FOLLOWED_MAX: usize = 1_000;

/// Does the work, or tells what came of it before.
pub fn once(
    tx: &mut Tx<'_>,
    order: &Order,
    work: impl FnOnce(&mut Tx<'_>) -> Result<Operated>,
) -> Result<Operated> {
    let key = order.idempotency.as_ref();
    if let Some(Kept::Operation(event)) = kept(tx, key, order.at)? {
        return again(tx, event, order);
    }
    let done = work(tx)?;
    keep(tx, key, Kept::Operation(done.event), order.at)?;
    Ok(done)
}

/// What the operation was done to, as far as the actor may see it now.
fn again(tx: &Tx<'_>, event: i64, order: &Order) -> Result<Operated> {
    let missing = || StoreError::from(Refusal::NotFound { what: "operation" });
    let (done, _) = find(tx.conn, event)?.ok_or_else(missing)?;
    let mut first = done.clone();
    for _ in 0..UNDOES_FOLLOWED_MAX {
        let Some(of) = first.undoes else { break };
        (first, _) = find(tx.conn, of)?.ok_or_else(missing)?;
    }
    if first.kind == OperationKind::MergeContacts {
        let both = [ContactId(done.one), ContactId(done.other)];
        return contacts::operated(tx, event, done.kind, both, order);
    }
    let mut conversations = Vec::new();
    for id in [done.one, done.other] {
        conversations.extend(told(tx, ConversationId(id), &order.actor)?);
    }
    Ok(Operated {
        event,
        kind: done.kind,
        conversations,
        contacts: Vec::new(),
        queues: Vec::new(),
    })
}
