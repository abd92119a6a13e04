//! What an answer answers: the last thing a customer said, or what we wrote where none has.

use connector_api::{Automatic, ChannelId, Event, InboundMessage, Namespace, Recipient};

use crate::bus::{Content, decode};
use crate::dispatch::address::Answered;
use crate::ids::{ContactId, MessageId};
use crate::router::effects::Author;
use crate::router::facts::Conversation;
use crate::store::sql::Optional as _;
use crate::store::{Draft, Sending, StoreError};

use super::super::facts::named;
use super::super::outbox;
use crate::store::rows::Tx;

/// Messages back that are looked at for the one to answer.
const ANSWERED_BACK_MAX: usize = 1_000;

/// One message, looked at for whether it is the one.
struct Row {
    prev: Option<i64>,
    author: Author,
    channel: i64,
    /// Of the customer who wrote it.
    from: Option<Recipient>,
    body: Option<Vec<u8>>,
}

/// The message that an answer answers: the last that a person wrote to us, over `on` where a
/// channel is asked for. What a machine wrote is answered only where no person wrote anything, and
/// a conversation that we began goes on to whom it was begun with.
pub fn answered(
    tx: &Tx<'_>,
    found: &Conversation,
    on: Option<&ChannelId>,
) -> Result<Option<(ChannelId, Answered)>, StoreError> {
    let wanted = on.map(|channel| tx.memory.names.id(channel.as_str()));
    let mut next = found.last_message;
    let (mut machine, mut ours) = (None, None);
    for _ in 0..ANSWERED_BACK_MAX {
        let Some(id) = next else { break };
        let Some(row) = row(tx, id)? else { break };
        next = row.prev.map(MessageId);
        if wanted.is_some_and(|wanted| wanted != row.channel) {
            continue;
        }
        match row.author {
            Author::Customer => {
                let Some(automatic) = automatic(&row) else {
                    return said(tx, found, id, row).map(Some);
                };
                if machine.is_none() && automatic != Automatic::Bounce && row.from.is_some() {
                    machine = Some(said(tx, found, id, row)?);
                }
            }
            Author::Agent | Author::Automation if ours.is_none() => {
                ours = written(tx, found, row)?;
            }
            _ => {}
        }
    }
    Ok(machine.or(ours))
}

/// The answer to somebody who has not written over this channel.
pub fn reachable(
    tx: &Tx<'_>,
    found: &Conversation,
    channel: &ChannelId,
    sending: &Sending,
) -> Result<Option<Answered>, StoreError> {
    let Some(to) = known_on(tx, found.contact, channel, sending)? else {
        return Ok(None);
    };
    let number = tx.memory.names.id(channel.as_str());
    let (references, _) = outbox::thread_of(tx.conn, found.last_message, number)?;
    Ok(Some(Answered {
        to,
        others: Vec::new(),
        thread: None,
        references,
        message: None,
    }))
}

/// An address under which a contact is known and that the channel can write to: a verified one
/// first, or one that was claimed over this very channel.
pub fn known_on(
    tx: &Tx<'_>,
    contact: ContactId,
    channel: &ChannelId,
    sending: &Sending,
) -> Result<Option<Recipient>, StoreError> {
    let number = tx.memory.names.id(channel.as_str());
    let mut statement = tx.conn.prepare(
        "SELECT namespace, address, name FROM identity WHERE contact = ?1 AND scope IN (0, ?2)
         ORDER BY scope, at DESC, id DESC LIMIT 100",
    )?;
    let known = statement.query_map([contact.0, number], |row| {
        Ok(Recipient {
            namespace: Namespace::named(row.get::<String>(0)?),
            address: row.get(1)?,
            name: row.get(2)?,
        })
    })?;
    for recipient in known {
        let recipient = recipient?;
        let read = (sending.read)(&recipient.address);
        if read.is_ok_and(|read| read.namespace == recipient.namespace) {
            return Ok(Some(recipient));
        }
    }
    Ok(None)
}

fn row(tx: &Tx<'_>, id: MessageId) -> Result<Option<Row>, StoreError> {
    let found = tx
        .conn
        .prepare(
            "SELECT message.prev, message.author, message.channel, identity.namespace, identity.address,
                    identity.name, body.content
             FROM message LEFT JOIN identity ON identity.id = message.identity
             LEFT JOIN body ON body.id = message.id WHERE message.id = ?1",
        )?
        .query_row([id.0], |row| {
            let namespace: Option<String> = row.get(3)?;
            let address: Option<String> = row.get(4)?;
            let name = row.get(5)?;
            Ok(Row {
                prev: row.get(0)?,
                author: Author::from_code(row.get(1)?),
                channel: row.get(2)?,
                from: namespace.zip(address).map(|(namespace, address)| Recipient {
                    namespace: Namespace::named(namespace),
                    address,
                    name,
                }),
                body: row.get(6)?,
            })
        })
        .optional()?;
    Ok(found)
}

/// What kind of machine wrote a customer's message; `None` for a person.
fn automatic(row: &Row) -> Option<Automatic> {
    match (row.body.as_deref().map(decode), &row.from) {
        // Nobody can be answered who has no address.
        (_, None) => Some(Automatic::Bounce),
        (Some(Content::Envelope(envelope)), _) => envelope.event.automatic,
        _ => None,
    }
}

/// An answer to what a customer said goes where they want it, which intake keeps for verified
/// authors only.
fn said(
    tx: &Tx<'_>,
    found: &Conversation,
    id: MessageId,
    row: Row,
) -> Result<(ChannelId, Answered), StoreError> {
    let gone = || StoreError::Poisoned("a message without an author is answered".to_owned());
    let from = row.from.ok_or_else(gone)?;
    let (own, thread) = outbox::thread_of(tx.conn, Some(id), row.channel)?;
    let (all, _) = outbox::thread_of(tx.conn, found.last_message, row.channel)?;
    let (mut others, mut reply_to) = (Vec::new(), None);
    if let Some(Content::Envelope(envelope)) = row.body.as_deref().map(decode) {
        reply_to = envelope.event.reply_to.clone();
        if let Event::Message(message) = &envelope.event.event {
            others = others_on(message);
        }
    }
    let to = match reply_to {
        // The name is the author's, not that of whoever reads there.
        Some(address) => Recipient {
            address,
            name: None,
            ..from
        },
        None => from,
    };
    Ok((
        named(&tx.memory.names, row.channel)?,
        Answered {
            message: Some(id),
            to,
            others,
            thread,
            references: if all.is_empty() { own } else { all },
        },
    ))
}

fn others_on(message: &InboundMessage) -> Vec<Recipient> {
    let recipient = |other: &connector_api::Participant| Recipient {
        namespace: other.namespace.clone(),
        address: other.address.clone(),
        name: other.name.clone(),
    };
    message.participants.iter().map(recipient).collect()
}

/// What we wrote goes on to whom it went.
fn written(
    tx: &Tx<'_>,
    found: &Conversation,
    row: Row,
) -> Result<Option<(ChannelId, Answered)>, StoreError> {
    let draft = row.body.as_deref();
    let draft = draft.and_then(|body| serde_json::from_slice::<Draft>(body).ok());
    let Some(to) = draft.and_then(|draft| draft.to) else {
        return Ok(None);
    };
    let (references, _) = outbox::thread_of(tx.conn, found.last_message, row.channel)?;
    let answered = Answered {
        message: None,
        to: to.first(),
        others: to.also_to.iter().chain(&to.cc).cloned().collect(),
        thread: to.thread,
        references,
    };
    Ok(Some((named(&tx.memory.names, row.channel)?, answered)))
}
