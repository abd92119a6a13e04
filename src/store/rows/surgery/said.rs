//! What a message says to surgery: whom it names, what it hangs on, what it is about.

use connector_api::{ChannelId, Event, Namespace};

use crate::bus::{Content, decode};
use crate::dispatch::surgery::{Hang, Part, Since};
use crate::ids::MessageId;
use crate::router::effects::Author;
use crate::router::explain::{Explanation, JoinReason, Through};
use crate::router::facts::{Conversation, Participant, Role};
use crate::router::file::named_by;
use crate::router::keys;
use crate::router::triage::Labels;
use crate::store::rows::Tx;
use crate::store::rows::facts::named;
use crate::store::sql::Optional as _;
use crate::store::{Destination, Draft, StoreError};

use super::chain::Row;

/// A message, read for what it brings along.
#[derive(Default)]
struct Said {
    people: Vec<Participant>,
    subject: Option<String>,
    labels: Labels,
    history: bool,
    channel: Option<ChannelId>,
    joined: Option<Explanation>,
    answers: Option<MessageId>,
    /// The message that its thread is known by.
    anchor: Option<MessageId>,
}

/// Messages that came since, oldest first.
pub fn since(
    tx: &Tx<'_>,
    conversation: &Conversation,
    rows: &[&Row],
) -> Result<Vec<Since>, StoreError> {
    let mut since = Vec::with_capacity(rows.len());
    for row in rows {
        let said = read(tx, conversation, row)?;
        let hangs_on = match row.author {
            Author::Agent | Author::Automation => said.answers.map(Hang::Message),
            Author::Customer | Author::Echo | Author::System => said.hangs_on(),
            Author::Note => None,
        };
        let inbound = row.author == Author::Customer && !said.history;
        since.push(Since {
            id: row.entry.id,
            hangs_on,
            inbound_at: inbound.then_some(row.entry.arrived_at),
            is_said: row.author != Author::Note,
            people: said.people,
            channel: said.channel,
        });
    }
    Ok(since)
}

/// What a conversation begins with that is made of `leaving`, while `staying` stay.
pub fn part(
    tx: &Tx<'_>,
    source: &Conversation,
    leaving: &[&Row],
    staying: &[&Row],
) -> Result<Part, StoreError> {
    let mut part = Part::default();
    let mut names: Vec<(Namespace, String)> = Vec::new();
    for row in leaving {
        let said = read(tx, source, row)?;
        let people = said.people.iter();
        names.extend(people.map(|one| (one.namespace.clone(), one.address.clone())));
        if let Some(channel) = said.channel.filter(|one| !part.channels.contains(one)) {
            part.channels.push(channel);
        }
        part.subject = part.subject.or(said.subject);
        let intent = said.labels.known_intent().map(str::to_owned);
        part.intent = part.intent.or(intent);
        let language = said.labels.known_language().map(str::to_owned);
        part.language = language.or(part.language);
    }
    let named = |person: &&Participant| {
        names.iter().any(|(namespace, address)| {
            person.namespace == *namespace && person.address == *address
        })
    };
    // Also whoever took part in what was merged into it before: they wrote what leaves.
    for person in source.everybody().filter(named) {
        let same = |known: &Participant| {
            known.namespace == person.namespace && known.address == person.address
        };
        if !part.participants.iter().any(same) {
            part.participants.push(person.clone());
        }
    }
    part.last_inbound_at = newest_inbound(leaving);
    part.stays_inbound_at = newest_inbound(staying);
    Ok(part)
}

fn newest_inbound(rows: &[&Row]) -> Option<i64> {
    let inbound = rows.iter().filter(|row| row.author == Author::Customer);
    inbound.map(|row| row.entry.arrived_at).max()
}

impl Said {
    fn hangs_on(&self) -> Option<Hang> {
        let join = &self.joined.as_ref()?.join;
        match (join.through, &join.reason) {
            (Some(Through::Conversation(id)), _) => Some(Hang::Conversation(id)),
            (Some(Through::Message(id)), _) => Some(Hang::Message(id)),
            (None, JoinReason::Reference { message } | JoinReason::OwnReference { message }) => {
                Some(Hang::Message(*message))
            }
            (None, JoinReason::NativeThread) => self.anchor.map(Hang::Message),
            (None, _) => None,
        }
    }
}

/// Whom an answer made participants: everybody it went to in sight of the others.
fn recipients(to: Destination) -> Vec<Participant> {
    let first = (to.first(), Role::To);
    let also = to.also_to.into_iter().map(|also| (also, Role::To));
    let copies = to.cc.into_iter().map(|copy| (copy, Role::Cc));
    let all = std::iter::once(first).chain(also).chain(copies);
    all.map(|(recipient, role)| Participant {
        namespace: recipient.namespace,
        address: recipient.address,
        verified: false,
        role,
        name: recipient.name,
    })
    .collect()
}

fn read(tx: &Tx<'_>, conversation: &Conversation, row: &Row) -> Result<Said, StoreError> {
    let found = tx
        .conn
        .prepare(
            "SELECT identity.namespace, identity.address, identity.method, identity.name, message.labels,
                    message.explanation, body.content
             FROM message LEFT JOIN identity ON identity.id = message.identity
             LEFT JOIN body ON body.id = message.id WHERE message.id = ?1",
        )?
        .query_row([row.entry.id.0], |row| {
            Ok((
                row.get::<Option<String>>(0)?,
                row.get::<Option<String>>(1)?,
                row.get::<Option<String>>(2)?,
                row.get::<Option<String>>(3)?,
                row.get::<Option<String>>(4)?,
                row.get::<Option<String>>(5)?,
                row.get::<Option<Vec<u8>>>(6)?,
            ))
        })
        .optional()?;
    let mut said = Said::default();
    let Some((namespace, address, method, name, labels, explanation, body)) = found else {
        return Ok(said);
    };
    let Some(body) = body else { return Ok(said) };
    if matches!(
        row.author,
        Author::Agent | Author::Automation | Author::Note
    ) {
        let draft: Option<Draft> = serde_json::from_slice(&body).ok();
        if let Some(to) = draft.and_then(|draft| draft.to) {
            said.answers = to.answers;
            said.people = recipients(to);
            said.channel = Some(named(&tx.memory.names, row.channel)?);
        }
        return Ok(said);
    }
    said.channel = Some(named(&tx.memory.names, row.channel)?);
    said.labels = labels
        .and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default();
    said.joined = explanation.and_then(|text| serde_json::from_str(&text).ok());
    let Content::Envelope(envelope) = decode(&body) else {
        return Ok(said);
    };
    said.history = envelope.event.history;
    let thread = match &envelope.event.event {
        Event::Message(message) | Event::Echo(message) => {
            said.subject.clone_from(&message.subject);
            if let (Some(namespace), Some(address)) = (namespace, address) {
                let namespace = Namespace::named(namespace);
                let reply_to = envelope.event.reply_to.as_deref();
                said.people = named_by(message, &namespace, reply_to);
                let author = Participant {
                    namespace,
                    address,
                    verified: method.is_some_and(|method| method != "claimed"),
                    role: Role::Customer,
                    name,
                };
                said.people.insert(0, author);
            }
            message.thread.native.as_deref()
        }
        Event::System { thread, .. } => thread.native.as_deref(),
        _ => None,
    };
    if let Some(native) = thread {
        let key = keys::thread(&conversation.brand, &envelope.channel, native);
        said.anchor = tx
            .conn
            .prepare("SELECT message FROM reference WHERE key = ?1")?
            .query_row([key.as_slice()], |row| row.get(0))
            .optional()?
            .map(MessageId);
    }
    Ok(said)
}
