//! kill -9 while messages stream in and are answered: every acknowledged one is there exactly
//! once, in order, in exactly one state, and no answer left twice.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::process::{Installation, PATIENCE, chat, chat_config};
use super::shop::Shop;
use crate::peers::{wait_for, wait_until};

const CUSTOMERS: usize = 40;
const SENDERS: usize = 4;

/// 20 kills over 5,000 messages with `SWITCHBOARD_LONG=1`.
fn size() -> (usize, usize) {
    match std::env::var("SWITCHBOARD_LONG").is_ok_and(|value| value == "1") {
        true => (20, 5_000),
        false => (4, 600),
    }
}

/// Replies that were accepted: conversation and text.
type Accepted = Mutex<Vec<(String, String)>>;

#[test]
fn kill_9_loses_nothing_acknowledged_and_doubles_nothing() {
    let (kills, messages) = size();
    let shop = Shop::open();
    let daemon = Installation::start(&chat_config(&shop.url));
    let token = daemon.token("ada");
    let (sent, done, accepted) = (
        AtomicUsize::new(0),
        AtomicBool::new(false),
        Accepted::default(),
    );

    std::thread::scope(|scope| {
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| {
                scope.spawn({
                    let (daemon, sent) = (&daemon, &sent);
                    move || send_all(daemon, sender, messages, sent)
                })
            })
            .collect();
        scope.spawn(|| answer_until(&daemon, &token, &done, &accepted));
        for kill in 1..=kills {
            let due = kill * messages / (kills + 1);
            wait_until("messages to stream in", PATIENCE, || {
                sent.load(Ordering::Acquire) >= due
            });
            daemon.kill_9();
            daemon.run();
        }
        senders
            .into_iter()
            .for_each(|sender| sender.join().unwrap());
        done.store(true, Ordering::Release);
    });

    let stored = wait_for("everything to be decided", PATIENCE, || {
        let stored = texts_by_customer(&daemon, &token);
        (stored.values().map(Vec::len).sum::<usize>() >= messages).then_some(stored)
    });
    for customer in 0..CUSTOMERS {
        let expected: Vec<String> = (0..messages)
            .filter(|n| n % CUSTOMERS == customer)
            .map(text_of)
            .collect();
        let found = stored
            .get(&format!("cust-{customer}"))
            .cloned()
            .unwrap_or_default();
        assert_eq!(
            found, expected,
            "messages of cust-{customer}, once each and in order"
        );
    }
    check_states(&daemon, &token);
    check_replies(&daemon, &token, &shop, &accepted.into_inner().unwrap());
}

fn text_of(number: usize) -> String {
    format!("message number {number} of the stream")
}

/// Sends every message of this sender's customers until it is acknowledged, as a shop's queue does.
fn send_all(daemon: &Installation, sender: usize, messages: usize, sent: &AtomicUsize) {
    for number in (0..messages).filter(|number| number % CUSTOMERS % SENDERS == sender) {
        let body = chat(
            &format!("m-{number}"),
            &format!("cust-{}", number % CUSTOMERS),
            &text_of(number),
        );
        persist("a message to be acknowledged", || {
            daemon
                .hook("shop-chat", &body)
                .ok()?
                .status()
                .is_success()
                .then_some(())
        });
        sent.fetch_add(1, Ordering::AcqRel);
    }
}

