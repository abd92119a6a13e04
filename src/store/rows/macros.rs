//! Macros, on the embedded store.

use crate::dispatch::macros::{Into, Macro, Template, Values};
use crate::dispatch::verbs::{Edit, Target, Verb};
use crate::dispatch::{Action, Actor, Refusal, Role};
use crate::ids::{IdSource, MessageId};
use crate::router::facts::Conversation;
use crate::store::macros::{MACROS_MAX, Rendered, StoredMacro, UseMacro};
use crate::store::sql::{self, Conn, Optional as _, Row, params};
use crate::store::{Doing, NewReply, Senders, StoreError, Written};

use super::desk::{self, Kept};
use super::facts::from_json;
use super::names::Names;
use super::reading;
use crate::store::rows::Tx;

type Result<T> = std::result::Result<T, StoreError>;

/// Those the actor may use, by name.
pub fn list(conn: Conn<'_>, actor: &Actor) -> Result<Vec<StoredMacro>> {
    let mut statement =
        conn.prepare("SELECT id, content, version, at FROM macro ORDER BY lower(name), id")?;
    let all = statement.query_map((), macro_of)?;
    let mut visible = Vec::new();
    for found in all {
        let found = found?;
        if found.content.may_be_used_by(actor) {
            visible.push(found);
        }
    }
    Ok(visible)
}

pub fn find(conn: Conn<'_>, actor: &Actor, id: i64) -> Result<Option<StoredMacro>> {
    let found = conn
        .prepare("SELECT id, content, version, at FROM macro WHERE id = ?1")?
        .query_row([id], macro_of)
        .optional()?;
    Ok(found.filter(|found| found.content.may_be_used_by(actor)))
}

fn macro_of(row: &Row<'_>) -> sql::Result<StoredMacro> {
    Ok(StoredMacro {
        id: row.get(0)?,
        content: from_json(1, &row.get::<String>(1)?)?,
        version: row.get(2)?,
        at: row.get(3)?,
    })
}

pub fn save(
    tx: &mut Tx<'_>,
    actor: &Actor,
    id: Option<i64>,
    content: Macro,
    version: Option<i64>,
    now: i64,
) -> Result<StoredMacro> {
    content.may_be_kept_by(actor)?;
    let known = match id {
        Some(id) => Some(editable(tx, actor, id, version)?),
        None => None,
    };
    if is_taken(tx.conn, &content, id)? {
        return Err(unusable("name", "there is a macro of this name").into());
    }
    let stored = StoredMacro {
        id: match id {
            Some(id) => id,
            None => tx.memory.next(),
        },
        version: known.map_or(1, |known| known.version + 1),
        content,
        at: now,
    };
    let count: i64 = tx
        .conn
        .prepare("SELECT count(*) FROM macro")?
        .query_row((), |row| row.get(0))?;
    if id.is_none() && count >= MACROS_MAX {
        let reason = format!("there are {MACROS_MAX} macros: delete some");
        return Err(unusable("name", reason).into());
    }
    tx.conn
        .prepare(
            "INSERT INTO macro (id, name, content, version, at) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (id) DO UPDATE SET name = excluded.name, content = excluded.content, version = excluded.version, at = excluded.at",
        )?
        .execute(params![
            stored.id,
            stored.content.name,
            super::effects::json(&stored.content)?,
            stored.version,
            now
        ])?;
    Ok(stored)
}

pub fn delete(tx: &mut Tx<'_>, actor: &Actor, id: i64, version: Option<i64>) -> Result<()> {
    editable(tx, actor, id, version)?;
    tx.conn
        .prepare("DELETE FROM macro WHERE id = ?1")?
        .execute([id])?;
    Ok(())
}

