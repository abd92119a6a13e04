//! From accepted to claimable: a few marked webhooks a second go to a queue of their own, on which agents wait.
//!
//! What is measured is the claim's answer, so the commit of the claim is included: an upper bound. Probes are sent at
//! intended moments like the load and several agents wait at once, so one slow claim delays no other measurement. An
//! agent resolves what it claimed, as it would.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use serde_json::Value;
use tokio::time::{Instant, sleep, sleep_until};

use crate::daemon::PROBE;
use crate::generator::micros;
use crate::http::{self, Connection};
use crate::payload::Signer;

const AGENTS: usize = 4;

/// How long the last probes may take to be claimed.
const LAST_MAX: Duration = Duration::from_secs(10);

pub struct Probe {
    pub address: SocketAddr,
    pub key: Vec<u8>,
    pub token: String,
    pub run: String,
    pub rate: u64,
    pub duration: Duration,
}

pub struct Findings {
    pub sent: u64,
    pub claimed: u64,
    /// Microseconds from the answer to the webhook until an agent has the conversation.
    pub since_accepted: Histogram<u64>,
    /// Microseconds from the moment the webhook was meant to leave.
    pub since_intended: Histogram<u64>,
    /// The first thing that went wrong, to be shown.
    pub trouble: Option<String>,
}

struct Shared {
    probe: Probe,
    finished: Cell<bool>,
    /// What is not claimed yet: when it was meant to leave and when it was accepted.
    waiting: RefCell<HashMap<u64, Times>>,
    findings: RefCell<Findings>,
}

#[derive(Clone, Copy)]
struct Times {
    intended: Instant,
    accepted: Option<Instant>,
    claimed: Option<Instant>,
}

/// Runs until every probe is claimed, or the last ones have had their time. To be run on a `LocalSet`.
pub async fn run(probe: Probe) -> Result<Findings> {
    let findings = Findings {
        sent: 0,
        claimed: 0,
        since_accepted: Histogram::new_with_bounds(1, 60_000_000, 3)?,
        since_intended: Histogram::new_with_bounds(1, 60_000_000, 3)?,
        trouble: None,
    };
    let shared = Rc::new(Shared {
        probe,
        finished: Cell::new(false),
        waiting: RefCell::new(HashMap::new()),
        findings: RefCell::new(findings),
    });
    let agents: Vec<_> = (0..AGENTS)
        .map(|_| tokio::task::spawn_local(agent(Rc::clone(&shared))))
        .collect();
    let start = Instant::now();
    let total = shared.probe.rate * shared.probe.duration.as_secs();
    let mut senders = Vec::new();
    for number in 0..total {
        let intended = start + Duration::from_nanos(number * 1_000_000_000 / shared.probe.rate);
        sleep_until(intended).await;
        senders.push(tokio::task::spawn_local(send(
            Rc::clone(&shared),
            number,
            intended,
        )));
    }
    for sender in senders {
        sender.await?;
    }
    let deadline = Instant::now() + LAST_MAX;
    while !shared.waiting.borrow().is_empty() && Instant::now() < deadline {
        sleep(Duration::from_millis(20)).await;
    }
    shared.finished.set(true);
    for agent in agents {
        agent.abort();
        // An aborted task is what was asked for.
        agent.await.ok();
    }
    Ok(Rc::into_inner(shared)
        .context("an agent is still at work")?
        .findings
        .into_inner())
}

