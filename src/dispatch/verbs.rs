//! What people do with a conversation besides answering it: put it off, hand it on, say what it is
//! about and who belongs to it. Pure decisions over one conversation, as in [`super`].

use std::collections::BTreeMap;

use connector_api::{Namespace, QueueId, Recipient};
use serde_json::{Value, json};

use crate::conversation::{Priority, Status};
use crate::router::effects::EventType;
use crate::router::facts::{Conversation, Role};

use super::address::add_participant;
use super::{Actor, Refusal, Role as TokenRole};

/// Facts of the shop's own, by name.
pub type Attributes = BTreeMap<String, Value>;

/// Bounds of what is kept with a conversation.
pub const TAGS_MAX: usize = 50;
pub const TAG_CHARS_MAX: usize = 64;
pub const ATTRIBUTES_MAX: usize = 50;
pub const ATTRIBUTE_NAME_CHARS_MAX: usize = 64;
pub const ATTRIBUTE_CHARS_MAX: usize = 1_000;
/// Longest agent name, in characters.
pub const AGENT_CHARS_MAX: usize = 64;
/// How long something may be put off: a year and a bit, in microseconds.
pub const LATER_MAX: i64 = 400 * 24 * 60 * 60 * 1_000_000;

/// What is done.
#[derive(Debug, Clone, PartialEq)]
pub enum Verb {
    Edit(Edit),
    /// Out of sight until then (UTC microseconds), or until the customer writes.
    Snooze {
        until: i64,
    },
    /// Back before its time.
    Wake,
    Transfer(Target),
    AddParticipant {
        recipient: Recipient,
        role: Role,
    },
    RemoveParticipant {
        namespace: Namespace,
        address: String,
    },
}

/// What is said about a conversation; `None` leaves it as it is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Edit {
    pub priority: Option<Priority>,
    /// All of them; then what is added and removed.
    pub tags: Option<Vec<String>>,
    pub add_tags: Vec<String>,
    pub remove_tags: Vec<String>,
    /// Merged into what is there; null removes one (RFC 7396).
    pub attributes: Attributes,
    pub subject: Option<String>,
}

/// To whom a conversation is handed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// It waits there, with the rank it has.
    Queue(QueueId),
    /// It is theirs, in its queue or another one.
    Agent {
        name: String,
        queue: Option<QueueId>,
    },
}

/// What a verb did: the event, and what the event says.
#[derive(Debug, Clone, PartialEq)]
pub struct Done {
    pub event: EventType,
    pub detail: Value,
}

impl Verb {
    fn as_str(&self) -> &'static str {
        match self {
            Self::Edit(_) => "change",
            Self::Snooze { .. } => "snooze",
            Self::Wake => "wake",
            Self::Transfer(_) => "transfer",
            Self::AddParticipant { .. } | Self::RemoveParticipant { .. } => {
                "change the participants of"
            }
        }
    }

    /// Anybody who sees a conversation and works may say what it is about; the rest is its
    /// holder's, or a supervisor's.
    fn needs_holder(&self) -> bool {
        !matches!(self, Self::Edit(_))
    }
}

/// Does it, or says why not. `Ok(None)`: it was so already.
pub fn perform(
    conversation: &mut Conversation,
    actor: &Actor,
    verb: &Verb,
    now: i64,
) -> Result<Option<Done>, Refusal> {
    if !actor.role.works() {
        return Err(Refusal::Role { role: actor.role });
    }
    if verb.needs_holder() && actor.role != TokenRole::Supervisor && !actor.holds(conversation) {
        return Err(Refusal::NotAssignee {
            action: verb.as_str(),
            status: conversation.status,
            holder: conversation.assignee.clone(),
        });
    }
    let done = match verb {
        Verb::Edit(edit) => apply(conversation, edit)?,
        Verb::Snooze { until } => snooze(conversation, verb, *until, now)?,
        Verb::Wake => match conversation.status {
            Status::Snoozed => Some(wake(conversation)),
            _ => return Err(wrong_state(conversation, verb)),
        },
        Verb::Transfer(target) => transfer(conversation, verb, target)?,
        Verb::AddParticipant { recipient, role } => {
            let shown =
                json!({ "namespace": recipient.namespace.as_str(), "address": recipient.address });
            add_participant(conversation, recipient, *role)?.then(|| Done {
                event: EventType::ConversationParticipants,
                detail: json!({ "added": shown }),
            })
        }
        Verb::RemoveParticipant { namespace, address } => {
            remove_participant(conversation, namespace, address)?
        }
    };
    if let Some(done) = &done {
        conversation.version += 1;
        debug_assert!(done.detail.is_object(), "what a verb did has names");
    }
    Ok(done.map(|mut done| {
        actor.sign(&mut done.detail);
        done
    }))
}

