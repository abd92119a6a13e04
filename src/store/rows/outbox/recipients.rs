//! How far a message of several recipients got with each. Rows are written with the message; what
//! they say differs from the message's own delivery only once somebody said so.

use connector_api::{Recipient, RefusedRecipient};

use crate::conversation::Delivery;
use crate::conversation::receipt::Reached;
use crate::ids::MessageId;
use crate::router::effects::RecipientChange;
use crate::store::sql::{self, Conn, params};
use crate::store::{Destination, StoreError, StoredRecipient};

/// Notes whom a message goes to, where these are several.
pub fn note(
    conn: Conn<'_>,
    message: MessageId,
    to: &Destination,
    at: i64,
) -> Result<(), StoreError> {
    let first = to.first();
    let all = std::iter::once(&first)
        .chain(&to.also_to)
        .chain(&to.cc)
        .chain(&to.bcc);
    let mut several: Vec<(u16, &Recipient)> = Vec::new();
    for (place, recipient) in (1..).zip(all) {
        if !several
            .iter()
            .any(|(_, known)| known.address == recipient.address)
        {
            several.push((place, recipient));
        }
    }
    if several.len() < 2 {
        return Ok(());
    }
    let mut insert = conn
        .prepare("INSERT INTO recipient (message, place, address, at) VALUES (?1, ?2, ?3, ?4)")?;
    for (place, recipient) in several {
        insert.execute(params![message.0, place, recipient.address, at])?;
    }
    Ok(())
}

/// Those of a message that has several.
pub fn of(conn: Conn<'_>, message: MessageId) -> sql::Result<Vec<Reached>> {
    conn.prepare(
        "SELECT place, address, delivery FROM recipient WHERE message = ?1 ORDER BY place",
    )?
    .query_map([message.0], |row| {
        Ok(Reached {
            place: row.get(0)?,
            address: row.get(1)?,
            delivery: row.get::<Option<i64>>(2)?.and_then(Delivery::from_code),
        })
    })?
    .collect()
}

/// The same of many messages, in order.
pub fn of_each(
    conn: Conn<'_>,
    messages: &[MessageId],
    mut take: impl FnMut(MessageId, Reached),
) -> sql::Result<()> {
    let sql =
        "SELECT message, place, address, delivery FROM recipient WHERE message = ?1 ORDER BY place";
    let mut asked = conn.read_each(sql, |_, row| {
        let reached = Reached {
            place: row.get(1)?,
            address: row.get(2)?,
            delivery: row.get::<Option<i64>>(3)?.and_then(Delivery::from_code),
        };
        take(MessageId(row.get(0)?), reached);
        Ok(())
    })?;
    for message in messages {
        asked.add([message.0])?;
    }
    asked.done()
}

/// The same with the reasons, for whoever reads the message.
pub fn stored(conn: Conn<'_>, message: MessageId) -> sql::Result<Vec<StoredRecipient>> {
    conn.prepare(
        "SELECT address, delivery, reason FROM recipient WHERE message = ?1 ORDER BY place",
    )?
    .query_map([message.0], |row| {
        Ok(StoredRecipient {
            address: row.get(0)?,
            delivery: row.get::<Option<i64>>(1)?.and_then(Delivery::from_code),
            reason: row.get(2)?,
        })
    })?
    .collect()
}

/// Writes what a receipt said of one of them.
pub fn write(conn: Conn<'_>, change: &RecipientChange) -> Result<(), StoreError> {
    conn.write(
        "UPDATE recipient SET delivery = coalesce(?3, delivery), reason = ?4, at = ?5
         WHERE message = ?1 AND place = ?2",
        params![
            change.message.0,
            change.place,
            change.delivery.map(Delivery::code),
            change.reason,
            change.at
        ],
    )?;
    Ok(())
}

/// Writes whom the provider would not take a message for, and of whom nobody knows.
pub fn refuse(
    conn: Conn<'_>,
    message: MessageId,
    refused: &[RefusedRecipient],
    at: i64,
) -> Result<(), StoreError> {
    let mut update = conn.prepare(
        "UPDATE recipient SET delivery = ?3, reason = ?4, at = ?5
         WHERE message = ?1 AND lower(address) = lower(?2)",
    )?;
    for one in refused {
        let delivery = match one.unknown {
            true => Delivery::Unknown,
            false => Delivery::Refused,
        };
        let code = delivery.code();
        update.execute(params![message.0, one.address, code, one.reason, at])?;
    }
    Ok(())
}
