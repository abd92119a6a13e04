//! How a person grants access to the mailbox: a code entered on any device (RFC 8628), or a browser
//! on this machine that comes back to a loopback address (RFC 8252), with PKCE (RFC 7636).

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::{constant_time, digest, rand};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use connector_api::{
    Authorization, AuthorizationRequest, AuthorizationStep, Begun, Error, ErrorKind, ExposeSecret,
    Progress, Result, SecretString, Way, async_trait,
};
use serde::{Deserialize, Serialize};
use url::form_urlencoded;

use crate::oauth::endpoint::{DeviceAnswer, Issued};
use crate::oauth::{Grant, OAuth};

/// How often a device asks where the provider does not say (RFC 8628, section 3.2), and how much
/// slower it gets when told so (section 3.5).
const INTERVAL_SECONDS: u64 = 5;
const INTERVAL_SECONDS_MAX: u64 = 60;
/// How long a browser may take.
const REDIRECT_TIME: Duration = Duration::from_secs(10 * 60);
const DEVICE_SECONDS_MAX: u64 = 60 * 60;
/// 32 random bytes are the 43 characters that RFC 7636, section 4.1, asks for at least.
const RANDOM_BYTES: usize = 32;

/// What goes from one step to the next.
#[derive(Serialize, Deserialize)]
#[serde(tag = "way", rename_all = "snake_case")]
enum Pending {
    Device {
        device_code: String,
        interval: u64,
    },
    Redirect {
        state: String,
        verifier: String,
        redirect_uri: String,
    },
}

/// The surface; shares the tokens with the channel's connections, so that a grant is in use at once.
pub(crate) struct Authorizer(pub(crate) Arc<OAuth>);

#[async_trait]
impl Authorization for Authorizer {
    fn ways(&self) -> Vec<Way> {
        let settings = &self.0.settings;
        if settings.grant == Grant::ClientCredentials {
            return Vec::new();
        }
        let device = settings.device_authorization_url.as_ref();
        let redirect = settings.authorize_url.as_ref();
        let ways = [device.map(|_| Way::Device), redirect.map(|_| Way::Redirect)];
        ways.into_iter().flatten().collect()
    }

    async fn begin(&self, request: AuthorizationRequest) -> Result<Begun> {
        let settings = &self.0.settings;
        if settings.grant == Grant::ClientCredentials {
            return Err(Error::config(
                "with grant = \"client_credentials\" the application acts for itself: there is nothing to authorize here",
            ));
        }
        match request {
            AuthorizationRequest::Device => self.begin_device().await,
            AuthorizationRequest::Redirect { port } => self.begin_redirect(port),
        }
    }

    async fn advance(&self, step: AuthorizationStep) -> Result<Progress> {
        let pending = serde_json::from_str(step.state.expose_secret())
            .map_err(|_| Error::malformed("this is no step of an authorization"))?;
        let issued = match pending {
            Pending::Device {
                device_code,
                interval,
            } => match self.0.endpoint.device_answer(&device_code).await {
                Ok(DeviceAnswer::Issued(issued)) => issued,
                Ok(DeviceAnswer::Pending) => return waiting(device_code, interval),
                Ok(DeviceAnswer::SlowDown) => {
                    let slower = interval.saturating_add(INTERVAL_SECONDS);
                    return waiting(device_code, slower.min(INTERVAL_SECONDS_MAX));
                }
                Err(error) => {
                    let slower = after_trouble(interval, &error).ok_or(error)?;
                    return waiting(device_code, slower);
                }
            },
            Pending::Redirect {
                state,
                verifier,
                redirect_uri,
            } => {
                let Some(answer) = step.answer else {
                    return Err(Error::malformed("the browser's answer is missing"));
                };
                let code = code_in(answer.expose_secret(), &state)?;
                let endpoint = &self.0.endpoint;
                endpoint.code(&code, &redirect_uri, &verifier).await?
            }
        };
        self.granted(issued).await?;
        Ok(Progress::Granted)
    }
}

impl Authorizer {
    async fn begin_device(&self) -> Result<Begun> {
        let settings = &self.0.settings;
        let Some(url) = &settings.device_authorization_url else {
            return Err(Error::config(
                "this provider takes no device codes for mail (no oauth.device_authorization_url)",
            ));
        };
        let device = self.0.endpoint.device(url).await?;
        let interval = device.interval.unwrap_or(INTERVAL_SECONDS);
        let interval = interval.clamp(1, INTERVAL_SECONDS_MAX);
        let url = device
            .verification_uri_complete
            .unwrap_or(device.verification_uri);
        Ok(Begun {
            url: shown(&url)?,
            code: Some(shown(&device.user_code)?),
            ask_after: Duration::from_secs(interval),
            expires_in: Duration::from_secs(device.expires_in.min(DEVICE_SECONDS_MAX)),
            state: state_of(&Pending::Device {
                device_code: device.device_code,
                interval,
            })?,
        })
    }