/// Back to its holder, or into its queue with the rank it had.
pub fn wake(conversation: &mut Conversation) -> Done {
    conversation.status = match conversation.assignee {
        Some(_) => Status::Assigned,
        None => Status::Queued,
    };
    conversation.detail.snoozed_until = None;
    Done {
        event: EventType::ConversationWoken,
        detail: json!({}),
    }
}

fn wrong_state(conversation: &Conversation, verb: &Verb) -> Refusal {
    Refusal::WrongState {
        action: verb.as_str(),
        status: conversation.status,
        holder: conversation.assignee.clone(),
    }
}

fn snooze(
    conversation: &mut Conversation,
    verb: &Verb,
    until: i64,
    now: i64,
) -> Result<Option<Done>, Refusal> {
    if until <= now || until - now > LATER_MAX {
        return Err(Refusal::Unusable {
            field: "until",
            reason: "\"until\" must lie in the future, at most 400 days from now".to_owned(),
        });
    }
    let may_sleep = matches!(
        conversation.status,
        Status::Queued | Status::Assigned | Status::Wrapping | Status::Pending | Status::Snoozed
    );
    if !may_sleep {
        return Err(wrong_state(conversation, verb));
    }
    if conversation.status == Status::Snoozed && conversation.detail.snoozed_until == Some(until) {
        return Ok(None);
    }
    conversation.status = Status::Snoozed;
    conversation.detail.snoozed_until = Some(until);
    Ok(Some(Done {
        event: EventType::ConversationSnoozed,
        detail: json!({ "until": until }),
    }))
}

fn transfer(
    conversation: &mut Conversation,
    verb: &Verb,
    target: &Target,
) -> Result<Option<Done>, Refusal> {
    if !conversation.status.is_open() {
        return Err(wrong_state(conversation, verb));
    }
    let before = (conversation.queue.clone(), conversation.assignee.clone());
    let (status, queue, assignee) = match target {
        Target::Queue(queue) => (Status::Queued, queue.clone(), None),
        Target::Agent { name, queue } => {
            check_agent(name)?;
            let queue = queue.clone().unwrap_or_else(|| conversation.queue.clone());
            (Status::Assigned, queue, Some(name.clone()))
        }
    };
    if (
        conversation.status,
        &conversation.queue,
        &conversation.assignee,
    ) == (status, &queue, &assignee)
    {
        return Ok(None);
    }
    conversation.status = status;
    conversation.queue = queue;
    conversation.assignee = assignee;
    conversation.detail.snoozed_until = None;
    Ok(Some(Done {
        event: EventType::ConversationTransferred,
        detail: json!({
            "from": { "queue": before.0.as_str(), "agent": before.1 },
            "to": { "queue": conversation.queue.as_str(), "agent": conversation.assignee },
        }),
    }))
}

/// Whether an agent could work on a conversation that is given to them, by the tokens in their name:
/// what nobody sees, nobody answers. A backend names agents who have none.
pub fn may_be_given(
    conversation: &Conversation,
    name: &str,
    by: &Actor,
    theirs: &[Actor],
) -> Result<(), Refusal> {
    let could = |token: &Actor| token.role.works() && token.may_see(conversation);
    match by.acts || theirs.iter().any(could) {
        true => Ok(()),
        false => Err(Refusal::Unusable {
            field: "agent",
            reason: format!(
                "there is no agent {name:?} who could work on this conversation: no token of that name is for its brand"
            ),
        }),
    }
}

/// An agent's name as tokens have it.
pub fn check_agent(name: &str) -> Result<(), Refusal> {
    let fits = !name.trim().is_empty()
        && name.chars().nth(AGENT_CHARS_MAX).is_none()
        && !name.chars().any(char::is_control);
    match fits {
        true => Ok(()),
        false => Err(Refusal::Unusable {
            field: "agent",
            reason: format!("an agent's name has 1 to {AGENT_CHARS_MAX} characters"),
        }),
    }
}

