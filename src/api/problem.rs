//! What the API answers when it does not do what was asked: RFC 9457 problems, of one type.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tracing::error;
use utoipa::ToSchema;

use crate::conversation::{Delivery, Status};
use crate::dispatch::surgery::Refused;
use crate::dispatch::{Refusal, Role, privacy};
use crate::store::StoreError;

pub const PROBLEM_JSON: &str = "application/problem+json";
/// What a caller is told to wait when the daemon cannot serve it now.
const RETRY_AFTER_SECONDS: u32 = 5;

/// Which problem; part of `type`, and what clients branch on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    BadRequest,
    IdempotencyKeyRequired,
    Unauthorized,
    Forbidden,
    NotAssignee,
    NotFound,
    MethodNotAllowed,
    RequestTimeout,
    WrongState,
    NotAnswerable,
    NotHeld,
    NotQueued,
    CustomerWrote,
    WindowClosed,
    NotStored,
    LinkExpired,
    Stale,
    TooLarge,
    UnsupportedMediaType,
    OutOfRange,
    Unprocessable,
    TextTooLong,
    IdempotencyKeyReused,
    TooBroad,
    Internal,
    NotReady,
    Unavailable,
    Overloaded,
    TooMany,
    MergedAway,
    AnotherContact,
    NotInConversation,
    OperationTooLarge,
    UndoFirst,
    AlreadyUndone,
    OnHold,
}

impl Kind {
    pub const ALL: [Self; 36] = [
        Self::BadRequest,
        Self::IdempotencyKeyRequired,
        Self::Unauthorized,
        Self::Forbidden,
        Self::NotAssignee,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::RequestTimeout,
        Self::WrongState,
        Self::NotAnswerable,
        Self::NotHeld,
        Self::NotQueued,
        Self::CustomerWrote,
        Self::WindowClosed,
        Self::NotStored,
        Self::LinkExpired,
        Self::Stale,
        Self::TooLarge,
        Self::UnsupportedMediaType,
        Self::OutOfRange,
        Self::Unprocessable,
        Self::TextTooLong,
        Self::IdempotencyKeyReused,
        Self::TooBroad,
        Self::Internal,
        Self::NotReady,
        Self::Unavailable,
        Self::Overloaded,
        Self::TooMany,
        Self::MergedAway,
        Self::AnotherContact,
        Self::NotInConversation,
        Self::OperationTooLarge,
        Self::UndoFirst,
        Self::AlreadyUndone,
        Self::OnHold,
    ];

    /// Status, the word in `type`, and the title.
    fn parts(self) -> (u16, &'static str, &'static str) {
        match self {
            Self::BadRequest => (400, "bad-request", "The request cannot be read"),
            Self::IdempotencyKeyRequired => (
                400,
                "idempotency-key-required",
                "An Idempotency-Key is required",
            ),
            Self::Unauthorized => (401, "unauthorized", "A valid token is required"),
            Self::Forbidden => (403, "forbidden", "This token's role may not do this"),
            Self::NotAssignee => (403, "not-assignee", "The conversation is not yours"),
            Self::NotFound => (404, "not-found", "There is no such thing"),
            Self::MethodNotAllowed => (
                405,
                "method-not-allowed",
                "This path does not take this method",
            ),
            Self::RequestTimeout => (408, "request-timeout", "The body did not arrive in time"),
            Self::WrongState => (
                409,
                "wrong-state",
                "The conversation's state does not allow this",
            ),
            Self::NotAnswerable => (
                409,
                "not-answerable",
                "There is nowhere to send an answer to",
            ),
            Self::NotHeld => (409, "not-held", "The message is not held"),
            Self::NotQueued => (409, "not-queued", "The message has left, or never will"),
            Self::CustomerWrote => (409, "customer-wrote", "The customer wrote meanwhile"),
            Self::WindowClosed => (
                409,
                "reply-window-closed",
                "The channel takes no answer any more",
            ),
            Self::NotStored => (409, "attachment-not-stored", "The attachment is not here"),
            Self::LinkExpired => (410, "link-expired", "The link is past its time"),
            Self::Stale => (412, "stale-version", "It has changed meanwhile"),
            Self::TooLarge => (413, "too-large", "The body is too large"),
            Self::UnsupportedMediaType => (415, "unsupported-media-type", "The body must be JSON"),
            Self::OutOfRange => (416, "out-of-range", "The file is shorter than that"),
            Self::Unprocessable => (422, "unprocessable", "The body says something unusable"),
            Self::TextTooLong => (
                422,
                "text-too-long",
                "The text is longer than the channel takes",
            ),
            Self::IdempotencyKeyReused => (
                422,
                "idempotency-key-reused",
                "The Idempotency-Key was used for another request",
            ),
            Self::TooBroad => (422, "search-too-broad", "The search would take too long"),
            Self::Internal => (500, "internal", "Something went wrong on our side"),
            Self::NotReady => (503, "not-ready", "The daemon is not ready"),
            Self::Unavailable => (503, "unavailable", "Not possible now"),
            Self::Overloaded => (503, "overloaded", "Too much at once"),
            Self::TooMany => (429, "too-many", "The token has too much under way"),
            Self::MergedAway => (409, "merged-away", "It was merged into another one"),
            Self::AnotherContact => (
                409,
                "another-contact",
                "The conversations are of different contacts",
            ),
            Self::NotInConversation => (
                409,
                "not-in-conversation",
                "A message is not in this conversation",
            ),
            Self::OperationTooLarge => (
                422,
                "operation-too-large",
                "The operation would touch too much",
            ),
            Self::UndoFirst => (409, "undo-first", "A later operation builds on this one"),
            Self::AlreadyUndone => (409, "already-undone", "The operation was undone before"),
            Self::OnHold => (409, "legal-hold", "A legal hold keeps it"),
        }
    }

