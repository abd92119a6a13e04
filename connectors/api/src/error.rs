//! One error type; callers branch on [`ErrorKind`] alone. Each connector has one function that
//! maps its provider's status and body to a kind.

use std::time::Duration;

pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, for a person. Lower case, no full stop, no secrets, no message text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    pub kind: ErrorKind,
    pub message: String,
}

/// What the daemon does about an error. Retry is decided by kind, never by text.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The configuration is wrong: said at start, by name.
    Config,
    /// Credentials, signature or token refused. On a request: 401. On a channel: pause it, tell ops.
    Auth,
    /// `verify` needs fresher remote keys: the daemon calls `refresh` once and tries again.
    KeysStale,
    RateLimited {
        retry_after: Option<Duration>,
    },
    /// Certainly not done; may be tried again (refused connection, 5xx before acceptance).
    Unavailable,
    /// Certainly refused for good; the agent sees why.
    Rejected,
    /// Cannot be read; the message says where.
    Malformed,
    /// Larger than a limit; the message names the limit. On a request: 413.
    TooLarge,
    /// The request left and no answer came: done or not, nobody knows.
    OutcomeUnknown,
}

impl Error {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    pub fn config(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Config, message)
    }

    pub fn auth(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Auth, message)
    }

    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unavailable, message)
    }

    pub fn rejected(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Rejected, message)
    }

    pub fn malformed(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Malformed, message)
    }

    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::TooLarge, message)
    }

    pub fn outcome_unknown(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::OutcomeUnknown, message)
    }
}
