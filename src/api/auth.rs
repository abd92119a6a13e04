//! Who asks. A bearer token is looked up by its hash; what was found is believed for half a second,
//! so that a revoked token is refused within one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::FromRequestParts;
use axum::http::HeaderName;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use tracing::error;

use crate::dispatch::{Actor, Role};
use crate::store::Token;
use crate::store::uploads::Holder;

use super::App;
use super::problem::{ApiError, ApiResult, Kind};
use super::request::{now, single};
use super::token;

const CHALLENGE: &str = "Bearer realm=\"switchboard\"";
const CHALLENGE_INVALID: &str = "Bearer realm=\"switchboard\", error=\"invalid_token\"";
/// Longer than any token of ours; what is longer is not hashed.
const TOKEN_BYTES_MAX: usize = 256;
/// Whom a backend acts for.
pub const AGENT: &str = "Switchboard-Agent";
pub const AGENT_CHARS_MAX: usize = 100;
/// How long a token is believed without asking the store: half of what a revocation may take.
const BELIEVED_MICROS: i64 = 500_000;
/// Tokens remembered at a time; more than any desk has.
const REMEMBERED_MAX: usize = 4_096;

/// The holder of a valid token.
#[derive(Debug, Clone)]
pub struct Caller {
    pub actor: Actor,
    /// The token's number: one holder's `Idempotency-Key`s are not another's.
    pub principal: i64,
    hash: Vec<u8>,
}

impl Caller {
    /// The same caller as it stands now; for requests that wait.
    pub async fn renewed(&self, app: &App) -> ApiResult<Self> {
        self.standing(app.tokens.find(app, &self.hash).await?)
    }

    /// Whose files it uploads.
    pub fn holder(&self) -> Holder {
        Holder {
            token: self.principal,
            agent: self.actor.agent.clone(),
        }
    }

    /// The same, believing nothing that was found before.
    pub async fn renewed_now(&self, app: &App) -> ApiResult<Self> {
        self.standing(app.tokens.look_up(app, &self.hash, now(app)).await?)
    }

    /// Who the token is now, acting for the same agent as before.
    fn standing(&self, found: Self) -> ApiResult<Self> {
        match (self.actor.acting, &self.actor.agent) {
            (Some(_), Some(agent)) => found.acting_for(agent),
            _ => Ok(found),
        }
    }

    /// The caller as one of the agents it may act for: with its own reach, in the agent's name.
    fn acting_for(self, agent: &str) -> ApiResult<Self> {
        if !self.actor.acts {
            let detail = format!(
                "this token may not act for an agent: leave {AGENT} out, or use one that \
                 `switchboard token create --act-as` made"
            );
            return Err(ApiError::new(Kind::Forbidden, detail).field(AGENT));
        }
        let actor = Actor {
            agent: Some(agent.to_owned()),
            acting: Some(self.principal),
            ..self.actor
        };
        Ok(Self { actor, ..self })
    }
}

/// A caller that may read conversations; admins and connectors may not.
pub struct Reading(pub Caller);

/// A caller that may claim, answer and end conversations.
pub struct Working(pub Caller);

/// A caller that runs the installation.
pub struct Administering(pub Caller);

/// A caller that may see the queues and their depths.
pub struct Watching(pub Caller);

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> ApiResult<Self> {
        let hash = token::hash(bearer(parts)?);
        let caller = app.tokens.find(app, &hash).await?;
        match agent_of(parts)? {
            Some(agent) => caller.acting_for(agent),
            None => Ok(caller),
        }
    }
}

/// The agent that the caller acts for, where it names one.
fn agent_of(parts: &Parts) -> ApiResult<Option<&str>> {
    let name = HeaderName::from_static("switchboard-agent");
    let agent = single(&parts.headers, &name, AGENT)?;
    let unusable = |agent: &str| agent.is_empty() || agent.len() > AGENT_CHARS_MAX;
    if agent.is_some_and(unusable) {
        let detail = format!("{AGENT} names an agent, in 1 to {AGENT_CHARS_MAX} characters");
        return Err(ApiError::bad_request(AGENT, detail));
    }
    Ok(agent)
}

/// Makes the extractor of callers whose role passes a test.
macro_rules! caller_with {
    ($name:ident, $permitted:expr) => {
        impl FromRequestParts<Arc<App>> for $name {
            type Rejection = ApiError;

            async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> ApiResult<Self> {
                let caller = Caller::from_request_parts(parts, app).await?;
                let role: Role = caller.actor.role;
                if !$permitted(role) {
                    return Err(ApiError::role(role));
                }
                Ok(Self(caller))
            }
        }
    };
}

caller_with!(Administering, |role| role == Role::Admin);
caller_with!(Reading, Role::reads_messages);
caller_with!(Working, Role::works);
caller_with!(Watching, |role| role != Role::Connector);

