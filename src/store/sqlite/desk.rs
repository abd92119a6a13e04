//! What agents do: claims, replies, notes, ends. One transaction each; the decision is `dispatch`'s.

use std::collections::HashMap;

use rusqlite::{OptionalExtension, params};

use connector_api::{Automatic, Capabilities, ChannelId, Namespace, QueueId};

use crate::bus::{Content, decode};
use crate::conversation::Status;
use crate::dispatch::fit::fit;
use crate::dispatch::{self, Action, Actor, Refusal};
use crate::ids::{ConversationId, IdSource, MessageId};
use crate::router::effects::{Author, EventType, NewEvent};
use crate::router::facts::Conversation;
use crate::store::{Destination, Draft, NewReply, StoreError};

use super::effects::{write_conversation, write_events};
use super::facts::{conversation, named};
use super::outbox;
use super::writer::Tx;

/// How many waiting rows are looked at for one that the actor may take.
const CLAIM_LOOKAHEAD: i64 = 100;
/// Messages back that are looked at for the one to answer.
const ANSWERED_BACK_MAX: usize = 1_000;

/// Gives the first of the queue to the actor, in the transaction that read it: two agents never
/// get one conversation.
pub fn claim(
    tx: &mut Tx<'_>,
    queue: &QueueId,
    actor: &Actor,
    now: i64,
) -> Result<Option<Conversation>, StoreError> {
    if !actor.may_use_queue(queue) {
        return Err(Refusal::NotFound { what: "queue" }.into());
    }
    let number = tx.memory.names.id(queue.as_str());
    let brands: Vec<String> = actor
        .brands
        .iter()
        .map(|brand| tx.memory.names.id(brand.as_str()).to_string())
        .collect();
    let sql = match brands.is_empty() {
        true => "SELECT id FROM waiting WHERE queue = ?1 ORDER BY fit_class, rank, id LIMIT ?2"
            .to_owned(),
        false => format!(
            "SELECT waiting.id FROM waiting JOIN conversation ON conversation.id = waiting.id
             WHERE waiting.queue = ?1 AND conversation.brand IN ({})
             ORDER BY waiting.fit_class, waiting.rank, waiting.id LIMIT ?2",
            brands.join(",")
        ),
    };
    let mut statement = tx.conn.prepare_cached(&sql)?;
    let mut waiting = statement.query([number, CLAIM_LOOKAHEAD])?;
    while let Some(row) = waiting.next()? {
        let id = ConversationId(row.get(0)?);
        let Some(mut found) = conversation(tx.conn, &tx.memory.names, id)? else {
            continue;
        };
        if found.status != Status::Queued {
            continue;
        }
        let event = dispatch::claim(&mut found, actor)?;
        drop(waiting);
        drop(statement);
        write_conversation(tx.conn, &tx.memory.names, &found, false)?;
        let detail = serde_json::json!({ "agent": found.assignee });
        write_events(
            tx.conn,
            tx.memory,
            &[event_of(event, id, now, Some(detail))],
        )?;
        return Ok(Some(found));
    }
    // An agent without a name cannot hold anything: say so even when nothing waits.
    if !actor.role.works() || actor.agent.is_none() {
        return Err(Refusal::Role { role: actor.role }.into());
    }
    Ok(None)
}

pub fn act(
    tx: &mut Tx<'_>,
    id: ConversationId,
    actor: &Actor,
    action: Action,
    version: Option<i64>,
    now: i64,
) -> Result<Conversation, StoreError> {
    let mut found = visible(tx, id, actor, version)?;
    if let Some(event) = dispatch::act(&mut found, actor, action, now)? {
        if action == Action::Reopen && found.matter.is_none() && has_other_open(tx, &found)? {
            found.matter = Some(found.founding_message());
        }
        write_conversation(tx.conn, &tx.memory.names, &found, false)?;
        let detail = serde_json::json!({ "agent": actor.agent });
        write_events(
            tx.conn,
            tx.memory,
            &[event_of(event, id, now, Some(detail))],
        )?;
    }
    Ok(found)
}

pub fn has_other_open(tx: &Tx<'_>, conversation: &Conversation) -> Result<bool, StoreError> {
    let mut statement = tx.conn.prepare_cached(
        "SELECT 1 FROM conversation WHERE contact = ?1 AND matter = 0 AND status < 8 AND id <> ?2",
    )?;
    Ok(statement.exists([conversation.contact.0, conversation.id.0])?)
}

