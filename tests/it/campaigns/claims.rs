//! Agents at several processes who claim and release as fast as they can, while processes are killed and stopped: no
//! two ever hold one conversation, and none is given without having been asked for.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::{Client, StatusCode};
use serde_json::Value;
use switchboard::router::effects::EventType;

use super::ledger::{CLUSTER, Entry, close};
use super::routers::Fault;
use super::size;
use crate::daemon::cluster::{ALL, Cluster};
use crate::daemon::process::{Installation, chat, chat_config};
use crate::daemon::shop::Shop;
use crate::peers::{self, wait_until};
use crate::support::random;

const AGENTS: usize = 200;
/// Fewer than agents, so that they meet.
const CONVERSATIONS: usize = 150;
/// How long an agent waits for one process before it asks another the same again: longer than a claim may wait for
/// a conversation.
const ANSWER_MAX: Duration = Duration::from_millis(1500);
/// How long an agent looks at a conversation before it is given back, at most, in milliseconds.
const READ_MAX_MS: u64 = 20;
/// Faults of a run: each takes away a process for seconds, and with it a third of what agents ask.
const FAULTS: usize = 200;
const PATIENCE: Duration = Duration::from_secs(300);

/// Who has what, as the agents know it, and what broke that.
#[derive(Default)]
struct Hands {
    holders: Mutex<BTreeMap<String, usize>>,
    violations: Mutex<Vec<String>>,
    claimed: AtomicUsize,
    wanted: usize,
}

impl Hands {
    fn take(&self, conversation: &str, agent: usize) {
        let mut holders = self.holders.lock().expect("no panic");
        if let Some(other) = holders.insert(conversation.to_owned(), agent) {
            let said = format!("{conversation} is agent {agent}'s while agent {other} has it");
            self.violations.lock().expect("no panic").push(said);
        }
        self.claimed.fetch_add(1, Ordering::Relaxed);
    }

    /// Before it is given back: from then on it may be anybody's.
    fn give(&self, conversation: &str) {
        self.holders.lock().expect("no panic").remove(conversation);
    }

    fn claimed(&self) -> usize {
        self.claimed.load(Ordering::Relaxed)
    }

    fn is_done(&self) -> bool {
        self.claimed() >= self.wanted
    }
}

struct Agent {
    number: usize,
    token: String,
    doors: Arc<Vec<String>>,
    http: Client,
    seed: u64,
}

impl Agent {
    /// Asks processes by chance until one answers that it was done, or cannot be.
    async fn ask(&mut self, path: &str, key: Option<&str>) -> (StatusCode, Value) {
        loop {
            let door = &self.doors[random(&mut self.seed) as usize % self.doors.len()];
            let mut request = self
                .http
                .post(format!("{door}{path}"))
                .bearer_auth(&self.token);
            if let Some(key) = key {
                request = request.header("Idempotency-Key", key);
            }
            if let Ok(answer) = request.send().await {
                let status = answer.status();
                let said = answer.bytes().await;
                if let (Ok(said), false) = (said, status.is_server_error()) {
                    return (status, serde_json::from_slice(&said).unwrap_or_default());
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn work(mut self, hands: Arc<Hands>) {
        let mut turn = 0;
        while !hands.is_done() {
            // Another one only once this one gave something: a try that was not answered may still be carried out.
            let key = format!("{}-{turn}", self.number);
            let (status, said) = self
                .ask("/v1/queues/frontline/claim?wait=1s", Some(&key))
                .await;
            if status == StatusCode::NO_CONTENT {
                continue;
            }
            turn += 1;
            assert_eq!(status, StatusCode::OK, "{said}");
            let conversation = said["id"].as_str().expect("an id");
            hands.take(conversation, self.number);
            let read = random(&mut self.seed) % READ_MAX_MS;
            tokio::time::sleep(Duration::from_millis(read)).await;
            hands.give(conversation);
            let path = format!("/v1/conversations/{conversation}/release");
            let (status, said) = self.ask(&path, None).await;
            // One that was done and not answered is refused when it is asked for again.
            assert!(status.is_success() || status.is_client_error(), "{said}");
        }
    }
}

#[test]
fn agents_of_several_processes_never_hold_one_conversation_together() {
    if !peers::enabled() {
        return;
    }
    let (wanted, _) = size((3_000, 0), (1_000_000, 0));
    let seed = 4_006;
    let shop = Shop::open();
    let cluster = Cluster::new(chat_config(&shop.url));
    let processes: Vec<_> = (0..3).map(|_| cluster.start(ALL)).collect();
    for customer in 0..CONVERSATIONS {
        let said = chat(
            &format!("m{customer}"),
            &format!("cust-{customer}"),
            "Hello?",
        );
        let answer = processes[0].hook("shop-chat", &said).expect("an answer");
        assert!(answer.status().is_success(), "{answer:?}");
    }
    let number = |sql: &str| {
        let rows = cluster.postgres.rows(cluster.database_name(), sql);
        rows[0].parse::<usize>().expect("a number")
    };
    wait_until("all to wait", PATIENCE, || {
        number("SELECT count(*) FROM waiting") == CONVERSATIONS
    });
    let hands = Arc::new(Hands {
        wanted,
        ..Hands::default()
    });
    let agents = agents(&processes, seed);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let working: Vec<_> = agents
        .into_iter()
        .map(|agent| runtime.spawn(agent.work(hands.clone())))
        .collect();
    let mut chance = seed;
    while !hands.is_done() {
        Fault::next(&mut chance).befall(&processes[random(&mut chance) as usize % 3]);
        let enough = hands.claimed() + wanted / FAULTS;
        wait_until("claims between two faults", PATIENCE, || {
            hands.is_done() || hands.claimed() >= enough
        });
    }
    for agent in working {
        runtime.block_on(agent).expect("an agent");
    }
    let mut violations = std::mem::take(&mut *hands.violations.lock().expect("no panic"));
    wait_until("events to have numbers", PATIENCE, || {
        number("SELECT count(*) FROM event_new") == 0
    });
    let assigned = EventType::ConversationAssigned.code();
    let released = EventType::ConversationReleased.code();
    // Each was asked for under a key of its own, and answered.
    let given = number(&format!(
        "SELECT count(*) FROM event WHERE kind = {assigned}"
    ));
    let claimed = hands.claimed();
    if given != claimed {
        violations.push(format!("{given} claims were given, {claimed} answered"));
    }
    let double = number(&format!(
        "SELECT count(*) FROM (
           SELECT kind, lag(kind, 1, {released}) OVER (PARTITION BY conversation ORDER BY seq) AS before
           FROM event WHERE kind IN ({assigned}, {released})) AS turns
         WHERE kind = before"
    ));
    if double > 0 {
        violations.push(format!("{double} times given out or back twice in a row"));
    }
    close(&Entry {
        campaign: "claims",
        on: CLUSTER,
        seed,
        trials: claimed,
        longest: None,
        violations,
    });
}

/// Each with a token of its own.
fn agents(processes: &[Installation], seed: u64) -> Vec<Agent> {
    let doors: Arc<Vec<String>> = Arc::new(processes.iter().map(|one| one.url("")).collect());
    let http = Client::builder()
        .timeout(ANSWER_MAX)
        .build()
        .expect("a client");
    (0..AGENTS)
        .map(|number| Agent {
            number,
            token: processes[number % processes.len()].token(&format!("agent-{number}")),
            doors: doors.clone(),
            http: http.clone(),
            seed: seed ^ (number as u64 + 1),
        })
        .collect()
}
