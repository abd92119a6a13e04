//! What agents do: claims, replies, notes, ends. One transaction each; the decision is `dispatch`'s.

use connector_api::QueueId;

use crate::conversation::Status;
use crate::dispatch::verbs::{self, Done, Target, Verb};
use crate::dispatch::{self, Action, Actor, Refusal};
use crate::ids::ConversationId;
use crate::router::effects::{EventType, NewEvent};
use crate::router::facts::Conversation;
use crate::store::sql::{self, Conn, Optional as _};
use crate::store::{Doing, Idempotency, Rings, Senders, StoreError, Token, Woken};

use super::effects::write_conversation;
use super::events::write_events;
use super::facts::conversation;
use super::operating;
use crate::store::rows::Tx;

mod answered;
mod contact;
mod idempotency;
mod once;
mod participants;
mod reply;
mod start;

pub use contact::edit_contact;
pub use idempotency::{Kept, keep, kept, kept_message, still_there};
pub use once::{once, told};
pub use reply::{cancel, note, overtaken, reply};
pub use start::start;

/// How many waiting rows are looked at for one that the actor may take.
const CLAIM_LOOKAHEAD: i64 = 100;

/// Gives the first of the queue to the actor, in the transaction that read it: two agents never
/// get one conversation. Under a key it is the same again, while it is still the actor's.
pub fn claim(
    tx: &mut Tx<'_>,
    queue: &QueueId,
    actor: &Actor,
    idempotency: Option<&Idempotency>,
    now: i64,
) -> Result<Option<Conversation>, StoreError> {
    if let Some(Kept::Conversation(id)) = kept(tx, idempotency, now)? {
        return once::claimed_before(tx, id, actor).map(Some);
    }
    if !actor.may_use_queue(queue) {
        return Err(Refusal::NotFound { what: "queue" }.into());
    }
    let number = tx.memory.names.id(queue.as_str());
    let brands: Vec<String> = actor
        .brands
        .iter()
        .map(|brand| tx.memory.names.id(brand.as_str()).to_string())
        .collect();
    let waiting = match brands.is_empty() {
        true => "SELECT id FROM waiting WHERE queue = ?1 ORDER BY fit_class, rank, id".to_owned(),
        false => format!(
            "SELECT waiting.id FROM waiting JOIN conversation ON conversation.id = waiting.id
             WHERE waiting.queue = ?1 AND conversation.brand IN ({})
             ORDER BY waiting.fit_class, waiting.rank, waiting.id",
            brands.join(",")
        ),
    };
    for passed in 0..CLAIM_LOOKAHEAD {
        let Some(id) = first_waiting(tx, &waiting, number, passed)? else {
            break;
        };
        tx.lock_conversation(id)?;
        let Some(mut found) = conversation(tx.conn, &tx.memory.names, id)? else {
            continue;
        };
        // Whoever had it before may have been waited for.
        if found.status != Status::Queued || found.queue != *queue {
            continue;
        }
        let event = dispatch::claim(&mut found, actor)?;
        if !bug!("claim-not-written") {
            write_conversation(tx, &found, false)?;
        }
        let detail = actor.signature();
        write_events(tx, &[event_of(event, id, now, Some(detail))])?;
        keep(tx, idempotency, Kept::Conversation(id), now)?;
        return Ok(Some(found));
    }
    // An agent without a name cannot hold anything: say so even when nothing waits.
    if !actor.role.works() || actor.agent.is_none() {
        return Err(Refusal::Role { role: actor.role }.into());
    }
    Ok(None)
}

/// The first of the queue that nobody else is claiming. A claim waits for a router that writes to the
/// conversation, and so overtakes nothing; only claims pass each other by. `passed` were in vain.
fn first_waiting(
    tx: &Tx<'_>,
    waiting: &str,
    queue: i64,
    passed: i64,
) -> Result<Option<ConversationId>, StoreError> {
    let mut statement = match tx.conn {
        Conn::Sqlite(_) => tx.conn.prepare(&format!("{waiting} LIMIT 1 OFFSET ?2"))?,
        // What was in vain waits no more. The lock is one that only claims know.
        #[cfg(feature = "postgres")]
        Conn::Postgres(_) => tx.conn.prepare(&format!(
            "WITH first AS MATERIALIZED ({waiting} LIMIT {CLAIM_LOOKAHEAD})
             SELECT id FROM first WHERE pg_try_advisory_xact_lock(id) AND ?2 >= 0 LIMIT 1"
        ))?,
    };
    let found = statement.query_row([queue, passed], |row| row.get(0));
    Ok(found.optional()?.map(ConversationId))
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
        write_conversation(tx, &found, false)?;
        let detail = actor.signature();
        write_events(tx, &[event_of(event, id, now, Some(detail))])?;
    }
    Ok(found)
}

