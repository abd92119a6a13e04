//! Conversations as a list, the one opened last first. Ids do not say which that is: processes that share a
//! database draw theirs in blocks, and history began before it was filed.

use crate::dispatch::Actor;
use crate::ids::ConversationId;
use crate::router::facts::Conversation;
use crate::store::ConversationFilter;
use crate::store::rows::permission::only_visible;
use crate::store::sql::{self, Conn, Value};

use super::super::facts::{conversation_of, select_conversations};
use super::{Names, Result};

/// Those behind a place in the list: a page gives what it would have given, whatever came before it meanwhile.
pub fn conversations(
    conn: Conn<'_>,
    names: &Names,
    actor: &Actor,
    filter: &ConversationFilter,
    before: Option<(i64, ConversationId)>,
) -> Result<Vec<Conversation>> {
    let (sql, values) = asked(names, actor, filter, before);
    let mut statement = conn.prepare(&sql)?;
    let rows = statement.query_map(values.as_slice(), |row| conversation_of(row, names))?;
    Ok(rows.collect::<sql::Result<_>>()?)
}

fn asked(
    names: &Names,
    actor: &Actor,
    filter: &ConversationFilter,
    before: Option<(i64, ConversationId)>,
) -> (String, Vec<Value>) {
    let (opened_at, id) = before.map_or((i64::MAX, i64::MAX), |(at, id)| (at, id.0));
    let mut sql = select_conversations!("WHERE (opened_at, id) < (?, ?)").to_owned();
    let mut values: Vec<Value> = vec![opened_at.into(), id.into()];
    let mut and = |condition: &str, value: Value| {
        sql.push_str(condition);
        values.push(value);
    };
    if let Some(status) = filter.status {
        and(" AND status = ?", status.code().into());
    }
    if let Some(queue) = &filter.queue {
        and(" AND queue = ?", names.id(queue.as_str()).into());
    }
    if let Some(assignee) = &filter.assignee {
        and(" AND assignee = ?", assignee.clone().into());
    }
    if let Some(contact) = filter.contact {
        and(" AND contact = ?", contact.0.into());
    }
    only_visible(&mut sql, &mut values, actor, names);
    if !filter.merged {
        sql.push_str(" AND json_extract(detail, '$.merged_into') IS NULL");
    }
    sql.push_str(" ORDER BY opened_at DESC, id DESC LIMIT ?");
    values.push(i64::from(filter.limit).into());
    (sql, values)
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;
    use crate::conversation::Status;
    use crate::dispatch::Role;
    use crate::ids::ContactId;
    use crate::store::sqlite::open::{migrate, open_writing};

    /// Which index a list is read by, in its order: nothing is sorted and nothing else is looked through.
    fn check(conn: &Connection, filter: ConversationFilter, index: &str) {
        let actor = Actor {
            role: Role::Agent,
            agent: Some("kim".to_owned()),
            queues: vec!["mine".parse().unwrap()],
            brands: vec!["main".parse().unwrap()],
            acting: None,
            acts: false,
        };
        let (sql, _) = asked(&Names::default(), &actor, &filter, None);
        let mut plan = conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let nothing = rusqlite::params_from_iter(vec![None::<i64>; plan.parameter_count()]);
        let steps = plan.query_map(nothing, |row| row.get::<_, String>(3));
        let steps: Vec<String> = steps.unwrap().map(|step| step.unwrap()).collect();
        let [step] = &steps[..] else {
            panic!("{filter:?}: {steps:?}");
        };
        let expected = format!("SEARCH conversation USING INDEX {index} (");
        assert!(step.starts_with(&expected), "{filter:?}: {step}");
        assert!(step.contains("opened_at"), "{filter:?}: {step}");
    }

    #[test]
    fn every_list_is_read_in_its_order_from_where_its_page_begins() {
        let dir = tempfile::tempdir().unwrap();
        let conn = open_writing(&dir.path().join("switchboard.db")).unwrap();
        migrate(&conn).unwrap();
        let all = ConversationFilter {
            limit: 51,
            ..ConversationFilter::default()
        };
        let queue: connector_api::QueueId = "mine".parse().unwrap();
        check(&conn, all.clone(), "conversation_opened");
        let of_queue = ConversationFilter {
            queue: Some(queue.clone()),
            ..all.clone()
        };
        check(&conn, of_queue, "conversation_opened");
        let resolved = ConversationFilter {
            status: Some(Status::Resolved),
            queue: Some(queue),
            ..all.clone()
        };
        check(&conn, resolved, "conversation_status");
        let of_kim = ConversationFilter {
            assignee: Some("kim".to_owned()),
            ..all.clone()
        };
        check(&conn, of_kim, "conversation_assignee");
        let of_ada = ConversationFilter {
            contact: Some(ContactId(1)),
            ..all
        };
        check(&conn, of_ada, "conversation_contact");
    }
}
