//! Conversations that our side begins: an agent who writes first, or a system that tells a
//! customer something.

use connector_api::{BrandId, Method};

use crate::conversation::Status;
use crate::dispatch::address::{self, Destination, Subject};
use crate::dispatch::surgery::Refused;
use crate::dispatch::verbs::{Edit, Verb};
use crate::dispatch::{Actor, Refusal, verbs};
use crate::ids::{ContactId, ConversationId, IdSource, MessageId};
use crate::router::effects::{Author, EventType};
use crate::router::facts::{Conversation, Detail};
use crate::store::sql::{Optional as _, params};
use crate::store::{NewConversation, Senders, Sending, StoreError};

use super::super::events::write_events;
use super::super::memory::Standing;
use super::super::reading;
use super::answered::known_on;
use super::reply::{Append, Files, Leaving, check_fit, draft_of, named};
use super::{event_of, kept_message};
use crate::store::rows::Tx;

/// Begins a conversation with its first message.
pub fn start(
    tx: &mut Tx<'_>,
    new: &NewConversation,
    senders: Option<&Senders>,
) -> Result<MessageId, StoreError> {
    if let Some(known) = kept_message(tx, new.idempotency.as_ref(), new.at)? {
        return Ok(known);
    }
    let sending = may_start(new, senders)?;
    let to = destination(tx, new, sending)?;
    let contact = match new.contact {
        Some(id) => {
            tx.lock_contact(id)?;
            known_contact(tx, id, &new.actor, &sending.brand)?
        }
        None => contact_of(tx, &sending.brand, &to, new.at)?,
    };
    let id = tx.memory.next();
    let mut found = Conversation {
        id: ConversationId(id),
        brand: sending.brand.clone(),
        contact,
        matter: has_open(tx, contact)?.then_some(MessageId(id)),
        // The customer is waited for; whoever wrote keeps it.
        status: Status::Pending,
        queue: new.queue.clone().unwrap_or_else(|| sending.queue.clone()),
        priority: new.priority,
        assignee: new.actor.agent.clone().filter(|_| !new.automatic),
        version: 0,
        last_seq: 0,
        last_message: None,
        opened_at: new.at,
        enqueued_at: new.at,
        // What the customer writes within the unify window belongs here.
        last_inbound_at: new.at,
        resolved_at: None,
        detail: Detail {
            subject: to.subject.clone(),
            channels: vec![new.channel.clone()],
            ..Detail::default()
        },
    };
    if !new.actor.may_use_queue(&found.queue) {
        return Err(Refusal::NotFound { what: "queue" }.into());
    }
    address::take_part(&mut found, &to)?;
    let edit = Edit {
        tags: Some(new.tags.clone()),
        attributes: new.attributes.clone(),
        ..Edit::default()
    };
    verbs::perform(&mut found, &new.actor, &Verb::Edit(edit), new.at)?;
    let created = event_of(EventType::ConversationCreated, found.id, new.at, {
        let mut detail = new.actor.signature();
        detail["by"] = "us".into();
        Some(detail)
    });
    let files = Files::take(tx, &new.written.attachments, &new.holder, new.at)?;
    let draft = draft_of(
        &new.written,
        &files,
        Some(to.clone()),
        new.automatic,
        new.at,
    )?;
    let append = Append {
        by: &new.actor,
        author: match new.automatic {
            true => Author::Automation,
            false => Author::Agent,
        },
        channel: tx.memory.names.id(new.channel.as_str()),
        draft: &draft,
        files: &files,
        idempotency: new.idempotency.as_ref(),
        at: new.at,
    };
    tx.conn.write(
        "UPDATE contact SET version = version + 1 WHERE id = ?1",
        [contact.0],
    )?;
    write_events(tx, &[created])?;
    let message = append.write_as(tx, &mut found, MessageId(id), true)?;
    // Windows count what the contact wrote, so the conversation has to be there.
    let leaving = Leaving {
        written: &new.written,
        files: &files,
        to: &to,
    };
    check_fit(tx, &found, &new.channel, Some(sending), &leaving, new.at)?;
    Ok(message)
}

