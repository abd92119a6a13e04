//! What agents have begun to write, on the embedded store.

use serde_json::{Map, Value};

use crate::dispatch::{Actor, Refusal};
use crate::ids::ConversationId;
use crate::store::StoreError;
use crate::store::macros::StoredDraft;
use crate::store::sql::{Conn, Optional as _, params};

use super::facts::from_json;
use super::names::Names;
use super::reading;
use crate::store::rows::Tx;

type Result<T> = std::result::Result<T, StoreError>;

/// The actor's own draft of a conversation that it may see.
pub fn find(
    conn: Conn<'_>,
    names: &Names,
    actor: &Actor,
    id: ConversationId,
) -> Result<Option<StoredDraft>> {
    let Some(agent) = &actor.agent else {
        return Ok(None);
    };
    if reading::conversation(conn, names, actor, id)?.is_none() {
        return Err(Refusal::NotFound {
            what: "conversation",
        }
        .into());
    }
    Ok(conn
        .prepare("SELECT content, version, at FROM draft WHERE conversation = ?1 AND agent = ?2")?
        .query_row(params![id.0, agent], |row| {
            Ok(StoredDraft {
                content: from_json(0, &row.get::<String>(0)?)?,
                version: row.get(1)?,
                at: row.get(2)?,
            })
        })
        .optional()?)
}

pub fn save(
    tx: &mut Tx<'_>,
    actor: &Actor,
    id: ConversationId,
    content: Map<String, Value>,
    version: Option<i64>,
    now: i64,
) -> Result<StoredDraft> {
    let agent = at_version(tx, actor, id, version)?;
    // Counted on after a draft is gone: what was read of that one fits none that follows.
    let version = tx
        .conn
        .prepare(
            "INSERT INTO draft_version (conversation, agent, version) VALUES (?1, ?2, 1)
             ON CONFLICT (conversation, agent) DO UPDATE SET version = draft_version.version + 1 RETURNING version",
        )?
        .query_row(params![id.0, agent], |row| row.get(0))?;
    let stored = StoredDraft {
        content,
        version,
        at: now,
    };
    tx.conn.write("INSERT INTO draft (conversation, agent, content, version, at) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (conversation, agent) DO UPDATE SET content = excluded.content, version = excluded.version, at = excluded.at", params![
            id.0,
            agent,
            super::effects::json(&stored.content)?,
            stored.version,
            now
        ])?;
    Ok(stored)
}

/// Gives the actor's own draft up.
pub fn delete(
    tx: &mut Tx<'_>,
    actor: &Actor,
    id: ConversationId,
    version: Option<i64>,
) -> Result<()> {
    let agent = at_version(tx, actor, id, version)?;
    sent(tx.conn, &agent, id)
}

/// What was sent, or given up, is no draft any more.
pub fn sent(conn: Conn<'_>, agent: &str, id: ConversationId) -> Result<()> {
    conn.write(
        "DELETE FROM draft WHERE conversation = ?1 AND agent = ?2",
        params![id.0, agent],
    )?;
    Ok(())
}

/// Whose the draft is, where it is at the version that its agent has read; 0 for none.
fn at_version(
    tx: &Tx<'_>,
    actor: &Actor,
    id: ConversationId,
    version: Option<i64>,
) -> Result<String> {
    let Some(agent) = actor.agent.clone().filter(|_| actor.role.works()) else {
        return Err(Refusal::Role { role: actor.role }.into());
    };
    let known = find(tx.conn, &tx.memory.names, actor, id)?;
    let current = known.map_or(0, |known| known.version);
    match version {
        Some(given) if given != current => Err(Refusal::Stale { current, given }.into()),
        _ => Ok(agent),
    }
}
