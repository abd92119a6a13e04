//! Merging two contacts, by evidence or by a person, and taking that back.

use std::collections::HashSet;

use rusqlite::{OptionalExtension, params};
use serde::{Deserialize, Serialize};

use crate::dispatch::surgery::{self, CONVERSATIONS_MAX, Refused};
use crate::dispatch::{Actor, Refusal};
use crate::ids::{ContactId, ConversationId};
use crate::router::Effects;
use crate::router::effects::{EventType, Merge, NewEvent};
use crate::router::facts::{Facts, Link, LinkReason};
use crate::router::identify::link;
use crate::store::sqlite::effects::{self, write_conversation, write_events};
use crate::store::sqlite::facts::{conversation, load_contact};
use crate::store::sqlite::reading;
use crate::store::sqlite::writer::Tx;
use crate::store::surgery::{Operated, OperationKind, Order, StoredOperation};
use crate::store::{StoreError, StoredContact};

use super::{Result, What, by, fresh, insert, undo};

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
        .prepare_cached("SELECT count(*) FROM conversation WHERE contact = ?1")?
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
    // Of the events of a link the merge's is the first.
    let event = tx.memory.next_seq + 1;
    effects::write(tx, &facts, &effects, order.at)?;
    operated(tx, event, OperationKind::MergeContacts, [from, into], order)
}

/// Everything of `from` becomes `into`'s. The conversations that were settled are written after.
/// What moved and what it was is kept, so that it can be undone.
pub fn write_merge(tx: &mut Tx<'_>, merge: &Merge) -> Result<()> {
    let (from, into) = (merge.from.0, merge.into.0);
    let mut moved = read(tx, from, into)?;
    let event = NewEvent {
        kind: EventType::ContactMerged,
        conversation: None,
        message: None,
        at: merge.at,
        detail: Some(serde_json::json!({
            "operation": tx.memory.next_seq + 1, "from": from, "into": into,
            "by": if merge.by.is_some() { "person" } else { "evidence" },
            "role": merge.by.as_ref().map(|by| &by.role),
            "agent": merge.by.as_ref().and_then(|by| by.agent.as_ref()),
            "identities": moved.identities.len(), "conversations": moved.conversations.len(),
        })),
    };
    write_events(tx.conn, tx.memory, &[event])?;
    let conn = tx.conn;
    let pair = [into, from];
    conn.prepare_cached("UPDATE identity SET contact = ?1 WHERE contact = ?2")?
        .execute(pair)?;
    // Of two open conversations without a matter one is about to get its own: until its row is
    // written both would stand under the same key, so they move with their own numbers first.
    conn.prepare_cached(
        "UPDATE conversation SET contact = ?1, matter = CASE WHEN matter = 0 AND status < 8 THEN id ELSE matter END,
         version = version + 1 WHERE contact = ?2",
    )?
    .execute(pair)?;
    conn.prepare_cached(
        "INSERT OR IGNORE INTO suggestion (contact, namespace, address, at)
         SELECT ?1, namespace, address, at FROM suggestion WHERE contact = ?2",
    )?
    .execute(pair)?;
    conn.prepare_cached(
        "INSERT OR IGNORE INTO guest (contact, conversation) SELECT ?1, conversation FROM guest WHERE contact = ?2",
    )?
    .execute(pair)?;
    conn.prepare_cached("UPDATE contact SET merged_into = ?1 WHERE id = ?2")?
        .execute(pair)?;
    // One that has a verified identity is a verified contact: a claim gives no right to all of it.
    conn.prepare_cached(
        "UPDATE contact SET verified = 1 WHERE id = ?1 AND (SELECT verified FROM contact WHERE id = ?2)",
    )?
    .execute(pair)?;
    moved.apart = conn
        .prepare_cached("DELETE FROM apart WHERE one = min(?1, ?2) AND other = max(?1, ?2)")?
        .execute(pair)?
        > 0;
    let event = tx.memory.next_seq;
    // Each conversation is another contact's now.
    let updated = moved.conversations.iter().map(|(id, _)| {
        let kind = EventType::ConversationUpdated;
        NewEvent::new(kind, ConversationId(*id), None, merge.at)
    });
    let updated: Vec<NewEvent> = updated.collect();
    write_events(tx.conn, tx.memory, &updated)?;
    let who = merge.by.clone();
    let what = What::Contacts(moved);
    let kind = OperationKind::MergeContacts;
    insert(tx, event, kind, (from, into), merge.at, who, what)
}

