//! kill -9 while messages stream in by webhook and by mail and are answered: every acknowledged one
//! is there exactly once, in order, in exactly one state. No answer leaves twice, and one that may
//! not have arrived says so.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::mail::{proven, wait_for_mailbox};
use super::manifest::{Found, Manifest};
use super::post_office::{PostOffice, mail_channel};
use super::process::{Installation, MAIL_PASSWORD, PATIENCE, chat, chat_config};
use super::shop::Shop;
use crate::peers::{self, Chaos, Dovecot, Postfix, wait_for, wait_until};
use crate::support::random;

const SENDERS: usize = 4;

/// How much of it there is.
#[derive(Clone, Copy)]
pub struct Scale {
    pub kills: usize,
    pub messages: usize,
    pub customers: usize,
    /// One of so many customers writes by mail, the others in the shop's chat.
    pub mail_every: usize,
    /// When exactly it is killed is chance, made of this; `None`: in the middle of a send.
    pub chance: Option<u64>,
}

/// 20 kills over 5,000 messages with `SWITCHBOARD_LONG=1`; with real mail servers where there are
/// some, since one long campaign is enough.
fn scale(is_long_here: bool) -> Scale {
    let is_long = std::env::var("SWITCHBOARD_LONG").is_ok_and(|value| value == "1");
    let (kills, messages) = match is_long && is_long_here {
        true => (20, 5_000),
        false => (4, 600),
    };
    Scale {
        kills,
        messages,
        customers: 40,
        mail_every: 2,
        chance: None,
    }
}

impl Scale {
    fn writes_mail(&self, customer: usize) -> bool {
        customer % self.mail_every == 1
    }

    fn address_of(&self, customer: usize) -> String {
        match self.writes_mail(customer) {
            true => format!("cust-{customer}@customer.example"),
            false => format!("cust-{customer}"),
        }
    }

    fn by_mail(&self) -> impl Iterator<Item = usize> {
        (0..self.customers).filter(|customer| self.writes_mail(*customer))
    }
}

/// Replies that were accepted: conversation and text.
type Accepted = Mutex<Vec<(String, String)>>;

/// Where the daemon's mail comes from and goes to.
pub trait Post: Sync {
    /// The channel `support-mail`.
    fn channel(&self) -> String;
    fn deliver(&self, mail: Vec<u8>);
    /// The next mail out arrives, and the daemon is not told.
    fn lose_next_answer(&self);
    /// Leaves the daemon in the middle of a send, where that can be seen.
    fn wait_for_unanswered(&self) {
        self.lose_next_answer();
    }
    /// The mails that customers have got so far.
    fn received(&self) -> Vec<Vec<u8>>;
    /// The numbers of the mails in the order of the mailbox, where that is not how they were
    /// delivered.
    fn order(&self) -> Option<Vec<usize>> {
        None
    }
}

impl Post for PostOffice {
    fn channel(&self) -> String {
        self.config()
    }

    fn deliver(&self, mail: Vec<u8>) {
        self.deliver(mail);
    }

    fn lose_next_answer(&self) {
        self.lose_next_answer();
    }

    fn wait_for_unanswered(&self) {
        self.wait_for_unanswered();
    }

    fn received(&self) -> Vec<Vec<u8>> {
        self.sent().into_iter().map(|mail| mail.raw).collect()
    }
}

/// Dovecot, and Postfix behind a proxy that can lose its answers.
struct RealPost {
    dovecot: Dovecot,
    _postfix: Postfix,
    smtp: Chaos,
    customers: Vec<usize>,
}

impl RealPost {
    fn open(scale: &Scale) -> Self {
        let dovecot = Dovecot::start();
        assert_eq!(dovecot.password, MAIL_PASSWORD);
        let postfix = Postfix::start(&dovecot);
        let smtp = Chaos::start(postfix.smtp_port);
        Self {
            dovecot,
            _postfix: postfix,
            smtp,
            customers: scale.by_mail().collect(),
        }
    }
}

impl Post for RealPost {
    fn channel(&self) -> String {
        mail_channel(self.dovecot.imap_port, self.smtp.port, "support")
    }

    fn deliver(&self, mail: Vec<u8>) {
        self.dovecot.deliver("support", &mail);
    }

