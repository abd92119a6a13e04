//! A queue as a list: read by the narrow rows of what waits, which are in that order.

use connector_api::QueueId;

use crate::dispatch::Actor;
use crate::ids::ConversationId;
use crate::router::facts::Conversation;
use crate::store::ConversationFilter;
use crate::store::sql::{self, Conn, params};

use super::super::facts::conversation as find;
use super::{Names, Result};

/// Those that wait in one queue, in the order in which it hands them out.
pub fn conversations(
    conn: Conn<'_>,
    names: &Names,
    actor: &Actor,
    filter: &ConversationFilter,
    after: Option<(i64, ConversationId)>,
) -> Result<Vec<Conversation>> {
    let usable = |queue: &&QueueId| actor.may_use_queue(queue);
    let Some(queue) = filter.queue.as_ref().filter(usable) else {
        return Ok(Vec::new());
    };
    let (rank, id) = after.map_or((i64::MIN, i64::MIN), |(rank, id)| (rank, id.0));
    let contact = filter.contact.map(|contact| contact.0);
    let brands: Vec<String> = (actor.brands.iter())
        .map(|brand| names.id(brand.as_str()).to_string())
        .collect();
    let of_brands = match brands.is_empty() {
        true => String::new(),
        false => format!("AND conversation.brand IN ({})", brands.join(",")),
    };
    let mut statement = conn.prepare(&format!(
        "SELECT waiting.id FROM waiting JOIN conversation ON conversation.id = waiting.id
         WHERE waiting.queue = ?1 AND waiting.fit_class = 0 AND (waiting.rank, waiting.id) > (?2, ?3)
         AND (?4 IS NULL OR conversation.contact = ?4) {of_brands}
         ORDER BY waiting.rank, waiting.id LIMIT ?5"
    ))?;
    let values = params![names.id(queue.as_str()), rank, id, contact, filter.limit];
    let ids = statement.query_map(values, |row| row.get(0))?;
    let ids = ids.collect::<sql::Result<Vec<i64>>>()?;
    let mut found = Vec::with_capacity(ids.len());
    for id in ids {
        found.extend(find(conn, names, ConversationId(id))?);
    }
    Ok(found)
}