/// Macros of brands that never meet may have one name: a shop is not told of another's.
fn is_taken(conn: Conn<'_>, content: &Macro, id: Option<i64>) -> Result<bool> {
    let mut statement =
        conn.prepare("SELECT id, content, version, at FROM macro WHERE name = ?1")?;
    for found in statement.query_map([&content.name], macro_of)? {
        let found = found?;
        if Some(found.id) != id && found.content.is_confused_with(content) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn editable(tx: &Tx<'_>, actor: &Actor, id: i64, version: Option<i64>) -> Result<StoredMacro> {
    if !matches!(actor.role, Role::Supervisor | Role::Admin) {
        return Err(Refusal::Role { role: actor.role }.into());
    }
    let known = find(tx.conn, actor, id)?.ok_or(Refusal::NotFound { what: "macro" })?;
    known.content.may_be_kept_by(actor)?;
    match version {
        Some(given) if given != known.version => Err(Refusal::Stale {
            current: known.version,
            given,
        }
        .into()),
        _ => Ok(known),
    }
}

/// What a macro says on a conversation.
pub fn preview(conn: Conn<'_>, names: &Names, using: &UseMacro) -> Result<Rendered> {
    let stored = find(conn, &using.actor, using.id)?.ok_or(Refusal::NotFound { what: "macro" })?;
    let found = reading::conversation(conn, names, &using.actor, using.conversation)?;
    let found = found.ok_or(Refusal::NotFound {
        what: "conversation",
    })?;
    stored.content.fits(&found)?;
    render(conn, names, &found, &stored.content, using)
}

/// Says and does it: what was said or done of it is undone when the rest cannot be. A repeated
/// request is told what came of it, and how the conversation stands where that may be seen.
pub fn apply(
    tx: &mut Tx<'_>,
    using: &UseMacro,
    senders: Option<&Senders>,
) -> Result<(Option<MessageId>, Option<Conversation>)> {
    let names = tx.memory.names.clone();
    let key = using.idempotency.as_ref();
    if let Some(kept) = desk::kept(tx, key, using.at)? {
        let message = match kept {
            Kept::Message(id) => Some(desk::still_there(tx, id)?),
            _ => None,
        };
        return Ok((message, desk::told(tx, using.conversation, &using.actor)?));
    }
    let stored = find(tx.conn, &using.actor, using.id)?;
    let content = stored.ok_or(Refusal::NotFound { what: "macro" })?.content;
    let found = desk::visible(tx, using.conversation, &using.actor, None)?;
    desk::at_version(&found, using.version)?;
    content.fits(&found)?;
    let said = render(tx.conn, &names, &found, &content, using)?;
    if let Some(missing) = said.missing.first() {
        let reason = format!(
            "this macro needs {missing}, which is not known here: give it another word, as in {{{{ {missing} | there }}}}"
        );
        return Err(unusable("macro", reason).into());
    }
    let mut message = None;
    if content.writes() {
        let written = Written {
            text: said.text.unwrap_or_default(),
            html: said.html,
            subject: said.subject,
            ..Written::default()
        };
        let reply = NewReply {
            conversation: found.id,
            actor: using.actor.clone(),
            holder: using.holder.clone(),
            written,
            idempotency: using.idempotency.clone(),
            version: None,
            at: using.at,
        };
        message = Some(desk::reply(tx, &reply, senders)?);
    }
    for verb in verbs_of(&content, using.at) {
        let doing = Doing {
            conversation: found.id,
            actor: using.actor.clone(),
            verb,
            version: None,
            at: using.at,
        };
        desk::perform(tx, &doing, senders)?;
    }
    if content.resolve {
        desk::act(tx, found.id, &using.actor, Action::Resolve, None, using.at)?;
    }
    if message.is_none() {
        desk::keep(tx, key, Kept::Conversation(found.id), using.at)?;
    }
    let done = super::facts::conversation(tx.conn, &names, found.id)?;
    Ok((message, done))
}

fn verbs_of(content: &Macro, at: i64) -> Vec<Verb> {
    let mut verbs = vec![Verb::Edit(Edit {
        priority: content.priority,
        add_tags: content.add_tags.clone(),
        remove_tags: content.remove_tags.clone(),
        attributes: content.attributes.clone(),
        ..Edit::default()
    })];
    let queue = content.transfer_queue.as_ref();
    if let Some(queue) = queue.and_then(|queue| queue.parse().ok()) {
        verbs.push(Verb::Transfer(Target::Queue(queue)));
    } else if let Some(seconds) = content.snooze_seconds {
        let micros = i64::try_from(seconds).unwrap_or(i64::MAX / 2_000_000) * 1_000_000;
        verbs.push(Verb::Snooze { until: at + micros });
    }
    verbs
}

fn render(
    conn: Conn<'_>,
    names: &Names,
    found: &Conversation,
    content: &Macro,
    using: &UseMacro,
) -> Result<Rendered> {
    let values = values(conn, names, found, using)?;
    let mut rendered = Rendered::default();
    let mut put = |field: &'static str, text: &Option<String>, into: Into| {
        let Some(text) = text else {
            return Ok(None);
        };
        let template = Template::parse(text).map_err(|error| unusable(field, error.to_string()))?;
        let (text, missing) = template.render(&values, into);
        rendered.missing.extend(missing);
        Ok::<_, StoreError>(Some(text))
    };
    let text = put("text", &content.text, Into::Plain)?;
    let html = put("html", &content.html, Into::Html)?;
    let subject = put("subject", &content.subject, Into::Plain)?;
    rendered.missing.sort();
    rendered.missing.dedup();
    Ok(Rendered {
        text,
        html,
        subject,
        ..rendered
    })
}

fn values(conn: Conn<'_>, names: &Names, found: &Conversation, using: &UseMacro) -> Result<Values> {
    let contact = reading::contact(conn, names, &using.actor, found.contact)?;
    let name = contact.as_ref().and_then(|contact| {
        let named = contact
            .identities
            .iter()
            .find_map(|known| known.name.as_deref());
        contact.name.as_deref().or(named)
    });
    let first = name.and_then(|name| name.split_whitespace().next());
    let address = found.detail.participants.first();
    let mut values = Values::default();
    values.set("agent.name", using.actor.agent.as_deref());
    values.set("brand.name", Some(found.brand.as_str()));
    values.set("contact.name", name);
    values.set("contact.first_name", first);
    values.set(
        "contact.address",
        address.map(|known| known.address.as_str()),
    );
    values.set("conversation.id", Some(&using.shown_as));
    values.set("conversation.queue", Some(found.queue.as_str()));
    values.set("conversation.subject", found.detail.subject.as_deref());
    values.set("date", Some(&using.date));
    values.set_attributes(&found.detail.attributes);
    Ok(values)
}

fn unusable(field: &'static str, reason: impl std::convert::Into<String>) -> Refusal {
    Refusal::Unusable {
        field,
        reason: reason.into(),
    }
}