    // A mail that is delivered while the mailbox is read may be numbered after later ones.
    fn order(&self) -> Option<Vec<usize>> {
        let subjects: BTreeMap<u32, String> = self
            .dovecot
            .subjects_by_uid("support")
            .into_iter()
            .collect();
        let numbers = subjects.values().map(|subject| {
            let number = subject.rsplit(' ').next().unwrap();
            number.parse().unwrap()
        });
        Some(numbers.collect())
    }

    fn lose_next_answer(&self) {
        // The dot that ends a mail, alone on its line.
        self.smtp.lose_answer_to(b"\r\n.\r\n");
    }

    fn received(&self) -> Vec<Vec<u8>> {
        let customers = self.customers.iter();
        customers
            .flat_map(|customer| self.dovecot.fetch_all(&format!("cust-{customer}")))
            .collect()
    }
}

#[test]
fn kill_9_loses_nothing_acknowledged_and_doubles_nothing() {
    check(&PostOffice::open(), &scale(!peers::enabled()));
}

#[test]
fn kill_9_loses_nothing_and_doubles_nothing_with_real_mail_servers() {
    if peers::enabled() {
        let scale = scale(true);
        check(&RealPost::open(&scale), &scale);
    }
}

/// Kills it, over and over, and then counts.
pub fn check(post: &dyn Post, scale: &Scale) {
    let Scale {
        kills, messages, ..
    } = *scale;
    let mut chance = scale.chance;
    let shop = Shop::open();
    let daemon = Installation::start(&(chat_config(&shop.url) + &post.channel()));
    wait_for_mailbox(&daemon);
    let token = daemon.token("ada");
    let (sent, done, accepted) = (
        AtomicUsize::new(0),
        AtomicBool::new(false),
        Accepted::default(),
    );

    std::thread::scope(|scope| {
        let _ends = Ends(&done);
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| {
                scope.spawn({
                    let (daemon, sent) = (&daemon, &sent);
                    move || send_all(daemon, post, scale, sender, sent)
                })
            })
            .collect();
        scope.spawn(|| answer_until(&daemon, &token, &done, &accepted));
        for kill in 1..=kills {
            let due = kill * messages / (kills + 1);
            wait_until("messages to stream in", PATIENCE * 2, || {
                sent.load(Ordering::Acquire) >= due
            });
            match &mut chance {
                None => post.wait_for_unanswered(),
                Some(chance) => {
                    post.lose_next_answer();
                    std::thread::sleep(Duration::from_millis(random(chance) % KILLED_WITHIN_MS));
                }
            }
            daemon.kill_9();
            daemon.run();
        }
        post.lose_next_answer();
        wait_until("an answer to get lost", PATIENCE, || {
            daemon.metric(LOST) >= 1.0
        });
        senders
            .into_iter()
            .for_each(|sender| sender.join().unwrap());
        wait_until("everybody to be answered", PATIENCE * 2, || {
            daemon.get(&token, "/v1/queues")["items"][0]["waiting"] == 0
        });
    });

    let found = Found::settled(&daemon, &token, |found| found.count() >= messages);
    let mut manifest = Manifest::default();
    let order = post.order();
    for customer in 0..scale.customers {
        let mut numbers: Vec<usize> = (customer..messages).step_by(scale.customers).collect();
        if let Some(order) = order.as_ref().filter(|_| scale.writes_mail(customer)) {
            numbers.sort_by_key(|number| order.iter().position(|other| other == number));
        }
        let address = scale.address_of(customer);
        for number in numbers {
            manifest.is_acknowledged(&address, text_of(number));
        }
    }
    for reply in accepted.into_inner().unwrap() {
        manifest.is_accepted(reply);
    }
    let violations = manifest.violations(&found, &shop.texts());
    assert!(violations.is_empty(), "{violations:#?}");
    check_mails(&found, post, scale);
}

/// By chance, after as many messages as are due.
const KILLED_WITHIN_MS: u64 = 100;
/// Mails whose outcome nobody knows, since the last start.
const LOST: &str = "switchboard_sends_total{channel=\"support-mail\",outcome=\"unknown\"}";

/// Ends the answering when the campaign is over, also by a failure.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

fn text_of(number: usize) -> String {
    format!("message number {number} of the stream")
}

