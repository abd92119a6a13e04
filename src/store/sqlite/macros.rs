//! Macros and drafts, on the embedded store.

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::{Map, Value};

use crate::dispatch::macros::{Into, Macro, Template, Values};
use crate::dispatch::verbs::{Edit, Target, Verb};
use crate::dispatch::{Action, Actor, Refusal, Role};
use crate::ids::{ConversationId, IdSource, MessageId};
use crate::router::facts::Conversation;
use crate::store::macros::{MACROS_MAX, Rendered, StoredDraft, StoredMacro, UseMacro};
use crate::store::{Doing, NewReply, Senders, StoreError, Written};

use super::desk;
use super::facts::from_json;
use super::names::Names;
use super::reading;
use super::writer::Tx;

type Result<T> = std::result::Result<T, StoreError>;

/// Those the actor may use, by name.
pub fn list(conn: &Connection, actor: &Actor) -> Result<Vec<StoredMacro>> {
    let mut statement = conn.prepare_cached(
        "SELECT id, content, version, at FROM macro ORDER BY name COLLATE NOCASE, id",
    )?;
    let all = statement.query_map([], macro_of)?;
    let mut visible = Vec::new();
    for found in all {
        let found = found?;
        if may_use(actor, &found.content) {
            visible.push(found);
        }
    }
    Ok(visible)
}

pub fn find(conn: &Connection, actor: &Actor, id: i64) -> Result<Option<StoredMacro>> {
    let found = conn
        .prepare_cached("SELECT id, content, version, at FROM macro WHERE id = ?1")?
        .query_row([id], macro_of)
        .optional()?;
    Ok(found.filter(|found| may_use(actor, &found.content)))
}

fn macro_of(row: &Row<'_>) -> rusqlite::Result<StoredMacro> {
    Ok(StoredMacro {
        id: row.get(0)?,
        content: from_json(1, &row.get::<_, String>(1)?)?,
        version: row.get(2)?,
        at: row.get(3)?,
    })
}

/// A macro of certain queues is nobody's who works none of them; who edits macros sees all.
fn may_use(actor: &Actor, content: &Macro) -> bool {
    let own = |queue: &String| {
        let queue = queue.parse();
        queue.is_ok_and(|queue| actor.may_use_queue(&queue))
    };
    let edits = matches!(actor.role, Role::Supervisor | Role::Admin) && actor.queues.is_empty();
    edits || content.queues.is_empty() || content.queues.iter().any(own)
}

fn may_edit(actor: &Actor) -> Result<()> {
    match actor.role {
        Role::Supervisor | Role::Admin => Ok(()),
        role => Err(Refusal::Role { role }.into()),
    }
}

