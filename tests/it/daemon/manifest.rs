//! What customers and agents were told, held against what is there: the one oracle of campaigns on one process.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

use super::process::Installation;
use crate::peers::{now, wait_for};
use crate::support::random;

/// How long all that was acknowledged may take to be decided, and all that was accepted to leave.
const SETTLED_MAX: Duration = Duration::from_secs(60);
const LOOKS_EVERY: Duration = Duration::from_millis(20);
/// What is stored beside a database's rows is larger than this.
const FILE_BYTES_MIN: usize = 64 * 1024 + 1;

/// A reply: its conversation and its text.
pub type Reply = (String, String);

/// What somebody was told so far.
#[derive(Default, Clone)]
pub struct Manifest {
    customers: BTreeMap<String, Customer>,
    accepted: Vec<Reply>,
    /// One whose answer did not come.
    pub asked: Option<Reply>,
    /// At the shop, and not here any more: they left after the backup that was restored.
    gone: BTreeSet<String>,
}

/// What one customer said, in order; the next only after the one before was acknowledged.
#[derive(Default, Clone)]
struct Customer {
    acknowledged: Vec<String>,
    /// It may have arrived: there was no answer.
    unsure: Option<String>,
    /// Of those with a file.
    files: BTreeSet<String>,
}

impl Manifest {
    pub fn is_acknowledged(&mut self, customer: &str, text: String) {
        let customer = self.customers.entry(customer.to_owned()).or_default();
        customer.unsure = None;
        customer.acknowledged.push(text);
    }

    pub fn has_file(&mut self, customer: &str, text: String) {
        let customer = self.customers.entry(customer.to_owned()).or_default();
        customer.files.insert(text);
    }

    pub fn is_unsure(&mut self, customer: &str, text: String) {
        let customer = self.customers.entry(customer.to_owned()).or_default();
        customer.unsure = Some(text);
    }

    pub fn is_accepted(&mut self, reply: Reply) {
        self.asked = None;
        self.accepted.push(reply);
    }

    /// How many of a customer's messages were acknowledged.
    pub fn count_of(&self, customer: &str) -> usize {
        let customer = self.customers.get(customer);
        customer.map_or(0, |customer| customer.acknowledged.len())
    }

    pub fn acknowledged(&self) -> usize {
        let customers = self.customers.values();
        customers.map(|customer| customer.acknowledged.len()).sum()
    }

    pub fn accepted(&self) -> &[Reply] {
        &self.accepted
    }

    /// Goes back to what it was when a backup was made; replies of since may be at the shop all the same.
    pub fn restore(&mut self, backup: &Self) {
        let since = self.accepted.iter().chain(&self.asked);
        let gone: BTreeSet<String> = since
            .filter(|reply| !backup.accepted.contains(reply))
            .map(|(_, text)| text.clone())
            .collect();
        let mut gone_before = std::mem::take(&mut self.gone);
        gone_before.extend(gone);
        *self = Self {
            gone: gone_before,
            ..backup.clone()
        };
    }

    /// Whether as much of each customer is there as was acknowledged; what nobody was told of may be there, too.
    pub fn is_decided(&self, found: &Found) -> bool {
        let said = found.said();
        self.customers.iter().all(|(address, customer)| {
            let stored = said.get(address.as_str()).map_or(0, Vec::len);
            stored >= customer.acknowledged.len()
        })
    }

    /// Everything that is not as it has to be. `at_shop` is what the shop was sent, once per id.
    pub fn violations(&self, found: &Found, at_shop: &[Reply]) -> Vec<String> {
        let mut violations = self.violations_of_customers(found);
        violations.extend(found.violations_of_states());
        violations.extend(self.violations_of_replies(found, at_shop));
        violations
    }

    /// Each acknowledged message is there once, each customer's in order; and nothing that nobody said.
    fn violations_of_customers(&self, found: &Found) -> Vec<String> {
        let mut violations = Vec::new();
        let stored = found.said();
        for (address, customer) in &self.customers {
            let stored = stored.get(address.as_str());
            let stored: Vec<&str> = stored.map_or(&[][..], Vec::as_slice).to_vec();
            let acknowledged = customer.acknowledged.len();
            let all = customer.acknowledged.iter().chain(&customer.unsure);
            let expected: Vec<&str> = all.map(String::as_str).collect();
            if stored.len() < acknowledged || !expected.starts_with(&stored) {
                let at = (stored.iter().zip(&expected))
                    .position(|(stored, said)| stored != said)
                    .unwrap_or(stored.len().min(expected.len()));
                violations.push(format!(
                    "{address}: {acknowledged} acknowledged, {} stored; at {at} {:?} instead of {:?}",
                    stored.len(),
                    stored.get(at),
                    expected.get(at)
                ));
            }
        }
        for (address, texts) in stored {
            if !self.customers.contains_key(address) {
                violations.push(format!("{address} said nothing, and {texts:?} is stored"));
            }
        }
        violations
    }

