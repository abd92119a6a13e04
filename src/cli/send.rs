//! `send`: a customer's test message through a webhook channel of the running daemon.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use connector_api::{Clock, Registration};
use serde_json::json;

use crate::channels;
use crate::clock::SystemClock;
use crate::config::Flag;
use crate::words::innermost;

use super::here::Here;
use super::{CommandResult, Common, Failure, runtime};

const ANSWER_WAIT: Duration = Duration::from_secs(10);

#[derive(Args)]
pub struct Send {
    /// Channel to send through
    channel: String,
    /// Where the daemon listens, if not at `server.listen`
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// Who writes, in the shop's own words: `cust-7`
    #[arg(long)]
    from: String,
    /// Thread of the message
    #[arg(long)]
    thread: Option<String>,
    /// What the customer says
    text: String,
}

impl Send {
    pub fn run(self, common: &Common, registrations: &[Registration]) -> CommandResult {
        let flag = |listen| Flag::new("--listen", "server.listen", listen);
        let flags = self.listen.map(flag).into_iter().collect();
        let config = common.load(flags, registrations)?;
        let channel = config
            .channels
            .iter()
            .find(|(id, _)| id.as_str() == self.channel);
        let known: Vec<&str> = config.channels.keys().map(|id| id.as_str()).collect();
        let (_, channel) = channel.ok_or_else(|| {
            let known = match known.as_slice() {
                [] => "none is configured: name the file with --config or SWITCHBOARD_CONFIG"
                    .to_owned(),
                known => format!("there are {}", known.join(", ")),
            };
            Failure::new(format!("there is no channel \"{}\"; {known}", self.channel))
        })?;
        let now = SystemClock.now();
        let id = uuid::Uuid::now_v7().as_simple().to_string();
        let body = json!({
            "type": "message", "id": format!("test-{id}"), "thread": self.thread,
            "from": { "id": self.from }, "text": self.text, "sent_at": now.to_string(),
        })
        .to_string();
        let headers =
            channels::test_headers(channel, &id, now, body.as_bytes()).map_err(Failure::new)?;
        let here = Here::of(&config, config.server.listen)?;
        let url = format!("{}/hooks/{}", here.base, self.channel);
        let answer = runtime()?.block_on(async move {
            let mut request = here.client.post(&url).timeout(ANSWER_WAIT).body(body);
            for (name, value) in headers {
                request = request.header(name, value);
            }
            let response = request.send().await.map_err(|error| {
                let why = innermost(&error);
                let hint = "is the daemon there? Its address is server.listen, or --listen";
                Failure::new(format!("sending to {url}: {why}: {hint}"))
            })?;
            let status = response.status();
            let text = response.text().await.map_err(Failure::new)?;
            if status.is_success() {
                Ok(text)
            } else {
                Err(Failure::new(format!("{url} answered {status}: {text}")))
            }
        })?;
        println!("{answer}");
        Ok(ExitCode::SUCCESS)
    }
}