/// The conversation, where the actor may see it and it is at the version the caller knows.
fn visible(
    tx: &Tx<'_>,
    id: ConversationId,
    actor: &Actor,
    version: Option<i64>,
) -> Result<Conversation, StoreError> {
    let found = conversation(tx.conn, &tx.memory.names, id)?;
    let found = found
        .filter(|found| actor.may_see(found))
        .ok_or(Refusal::NotFound {
            what: "conversation",
        })?;
    match version {
        Some(given) if given != found.version => Err(Refusal::Stale {
            current: found.version,
            given,
        }
        .into()),
        _ => Ok(found),
    }
}

/// Accepts a reply: message, outbox row and the kept answer of its `Idempotency-Key`, at once.
/// `senders` are the channels that can send; `None` where that is not known.
pub fn reply(
    tx: &mut Tx<'_>,
    reply: &NewReply,
    senders: Option<&HashMap<ChannelId, Capabilities>>,
) -> Result<MessageId, StoreError> {
    if let Some(known) = kept_answer(tx, reply.idempotency.as_ref(), reply.at)? {
        return Ok(known);
    }
    let mut found = visible(tx, reply.conversation, &reply.actor, reply.version)?;
    dispatch::act(&mut found, &reply.actor, Action::Reply, reply.at)?;
    let (channel, to) = destination(tx, &found)?;
    if let Some(senders) = senders {
        let Some(can) = senders.get(&channel) else {
            let reason = format!("the channel {channel} cannot send");
            return Err(Refusal::NotAnswerable { reason }.into());
        };
        let heard_at = match can.reply_window {
            Some(window) => outbox::heard::heard_at(tx, found.id, &channel, &to, window, reply.at)?,
            None => None,
        };
        fit(&channel, can, &reply.text, heard_at, reply.at)?;
    }
    let draft = Draft {
        text: reply.text.clone(),
        to: Some(to),
        automatic: false,
    };
    let number = tx.memory.names.id(channel.as_str());
    append(tx, &mut found, reply, Author::Agent, number, &draft)
}

/// Files an agent's note; it never leaves.
pub fn note(tx: &mut Tx<'_>, note: &NewReply) -> Result<MessageId, StoreError> {
    if let Some(known) = kept_answer(tx, note.idempotency.as_ref(), note.at)? {
        return Ok(known);
    }
    let mut found = visible(tx, note.conversation, &note.actor, note.version)?;
    dispatch::act(&mut found, &note.actor, Action::Note, note.at)?;
    let draft = Draft {
        text: note.text.clone(),
        to: None,
        automatic: false,
    };
    append(tx, &mut found, note, Author::Note, 0, &draft)
}

fn append(
    tx: &mut Tx<'_>,
    found: &mut Conversation,
    reply: &NewReply,
    author: Author,
    channel: i64,
    draft: &Draft,
) -> Result<MessageId, StoreError> {
    let id = MessageId(tx.memory.next());
    found.last_seq += 1;
    let prev = found.last_message.replace(id);
    found.version += 1;
    let new = outbox::NewOutbound {
        id,
        conversation: found.id,
        seq: found.last_seq,
        prev,
        author,
        agent: reply.actor.agent.as_deref(),
        channel,
        draft,
        at: reply.at,
    };
    outbox::insert(tx.conn, &new)?;
    write_conversation(tx.conn, &tx.memory.names, found, false)?;
    keep_answer(tx, reply.idempotency.as_ref(), id, reply.at)?;
    let mut event = event_of(EventType::MessageCreated, found.id, reply.at, None);
    event.message = Some(id);
    write_events(tx.conn, tx.memory, &[event])?;
    Ok(id)
}

/// Remembers the message that a request with this key was about.
pub fn keep_answer(
    tx: &Tx<'_>,
    idempotency: Option<&(Vec<u8>, Vec<u8>)>,
    id: MessageId,
    at: i64,
) -> Result<(), StoreError> {
    if let Some((key, fingerprint)) = idempotency {
        tx.conn
            .prepare_cached(
                "INSERT OR REPLACE INTO idempotency (key, fingerprint, status, answer, at) VALUES (?1, ?2, 202, ?3, ?4)",
            )?
            .execute(params![key, fingerprint, id.0.to_be_bytes().as_slice(), at])?;
    }
    Ok(())
}

