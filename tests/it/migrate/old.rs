//! An embedded installation that has lived: conversations, files, answers that left, wait or are held, one asleep, a
//! dead letter, and messages that were accepted and not decided.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rusqlite::{Connection, params};
use serde_json::{Value, json};

use crate::daemon::process::{Installation, PATIENCE, chat, chat_config, json_of, now};
use crate::daemon::shop::Shop;
use crate::peers::{wait_for, wait_until};

/// Larger than what is kept in the database.
const PHOTO_BYTES: usize = 100_000;

pub struct Old {
    pub daemon: Installation,
    pub shop: Shop,
    pub token: String,
    /// Ids of conversations by their customer.
    pub conversations: BTreeMap<String, String>,
    /// An answer that waits for the shop, and one that waits for a person.
    pub queued: String,
    pub held: String,
    /// A file that nobody used yet.
    pub upload: String,
    /// Every conversation as the API shows it, with its messages.
    pub shown: Vec<(Value, Vec<Value>)>,
    /// A number of the event log, and what a client hears after it.
    pub events: (i64, Vec<String>),
    pub photo: Vec<u8>,
}

/// What customers said that is not decided yet, and what nobody could decide.
pub const UNDECIDED: [(&str, &str, &str); 2] = [
    ("u1", "cust-1", "And a second thing."),
    ("u2", "cust-9", "I am new here."),
];
pub const DEAD: (&str, &str, &str) = ("d1", "cust-5", "Nobody could decide this.");

impl Old {
    pub fn lived() -> Self {
        let shop = Shop::open();
        let daemon = Installation::start(&chat_config(&shop.url));
        let token = daemon.token("ada");
        let photo: Vec<u8> = (0..PHOTO_BYTES).map(|at| (at % 251) as u8).collect();
        let mut conversations = BTreeMap::new();
        for (id, customer, text) in [
            ("m1", "cust-1", "Where is my zebra?"),
            ("m2", "cust-2", "It is broken."),
            ("m3", "cust-3", "Later is fine."),
        ] {
            let mut said = chat(id, customer, text);
            if id == "m1" {
                said["attachments"] = json!([{ "name": "zebra.bin", "content_type": "application/octet-stream",
                    "base64": STANDARD.encode(&photo) }]);
            }
            json_of(daemon.hook("shop-chat", &said).unwrap());
            let claimed = daemon.claim(&token, "frontline").expect("the conversation");
            let id = claimed["id"].as_str().unwrap().to_owned();
            conversations.insert(customer.to_owned(), id);
        }
        let reply = |customer: &str, key: &str, text: &str| {
            let reply = daemon.reply(&token, &conversations[customer], key, text);
            reply["id"].as_str().unwrap().to_owned()
        };
        let sent = reply("cust-1", "r1", "It left today.");
        daemon.wait_for_delivery(&token, &sent, "sent");
        let far = jiff::Timestamp::from_second(now() + 100 * 24 * 3600)
            .unwrap()
            .to_string();
        let snooze = format!("/v1/conversations/{}/snooze", conversations["cust-3"]);
        let shown = daemon
            .http
            .get(daemon.url(&format!("/v1/conversations/{}", conversations["cust-3"])));
        let shown = shown.bearer_auth(&token).send().unwrap();
        let version = shown.headers()["etag"].to_str().unwrap().to_owned();
        let asleep = daemon
            .http
            .post(daemon.url(&snooze))
            .bearer_auth(&token)
            .header("If-Match", version);
        json_of(asleep.json(&json!({ "until": far })).send().unwrap());
        let upload = daemon
            .http
            .post(daemon.url("/v1/uploads?name=label.bin"))
            .bearer_auth(&token);
        let upload = json_of(upload.body(photo.clone().split_off(1)).send().unwrap());
        shop.closed.store(true, Ordering::SeqCst);
        let held = reply("cust-1", "r2", "This one is held.");
        wait_until("the shop to be asked in vain", PATIENCE, || {
            shop.refused.load(Ordering::SeqCst) > 0
        });
        succeeds(&daemon, &["outbox", "hold"]);
        let queued = reply("cust-2", "r3", "This one waits.");
        wait_until("all words to be found", PATIENCE, || {
            !found(&daemon, &token, "zebra").is_empty()
        });
        let shown = shown_by(&daemon, &token);
        let database = Connection::open(daemon.dir.path().join("data/switchboard.db")).unwrap();
        let after = number(&database, "SELECT max(seq) - 1 FROM event");
        let events = (after, events_after(&daemon, &token, after, 2));
        drop(database);
        assert!(daemon.terminate());
        let old = Self {
            upload: upload["id"].as_str().unwrap().to_owned(),
            daemon,
            shop,
            token,
            conversations,
            queued,
            held,
            shown,
            events,
            photo,
        };
        old.accept_without_deciding();
        old
    }

    pub fn data(&self) -> PathBuf {
        self.daemon.dir.path().join("data")
    }

