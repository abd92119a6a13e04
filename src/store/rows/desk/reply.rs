//! Answers and notes: accepted with their outbox row and the kept answer of their
//! `Idempotency-Key`, at once.

use bytes::Bytes;
use connector_api::{ChannelId, Recipient};

use crate::blobs::hex;
use crate::conversation::Delivery;
use crate::dispatch::address::{self, Destination, Named, Subject};
use crate::dispatch::fit::{Fitting, fit};
use crate::dispatch::verbs::LATER_MAX;
use crate::dispatch::{self, Action, Actor, Refusal};
use crate::ids::{IdSource, MessageId};
use crate::router::effects::{Author, EventType, NewEvent};
use crate::router::facts::Conversation;
use crate::store::sql::{Optional as _, params};
use crate::store::uploads::Holder;
use crate::store::{
    Attached, Draft, DraftFile, Idempotency, NewReply, OutboxState, Rings, Senders, Sending,
    Settlement, StoreError, Written,
};

use super::super::effects::{FLAG_AUTOMATIC, write_conversation};
use super::super::events::write_events;
use super::super::uploads::take_upload;
use super::super::{drafts, outbox};
use super::answered::{answered, reachable};
use super::{Kept, event_of, keep, kept_message, visible};
use crate::store::rows::Tx;

/// Messages back that are looked through for what the customer wrote meanwhile.
const MEANWHILE_MAX: usize = 1_000;

/// Accepts a reply. `senders` are the channels that can send; `None` where that is not known.
pub fn reply(
    tx: &mut Tx<'_>,
    reply: &NewReply,
    senders: Option<&Senders>,
) -> Result<MessageId, StoreError> {
    if let Some(known) = kept_message(tx, reply.idempotency.as_ref(), reply.at)? {
        return Ok(known);
    }
    let mut found = visible(tx, reply.conversation, &reply.actor, reply.version)?;
    let before = found.status;
    dispatch::act(&mut found, &reply.actor, Action::Reply, reply.at)?;
    let written = &reply.written;
    if let Some(last) = written.if_last_message
        && let Some(last) = overtaken(tx, &found, last)?
    {
        return Err(Refusal::Overtaken { last }.into());
    }
    let (channel, to) = destination(tx, &found, written, senders)?;
    address::take_part(&mut found, &to)?;
    if !found.detail.channels.contains(&channel) {
        found.detail.channels.push(channel.clone());
    }
    let sending = senders.and_then(|senders| senders.get(&channel));
    let files = Files::take(tx, &written.attachments, &reply.holder, reply.at)?;
    let leaving = Leaving {
        written,
        files: &files,
        to: &to,
    };
    check_fit(tx, &found, &channel, sending, &leaving, reply.at)?;
    let draft = draft_of(written, &files, Some(to), false, reply.at)?;
    let append = Append {
        by: &reply.actor,
        author: Author::Agent,
        channel: tx.memory.names.id(channel.as_str()),
        draft: &draft,
        files: &files,
        idempotency: reply.idempotency.as_ref(),
        at: reply.at,
    };
    let id = append.write(tx, &mut found)?;
    if found.status != before {
        let event = NewEvent::status(found.id, found.status, reply.at);
        write_events(tx, &[event])?;
    }
    if let Some(agent) = &reply.actor.agent {
        drafts::sent(tx.conn, agent, found.id)?;
    }
    Ok(id)
}

/// Files an agent's note; it never leaves.
pub fn note(tx: &mut Tx<'_>, note: &NewReply) -> Result<MessageId, StoreError> {
    if let Some(known) = kept_message(tx, note.idempotency.as_ref(), note.at)? {
        return Ok(known);
    }
    let mut found = visible(tx, note.conversation, &note.actor, note.version)?;
    dispatch::act(&mut found, &note.actor, Action::Note, note.at)?;
    let files = Files::take(tx, &note.written.attachments, &note.holder, note.at)?;
    let draft = draft_of(&note.written, &files, None, false, note.at)?;
    let append = Append {
        by: &note.actor,
        author: Author::Note,
        channel: 0,
        draft: &draft,
        files: &files,
        idempotency: note.idempotency.as_ref(),
        at: note.at,
    };
    append.write(tx, &mut found)
}

/// Takes a reply back that has not left.
pub fn cancel(
    tx: &mut Tx<'_>,
    id: MessageId,
    actor: &Actor,
    now: i64,
) -> Result<Rings, StoreError> {
    let missing = Refusal::NotFound { what: "message" };
    let conversation = outbox::conversation_of(tx, id)?.ok_or_else(|| missing.clone())?;
    let found = visible(tx, conversation, actor, None).map_err(|error| match error {
        StoreError::Refused(_) => missing.into(),
        other => other,
    })?;
    dispatch::cancel(&found, actor)?;
    let (delivery, state): (Option<i64>, Option<i64>) = tx
        .conn
        .prepare(
            "SELECT message.delivery, outbox.state FROM message
             LEFT JOIN outbox ON outbox.id = message.id WHERE message.id = ?1",
        )?
        .query_row([id.0], |row| Ok((row.get(0)?, row.get(1)?)))?;
    if state != Some(OutboxState::Queued.code()) {
        return Err(Refusal::NotQueued {
            delivery: delivery.and_then(Delivery::from_code),
        }
        .into());
    }
    let by = actor.agent.as_deref().unwrap_or(actor.role.as_str());
    let reason = format!("taken back by {by}");
    outbox::settle(tx, id, &Settlement::Refused { reason }, now)
}

