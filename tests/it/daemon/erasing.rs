//! Erasing people from a daemon that runs: their words are nowhere on the disk any more, those of all others are, and
//! nothing brings them back.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::process::{Installation, PATIENCE, chat, chat_config, json_of};
use super::shop::Shop;
use crate::peers::wait_until;

const PEOPLE: usize = 24;

/// Everything of a person that is looked for.
const KINDS: [&str; 10] = [
    "said0", "said1", "answer", "note", "subject", "tag", "address", "name", "file", "small",
];
/// Letters of each word: an index keeps those that two words begin with once, so the last ones are looked for.
const LETTERS: usize = 12;
const TAIL: usize = 8;

/// A word of a person's alone, to be looked for in bytes.
fn canary(person: usize, what: &str) -> String {
    let sum = switchboard::blobs::sha256(format!("{person} {what}").as_bytes());
    let letters = sum.iter().map(|byte| char::from(b'a' + byte % 26));
    letters.take(LETTERS - 2).chain("zq".chars()).collect()
}

/// Whose words there are, by their ends.
fn known() -> HashMap<Vec<u8>, (usize, &'static str)> {
    let all = (0..PEOPLE).flat_map(|person| KINDS.map(|what| (person, what)));
    let known: HashMap<Vec<u8>, (usize, &str)> = all
        .map(|(person, what)| {
            (
                canary(person, what).as_bytes()[LETTERS - TAIL..].to_vec(),
                (person, what),
            )
        })
        .collect();
    assert_eq!(known.len(), PEOPLE * KINDS.len(), "no two words end alike");
    known
}

fn said(person: usize, number: usize) -> Value {
    let text = format!("{} where is it?", canary(person, &format!("said{number}")));
    let mut said = chat(
        &format!("m-{person}-{number}"),
        &canary(person, "address"),
        &text,
    );
    if number == 0 {
        // One that is a file of its own, and one in a row.
        let file = |what: &str, bytes: usize| {
            let mut file = canary(person, what).into_bytes();
            file.resize(bytes, person as u8);
            json!({ "name": canary(person, "name"), "content_type": "image/png", "base64": BASE64_STANDARD.encode(file) })
        };
        said["attachments"] = json!([file("file", 100_000), file("small", 300)]);
    }
    said
}

/// Every word that is in a file below a directory: whose, which, and where.
fn found(dir: &Path) -> BTreeSet<(usize, &'static str, String)> {
    let known = known();
    let mut found = BTreeSet::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
                continue;
            }
            // A socket.
            let Ok(bytes) = fs::read(&path) else {
                continue;
            };
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            for at in TAIL..=bytes.len() {
                let ends = bytes[at - 1] == b'q' && bytes[at - 2] == b'z';
                if ends && let Some((person, what)) = known.get(&bytes[at - TAIL..at]) {
                    found.insert((*person, *what, name.clone()));
                }
            }
        }
    }
    found
}

fn is_erased(person: usize) -> bool {
    person.is_multiple_of(2)
}

/// Nothing of the erased is there; of the others everything is.
fn check(dir: &Path, what: &str) {
    let found = found(dir);
    let erased: Vec<_> = found
        .iter()
        .filter(|(person, ..)| is_erased(*person))
        .collect();
    assert!(
        erased.is_empty(),
        "{what}: {} of the erased: {:?}",
        erased.len(),
        &erased[..erased.len().min(20)]
    );
    let words: BTreeSet<(usize, &str)> = found
        .iter()
        .map(|(person, kind, _)| (*person, *kind))
        .collect();
    for person in (0..PEOPLE).filter(|person| !is_erased(*person)) {
        for kind in KINDS {
            assert!(
                words.contains(&(person, kind)),
                "{what}: {kind} of {person} is gone"
            );
        }
    }
}