fn remove_participant(
    conversation: &mut Conversation,
    namespace: &Namespace,
    address: &str,
) -> Result<Option<Done>, Refusal> {
    let participants = &mut conversation.detail.participants;
    let at = participants
        .iter()
        .position(|known| known.namespace == *namespace && known.address == address);
    let Some(at) = at else {
        return Err(Refusal::NotFound {
            what: "participant",
        });
    };
    if participants[at].role == Role::Customer {
        return Err(Refusal::Unusable {
            field: "address",
            reason: "a customer who wrote cannot be taken out of the conversation".to_owned(),
        });
    }
    participants.remove(at);
    Ok(Some(Done {
        event: EventType::ConversationParticipants,
        detail: json!({ "removed": { "namespace": namespace.as_str(), "address": address } }),
    }))
}

fn apply(conversation: &mut Conversation, edit: &Edit) -> Result<Option<Done>, Refusal> {
    let mut changed = serde_json::Map::new();
    if let Some(priority) = edit.priority
        && priority != conversation.priority
    {
        conversation.priority = priority;
        changed.insert("priority".to_owned(), json!(priority));
    }
    let tags = tags_of(&conversation.detail.tags, edit)?;
    if tags != conversation.detail.tags {
        changed.insert("tags".to_owned(), json!(tags));
        conversation.detail.tags = tags;
    }
    let attributes = attributes_of(&conversation.detail.attributes, &edit.attributes)?;
    if attributes != conversation.detail.attributes {
        changed.insert("attributes".to_owned(), json!(attributes));
        conversation.detail.attributes = attributes;
    }
    if let Some(subject) = &edit.subject
        && conversation.detail.subject.as_ref() != Some(subject)
    {
        changed.insert("subject".to_owned(), json!(subject));
        conversation.detail.subject = Some(subject.clone());
    }
    Ok((!changed.is_empty()).then_some(Done {
        event: EventType::ConversationUpdated,
        detail: Value::Object(changed),
    }))
}

fn tags_of(known: &[String], edit: &Edit) -> Result<Vec<String>, Refusal> {
    let mut tags: Vec<String> = Vec::new();
    let wanted = edit.tags.as_deref().unwrap_or(known);
    for tag in wanted.iter().chain(&edit.add_tags) {
        let tag = tag.trim();
        let fits = !tag.is_empty()
            && tag.chars().nth(TAG_CHARS_MAX).is_none()
            && !tag.chars().any(char::is_control);
        if !fits {
            return Err(Refusal::Unusable {
                field: "tags",
                reason: format!("a tag has 1 to {TAG_CHARS_MAX} characters on one line"),
            });
        }
        if !tags.iter().any(|known| known == tag) {
            tags.push(tag.to_owned());
        }
    }
    tags.retain(|tag| !edit.remove_tags.contains(tag));
    if tags.len() > TAGS_MAX {
        return Err(Refusal::Unusable {
            field: "tags",
            reason: format!("a conversation has at most {TAGS_MAX} tags"),
        });
    }
    Ok(tags)
}

/// Merges, and checks what comes of it.
pub fn attributes_of(known: &Attributes, patch: &Attributes) -> Result<Attributes, Refusal> {
    let wrong = |reason: String| Refusal::Unusable {
        field: "attributes",
        reason,
    };
    let mut merged = known.clone();
    for (name, value) in patch {
        let named = !name.is_empty()
            && name.len() <= ATTRIBUTE_NAME_CHARS_MAX
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
        if !named {
            return Err(wrong(format!(
                "an attribute's name has 1 to {ATTRIBUTE_NAME_CHARS_MAX} letters, digits, \"_\", \"-\" and \".\""
            )));
        }
        match value {
            Value::Null => {
                merged.remove(name);
                continue;
            }
            Value::Array(_) | Value::Object(_) => {
                return Err(wrong(format!(
                    "the attribute \"{name}\" must be a text, a number, true or false"
                )));
            }
            Value::String(text) if text.chars().nth(ATTRIBUTE_CHARS_MAX).is_some() => {
                return Err(wrong(format!(
                    "the attribute \"{name}\" may have {ATTRIBUTE_CHARS_MAX} characters"
                )));
            }
            _ => merged.insert(name.clone(), value.clone()),
        };
    }
    if merged.len() > ATTRIBUTES_MAX {
        return Err(wrong(format!(
            "at most {ATTRIBUTES_MAX} attributes are kept"
        )));
    }
    Ok(merged)
}
