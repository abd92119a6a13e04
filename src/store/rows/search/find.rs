//! A question to the index. It is asked of the scopes whose words the actor may see and of no
//! others, so that neither what is found nor how long it takes tells of the rest; the conditions on
//! the rows themselves stay, and decide.
//!
//! What an agent holds of other queues is in scopes that are not theirs: it is looked through word
//! by word, the newest of it.

use std::collections::BTreeSet;

use crate::ids::{ContactId, MessageId};
use crate::search::Scope;
use crate::store::StoreError;
use crate::store::rows::effects::FLAG_HISTORY;
use crate::store::rows::facts::conversation;
use crate::store::rows::names::Names;
use crate::store::rows::permission::only_visible;
use crate::store::rows::reading;
use crate::store::search::{
    CONTACTS_MAX, HELD_CONVERSATIONS_MAX, HELD_MESSAGES_MAX, Hit, SearchRequest, Searched, Words,
    contact_words,
};
use crate::store::sql::{self, Conn, Value};

type Result<T> = std::result::Result<T, StoreError>;

/// Conversations of an agent that are looked at for those of other queues, the newest.
const ASSIGNED_MAX: i64 = 1_000;

pub fn find(conn: Conn<'_>, names: &Names, request: &SearchRequest) -> Result<Searched> {
    // One snapshot: a message that was found is there when it is read.
    let snapshot = conn.snapshot()?;
    let conn = snapshot.conn();
    let scopes = scopes(conn, names, request)?;
    let held = held_elsewhere(conn, names, request)?;
    let mut hits = Vec::new();
    for id in messages(conn, names, request, &scopes, &held)? {
        let Some(message) = reading::message_row(conn, names, id)? else {
            continue;
        };
        let found = conversation(conn, names, message.conversation)?;
        hits.extend(found.map(|conversation| Hit {
            message,
            conversation,
        }));
    }
    let mut contacts = Vec::new();
    if request.below.is_none() {
        for id in contacts_found(conn, names, request, &scopes, &held)? {
            contacts.extend(reading::contact(conn, names, &request.actor, id)?);
        }
    }
    Ok(Searched::Found { hits, contacts })
}

/// The scopes with words that the actor may see by queue and brand.
fn scopes(conn: Conn<'_>, names: &Names, request: &SearchRequest) -> Result<Vec<Scope>> {
    let actor = &request.actor;
    if !actor.role.reads_messages() {
        return Ok(Vec::new());
    }
    let brands: Vec<i64> = (actor.brands.iter())
        .map(|brand| names.id(brand.as_str()))
        .collect();
    let queues: Vec<i64> = (actor.queues.iter())
        .map(|queue| names.id(queue.as_str()))
        .collect();
    let mut statement = conn.prepare("SELECT brand, queue FROM search_scope")?;
    let rows = statement.query_map((), |row| {
        Ok(Scope {
            brand: row.get(0)?,
            queue: row.get(1)?,
        })
    })?;
    let mut scopes: Vec<Scope> = rows.collect::<sql::Result<_>>()?;
    scopes.retain(|scope| {
        (brands.is_empty() || brands.contains(&scope.brand))
            && (queues.is_empty() || queues.contains(&scope.queue))
    });
    Ok(scopes)
}

/// A conversation that the actor sees only because they hold it.
struct Held {
    contact: ContactId,
    last_message: Option<MessageId>,
}

fn held_elsewhere(conn: Conn<'_>, names: &Names, request: &SearchRequest) -> Result<Vec<Held>> {
    let (Some(agent), false) = (&request.actor.agent, request.actor.queues.is_empty()) else {
        return Ok(Vec::new());
    };
    let theirs = request.actor.queues.iter();
    let theirs: Vec<String> = theirs
        .map(|queue| names.id(queue.as_str()).to_string())
        .collect();
    let mut sql = format!(
        "SELECT conversation.contact, conversation.last_message FROM
         (SELECT * FROM conversation WHERE assignee = ? ORDER BY opened_at DESC, id DESC LIMIT {ASSIGNED_MAX}) AS conversation
         WHERE conversation.queue NOT IN ({})",
        theirs.join(",")
    );
    let mut values: Vec<Value> = vec![agent.clone().into()];
    only_visible(&mut sql, &mut values, &request.actor, names);
    sql.push_str(" ORDER BY conversation.opened_at DESC, conversation.id DESC LIMIT ?");
    values.push(i64::from(HELD_CONVERSATIONS_MAX).into());
    let mut statement = conn.prepare(&sql)?;
    let rows = statement.query_map(values.as_slice(), |row| {
        Ok(Held {
            contact: ContactId(row.get(0)?),
            last_message: row.get::<Option<i64>>(1)?.map(MessageId),
        })
    })?;
    Ok(rows.collect::<sql::Result<_>>()?)
}

