//! Legal holds. A contact that is merged, or parted, leaves its hold on both: what has to be kept is never removed
//! because somebody was taken for somebody else.

use connector_api::Timestamp;

use crate::dispatch::privacy::{Refused, may_hold};
use crate::dispatch::{Refusal, surgery};
use crate::ids::ContactId;
use crate::router::effects::{EventType, NewEvent};
use crate::store::privacy::{Hold, Holding};
use crate::store::rows::Tx;
use crate::store::rows::events::write_events;
use crate::store::rows::reading;
use crate::store::sql::{Conn, Optional as _, Row, params};
use crate::store::{Result, StoredContact, sql};

/// Puts it on or lifts it. What is so already is left as it is: a hold keeps who put it on first, and why.
pub fn hold(tx: &mut Tx<'_>, holding: &Holding) -> Result<StoredContact> {
    let names = tx.memory.names.clone();
    may_hold(&holding.actor)?;
    tx.lock_contact(holding.contact)?;
    let found = reading::contact(tx.conn, &names, &holding.actor, holding.contact)?;
    let mut found = found.ok_or(Refusal::NotFound { what: "contact" })?;
    if let Some(into) = found.merged_into {
        return Err(Refusal::from(surgery::Refused::ContactGone { into }).into());
    }
    let kind = match (&holding.reason, &found.hold) {
        (Some(reason), None) => {
            let Holding { who, at, .. } = holding;
            tx.conn.write(
                "INSERT INTO hold (contact, reason, who, at) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
                params![found.id.0, reason, who, at],
            )?;
            EventType::ContactHeld
        }
        (None, Some(_)) => {
            tx.conn
                .write("DELETE FROM hold WHERE contact = ?1", [found.id.0])?;
            EventType::ContactReleased
        }
        _ => return Ok(found),
    };
    found.version += 1;
    tx.conn.write(
        "UPDATE contact SET version = ?1 WHERE id = ?2",
        [found.version, found.id.0],
    )?;
    let mut detail = holding.actor.signature();
    detail["contact"] = found.id.0.into();
    let event = NewEvent::of_contact(kind, found.id, holding.at).with(detail);
    write_events(tx, &[event])?;
    found.hold = of(tx.conn, found.id)?;
    Ok(found)
}

/// The hold on a contact.
pub fn of(conn: Conn<'_>, contact: ContactId) -> Result<Option<Hold>> {
    Ok(conn
        .prepare("SELECT reason, who, at FROM hold WHERE contact = ?1")?
        .query_row([contact.0], hold_of)
        .optional()?)
}

/// Why nothing of a contact may be removed: it is held, or somebody is who took part in one of its conversations.
pub fn keeps(conn: Conn<'_>, contact: ContactId) -> Result<Option<Refused>> {
    let refused = |contact, hold: Hold| Refused::OnHold {
        contact,
        reason: hold.reason,
        who: hold.who,
        since: Timestamp::from_microsecond(hold.at).unwrap_or_default(),
    };
    if bug!("legal-hold-ignored") {
        return Ok(None);
    }
    if let Some(hold) = of(conn, contact)? {
        return Ok(Some(refused("this contact", hold)));
    }
    let guest = conn
        .prepare(
            "SELECT hold.reason, hold.who, hold.at FROM conversation
             JOIN guest ON guest.conversation = conversation.id JOIN hold ON hold.contact = guest.contact
             WHERE conversation.contact = ?1 LIMIT 1",
        )?
        .query_row([contact.0], hold_of)
        .optional()?;
    Ok(guest.map(|hold| {
        refused(
            "somebody who took part in a conversation of this contact",
            hold,
        )
    }))
}

fn hold_of(row: &Row<'_>) -> sql::Result<Hold> {
    Ok(Hold {
        reason: row.get(0)?,
        who: row.get(1)?,
        at: row.get(2)?,
    })
}

/// The condition under which a conversation is nobody's who is held.
pub const NOT_HELD: &str = "NOT EXISTS (SELECT 1 FROM hold WHERE hold.contact = conversation.contact)
    AND NOT EXISTS (SELECT 1 FROM guest JOIN hold ON hold.contact = guest.contact WHERE guest.conversation = conversation.id)";

/// What is kept of one is kept of the other, too: these were one, or are.
pub fn share(conn: Conn<'_>, one: i64, other: i64) -> Result<()> {
    for (from, to) in [(one, other), (other, one)] {
        conn.prepare(
            "INSERT INTO hold (contact, reason, who, at) SELECT ?1, reason, who, at FROM hold WHERE contact = ?2
             ON CONFLICT DO NOTHING",
        )?
        .execute([to, from])?;
    }
    Ok(())
}
