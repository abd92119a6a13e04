//! Access tokens in place of a password: obtained from the provider's token endpoint (RFC 6749),
//! renewed before they expire, and kept so that a restart needs nobody.
//!
//! Some providers hand out a new refresh token with every renewal and refuse the old one from then
//! on. So a renewal is one step that nothing cancels; its answer is saved before anything uses it;
//! what could not be saved is held, and saved before the next renewal. An answer that was lost leaves
//! the old token in place: providers that rotate accept it again for a while.

mod authorize;
mod endpoint;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use connector_api::{
    ChannelId, Clock, Credentials, Error, ErrorKind, ExposeSecret, HttpClient, Result,
    SecretString, Timestamp,
};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

pub(crate) use crate::oauth::authorize::Authorizer;
use crate::oauth::endpoint::{Endpoint, Issued};

/// Under which name the grant is kept.
const CREDENTIAL: &str = "oauth";
/// How long before its end a token counts as over: a login and a look at the mailbox fit in.
const EARLY_MAX: Duration = Duration::from_secs(5 * 60);
/// The same for tokens that live shorter, as a share of their life.
const EARLY_SHARE: u32 = 5;

/// What the configuration says, checked.
pub(crate) struct OAuthSettings {
    pub(crate) client_id: String,
    pub(crate) client_secret: Option<SecretString>,
    pub(crate) grant: Grant,
    pub(crate) scopes: String,
    pub(crate) token_url: String,
    pub(crate) device_authorization_url: Option<String>,
    pub(crate) authorize_url: Option<String>,
    /// Host of the address that the browser comes back to: some providers know only one name of it.
    pub(crate) redirect_host: &'static str,
    /// What this provider wants to hear besides, when it is asked for access.
    pub(crate) authorize_extra: &'static [(&'static str, &'static str)],
    /// Whose mailbox it is; shown to the person who is asked.
    pub(crate) login_hint: String,
}

/// How tokens are obtained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grant {
    /// A person granted access once; the refresh token renews it.
    Refresh,
    /// The application acts for itself (RFC 6749, section 4.4).
    ClientCredentials,
}

/// A token that is good now, as far as we know.
#[derive(Clone)]
pub(crate) struct AccessToken {
    pub(crate) secret: SecretString,
    /// When a connection that used it should be made anew with the next one.
    pub(crate) renew_at: Option<Timestamp>,
}

/// The tokens of one channel.
pub(crate) struct OAuth {
    settings: OAuthSettings,
    endpoint: Endpoint,
    clock: Arc<dyn Clock>,
    credentials: Arc<dyn Credentials>,
    channel: ChannelId,
    /// One renewal at a time; the lock is held over it.
    held: Mutex<Option<Held>>,
}

struct Held {
    kept: Kept,
    is_saved: bool,
}

/// What is kept, sealed.
#[derive(Clone, Serialize, Deserialize)]
struct Kept {
    /// Whose it is: never sent to another endpoint, or in the name of another client.
    token_url: String,
    client_id: String,
    /// What the access token is good for.
    scopes: String,
    #[serde(default)]
    refresh_token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    renew_at: Option<Timestamp>,
}

impl OAuth {
    pub(crate) fn new(settings: OAuthSettings, context: &connector_api::BuildContext) -> Self {
        Self {
            endpoint: Endpoint::new(&settings, Arc::clone(&context.http) as Arc<dyn HttpClient>),
            settings,
            clock: Arc::clone(&context.clock),
            credentials: Arc::clone(context.credentials()),
            channel: context.channel.clone(),
            held: Mutex::default(),
        }
    }

    /// A token to log in with: the one at hand while it is good, else the next one.
    pub(crate) async fn token(self: &Arc<Self>) -> Result<AccessToken> {
        // A task of its own: whoever asks may give up (a health check, a stop), but a renewal that
        // was asked for must be saved.
        let this = Arc::clone(self);
        let renewed = tokio::spawn(async move { this.current().await }).await;
        renewed.map_err(|error| Error::unavailable(format!("renewing a token: {error}")))?
    }

    /// Says that a server refused this token before its time: the next one is another.
    pub(crate) async fn refuse(&self, token: &AccessToken) {
        let mut held = self.held.lock().await;
        if let Some(held) = held.as_mut()
            && held.kept.access_token.as_deref() == Some(token.secret.expose_secret())
        {
            held.kept.access_token = None;
        }
    }

