//! Merging two contacts, by evidence or by a person.

pub mod parting;

use serde::{Deserialize, Serialize};

use crate::dispatch::surgery::{self, CONVERSATIONS_MAX, Refused};
use crate::dispatch::{Actor, Refusal};
use crate::ids::{ContactId, ConversationId};
use crate::router::Effects;
use crate::router::effects::{EventType, Merge, NewEvent};
use crate::router::facts::Facts;
use crate::router::identify::link;
use crate::store::StoredContact;
use crate::store::rows::Tx;
use crate::store::rows::effects;
use crate::store::rows::events::{new_operation, write_events};
use crate::store::rows::facts::load_contact;
use crate::store::rows::privacy::holds;
use crate::store::rows::reading;
use crate::store::sql::{self, Optional as _};
use crate::store::surgery::{Operated, OperationKind, Order};

use super::{Result, What, by, fresh, insert};

/// What a merge of contacts changed.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Moved {
    identities: Vec<i64>,
    /// With the matter each had: 0 for none.
    conversations: Vec<(i64, i64)>,
    /// The other contact's open conversation without a matter, which may have been given one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    other: Option<i64>,
    /// Those that the other contact did not have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    suggestions: Vec<(String, String)>,
    /// Whether the other contact was verified.
    verified: bool,
    /// Whether a person had told them apart before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    apart: bool,
}

/// Merges `from` into `into` as evidence would: the same decisions about identities and open
/// conversations, in the name of a person.
pub fn merge(tx: &mut Tx<'_>, from: ContactId, into: ContactId, order: &Order) -> Result<Operated> {
    let one = visible(tx, from, &order.actor)?;
    let other = visible(tx, into, &order.actor)?;
    surgery::may_merge_contacts(&order.actor)?;
    fresh(one.version, order.version)?;
    fresh(other.version, order.other_version)?;
    if let Some(into) = one.merged_into.or(other.merged_into) {
        return Err(Refusal::from(Refused::ContactGone { into }).into());
    }
    if from == into {
        return Err(Refusal::from(Refused::Same).into());
    }
    if one.brand != other.brand {
        return Err(Refusal::NotFound { what: "contact" }.into());
    }
    let moving: i64 = tx
        .conn
        .prepare("SELECT count(*) FROM conversation WHERE contact = ?1")?
        .query_row([from.0], |row| row.get(0))?;
    if usize::try_from(moving).unwrap_or(usize::MAX) > CONVERSATIONS_MAX {
        let refused = Refused::TooMany {
            max: CONVERSATIONS_MAX,
            what: "conversations",
            hint: "merge the contacts the other way round",
        };
        return Err(Refusal::from(refused).into());
    }
    let mut facts = Facts::default();
    for contact in [from, into] {
        load_contact(tx.conn, &tx.memory.names, contact, &mut facts)?;
    }
    for conversation in facts.conversations.values() {
        if let Some(contact) = facts.contacts.get_mut(&conversation.contact) {
            contact.conversations.push(conversation.id);
        }
    }
    let mut effects = Effects::default();
    let who = Some(by(&order.actor));
    link(from, into, order.at, who, &mut facts, &mut effects);
    effects::write(tx, &facts, &effects, order.at)?;
    let event = tx
        .conn
        .prepare("SELECT max(event) FROM surgery WHERE one = ?1 AND other = ?2 AND kind = ?3")?
        .query_row(
            [from.0, into.0, OperationKind::MergeContacts.code()],
            |row| row.get(0),
        )?;
    operated(tx, event, OperationKind::MergeContacts, [from, into], order)
}