fn messages(
    conn: Conn<'_>,
    names: &Names,
    request: &SearchRequest,
    scopes: &[Scope],
    held: &[Held],
) -> Result<Vec<MessageId>> {
    let mut found = BTreeSet::new();
    let wanted = (request.queue.as_ref()).map(|queue| names.id(queue.as_str()));
    let wanted = |scope: &&Scope| wanted.is_none_or(|wanted| wanted == scope.queue);
    let scopes: Vec<Scope> = scopes.iter().filter(wanted).copied().collect();
    if let Some(asked) = in_words_of(conn, request, &scopes) {
        let sql = match conn {
            // CROSS JOIN: the index leads, newest first, and looking ends with the page.
            Conn::Sqlite(_) => {
                "SELECT message.id, message.id FROM message_search CROSS JOIN message ON message.id = message_search.rowid
                 CROSS JOIN conversation ON conversation.id = message.conversation
                 WHERE message_search MATCH ?"
            }
            #[cfg(feature = "postgres")]
            Conn::Postgres(_) => {
                "SELECT message.id, message.arrived_at FROM message_search JOIN message ON message.id = message_search.rowid
                 JOIN conversation ON conversation.id = message.conversation
                 WHERE message_search.words @@ CAST(CAST(? AS text) AS tsquery)"
            }
        };
        let row = "message_search.rowid";
        found.extend(those_that_fit(
            conn,
            names,
            request,
            (sql, row),
            asked.into(),
        )?);
    }
    let held = said_in(conn, names, request, held)?;
    if !held.is_empty() {
        let sql = match conn {
            Conn::Sqlite(_) => {
                "SELECT message.id, message.id FROM json_each(?) AS held CROSS JOIN message ON message.id = held.value
                 CROSS JOIN conversation ON conversation.id = message.conversation WHERE TRUE"
            }
            #[cfg(feature = "postgres")]
            Conn::Postgres(_) => {
                "SELECT message.id, message.arrived_at FROM json_array_elements_text(CAST(CAST(? AS text) AS json)) AS held
                 JOIN message ON message.id = CAST(held.value AS bigint)
                 JOIN conversation ON conversation.id = message.conversation WHERE TRUE"
            }
        };
        let ids: Vec<i64> = held.iter().map(|id| id.0).collect();
        let ids = serde_json::Value::from(ids).to_string();
        let row = "message.id";
        found.extend(those_that_fit(
            conn,
            names,
            request,
            (sql, row),
            ids.into(),
        )?);
    }
    let newest = found.into_iter().rev().take(request.limit as usize);
    Ok(newest.map(|(_, id)| id).collect())
}

/// The question as the database's index takes it.
fn in_words_of(conn: Conn<'_>, request: &SearchRequest, scopes: &[Scope]) -> Option<String> {
    match conn {
        Conn::Sqlite(_) => request.query.to_fts(scopes),
        #[cfg(feature = "postgres")]
        Conn::Postgres(_) => request.query.to_tsquery(scopes),
    }
}

/// Of what a statement finds with one value, what the actor may see and every filter fits. `row` is
/// what SQLite knows its messages by, and so where it begins. Each with its place among the others.
fn those_that_fit(
    conn: Conn<'_>,
    names: &Names,
    request: &SearchRequest,
    (sql, row): (&str, &str),
    value: Value,
) -> Result<Vec<(i64, MessageId)>> {
    let mut sql = sql.to_owned();
    let mut values: Vec<Value> = vec![value];
    sql.push_str(" AND message.deleted = 0");
    let order = match conn {
        Conn::Sqlite(_) => {
            let below = request.below.map_or(i64::MAX, |below| below.0);
            sql.push_str(&format!(" AND {row} < ?"));
            values.push(below.into());
            format!("{row} DESC")
        }
        // Ids that several processes give out do not rise with time.
        #[cfg(feature = "postgres")]
        Conn::Postgres(_) => {
            if let Some(below) = request.below {
                sql.push_str(
                    " AND (message.arrived_at, message.id) < (SELECT arrived_at, id FROM message WHERE id = ?)",
                );
                values.push(below.0.into());
            }
            "message.arrived_at DESC, message.id DESC".to_owned()
        }
    };
    only_visible(&mut sql, &mut values, &request.actor, names);
    let mut and = |condition: &str, value: Value| {
        sql.push_str(condition);
        values.push(value);
    };
    if let Some(queue) = &request.queue {
        and(
            " AND conversation.queue = ?",
            names.id(queue.as_str()).into(),
        );
    }
    if let Some(status) = request.status {
        and(" AND conversation.status = ?", status.code().into());
    }
    if let Some(channel) = &request.channel {
        and(
            " AND message.channel = ?",
            names.id(channel.as_str()).into(),
        );
    }
    if let Some(from) = &request.from {
        let by = " AND EXISTS (SELECT 1 FROM identity WHERE identity.id = message.identity
             AND lower(identity.address) = lower(?))";
        and(by, from.clone().into());
    }
    if let Some(after) = request.after {
        and(&format!(" AND {} >= ?", said_at()), after.into());
    }
    if let Some(before) = request.before {
        and(&format!(" AND {} < ?", said_at()), before.into());
    }
    and(
        &format!(" ORDER BY {order} LIMIT ?"),
        i64::from(request.limit).into(),
    );
    let mut statement = conn.prepare(&sql)?;
    let rows = statement.query_map(values.as_slice(), |row| {
        Ok((row.get(1)?, MessageId(row.get(0)?)))
    })?;
    Ok(rows.collect::<sql::Result<_>>()?)
}