/// Sends every message of this sender's customers until it is acknowledged, as a shop's queue does;
/// a mailbox takes them at once.
fn send_all(
    daemon: &Installation,
    post: &dyn Post,
    scale: &Scale,
    sender: usize,
    sent: &AtomicUsize,
) {
    let customers = scale.customers;
    for number in (0..scale.messages).filter(|number| number % customers % SENDERS == sender) {
        // A mailbox takes mails faster than a shop's queue is read: neither runs ahead.
        wait_until("the others to keep up", PATIENCE * 2, || {
            sent.load(Ordering::Acquire) + customers >= number
        });
        let customer = number % customers;
        let address = scale.address_of(customer);
        let (id, text) = (format!("m-{number}"), text_of(number));
        if scale.writes_mail(customer) {
            post.deliver(proven(
                &address,
                &format!("Stream {number}"),
                &id,
                "",
                &text,
            ));
        } else {
            let body = chat(&id, &address, &text);
            persist("a message to be acknowledged", || {
                let answer = daemon.hook("shop-chat", &body).ok()?;
                answer.status().is_success().then_some(())
            });
        }
        sent.fetch_add(1, Ordering::AcqRel);
    }
}

/// Claims, answers and resolves, whatever happens to the daemon meanwhile.
fn answer_until(daemon: &Installation, token: &str, done: &AtomicBool, accepted: &Accepted) {
    let post = |path: &str, key: &str, body: &Value| {
        let mut request = daemon.http.post(daemon.url(path)).bearer_auth(token);
        if !key.is_empty() {
            request = request.header("Idempotency-Key", key);
        }
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
        // A released one would be the first of the queue again.
        persist("a resolution to be answered", || {
            post(&format!("/v1/conversations/{id}/resolve"), "", &json!({}))
        });
    }
}

/// Tries until there is an answer: the daemon is down between a kill and its next start.
fn persist<T>(what: &str, attempt: impl FnMut() -> Option<T>) -> T {
    wait_for(what, Duration::from_secs(60), attempt)
}

/// An answer by mail reached the customer once, or nobody knows and it says so: none arrived twice.
fn check_mails(found: &Found, post: &dyn Post, scale: &Scale) {
    let mut by_mail: BTreeMap<String, Value> = BTreeMap::new();
    let mut in_chat = 0;
    for (_, message) in found.replies() {
        if message["channel"] == "support-mail" {
            let text = message["text"].as_str().unwrap().to_owned();
            by_mail.insert(text, message.clone());
        } else {
            in_chat += 1;
        }
    }
    let is = |text: &String, outcome: &str| by_mail[text]["delivery"] == outcome;
    let sent: Vec<&String> = by_mail.keys().filter(|text| is(text, "sent")).collect();
    let received = wait_for("every mail sent to arrive", PATIENCE, || {
        let received = arrivals(post);
        let all = sent.iter().all(|text| received.contains_key(*text));
        all.then_some(received)
    });
    let twice: Vec<_> = received.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "mails that came twice: {twice:?}");
    for text in received.keys() {
        let known = is(text, "sent") || is(text, "unknown");
        assert!(known, "{text} arrived: {}", by_mail[text]);
    }
    let unknown = by_mail.keys().filter(|text| is(text, "unknown")).count();
    assert_eq!(sent.len() + unknown, by_mail.len(), "{by_mail:?}");
    let counts = format!(
        "{in_chat} replies in the chat, {} by mail: {} sent, {unknown} unknown",
        by_mail.len(),
        sent.len()
    );
    println!("{counts}");
    // That there was something to lose. How many mails are under way at a kill is chance, and each of
    // them ends unknown: on a busy machine a third does.
    let by_mail = scale.by_mail().count();
    let enough = in_chat >= scale.customers / 4 && sent.len() >= by_mail / 2;
    assert!(enough && unknown > 0, "{counts}");
}

/// How many times each answer came to a customer by mail.
fn arrivals(post: &dyn Post) -> BTreeMap<String, usize> {
    let mut arrivals = BTreeMap::new();
    for mail in post.received() {
        let mail = String::from_utf8_lossy(&mail).into_owned();
        let answer = mail.lines().find(|line| line.starts_with("answer "));
        let answer = answer.unwrap_or_else(|| panic!("a mail without an answer: {mail}"));
        *arrivals.entry(answer.trim_end().to_owned()).or_default() += 1;
    }
    arrivals
}