/// Everything of `from` becomes `into`'s. The conversations that were settled are written after.
/// What moved and what it was is kept, so that it can be undone.
pub fn write_merge(tx: &mut Tx<'_>, merge: &Merge) -> Result<()> {
    let (from, into) = (merge.from.0, merge.into.0);
    let mut moved = read(tx, from, into)?;
    let operation = new_operation(tx)?;
    let event = NewEvent {
        kind: EventType::ContactMerged,
        conversation: None,
        message: None,
        at: merge.at,
        detail: Some(serde_json::json!({
            "operation": operation, "from": from, "into": into,
            "by": if merge.by.is_some() { "person" } else { "evidence" },
            "role": merge.by.as_ref().map(|by| &by.role),
            "agent": merge.by.as_ref().and_then(|by| by.agent.as_ref()),
            "identities": moved.identities.len(), "conversations": moved.conversations.len(),
        })),
    };
    write_events(tx, &[event])?;
    let conn = tx.conn;
    let pair = [into, from];
    conn.prepare("UPDATE identity SET contact = ?1 WHERE contact = ?2")?
        .execute(pair)?;
    // Of two open conversations without a matter one is about to get its own: until its row is
    // written both would stand under the same key, so they move with their own numbers first.
    conn.prepare(
        "UPDATE conversation SET contact = ?1, matter = CASE WHEN matter = 0 AND status < 8 THEN id ELSE matter END,
         version = version + 1 WHERE contact = ?2",
    )?
    .execute(pair)?;
    conn.prepare(
        "INSERT INTO suggestion (contact, namespace, address, at)
         SELECT ?1, namespace, address, at FROM suggestion WHERE contact = ?2 ON CONFLICT DO NOTHING",
    )?
    .execute(pair)?;
    conn.prepare(
        "INSERT INTO guest (contact, conversation) SELECT ?1, conversation FROM guest WHERE contact = ?2 ON CONFLICT DO NOTHING",
    )?
    .execute(pair)?;
    conn.prepare("UPDATE contact SET merged_into = ?1 WHERE id = ?2")?
        .execute(pair)?;
    // One that has a verified identity is a verified contact: a claim gives no right to all of it.
    conn.prepare(
        "UPDATE contact SET verified = 1 WHERE id = ?1 AND (SELECT verified FROM contact WHERE id = ?2) <> 0",
    )?
    .execute(pair)?;
    holds::share(conn, from, into)?;
    moved.apart = conn
        .prepare("DELETE FROM apart WHERE (one = ?1 AND other = ?2) OR (one = ?2 AND other = ?1)")?
        .execute(pair)?
        > 0;
    // Each conversation is another contact's now.
    let updated = moved.conversations.iter().map(|(id, _)| {
        let kind = EventType::ConversationUpdated;
        NewEvent::new(kind, ConversationId(*id), None, merge.at)
    });
    let updated: Vec<NewEvent> = updated.collect();
    write_events(tx, &updated)?;
    let who = merge.by.clone();
    let what = What::Contacts(moved);
    let kind = OperationKind::MergeContacts;
    insert(tx, operation, kind, (from, into), merge.at, who, what)
}

/// What a merge is about to move.
fn read(tx: &Tx<'_>, from: i64, into: i64) -> Result<Moved> {
    let conn = tx.conn;
    let identities = conn
        .prepare("SELECT id FROM identity WHERE contact = ?1")?
        .query_map([from], |row| row.get(0))?
        .collect::<sql::Result<_>>()?;
    let conversations = conn
        .prepare("SELECT id, matter FROM conversation WHERE contact = ?1")?
        .query_map([from], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<sql::Result<_>>()?;
    let other = conn
        .prepare("SELECT id FROM conversation WHERE contact = ?1 AND matter = 0 AND status < 8")?
        .query_row([into], |row| row.get(0))
        .optional()?;
    let suggestions = conn
        .prepare(
            "SELECT namespace, address FROM suggestion WHERE contact = ?1
             EXCEPT SELECT namespace, address FROM suggestion WHERE contact = ?2",
        )?
        .query_map([from, into], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<sql::Result<_>>()?;
    let verified = conn
        .prepare("SELECT verified FROM contact WHERE id = ?1")?
        .query_row([into], |row| row.get(0))?;
    Ok(Moved {
        identities,
        conversations,
        other,
        suggestions,
        verified,
        apart: false,
    })
}

/// The contact, where the actor may see it.
fn visible(tx: &Tx<'_>, id: ContactId, actor: &Actor) -> Result<StoredContact> {
    let found = reading::contact(tx.conn, &tx.memory.names, actor, id)?;
    Ok(found.ok_or(Refusal::NotFound { what: "contact" })?)
}

pub fn operated(
    tx: &Tx<'_>,
    event: i64,
    kind: OperationKind,
    contacts: [ContactId; 2],
    order: &Order,
) -> Result<Operated> {
    let mut seen = Vec::new();
    for id in contacts {
        let contact = reading::contact(tx.conn, &tx.memory.names, &order.actor, id)?;
        seen.extend(contact);
    }
    Ok(Operated {
        event,
        kind,
        conversations: Vec::new(),
        contacts: seen,
        queues: Vec::new(),
    })
}