pub fn save(
    tx: &mut Tx<'_>,
    actor: &Actor,
    id: Option<i64>,
    content: Macro,
    version: Option<i64>,
    now: i64,
) -> Result<StoredMacro> {
    may_edit(actor)?;
    let known = match id {
        Some(id) => Some(editable(tx, actor, id, version)?),
        None => None,
    };
    let taken: Option<i64> = tx
        .conn
        .prepare_cached("SELECT id FROM macro WHERE name = ?1")?
        .query_row([&content.name], |row| row.get(0))
        .optional()?;
    if taken.is_some_and(|taken| Some(taken) != id) {
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
        .prepare_cached("SELECT count(*) FROM macro")?
        .query_row([], |row| row.get(0))?;
    if id.is_none() && count >= MACROS_MAX {
        let reason = format!("there are {MACROS_MAX} macros: delete some");
        return Err(unusable("name", reason).into());
    }
    tx.conn
        .prepare_cached(
            "INSERT OR REPLACE INTO macro (id, name, content, version, at) VALUES (?1, ?2, ?3, ?4, ?5)",
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
    may_edit(actor)?;
    editable(tx, actor, id, version)?;
    tx.conn
        .prepare_cached("DELETE FROM macro WHERE id = ?1")?
        .execute([id])?;
    Ok(())
}

fn editable(tx: &Tx<'_>, actor: &Actor, id: i64, version: Option<i64>) -> Result<StoredMacro> {
    let known = find(tx.conn, actor, id)?.ok_or(Refusal::NotFound { what: "macro" })?;
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
pub fn preview(conn: &Connection, names: &Names, using: &UseMacro) -> Result<Rendered> {
    let stored = find(conn, &using.actor, using.id)?.ok_or(Refusal::NotFound { what: "macro" })?;
    let found = reading::conversation(conn, names, &using.actor, using.conversation)?;
    let found = found.ok_or(Refusal::NotFound {
        what: "conversation",
    })?;
    render(conn, names, &found, &stored.content, using)
}

/// Says and does it: what was said or done of it is undone when the rest cannot be.
pub fn apply(
    tx: &mut Tx<'_>,
    using: &UseMacro,
    senders: Option<&Senders>,
) -> Result<(Option<MessageId>, Conversation)> {
    let names = tx.memory.names.clone();
    let again = desk::kept_answer(tx, using.idempotency.as_ref(), using.at)?;
    let stored = find(tx.conn, &using.actor, using.id)?;
    let content = stored.ok_or(Refusal::NotFound { what: "macro" })?.content;
    let mut found = desk::visible(tx, using.conversation, &using.actor, None)?;
    if again.is_some() {
        return Ok((again, found));
    }
    desk::at_version(&found, using.version)?;
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
        desk::perform(tx, &doing)?;
    }
    if content.resolve {
        desk::act(tx, found.id, &using.actor, Action::Resolve, None, using.at)?;
    }
    if let Some(now) = super::facts::conversation(tx.conn, &names, found.id)? {
        found = now;
    }
    Ok((message, found))
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
    conn: &Connection,
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

fn values(
    conn: &Connection,
    names: &Names,
    found: &Conversation,
    using: &UseMacro,
) -> Result<Values> {
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

/// The actor's own draft of a conversation that it may see.
pub fn draft(
    conn: &Connection,
    names: &Names,
    actor: &Actor,
    id: ConversationId,
) -> Result<Option<StoredDraft>> {
    let Some(agent) = &actor.agent else {
        return Ok(None);
    };
    if reading::conversation(conn, names, actor, id)?.is_none() {
        return Err(Refusal::NotFound {
            what: "conversation",
        }
        .into());
    }
    Ok(conn
        .prepare_cached(
            "SELECT content, version, at FROM draft WHERE conversation = ?1 AND agent = ?2",
        )?
        .query_row(params![id.0, agent], |row| {
            Ok(StoredDraft {
                content: from_json(0, &row.get::<_, String>(0)?)?,
                version: row.get(1)?,
                at: row.get(2)?,
            })
        })
        .optional()?)
}

pub fn save_draft(
    tx: &mut Tx<'_>,
    actor: &Actor,
    id: ConversationId,
    content: Map<String, Value>,
    version: Option<i64>,
    now: i64,
) -> Result<StoredDraft> {
    let names = tx.memory.names.clone();
    let Some(agent) = actor.agent.clone().filter(|_| actor.role.works()) else {
        return Err(Refusal::Role { role: actor.role }.into());
    };
    let known = draft(tx.conn, &names, actor, id)?;
    let current = known.map_or(0, |known| known.version);
    if let Some(given) = version
        && given != current
    {
        return Err(Refusal::Stale { current, given }.into());
    }
    let stored = StoredDraft {
        content,
        version: current + 1,
        at: now,
    };
    tx.conn
        .prepare_cached(
            "INSERT OR REPLACE INTO draft (conversation, agent, content, version, at) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![
            id.0,
            agent,
            super::effects::json(&stored.content)?,
            stored.version,
            now
        ])?;
    Ok(stored)
}

/// What was sent, or given up, is no draft any more.
pub fn delete_draft(conn: &Connection, agent: &str, id: ConversationId) -> Result<()> {
    conn.prepare_cached("DELETE FROM draft WHERE conversation = ?1 AND agent = ?2")?
        .execute(params![id.0, agent])?;
    Ok(())
}
