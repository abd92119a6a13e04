//! Granting a channel access at its provider: the steps of `channel authorize`, carried out by the
//! connector that uses what is granted.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use connector_api::{
    Authorization, AuthorizationRequest, AuthorizationStep, ChannelId, ExposeSecret, Progress,
    SecretString, Way,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::channels::Channel;
use crate::outbound::granted;

use super::Control;

/// Goes over the socket, and is shown nowhere else.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hidden(pub String);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl From<Hidden> for SecretString {
    fn from(hidden: Hidden) -> Self {
        hidden.0.into()
    }
}

impl Control {
    pub(super) fn ways(&self, id: &ChannelId) -> Result<Value, String> {
        let ways = authorization(self.channel(id)?.as_ref())?.ways();
        let named = ways.iter().filter_map(|way| match way {
            Way::Device => Some("device"),
            Way::Redirect => Some("redirect"),
            _ => None,
        });
        Ok(named.collect())
    }

    pub(super) async fn authorize(
        &self,
        id: &ChannelId,
        port: Option<u16>,
    ) -> Result<Value, String> {
        let request = match port {
            Some(port) => AuthorizationRequest::Redirect { port },
            None => AuthorizationRequest::Device,
        };
        let channel = self.channel(id)?;
        let begun = authorization(&channel)?.begin(request).await;
        let begun = begun.map_err(|error| error.to_string())?;
        Ok(json!({
            "url": begun.url, "code": begun.code, "ask_after_ms": millis(begun.ask_after),
            "expires_in_ms": millis(begun.expires_in), "state": begun.state.expose_secret(),
        }))
    }

    /// One step. Once access is granted the channel goes on with it at once, and what it says of
    /// itself is told: a grant for another mailbox looks like any other until it is used.
    pub(super) async fn authorize_step(
        &self,
        id: &ChannelId,
        state: Hidden,
        answer: Option<Hidden>,
    ) -> Result<Value, String> {
        let channel = self.channel(id)?;
        let step = AuthorizationStep {
            state: state.into(),
            answer: answer.map(SecretString::from),
        };
        let progress = authorization(&channel)?.advance(step).await;
        match progress.map_err(|error| error.to_string())? {
            Progress::Waiting { ask_after, state } => {
                Ok(json!({ "ask_after_ms": millis(ask_after), "state": state.expose_secret() }))
            }
            Progress::Granted => {
                self.sources.ring(id.as_str());
                self.outbox.ring(&granted(id));
                let health = channel.connector.health().await;
                Ok(json!({
                    "granted": true, "health": health.as_str(), "reason": health.reason(),
                }))
            }
        }
    }

    fn channel(&self, id: &ChannelId) -> Result<Arc<Channel>, String> {
        let channel = self.channels.now().get(id).cloned();
        let channel = channel.ok_or_else(|| format!("there is no channel \"{id}\""))?;
        Ok(channel)
    }
}

fn authorization(channel: &Channel) -> Result<&dyn Authorization, String> {
    channel.connector.authorization().ok_or_else(|| {
        format!(
            "channel \"{}\" logs in with what the configuration gives: there is nothing to authorize",
            channel.id
        )
    })
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