/// A shop's day: everybody writes twice, is answered, and is noted about.
fn lived(daemon: &Installation, token: &str) -> Vec<String> {
    let mut contacts = vec![String::new(); PEOPLE];
    for number in 0..2 {
        for person in 0..PEOPLE {
            json_of(daemon.hook("shop-chat", &said(person, number)).unwrap());
        }
    }
    wait_until("everything to be filed", PATIENCE, || {
        let all = daemon.conversations(token);
        let said = |one: &Value| daemon.messages(token, one["id"].as_str().unwrap()).len();
        all.len() == PEOPLE && all.iter().all(|one| said(one) == 2)
    });
    for conversation in daemon.conversations(token) {
        let id = conversation["id"].as_str().unwrap();
        let text = daemon.messages(token, id)[0]["text"].to_string();
        let wrote = |person: &usize| {
            let texts = ["said0", "said1"].map(|what| canary(*person, what));
            texts.iter().any(|word| text.contains(word))
        };
        let person = (0..PEOPLE).find(wrote).unwrap();
        contacts[person] = conversation["contact_id"].as_str().unwrap().to_owned();
        let post = |path: &str, key: &str, body: Value| {
            let url = daemon.url(&format!("/v1/conversations/{id}/{path}"));
            let asked = daemon
                .http
                .post(url)
                .bearer_auth(token)
                .header("Idempotency-Key", key);
            let answer = asked.json(&body).send().unwrap();
            assert!(
                answer.status().is_success(),
                "{path}: {}",
                answer.text().unwrap()
            );
        };
        post(
            "messages",
            &format!("a-{person}"),
            json!({ "text": canary(person, "answer") }),
        );
        post(
            "notes",
            &format!("n-{person}"),
            json!({ "text": canary(person, "note") }),
        );
        let url = daemon.url(&format!("/v1/conversations/{id}"));
        let edit = json!({ "subject": canary(person, "subject"), "tags": [canary(person, "tag")] });
        let edited = daemon
            .http
            .patch(url)
            .bearer_auth(token)
            .json(&edit)
            .send()
            .unwrap();
        assert!(edited.status().is_success(), "{}", edited.text().unwrap());
    }
    contacts
}

fn report(daemon: &Installation, token: &str, id: &str) -> Value {
    let url = daemon.url(&format!("/v1/erasures/{id}"));
    json_of(daemon.http.get(url).bearer_auth(token).send().unwrap())
}

#[test]
fn the_erased_are_nowhere_on_the_disk_and_nothing_brings_them_back() {
    let shop = Shop::open();
    let daemon = Installation::start(&chat_config(&shop.url));
    let token = supervisor(&daemon);
    let contacts = lived(&daemon, &token);
    let data = daemon.dir.path().join("data");
    // A redelivery has a copy of its own.
    for person in 0..PEOPLE {
        json_of(daemon.hook("shop-chat", &said(person, 1)).unwrap());
    }
    let before = daemon.dir.path().join("before");
    let made = daemon.command(&["backup", "--to", before.to_str().unwrap()]);
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    // Killed in the middle of it, again and again.
    let mut erasures = Vec::new();
    for person in (0..PEOPLE).filter(|person| is_erased(*person)) {
        let url = daemon.url(&format!("/v1/contacts/{}/erase", contacts[person]));
        let ask = || {
            daemon
                .http
                .post(&url)
                .bearer_auth(&token)
                .json(&json!({ "reason": "file 17/26" }))
                .send()
        };
        let asked = json_of(ask().unwrap());
        erasures.push(asked["id"].as_str().unwrap().to_owned());
        if person % 8 == 0 {
            std::thread::sleep(std::time::Duration::from_millis(person as u64 * 7));
            daemon.kill_9();
            daemon.run();
            assert_eq!(
                json_of(ask().unwrap())["id"],
                asked["id"],
                "it is one erasure"
            );
        }
    }
    wait_until("all erasures", PATIENCE * 2, || {
        erasures
            .iter()
            .all(|id| report(&daemon, &token, id)["done_at"].is_string())
    });
    check(&data, "after the erasures");
    let removed = report(&daemon, &token, &erasures[0]);
    let counts = &removed["removed"];
    assert_eq!(
        (
            &counts["contacts"],
            &counts["conversations"],
            &counts["identities"]
        ),
        (&json!(1), &json!(1), &json!(1)),
        "{removed}"
    );
    assert_eq!(counts["messages"], 4, "{removed}");
    assert!(
        removed["in_backups_until"].is_string() && removed["on_bus_until"].is_null(),
        "{removed}"
    );
    assert!(removed["unused_space"].is_null(), "{removed}");
    assert_eq!(daemon.conversations(&token).len(), PEOPLE / 2);
    let log = daemon.log_text();
    let told = (0..PEOPLE).find(|person| {
        KINDS
            .iter()
            .any(|what| log.contains(&canary(*person, what)))
    });
    assert_eq!(told, None, "logs have no words of anybody");
    // The provider delivers everything again.
    for number in 0..2 {
        for person in 0..PEOPLE {
            json_of(daemon.hook("shop-chat", &said(person, number)).unwrap());
        }
    }
    // Their copies in the log are dropped where they were decided, and overwritten at the next look.
    wait_until("what came again to be gone", PATIENCE * 2, || {
        found(&data).iter().all(|(person, ..)| !is_erased(*person))
    });
    let after = daemon.dir.path().join("after");
    let made = daemon.command(&["backup", "--to", after.to_str().unwrap()]);
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    check(&after, "a backup made after redeliveries");
    assert_eq!(
        daemon.conversations(&token).len(),
        PEOPLE / 2,
        "redeliveries open nothing"
    );
    // Who writes anew is somebody new.
    let anew = chat("new-1", &canary(0, "address"), "Hello again.");
    json_of(daemon.hook("shop-chat", &anew).unwrap());
    wait_until("a new conversation", PATIENCE, || {
        daemon.conversations(&token).len() == PEOPLE / 2 + 1
    });
    let all = daemon.conversations(&token);
    assert!(
        all.iter()
            .all(|one| one["contact_id"] != contacts[0].as_str()),
        "{all:?}"
    );
    // The erased one's id finds the erasure and nothing else.
    let gone = daemon
        .http
        .get(daemon.url(&format!("/v1/contacts/{}", contacts[0])))
        .bearer_auth(&token);
    assert_eq!(gone.send().unwrap().status(), 404);
}

