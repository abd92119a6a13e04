//! Dispatch: who may take, hold and end a conversation. Pure decisions over one conversation; the
//! store applies them in the transaction that read it.

use connector_api::{BrandId, ChannelId, Namespace, QueueId};

use crate::conversation::{Delivery, Status};
use crate::ids::MessageId;
use crate::router::effects::EventType;
use crate::router::facts::Conversation;

pub mod address;
pub mod fit;
pub mod macros;
pub mod privacy;
pub mod surgery;
pub mod verbs;

/// What a token's holder may do.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Agent,
    Supervisor,
    Admin,
    Connector,
    Reader,
}

impl Role {
    pub const ALL: [Self; 5] = [
        Self::Agent,
        Self::Supervisor,
        Self::Admin,
        Self::Connector,
        Self::Reader,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Supervisor => "supervisor",
            Self::Admin => "admin",
            Self::Connector => "connector",
            Self::Reader => "reader",
        }
    }

    /// As a sentence has it: "an agent", "a reader".
    pub fn with_article(self) -> String {
        let article = match self {
            Self::Agent | Self::Admin => "an",
            Self::Supervisor | Self::Connector | Self::Reader => "a",
        };
        format!("{article} {}", self.as_str())
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text)
    }

    /// Admins configure and read no messages; connectors only deliver.
    pub fn reads_messages(self) -> bool {
        matches!(self, Self::Agent | Self::Supervisor | Self::Reader)
    }

    pub fn works(self) -> bool {
        matches!(self, Self::Agent | Self::Supervisor)
    }
}

/// Who acts, and how far that reaches. Empty lists are no limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    pub role: Role,
    /// The agent's name; a supervisor has one where it works itself.
    pub agent: Option<String>,
    pub queues: Vec<QueueId>,
    pub brands: Vec<BrandId>,
    /// The token of the backend that acts for the agent, where one does.
    pub acting: Option<i64>,
    /// Whether its agents are the token's own to name: a backend's have no tokens.
    pub acts: bool,
}

impl Actor {
    /// Who did something, as events keep it.
    pub fn signature(&self) -> serde_json::Value {
        let mut detail = serde_json::json!({});
        self.sign(&mut detail);
        detail
    }

    /// Adds to what an event keeps who did it.
    pub fn sign(&self, detail: &mut serde_json::Value) {
        detail["agent"] = self.agent.clone().into();
        if let Some(token) = self.acting {
            detail["acting_token"] = token.into();
        }
    }

    pub fn may_use_queue(&self, queue: &QueueId) -> bool {
        self.queues.is_empty() || self.queues.contains(queue)
    }

    /// What this actor may not see does not exist for it.
    pub fn may_see(&self, conversation: &Conversation) -> bool {
        let assignee = conversation.assignee.as_deref();
        self.may_see_at(&conversation.brand, &conversation.queue, assignee)
    }

    /// Whether it may see a conversation that stands there.
    pub fn may_see_at(&self, brand: &BrandId, queue: &QueueId, assignee: Option<&str>) -> bool {
        let own = self.agent.is_some() && self.agent.as_deref() == assignee;
        self.role.reads_messages()
            && (self.brands.is_empty() || self.brands.contains(brand))
            && (own || self.may_use_queue(queue))
    }

    pub fn holds(&self, conversation: &Conversation) -> bool {
        self.agent.is_some() && self.agent == conversation.assignee
    }
}

/// What an agent does with a conversation it can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Back into its queue, with the rank it had.
    Release,
    Resolve,
    Reopen,
    /// An answer was written: now the customer is waited for.
    Reply,
    Note,
    /// Says what became of a held reply.
    Settle,
}

impl Action {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Resolve => "resolve",
            Self::Reopen => "reopen",
            Self::Reply => "reply to",
            Self::Note => "note on",
            Self::Settle => "settle a message of",
        }
    }
}

/// What has to be done first.
fn before_it(action: &str, status: Status) -> &'static str {
    match status {
        _ if action != Action::Reply.as_str() => "",
        Status::New | Status::Queued => "; whoever claims it answers it",
        Status::Resolved => "; reopen it first",
        _ => "",
    }
}

