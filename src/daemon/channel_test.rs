//! A channel tries itself: log in, send a message to itself, see where it comes to. What it sends
//! bears a token of ours, by which the router files it closed: no agent is handed it, no customer
//! is made of it, nothing answers it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use connector_api::{
    Clock, ErrorKind, Health as ChannelHealth, OutboundMessage, Recipient, WebhookRequest,
};
use futures::FutureExt;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::api::{HookAnswer, Hooks};
use crate::channels::{self, Channel, LiveChannels};
use crate::clock::micros;
use crate::config::Config;
use crate::dispatch::{Actor, Role};
use crate::health::Health;
use crate::ids::{IdCodec, IdKind, MessageId};
use crate::inbound::Webhooks;
use crate::live::Live;
use crate::outbound;
use crate::router::reply_token::ReplyTokens;
use crate::store::{Store, StoreError};

/// Longest a test waits for its message.
pub const WAIT_MAX: Duration = Duration::from_secs(10 * 60);
/// How long a provider may take to take the message.
const SEND_MAX: Duration = Duration::from_secs(60);
/// How often the store is asked whether the message is there.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Who writes on a channel that is pushed to.
const TEST_SENDER: &str = "switchboard-channel-test";

/// One step of a test, as it is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    pub step: String,
    pub ok: bool,
    pub detail: String,
    /// What to do, where it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// Tries channels.
pub struct ChannelTests {
    pub config: Live<Config>,
    pub channels: LiveChannels,
    pub hooks: Arc<Webhooks>,
    pub store: Arc<dyn Store>,
    pub clock: Arc<dyn Clock>,
    pub health: Arc<Health>,
    pub ids: IdCodec,
    pub reply_tokens: ReplyTokens,
}

/// Where steps are told, one by one.
pub type Told = mpsc::Sender<Step>;

enum Failed {
    /// The step that failed, and what to do.
    At {
        step: &'static str,
        detail: String,
        hint: String,
    },
    /// It was told already.
    Told,
}

/// What to do about a refused login.
pub const RENEW: &str = "check the user and the secret in the channel's settings; a secret in a file is \
    taken over by `switchboard reload`, one in the environment by a restart";

/// What to do about a check, unless it went well.
pub fn hint(health: &ChannelHealth) -> Option<String> {
    let hint = match health {
        ChannelHealth::Ready => return None,
        ChannelHealth::Unauthorized { .. } => RENEW,
        ChannelHealth::Unreachable { .. } => {
            "mend what it names, then `switchboard reload`; where it names nothing, check host, port and \
             tls in the channel's settings, and whether a firewall stands between"
        }
        _ => "mend what it names, then `switchboard reload`; the daemon's log says more",
    };
    Some(hint.to_owned())
}

impl ChannelTests {
    /// Tries a channel; the last step told is `result`.
    pub async fn run(&self, name: &str, wait: Duration, told: &Told) {
        let began = Instant::now();
        let result = match self.steps(name, wait.min(WAIT_MAX), told).await {
            Ok(()) => Step {
                step: "result".to_owned(),
                ok: true,
                detail: format!("{name} works, in {:.1} s", began.elapsed().as_secs_f64()),
                hint: None,
            },
            Err(failed) => {
                if let Failed::At { step, detail, hint } = failed {
                    tell(told, step, false, detail, Some(hint)).await;
                }
                Step {
                    step: "result".to_owned(),
                    ok: false,
                    detail: format!("{name} does not work"),
                    hint: None,
                }
            }
        };
        if told.send(result).await.is_err() {
            tracing::debug!("whoever asked for the test of {name} left");
        }
    }

    async fn steps(&self, name: &str, wait: Duration, told: &Told) -> Result<(), Failed> {
        let channels = self.channels.now();
        let channel = name.parse().ok().and_then(|id| channels.get(&id));
        let channel = channel.ok_or_else(|| {
            let known: Vec<&str> = channels.keys().map(|id| id.as_str()).collect();
            Failed::At {
                step: "channel",
                detail: format!("there is no channel {name}"),
                hint: format!("the daemon has {}", known.join(", ")),
            }
        })?;
        self.log_in(channel, told).await?;
        let token = self.token();
        let sent = match channel.connector.own_address() {
            Some(address) => self.write_to_itself(channel, address, &token).await?,
            None => self.push(channel, &token).await?,
        };
        tell(told, "send", true, sent, None).await;
        let began = Instant::now();
        let message = self.arrival(channel, &token, wait).await?;
        let took = format!("seen after {:.1} s", began.elapsed().as_secs_f64());
        tell(told, "arrive", true, took, None).await;
        let queued = self.queue(message).await?;
        tell(told, "queue", true, queued, None).await;
        Ok(())
    }

