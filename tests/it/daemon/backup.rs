//! Backups: taken while messages come in, restored elsewhere, and refused where they would not be one.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use switchboard::channels;
use switchboard::clock::SystemClock;
use switchboard::config::{Sources, load};
use switchboard::daemon::backup::back_up;

use super::process::{Installation, PATIENCE, chat, chat_config, json_of};
use super::shop::Shop;
use crate::peers::wait_until;

/// More than a row holds.
static PHOTO: [u8; 100_000] = [7; 100_000];

fn backup(daemon: &Installation, to: &Path) -> Output {
    daemon.command(&["backup", "--json", "--to", to.to_str().unwrap()])
}

fn restore(daemon: &Installation, from: &Path, more: &[&str]) -> Output {
    let args = [
        &["restore", "--json", "--from", from.to_str().unwrap()],
        more,
    ]
    .concat();
    daemon.command(&args)
}

/// What it printed, where it went well.
fn report(output: &Output) -> Value {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn check(output: &Output, expected: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(expected), "{expected}: {said}");
}

/// One with three customers' conversations, the last with a photo.
fn lived(shop: &Shop) -> (Installation, String) {
    let daemon = Installation::start(&chat_config(&shop.url));
    let token = daemon.token("ada");
    for customer in 0..3 {
        let mut said = chat(
            &format!("m-{customer}"),
            &format!("cust-{customer}"),
            "Hello?",
        );
        if customer == 2 {
            let photo = BASE64_STANDARD.encode(PHOTO);
            said["attachments"] =
                json!([{ "name": "box.png", "content_type": "image/png", "base64": photo }]);
        }
        json_of(daemon.hook("shop-chat", &said).unwrap());
    }
    wait_until("three conversations", PATIENCE, || {
        daemon.conversations(&token).len() == 3
    });
    (daemon, token)
}

fn messages(daemon: &Installation, token: &str) -> Vec<Value> {
    let all = daemon.conversations(token);
    let each = all.iter().flat_map(|one| {
        let id = one["id"].as_str().unwrap();
        daemon.messages(token, id)
    });
    each.collect()
}

fn ids(messages: &[Value]) -> Vec<&str> {
    messages
        .iter()
        .map(|one| one["id"].as_str().unwrap())
        .collect()
}

#[test]
fn a_backup_taken_under_load_has_all_that_was_acknowledged_before_and_is_restored_whole() {
    let shop = Shop::open();
    let (daemon, token) = lived(&shop);
    shop.closed.store(true, Ordering::SeqCst);
    let claimed = daemon.claim(&token, "frontline").expect("a conversation");
    let reply = daemon.reply(
        &token,
        claimed["id"].as_str().unwrap(),
        "k-1",
        "It leaves today.",
    );
    let before = messages(&daemon, &token);
    let (to, ended) = (daemon.dir.path().join("monday"), AtomicBool::new(false));
    let made = std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0.. {
                let said = chat(
                    &format!("l-{number}"),
                    &format!("load-{}", number % 7),
                    "Hello?",
                );
                assert_eq!(daemon.hook("shop-chat", &said).unwrap().status(), 200);
                if ended.load(Ordering::Relaxed) {
                    return;
                }
            }
        });
        let made = report(&backup(&daemon, &to));
        ended.store(true, Ordering::Relaxed);
        made
    });
    assert_eq!(
        (&made["files"]["count"], &made["unsent"]),
        (&json!(1), &json!(1)),
        "{made}"
    );
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(
        [mode(to.clone()), mode(to.join("manifest.json"))],
        [0o700, 0o600]
    );

    // It is lost, and with it what came since: after a start, too, which takes numbers of its own.
    assert!(daemon.terminate());
    daemon.run();
    let since = chat("since-1", "since", "A lost one");
    json_of(daemon.hook("shop-chat", &since).unwrap());
    wait_until("what came since", PATIENCE, || {
        let all = messages(&daemon, &token);
        all.iter().any(|one| one["text"] == "A lost one")
    });
    let after = messages(&daemon, &token);
    daemon.kill_9();
    let config = fs::read_to_string(daemon.config()).unwrap();
    let elsewhere = Installation::new(&config);
    let looked = report(&restore(&elsewhere, &to, &["--dry-run"]));
    assert_eq!(looked["restored"], false);
    let restored = report(&restore(&elsewhere, &to, &[]));
    assert_eq!(
        (&restored["restored"], &restored["messages"]),
        (&json!(true), &made["messages"])
    );
    elsewhere.run();
    let found = messages(&elsewhere, &token);
    for one in ids(&before) {
        assert!(ids(&found).contains(&one), "{one} was there before");
    }
    let photo = found
        .iter()
        .find_map(|one| one["attachments"][0]["id"].as_str())
        .unwrap();
    let asked = elsewhere
        .http
        .get(elsewhere.url(&format!("/v1/attachments/{photo}")));
    assert_eq!(
        asked.bearer_auth(&token).send().unwrap().bytes().unwrap(),
        PHOTO.as_slice()
    );
    let held = elsewhere.get(
        &token,
        &format!("/v1/messages/{}", reply["id"].as_str().unwrap()),
    );
    assert_eq!(held["delivery"], "unknown", "it may have left");

    // What comes now has ids that nothing ever had, lost or not.
    json_of(
        elsewhere
            .hook("shop-chat", &chat("new-1", "new", "Hello?"))
            .unwrap(),
    );
    let is_new = |one: &&str| !ids(&found).contains(one);
    wait_until("the new message", PATIENCE, || {
        ids(&messages(&elsewhere, &token)).iter().any(&is_new)
    });
    for one in ids(&messages(&elsewhere, &token))
        .iter()
        .filter(|one| is_new(one))
    {
        assert!(!ids(&after).contains(one), "{one} was another message's");
    }
}