/// Claims, answers and releases, whatever happens to the daemon meanwhile.
fn answer_until(daemon: &Installation, token: &str, done: &AtomicBool, accepted: &Accepted) {
    let post = |path: &str, key: &str, body: &Value| {
        let request = daemon
            .http
            .post(daemon.url(path))
            .bearer_auth(token)
            .header("Idempotency-Key", key);
        let answer = request.json(body).send().ok()?;
        let status = answer.status().as_u16();
        (status < 500).then(|| (status, answer.json::<Value>().unwrap_or_default()))
    };
    let mut number = 0;
    while !done.load(Ordering::Acquire) {
        let claim = post("/v1/queues/frontline/claim?wait=1s", "", &json!({}));
        // A claim whose answer was lost: the conversation is mine all the same.
        let held = daemon
            .http
            .get(daemon.url("/v1/conversations?assignee=me&status=assigned"))
            .bearer_auth(token)
            .send();
        let held = held
            .ok()
            .and_then(|answer| answer.json::<Value>().ok())
            .unwrap_or_default();
        let claimed = claim.and_then(|(status, view)| (status == 200).then_some(view));
        let Some(conversation) = claimed.or_else(|| held["items"].get(0).cloned()) else {
            continue;
        };
        let id = conversation["id"].as_str().unwrap().to_owned();
        number += 1;
        let text = format!("answer {number}");
        let path = format!("/v1/conversations/{id}/messages");
        let answer = persist("a reply to be answered", || {
            post(&path, &format!("reply-{number}"), &json!({ "text": text }))
        });
        if answer.0 == 202 {
            accepted.lock().unwrap().push((id.clone(), text));
        }
        persist("a release to be answered", || {
            post(&format!("/v1/conversations/{id}/release"), "", &json!({}))
        });
    }
}

/// Tries until there is an answer: the daemon is down between a kill and its next start.
fn persist<T>(what: &str, attempt: impl FnMut() -> Option<T>) -> T {
    wait_for(what, Duration::from_secs(60), attempt)
}

/// What each customer said, in the order of `seq`.
fn texts_by_customer(daemon: &Installation, token: &str) -> BTreeMap<String, Vec<String>> {
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for conversation in daemon.conversations(token).iter().rev() {
        for message in daemon.messages(token, conversation["id"].as_str().unwrap()) {
            if message["author"] == "customer" {
                let customer = message["from"]["address"].as_str().unwrap().to_owned();
                texts
                    .entry(customer)
                    .or_default()
                    .push(message["text"].as_str().unwrap().to_owned());
            }
        }
    }
    texts
}

/// Every conversation is in exactly one place: waiting, or held by the one agent.
fn check_states(daemon: &Installation, token: &str) {
    let conversations = daemon.conversations(token);
    assert_eq!(
        conversations.len(),
        CUSTOMERS,
        "one conversation per customer"
    );
    let waiting = conversations
        .iter()
        .filter(|found| found["status"] == "queued")
        .count();
    let queues = daemon.get(token, "/v1/queues");
    assert_eq!(
        queues["items"][0]["waiting"], waiting,
        "the queue holds what is queued"
    );
    for found in &conversations {
        let held = matches!(found["status"].as_str(), Some("assigned" | "pending"));
        assert_eq!(found["assignee"] == "ada", held, "{found}");
    }
}

/// Each accepted reply is one message, and reached the shop once under its own id.
fn check_replies(daemon: &Installation, token: &str, shop: &Shop, accepted: &[(String, String)]) {
    assert!(!accepted.is_empty(), "something was answered");
    let mut stored: Vec<(String, String)> = Vec::new();
    for conversation in daemon.conversations(token) {
        let id = conversation["id"].as_str().unwrap();
        for message in daemon
            .messages(token, id)
            .iter()
            .filter(|message| message["author"] == "agent")
        {
            daemon.wait_for_delivery(token, message["id"].as_str().unwrap(), "sent");
            stored.push((id.to_owned(), message["text"].as_str().unwrap().to_owned()));
        }
    }
    let mut expected = accepted.to_vec();
    expected.sort();
    stored.sort();
    assert_eq!(stored, expected, "every accepted reply is stored once");
    let mut delivered: Vec<String> = shop.texts().into_iter().map(|(_, text)| text).collect();
    delivered.sort();
    let mut written: Vec<String> = expected.into_iter().map(|(_, text)| text).collect();
    written.sort();
    assert_eq!(
        delivered, written,
        "every reply reached the shop under one id"
    );
}