/// When a message was said: what came as history, at the provider's time.
fn said_at() -> String {
    format!(
        "CASE WHEN message.flags & {FLAG_HISTORY} <> 0 AND message.sent_at < message.arrived_at
         THEN message.sent_at ELSE message.arrived_at END"
    )
}

/// Messages of these conversations that have the words.
fn said_in(
    conn: Conn<'_>,
    names: &Names,
    request: &SearchRequest,
    held: &[Held],
) -> Result<Vec<MessageId>> {
    let mut found = Vec::new();
    let mut room = HELD_MESSAGES_MAX;
    for conversation in held {
        let mut next = conversation.last_message;
        while let Some(id) = next.filter(|_| room > 0) {
            room -= 1;
            let Some(message) = reading::message_row(conn, names, id)? else {
                break;
            };
            let has = |words: Words| request.query.is_in(&words.all());
            if Words::of(&message).is_some_and(has) {
                found.push(id);
            }
            next = previous(conn, id)?;
        }
    }
    Ok(found)
}

fn previous(conn: Conn<'_>, id: MessageId) -> Result<Option<MessageId>> {
    let prev: Option<i64> = conn
        .prepare("SELECT prev FROM message WHERE id = ?1")?
        .query_row([id.0], |row| row.get(0))?;
    Ok(prev.map(MessageId))
}

