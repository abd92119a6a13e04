//! The channel's configuration, and its secrets turned into keys. Everything that can be wrong
//! without asking the network is refused here, by name.

use std::time::Duration;

use connector_api::{BuildContext, Error, ExposeSecret, Result, SecretRef, SecretString};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::signature::{BearerToken, SigningKey, Verifier};

/// Live secrets at once: the current one, and the next or the last while they are rotated.
const SECRETS_MAX: usize = 2;

/// Longest wait for a receiver's answer. Lanes are shared by a channel's replies, so a receiver
/// that needs longer should accept first and work later.
const DELIVER_TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// The body of a `[channels.<id>]` table with `connector = "webhook"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Signing secrets of the sending side, at most two so that they can be rotated: the Standard
    /// Webhooks form `whsec_<base64>`, or any text, whose bytes are then the key.
    #[serde(default)]
    #[schemars(length(max = 2))]
    pub secrets: Vec<SecretRef>,
    /// A token that the sending side may present as `Authorization: Bearer …` instead of signing.
    #[serde(default)]
    pub token: Option<SecretRef>,
    /// Where replies are delivered. Without it the channel only receives.
    #[serde(default)]
    pub deliver_url: Option<String>,
    /// Secret that deliveries are signed with. Default: the first of `secrets`.
    #[serde(default)]
    pub deliver_secret: Option<SecretRef>,
    /// The receiver drops a second delivery with the same `webhook-id`, so a delivery whose answer
    /// was lost is repeated. `false` holds it as `unknown` for a person.
    #[serde(default = "default_idempotent_receiver")]
    pub idempotent_receiver: bool,
    /// How long a delivery may take, answer included: `"10s"`, at most `"60s"`.
    #[serde(
        default = "default_deliver_timeout",
        with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required"
    )]
    #[schemars(with = "String")]
    pub deliver_timeout: Duration,
}

/// What the secrets became.
pub(crate) struct Keys {
    pub verifier: Verifier,
    /// Present exactly when replies can be delivered.
    pub deliver: Option<SigningKey>,
}

impl Config {
    /// Everything that is wrong is said at once, one line each.
    pub(crate) fn read_secrets(&self, context: &BuildContext) -> Result<Keys> {
        let mut wrong = self.find_mistakes();
        let mut key = |place: &str, secret: &SecretRef| {
            let key = read(context, secret)
                .and_then(|secret| SigningKey::new(secret.expose_secret()).map_err(str::to_owned));
            key.map_err(|what| wrong.push(format!("{place}: {what}")))
                .ok()
        };
        let keys: Vec<SigningKey> = self
            .secrets
            .iter()
            .enumerate()
            .filter_map(|(index, secret)| key(&format!("secrets[{index}]"), secret))
            .collect();
        let deliver = match (&self.deliver_url, &self.deliver_secret) {
            (Some(_), Some(secret)) => key("deliver_secret", secret),
            (Some(_), None) => keys.first().cloned(),
            (None, _) => None,
        };
        let token = self.token.as_ref().and_then(|token| {
            let token = read(context, token)
                .and_then(|token| BearerToken::new(token.expose_secret()).map_err(str::to_owned));
            token
                .map_err(|what| wrong.push(format!("token: {what}")))
                .ok()
        });
        if !wrong.is_empty() {
            return Err(Error::config(wrong.join("\n")));
        }
        Ok(Keys {
            verifier: Verifier::new(keys, token),
            deliver,
        })
    }

    /// What is wrong whatever the secrets are.
    fn find_mistakes(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if self.secrets.is_empty() && self.token.is_none() {
            wrong.push("secrets or token is needed, nothing is taken unproven".to_owned());
        }
        if self.secrets.len() > SECRETS_MAX {
            wrong.push("secrets: at most 2 may be live at once".to_owned());
        }
        if self.deliver_timeout.is_zero() || self.deliver_timeout > DELIVER_TIMEOUT_MAX {
            wrong.push("deliver_timeout: must be more than 0s and at most 60s".to_owned());
        }
        match &self.deliver_url {
            None if self.deliver_secret.is_some() => {
                wrong.push("deliver_secret: has no use without deliver_url".to_owned());
            }
            Some(_) if self.secrets.is_empty() && self.deliver_secret.is_none() => {
                let what = "needs deliver_secret or secrets, no reply leaves unsigned";
                wrong.push(format!("deliver_url: {what}"));
            }
            _ => {}
        }
        let url = self.deliver_url.as_deref().map(check_url);
        wrong.extend(
            url.and_then(|url| url.err())
                .map(|what| format!("deliver_url: {what}")),
        );
        wrong
    }
}

fn read(context: &BuildContext, secret: &SecretRef) -> std::result::Result<SecretString, String> {
    context
        .secrets
        .resolve(secret)
        .map_err(|error| error.message)
}

fn default_idempotent_receiver() -> bool {
    true
}

fn default_deliver_timeout() -> Duration {
    Duration::from_secs(10)
}

/// Refuses what can never be delivered to, and passwords in the address: addresses are shown in
/// logs and in the API, secrets are not.
fn check_url(url: &str) -> std::result::Result<(), &'static str> {
    let rest = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"))
        .ok_or("must start with https:// or http://")?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err("must not contain a user or password");
    }
    if authority.is_empty() || authority.starts_with(':') {
        return Err("names no host");
    }
    if url.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("must not contain spaces or control characters");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