    pub fn status(self) -> u16 {
        self.parts().0
    }

    pub fn title(self) -> &'static str {
        self.parts().2
    }

    fn of_surgery(refused: &Refused) -> Self {
        match refused {
            Refused::Gone { .. } | Refused::ContactGone { .. } => Self::MergedAway,
            Refused::NotOpen { .. } => Self::WrongState,
            Refused::NotYours { .. } => Self::NotAssignee,
            Refused::AnotherContact => Self::AnotherContact,
            Refused::NotThere => Self::NotInConversation,
            Refused::Same | Refused::NothingLeft => Self::Unprocessable,
            Refused::TooMany { .. } => Self::OperationTooLarge,
            Refused::UndoFirst { .. } => Self::UndoFirst,
            Refused::AlreadyUndone { .. } => Self::AlreadyUndone,
        }
    }

    fn of_privacy(refused: &privacy::Refused) -> Self {
        match refused {
            privacy::Refused::OnHold { .. } => Self::OnHold,
            privacy::Refused::SomeQueues => Self::Forbidden,
        }
    }

    /// The `type` member: a reference into the documentation that this daemon serves.
    pub fn uri(self) -> String {
        format!("/docs#problem-{}", self.parts().1)
    }
}

/// An RFC 9457 problem. Members beyond the first four are there where they say something.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(example = json!({
    "type": "/docs#problem-wrong-state",
    "title": "The conversation's state does not allow this",
    "status": 409,
    "detail": "cannot resolve this conversation: it is resolved",
    "state": "resolved",
    "holder": "ada"
}))]
pub struct Problem {
    /// Names the problem; clients branch on it.
    #[serde(rename = "type")]
    pub uri: String,
    pub title: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// What was wrong with this request, for a person.
    pub detail: String,
    /// The conversation's status, where it is the reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<Status>,
    /// Who holds the conversation, where that is the reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holder: Option<String>,
    /// How the message stands, where that is the reason; null for one that is never sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery: Option<Option<Delivery>>,
    /// The channel's limit, where that is the reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<Limit>,
    /// The conversation's version, where another one was expected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_version: Option<i64>,
    /// The field, parameter or header at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The values that would be taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed: Option<Vec<String>>,
    /// The customer's message that the writer had not read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_message: Option<String>,
    /// What stands for the conversation or contact that was merged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub merged_into: Option<String>,
    /// The event to undo first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undo_first: Option<String>,
    /// The event that undid it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undone_by: Option<String>,
    /// The states of the daemon's parts, where it is not ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub states: Option<std::collections::BTreeMap<String, crate::health::State>>,
}

/// What a channel's provider takes at most.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Limit {
    #[schema(example = "text_max")]
    pub name: &'static str,
    pub max: u64,
    #[schema(example = "characters")]
    pub unit: &'static str,
}

/// The one error of every handler.
#[derive(Debug)]
pub struct ApiError {
    pub problem: Box<Problem>,
    retry_after_seconds: Option<u32>,
    challenge: Option<&'static str>,
}

pub type ApiResult<T> = Result<T, ApiError>;

