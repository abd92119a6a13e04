//! Taking the merge of two contacts back.

use std::collections::HashSet;

use crate::dispatch::Refusal;
use crate::dispatch::surgery::{self, Refused};
use crate::ids::{ContactId, ConversationId};
use crate::router::effects::{EventType, NewEvent};
use crate::router::facts::{Link, LinkReason};
use crate::store::StoreError;
use crate::store::rows::Tx;
use crate::store::rows::effects::write_conversation;
use crate::store::rows::events::{new_operation, write_events};
use crate::store::rows::facts::conversation;
use crate::store::rows::privacy::holds;
use crate::store::rows::surgery::{Result, fresh, undo};
use crate::store::sql::{Optional as _, params};
use crate::store::surgery::{Operated, OperationKind, Order, StoredOperation};

use super::{Moved, operated, visible};

/// Undoes the merge that took a contact away.
pub fn unmerge_contact(tx: &mut Tx<'_>, contact: ContactId, order: &Order) -> Result<Operated> {
    let found = visible(tx, contact, &order.actor)?;
    fresh(found.version, order.version)?;
    let missing = Refusal::NotFound {
        what: "merge of this contact",
    };
    let event: Option<i64> = tx
        .conn
        .prepare(
            "SELECT event FROM surgery WHERE one = ?1 AND kind = ?2 AND undone_by IS NULL
             ORDER BY event DESC LIMIT 1",
        )?
        .query_row([contact.0, OperationKind::MergeContacts.code()], |row| {
            row.get(0)
        })
        .optional()?;
    undo::undo(tx, event.ok_or(missing)?, order)
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

    let number = new_operation(tx)?;
    let mut about = serde_json::json!({
        "operation": number, "undoes": operation.event, "from": from, "into": into,
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
    write_events(tx, &[event])?;
    part_contacts(tx, operation, moved, &identities)?;
    part_conversations(tx, from, moved, &since)?;
    settle_other(tx, into, moved)?;
    unlink(tx, &back)?;
    if operation.by.is_none() || moved.apart {
        tx.conn
            .prepare("INSERT INTO apart (one, other) VALUES (?1, ?2) ON CONFLICT DO NOTHING")?
            .execute([from.min(into), from.max(into)])?;
    }
    holds::share(tx.conn, from, into)?;
    // Words of either may be in conversations of the other: both stay as long as those.
    tx.conn
        .prepare(
            "INSERT INTO guest (contact, conversation)
             SELECT ?1, id FROM conversation WHERE contact = ?2 UNION ALL
             SELECT ?2, id FROM conversation WHERE contact = ?1 UNION ALL
             SELECT ?1, conversation FROM guest WHERE contact = ?2 ON CONFLICT DO NOTHING",
        )?
        .execute([from, into])?;
    undo::undone(tx, operation, number, order)?;
    let pair = [from, into].map(ContactId);
    operated(tx, number, OperationKind::Undo, pair, order)
}

/// The identities that go back: those that moved, and those proven together with one of them since.
fn identities_back(
    tx: &Tx<'_>,
    operation: &StoredOperation,
    moved: &Moved,
) -> Result<HashSet<i64>> {
    let mut back: HashSet<i64> = moved.identities.iter().copied().collect();
    let mut statement = tx.conn.prepare(
        "SELECT id, beside FROM identity WHERE contact = ?1 AND at >= ?2 AND beside IS NOT NULL ORDER BY id",
    )?;
    let mut rows = statement.query([operation.other, operation.at])?;
    while let Some(row) = rows.next_row()? {
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
    let mut statement = tx.conn.prepare(
        "SELECT conversation.id, message.identity,
                (SELECT one FROM surgery WHERE other = conversation.id AND kind = ?3 ORDER BY event LIMIT 1)
         FROM conversation LEFT JOIN message ON message.id = conversation.id
         WHERE conversation.contact = ?1 AND coalesce(message.arrived_at, conversation.opened_at) >= ?2
         ORDER BY conversation.id",
    )?;
    let mut rows = statement.query([operation.other, operation.at, OperationKind::Split.code()])?;
    while let Some(row) = rows.next_row()? {
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
        .prepare(
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
    let mut statement = tx.conn.prepare(
        "SELECT event, other FROM surgery WHERE one = ?1 AND event > ?2 AND undone_by IS NULL AND kind < 3
         UNION ALL
         SELECT event, one FROM surgery WHERE other = ?1 AND event > ?2 AND undone_by IS NULL AND kind < 3",
    )?;
    for conversation in back {
        let mut rows = statement.query([*conversation, operation.event])?;
        while let Some(row) = rows.next_row()? {
            if !back.contains(&row.get(1)?) {
                latest = latest.max(Some(row.get::<i64>(0)?));
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
        conn.prepare("UPDATE identity SET contact = ?1 WHERE id = ?2 AND contact = ?3")?
            .execute([from, *identity, into])?;
    }
    for (namespace, address) in &moved.suggestions {
        conn.prepare(
            "DELETE FROM suggestion WHERE contact = ?1 AND namespace = ?2 AND address = ?3",
        )?
        .execute(params![into, namespace, address])?;
    }
    conn.prepare("UPDATE contact SET merged_into = NULL, version = version + 1 WHERE id = ?1")?
        .execute([from])?;
    // Verified it stays by what proved it since.
    conn.prepare(
        "UPDATE contact SET version = version + 1, verified = CASE WHEN ?2 <> 0 OR EXISTS (
           SELECT 1 FROM identity WHERE contact = ?1 AND method <> 'claimed') THEN 1 ELSE 0 END WHERE id = ?1",
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
            .prepare("SELECT matter FROM conversation WHERE id = ?1")?
            .query_row([id], |row| row.get(0))?;
        back.push((*id, matter));
    }
    for (id, _) in &back {
        tx.conn
            .prepare(
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
        .prepare("UPDATE conversation SET version = version + 1 WHERE id = ?1 AND contact = ?2 AND matter = id")?
        .execute([other, into])?;
    match given {
        0 => Ok(()),
        _ => give_matter(tx, other, 0),
    }
}

fn give_matter(tx: &Tx<'_>, id: i64, matter: i64) -> Result<()> {
    tx.conn
        .prepare(
            "UPDATE conversation SET matter = ?2 WHERE id = ?1 AND (?2 <> 0 OR status >= 8 OR NOT EXISTS (
               SELECT 1 FROM conversation AS open
               WHERE open.contact = conversation.contact AND open.matter = 0 AND open.status < 8 AND open.id <> ?1))",
        )?
        .execute([id, matter])?;
    Ok(())
}

/// Takes away the links that say that the two contacts are one.
fn unlink(tx: &mut Tx<'_>, back: &HashSet<i64>) -> Result<()> {
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
        write_conversation(tx, &found, false)?;
        for link in gone {
            if others.insert(link.conversation) {
                next.push(link.conversation);
            }
        }
    }
    Ok(())
}
