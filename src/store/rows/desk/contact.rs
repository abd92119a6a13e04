//! What people say about a contact.

use crate::dispatch::Refusal;
use crate::dispatch::surgery::Refused;
use crate::dispatch::verbs::attributes_of;
use crate::router::effects::{EventType, NewEvent};
use crate::store::sql::params;
use crate::store::{ContactEdit, StoreError, StoredContact};

use super::super::effects::json;
use super::super::events::write_events;
use super::super::reading;
use crate::store::rows::Tx;

/// Changes a contact that the actor may see by one of its conversations.
pub fn edit_contact(tx: &mut Tx<'_>, edit: &ContactEdit) -> Result<StoredContact, StoreError> {
    let names = tx.memory.names.clone();
    let role = edit.actor.role;
    if !role.works() {
        return Err(Refusal::Role { role }.into());
    }
    tx.lock_contact(edit.contact)?;
    let found = reading::contact(tx.conn, &names, &edit.actor, edit.contact)?;
    let mut found = found.ok_or(Refusal::NotFound { what: "contact" })?;
    if let Some(into) = found.merged_into {
        return Err(Refusal::from(Refused::ContactGone { into }).into());
    }
    if let Some(given) = edit.version
        && given != found.version
    {
        return Err(Refusal::Stale {
            current: found.version,
            given,
        }
        .into());
    }
    let attributes = attributes_of(&found.attributes, &edit.attributes)?;
    let name = edit.name.clone().or(found.name.clone());
    if (&name, &attributes) == (&found.name, &found.attributes) {
        return Ok(found);
    }
    (found.name, found.attributes) = (name, attributes);
    found.version += 1;
    tx.conn.write(
        "UPDATE contact SET name = ?1, attributes = ?2, version = ?3 WHERE id = ?4",
        params![
            found.name,
            json(&found.attributes)?,
            found.version,
            found.id.0
        ],
    )?;
    let mut detail = edit.actor.signature();
    detail["contact"] = found.id.0.into();
    let event = NewEvent::of_contact(EventType::ContactUpdated, found.id, edit.at).with(detail);
    write_events(tx, &[event])?;
    Ok(found)
}
