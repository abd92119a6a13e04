//! Customers who write by webhook, one message after the other, and send again what was not acknowledged and some of
//! what was; and the proof of what became of all that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::daemon::process::{Installation, chat};
use crate::peers::{self, Postgres, wait_until};
use crate::support::random;

/// Threads that send.
const SENDERS: usize = 4;
/// Of a hundred acknowledged messages so many are sent once more.
const REDELIVERED_PERCENT: u64 = 5;
/// How long all that was acknowledged may take to be decided once nothing is broken any more.
const DECIDED_MAX: Duration = Duration::from_secs(300);
/// After a refusal.
const AGAIN_AFTER: Duration = Duration::from_millis(50);

/// What is sent.
pub struct Traffic {
    pub customers: usize,
    pub messages: usize,
    /// How many a second, of all together.
    pub rate: usize,
    pub seed: u64,
}

/// How it went so far.
#[derive(Default)]
pub struct Sent {
    pub acknowledged: AtomicUsize,
    pub redelivered: AtomicUsize,
    pub refused: AtomicUsize,
    /// When something was acknowledged last, and the longest time without.
    gap: Mutex<(Option<Instant>, Duration)>,
    /// Nothing more is to be sent.
    pub stopped: AtomicBool,
}

impl Sent {
    fn is_acknowledged(&self) {
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
        let now = peers::now();
        let mut gap = self.gap.lock().expect("no panic");
        let since = gap.0.map_or(Duration::ZERO, |last| now - last);
        *gap = (Some(now), gap.1.max(since));
    }

    pub fn longest_gap(&self) -> Duration {
        self.gap.lock().expect("no panic").1
    }
}

impl Traffic {
    pub fn said(customer: usize, number: usize) -> Value {
        let name = format!("cust-{customer}");
        chat(
            &format!("{name}-{number}"),
            &name,
            &format!("{name} says {number}"),
        )
    }

    /// Sends all of it to whoever of `doors` takes it. Each customer's next message follows only once the one
    /// before was acknowledged.
    pub fn send(&self, doors: &[Installation], sent: &Sent) {
        let begun = peers::now();
        let started = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for sender in 0..SENDERS {
                let started = &started;
                scope.spawn(move || {
                    let mut seed = self.seed ^ (sender as u64 + 1);
                    let mut next: BTreeMap<usize, usize> = BTreeMap::new();
                    loop {
                        let turn = started.fetch_add(1, Ordering::Relaxed);
                        if turn >= self.messages || sent.stopped.load(Ordering::Relaxed) {
                            return;
                        }
                        let due = Duration::from_secs_f64(turn as f64 / self.rate as f64);
                        std::thread::sleep(due.saturating_sub(begun.elapsed()));
                        // Each customer has one sender.
                        let own = self.customers / SENDERS;
                        let customer = sender + SENDERS * (random(&mut seed) as usize % own);
                        let number = next.entry(customer).or_default();
                        self.deliver(doors, customer, *number, &mut seed, sent);
                        if random(&mut seed) % 100 < REDELIVERED_PERCENT {
                            let earlier = random(&mut seed) as usize % (*number + 1);
                            self.deliver(doors, customer, earlier, &mut seed, sent);
                            sent.redelivered.fetch_add(1, Ordering::Relaxed);
                        }
                        *number += 1;
                        sent.is_acknowledged();
                    }
                });
            }
        });
    }

    /// Again and again, until somebody acknowledges it.
    fn deliver(
        &self,
        doors: &[Installation],
        customer: usize,
        number: usize,
        seed: &mut u64,
        sent: &Sent,
    ) {
        let said = Self::said(customer, number);
        loop {
            let door = &doors[random(seed) as usize % doors.len()];
            let answer = door.hook("shop-chat", &said);
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return;
            }
            sent.refused.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(AGAIN_AFTER);
        }
    }
}

/// What the database is watched for while a campaign runs: positions that go back.
pub fn watch_positions(postgres: &Postgres, database: &str) {
    postgres.run(
        database,
        "CREATE TABLE campaign_regress (at timestamptz DEFAULT now(), said text);
         CREATE FUNCTION campaign_watch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
           IF NEW.position < OLD.position OR NEW.epoch < OLD.epoch THEN
             INSERT INTO campaign_regress (said) VALUES (format('%s: %s/%s after %s/%s', NEW.partition,
               NEW.position, NEW.epoch, OLD.position, OLD.epoch));
           END IF; RETURN NEW; END $$;
         CREATE TRIGGER campaign_watch BEFORE UPDATE ON position
           FOR EACH ROW EXECUTE FUNCTION campaign_watch();",
    );
}

/// Everything that is not as it has to be once nothing is broken any more: every acknowledged message filed once, each
/// customer's in order, in one conversation, without a gap in its numbers.
pub fn violations(
    process: &Installation,
    token: &str,
    postgres: &Postgres,
    database: &str,
    sent: &Sent,
) -> Vec<String> {
    let acknowledged = sent.acknowledged.load(Ordering::Relaxed);
    let count = || {
        let rows = postgres.rows(database, "SELECT count(*) FROM message");
        rows[0].parse::<usize>().expect("a count")
    };
    wait_until("all to be decided", DECIDED_MAX, || count() >= acknowledged);
    wait_until("it to be well again", DECIDED_MAX, || {
        let ready = process.http.get(process.url("/readyz")).send();
        ready.is_ok_and(|answer| answer.status().is_success())
    });
    let found = Mutex::new(Vec::new());
    let violated = |what: String| found.lock().expect("no panic").push(what);
    if count() != acknowledged {
        violated(format!("{} messages of {acknowledged}", count()));
    }
    for regress in postgres.rows(database, "SELECT said FROM campaign_regress") {
        violated(format!("a position went back: {regress}"));
    }
    let mut customers = BTreeSet::new();
    let mut seen = 0;
    for conversation in process.conversations(token) {
        let id = conversation["id"].as_str().expect("an id");
        let messages = process.messages(token, id);
        for (at, message) in messages.iter().enumerate() {
            let text = message["text"].as_str().unwrap_or_default();
            let (customer, number) = text.split_once(" says ").unwrap_or_default();
            if at == 0 && !customers.insert(customer.to_owned()) {
                violated(format!("a second conversation of {customer}: {id}"));
            }
            if number.parse() != Ok(at) || message["seq"] != at + 1 {
                let seq = &message["seq"];
                violated(format!("{id}: message {at} is {text:?} with number {seq}"));
            }
            seen += 1;
        }
    }
    if seen != acknowledged {
        violated(format!("{seen} messages are seen of {acknowledged}"));
    }
    found.into_inner().expect("no panic")
}