/// The last thing a person on the customer's side wrote after the message given; `None` when that
/// was read. A machine's answer changes nothing that was read.
pub fn overtaken(
    tx: &Tx<'_>,
    found: &Conversation,
    read: MessageId,
) -> Result<Option<MessageId>, StoreError> {
    let seq: Option<i64> = tx
        .conn
        .prepare("SELECT seq FROM message WHERE id = ?1 AND conversation = ?2")?
        .query_row([read.0, found.id.0], |row| row.get(0))
        .optional()?;
    let Some(read_seq) = seq else {
        return Err(Refusal::Unusable {
            field: "if_last_message",
            reason: "there is no such message in this conversation".to_owned(),
        }
        .into());
    };
    let mut next = found.last_message;
    for _ in 0..MEANWHILE_MAX {
        let Some(id) = next else { break };
        let (seq, author, flags, prev): (i64, i64, i64, Option<i64>) = tx
            .conn
            .prepare("SELECT seq, author, flags, prev FROM message WHERE id = ?1")?
            .query_row([id.0], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })?;
        if seq <= read_seq {
            return Ok(None);
        }
        if Author::from_code(author) == Author::Customer && flags & FLAG_AUTOMATIC == 0 {
            return Ok(Some(id));
        }
        next = prev.map(MessageId);
    }
    Ok(None)
}

/// Over which channel to whom, as the writer says and as the conversation has it.
fn destination(
    tx: &Tx<'_>,
    found: &Conversation,
    written: &Written,
    senders: Option<&Senders>,
) -> Result<(ChannelId, Destination), StoreError> {
    let asked = written.channel.as_ref();
    let (channel, answered) = match (answered(tx, found, asked)?, asked) {
        (Some((channel, answered)), _) => (channel, Some(answered)),
        (None, Some(channel)) => (channel.clone(), None),
        (None, None) => {
            let reason = "no customer's message to answer".to_owned();
            return Err(Refusal::NotAnswerable { reason }.into());
        }
    };
    let sending = match senders {
        Some(senders) => Some(sending(senders, &channel, found)?),
        None => None,
    };
    let answered = match (answered, sending) {
        (None, Some(sending)) if written.to.is_empty() => {
            let reached = reachable(tx, found, &channel, sending)?;
            Some(reached.ok_or_else(|| Refusal::NotAnswerable {
                reason: format!(
                    "nobody in it is known on the channel {channel}: name an address in \"to\""
                ),
            })?)
        }
        (answered, _) => answered,
    };
    let named = named(written, sending)?;
    let subject = match &written.subject {
        Some(given) => Subject::Given(given.clone()),
        None => Subject::Known(found.detail.subject.clone()),
    };
    Ok((channel, address::destination(answered, named, subject)?))
}

/// The channel to send over, where it can send and belongs to the conversation's brand.
fn sending<'a>(
    senders: &'a Senders,
    channel: &ChannelId,
    found: &Conversation,
) -> Result<&'a Sending, StoreError> {
    let reason = match senders.get(channel) {
        Some(sending) if sending.brand == found.brand => return Ok(sending),
        Some(_) => format!("the channel {channel} belongs to another brand"),
        None => format!("the channel {channel} cannot send"),
    };
    Err(Refusal::NotAnswerable { reason }.into())
}

/// Whom the writer names, read by the channel.
pub fn named(written: &Written, sending: Option<&Sending>) -> Result<Named, StoreError> {
    let read = |field: &'static str, addresses: &[String]| {
        let read = |address: &String| {
            let Some(sending) = sending else {
                return Err("which channels can send is not known yet".to_owned());
            };
            (sending.read)(address)
        };
        let all: Result<Vec<Recipient>, String> = addresses.iter().map(read).collect();
        all.map_err(|reason| Refusal::Unusable { field, reason })
    };
    Ok(Named {
        to: read("to", &written.to)?,
        cc: read("cc", &written.cc)?,
        bcc: read("bcc", &written.bcc)?,
        reply_all: written.reply_all,
    })
}

/// What is to leave, and to whom.
pub struct Leaving<'a> {
    pub written: &'a Written,
    pub files: &'a Files,
    pub to: &'a Destination,
}

