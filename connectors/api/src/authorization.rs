//! How a person grants a channel access at its provider: the surface behind `switchboard channel
//! authorize NAME`. It goes step by step and keeps nothing between the steps, so that the command may
//! end at any time: what the next step needs is handed out and handed in again.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use secrecy::SecretString;

use crate::error::Result;

/// Hands out what a person has to do, and takes what comes of it. The connector that is asked saves
/// what it was granted and uses it at once.
#[async_trait]
pub trait Authorization: Send + Sync {
    /// The ways this channel can be granted access, the most convenient first. Empty: there is
    /// nothing for a person to do (the error of `begin` says why).
    fn ways(&self) -> Vec<Way>;
    /// Begins one way.
    async fn begin(&self, request: AuthorizationRequest) -> Result<Begun>;
    /// Goes on with what `begin`, or the step before, handed out.
    async fn advance(&self, step: AuthorizationStep) -> Result<Progress>;
}

/// How a person can grant access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Way {
    /// A code to enter on any device with a browser (RFC 8628).
    Device,
    /// A browser on this machine, which comes back to a loopback address (RFC 8252).
    Redirect,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthorizationRequest {
    Device,
    /// The browser shall come back to this port of this machine's loopback.
    Redirect {
        port: u16,
    },
}

/// What to show, and what to hand in again.
#[derive(Debug, Clone)]
pub struct Begun {
    /// The address to open.
    pub url: String,
    /// What to enter there, if anything.
    pub code: Option<String>,
    /// When to ask for the first time.
    pub ask_after: Duration,
    /// After this it is too late.
    pub expires_in: Duration,
    pub state: SecretString,
}

pub struct AuthorizationStep {
    pub state: SecretString,
    /// What the browser came back with: the query of the redirect, as it was.
    pub answer: Option<SecretString>,
}

impl fmt::Debug for AuthorizationStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorizationStep").finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub enum Progress {
    /// Nobody has decided yet.
    Waiting {
        ask_after: Duration,
        state: SecretString,
    },
    /// Granted, saved and in use.
    Granted,
}
