//! `demo`: a sample day through the real intake, on a directory of its own: real parsing, real
//! signatures, the real router and API. Only the mailbox is made up: mails are read from this
//! program, and answers to them are printed instead of sent.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use connector_api::{Clock, ConnectorKind, Registration, WebhookRequest};
use serde_json::json;

use crate::channels;
use crate::clock::{SystemClock, micros};
use crate::config::{self, Flag, Sources};
use crate::daemon::control::{Answer, Request, ask};
use crate::daemon::{Daemon, Keys, SHUTDOWN_MAX};
use crate::dispatch::{Actor, Role};
use crate::ids::{IdKind, MessageId};
use crate::router::effects::Author;
use crate::store::{ConversationFilter, Store, StoredMessage};

use super::run::{start_failure, wait_for_signal};
use super::{CommandResult, Common, Failure, logs, runtime};

mod day;
mod mail;
mod shop;

use day::Item;
use mail::DemoMail;

#[derive(Args)]
pub struct Demo {
    /// IP address and port of the API
    #[arg(long, default_value = "127.0.0.1:8480", value_name = "ADDRESS:PORT")]
    listen: String,
    /// End after the sample day instead of staying up
    #[arg(long)]
    once: bool,
}

const SECRET: &str = "whsec_ZGVtby1zZWNyZXQtb2YtdGhlLXNhbXBsZS1zaG9w";
/// How long one item of the day may take to be decided.
const DECIDED_MAX: Duration = Duration::from_secs(10);

impl Demo {
    pub fn run(self, common: &Common, registrations: &[Registration]) -> CommandResult {
        let dir = match &common.data_dir {
            Some(dir) => dir.clone(),
            None => std::env::temp_dir().join(format!("switchboard-demo-{}", std::process::id())),
        };
        fs::create_dir_all(&dir)
            .map_err(|error| Failure::new(format!("{}: {error}", dir.display())))?;
        let own = common.data_dir.is_none();
        let result = runtime()?.block_on(self.play(&dir, registrations));
        if own && let Err(error) = fs::remove_dir_all(&dir) {
            eprintln!("removing {} failed: {error}", dir.display());
        }
        result
    }

