//! What left in a conversation and to whom, for reports that name the conversation alone.

use crate::conversation::Delivery;
use crate::ids::{ConversationId, MessageId};
use crate::router::facts::{MERGES_FOLLOWED_MAX, Sent};
use crate::store::Draft;
use crate::store::sql::{self, Conn, Optional as _};

use super::super::facts::conversation;
use super::super::names::Names;

/// Messages of a conversation that are looked at, newest first.
const LOOKED_AT_MAX: usize = 100;

/// The newest messages of ours in the conversation, or in what it was merged into, newest first.
pub fn sent_in(conn: Conn<'_>, names: &Names, named: ConversationId) -> sql::Result<Vec<Sent>> {
    let mut next = newest(conn, names, named)?;
    let mut statement = conn.prepare(
        "SELECT message.prev, message.delivery, message.arrived_at, body.content FROM message
         LEFT JOIN body ON body.id = message.id AND message.delivery IS NOT NULL
         WHERE message.id = ?1",
    )?;
    let mut sent = Vec::new();
    for _ in 0..LOOKED_AT_MAX {
        let Some(message) = next else { break };
        let row = statement
            .query_row([message.0], |row| {
                Ok((
                    row.get::<Option<i64>>(0)?,
                    row.get::<Option<i64>>(1)?,
                    row.get(2)?,
                    row.get::<Option<Vec<u8>>>(3)?,
                ))
            })
            .optional()?;
        let Some((prev, delivery, at, body)) = row else {
            break;
        };
        next = prev.map(MessageId);
        let is_due = delivery.and_then(Delivery::from_code) != Some(Delivery::Queued);
        if let Some(to) = body.filter(|_| is_due).and_then(|body| addresses(&body)) {
            sent.push(Sent { message, at, to });
        }
    }
    Ok(sent)
}

fn newest(conn: Conn<'_>, names: &Names, named: ConversationId) -> sql::Result<Option<MessageId>> {
    let mut next = Some(named);
    let mut newest = None;
    for _ in 0..=MERGES_FOLLOWED_MAX {
        let Some(id) = next else { break };
        let Some(found) = conversation(conn, names, id)? else {
            break;
        };
        (next, newest) = (found.detail.merged_into, found.last_message);
    }
    Ok(newest)
}

/// Everybody a message went to.
fn addresses(body: &[u8]) -> Option<Vec<String>> {
    let draft: Draft = serde_json::from_slice(body).ok()?;
    let to = draft.to?;
    let others = to.also_to.iter().chain(&to.cc).chain(&to.bcc);
    let others = others.map(|one| one.address.clone());
    Some(std::iter::once(to.address.clone()).chain(others).collect())
}