/// What a merge is about to move.
fn read(tx: &Tx<'_>, from: i64, into: i64) -> Result<Moved> {
    let conn = tx.conn;
    let identities = conn
        .prepare_cached("SELECT id FROM identity WHERE contact = ?1")?
        .query_map([from], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let conversations = conn
        .prepare_cached("SELECT id, matter FROM conversation WHERE contact = ?1")?
        .query_map([from], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let other = conn
        .prepare_cached(
            "SELECT id FROM conversation WHERE contact = ?1 AND matter = 0 AND status < 8",
        )?
        .query_row([into], |row| row.get(0))
        .optional()?;
    let suggestions = conn
        .prepare_cached(
            "SELECT namespace, address FROM suggestion WHERE contact = ?1
             EXCEPT SELECT namespace, address FROM suggestion WHERE contact = ?2",
        )?
        .query_map([from, into], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let verified = conn
        .prepare_cached("SELECT verified FROM contact WHERE id = ?1")?
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

/// Undoes the merge that took a contact away.
pub fn unmerge_contact(tx: &mut Tx<'_>, contact: ContactId, order: &Order) -> Result<Operated> {
    let found = visible(tx, contact, &order.actor)?;
    fresh(found.version, order.version)?;
    let missing = Refusal::NotFound {
        what: "merge of this contact",
    };
    let event: Option<i64> = tx
        .conn
        .prepare_cached(
            "SELECT event FROM surgery WHERE one = ?1 AND kind = ?2 AND undone_by IS NULL
             ORDER BY event DESC LIMIT 1",
        )?
        .query_row([contact.0, OperationKind::MergeContacts.code()], |row| {
            row.get(0)
        })
        .optional()?;
    super::undo(tx, event.ok_or(missing)?, order)
}

/// Takes a merge back. What came since belongs to the contact whose identity brought it: an
/// identity to the one that it was proven together with, a conversation to whoever founded it, one
/// that was split off to where it came from. The rest belongs to the contact that goes on.
pub fn unmerge(
    tx: &mut Tx<'_>,
    operation: &StoredOperation,
    moved: &Moved,
    order: &Order,
) -> Result<Operated> {
    let (from, into) = (operation.one, operation.other);
    visible(tx, ContactId(into), &order.actor)
        .map_err(|_| StoreError::from(Refusal::NotFound { what: "operation" }))?;
    surgery::may_merge_contacts(&order.actor)?;
    if let Some(by) = operation.undone_by {
        return Err(Refusal::from(Refused::AlreadyUndone { by }).into());
    }
    let identities = identities_back(tx, operation, moved)?;
    let since = opened_since(tx, operation, moved, &identities)?;
    let back: HashSet<i64> = (moved.conversations.iter().map(|(id, _)| *id))
        .chain(since.iter().copied())
        .collect();
    if let Some(event) = built_upon(tx, operation, &back)? {
        return Err(Refusal::from(Refused::UndoFirst { event }).into());
    }

    let mut about = serde_json::json!({
        "operation": tx.memory.next_seq + 1, "undoes": operation.event, "from": from, "into": into,
        "role": order.actor.role.as_str(),
    });
    order.actor.sign(&mut about);
    let event = NewEvent {
        kind: EventType::OperationUndone,
        conversation: None,
        message: None,
        at: order.at,
        detail: Some(about),
    };
    write_events(tx.conn, tx.memory, &[event])?;
    let event = tx.memory.next_seq;
    part_contacts(tx, operation, moved, &identities)?;
    part_conversations(tx, from, moved, &since)?;
    settle_other(tx, into, moved)?;
    unlink(tx, &back)?;
    if operation.by.is_none() || moved.apart {
        tx.conn
            .prepare_cached(
                "INSERT OR IGNORE INTO apart (one, other) VALUES (min(?1, ?2), max(?1, ?2))",
            )?
            .execute([from, into])?;
    }
    // Words of either may be in conversations of the other: both stay as long as those.
    tx.conn
        .prepare_cached(
            "INSERT OR IGNORE INTO guest (contact, conversation)
             SELECT ?1, id FROM conversation WHERE contact = ?2 UNION ALL
             SELECT ?2, id FROM conversation WHERE contact = ?1 UNION ALL
             SELECT ?1, conversation FROM guest WHERE contact = ?2",
        )?
        .execute([from, into])?;
    undo::undone(tx, operation, event, order)?;
    let pair = [from, into].map(ContactId);
    operated(tx, event, OperationKind::Undo, pair, order)
}

/// The identities that go back: those that moved, and those proven together with one of them since.
fn identities_back(
    tx: &Tx<'_>,
    operation: &StoredOperation,
    moved: &Moved,
) -> Result<HashSet<i64>> {
    let mut back: HashSet<i64> = moved.identities.iter().copied().collect();
    let mut statement = tx.conn.prepare_cached(
        "SELECT id, beside FROM identity WHERE contact = ?1 AND at >= ?2 AND beside IS NOT NULL ORDER BY id",
    )?;
    let mut rows = statement.query([operation.other, operation.at])?;
    while let Some(row) = rows.next()? {
        if back.contains(&row.get(1)?) {
            back.insert(row.get(0)?);
        }
    }
    Ok(back)
}

/// The conversations of the contact that were opened since and go back, oldest first. History that
/// came since was opened since, whenever it was written.
fn opened_since(
    tx: &Tx<'_>,
    operation: &StoredOperation,
    moved: &Moved,
    identities: &HashSet<i64>,
) -> Result<Vec<i64>> {
    let mut back: HashSet<i64> = moved.conversations.iter().map(|(id, _)| *id).collect();
    let mut since = Vec::new();
    let mut statement = tx.conn.prepare_cached(
        "SELECT conversation.id, message.identity,
                (SELECT one FROM surgery WHERE other = conversation.id AND kind = ?3 ORDER BY event LIMIT 1)
         FROM conversation LEFT JOIN message ON message.id = conversation.id
         WHERE conversation.contact = ?1 AND coalesce(message.arrived_at, conversation.opened_at) >= ?2
         ORDER BY conversation.id",
    )?;
    let mut rows = statement.query([operation.other, operation.at, OperationKind::Split.code()])?;
    while let Some(row) = rows.next()? {
        let id: i64 = row.get(0)?;
        let (founder, source): (Option<i64>, Option<i64>) = (row.get(1)?, row.get(2)?);
        let goes = founder.is_some_and(|founder| identities.contains(&founder))
            || source.is_some_and(|source| back.contains(&source));
        if goes && back.insert(id) {
            since.push(id);
        }
    }
    Ok(since)
}

/// The operation that has to be undone first: the contact was merged on, or conversations of both
/// contacts were made one.
fn built_upon(
    tx: &Tx<'_>,
    operation: &StoredOperation,
    back: &HashSet<i64>,
) -> Result<Option<i64>> {
    let merged_on: Option<i64> = tx
        .conn
        .prepare_cached(
            "SELECT event FROM surgery WHERE one = ?1 AND kind = ?2 AND undone_by IS NULL AND event > ?3
             ORDER BY event DESC LIMIT 1",
        )?
        .query_row(
            [operation.other, OperationKind::MergeContacts.code(), operation.event],
            |row| row.get(0),
        )
        .optional()?;
    if merged_on.is_some() {
        return Ok(merged_on);
    }
    let mut latest = None;
    let mut statement = tx.conn.prepare_cached(
        "SELECT event, other FROM surgery WHERE one = ?1 AND event > ?2 AND undone_by IS NULL AND kind < 3
         UNION ALL
         SELECT event, one FROM surgery WHERE other = ?1 AND event > ?2 AND undone_by IS NULL AND kind < 3",
    )?;
    for conversation in back {
        let mut rows = statement.query([*conversation, operation.event])?;
        while let Some(row) = rows.next()? {
            if !back.contains(&row.get(1)?) {
                latest = latest.max(Some(row.get::<_, i64>(0)?));
            }
        }
    }
    Ok(latest)
}

fn part_contacts(
    tx: &Tx<'_>,
    operation: &StoredOperation,
    moved: &Moved,
    identities: &HashSet<i64>,
) -> Result<()> {
    let conn = tx.conn;
    let (from, into) = (operation.one, operation.other);
    for identity in identities {
        conn.prepare_cached("UPDATE identity SET contact = ?1 WHERE id = ?2 AND contact = ?3")?
            .execute([from, *identity, into])?;
    }
    for (namespace, address) in &moved.suggestions {
        conn.prepare_cached(
            "DELETE FROM suggestion WHERE contact = ?1 AND namespace = ?2 AND address = ?3",
        )?
        .execute(params![into, namespace, address])?;
    }
    conn.prepare_cached(
        "UPDATE contact SET merged_into = NULL, version = version + 1 WHERE id = ?1",
    )?
    .execute([from])?;
    // Verified it stays by what proved it since.
    conn.prepare_cached(
        "UPDATE contact SET version = version + 1, verified = ?2 OR EXISTS (
           SELECT 1 FROM identity WHERE contact = ?1 AND method <> 'claimed') WHERE id = ?1",
    )?
    .execute(params![into, moved.verified])?;
    Ok(())
}

/// Gives conversations back with the matters they had; one that would be the second open one
/// without a matter keeps its own.
fn part_conversations(tx: &Tx<'_>, from: i64, moved: &Moved, since: &[i64]) -> Result<()> {
    let mut back = moved.conversations.clone();
    for id in since {
        let matter: i64 = tx
            .conn
            .prepare_cached("SELECT matter FROM conversation WHERE id = ?1")?
            .query_row([id], |row| row.get(0))?;
        back.push((*id, matter));
    }
    for (id, _) in &back {
        tx.conn
            .prepare_cached(
                "UPDATE conversation SET contact = ?1, version = version + 1,
                 matter = CASE WHEN matter = 0 AND status < 8 THEN id ELSE matter END WHERE id = ?2",
            )?
            .execute([from, *id])?;
    }
    for (id, matter) in &back {
        give_matter(tx, *id, *matter)?;
    }
    Ok(())
}

fn settle_other(tx: &Tx<'_>, into: i64, moved: &Moved) -> Result<()> {
    let Some(other) = moved.other else {
        return Ok(());
    };
    let given = tx
        .conn
        .prepare_cached("UPDATE conversation SET version = version + 1 WHERE id = ?1 AND contact = ?2 AND matter = id")?
        .execute([other, into])?;
    match given {
        0 => Ok(()),
        _ => give_matter(tx, other, 0),
    }
}

fn give_matter(tx: &Tx<'_>, id: i64, matter: i64) -> Result<()> {
    tx.conn
        .prepare_cached(
            "UPDATE conversation SET matter = ?2 WHERE id = ?1 AND (?2 <> 0 OR status >= 8 OR NOT EXISTS (
               SELECT 1 FROM conversation AS open
               WHERE open.contact = conversation.contact AND open.matter = 0 AND open.status < 8 AND open.id <> ?1))",
        )?
        .execute([id, matter])?;
    Ok(())
}

/// Takes away the links that say that the two contacts are one.
fn unlink(tx: &Tx<'_>, back: &HashSet<i64>) -> Result<()> {
    let across = |id: ConversationId, link: &Link| {
        link.reason == LinkReason::SamePerson
            && back.contains(&id.0) != back.contains(&link.conversation.0)
    };
    let mut others = HashSet::new();
    let mut next: Vec<ConversationId> = back.iter().map(|id| ConversationId(*id)).collect();
    while let Some(id) = next.pop() {
        let Some(mut found) = conversation(tx.conn, &tx.memory.names, id)? else {
            continue;
        };
        let links = found.detail.links.iter();
        let gone: Vec<Link> = links.filter(|link| across(id, link)).copied().collect();
        if gone.is_empty() {
            continue;
        }
        found.detail.links.retain(|link| !across(id, link));
        found.version += 1;
        write_conversation(tx.conn, &tx.memory.names, &found, false)?;
        for link in gone {
            if others.insert(link.conversation) {
                next.push(link.conversation);
            }
        }
    }
    Ok(())
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