    /// Tries each thing that the channel needs of its provider; what fails does not hide the rest.
    async fn log_in(&self, channel: &Channel, told: &Told) -> Result<(), Failed> {
        let mut refused = false;
        for check in channels::check(channel).await {
            let hint = hint(&check.health);
            refused |= hint.is_some();
            let detail = check.detail().to_owned();
            tell(told, &check.what, hint.is_none(), detail, hint).await;
        }
        match refused {
            true => Err(Failed::Told),
            false => Ok(()),
        }
    }

    /// Over its own sender, as an agent's answer leaves.
    async fn write_to_itself(
        &self,
        channel: &Channel,
        to: Recipient,
        token: &str,
    ) -> Result<String, Failed> {
        let failed = |detail: String, hint: &str| Failed::At {
            step: "send",
            detail,
            hint: hint.to_owned(),
        };
        let Some(sender) = channel.connector.sender() else {
            return Err(failed(
                "it cannot send".to_owned(),
                "send it a message from elsewhere and look for it in its queue",
            ));
        };
        let address = to.address.clone();
        let message = OutboundMessage {
            id: format!("channel-test-{token}"),
            conversation: String::new(),
            reply_token: token.to_owned(),
            to,
            also_to: Vec::new(),
            cc: Vec::new(),
            bcc: Vec::new(),
            thread: None,
            subject: Some("Switchboard channel test".to_owned()),
            text:
                "Somebody asked for a test of this channel. Switchboard files this message closed; \
                   nobody needs to answer it.\n"
                    .to_owned(),
            html: None,
            attachments: Vec::new(),
            // A server that gives messages other ids leaves these alone.
            references: vec![format!("{token}.channel-test@switchboard.invalid")],
            automatic: false,
            accepted_at: self.clock.now(),
        };
        let sending = AssertUnwindSafe(sender.send(&message)).catch_unwind();
        let sent = match tokio::time::timeout(SEND_MAX, sending).await {
            Ok(Ok(sent)) => sent,
            Ok(Err(_)) => {
                return Err(failed(
                    "the connector panicked".to_owned(),
                    "this is a bug: report what the daemon logs about it",
                ));
            }
            Err(_) => {
                let detail = format!("no answer within {} s", SEND_MAX.as_secs());
                return Err(failed(detail, "check the sending server of the channel"));
            }
        };
        sent.map_err(|error| {
            let hint = match error.kind {
                ErrorKind::Auth | ErrorKind::Config => {
                    "the sending server refuses the login or our address: check them in the channel's \
                     settings, then `switchboard reload`"
                }
                ErrorKind::Rejected => {
                    "the sending server refuses the message: may this login send from this address, \
                     and to it?"
                }
                _ => "check the sending server of the channel, then try again",
            };
            failed(error.message, hint)
        })?;
        let name = outbound::health_name(&channel.id);
        self.health.worked(&name, micros(self.clock.now()));
        Ok(format!("a message to {address} is taken"))
    }

