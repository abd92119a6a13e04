//! Customers of one process who write in its shop's chat, some with files, and send again what was not acknowledged and
//! some of what was; and an agent who answers them. They stop and go on, and know what they were told.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use reqwest::blocking::Response;
use serde_json::{Value, json};

use crate::daemon::manifest::{Found, Manifest, file_of, violations_of_database};
use crate::daemon::process::{Installation, chat, chat_config, now};
use crate::daemon::shop::Shop;
use crate::support::random;

/// Threads that send.
const SENDERS: usize = 4;
const CUSTOMERS: usize = 24;
/// One of so many messages has a file that is too large for the database.
const FILE_EVERY: usize = 8;
/// Of a hundred acknowledged messages so many are sent once more.
const REDELIVERED_PERCENT: u64 = 5;
/// One of so many conversations is not resolved but sleeps for a second.
const SNOOZED_EVERY: u64 = 6;
/// After a refusal, and between two looks of the agent.
const AGAIN_AFTER: Duration = Duration::from_millis(20);

/// What happened, by name: that all of it did is part of a campaign.
pub type Counts = BTreeMap<&'static str, usize>;

/// One process, its shop, and what everybody was told.
pub struct Crowd {
    pub daemon: Installation,
    pub shop: Shop,
    pub token: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    manifest: Manifest,
    counts: Counts,
    violations: Vec<String>,
    /// Replies so far: each has a text of its own.
    replies: usize,
    chance: u64,
}