#[test]
fn a_restored_backup_of_before_has_its_erased_erased_again() {
    let shop = Shop::open();
    let daemon = Installation::start(&chat_config(&shop.url));
    let token = supervisor(&daemon);
    let contacts = lived(&daemon, &token);
    let before = daemon.dir.path().join("before");
    let made = daemon.command(&["backup", "--to", before.to_str().unwrap()]);
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    for person in (0..PEOPLE).filter(|person| is_erased(*person)) {
        let done = daemon.command(&["erase", &contacts[person], "--reason", "file 17/26"]);
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
        let report: Value = serde_json::from_slice(&done.stdout).unwrap();
        assert!(report["done_at"].is_string(), "{report}");
    }
    assert!(daemon.terminate());
    let data = daemon.dir.path().join("data");
    let noted = fs::read(data.join("erasures")).unwrap();
    fs::rename(&data, daemon.dir.path().join("lost")).unwrap();
    let restored = daemon.command(&["restore", "--from", before.to_str().unwrap()]);
    assert!(
        restored.status.success(),
        "{}",
        String::from_utf8_lossy(&restored.stderr)
    );
    // The one thing that has to be brought along.
    fs::write(data.join("erasures"), noted).unwrap();
    daemon.run();
    wait_until("the erased to be erased again", PATIENCE * 2, || {
        let url = daemon.url("/v1/erasures");
        let all = json_of(daemon.http.get(url).bearer_auth(&token).send().unwrap());
        let done = all["items"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|one| one["done_at"].is_string());
        done.count() == PEOPLE / 2
    });
    check(&data, "after the restore");
}

/// A token of a supervisor of all queues.
fn supervisor(daemon: &Installation) -> String {
    let made = daemon.command(&["token", "create", "--role", "supervisor", "--agent", "sue"]);
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    String::from_utf8(made.stdout).unwrap().trim().to_owned()
}

#[test]
fn an_export_is_a_document_with_its_files_beside_it() {
    let shop = Shop::open();
    let daemon = Installation::start(&chat_config(&shop.url));
    let token = supervisor(&daemon);
    let contacts = lived(&daemon, &token);
    let to = daemon.dir.path().join("of-3");
    let made = daemon.command(&["export", &contacts[3], "--to", to.to_str().unwrap()]);
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    let words: BTreeSet<_> = found(&to)
        .into_iter()
        .map(|(person, what, _)| (person, what))
        .collect();
    let wanted: BTreeSet<_> = KINDS.iter().map(|what| (3, *what)).collect();
    assert_eq!(words, wanted, "all of one person, and of nobody else");
    let text = fs::read_to_string(to.join("export.json")).unwrap();
    let document: Value = serde_json::from_str(&text).unwrap();
    let files = fs::read_dir(to.join("attachments")).unwrap().count();
    assert_eq!((&document["counts"]["files"], files), (&json!(2), 2));
    // Over the API it is the same, and its files are there for the same token.
    let url = daemon.url(&format!("/v1/contacts/{}/export", contacts[3]));
    let served = json_of(daemon.http.get(url).bearer_auth(&token).send().unwrap());
    assert_eq!(served["conversations"], document["conversations"]);
    let file = served
        .pointer("/conversations/0/messages/3/files/0/id")
        .unwrap();
    let url = daemon.url(&format!("/v1/attachments/{}", file.as_str().unwrap()));
    let bytes = daemon
        .http
        .get(url)
        .bearer_auth(&token)
        .send()
        .unwrap()
        .bytes()
        .unwrap();
    assert!(bytes.starts_with(canary(3, "file").as_bytes()), "{file}");
    // Held by law, it is exported and not erased.
    let held = daemon.command(&["hold", &contacts[3], "--reason", "claim 17/26"]);
    assert!(
        held.status.success(),
        "{}",
        String::from_utf8_lossy(&held.stderr)
    );
    let refused = daemon.command(&["erase", &contacts[3], "--reason", "asked"]);
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && told.contains("claim 17/26") && told.contains("operator"),
        "{told}"
    );
    let lifted = daemon.command(&["hold", &contacts[3], "--lift"]);
    assert!(
        lifted.status.success(),
        "{}",
        String::from_utf8_lossy(&lifted.stderr)
    );
}