#[test]
fn what_would_be_no_backup_is_refused_with_what_to_do() {
    let shop = Shop::open();
    let (daemon, _) = lived(&shop);
    let dir = daemon.dir.path();
    let empty = Installation::new(&chat_config(&shop.url));
    check(
        &backup(&empty, &dir.join("none")),
        "there is no installation here",
    );
    check(&backup(&daemon, &dir.join("data")), "it is there already");
    check(
        &backup(&daemon, &dir.join("data/monday")),
        "in the data directory itself",
    );
    check(&backup(&daemon, &dir.join("away/monday")), "No such file");
    // What a killed one left is no backup, and in nobody's way.
    let to = dir.join("monday");
    fs::create_dir(dir.join("monday.partial")).unwrap();
    fs::write(dir.join("monday.partial/switchboard.db"), "half").unwrap();
    fs::write(dir.join("monday.partial/mine"), "mine").unwrap();
    check(&backup(&daemon, &to), "there is something else");
    fs::remove_file(dir.join("monday.partial/mine")).unwrap();
    report(&backup(&daemon, &to));
    assert!(!dir.join("monday.partial").exists());
    check(&backup(&daemon, &to), "it is there already");
    check(
        &restore(&daemon, &to, &[]),
        "another switchboard runs on this data directory",
    );
    assert!(daemon.terminate());
    check(
        &restore(&daemon, &to, &[]),
        "an installation is here already",
    );
    report(&backup(&daemon, &dir.join("stopped")));
    // The log of a database that is gone would be written into the one that comes.
    let rest = Installation::new(&chat_config(&shop.url));
    fs::create_dir_all(rest.dir.path().join("data")).unwrap();
    fs::write(rest.dir.path().join("data/switchboard.db-wal"), "log").unwrap();
    check(
        &restore(&rest, &to, &[]),
        "switchboard.db-wal: an installation is here already, or the rest of one",
    );
}

#[test]
fn a_backup_that_was_changed_is_not_restored() {
    let shop = Shop::open();
    let (daemon, _) = lived(&shop);
    let to = daemon.dir.path().join("monday");
    report(&backup(&daemon, &to));
    let files = to.join("files");
    let shelf = fs::read_dir(&files)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let file = fs::read_dir(shelf).unwrap().next().unwrap().unwrap().path();
    let manifest = to.join("manifest.json");
    let database = to.join("switchboard.db");
    let flipped = |path: &Path| {
        let mut bytes = fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        bytes
    };
    let other = |from: &str, to: &str| {
        fs::read_to_string(&manifest)
            .unwrap()
            .replace(from, to)
            .into_bytes()
    };
    for (path, content, expected) in [
        (
            &database,
            Some(flipped(&database)),
            "it was changed or cut short; take another backup",
        ),
        (&file, Some(flipped(&file)), "is not what it is named by"),
        (&file, None, "entity not found"),
        (&database, None, "No such file"),
        (
            &manifest,
            None,
            "one without manifest.json was not finished",
        ),
        (&manifest, Some(b"{".to_vec()), "it is damaged"),
        (
            &manifest,
            Some(other("\"format\": 1", "\"format\": 2")),
            "its format is 2, this build knows 1",
        ),
        (
            &manifest,
            Some(other("\"schema\": ", "\"schema\": 9")),
            "this build knows",
        ),
    ] {
        let kept = fs::read(path).unwrap();
        match content {
            Some(content) => fs::write(path, content).unwrap(),
            None => fs::remove_file(path).unwrap(),
        }
        let elsewhere = Installation::new(&chat_config(&shop.url));
        check(&restore(&elsewhere, &to, &["--dry-run"]), expected);
        check(&restore(&elsewhere, &to, &[]), expected);
        assert!(!elsewhere.dir.path().join("data/switchboard.db").exists());
        fs::write(path, kept).unwrap();
    }
    let elsewhere = Installation::new(&chat_config(&shop.url));
    report(&restore(&elsewhere, &to, &[]));
}

/// How many files a backup has where the one file there is goes once files are copied: with its row, or without.
fn files_when_one_goes(row_goes: bool) -> Result<u64, String> {
    let shop = Shop::open();
    let (daemon, _) = lived(&shop);
    assert!(daemon.terminate());
    let sources = Sources {
        file: Some(daemon.config()),
        ..Sources::default()
    };
    let mut config = load(&sources, &channels::builtin()).unwrap();
    config.server.data_dir = daemon.dir.path().join("data");
    let goes = || {
        let database = config.server.data_dir.join("switchboard.db");
        if row_goes {
            let tables = rusqlite::Connection::open(database).unwrap();
            let gone = tables.execute("DELETE FROM blob WHERE content IS NULL", []);
            assert_eq!(gone.unwrap(), 1);
        }
        fs::remove_dir_all(config.server.data_dir.join("blobs")).unwrap();
    };
    let done = AtomicBool::new(false);
    let tell = |line: &str| {
        if line.starts_with("files: ") && !done.swap(true, Ordering::Relaxed) {
            goes();
        }
    };
    let to = daemon.dir.path().join("monday");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let made = runtime.block_on(back_up(&config, &to, &SystemClock, &tell));
    let made = made.map(|manifest| manifest.files.count);
    made.map_err(|error| error.to_string())
}

#[test]
fn what_is_forgotten_while_files_are_copied_is_in_no_backup_and_what_is_missing_is_said() {
    assert_eq!(files_when_one_goes(true), Ok(0));
    let missing = files_when_one_goes(false).unwrap_err();
    assert!(missing.contains("which was to come from"), "{missing}");
}
