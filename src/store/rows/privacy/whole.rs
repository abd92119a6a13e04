//! Reading everything that there is of one person.

use connector_api::Namespace;

use crate::dispatch::privacy::{may_answer_for, operator, reaches};
use crate::dispatch::{Actor, Refusal, surgery};
use crate::ids::{ContactId, ConversationId, MessageId};
use crate::router::facts::Conversation;
use crate::store::macros::StoredDraft;
use crate::store::privacy::{Spoken, WholeContact};
use crate::store::rows::facts::{conversation, from_json};
use crate::store::rows::names::Names;
use crate::store::rows::reading;
use crate::store::sql::{self, Conn, Optional as _, params};
use crate::store::{Result, StoredContact};

/// The contact that stands for a person, where the actor may answer for it. One that only took part in conversations
/// of others is one, too.
pub fn standing(
    conn: Conn<'_>,
    names: &Names,
    actor: &Actor,
    id: ContactId,
) -> Result<StoredContact> {
    let found = reading::contact_row(conn, names, id)?;
    let found = found.filter(|found| reaches(actor, &found.brand));
    let found = found.ok_or(Refusal::NotFound { what: "contact" })?;
    match found.merged_into {
        Some(into) => Err(Refusal::from(surgery::Refused::ContactGone { into }).into()),
        None => Ok(found),
    }
}

/// See [`crate::store::privacy::Privacy::whole_contact`].
pub fn contact(
    conn: Conn<'_>,
    names: &Names,
    actor: &Actor,
    id: ContactId,
) -> Result<WholeContact> {
    may_answer_for(actor)?;
    let contact = standing(conn, names, actor, id)?;
    let mut merged = Vec::new();
    for id in merged_into(conn, id.0)?.into_iter().skip(1) {
        merged.extend(reading::contact_row(conn, names, ContactId(id))?);
    }
    let mut statement = conn.prepare(
        "SELECT namespace, address FROM suggestion WHERE contact = ?1 ORDER BY namespace, address",
    )?;
    let suggestions = statement.query_map([id.0], |row| {
        Ok((Namespace::named(row.get::<String>(0)?), row.get(1)?))
    })?;
    Ok(WholeContact {
        contact,
        merged,
        suggestions: suggestions.collect::<sql::Result<_>>()?,
    })
}

/// A contact and every one that was merged into it, or into one of these.
pub fn merged_into(conn: Conn<'_>, id: i64) -> Result<Vec<i64>> {
    let mut all = vec![id];
    let mut looked = 0;
    while let Some(next) = all.get(looked).copied() {
        looked += 1;
        let mut statement =
            conn.prepare("SELECT id FROM contact WHERE merged_into = ?1 ORDER BY id")?;
        let rows = statement.query_map([next], |row| row.get(0))?;
        all.extend(rows.collect::<sql::Result<Vec<i64>>>()?);
    }
    Ok(all)
}

/// See [`crate::store::privacy::Privacy::took_part`].
pub fn took_part(
    conn: Conn<'_>,
    names: &Names,
    contact: ContactId,
    after: Option<ConversationId>,
    limit: u32,
) -> Result<Vec<Conversation>> {
    let mut statement = conn.prepare(
        "SELECT guest.conversation FROM guest JOIN conversation ON conversation.id = guest.conversation
         WHERE guest.contact = ?1 AND guest.conversation > ?2 AND conversation.contact <> ?1
         ORDER BY guest.conversation LIMIT ?3",
    )?;
    let after = after.map_or(i64::MIN, |after| after.0);
    let rows = statement.query_map(params![contact.0, after, limit], |row| row.get(0))?;
    let ids: Vec<i64> = rows.collect::<sql::Result<_>>()?;
    let mut found = Vec::new();
    for id in ids {
        found.extend(conversation(conn, names, ConversationId(id))?);
    }
    Ok(found)
}

/// See [`crate::store::privacy::Privacy::spoken`].
pub fn spoken(
    conn: Conn<'_>,
    names: &Names,
    id: ConversationId,
    from: Option<MessageId>,
    limit: u32,
) -> Result<Vec<Spoken>> {
    let messages = reading::messages(conn, names, &operator(), id, from, limit)?;
    let mut spoken = Vec::new();
    for message in messages.unwrap_or_default() {
        let author = conn
            .prepare(
                "SELECT identity.contact FROM message JOIN identity ON identity.id = message.identity
                 WHERE message.id = ?1",
            )?
            .query_row([message.id.0], |row| row.get(0))
            .optional()?;
        spoken.push(Spoken {
            author: author.map(ContactId),
            message,
        });
    }
    Ok(spoken)
}

/// See [`crate::store::privacy::Privacy::drafts_in`].
pub fn drafts(conn: Conn<'_>, id: ConversationId) -> Result<Vec<StoredDraft>> {
    let mut statement = conn
        .prepare("SELECT content, version, at FROM draft WHERE conversation = ?1 ORDER BY agent")?;
    let rows = statement.query_map([id.0], |row| {
        Ok(StoredDraft {
            content: from_json(0, &row.get::<String>(0)?)?,
            version: row.get(1)?,
            at: row.get(2)?,
        })
    })?;
    Ok(rows.collect::<sql::Result<_>>()?)
}
