//! Who is told, and how: a mail through a channel, a signed post.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use connector_api::{ExposeSecret, OutboundMessage, Recipient, Timestamp};
use futures::FutureExt;
use serde_json::json;

use crate::alerts::{News, Notice, headline};
use crate::blobs::{hex, sha256};
use crate::channels::{self, Channel, Channels, Moment};
use crate::clock::timestamp;
use crate::config::{Config, ConfigErrors};
use crate::http::egress::{Egress, FetchError};
use crate::http::signed::SigningKey;

/// How long sending a mail may take.
const MAIL_MAX: Duration = Duration::from_secs(120);
/// What stands where answers carry their conversation: an answer to an alert has none.
const NO_TOKEN: &str = "alert";

/// Digits of a target's digest: there are two targets.
const KEY_DIGITS: usize = 16;

/// Everybody who is told.
#[derive(Default)]
pub struct Targets(Vec<Target>);

pub enum Target {
    Mail {
        channel: Arc<Channel>,
        to: Recipient,
        also_to: Vec<Recipient>,
    },
    Webhook {
        url: String,
        key: Box<SigningKey>,
        egress: Box<Egress>,
    },
}

/// The targets of a configuration, or what is wrong with them.
pub fn targets(
    config: &Config,
    channels: &Channels,
    moment: Moment,
) -> Result<Targets, ConfigErrors> {
    let mut errors = ConfigErrors::default();
    let mut wrong = |key: &str, what: String| errors.push(config.origin(key), key, what);
    let mut found = Vec::new();
    if let Some(mail) = &config.alerts.mail {
        let channel = channels.get(&mail.channel);
        match channel.and_then(|channel| Some((channel, channel.connector.sender()?))) {
            None => wrong(
                "alerts.mail.channel",
                format!("the channel {} cannot send", mail.channel),
            ),
            Some((channel, sender)) => {
                let mut read = Vec::new();
                for address in &mail.to {
                    match sender.recipient(address) {
                        Ok(recipient) => read.push(recipient),
                        Err(error) => wrong("alerts.mail.to", error.message),
                    }
                }
                if !read.is_empty() {
                    found.push(Target::Mail {
                        channel: channel.clone(),
                        to: read.remove(0),
                        also_to: read,
                    });
                }
            }
        }
    }
    if let Some(webhook) = &config.alerts.webhook {
        let secret = channels::secrets(moment).resolve(&webhook.secret);
        let key = secret.map_err(|error| error.message).and_then(|secret| {
            SigningKey::new(secret.expose_secret()).map_err(|what| format!("the secret {what}"))
        });
        match (key, Egress::new(&webhook.hosts)) {
            (Ok(key), Ok(egress)) => found.push(Target::Webhook {
                url: webhook.url.as_str().to_owned(),
                key: Box::new(key),
                egress: Box::new(egress),
            }),
            (Err(error), _) => wrong("alerts.webhook.secret", error),
            (_, Err(error)) => wrong("alerts.webhook", format!("building its client: {error}")),
        }
    }
    errors.unless_any(Targets(found))
}

impl Targets {
    pub fn all(&self) -> &[Target] {
        &self.0
    }
}

impl Target {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Mail { .. } => "mail",
            Self::Webhook { .. } => "webhook",
        }
    }

    /// Its name and a digest of where it leads: elsewhere somebody else is told, who knows nothing yet.
    pub fn key(&self) -> String {
        let mut place = match self {
            Self::Mail { channel, to, .. } => format!("{}\n{}", channel.id, to.address),
            Self::Webhook { url, .. } => url.clone(),
        };
        if let Self::Mail { also_to, .. } = self {
            for recipient in also_to {
                place.push('\n');
                place.push_str(&recipient.address);
            }
        }
        let digest = hex(&sha256(place.as_bytes()));
        let short: String = digest.chars().take(KEY_DIGITS).collect();
        format!("{}:{short}", self.name())
    }

    /// Tells all of it at once; returns when it was taken. `place`: where this daemon is reached.
    pub async fn tell(
        &self,
        notices: &[Notice],
        place: Option<&str>,
        now: Timestamp,
    ) -> Result<(), String> {
        let id = format!("alert-{}", uuid::Uuid::now_v7().as_simple());
        match self {
            Self::Mail {
                channel,
                to,
                also_to,
            } => {
                let message = OutboundMessage {
                    conversation: id.clone(),
                    id,
                    reply_token: NO_TOKEN.to_owned(),
                    to: to.clone(),
                    also_to: also_to.clone(),
                    cc: Vec::new(),
                    bcc: Vec::new(),
                    thread: None,
                    subject: Some(subject(notices)),
                    text: text(notices, place),
                    html: None,
                    attachments: Vec::new(),
                    references: Vec::new(),
                    automatic: true,
                    accepted_at: now,
                };
                mail(channel, message).await
            }
            Self::Webhook { url, key, egress } => {
                let body = json!({
                    "type": "alerts", "at": now, "public_url": place,
                    "alerts": notices.iter().map(view).collect::<Vec<_>>(),
                });
                let body = Bytes::from(body.to_string());
                let headers = key.headers(&id, now.as_second(), &body);
                match egress.post(url, &headers, body).await {
                    Ok(200..=299) => Ok(()),
                    Ok(status) => Err(format!("its server answered {status}")),
                    Err(FetchError::Refused(why) | FetchError::Unavailable(why)) => Err(why),
                }
            }
        }
    }
}

async fn mail(channel: &Channel, message: OutboundMessage) -> Result<(), String> {
    let sender = channel
        .connector
        .sender()
        .ok_or("its channel cannot send")?;
    let sending = AssertUnwindSafe(sender.send(&message)).catch_unwind();
    match tokio::time::timeout(MAIL_MAX, sending).await {
        Ok(Ok(Ok(_))) => Ok(()),
        Ok(Ok(Err(error))) => Err(format!("{}: {}", channel.id, error.message)),
        Ok(Err(_)) => Err(format!("{} panicked while sending", channel.id)),
        Err(_) => Err(format!("{} did not send it within two minutes", channel.id)),
    }
}

fn subject(notices: &[Notice]) -> String {
    let first = notices.first().map(headline).unwrap_or_default();
    match notices.len() {
        0 | 1 => format!("[switchboard] {first}"),
        all => format!("[switchboard] {first} (and {} more)", all - 1),
    }
}

fn text(notices: &[Notice], place: Option<&str>) -> String {
    let mut lines = Vec::new();
    for notice in notices {
        lines.push(headline(notice));
        lines.push(format!("Since {}.", timestamp(notice.since)));
        if notice.news != News::Over {
            lines.push(format!("What to do: {}.", notice.todo));
        }
        lines.push(String::new());
    }
    lines.push(format!(
        "From Switchboard{}",
        place.map_or(String::new(), |place| format!(" at {place}"))
    ));
    lines.join("\n")
}

fn view(notice: &Notice) -> serde_json::Value {
    json!({
        "news": notice.news, "key": notice.key, "what": notice.what, "todo": notice.todo,
        "since": timestamp(notice.since), "count": notice.count,
    })
}