    async fn current(&self) -> Result<AccessToken> {
        let mut held = self.held.lock().await;
        if held.is_none() {
            *held = self.load().await?.map(|kept| Held {
                kept,
                is_saved: true,
            });
        }
        self.save(&mut held).await?;
        let now = self.clock.now();
        if let Some(token) = held.as_ref().and_then(|held| held.kept.token(now)) {
            return Ok(token);
        }
        let issued = match self.settings.grant {
            Grant::ClientCredentials => self.endpoint.client_credentials().await,
            Grant::Refresh => {
                let kept = held.as_ref().map(|held| &held.kept);
                let Some(refresh) = kept.and_then(|kept| kept.refresh_token.clone()) else {
                    return Err(self.ask("nobody has granted access to the mailbox yet"));
                };
                let mut issued = self.endpoint.refresh(&refresh).await;
                // The same channel of before a reload may have renewed it a moment ago.
                if matches!(&issued, Err(error) if error.kind == ErrorKind::Auth)
                    && let Some(kept) = self.load().await?
                    && let Some(newer) = kept.refresh_token.clone().filter(|it| *it != refresh)
                {
                    *held = Some(Held {
                        kept,
                        is_saved: true,
                    });
                    issued = self.endpoint.refresh(&newer).await;
                }
                issued.map_err(|error| self.explained(error))
            }
        }?;
        self.take(&mut held, issued).await
    }

    /// Holds what was issued, and saves it: only then is it used.
    async fn take(&self, held: &mut Option<Held>, issued: Issued) -> Result<AccessToken> {
        let now = self.clock.now();
        let before = held.take().and_then(|held| held.kept.refresh_token);
        let kept = Kept {
            token_url: self.settings.token_url.clone(),
            client_id: self.settings.client_id.clone(),
            scopes: self.settings.scopes.clone(),
            refresh_token: issued.refresh_token.or(before),
            renew_at: issued
                .expires_in
                .and_then(|lifetime| renew_at(now, lifetime)),
            access_token: Some(issued.access_token),
        };
        let token = AccessToken {
            secret: kept.access_token.clone().unwrap_or_default().into(),
            renew_at: kept.renew_at,
        };
        // An application's own token is simply asked for again.
        let is_saved = self.settings.grant == Grant::ClientCredentials;
        *held = Some(Held { kept, is_saved });
        self.save(held).await?;
        Ok(token)
    }

    async fn save(&self, held: &mut Option<Held>) -> Result<()> {
        if let Some(held) = held
            && !held.is_saved
        {
            let text = serde_json::to_string(&held.kept)
                .map_err(|_| Error::unavailable("cannot write a token down"))?;
            self.credentials.save(CREDENTIAL, text.into()).await?;
            held.is_saved = true;
        }
        Ok(())
    }

    /// What is kept for this very client.
    async fn load(&self) -> Result<Option<Kept>> {
        if self.settings.grant == Grant::ClientCredentials {
            return Ok(None);
        }
        let kept = self.credentials.load(CREDENTIAL).await;
        let Some(kept) = kept.map_err(|error| self.explained(error))? else {
            return Ok(None);
        };
        let Ok(mut kept) = serde_json::from_str::<Kept>(kept.expose_secret()) else {
            return Err(self.ask("what is kept of the grant cannot be read"));
        };
        let is_ours =
            kept.token_url == self.settings.token_url && kept.client_id == self.settings.client_id;
        if kept.scopes != self.settings.scopes {
            kept.access_token = None;
        }
        Ok(is_ours.then_some(kept))
    }

    /// An error that a person mends, with how.
    fn explained(&self, error: Error) -> Error {
        match error.kind {
            ErrorKind::Auth => self.ask(&error.message),
            _ => error,
        }
    }

    fn ask(&self, why: &str) -> Error {
        let channel = &self.channel;
        Error::auth(format!(
            "{why}: run `switchboard channel authorize {channel}`"
        ))
    }
}

impl Kept {
    fn token(&self, now: Timestamp) -> Option<AccessToken> {
        let token = self.access_token.clone()?;
        let is_over = self.renew_at.is_some_and(|renew_at| now >= renew_at);
        (!is_over).then(|| AccessToken {
            secret: token.into(),
            renew_at: self.renew_at,
        })
    }
}

/// Well before the end, so that nothing begins with a token that ends under way.
fn renew_at(now: Timestamp, lifetime: Duration) -> Option<Timestamp> {
    let early = EARLY_MAX.min(lifetime / EARLY_SHARE);
    now.checked_add(lifetime.saturating_sub(early)).ok()
}

impl fmt::Debug for OAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OAuth")
            .field("client_id", &self.settings.client_id)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessToken").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_renewed_five_minutes_before_its_end_or_a_fifth_of_a_short_life() {
        let now = Timestamp::UNIX_EPOCH;
        for (lifetime, renewed_after) in [(3_600, 3_300), (600, 480), (5, 4), (0, 0)] {
            let at = renew_at(now, Duration::from_secs(lifetime)).unwrap();
            assert_eq!(at.as_second(), renewed_after, "{lifetime}");
        }
    }
}