impl Crowd {
    /// A process on a directory that `prepare` may change before its first start.
    pub fn gather(seed: u64, prepare: impl FnOnce(&Installation)) -> Self {
        let shop = Shop::open();
        let daemon = Installation::new(&chat_config(&shop.url));
        prepare(&daemon);
        daemon.run();
        let state = State {
            chance: seed,
            ..State::default()
        };
        Self {
            token: daemon.token("ada"),
            daemon,
            shop,
            state: Mutex::new(state),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic")
    }

    /// The next number by chance, below `end`.
    pub fn chance(&self, end: u64) -> u64 {
        random(&mut self.state().chance) % end
    }

    pub fn count(&self, what: &'static str) {
        *self.state().counts.entry(what).or_default() += 1;
    }

    pub fn counted(&self, what: &'static str) -> usize {
        self.state().counts.get(what).copied().unwrap_or(0)
    }

    pub fn violated(&self, what: String) {
        self.state().violations.push(what);
    }

    pub fn manifest(&self) -> Manifest {
        self.state().manifest.clone()
    }

    /// A backup of then was restored.
    pub fn restore(&self, backup: &Manifest) {
        self.state().manifest.restore(backup);
    }

    /// Has everybody write while `fault` happens.
    pub fn while_they_write<T>(&self, fault: impl FnOnce() -> T) -> T {
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // Also by a failure.
            let _ends = Ends(&ended);
            for sender in 0..SENDERS {
                let ended = &ended;
                scope.spawn(move || self.write_until(sender, ended));
            }
            scope.spawn(|| self.answer_until(&ended));
            fault()
        })
    }

    /// Waits until all of it is settled, then adds what is not as it has to be; says how much was acknowledged so far.
    pub fn compare(&self, when: &str) -> usize {
        let manifest = self.manifest();
        let found = Found::settled(&self.daemon, &self.token, |found| {
            manifest.is_decided(found)
        });
        let mut violations = manifest.violations(&found, &self.shop.texts());
        violations.extend(manifest.violations_of_files(&self.daemon, &self.token, &found));
        violations.extend(violations_of_database(&self.daemon));
        let named = violations.into_iter().map(|what| format!("{when}: {what}"));
        self.state().violations.extend(named);
        manifest.acknowledged()
    }

    /// What was found; with what never happened and should have.
    pub fn end(self, expected: &[&'static str]) -> Vec<String> {
        let state = self.state.into_inner().expect("no panic");
        let (messages, replies) = (
            state.manifest.acknowledged(),
            state.manifest.accepted().len(),
        );
        println!("{messages} messages, {replies} replies, {:?}", state.counts);
        let missing = expected
            .iter()
            .filter(|what| !state.counts.contains_key(*what));
        let missing = missing.map(|what| format!("{what} never happened"));
        let mut violations: Vec<String> = state.violations.into_iter().chain(missing).collect();
        if messages == 0 || replies == 0 {
            violations.push(format!("{messages} messages, {replies} replies"));
        }
        violations
    }

    fn write_until(&self, sender: usize, ended: &AtomicBool) {
        while !ended.load(Ordering::Acquire) {
            let own = self.chance((CUSTOMERS / SENDERS) as u64) as usize;
            let customer = format!("cust-{}", sender + SENDERS * own);
            let number = self.state().manifest.count_of(&customer);
            if number > 0 && self.chance(100) < REDELIVERED_PERCENT {
                let earlier = self.chance(number as u64) as usize;
                if self.send(&customer, earlier).is_some_and(|taken| taken) {
                    self.count("redelivered");
                }
            }
            let text = text_of(&customer, number);
            match self.send(&customer, number) {
                Some(true) => {
                    let mut state = self.state();
                    if has_file(number) {
                        state.manifest.has_file(&customer, text.clone());
                    }
                    state.manifest.is_acknowledged(&customer, text);
                }
                Some(false) => std::thread::sleep(AGAIN_AFTER),
                None => {
                    self.state().manifest.is_unsure(&customer, text);
                    std::thread::sleep(AGAIN_AFTER);
                }
            }
        }
    }

    /// Whether it was taken; `None` where there was no answer.
    fn send(&self, customer: &str, number: usize) -> Option<bool> {
        let text = text_of(customer, number);
        let mut said = chat(&format!("{customer}-{number}"), customer, &text);
        if has_file(number) {
            let file = BASE64_STANDARD.encode(file_of(&text));
            said["attachments"] = json!([
                { "name": "film.bin", "content_type": "application/octet-stream", "base64": file }
            ]);
        }
        match self.daemon.hook("shop-chat", &said) {
            Ok(answer) => Some(self.is_taken(&text, answer)),
            // It did not come that far.
            Err(error) if error.is_connect() => Some(false),
            Err(_) => {
                self.count("unanswered");
                None
            }
        }
    }

    /// A refusal says when to come again.
    fn is_taken(&self, what: &str, answer: Response) -> bool {
        let status = answer.status();
        if status.is_success() {
            return true;
        }
        self.count("refused");
        let again = answer.headers().contains_key("retry-after");
        if status != 503 || !again {
            let body = answer.text().unwrap_or_default();
            self.violated(format!("{what:?}: {status}, {body}"));
        }
        false
    }

    /// Claims and answers; then resolves, or puts off for a moment.
    fn answer_until(&self, ended: &AtomicBool) {
        while !ended.load(Ordering::Acquire) {
            if self.answer_one().is_none() {
                std::thread::sleep(AGAIN_AFTER);
            }
        }
    }

    /// `None` where there was nobody to answer, or no answer.
    fn answer_one(&self) -> Option<()> {
        let asked = self.state().manifest.asked.clone();
        let (conversation, text) = match asked {
            Some(reply) => reply,
            None => {
                let conversation = self.held().or_else(|| self.claimed())?;
                let mut state = self.state();
                state.replies += 1;
                (conversation, format!("answer {}", state.replies))
            }
        };
        let key = text.replace(' ', "-");
        let path = format!("/v1/conversations/{conversation}/messages");
        // As long as no answer came.
        self.state().manifest.asked = Some((conversation.clone(), text.clone()));
        let answer = self.post(&path, &key, &json!({ "text": text }))?;
        let status = answer.status();
        if status != 202 && !self.is_taken(&text, answer) {
            return None;
        }
        self.state()
            .manifest
            .is_accepted((conversation.clone(), text));
        if self.chance(SNOOZED_EVERY) == 0 {
            let until = jiff::Timestamp::from_second(now() + 1).expect("a time");
            let path = format!("/v1/conversations/{conversation}/snooze");
            let answer = self.post(&path, "", &json!({ "until": until.to_string() }))?;
            if answer.status().is_success() {
                self.count("snoozed");
            }
            return Some(());
        }
        self.post(
            &format!("/v1/conversations/{conversation}/resolve"),
            "",
            &json!({}),
        )?;
        Some(())
    }

    fn post(&self, path: &str, key: &str, body: &Value) -> Option<Response> {
        let request = self.daemon.http.post(self.daemon.url(path));
        let mut request = request.bearer_auth(&self.token);
        if !key.is_empty() {
            request = request.header("Idempotency-Key", key);
        }
        request.json(body).send().ok()
    }

    fn claimed(&self) -> Option<String> {
        let answer = self.post("/v1/queues/frontline/claim", "", &json!({}))?;
        let view = (answer.status() == 200).then(|| answer.json::<Value>().ok())??;
        view["id"].as_str().map(str::to_owned)
    }

    /// A claim whose answer was lost: the conversation is the agent's all the same.
    fn held(&self) -> Option<String> {
        let url = "/v1/conversations?assignee=me&status=assigned";
        let asked = self.daemon.http.get(self.daemon.url(url));
        let answer = asked.bearer_auth(&self.token).send().ok()?;
        let view = answer.json::<Value>().ok()?;
        view["items"][0]["id"].as_str().map(str::to_owned)
    }
}

/// Ends the writing.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

fn text_of(customer: &str, number: usize) -> String {
    format!("{customer} says {number}")
}

fn has_file(number: usize) -> bool {
    number % FILE_EVERY == 3
}