/// RFC 6750, section 2.1; the scheme's case does not matter (RFC 9110, section 11.1).
fn bearer(parts: &Parts) -> ApiResult<&str> {
    let mut headers = parts.headers.get_all(AUTHORIZATION).iter();
    let Some(header) = headers.next() else {
        return Err(ApiError::unauthorized(
            "send the header Authorization: Bearer <token>; `switchboard token create` makes one",
            CHALLENGE,
        ));
    };
    let token = header.to_str().ok().and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme
            .eq_ignore_ascii_case("bearer")
            .then_some(token.trim())
    });
    match token {
        Some(token) if token.len() <= TOKEN_BYTES_MAX && headers.next().is_none() => Ok(token),
        _ => Err(ApiError::unauthorized(
            "the Authorization header is not one bearer token",
            CHALLENGE,
        )),
    }
}

/// Tokens found lately.
#[derive(Default)]
pub struct Tokens {
    found: Mutex<HashMap<Vec<u8>, (Caller, i64)>>,
}

impl Tokens {
    async fn find(&self, app: &App, hash: &[u8]) -> ApiResult<Caller> {
        let now = now(app);
        match self.remembered(hash, now) {
            Some(caller) => Ok(caller),
            None => self.look_up(app, hash, now).await,
        }
    }

    async fn look_up(&self, app: &App, hash: &[u8], now: i64) -> ApiResult<Caller> {
        // What cannot be confirmed is not believed on either.
        self.forget(hash);
        let found = app.state.store.token_by_hash(hash.to_vec()).await?;
        let caller = found
            .and_then(|token| caller_of(&token, hash))
            .ok_or_else(|| {
                ApiError::unauthorized(
                    "this token is unknown or revoked: `switchboard token create` makes another",
                    CHALLENGE_INVALID,
                )
            })?;
        self.remember(caller.clone(), now);
        Ok(caller)
    }

    fn remembered(&self, hash: &[u8], now: i64) -> Option<Caller> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let (caller, at) = found.get(hash)?;
        // A clock set back makes nothing believed for longer.
        (0..BELIEVED_MICROS)
            .contains(&(now - at))
            .then(|| caller.clone())
    }

    fn forget(&self, hash: &[u8]) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.remove(hash);
    }

    fn remember(&self, caller: Caller, now: i64) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if found.len() >= REMEMBERED_MAX {
            found.clear();
        }
        found.insert(caller.hash.clone(), (caller, now));
    }
}

/// What the token of a number may do now, for `agent` where one is named; `None` where it is gone,
/// revoked, cannot be read, or may not act for agents any more.
pub async fn actor_of(app: &App, token: i64, agent: Option<&str>) -> ApiResult<Option<Actor>> {
    let found = app.state.store.token(token).await?;
    let caller = found.and_then(|token| caller_of(&token, &[]));
    let caller = match agent {
        Some(agent) => caller.and_then(|caller| caller.acting_for(agent).ok()),
        None => caller,
    };
    Ok(caller.map(|caller| caller.actor))
}

/// The rights of a token that is not revoked.
fn caller_of(token: &Token, hash: &[u8]) -> Option<Caller> {
    if token.revoked_at.is_some() {
        return None;
    }
    let Some(actor) = token.actor() else {
        error!(
            token = token.label,
            "the rights of a stored token cannot be read, refused"
        );
        return None;
    };
    Some(Caller {
        actor,
        principal: token.id,
        hash: hash.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> Token {
        Token {
            id: 1,
            label: "desk".to_owned(),
            role: "agent".to_owned(),
            agent: Some("ada".to_owned()),
            queues: vec!["frontline".to_owned()],
            brands: Vec::new(),
            scopes: Vec::new(),
            created_at: 0,
            revoked_at: None,
        }
    }

    #[test]
    fn a_stored_token_that_cannot_be_read_gives_no_rights() {
        assert!(caller_of(&token(), b"hash").is_some());
        let broken = [
            Token {
                role: "owner".to_owned(),
                ..token()
            },
            Token {
                queues: vec!["Front Line".to_owned()],
                ..token()
            },
            Token {
                brands: vec![String::new()],
                ..token()
            },
            Token {
                revoked_at: Some(1),
                ..token()
            },
        ];
        for token in broken {
            assert!(caller_of(&token, b"hash").is_none(), "{token:?}");
        }
    }

    #[test]
    fn what_is_remembered_is_bounded_in_number_and_time() {
        let tokens = Tokens::default();
        let caller = caller_of(&token(), b"hash").unwrap();
        tokens.remember(caller.clone(), 1_000);
        assert!(
            tokens
                .remembered(b"hash", 1_000 + BELIEVED_MICROS - 1)
                .is_some()
        );
        assert!(
            tokens
                .remembered(b"hash", 1_000 + BELIEVED_MICROS)
                .is_none()
        );
        assert!(tokens.remembered(b"hash", 999).is_none());
        for number in 0..=REMEMBERED_MAX {
            let hash = number.to_be_bytes().to_vec();
            tokens.remember(
                Caller {
                    hash,
                    ..caller.clone()
                },
                1_000,
            );
        }
        assert!(tokens.found.lock().unwrap().len() <= REMEMBERED_MAX);
    }
}
