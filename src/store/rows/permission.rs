//! Permission as part of a question: conditions over `conversation` that hold for what an actor
//! may see. The same rule as [`Actor::may_see`].

use crate::dispatch::Actor;
use crate::store::sql::Value;

use super::names::Names;

/// Adds the conditions to a statement that has `conversation` and a `WHERE`.
pub fn only_visible(sql: &mut String, values: &mut Vec<Value>, actor: &Actor, names: &Names) {
    if !actor.role.reads_messages() {
        sql.push_str(" AND FALSE");
        return;
    }
    if bug!("permission-not-in-the-query") {
        return;
    }
    if !actor.queues.is_empty() {
        let queues = actor.queues.iter().map(|queue| names.id(queue.as_str()));
        let queues = list(queues);
        sql.push_str(&format!(
            " AND (conversation.queue IN ({queues}) OR conversation.assignee = ?)"
        ));
        // Nobody is called "": a token without an agent holds nothing.
        values.push(actor.agent.clone().unwrap_or_default().into());
    }
    if !actor.brands.is_empty() {
        let brands = actor.brands.iter().map(|brand| names.id(brand.as_str()));
        let brands = list(brands);
        sql.push_str(&format!(" AND conversation.brand IN ({brands})"));
    }
}

fn list(ids: impl Iterator<Item = i64>) -> String {
    ids.map(|id| id.to_string()).collect::<Vec<_>>().join(",")
}