impl ApiError {
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        let (status, _, title) = kind.parts();
        let problem = Problem {
            uri: kind.uri(),
            title,
            status,
            detail: detail.into(),
            state: None,
            holder: None,
            delivery: None,
            limit: None,
            current_version: None,
            field: None,
            allowed: None,
            last_message: None,
            merged_into: None,
            undo_first: None,
            undone_by: None,
            states: None,
        };
        let retry_after_seconds = matches!(status, 429 | 503).then_some(RETRY_AFTER_SECONDS);
        Self {
            problem: Box::new(problem),
            retry_after_seconds,
            challenge: None,
        }
    }

    pub fn bad_request(field: &str, detail: impl Into<String>) -> Self {
        Self::new(Kind::BadRequest, detail).field(field)
    }

    pub fn not_found(what: &str) -> Self {
        Self::new(Kind::NotFound, format!("there is no such {what}"))
    }

    pub fn role(role: Role) -> Self {
        Refusal::Role { role }.into()
    }

    /// 401 with the challenge that RFC 9110, section 11.6.1 requires.
    pub fn unauthorized(detail: impl Into<String>, challenge: &'static str) -> Self {
        Self {
            challenge: Some(challenge),
            ..Self::new(Kind::Unauthorized, detail)
        }
    }

    pub fn field(mut self, field: &str) -> Self {
        self.problem.field = Some(field.to_owned());
        self
    }

    pub fn allowed<T: Into<String>>(mut self, allowed: impl IntoIterator<Item = T>) -> Self {
        self.problem.allowed = Some(allowed.into_iter().map(Into::into).collect());
        self
    }

    fn limit(mut self, name: &'static str, max: u64, unit: &'static str) -> Self {
        self.problem.limit = Some(Limit { name, max, unit });
        self
    }

    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_seconds = Some(seconds);
        self
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let kind = match &refusal {
            Refusal::NotFound { .. } => Kind::NotFound,
            Refusal::WrongState { .. } | Refusal::ClaimOver { .. } => Kind::WrongState,
            Refusal::NotAssignee { .. } => Kind::NotAssignee,
            Refusal::Role { .. } | Refusal::Beyond { .. } => Kind::Forbidden,
            Refusal::Stale { .. } => Kind::Stale,
            Refusal::NotAnswerable { .. } => Kind::NotAnswerable,
            Refusal::KeyReused => Kind::IdempotencyKeyReused,
            Refusal::NotHeld { .. } => Kind::NotHeld,
            Refusal::NotQueued { .. } => Kind::NotQueued,
            Refusal::Overtaken { .. } => Kind::CustomerWrote,
            Refusal::Unusable { .. } | Refusal::Unreachable { .. } => Kind::Unprocessable,
            Refusal::TooLong { .. } => Kind::TextTooLong,
            Refusal::WindowClosed { .. } => Kind::WindowClosed,
            Refusal::Surgery(refused) => Kind::of_surgery(refused),
            Refusal::Privacy(refused) => Kind::of_privacy(refused),
        };
        let mut detail = refusal.to_string();
        if matches!(refusal, Refusal::Role { .. }) {
            detail.push_str(": `switchboard token create --role …` makes a token of another role");
        }
        let mut answer = Self::new(kind, detail);
        match refusal {
            Refusal::WrongState { status, holder, .. }
            | Refusal::NotAssignee { status, holder, .. } => {
                answer.problem.state = Some(status);
                answer.problem.holder = holder;
            }
            Refusal::ClaimOver { stands } => {
                let (state, holder) = stands.unzip();
                answer.problem.state = state;
                answer.problem.holder = holder.flatten();
            }
            Refusal::Stale { current, .. } => answer.problem.current_version = Some(current),
            Refusal::NotHeld { delivery } | Refusal::NotQueued { delivery } => {
                answer.problem.delivery = Some(delivery);
            }
            Refusal::Unusable { field, .. } => answer = answer.field(field),
            Refusal::Unreachable { reads, .. } if reads.is_empty() => {
                answer = answer.field("address");
            }
            Refusal::Unreachable { reads, .. } => {
                answer = answer.field("namespace").allowed(reads);
            }
            Refusal::Beyond { field, own } => answer = answer.field(field).allowed(own),
            Refusal::TooLong { max, unit, .. } => {
                answer = answer.field("text").limit("text_max", u64::from(max), unit);
            }
            Refusal::WindowClosed { window_seconds, .. } => {
                answer = answer.limit("reply_window", window_seconds, "seconds");
            }
            Refusal::Surgery(
                Refused::NotOpen { status, holder } | Refused::NotYours { status, holder },
            ) => {
                answer.problem.state = Some(status);
                answer.problem.holder = holder;
            }
            Refusal::Surgery(_)
            | Refusal::Privacy(_)
            | Refusal::NotFound { .. }
            | Refusal::Role { .. }
            | Refusal::NotAnswerable { .. }
            | Refusal::Overtaken { .. }
            | Refusal::KeyReused => {}
        }
        answer
    }
}

impl From<StoreError> for ApiError {
    fn from(failed: StoreError) -> Self {
        match failed {
            StoreError::Refused(refusal) => refusal.into(),
            StoreError::Unavailable(_) | StoreError::Forbidden(_) | StoreError::Unauthorized(_) => {
                Self::new(
                    Kind::Unavailable,
                    "the store is not available: the daemon's log and `switchboard doctor` say why",
                )
            }
            StoreError::Closed => Self::new(Kind::Unavailable, "the daemon is shutting down"),
            StoreError::StaleEpoch(_) | StoreError::Poisoned(_) => {
                error!(error = %failed, "a request failed in the store: {failed}");
                Self::new(Kind::Internal, "the store could not carry this out")
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self.problem).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if let Some(challenge) = self.challenge {
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static(challenge),
            );
        }
        response
    }
}

#[cfg(test)]
mod tests;
