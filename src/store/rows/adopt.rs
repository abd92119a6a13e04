//! What waits in a queue that is not declared any more.

use std::collections::BTreeSet;

use connector_api::QueueId;
use tracing::warn;

use crate::conversation::Status;
use crate::ids::ConversationId;
use crate::router::effects::{EventType, NewEvent};
use crate::store::Result;
use crate::store::sql::{self, params};

use super::Tx;
use super::events::{NewDeparture, write_departures, write_events};

/// Conversations that wait in a queue which is not declared wait in the first one: nobody could claim
/// them otherwise. Queues that are declared `elsewhere` are left alone. The queue that has more waiting now.
pub fn adopt(
    tx: &mut Tx<'_>,
    queues: &[QueueId],
    elsewhere: &BTreeSet<QueueId>,
    now: i64,
) -> Result<Option<QueueId>> {
    let names = tx.memory.names.clone();
    let declared: Vec<i64> = queues
        .iter()
        .map(|queue| names.id(queue.as_str()))
        .collect();
    let (Some(first), Some(adopting)) = (queues.first(), declared.first()) else {
        return Ok(None);
    };
    let mut statement = tx.conn.prepare(
        "SELECT id, name FROM name WHERE EXISTS (SELECT 1 FROM waiting WHERE waiting.queue = name.id)",
    )?;
    let rows = statement.query_map((), |row| Ok((row.get(0)?, row.get(1)?)))?;
    let used: Vec<(i64, String)> = rows.collect::<sql::Result<_>>()?;
    let mut adopted = None;
    let is_elsewhere = |name: &str| elsewhere.iter().any(|queue| queue.as_str() == name);
    let nobodys = |(id, name): &&(i64, String)| !declared.contains(id) && !is_elsewhere(name);
    for (id, name) in used.iter().filter(nobodys) {
        let conversations = waiting_in(tx, *id)?;
        for conversation in &conversations {
            let left = NewDeparture {
                conversation: *conversation,
                queue: *id,
                assignee: None,
            };
            write_departures(tx, std::iter::once(left))?;
            let queued = EventType::ConversationQueued;
            write_events(tx, &[NewEvent::new(queued, *conversation, None, now)])?;
        }
        tx.conn
            .prepare("UPDATE waiting SET queue = ?1 WHERE queue = ?2")?
            .execute([adopting, id])?;
        tx.conn
            .prepare(
                "UPDATE conversation SET queue = ?1, version = version + 1 WHERE status = ?2 AND queue = ?3",
            )?
            .execute(params![*adopting, Status::Queued.code(), *id])?;
        warn!(
            "the queue {name} is not declared any more: {} conversations wait in {first} now",
            conversations.len()
        );
        adopted = Some(first.clone());
    }
    Ok(adopted)
}

fn waiting_in(tx: &Tx<'_>, queue: i64) -> Result<Vec<ConversationId>> {
    let mut statement = tx
        .conn
        .prepare("SELECT id FROM waiting WHERE queue = ?1 ORDER BY id")?;
    let rows = statement.query_map([queue], |row| row.get(0).map(ConversationId))?;
    Ok(rows.collect::<sql::Result<_>>()?)
}