async fn send(shared: Rc<Shared>, number: u64, intended: Instant) {
    let probe = &shared.probe;
    let run = &probe.run;
    let body = format!(
        r#"{{"type":"message","id":"p-{run}-{number}","from":{{"id":"probe-{run}-{number}","name":"Probe"}},"sent_at":"{sent_at}","text":"Where is my order? probe-{run}-{number}."}}"#,
        sent_at = jiff::Timestamp::now(),
    );
    let mut request = Vec::new();
    let id = format!("msg_p_{run}_{number}");
    let now = jiff::Timestamp::now().as_second();
    Signer::new(&probe.key).write_webhook(&mut request, PROBE.channel, &id, now, body.as_bytes());
    shared.findings.borrow_mut().sent += 1;
    shared.waiting.borrow_mut().insert(
        number,
        Times {
            intended,
            accepted: None,
            claimed: None,
        },
    );
    match Connection::new(probe.address).call(&request).await {
        Ok(answer) if answer.status == 200 => {
            shared.note(number, |times| times.accepted = Some(Instant::now()))
        }
        Ok(answer) => {
            shared.waiting.borrow_mut().remove(&number);
            shared.trouble(format!(
                "a probe was answered {} {}",
                answer.status,
                String::from_utf8_lossy(&answer.body)
            ));
        }
        Err(error) => shared.trouble(format!("a probe was not answered: {error}")),
    }
}

async fn agent(shared: Rc<Shared>) {
    let mut connection = Connection::new(shared.probe.address);
    let authorization = format!("Bearer {}", shared.probe.token);
    let path = format!("/v1/queues/{}/claim?wait=30s&expand=messages", PROBE.queue);
    let mut request = Vec::new();
    while !shared.finished.get() {
        http::write_request(
            &mut request,
            "POST",
            &path,
            &[("authorization", &authorization)],
            b"",
        );
        let answer = match connection.call(&request).await {
            Ok(answer) if answer.status == 200 => answer,
            Ok(answer) if answer.status == 204 => continue,
            Ok(answer) => {
                shared.trouble(format!(
                    "a claim was answered {} {}",
                    answer.status,
                    String::from_utf8_lossy(&answer.body)
                ));
                sleep(Duration::from_millis(100)).await;
                continue;
            }
            Err(error) => {
                shared.trouble(format!("a claim was not answered: {error}"));
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let now = Instant::now();
        let Some(number) = marked(&answer.body, &shared.probe.run) else {
            shared.trouble("a claimed conversation without its message".to_owned());
            continue;
        };
        shared.note(number, |times| times.claimed = Some(now));
        let conversation: Option<Value> = serde_json::from_slice(&answer.body).ok();
        let id = conversation
            .as_ref()
            .and_then(|conversation| conversation.get("id"))
            .and_then(Value::as_str);
        let path = format!("/v1/conversations/{}/resolve", id.unwrap_or_default());
        let headers = [
            ("authorization", authorization.as_str()),
            ("content-type", "application/json"),
        ];
        http::write_request(&mut request, "POST", &path, &headers, b"{}");
        match connection.call(&request).await {
            Ok(answer) if answer.status < 300 => {}
            Ok(answer) => shared.trouble(format!(
                "resolving was answered {} {}",
                answer.status,
                String::from_utf8_lossy(&answer.body)
            )),
            Err(error) => shared.trouble(format!("resolving was not answered: {error}")),
        }
    }
}

impl Shared {
    /// Notes one end of a probe; with both ends it is measured. The claim may be answered before the webhook is.
    fn note(&self, number: u64, note: impl FnOnce(&mut Times)) {
        let mut waiting = self.waiting.borrow_mut();
        let Some(times) = waiting.get_mut(&number) else {
            return;
        };
        note(times);
        let (Some(accepted), Some(claimed)) = (times.accepted, times.claimed) else {
            return;
        };
        let mut findings = self.findings.borrow_mut();
        findings.claimed += 1;
        findings
            .since_accepted
            .saturating_record(micros(claimed.saturating_duration_since(accepted)));
        findings
            .since_intended
            .saturating_record(micros(claimed.saturating_duration_since(times.intended)));
        waiting.remove(&number);
    }

    fn trouble(&self, what: String) {
        self.findings.borrow_mut().trouble.get_or_insert(what);
    }
}

/// Finds the number of the probe in a conversation, in whatever field its text is.
fn marked(body: &[u8], run: &str) -> Option<u64> {
    let text = String::from_utf8_lossy(body);
    let marker = format!("order? probe-{run}-");
    let (_, rest) = text.split_once(&marker)?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}
