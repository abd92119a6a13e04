//! What is asked for under an `Idempotency-Key` and is no message: done once, and told again.

use crate::dispatch::{Actor, Refusal};
use crate::ids::ConversationId;
use crate::router::facts::Conversation;
use crate::store::{Asked, Idempotency, Senders, StoreError};

use super::super::facts::conversation;
use super::idempotency::{Kept, keep, kept};
use super::{act, perform};
use crate::store::rows::Tx;

/// Does it, or tells how the conversation stands that it was done to: `None` where that is not the
/// actor's to see any more, as after it was handed on.
pub fn once(
    tx: &mut Tx<'_>,
    key: &Idempotency,
    asked: &Asked,
    senders: Option<&Senders>,
) -> Result<Option<Conversation>, StoreError> {
    let (actor, at) = match asked {
        Asked::Act { actor, at, .. } => (actor, *at),
        Asked::Perform(doing) => (&doing.actor, doing.at),
    };
    if let Some(Kept::Conversation(id)) = kept(tx, Some(key), at)? {
        return told(tx, id, actor);
    }
    let done = match asked {
        Asked::Act {
            conversation,
            action,
            version,
            ..
        } => act(tx, *conversation, actor, *action, *version, at)?,
        Asked::Perform(doing) => perform(tx, doing, senders)?,
    };
    keep(tx, Some(key), Kept::Conversation(done.id), at)?;
    Ok(Some(done))
}

/// How the conversation of an earlier request stands, where that is the actor's to know.
pub fn told(
    tx: &Tx<'_>,
    id: ConversationId,
    actor: &Actor,
) -> Result<Option<Conversation>, StoreError> {
    let found = conversation(tx.conn, &tx.memory.names, id)?;
    Ok(found.filter(|found| actor.may_see(found)))
}

/// What an earlier claim gave, while it is still that agent's.
pub fn claimed_before(
    tx: &Tx<'_>,
    id: ConversationId,
    actor: &Actor,
) -> Result<Conversation, StoreError> {
    match told(tx, id, actor)? {
        Some(found) if found.status.is_open() && actor.holds(&found) => Ok(found),
        other => Err(Refusal::ClaimOver {
            stands: other.map(|found| (found.status, found.assignee)),
        }
        .into()),
    }
}