    fn begin_redirect(&self, port: u16) -> Result<Begun> {
        let settings = &self.0.settings;
        let Some(url) = &settings.authorize_url else {
            return Err(Error::config(
                "no oauth.authorize_url is configured for a browser to open",
            ));
        };
        let mut url = url::Url::parse(url)
            .map_err(|error| Error::config(format!("oauth.authorize_url: {error}")))?;
        let (state, verifier) = (random()?, random()?);
        let challenge = digest::digest(&digest::SHA256, verifier.as_bytes());
        let redirect_uri = format!("http://{}:{port}/", settings.redirect_host);
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &settings.client_id)
            .append_pair("redirect_uri", &redirect_uri)
            .append_pair("scope", &settings.scopes)
            .append_pair("state", &state)
            .append_pair("code_challenge", &URL_SAFE_NO_PAD.encode(challenge))
            .append_pair("code_challenge_method", "S256")
            .append_pair("login_hint", &settings.login_hint)
            .extend_pairs(settings.authorize_extra);
        Ok(Begun {
            url: url.into(),
            code: None,
            ask_after: Duration::ZERO,
            expires_in: REDIRECT_TIME,
            state: state_of(&Pending::Redirect {
                state,
                verifier,
                redirect_uri,
            })?,
        })
    }

    async fn granted(&self, issued: Issued) -> Result<()> {
        if issued.refresh_token.is_none() {
            return Err(Error::auth(
                "the provider granted access without a refresh token, so only for an hour or so: see oauth.scopes (offline_access)",
            ));
        }
        let mut held = self.0.held.lock().await;
        self.0.take(&mut held, issued).await.map(drop)
    }
}

/// The interval after an answer that did not come, or came from a provider in trouble: twice as long
/// (RFC 8628, section 3.5). The code is as good as before. `None` for what asking again cannot help.
fn after_trouble(interval: u64, error: &Error) -> Option<u64> {
    let least = match &error.kind {
        ErrorKind::Unavailable => 0,
        ErrorKind::RateLimited { retry_after } => retry_after.unwrap_or_default().as_secs(),
        _ => return None,
    };
    let slower = interval.saturating_mul(2).max(least);
    Some(slower.min(INTERVAL_SECONDS_MAX))
}

fn waiting(device_code: String, interval: u64) -> Result<Progress> {
    Ok(Progress::Waiting {
        ask_after: Duration::from_secs(interval),
        state: state_of(&Pending::Device {
            device_code,
            interval,
        })?,
    })
}

/// The code in a redirect's query, if the redirect answers our question.
fn code_in(query: &str, expected_state: &str) -> Result<String> {
    let query = query.trim().rsplit('?').next().unwrap_or_default();
    let mut found = [const { None }; 3];
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        let names = ["state", "error", "code"];
        if let Some(at) = names.iter().position(|name| *name == key) {
            found[at] = Some(value.into_owned());
        }
    }
    let [state, error, code] = found;
    let state = state.unwrap_or_default();
    let same = constant_time::verify_slices_are_equal(state.as_bytes(), expected_state.as_bytes());
    if same.is_err() {
        return Err(Error::malformed(
            "the browser came back with an answer to another question (state), nothing was granted",
        ));
    }
    match (error.as_deref(), code) {
        (None, Some(code)) if !code.is_empty() => Ok(code),
        (Some("access_denied"), _) => Err(Error::auth("the person asked denied the access")),
        (Some(error), _) => {
            let is_word = |c: &char| c.is_ascii_lowercase() || *c == '_';
            let error: String = error.chars().filter(is_word).take(40).collect();
            Err(Error::auth(format!(
                "the provider grants nothing ({error})"
            )))
        }
        _ => Err(Error::malformed("the browser came back without a code")),
    }
}

fn state_of(pending: &Pending) -> Result<SecretString> {
    let text = serde_json::to_string(pending);
    let text = text.map_err(|_| Error::malformed("cannot write a step down"))?;
    Ok(text.into())
}

/// What a provider wants to be shown goes to a terminal: one word, without control characters.
fn shown(text: &str) -> Result<String> {
    let is_plain = text.chars().all(|c| !c.is_control()) && text.len() <= 2_000;
    match is_plain {
        true => Ok(text.to_owned()),
        false => Err(Error::malformed("the provider's code cannot be shown")),
    }
}

fn random() -> Result<String> {
    let mut bytes = [0; RANDOM_BYTES];
    rand::fill(&mut bytes).map_err(|_| Error::unavailable("no randomness"))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_slows_a_device_down_and_a_refusal_ends_it() {
        let limited = |seconds| {
            let retry_after = Some(Duration::from_secs(seconds));
            Error::new(ErrorKind::RateLimited { retry_after }, "slow")
        };
        for (interval, error, expected) in [
            (5, Error::unavailable("down"), Some(10)),
            (40, Error::unavailable("down"), Some(INTERVAL_SECONDS_MAX)),
            (5, limited(3), Some(10)),
            (5, limited(30), Some(30)),
            (5, limited(86_400), Some(INTERVAL_SECONDS_MAX)),
            (5, Error::auth("denied"), None),
            (5, Error::config("no such client"), None),
        ] {
            assert_eq!(after_trouble(interval, &error), expected, "{error}");
        }
    }

    #[test]
    fn only_an_answer_to_our_own_question_has_a_code() {
        for (query, expected) in [
            ("code=c%201&state=s-1", Ok("c 1")),
            ("http://127.0.0.1:4/?state=s-1&code=c&iss=x", Ok("c")),
            ("code=c&state=s-2", Err("another question")),
            ("code=c", Err("another question")),
            ("", Err("another question")),
            ("state=s-1", Err("without a code")),
            ("state=s-1&code=", Err("without a code")),
            ("state=s-1&error=access_denied&code=c", Err("denied")),
            ("state=s-1&error=invalid_scope<b>", Err("(invalid_scopeb)")),
        ] {
            match (code_in(query, "s-1"), expected) {
                (Ok(code), Ok(expected)) => assert_eq!(code, expected, "{query}"),
                (Err(error), Err(expected)) => {
                    assert!(error.message.contains(expected), "{query}: {error}");
                }
                (got, _) => panic!("{query}: {got:?}"),
            }
        }
    }
}
