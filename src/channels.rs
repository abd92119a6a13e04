//! The channels of this process: which connectors exist, and each configured account built by its
//! own. The only place that knows a connector by name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use connector_api::{
    BrandId, BuildContext, Capabilities, ChannelId, Check, Clock, Connector, Error, ExposeSecret,
    Health, HttpClient, Registration, SecretRef, SecretResolver, SecretString,
};
use futures::FutureExt;

use crate::config::{Config, ConfigErrors, Vouch, duration_text};
use crate::credentials::{ChannelCredentials, Keeper};
use crate::live::Live;

/// The connectors of this build, by explicit list.
pub fn builtin() -> Vec<Registration> {
    vec![
        #[cfg(feature = "email")]
        connector_email::REGISTRATION,
        #[cfg(feature = "webhook")]
        connector_webhook::REGISTRATION,
    ]
}

/// One configured account, ready to run.
pub struct Channel {
    pub id: ChannelId,
    pub brand: BrandId,
    pub vouches: Vec<Vouch>,
    /// Hosts that attachments may be fetched from although their addresses are private.
    pub attachment_hosts: Vec<String>,
    pub connector: Box<dyn Connector>,
    pub capabilities: Capabilities,
}

/// All of them, by id.
pub type Channels = Arc<BTreeMap<ChannelId, Arc<Channel>>>;
/// The same, as they are after the last reload.
pub type LiveChannels = Live<BTreeMap<ChannelId, Arc<Channel>>>;
/// Of the secrets a channel was built with: others make another channel of it.
pub type SecretsMark = [u8; 32];

/// Channels and what their secrets were.
pub struct Built {
    pub channels: Channels,
    pub secrets: BTreeMap<ChannelId, SecretsMark>,
}

/// When secrets are read: it decides what mends one that is missing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Moment {
    #[default]
    Start,
    /// A running process has the environment that it was started with.
    Reload,
}

/// Builds every channel; what is wrong with any of them is said at once.
pub fn build(
    config: &Config,
    registrations: &[Registration],
    clock: &Arc<dyn Clock>,
    http: &Arc<dyn HttpClient>,
    keeper: &Arc<Keeper>,
) -> Result<Channels, ConfigErrors> {
    build_marked(config, registrations, clock, http, keeper, Moment::Start)
        .map(|built| built.channels)
}

/// The same, with a mark of the secrets that each channel read.
pub fn build_marked(
    config: &Config,
    registrations: &[Registration],
    clock: &Arc<dyn Clock>,
    http: &Arc<dyn HttpClient>,
    keeper: &Arc<Keeper>,
    moment: Moment,
) -> Result<Built, ConfigErrors> {
    let mut channels = BTreeMap::new();
    let mut marks = BTreeMap::new();
    let mut errors = ConfigErrors::default();
    for (id, settings) in &config.channels {
        let key = format!("channels.{id}");
        let Some(registration) = registrations
            .iter()
            .find(|known| known.kind == settings.connector)
        else {
            errors.push(
                settings.origin.clone(),
                key,
                format!("there is no connector \"{}\"", settings.connector),
            );
            continue;
        };
        let secrets = Arc::new(Marking {
            moment,
            ..Marking::default()
        });
        let context = BuildContext::new(
            id.clone(),
            settings.brand.clone(),
            clock.clone(),
            http.clone(),
            secrets.clone(),
        )
        .with_credentials(Arc::new(ChannelCredentials {
            channel: id.clone(),
            keeper: keeper.clone(),
        }));
        match (registration.build)(settings.settings.clone(), context) {
            Ok(connector) => {
                if let Some(fault) = forgotten_at_once(connector.as_ref(), config) {
                    errors.push(settings.origin.clone(), key.clone(), fault);
                }
                let capabilities = connector.capabilities();
                let channel = Channel {
                    id: id.clone(),
                    brand: settings.brand.clone(),
                    vouches: settings.vouches.clone(),
                    attachment_hosts: settings.attachment_hosts.clone(),
                    connector,
                    capabilities,
                };
                channels.insert(id.clone(), Arc::new(channel));
                marks.insert(id.clone(), secrets.mark());
            }
            Err(error) => {
                for line in error.message.lines() {
                    errors.push(settings.origin.clone(), key.clone(), line.to_owned());
                }
            }
        }
    }
    errors.unless_any(Built {
        channels: Arc::new(channels),
        secrets: marks,
    })
}

