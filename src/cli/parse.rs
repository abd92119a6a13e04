//! `parse`: reads captured input as a channel would, offline.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use connector_api::{
    AttachmentBody, BuildContext, Bytes, Clock, Connector, Event, HttpClient, HttpRequest,
    HttpResponse, InboundEvent, Registration, SecretRef, SecretResolver, SecretString,
    WebhookRequest,
};
use serde_json::{Value, json};

use crate::channels;
use crate::clock::SystemClock;
use crate::normalise::normalise;

use super::{CommandResult, Common, Failure};

/// Largest file read, in bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

#[derive(Args)]
pub struct Parse {
    /// Connector: email, webhook …
    connector: String,
    /// The request's headers, `Name: value` lines
    #[arg(long, value_name = "FILE")]
    headers: Option<PathBuf>,
    /// Check the signature too, with the secrets of the channel in --config
    #[arg(long)]
    verify: bool,
    /// Captured mails or request bodies
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

impl Parse {
    pub fn run(self, common: &Common, registrations: &[Registration]) -> CommandResult {
        let connector = self.connector(common, registrations)?;
        let headers = self.read_headers()?;
        let mut unread = Vec::new();
        for path in &self.files {
            let events =
                read(path).and_then(|body| self.events(connector.as_ref(), &headers, body));
            match events {
                Ok(events) => events
                    .into_iter()
                    .for_each(|event| println!("{}", line(event))),
                Err(reason) => unread.push(format!("{}: {reason}", path.display())),
            }
        }
        match unread.is_empty() {
            true => Ok(ExitCode::SUCCESS),
            false => Err(Failure::data(unread.join("\nswitchboard: "))),
        }
    }

    /// The first configured channel of the connector; without one, a channel of its own example.
    fn connector(
        &self,
        common: &Common,
        registrations: &[Registration],
    ) -> Result<Box<dyn Connector>, Failure> {
        let known: Vec<&str> = registrations
            .iter()
            .map(|registration| registration.kind)
            .collect();
        let registration = registrations
            .iter()
            .find(|registration| registration.kind == self.connector);
        let registration = registration.ok_or_else(|| {
            Failure::new(format!(
                "there is no connector \"{}\"; there are {}",
                self.connector,
                known.join(", ")
            ))
        })?;
        let config = common.load(Vec::new(), registrations)?;
        let configured = config
            .channels
            .iter()
            .find(|(_, channel)| channel.connector == self.connector);
        let (id, settings) = match configured {
            Some((id, channel)) => (id.clone(), channel.settings.clone()),
            None if self.verify => {
                return Err(Failure::new(format!(
                    "--verify needs a {} channel in --config",
                    self.connector
                )));
            }
            None => (
                "parse".parse().map_err(Failure::new)?,
                example_settings(registration.example).map_err(Failure::new)?,
            ),
        };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let secrets: Arc<dyn SecretResolver> = if self.verify {
            channels::secrets(channels::Moment::Start)
        } else {
            Arc::new(NoSecrets)
        };
        let context = BuildContext::new(id, Default::default(), clock, Arc::new(NoHttp), secrets);
        (registration.build)(settings, context).map_err(Failure::new)
    }

    fn read_headers(&self) -> Result<Vec<(String, Bytes)>, Failure> {
        let Some(path) = &self.headers else {
            return Ok(Vec::new());
        };
        let text = fs::read_to_string(path)
            .map_err(|error| Failure::new(format!("{}: {error}", path.display())))?;
        let headers = text.lines().filter_map(|line| line.split_once(':'));
        Ok(headers
            .map(|(name, value)| {
                (
                    name.trim().to_ascii_lowercase(),
                    Bytes::from(value.trim().to_owned()),
                )
            })
            .collect())
    }

    fn events(
        &self,
        connector: &dyn Connector,
        headers: &[(String, Bytes)],
        body: Bytes,
    ) -> Result<Vec<InboundEvent>, String> {
        let request = WebhookRequest {
            method: "POST".to_owned(),
            query: String::new(),
            headers: headers.to_vec(),
            body,
            received_at: SystemClock.now(),
        };
        if self.verify
            && let Some(source) = connector.webhook_source()
        {
            source.verify(&request).map_err(|error| error.to_string())?;
        }
        connector
            .parse_captured(&request)
            .map_err(|error| error.to_string())
    }
}

fn read(path: &PathBuf) -> Result<Bytes, String> {
    let size = fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > FILE_BYTES_MAX {
        return Err(format!("larger than {FILE_BYTES_MAX} bytes"));
    }
    fs::read(path)
        .map(Bytes::from)
        .map_err(|error| error.to_string())
}

/// A connector's example without the keys that belong to the daemon.
fn example_settings(example: &str) -> Result<Value, String> {
    let table: toml::Table = toml::from_str(example).map_err(|error| error.to_string())?;
    let mut settings = serde_json::to_value(table).map_err(|error| error.to_string())?;
    if let Some(settings) = settings.as_object_mut() {
        for key in connector_api::DAEMON_KEYS {
            settings.remove(key);
        }
    }
    Ok(settings)
}

/// One event as the pipeline sees it after normalising, as one JSON line.
fn line(mut event: InboundEvent) -> Value {
    normalise(&mut event);
    let (from, thread, text, attachments) = match &event.event {
        Event::Message(message) | Event::Echo(message) => (
            message.from.identities.first().map(|first| {
                json!({ "namespace": first.namespace, "address": first.address,
                        "evidence": first.evidence, "name": message.from.name })
            }),
            json!(message.thread),
            Some(message.text.clone()),
            message.attachments.iter().map(attachment).collect(),
        ),
        Event::Edit { target, text, .. } => (
            None,
            json!({ "target": target }),
            Some(text.clone()),
            Vec::new(),
        ),
        Event::Reaction { target, emoji, .. } => (
            None,
            json!({ "target": target }),
            Some(emoji.clone()),
            Vec::new(),
        ),
        Event::Delete { target } => (None, json!({ "target": target }), None, Vec::new()),
        Event::Receipt { target, reason, .. } => (
            None,
            json!({ "target": target }),
            reason.clone(),
            Vec::new(),
        ),
        Event::System { thread, text } => (None, json!(thread), Some(text.clone()), Vec::new()),
        _ => (None, Value::Null, None, Vec::new()),
    };
    json!({
        "kind": event.event.kind().as_str(),
        "dedupe_key": event.dedupe_key,
        "from": from,
        "thread": thread,
        "text": text,
        "automatic": event.automatic.is_some(),
        "attachments": attachments,
        "defects": event.defects,
    })
}

fn attachment(attachment: &connector_api::Attachment) -> Value {
    let size = match &attachment.body {
        AttachmentBody::Bytes(bytes) => Some(bytes.len() as u64),
        _ => attachment.size_bytes,
    };
    json!({ "name": attachment.name, "content_type": attachment.content_type, "size_bytes": size })
}

/// Reading captured input needs no secret: every reference resolves to the same placeholder.
struct NoSecrets;

impl SecretResolver for NoSecrets {
    fn resolve(&self, _: &SecretRef) -> connector_api::Result<SecretString> {
        Ok(SecretString::from(
            "not-a-secret-only-for-reading-captured-input".to_owned(),
        ))
    }
}

/// Reading captured input calls nobody.
struct NoHttp;

#[connector_api::async_trait]
impl HttpClient for NoHttp {
    async fn execute(&self, _: HttpRequest) -> connector_api::Result<HttpResponse> {
        Err(connector_api::Error::unavailable(
            "captured input is read offline",
        ))
    }
}
