//! When a customer was last heard on a channel: what a provider counts its reply window from.

use std::time::Duration;

use connector_api::ChannelId;

use crate::ids::ConversationId;
use crate::router::effects::Author;
use crate::store::sql::{self, Optional as _, params};
use crate::store::{Destination, StoreError};

use crate::store::rows::Tx;

/// Conversations of one contact and messages of each that are looked through: more than anybody
/// writes within a provider's window.
const CONVERSATIONS_MAX: i64 = 100;
const MESSAGES_MAX: usize = 1_000;

/// The provider's time of the last message that `to` wrote on `channel`, in whichever of the
/// contact's conversations; `None` when none is within the window.
pub fn heard_at(
    tx: &Tx<'_>,
    id: ConversationId,
    channel: &ChannelId,
    to: &Destination,
    window: Duration,
    now: i64,
) -> Result<Option<i64>, StoreError> {
    let since = now.saturating_sub(i64::try_from(window.as_micros()).unwrap_or(i64::MAX));
    let mut statement = tx.conn.prepare(
        "SELECT last_message FROM conversation
         WHERE contact = (SELECT contact FROM conversation WHERE id = ?1) AND last_inbound_at >= ?2
         ORDER BY opened_at DESC, id DESC LIMIT ?3",
    )?;
    let rows = statement.query_map([id.0, since, CONVERSATIONS_MAX], |row| row.get(0))?;
    let last_messages: Vec<Option<i64>> = rows.collect::<sql::Result<_>>()?;
    let mut heard = None;
    for last in last_messages {
        heard = heard.max(heard_in(tx, last, channel, to, since)?);
    }
    Ok(heard)
}

/// The same in one timeline, newest first.
fn heard_in(
    tx: &Tx<'_>,
    mut next: Option<i64>,
    channel: &ChannelId,
    to: &Destination,
    since: i64,
) -> Result<Option<i64>, StoreError> {
    let number = tx.memory.names.id(channel.as_str());
    let mut heard = None;
    for _ in 0..MESSAGES_MAX {
        let Some(at) = next else { break };
        let row = tx
            .conn
            .prepare(
                "SELECT message.prev, message.arrived_at, message.sent_at,
                        message.author = ?2 AND message.channel = ?3
                        AND identity.namespace IS NOT DISTINCT FROM ?4 AND identity.address IS NOT DISTINCT FROM ?5
                 FROM message LEFT JOIN identity ON identity.id = message.identity WHERE message.id = ?1",
            )?
            .query_row(
                params![
                    at,
                    Author::Customer.code(),
                    number,
                    to.namespace.as_str(),
                    to.address
                ],
                |row| {
                    Ok((
                        row.get::<Option<i64>>(0)?,
                        row.get::<i64>(1)?,
                        row.get::<Option<i64>>(2)?,
                        row.get::<bool>(3)?,
                    ))
                },
            )
            .optional()?;
        let Some((prev, arrived_at, sent_at, theirs)) = row else {
            break;
        };
        if arrived_at < since {
            break;
        }
        if theirs {
            // A provider's clock that is ahead opens no longer window.
            heard = heard.max(Some(sent_at.unwrap_or(arrived_at).min(arrived_at)));
        }
        next = prev;
    }
    Ok(heard)
}