/// The message an earlier request with this key was about; another request under it is refused.
pub fn kept_answer(
    tx: &Tx<'_>,
    idempotency: Option<&(Vec<u8>, Vec<u8>)>,
    at: i64,
) -> Result<Option<MessageId>, StoreError> {
    let Some((key, fingerprint)) = idempotency else {
        return Ok(None);
    };
    let kept = i64::try_from(crate::store::IDEMPOTENCY_KEPT.as_micros()).unwrap_or(i64::MAX);
    let row = tx
        .conn
        .prepare_cached("SELECT fingerprint, answer FROM idempotency WHERE key = ?1 AND at > ?2")?
        .query_row(params![key, at - kept], |row| {
            Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Vec<u8>>(1)?))
        })
        .optional()?;
    let Some((known, answer)) = row else {
        return Ok(None);
    };
    if known != *fingerprint {
        return Err(Refusal::KeyReused.into());
    }
    let number = answer
        .iter()
        .fold(0, |number: i64, byte| number << 8 | i64::from(*byte));
    Ok(Some(MessageId(number)))
}

/// Where an answer goes: to whoever wrote last, on the channel they wrote on.
fn destination(tx: &Tx<'_>, found: &Conversation) -> Result<(ChannelId, Destination), StoreError> {
    let mut next = found.last_message;
    // What a machine wrote is answered only where no person wrote anything.
    let mut machine = None;
    for _ in 0..ANSWERED_BACK_MAX {
        let Some(id) = next else { break };
        let row = tx
            .conn
            .prepare_cached(
                "SELECT message.prev, message.author, message.channel, identity.namespace, identity.address,
                        identity.name, body.content
                 FROM message LEFT JOIN identity ON identity.id = message.identity
                 LEFT JOIN body ON body.id = message.id WHERE message.id = ?1",
            )?
            .query_row([id.0], |row| {
                Ok((
                    row.get::<_, Option<i64>>(0)?,
                    Author::from_code(row.get(1)?),
                    row.get::<_, i64>(2)?,
                    row.get::<_, Option<String>>(3)?,
                    row.get::<_, Option<String>>(4)?,
                    row.get::<_, Option<String>>(5)?,
                    row.get::<_, Option<Vec<u8>>>(6)?,
                ))
            })
            .optional()?;
        let Some((prev, author, channel, namespace, address, name, body)) = row else {
            break;
        };
        let (automatic, reply_to) = asked_for(body.as_deref());
        if let (Author::Customer, Some(namespace), Some(address)) = (author, namespace, address)
            && automatic != Some(Automatic::Bounce)
            && (automatic.is_none() || machine.is_none())
        {
            let (references, thread) = outbox::thread_of(tx.conn, Some(id), channel)?;
            let (all, _) = outbox::thread_of(tx.conn, found.last_message, channel)?;
            let references = if all.is_empty() { references } else { all };
            let found = (
                named(&tx.memory.names, channel)?,
                Destination {
                    namespace: Namespace::named(namespace),
                    // The name is the author's, not that of whoever reads there.
                    name: name.filter(|_| reply_to.is_none()),
                    address: reply_to.unwrap_or(address),
                    thread,
                    subject: found.detail.subject.clone(),
                    references,
                },
            );
            if automatic.is_none() {
                return Ok(found);
            }
            machine = Some(found);
        }
        next = prev.map(MessageId);
    }
    if let Some(found) = machine {
        return Ok(found);
    }
    Err(Refusal::NotAnswerable {
        reason: "no customer's message to answer".to_owned(),
    }
    .into())
}

/// What kind of machine wrote a message, if one did; and where its author wants answers instead,
/// which intake keeps for verified authors only.
fn asked_for(body: Option<&[u8]>) -> (Option<Automatic>, Option<String>) {
    match body.map(decode) {
        Some(Content::Envelope(envelope)) => {
            (envelope.event.automatic, envelope.event.reply_to.clone())
        }
        _ => (None, None),
    }
}

fn event_of(
    kind: EventType,
    id: ConversationId,
    at: i64,
    detail: Option<serde_json::Value>,
) -> NewEvent {
    NewEvent {
        kind,
        conversation: Some(id),
        message: None,
        at,
        detail,
    }
}
