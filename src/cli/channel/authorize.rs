//! `channel authorize`: a person grants a channel access to its account at the provider, with a code
//! entered on any device or in a browser that comes back to this machine. The daemon, where one runs,
//! carries the steps out itself, so that it goes on with what was granted at once.

use std::io::BufRead;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use connector_api::{ChannelId, Registration};
use serde::Deserialize;
use tokio::sync::mpsc;

use crate::daemon::control::{Hidden, Request};

use super::redirect::{Browser, Loopback};
use crate::cli::control::Desk;
use crate::cli::{CommandResult, Common, Failure, runtime};

#[derive(Args)]
pub struct Authorize {
    /// The channel's id
    channel: String,
    /// device: a code to enter on any device; redirect: a browser [default: what the provider has]
    #[arg(long)]
    by: Option<By>,
    /// With a browser: the port on 127.0.0.1 that it comes back to [default: a free one]. From another
    /// machine: ssh -L PORT:127.0.0.1:PORT
    #[arg(long, default_value_t = 0)]
    port: u16,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum By {
    Device,
    Redirect,
}

#[derive(Deserialize)]
struct Begun {
    url: String,
    code: Option<String>,
    ask_after_ms: u64,
    expires_in_ms: u64,
    state: String,
}

#[derive(Deserialize)]
struct Step {
    #[serde(default)]
    granted: bool,
    #[serde(default)]
    health: String,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    ask_after_ms: u64,
    #[serde(default)]
    state: String,
}

impl Authorize {
    pub fn run(self, common: &Common, registrations: &[Registration]) -> CommandResult {
        let config = common.load(Vec::new(), registrations)?;
        let known = config.channels.keys();
        let Some(id) = known.into_iter().find(|id| id.as_str() == self.channel) else {
            return Err(Failure::new(format!(
                "there is no channel \"{}\"",
                self.channel
            )));
        };
        let id = id.clone();
        runtime()?.block_on(async {
            let desk = Desk::open(&config, registrations, Some(&id)).await?;
            self.carry_out(&desk, &id).await
        })
    }

    async fn carry_out(self, desk: &Desk, id: &ChannelId) -> CommandResult {
        let ways = Request::ChannelWays {
            channel: id.clone(),
        };
        let ways: Vec<String> = read(desk.ask(ways).await?)?;
        let by = match self.by {
            Some(by) => by,
            None if ways.iter().any(|way| way == "device") => By::Device,
            None => By::Redirect,
        };
        let granted = match by {
            By::Device => by_device(desk, id).await?,
            By::Redirect => by_browser(desk, id, self.port).await?,
        };
        match granted.health.as_str() {
            "ready" => {
                println!("{id} is authorised and ready");
                Ok(ExitCode::SUCCESS)
            }
            health => Err(Failure::new(format!(
                "access was granted and is kept, but {id} is {health}: {}",
                granted.reason.unwrap_or_default()
            ))),
        }
    }
}

async fn by_device(desk: &Desk, id: &ChannelId) -> Result<Step, Failure> {
    let begun = begin(desk, id, None).await?;
    println!("Open {}", begun.url);
    if let Some(code) = &begun.code {
        println!("and enter {code}");
    }
    println!("Waiting for it. Ctrl-C ends this; nothing is granted then.");
    let expired = tokio::time::sleep(Duration::from_millis(begun.expires_in_ms));
    tokio::pin!(expired);
    let (mut state, mut ask_after_ms) = (begun.state, begun.ask_after_ms);
    loop {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(ask_after_ms)) => {}
            () = &mut expired => return Err(Failure::new("the code was not entered in time")),
        }
        let step = step(desk, id, state, None).await?;
        if step.granted {
            return Ok(step);
        }
        (state, ask_after_ms) = (step.state, step.ask_after_ms);
    }
}

async fn by_browser(desk: &Desk, id: &ChannelId, port: u16) -> Result<Step, Failure> {
    let mut loopback = Loopback::listen(port).await.map_err(|error| {
        Failure::new(format!(
            "listening on 127.0.0.1:{port} for the browser: {error}"
        ))
    })?;
    let begun = begin(desk, id, Some(loopback.port)).await?;
    println!("Open this in a browser on this machine:\n\n{}\n", begun.url);
    println!("It comes back here. If it cannot, paste the address that it ends at:");
    let mut pasted = lines_of_stdin();
    let expired = tokio::time::sleep(Duration::from_millis(begun.expires_in_ms));
    let (query, browser): (String, Option<Browser>) = tokio::select! {
        (query, browser) = loopback.answer() => (query, Some(browser)),
        Some(line) = pasted.recv() => (line, None),
        () = expired => return Err(Failure::new("the browser did not come back in time")),
    };
    let step = step(desk, id, begun.state, Some(query)).await;
    if let Some(browser) = browser {
        browser.tell(step.is_ok()).await;
    }
    step
}

async fn begin(desk: &Desk, id: &ChannelId, port: Option<u16>) -> Result<Begun, Failure> {
    let channel = id.clone();
    read(
        desk.ask(Request::ChannelAuthorize { channel, port })
            .await?,
    )
}

async fn step(
    desk: &Desk,
    id: &ChannelId,
    state: String,
    answer: Option<String>,
) -> Result<Step, Failure> {
    let request = Request::ChannelAuthorizeStep {
        channel: id.clone(),
        state: Hidden(state),
        answer: answer.map(Hidden),
    };
    read(desk.ask(request).await?)
}

fn read<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> Result<T, Failure> {
    serde_json::from_value(value)
        .map_err(|error| Failure::new(format!("reading the daemon's answer: {error}")))
}

/// Lines that hold an address; the thread ends with the process.
fn lines_of_stdin() -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if line.contains("state=") && sender.blocking_send(line).is_err() {
                return;
            }
        }
        // A closed input is nobody who pastes: the browser may still come.
        std::mem::forget(sender);
    });
    receiver
}