    /// Each accepted reply is stored once, and at the shop once.
    fn violations_of_replies(&self, found: &Found, at_shop: &[Reply]) -> Vec<String> {
        let mut violations = Vec::new();
        let count = |texts: &mut dyn Iterator<Item = String>| {
            let mut times: BTreeMap<String, usize> = BTreeMap::new();
            texts.for_each(|text| *times.entry(text).or_default() += 1);
            times
        };
        let text_of = |message: &Value| message["text"].as_str().unwrap_or_default().to_owned();
        let stored = count(&mut found.replies().map(|(_, reply)| text_of(reply)));
        let arrived = count(&mut at_shop.iter().map(|(_, text)| text.clone()));
        for (conversation, text) in &self.accepted {
            let here = found.replies().filter(|(of, _)| *of == conversation);
            let here = here.filter(|(_, reply)| reply["text"] == *text).count();
            if here != 1 || stored.get(text) != Some(&1) {
                let times = stored.get(text).unwrap_or(&0);
                violations.push(format!(
                    "{text:?} was accepted, and is stored {times} times, {here} times in {conversation}"
                ));
            }
        }
        let accepted: BTreeSet<&String> = self.accepted.iter().map(|(_, text)| text).collect();
        for (conversation, reply) in found.replies() {
            let text = text_of(reply);
            let is_asked = (self.asked.as_ref())
                .is_some_and(|(of, asked)| of == conversation && *asked == text);
            if !accepted.contains(&text) && !is_asked {
                violations.push(format!("{text:?} is stored, and nobody was told so"));
            }
            if reply["channel"] != SHOP_CHANNEL {
                continue;
            }
            let times = arrived.get(&text).copied().unwrap_or(0);
            // It takes what has one id once: none of them has to be given up as `unknown`.
            if reply["delivery"] != "sent" || times != 1 {
                let delivery = &reply["delivery"];
                violations.push(format!(
                    "{text:?} is {delivery} and at the shop {times} times"
                ));
            }
        }
        for text in arrived.keys() {
            if !stored.contains_key(text) && !self.gone.contains(text) {
                violations.push(format!("the shop got {text:?}, which is not stored"));
            }
        }
        violations
    }

    /// Files of acknowledged messages that cannot be had, or are other ones.
    pub fn violations_of_files(
        &self,
        daemon: &Installation,
        token: &str,
        found: &Found,
    ) -> Vec<String> {
        let mut violations = Vec::new();
        let all = found.messages.values().flatten();
        let by_text: BTreeMap<&str, &Value> = all
            .map(|message| (message["text"].as_str().unwrap_or_default(), message))
            .collect();
        for text in self.customers.values().flat_map(|customer| &customer.files) {
            let Some(message) = by_text.get(text.as_str()) else {
                continue; // An acknowledged one is missed elsewhere.
            };
            let id = message["attachments"][0]["id"].as_str().unwrap_or_default();
            let asked = daemon
                .http
                .get(daemon.url(&format!("/v1/attachments/{id}")));
            let answer = asked.bearer_auth(token).send().expect("an answer");
            let status = answer.status();
            let bytes = answer.bytes().expect("a body");
            if bytes != file_of(text) {
                let length = bytes.len();
                violations.push(format!("the file of {text:?}: {status}, {length} bytes"));
            }
        }
        violations
    }
}

/// The shop's own channel; what left by another one is held against what others got.
const SHOP_CHANNEL: &str = "shop-chat";

/// The file that was sent with a text: bytes that no other has.
pub fn file_of(text: &str) -> Vec<u8> {
    let mut seed = text.bytes().fold(0x5eed, |seed: u64, byte| {
        seed.wrapping_mul(31).wrapping_add(byte.into())
    });
    let length = FILE_BYTES_MIN + random(&mut seed) as usize % (32 * 1024);
    let words = std::iter::repeat_with(|| random(&mut seed).to_le_bytes());
    words.flatten().take(length).collect()
}

/// What is there, as the API shows it.
pub struct Found {
    conversations: Vec<Value>,
    /// By conversation, oldest first.
    messages: BTreeMap<String, Vec<Value>>,
    waiting: u64,
}