/// Why not; names the state and the holder where these are the reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("there is no such {what}")]
    NotFound { what: &'static str },
    #[error("cannot {action} this conversation: it is {}{}", status.as_str(), before_it(action, *status))]
    WrongState {
        action: &'static str,
        status: Status,
        holder: Option<String>,
    },
    #[error("cannot {action} this conversation: it is not yours")]
    NotAssignee {
        action: &'static str,
        status: Status,
        holder: Option<String>,
    },
    #[error("{} may not do this", role.with_article())]
    Role { role: Role },
    /// It is for more than the token is.
    #[error("this token keeps what is of its own {field} only: {}", own.join(", "))]
    Beyond {
        field: &'static str,
        own: Vec<String>,
    },
    #[error("it is at version {current}, not {given}")]
    Stale { current: i64, given: i64 },
    #[error("no channel of this conversation can be answered: {reason}")]
    NotAnswerable { reason: String },
    #[error("this Idempotency-Key was used for another request")]
    KeyReused,
    /// The conversation of a repeated claim; how it stands, where that may be seen.
    #[error(
        "what this Idempotency-Key claimed is not yours any more: claim again under another key"
    )]
    ClaimOver {
        stands: Option<(Status, Option<String>)>,
    },
    /// No channel of the brand writes to such an address; in which namespaces they read it, and
    /// what is wrong with it where they do not.
    #[error(
        "no channel of this brand writes to {address:?} as an address of {namespace}{}",
        why.as_ref().map(|why| format!(": {why}")).unwrap_or_default(), namespace = namespace.as_str()
    )]
    Unreachable {
        address: String,
        namespace: Namespace,
        reads: Vec<String>,
        why: Option<String>,
    },
    /// Something the request asks for that cannot be.
    #[error("{reason}")]
    Unusable { field: &'static str, reason: String },
    /// What the writer had read was not the last word any more.
    #[error("the customer wrote meanwhile: read it, and send again")]
    Overtaken { last: MessageId },
    #[error("only a held message can be settled: this one is {}", .delivery.map_or("not one that was sent", Delivery::as_str))]
    NotHeld { delivery: Option<Delivery> },
    #[error("only a message that has not left can be taken back: this one is {}", .delivery.map_or("not one that is sent", Delivery::as_str))]
    NotQueued { delivery: Option<Delivery> },
    #[error("{0}")]
    Surgery(#[from] surgery::Refused),
    #[error("{0}")]
    Privacy(#[from] privacy::Refused),
    #[error("the text has {length} {unit}; the channel {channel} takes {max}")]
    TooLong {
        channel: ChannelId,
        length: u64,
        max: u32,
        unit: &'static str,
    },
    #[error(
        "the channel {channel} takes answers for {window_seconds} seconds after the customer's last message; that time is over"
    )]
    WindowClosed {
        channel: ChannelId,
        window_seconds: u64,
    },
}

/// Takes a queued conversation for the actor.
pub fn claim(conversation: &mut Conversation, actor: &Actor) -> Result<EventType, Refusal> {
    if !actor.role.works() || actor.agent.is_none() {
        return Err(Refusal::Role { role: actor.role });
    }
    conversation.status = Status::Assigned;
    conversation.assignee.clone_from(&actor.agent);
    conversation.version += 1;
    Ok(EventType::ConversationAssigned)
}

/// Whether the actor may take a reply of this conversation back.
pub fn cancel(conversation: &Conversation, actor: &Actor) -> Result<(), Refusal> {
    if !actor.role.works() {
        return Err(Refusal::Role { role: actor.role });
    }
    if actor.role == Role::Supervisor || actor.holds(conversation) {
        return Ok(());
    }
    Err(Refusal::NotAssignee {
        action: "take back an answer of",
        status: conversation.status,
        holder: conversation.assignee.clone(),
    })
}

/// Applies `action`, or says why not. `Ok(None)`: it was so already.
pub fn act(
    conversation: &mut Conversation,
    actor: &Actor,
    action: Action,
    now: i64,
) -> Result<Option<EventType>, Refusal> {
    if !actor.role.works() {
        return Err(Refusal::Role { role: actor.role });
    }
    let status = conversation.status;
    let holder = conversation.assignee.clone();
    let wrong_state = || Refusal::WrongState {
        action: action.as_str(),
        status,
        holder: holder.clone(),
    };
    let permitted = actor.role == Role::Supervisor
        || actor.holds(conversation)
        || bug!("anybody-acts-on-what-another-holds");
    let held = || {
        let refusal = Refusal::NotAssignee {
            action: action.as_str(),
            status,
            holder: holder.clone(),
        };
        if permitted { Ok(()) } else { Err(refusal) }
    };
    let event = match action {
        Action::Note => return Ok(None),
        // What became of a message is known or not in any state of its conversation.
        Action::Settle => {
            held()?;
            return Ok(None);
        }
        Action::Release => {
            if !matches!(
                status,
                Status::Assigned | Status::Wrapping | Status::Pending | Status::Snoozed
            ) {
                return Err(wrong_state());
            }
            held()?;
            conversation.status = Status::Queued;
            conversation.assignee = None;
            if bug!("age-reset-on-release") {
                conversation.enqueued_at = now;
            }
            EventType::ConversationReleased
        }
        Action::Resolve => {
            if !status.is_open() {
                return Err(wrong_state());
            }
            held()?;
            conversation.status = Status::Resolved;
            conversation.resolved_at = Some(now);
            EventType::ConversationResolved
        }
        Action::Reopen => {
            if status != Status::Resolved {
                return Err(wrong_state());
            }
            conversation.status = Status::Queued;
            conversation.assignee = None;
            conversation.resolved_at = None;
            conversation.enqueued_at = now;
            EventType::ConversationReopened
        }
        Action::Reply => {
            let taken = matches!(
                status,
                Status::Assigned | Status::Wrapping | Status::Pending | Status::Snoozed
            );
            let supervised = actor.role == Role::Supervisor && status.is_open();
            if !taken && !supervised {
                return Err(wrong_state());
            }
            held()?;
            if status != Status::Queued {
                conversation.status = Status::Pending;
            }
            return Ok(None);
        }
    };
    conversation.version += 1;
    Ok(Some(event))
}