/// Does what a person asks for with one conversation. `senders` are the channels that can send;
/// `None` where that is not known.
pub fn perform(
    tx: &mut Tx<'_>,
    doing: &Doing,
    senders: Option<&Senders>,
) -> Result<Conversation, StoreError> {
    let mut found = visible(tx, doing.conversation, &doing.actor, doing.version)?;
    let verb = participants::as_read(&found, &doing.verb, senders)?;
    let done = verbs::perform(&mut found, &doing.actor, &verb, doing.at)?;
    if let Some(done) = done {
        if let Verb::Transfer(Target::Agent { name, .. }) = &doing.verb {
            let tokens = operating::tokens_of(tx.conn, name)?;
            let theirs: Vec<Actor> = tokens.iter().filter_map(Token::actor).collect();
            verbs::may_be_given(&found, name, &doing.actor, &theirs)?;
        }
        write_conversation(tx, &found, false)?;
        if let Verb::Snooze { until } = doing.verb {
            tx.conn.write(
                "INSERT INTO timer (due_at, conversation) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
                [until, found.id.0],
            )?;
        }
        write_done(tx, &found, done, doing.at)?;
    }
    Ok(found)
}

/// Wakes what has slept long enough. A timer whose conversation was woken by the customer, or put
/// off further, is merely dropped.
pub fn wake_due(tx: &mut Tx<'_>, limit: u32, now: i64) -> Result<Woken, StoreError> {
    let due: Vec<(i64, i64)> = {
        let mut statement = tx.conn.prepare(
            "SELECT due_at, conversation FROM timer WHERE due_at <= ?1 ORDER BY due_at LIMIT ?2",
        )?;
        let rows = statement.query_map([now, i64::from(limit)], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
        rows.collect::<sql::Result<_>>()?
    };
    tx.lock_matters(due.iter().map(|(_, id)| ConversationId(*id)))?;
    let mut woken = Woken::default();
    for (due_at, id) in due {
        tx.conn.write(
            "DELETE FROM timer WHERE due_at = ?1 AND conversation = ?2",
            [due_at, id],
        )?;
        let Some(mut found) = conversation(tx.conn, &tx.memory.names, ConversationId(id))? else {
            continue;
        };
        if found.status != Status::Snoozed || found.detail.snoozed_until != Some(due_at) {
            continue;
        }
        let done = verbs::wake(&mut found);
        found.version += 1;
        write_conversation(tx, &found, false)?;
        write_done(tx, &found, done, now)?;
        if found.status == Status::Queued {
            woken.rings.add(Rings {
                queues: vec![found.queue],
                ..Rings::default()
            });
        }
    }
    woken.next = tx
        .conn
        .prepare("SELECT min(due_at) FROM timer")?
        .query_row((), |row| row.get(0))?;
    Ok(woken)
}

fn write_done(
    tx: &mut Tx<'_>,
    found: &Conversation,
    done: Done,
    at: i64,
) -> Result<(), StoreError> {
    let event = event_of(done.event, found.id, at, Some(done.detail));
    write_events(tx, &[event])
}

pub fn has_other_open(tx: &Tx<'_>, conversation: &Conversation) -> Result<bool, StoreError> {
    let mut statement = tx.conn.prepare(
        "SELECT 1 FROM conversation WHERE contact = ?1 AND matter = 0 AND status < 8 AND id <> ?2",
    )?;
    Ok(statement.exists([conversation.contact.0, conversation.id.0])?)
}

/// The conversation, where the actor may see it and it is at the version the caller knows.
pub fn visible(
    tx: &mut Tx<'_>,
    id: ConversationId,
    actor: &Actor,
    version: Option<i64>,
) -> Result<Conversation, StoreError> {
    tx.lock_matters([id])?;
    let found = conversation(tx.conn, &tx.memory.names, id)?;
    let found = found
        .filter(|found| actor.may_see(found))
        .ok_or(Refusal::NotFound {
            what: "conversation",
        })?;
    at_version(&found, version)?;
    dispatch::surgery::whole(&found)?;
    Ok(found)
}

/// Refuses another version than the caller knows.
pub fn at_version(found: &Conversation, version: Option<i64>) -> Result<(), Refusal> {
    match version {
        Some(given) if given != found.version => Err(Refusal::Stale {
            current: found.version,
            given,
        }),
        _ => Ok(()),
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