    async fn play(self, dir: &Path, registrations: &[Registration]) -> CommandResult {
        let shop = shop::Shop::start().await.map_err(Failure::new)?;
        let registrations: Vec<Registration> = registrations
            .iter()
            .copied()
            .chain([Registration::of::<DemoMail>()])
            .collect();
        let file = write_config(dir, &shop.url).map_err(Failure::new)?;
        let sources = Sources {
            file: Some(file),
            env: BTreeMap::new(),
            flags: vec![
                Flag::new("--listen", "server.listen", &self.listen),
                Flag::new(
                    "--data-dir",
                    "server.data_dir",
                    dir.join("data").to_string_lossy(),
                ),
            ],
        };
        let config =
            config::load(&sources, &registrations).map_err(|errors| Failure::config(&errors))?;
        logs(&config);
        let data_dir = config.server.data_dir.clone();
        let chat = config
            .channels
            .iter()
            .find(|(id, _)| id.as_str() == "shop-chat")
            .map(|(_, chat)| chat.clone());
        let chat = chat.ok_or_else(|| Failure::new("the demo has no chat"))?;
        let daemon = Daemon::start(config, &registrations, false, Arc::default())
            .await
            .map_err(start_failure)?;
        let address = daemon.address;
        println!("Switchboard listens on http://{address}. A sample day at a shop:\n");

        let mut stage = Stage::new(&daemon, chat);
        for item in day::items() {
            stage.play(&item, address).await?;
        }
        stage.conclude().await?;
        let token = agent_token(&data_dir).await?;
        print_next_steps(&address.to_string(), &token);
        if !self.once {
            println!("\nIt stays up until Ctrl-C. Answers appear here as the customer gets them.");
            wait_for_signal().await?;
        }
        if tokio::time::timeout(SHUTDOWN_MAX, daemon.stop())
            .await
            .is_err()
        {
            return Err(Failure::new("stopping took too long"));
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn write_config(dir: &Path, shop_url: &str) -> std::io::Result<PathBuf> {
    let secret = dir.join("shop-chat.secret");
    fs::write(&secret, SECRET)?;
    let file = dir.join("switchboard.toml");
    let text = format!(
        r#"[log]
level = "warn"

[queues.frontline]
[queues.returns]
[queues.mailroom]

[channels.support-mail]
connector = "{mail}"
queue = "frontline"
acknowledge = "Thank you, we have your message and will answer within the hour."

[channels.shop-chat]
connector = "webhook"
queue = "frontline"
vouches = ["email"]
secrets = [{{ file = {secret:?} }}]
deliver_url = "{shop_url}"

[[rules]]
name = "machines"
when = {{ automatic = true }}
queue = "mailroom"
priority = "low"

[[rules]]
name = "returns"
when = {{ intent = ["return", "refund"] }}
queue = "returns"
"#,
        mail = DemoMail::KIND,
    );
    fs::write(&file, text)?;
    Ok(file)
}

/// Plays items and says what became of each, by comparing the store before and after.
struct Stage<'a> {
    daemon: &'a Daemon,
    /// Settings of the chat channel: how its sender signs.
    chat: config::Channel,
    keys: Keys,
    http: reqwest::Client,
    known: BTreeMap<MessageId, StoredMessage>,
    dead: usize,
    delivered: usize,
    filed: usize,
}

impl<'a> Stage<'a> {
    fn new(daemon: &'a Daemon, chat: config::Channel) -> Self {
        Self {
            daemon,
            chat,
            keys: Keys::derive(daemon.store.installation_key()),
            http: reqwest::Client::new(),
            known: BTreeMap::new(),
            dead: 0,
            delivered: 0,
            filed: 0,
        }
    }

    async fn play(&mut self, item: &Item, address: std::net::SocketAddr) -> Result<(), Failure> {
        self.delivered += 1;
        println!("{:>2}. {}", self.delivered, item.story);
        match &item.what {
            day::What::Mail(text) => self.mail(text).await?,
            day::What::Webhook(body) => self.webhook(body, address).await?,
            day::What::Foreign(bytes) => {
                let now = micros(SystemClock.now());
                self.daemon
                    .bus
                    .append_bytes(bytes.clone(), now)
                    .await
                    .map_err(Failure::new)?;
            }
        }
        self.wait_until_decided().await?;
        let outcome = self.outcome().await?;
        println!("    {outcome}");
        Ok(())
    }

    async fn mail(&self, text: &str) -> Result<(), Failure> {
        let id = "support-mail".parse().map_err(Failure::new)?;
        let channel = self
            .daemon
            .channels
            .get(&id)
            .ok_or_else(|| Failure::new("the demo has no mailbox"))?;
        let body = text.replace('\n', "\r\n").into();
        let request = WebhookRequest {
            body,
            received_at: SystemClock.now(),
            ..WebhookRequest::default()
        };
        let events = channel
            .connector
            .parse_captured(&request)
            .map_err(Failure::new)?;
        self.daemon
            .intake
            .accept(channel, events)
            .await
            .map_err(Failure::new)
    }

    async fn webhook(
        &self,
        body: &serde_json::Value,
        address: std::net::SocketAddr,
    ) -> Result<(), Failure> {
        let body = body.to_string();
        let id = format!("delivery-{}", self.delivered);
        let headers = channels::test_headers(&self.chat, &id, SystemClock.now(), body.as_bytes());
        let headers = headers.map_err(Failure::new)?;
        let mut request = self
            .http
            .post(format!("http://{address}/hooks/shop-chat"))
            .body(body);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let answer = request.send().await.map_err(Failure::new)?;
        let status = answer.status();
        if !status.is_success() {
            return Err(Failure::new(format!("the webhook was answered {status}")));
        }
        Ok(())
    }

    async fn wait_until_decided(&self) -> Result<(), Failure> {
        let within = tokio::time::timeout(DECIDED_MAX, self.daemon.bus.caught_up()).await;
        within
            .map_err(|_| Failure::new("the router did not decide in time"))?
            .map_err(Failure::new)
    }

    async fn outcome(&mut self) -> Result<String, Failure> {
        let store: &dyn Store = self.daemon.store.as_ref();
        let now = everything(store).await?;
        let dead = store.dead_letters(100).await.map_err(Failure::new)?;
        let fresh: Vec<&StoredMessage> = now
            .values()
            .filter(|message| !self.known.contains_key(&message.id))
            .collect();
        let inbound = fresh
            .iter()
            .find(|message| message.author.is_inbound())
            .copied()
            .cloned();
        // An acknowledgement that leaves meanwhile is not what this item did.
        let mut candidates = now
            .values()
            .filter(|message| message.author != Author::Automation);
        let changed = candidates.find(|message| {
            self.known.get(&message.id).is_some_and(|before| {
                before.delivery != message.delivery
                    || before.edited != message.edited
                    || before.deleted != message.deleted
            })
        });
        let outcome = if let Some(message) = &inbound {
            self.filed += 1;
            self.describe(store, message, fresh.len() > 1).await?
        } else if dead.len() > self.dead {
            let reason = dead
                .first()
                .map(|letter| letter.reason.clone())
                .unwrap_or_default();
            format!("dead letter, kept with its bytes; the others go on ({reason})")
        } else if let Some(message) = changed {
            let what = if message.edited {
                "changed the message it names"
            } else {
                "changed the state of a sent message"
            };
            what.to_owned()
        } else {
            "known already: dropped as a redelivery".to_owned()
        };
        self.known = now;
        self.dead = dead.len();
        Ok(outcome)
    }

    async fn describe(
        &self,
        store: &dyn Store,
        message: &StoredMessage,
        acknowledged: bool,
    ) -> Result<String, Failure> {
        let found = store
            .conversation(supervisor(), message.conversation)
            .await
            .map_err(Failure::new)?;
        let conversation = found.ok_or_else(|| Failure::new("a message without a conversation"))?;
        let id = self
            .keys
            .ids
            .encode(IdKind::Conversation, conversation.id.0);
        let join = message
            .explanation
            .pointer("/join/rule")
            .and_then(serde_json::Value::as_u64)
            .unwrap_or(0);
        let evidence = message
            .explanation
            .pointer("/identity/evidence")
            .and_then(serde_json::Value::as_str);
        let place = match conversation.status.is_open() {
            true => format!("{} in {}", conversation.status.as_str(), conversation.queue),
            false => conversation.status.as_str().to_owned(),
        };
        let short: String = id.chars().take(12).collect();
        Ok(format!(
            "conversation {short}… message {}, {place}; joining rule {join}, sender {}{}{}",
            message.seq,
            evidence.unwrap_or("unknown"),
            if message.automatic { ", automatic" } else { "" },
            if acknowledged { ", acknowledged" } else { "" },
        ))
    }

    async fn conclude(&self) -> Result<(), Failure> {
        let store: &dyn Store = self.daemon.store.as_ref();
        println!(
            "\n{} delivered, {} filed. The queues:",
            self.delivered, self.filed
        );
        for queue in store.queues(supervisor()).await.map_err(Failure::new)? {
            println!("    {:<10} {} waiting", queue.id, queue.waiting);
        }
        Ok(())
    }
}

fn supervisor() -> Actor {
    Actor {
        role: Role::Supervisor,
        agent: Some("demo".to_owned()),
        queues: Vec::new(),
        brands: Vec::new(),
        acting: None,
        acts: false,
    }
}

/// The day is small: all of its messages.
async fn everything(store: &dyn Store) -> Result<BTreeMap<MessageId, StoredMessage>, Failure> {
    let filter = ConversationFilter {
        limit: 100,
        ..ConversationFilter::default()
    };
    let mut messages = BTreeMap::new();
    for conversation in store
        .conversations(supervisor(), filter)
        .await
        .map_err(Failure::new)?
    {
        let found = store
            .messages(supervisor(), conversation.id, None, 100)
            .await
            .map_err(Failure::new)?;
        messages.extend(
            found
                .into_iter()
                .flatten()
                .map(|message| (message.id, message)),
        );
    }
    Ok(messages)
}

async fn agent_token(data_dir: &Path) -> Result<String, Failure> {
    let request = Request::TokenCreate {
        label: "demo".to_owned(),
        role: Role::Agent.as_str().to_owned(),
        agent: Some("ada".to_owned()),
        queues: Vec::new(),
        brands: Vec::new(),
        scopes: Vec::new(),
    };
    match ask(data_dir, &request).await {
        Some(Answer::Result(value)) => Ok(value["token"].as_str().unwrap_or_default().to_owned()),
        Some(Answer::Error(error)) => Err(Failure::new(error)),
        None => Err(Failure::new("the daemon's control socket does not answer")),
    }
}

fn print_next_steps(address: &str, token: &str) {
    let body = json!({ "text": "Hello, your parcel leaves today." });
    println!("\nBe agent ada. Claim, read, answer:\n");
    println!("export TOKEN={token}");
    println!(
        "curl -sX POST -H \"Authorization: Bearer $TOKEN\" 'http://{address}/v1/queues/frontline/claim?expand=messages'"
    );
    println!("export ID=cnv_…   # the id it answered");
    println!(
        "curl -s -H \"Authorization: Bearer $TOKEN\" http://{address}/v1/conversations/$ID/messages"
    );
    println!(
        "curl -sX POST -H \"Authorization: Bearer $TOKEN\" -H 'Idempotency-Key: first-answer' \
         -H 'Content-Type: application/json' -d '{body}' http://{address}/v1/conversations/$ID/messages"
    );
    println!("\nThe whole API: http://{address}/docs");
}