    /// Has a copy of it take messages, and gives the original what its bus had of them then.
    fn accept_without_deciding(&self) {
        let copy = Installation::new(&chat_config(&self.shop.url));
        let copied = copy.dir.path().join("data");
        copy_dir(&self.data(), &copied);
        copy.run();
        for (id, customer, text) in UNDECIDED.into_iter().chain([DEAD]) {
            let mut said = chat(id, customer, text);
            if id == "u2" {
                let body = STANDARD.encode(&self.photo[2..]);
                said["attachments"] = json!([{ "name": "new.bin", "base64": body }]);
            }
            json_of(copy.hook("shop-chat", &said).unwrap());
        }
        wait_until("they are decided there", PATIENCE, || {
            copy.conversations(&self.token).len() >= self.shown.len() + 2
        });
        assert!(copy.terminate());
        copy_dir(&copied.join("blobs"), &self.data().join("blobs"));
        let database = Connection::open(self.data().join("switchboard.db")).unwrap();
        let other = copied.join("switchboard.db").display().to_string();
        database.execute("ATTACH ?1 AS other", [other]).unwrap();
        let position: i64 = number(&database, "SELECT position FROM main.position");
        let newer = format!("> {position}");
        database
            .execute_batch(&format!(
                "INSERT INTO main.log SELECT * FROM other.log WHERE record {newer};
                 INSERT INTO main.body SELECT * FROM other.body WHERE id IN (SELECT record FROM other.log WHERE record {newer});
                 INSERT INTO main.blob SELECT * FROM other.blob WHERE body IN (SELECT record FROM other.log WHERE record {newer});
                 UPDATE main.meta SET value = (SELECT value FROM other.meta WHERE key = 'ids_reserved')
                 WHERE key = 'ids_reserved';"
            ))
            .unwrap();
        let dead = number(
            &database,
            &format!(
                "SELECT id FROM main.body WHERE id {newer} AND instr(content, 'Nobody could decide') > 0"
            ),
        );
        database
            .execute_batch(&format!(
                "DELETE FROM main.log WHERE record = {dead};
                 INSERT INTO main.dead_letter (record, state, reason, attempts, at) VALUES ({dead}, 0, 'because', 5, 7);
                 INSERT INTO main.cursor (channel, value) VALUES (1, '{{\"read\":[7,\"\u{2603}\"]}}');"
            ))
            .unwrap();
        // One that is none of ours.
        let foreign = number(&database, "SELECT max(record) + 1 FROM main.log").max(dead + 1);
        let log = "INSERT INTO main.log (record, arrived_at, record_key) VALUES (?1, 7, 0)";
        database.execute(log, [foreign]).unwrap();
        let body = "INSERT INTO main.body (id, content) VALUES (?1, ?2)";
        database
            .execute(body, params![foreign, &b"\x00not ours\xff"[..]])
            .unwrap();
        let undecided = number(
            &database,
            &format!("SELECT count(*) FROM main.log WHERE record {newer}"),
        );
        assert_eq!(undecided, UNDECIDED.len() as i64 + 1);
    }
}

pub fn number(database: &Connection, sql: &str) -> i64 {
    database.query_row(sql, [], |row| row.get(0)).unwrap()
}

/// Runs a command that has to succeed; what it printed.
pub fn succeeds(installation: &Installation, args: &[&str]) -> String {
    let output = installation.command(args);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{args:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// Every conversation as the API shows it, with its messages, oldest first.
pub fn shown_by(process: &Installation, token: &str) -> Vec<(Value, Vec<Value>)> {
    let all = process.conversations(token).into_iter().rev();
    all.map(|conversation| {
        let id = conversation["id"].as_str().unwrap().to_owned();
        (conversation, process.messages(token, &id))
    })
    .collect()
}

/// What a search finds.
pub fn found(process: &Installation, token: &str, word: &str) -> Vec<Value> {
    let page = process.get(token, &format!("/v1/search?q={word}"));
    page["items"].as_array().unwrap().clone()
}

/// The numbers of the first events that a client hears which goes on after `after`.
pub fn events_after(process: &Installation, token: &str, after: i64, count: usize) -> Vec<String> {
    let asked = process
        .http
        .get(process.url("/v1/events"))
        .bearer_auth(token);
    let asked = asked.header("Last-Event-ID", after.to_string());
    let lines = BufReader::new(asked.send().unwrap())
        .lines()
        .map(Result::unwrap);
    let numbers = lines.filter(|line| line.starts_with("id: "));
    numbers.take(count).collect()
}

/// Waits for a message with this text in a conversation.
pub fn wait_for_text(process: &Installation, token: &str, conversation: &str, text: &str) -> Value {
    wait_for(text, PATIENCE, || {
        let messages = process.messages(token, conversation);
        messages.into_iter().find(|message| message["text"] == text)
    })
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (from, to) = (
            entry.as_ref().unwrap().path(),
            to.join(entry.unwrap().file_name()),
        );
        match from.is_dir() {
            true => copy_dir(&from, &to),
            false if from.is_file() => drop(fs::copy(&from, &to).unwrap()),
            false => {}
        }
    }
}