/// Contacts by name or address, of whom the actor may see a conversation.
fn contacts_found(
    conn: Conn<'_>,
    names: &Names,
    request: &SearchRequest,
    scopes: &[Scope],
    held: &[Held],
) -> Result<Vec<ContactId>> {
    let mut found = BTreeSet::new();
    if let Some(asked) = in_words_of(conn, request, scopes) {
        // Where one process writes, numbers rise with time: the index leads, newest first.
        let (found_by, order) = match conn {
            Conn::Sqlite(_) => (
                "SELECT rowid, rowid FROM contact_search WHERE contact_search MATCH ?",
                "rowid DESC",
            ),
            #[cfg(feature = "postgres")]
            Conn::Postgres(_) => (
                "SELECT contact.id, contact.created_at FROM contact_search JOIN contact ON contact.id = contact_search.rowid
                 WHERE contact_search.words @@ CAST(CAST(? AS text) AS tsquery)",
                "contact.created_at DESC, contact.id DESC",
            ),
        };
        let mut sql = format!(
            "{found_by} AND EXISTS (SELECT 1 FROM conversation WHERE conversation.contact = contact_search.rowid"
        );
        let mut values: Vec<Value> = vec![asked.into()];
        only_visible(&mut sql, &mut values, &request.actor, names);
        sql.push_str(&format!(") ORDER BY {order} LIMIT ?"));
        values.push(i64::from(CONTACTS_MAX).into());
        let mut statement = conn.prepare(&sql)?;
        let rows = statement.query_map(values.as_slice(), |row| {
            Ok((row.get::<i64>(1)?, ContactId(row.get(0)?)))
        })?;
        for id in rows {
            found.insert(id?);
        }
    }
    for conversation in held {
        let contact = reading::contact(conn, names, &request.actor, conversation.contact)?;
        let Some(contact) = contact else { continue };
        let (name, address) = contact_words(&contact);
        if request.query.is_in(&[&name, &address]) {
            let place = match conn {
                Conn::Sqlite(_) => contact.id.0,
                #[cfg(feature = "postgres")]
                Conn::Postgres(_) => contact.created_at,
            };
            found.insert((place, contact.id));
        }
    }
    let newest = found.into_iter().rev().take(CONTACTS_MAX as usize);
    Ok(newest.map(|(_, id)| id).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use rusqlite::Connection;

    use super::*;
    use crate::dispatch::{Actor, Role};
    use crate::search::{Query, indexed};
    use crate::store::sqlite::open::{migrate, open_writing};

    const MESSAGES: i64 = 500;

    /// A desk where nearly everything was said in the queue `theirs`, in two brands.
    fn desk() -> (tempfile::TempDir, Connection, Names) {
        let dir = tempfile::tempdir().unwrap();
        let conn = open_writing(&dir.path().join("switchboard.db")).unwrap();
        migrate(&conn).unwrap();
        let names = Names::default();
        let known = ["main", "outlet", "mine", "theirs"].map(str::to_owned);
        names.register((&conn).into(), &known).unwrap();
        let said = conn.unchecked_transaction().unwrap();
        for id in 1..=MESSAGES {
            let (brand, queue, text) = match id % 100 {
                0 => ("main", "mine", "a quiet word"),
                1..50 => ("main", "theirs", "the zebra zeppelin, a word"),
                _ => ("outlet", "mine", "the zebra zeppelin, a word"),
            };
            let scope = Scope {
                brand: names.id(brand),
                queue: names.id(queue),
            };
            let sql = format!(
                "INSERT INTO conversation VALUES ({id}, {brand}, {id}, 0, 1, {queue}, 0, NULL, 1, 1, {id},
                 0, 0, 0, NULL, '{{}}');
                 INSERT INTO message (id, conversation, seq, author, channel, arrived_at, body, deleted, flags)
                 VALUES ({id}, {id}, 1, 0, 1, 0, {id}, 0, 0);
                 INSERT INTO message_search (rowid, text) VALUES ({id}, '{text}');
                 INSERT INTO contact_search (rowid, name) VALUES ({id}, '{text}');
                 INSERT OR IGNORE INTO search_scope VALUES ({brand}, {queue});",
                brand = scope.brand,
                queue = scope.queue,
                text = indexed(text, scope),
            );
            said.execute_batch(&sql).unwrap();
        }
        said.commit().unwrap();
        (dir, conn, names)
    }

    fn kim() -> Actor {
        Actor {
            role: Role::Agent,
            agent: Some("kim".to_owned()),
            queues: vec!["mine".parse().unwrap()],
            brands: vec!["main".parse().unwrap()],
            acting: None,
            acts: false,
        }
    }

    fn asked(text: &str, actor: Actor) -> SearchRequest {
        SearchRequest::new(actor, Query::parse(text).unwrap(), 51)
    }

    fn look(conn: &Connection, names: &Names, request: &SearchRequest) -> usize {
        let conn = Conn::from(conn);
        let scopes = scopes(conn, names, request).unwrap();
        let held = held_elsewhere(conn, names, request).unwrap();
        if request.queue.is_none() {
            contacts_found(conn, names, request, &scopes, &held).unwrap();
        }
        messages(conn, names, request, &scopes, &held)
            .unwrap()
            .len()
    }

    /// Messages found, and how many steps the database's machine took for it.
    fn cost(conn: &mut Connection, names: &Names, request: &SearchRequest) -> (usize, u64) {
        // What is prepared once is not counted.
        look(conn, names, request);
        let steps = Arc::new(AtomicU64::new(0));
        let counting = steps.clone();
        let count = move || {
            counting.fetch_add(1, Ordering::Relaxed);
            false
        };
        conn.progress_handler(1, Some(count)).unwrap();
        let found = look(conn, names, request);
        conn.progress_handler(0, None::<fn() -> bool>).unwrap();
        (found, steps.load(Ordering::Relaxed))
    }

    #[test]
    fn what_others_wrote_costs_a_search_what_nobody_wrote_costs_it() {
        let (_dir, mut conn, names) = desk();
        for (theirs, nobodys) in [
            ("zebra", "nobody"),
            ("zeb*", "nob*"),
            ("\"zebra zeppelin\"", "\"nobody whatever\""),
            ("zebra quiet", "nobody quiet"),
            ("ze* wo*", "no* wo*"),
        ] {
            let (found, steps) = cost(&mut conn, &names, &asked(theirs, kim()));
            assert_eq!(found, 0, "{theirs}");
            let (_, none) = cost(&mut conn, &names, &asked(nobodys, kim()));
            assert_eq!(steps, none, "{theirs}");
            assert!(steps < 300, "{theirs}: {steps}");
        }
        let everybody = Actor {
            queues: Vec::new(),
            brands: Vec::new(),
            ..kim()
        };
        assert_eq!(cost(&mut conn, &names, &asked("word", kim())).0, 5);
        assert_eq!(
            cost(&mut conn, &names, &asked("quiet", everybody.clone())).0,
            5
        );
        // A queue that is asked for is looked up, too, and not sorted out afterwards.
        let within = |text: &str, queue: &str| SearchRequest {
            queue: Some(queue.parse().unwrap()),
            limit: 1,
            ..asked(text, everybody.clone())
        };
        let (found, steps) = cost(&mut conn, &names, &within("quiet", "theirs"));
        let (_, none) = cost(&mut conn, &names, &within("nobody", "theirs"));
        assert_eq!((found, steps), (0, none));
    }
}