/// The channel, where the actor may begin something on it.
fn may_start<'a>(
    new: &NewConversation,
    senders: Option<&'a Senders>,
) -> Result<&'a Sending, StoreError> {
    let role = new.actor.role;
    if !role.works() {
        return Err(Refusal::Role { role }.into());
    }
    let unusable = |reason: String| Refusal::Unusable {
        field: "channel",
        reason,
    };
    let Some(sending) = senders.and_then(|senders| senders.get(&new.channel)) else {
        return Err(unusable(format!("the channel {} cannot send", new.channel)).into());
    };
    if !sending.can.starts {
        let reason = format!("the channel {} can only answer whoever wrote", new.channel);
        return Err(unusable(reason).into());
    }
    let brands = &new.actor.brands;
    if !brands.is_empty() && !brands.contains(&sending.brand) {
        return Err(unusable(format!("there is no channel {} for you", new.channel)).into());
    }
    Ok(sending)
}

fn destination(
    tx: &Tx<'_>,
    new: &NewConversation,
    sending: &Sending,
) -> Result<Destination, StoreError> {
    let mut named = named(&new.written, Some(sending))?;
    if let (true, Some(contact)) = (named.to.is_empty(), new.contact) {
        known_contact(tx, contact, &new.actor, &sending.brand)?;
        named
            .to
            .extend(known_on(tx, contact, &new.channel, sending)?);
    }
    if named.to.is_empty() {
        return Err(Refusal::Unusable {
            field: "to",
            reason: "\"to\" names nobody whom this channel can write to".to_owned(),
        }
        .into());
    }
    let given = new.written.subject.clone();
    let subject = given.map_or(Subject::Known(None), Subject::Given);
    Ok(address::destination(None, named, subject)?)
}

/// A contact of this brand that the actor may see and that still stands for itself.
fn known_contact(
    tx: &Tx<'_>,
    id: ContactId,
    actor: &Actor,
    brand: &BrandId,
) -> Result<ContactId, StoreError> {
    let found = reading::contact(tx.conn, &tx.memory.names, actor, id)?;
    match found {
        Some(contact) if contact.brand == *brand => match contact.merged_into {
            Some(into) => Err(Refusal::from(Refused::ContactGone { into }).into()),
            None => Ok(id),
        },
        _ => Err(Refusal::Unusable {
            field: "contact_id",
            reason: "there is no such contact".to_owned(),
        }
        .into()),
    }
}

/// Whoever is known under the address; somebody new otherwise. That is then whoever reads there, as
/// our own records have it: a sender who proves to hold the address is the same person, one who
/// merely claims it is not.
fn contact_of(
    tx: &mut Tx<'_>,
    brand: &BrandId,
    to: &Destination,
    at: i64,
) -> Result<ContactId, StoreError> {
    let brand = tx.memory.names.id(brand.as_str());
    if let Some(known) = known_under(tx, brand, to)? {
        tx.lock_contact(known)?;
        if known_under(tx, brand, to)? != Some(known) {
            return Err(tx.begin_again(Standing::Beside, "an address became another contact's"));
        }
        return Ok(known);
    }
    let (contact, identity) = (tx.memory.next(), tx.memory.next());
    tx.conn.write("INSERT INTO contact (id, brand, verified, name, version, created_at) VALUES (?1, ?2, 1, ?3, 0, ?4)", params![contact, brand, to.name, at])?;
    tx.conn.write(
        "INSERT INTO identity (id, brand, scope, namespace, address, contact, method, name, at)
             VALUES (?1, ?2, 0, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            identity,
            brand,
            to.namespace.as_str(),
            to.address,
            contact,
            Method::CustomerRecord.as_str(),
            to.name,
            at
        ],
    )?;
    Ok(ContactId(contact))
}

fn known_under(tx: &Tx<'_>, brand: i64, to: &Destination) -> Result<Option<ContactId>, StoreError> {
    let known = tx
        .conn
        .prepare(
            "SELECT contact FROM identity WHERE brand = ?1 AND scope = 0 AND namespace = ?2 AND address = ?3",
        )?
        .query_row(params![brand, to.namespace.as_str(), to.address], |row| {
            row.get(0)
        })
        .optional()?;
    Ok(known.map(ContactId))
}

fn has_open(tx: &Tx<'_>, contact: ContactId) -> Result<bool, StoreError> {
    let mut statement = tx
        .conn
        .prepare("SELECT 1 FROM conversation WHERE contact = ?1 AND status < 8")?;
    Ok(statement.exists([contact.0])?)
}