/// Refuses here what the channel would refuse later, while its writer can still change it.
pub fn check_fit(
    tx: &Tx<'_>,
    found: &Conversation,
    channel: &ChannelId,
    sending: Option<&Sending>,
    leaving: &Leaving<'_>,
    at: i64,
) -> Result<(), StoreError> {
    let Leaving { written, files, to } = leaving;
    let Some(sending) = sending else {
        return Ok(());
    };
    let can = &sending.can;
    let leaves = written.send_at.unwrap_or(at);
    let heard_at = match can.reply_window {
        Some(window) => outbox::heard::heard_at(tx, found.id, channel, to, window, leaves)?,
        None => None,
    };
    let sizes: Vec<u64> = files.0.iter().map(|file| file.shown.size_bytes).collect();
    let fitting = Fitting {
        text: &written.text,
        html: written.html.is_some(),
        subject: written.subject.is_some(),
        recipients: to.recipients_len(),
        files: &sizes,
    };
    Ok(fit(channel, can, fitting, heard_at, leaves)?)
}

/// What is kept of what was written.
pub fn draft_of(
    written: &Written,
    files: &Files,
    to: Option<Destination>,
    automatic: bool,
    at: i64,
) -> Result<Draft, StoreError> {
    if let Some(send_at) = written.send_at
        && (send_at <= at || send_at - at > LATER_MAX)
    {
        return Err(Refusal::Unusable {
            field: "send_at",
            reason: "\"send_at\" must lie in the future, at most 400 days from now".to_owned(),
        }
        .into());
    }
    Ok(Draft {
        text: written.text.clone(),
        html: written.html.clone(),
        to,
        automatic,
        attachments: files.0.iter().map(|file| file.shown.clone()).collect(),
        send_at: written.send_at,
        // What leaves at once was compared just now.
        if_last_message: written
            .send_at
            .and(written.if_last_message)
            .map(|message| message.0),
    })
}

/// Files of what is written, taken from those that were uploaded for it.
#[derive(Default)]
pub struct Files(Vec<File>);

struct File {
    shown: DraftFile,
    sha256: [u8; 32],
    /// The bytes, where they are in the store.
    inline: Option<Bytes>,
}

impl Files {
    /// Takes them in the transaction that writes the answer: each is used once.
    pub fn take(
        tx: &mut Tx<'_>,
        attached: &[Attached],
        holder: &Holder,
        now: i64,
    ) -> Result<Self, StoreError> {
        let mut files = Vec::with_capacity(attached.len());
        for one in attached {
            let taken = take_upload(tx, one.upload, holder, now)?;
            let taken = taken.ok_or_else(|| Refusal::Unusable {
                field: "attachments",
                reason: "a file is not there: it was used, it expired, or it is not yours"
                    .to_owned(),
            })?;
            let name = one.name.clone().or(taken.name);
            files.push(File {
                shown: DraftFile {
                    name: name.unwrap_or_else(|| "file".to_owned()),
                    content_type: taken.content_type,
                    size_bytes: taken.bytes_len,
                    sha256: hex(&taken.sha256),
                    content_id: one.content_id.clone(),
                },
                sha256: taken.sha256,
                inline: taken.inline,
            });
        }
        Ok(Self(files))
    }
}

/// A message of ours to put at the end of a conversation.
pub struct Append<'a> {
    pub by: &'a Actor,
    pub author: Author,
    pub channel: i64,
    pub draft: &'a Draft,
    pub files: &'a Files,
    pub idempotency: Option<&'a Idempotency>,
    pub at: i64,
}

impl Append<'_> {
    /// Writes the message with its files, the conversation and the event.
    pub fn write(
        &self,
        tx: &mut Tx<'_>,
        found: &mut Conversation,
    ) -> Result<MessageId, StoreError> {
        let id = MessageId(tx.memory.next());
        self.write_as(tx, found, id, false)
    }

    /// The same under a number that is taken already, in a conversation that may be new.
    pub fn write_as(
        &self,
        tx: &mut Tx<'_>,
        found: &mut Conversation,
        id: MessageId,
        new: bool,
    ) -> Result<MessageId, StoreError> {
        found.last_seq += 1;
        let prev = found.last_message.replace(id);
        found.version += 1;
        let outbound = outbox::NewOutbound {
            id,
            conversation: found.id,
            seq: found.last_seq,
            prev,
            author: self.author,
            agent: self.by.agent.as_deref(),
            channel: self.channel,
            draft: self.draft,
            at: self.at,
        };
        outbox::insert(tx.conn, &outbound)?;
        for file in &self.files.0 {
            tx.conn.write("INSERT INTO blob (body, sha256, bytes_len, content) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING", params![
                    id.0,
                    file.sha256.as_slice(),
                    file.shown.size_bytes as i64,
                    file.inline.as_deref()
                ])?;
        }
        write_conversation(tx, found, new)?;
        keep(tx, self.idempotency, Kept::Message(id), self.at)?;
        let mut event = event_of(
            EventType::MessageCreated,
            found.id,
            self.at,
            Some(self.by.signature()),
        );
        event.message = Some(id);
        write_events(tx, &[event])?;
        Ok(id)
    }
}