    /// As its provider pushes: signed, verified, durable.
    async fn push(&self, channel: &Channel, token: &str) -> Result<String, Failed> {
        let failed = |detail: String, hint: &str| Failed::At {
            step: "send",
            detail,
            hint: hint.to_owned(),
        };
        let now = self.clock.now();
        let id = format!("channel-test-{token}");
        let body = json!({
            "type": "message", "id": id, "from": { "id": TEST_SENDER }, "automatic": true,
            "subject": "Switchboard channel test", "sent_at": now.to_string(),
            "text": "Somebody asked for a test of this channel.",
        })
        .to_string();
        let config = self.config.now();
        let settings = config.channels.get(&channel.id);
        let headers = settings
            .ok_or_else(|| "it is not in the configuration".to_owned())
            .and_then(|settings| channels::test_headers(settings, &id, now, body.as_bytes()))
            .map_err(|error| failed(error, "send it a message and look for it in its queue"))?;
        let request = WebhookRequest {
            method: "POST".to_owned(),
            query: String::new(),
            headers: headers
                .into_iter()
                .map(|(name, value)| (name.to_ascii_lowercase(), value.into()))
                .collect(),
            body: body.into(),
            received_at: now,
        };
        let (what, hint) = match self.hooks.deliver(channel.id.as_str(), request).await {
            HookAnswer::Accepted(_) => {
                return Ok("a signed event is verified and durable".to_owned());
            }
            HookAnswer::Unauthorized { detail } => {
                (detail, "check the secrets or the token of the channel")
            }
            HookAnswer::Refused { detail, .. } => (
                detail,
                "the daemon takes nothing now: look at /readyz and try again",
            ),
            HookAnswer::Malformed { detail } | HookAnswer::TooLarge { detail } => {
                (detail, "this is a bug: report it")
            }
            HookAnswer::UnknownChannel => (
                "it takes no webhooks".to_owned(),
                "send it a message and look for it in its queue",
            ),
        };
        Err(failed(what, hint))
    }

    async fn arrival(
        &self,
        channel: &Channel,
        token: &str,
        wait: Duration,
    ) -> Result<MessageId, Failed> {
        let looking = async {
            loop {
                if let Some(message) = self.store.tested(token).await? {
                    return Ok(message);
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        match tokio::time::timeout(wait, looking).await {
            Ok(Ok(message)) => Ok(message),
            Ok(Err(error)) => Err(store_failed(&error)),
            Err(_) => {
                let states = self.health.snapshot();
                let state = states.get(&format!("channel:{}", channel.id));
                let state = state.map_or("unknown", |state| state.as_str());
                Err(Failed::At {
                    step: "arrive",
                    detail: format!(
                        "not seen within {} s; the channel is {state}",
                        wait.as_secs()
                    ),
                    hint: "look for it in the provider's own inbox: if it is there, the channel reads \
                           another mailbox or filter rules move it; if not, look into spam and for a \
                           bounce; --wait 300 waits longer"
                        .to_owned(),
                })
            }
        }
    }

    /// Where it would wait, as its explanation says.
    async fn queue(&self, message: MessageId) -> Result<String, Failed> {
        let actor = Actor {
            role: Role::Supervisor,
            agent: None,
            queues: Vec::new(),
            brands: Vec::new(),
            acting: None,
            acts: false,
        };
        let found = self.store.message(actor, message).await;
        let found = found.map_err(|error| store_failed(&error))?;
        let found = found.ok_or_else(|| Failed::At {
            step: "queue",
            detail: "it is filed and cannot be read".to_owned(),
            hint: "this is a bug: report it".to_owned(),
        })?;
        let why = &found.explanation["queue"];
        let queue = why["queue"].as_str().unwrap_or("none");
        let by = match why["rule"].as_str() {
            Some(rule) => format!("by the rule {rule:?}"),
            None => "by the channel's own queue".to_owned(),
        };
        Ok(format!(
            "a customer's message goes to {queue}, {by}; the test is {}, closed",
            self.ids.encode(IdKind::Conversation, found.conversation.0)
        ))
    }

    fn token(&self) -> String {
        let mut number = [0; 6];
        rand::fill(&mut number)
            .expect("the system's random source works once the process has started");
        let number = number
            .iter()
            .fold(0, |value: u64, byte| value << 8 | u64::from(*byte));
        self.reply_tokens.mint_test(number)
    }
}

fn store_failed(error: &StoreError) -> Failed {
    Failed::At {
        step: "arrive",
        detail: error.to_string(),
        hint: "look at /readyz and the daemon's log".to_owned(),
    }
}

async fn tell(told: &Told, step: &str, ok: bool, detail: impl Into<String>, hint: Option<String>) {
    let step = Step {
        step: step.to_owned(),
        ok,
        detail: detail.into(),
        hint,
    };
    if told.send(step).await.is_err() {
        tracing::debug!("whoever asked for a test of a channel left");
    }
}