impl Found {
    /// What there is once it is `enough` and every reply was sent, or not; or when all patience is over.
    pub fn settled(daemon: &Installation, token: &str, enough: impl Fn(&Self) -> bool) -> Self {
        let deadline = now() + SETTLED_MAX;
        let mut found = Self::now(daemon, token);
        // They sleep for a second; and a look is of many moments.
        let stands = |found: &Self| found.is("snoozed") == 0 && found.is("queued") == found.waiting;
        while !(enough(&found) && stands(&found)) && now() < deadline {
            std::thread::sleep(LOOKS_EVERY);
            found = Self::now(daemon, token);
        }
        for reply in found.messages.values_mut().flatten() {
            let path = format!("/v1/messages/{}", reply["id"].as_str().unwrap_or_default());
            if is_open(reply) {
                *reply = wait_for("a reply to be settled", SETTLED_MAX, || {
                    let view = daemon.get(token, &path);
                    (!is_open(&view)).then_some(view)
                });
            }
        }
        found
    }

    /// What there is now.
    pub fn now(daemon: &Installation, token: &str) -> Self {
        let conversations = daemon.conversations(token);
        let ids = conversations
            .iter()
            .map(|one| one["id"].as_str().expect("an id"));
        let messages = ids
            .map(|id| (id.to_owned(), daemon.messages(token, id)))
            .collect();
        let queues = daemon.get(token, "/v1/queues");
        let waiting = queues["items"][0]["waiting"].as_u64().expect("a count");
        Self {
            conversations,
            messages,
            waiting,
        }
    }

    /// How many messages of customers there are.
    pub fn count(&self) -> usize {
        self.said().values().map(Vec::len).sum()
    }

    /// What each customer said, in order.
    fn said(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut said: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for message in self.messages.values().flatten() {
            if message["author"] == "customer" {
                let address = message["from"]["address"].as_str().expect("an address");
                let text = message["text"].as_str().expect("a text");
                said.entry(address).or_default().push(text);
            }
        }
        said
    }

    /// How many conversations are.
    fn is(&self, status: &str) -> u64 {
        let all = self.conversations.iter();
        all.filter(|found| found["status"] == status).count() as u64
    }

    /// Replies, each with its conversation.
    pub fn replies(&self) -> impl Iterator<Item = (&String, &Value)> {
        let all = self.messages.iter();
        all.flat_map(|(id, messages)| messages.iter().map(move |message| (id, message)))
            .filter(|(_, message)| message["author"] == "agent")
    }

    /// Each customer has one conversation, without a gap in its numbers, and it is in exactly one place.
    fn violations_of_states(&self) -> Vec<String> {
        let mut violations = Vec::new();
        let customers = self.said().len();
        if self.conversations.len() != customers {
            let count = self.conversations.len();
            violations.push(format!("{count} conversations of {customers} customers"));
        }
        for (id, messages) in &self.messages {
            let numbers: Vec<u64> = messages
                .iter()
                .filter_map(|one| one["seq"].as_u64())
                .collect();
            if !numbers.iter().copied().eq(1..=messages.len() as u64) {
                violations.push(format!("{id} has the numbers {numbers:?}"));
            }
        }
        let (queued, waiting) = (self.is("queued"), self.waiting);
        if queued != waiting {
            violations.push(format!("{queued} are queued, {waiting} are in the queue"));
        }
        for found in &self.conversations {
            let is_right = match found["status"].as_str().expect("a status") {
                "queued" => found["assignee"].is_null(),
                "assigned" | "pending" => found["assignee"] == "ada",
                status => status == "resolved",
            };
            if !is_right {
                violations.push(format!("in no place, or in two: {found}"));
            }
        }
        violations
    }
}

fn is_open(message: &Value) -> bool {
    matches!(message["delivery"].as_str(), Some("queued" | "sending"))
}

/// What SQLite itself has to say of the database.
pub fn violations_of_database(daemon: &Installation) -> Vec<String> {
    let path = daemon.dir.path().join("data/switchboard.db");
    let database = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY);
    let said = database.and_then(|database| {
        let mut looked = database.prepare("PRAGMA integrity_check")?;
        let rows = looked.query_map([], |row| row.get::<_, String>(0))?;
        rows.collect::<Result<Vec<_>, _>>()
    });
    let said = said.unwrap_or_else(|error| vec![error.to_string()]);
    let mut violations = said;
    violations.retain(|line| line != "ok");
    violations
}