/// Longest that a channel's provider is waited for when it is tried.
const CHECK_MAX: Duration = Duration::from_secs(60);

/// Tries what a channel needs of its provider, whatever its connector does.
pub async fn check(channel: &Channel) -> Vec<Check> {
    let failed = |reason: &str| {
        let reason = reason.to_owned();
        vec![Check::new("provider", Health::Degraded { reason }, "")]
    };
    let checking = AssertUnwindSafe(channel.connector.check()).catch_unwind();
    match tokio::time::timeout(CHECK_MAX, checking).await {
        Ok(Ok(checks)) => checks,
        Ok(Err(_)) => failed("the connector panicked: this is a bug, report what the log says"),
        Err(_) => failed("no answer in time"),
    }
}

/// What is taken of the channels' settings and is probably not meant, with its place.
pub fn warnings(config: &Config, channels: &Channels) -> Vec<(String, String)> {
    let of = |channel: &Arc<Channel>| {
        let key = format!("channels.{}", channel.id);
        let origin = config.origin(&key);
        let place = format!("{origin}: {key}");
        let warnings = channel.connector.warnings().into_iter();
        warnings.map(move |warning| (place.clone(), warning))
    };
    channels.values().flat_map(of).collect()
}

/// What to say of a channel that would read what is forgotten as soon as it is filed.
fn forgotten_at_once(connector: &dyn Connector, config: &Config) -> Option<String> {
    let (backfill, kept) = (connector.backfill()?, config.retention.resolved);
    (backfill.reach > kept).then(|| {
        let [reach, kept] = [backfill.reach, kept].map(duration_text);
        let key = backfill.key;
        format!(
            "{key} reaches back {reach}, further than retention.resolved ({kept}): what is older would be \
             filed and forgotten at once; shorten {key}, or raise retention.resolved to at least {reach}"
        )
    })
}

/// Longest secret file read, in bytes.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// Reads secrets from the environment and from files.
struct Secrets(Moment);

impl SecretResolver for Secrets {
    fn resolve(&self, secret: &SecretRef) -> connector_api::Result<SecretString> {
        let text = match secret {
            SecretRef::Env(name) => {
                std::env::var(name).map_err(|_| Error::config(not_set(name, self.0)))?
            }
            SecretRef::File(path) => {
                let shown = path.display();
                let size = fs::metadata(path).map(|file| file.len());
                if size.is_ok_and(|size| size > SECRET_BYTES_MAX) {
                    return Err(Error::config(format!(
                        "the secret file {shown} is larger than {SECRET_BYTES_MAX} bytes"
                    )));
                }
                fs::read_to_string(path).map_err(|error| {
                    Error::config(format!("reading the secret file {shown}: {error}"))
                })?
            }
        };
        let text = text.trim_end_matches(['\r', '\n']);
        if text.is_empty() {
            return Err(Error::config(match secret {
                SecretRef::Env(name) => format!("the environment variable {name} is empty"),
                SecretRef::File(path) => format!("the secret file {} is empty", path.display()),
            }));
        }
        Ok(SecretString::from(text.to_owned()))
    }
}

/// Reads a secret of no channel, at the start.
#[cfg(any(feature = "kafka", feature = "postgres"))]
pub fn read_secret(secret: &SecretRef) -> connector_api::Result<SecretString> {
    Secrets(Moment::Start).resolve(secret)
}

fn not_set(name: &str, moment: Moment) -> String {
    match moment {
        Moment::Start => format!(
            "the environment variable {name} is not set: set it where this is started, or write \
             {{ file = \"…\" }}"
        ),
        Moment::Reload => format!(
            "the environment variable {name} is not set in the running daemon, and a reload cannot \
             bring it: restart the daemon with it, or write {{ file = \"…\" }} and reload"
        ),
    }
}

/// Environment variables that hold secrets of the configuration and are not set in this process, and
/// who needs them: the channels, and whether alerts do.
pub fn unset(config: &Config) -> BTreeMap<String, Needing> {
    let mut named: BTreeMap<String, Needing> = BTreeMap::new();
    for (id, channel) in &config.channels {
        let mut names = Vec::new();
        variables(&channel.settings, &mut names);
        for name in names {
            named.entry(name).or_default().channels.insert(id.clone());
        }
    }
    if let Some(webhook) = &config.alerts.webhook
        && let SecretRef::Env(name) = &webhook.secret
    {
        named.entry(name.clone()).or_default().alerts = true;
    }
    named.retain(|name, _| !is_set(name));
    named
}

/// Who needs a secret.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needing {
    pub channels: BTreeSet<ChannelId>,
    pub alerts: bool,
}

/// Whether this process has an environment variable.
pub fn is_set(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|value| !value.is_empty())
}

/// The names of `{ env = "…" }` in a channel's settings.
fn variables(value: &serde_json::Value, names: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(map) => {
            let name = map.get("env").and_then(serde_json::Value::as_str);
            names.extend(name.filter(|_| map.len() == 1).map(str::to_owned));
            map.values().for_each(|value| variables(value, names));
        }
        serde_json::Value::Array(items) => items.iter().for_each(|value| variables(value, names)),
        _ => {}
    }
}

/// Reads secrets, and marks which they were without keeping them.
#[derive(Default)]
struct Marking {
    moment: Moment,
    digests: Mutex<Vec<u8>>,
}

impl Marking {
    fn mark(&self) -> SecretsMark {
        crate::blobs::sha256(&self.digests.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl SecretResolver for Marking {
    fn resolve(&self, secret: &SecretRef) -> connector_api::Result<SecretString> {
        let read = Secrets(self.moment).resolve(secret)?;
        let digest = crate::blobs::sha256(read.expose_secret().as_bytes());
        let mut marks = self.digests.lock().unwrap_or_else(PoisonError::into_inner);
        marks.extend(digest);
        Ok(read)
    }
}

/// Secrets as channels read them.
pub fn secrets(moment: Moment) -> Arc<dyn SecretResolver> {
    Arc::new(Secrets(moment))
}

/// Headers that authenticate a test message on a webhook channel.
#[cfg(feature = "webhook")]
pub fn test_headers(
    channel: &crate::config::Channel,
    id: &str,
    now: connector_api::Timestamp,
    body: &[u8],
) -> Result<Vec<(String, String)>, String> {
    if channel.connector != connector_webhook::REGISTRATION.kind {
        return Err(format!(
            "{} is no webhook channel: send it a real message, or run `switchboard channel test`",
            channel.connector
        ));
    }
    let config: connector_webhook::Config =
        serde_json::from_value(channel.settings.clone()).map_err(|error| error.to_string())?;
    let resolve = |secret: &SecretRef| {
        let read = Secrets(Moment::Start).resolve(secret);
        read.map_err(|error| error.to_string())
    };
    if let Some(token) = &config.token {
        let token = resolve(token)?;
        return Ok(vec![(
            "authorization".to_owned(),
            format!("Bearer {}", token.expose_secret()),
        )]);
    }
    let secret = config
        .secrets
        .first()
        .ok_or("the channel has neither a token nor a secret")?;
    let secret = resolve(secret)?;
    let key = connector_webhook::SigningKey::new(secret.expose_secret())
        .map_err(|what| format!("the secret {what}"))?;
    let headers = connector_webhook::signed_headers(&key, id, now.as_second(), body);
    Ok(headers
        .into_iter()
        .map(|(name, value)| (name, value.expose_secret().to_owned()))
        .collect())
}

#[cfg(not(feature = "webhook"))]
pub fn test_headers(
    _: &crate::config::Channel,
    _: &str,
    _: connector_api::Timestamp,
    _: &[u8],
) -> Result<Vec<(String, String)>, String> {
    Err("this build has no webhook connector".to_owned())
}

/// The mail parser without a mailbox, for the demo.
#[cfg(feature = "email")]
pub fn mail_parser(
    settings: serde_json::Value,
    context: BuildContext,
) -> connector_api::Result<Box<dyn Connector>> {
    (connector_email::REGISTRATION.build)(settings, context)
}

#[cfg(not(feature = "email"))]
pub fn mail_parser(
    _: serde_json::Value,
    _: BuildContext,
) -> connector_api::Result<Box<dyn Connector>> {
    Err(Error::config("this build has no email connector"))
}
