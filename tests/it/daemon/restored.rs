//! An older copy of the database is put back: what it holds unsent may have left since, so nothing
//! of it leaves by itself.

use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::process::{Installation, PATIENCE, chat, chat_config, json_of};
use super::shop::Shop;
use crate::peers::wait_until;

/// The files of the database, as a backup takes them.
const FILES: [&str; 2] = ["switchboard.db", "switchboard.db-wal"];

fn copy_database(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in FILES {
        fs::copy(from.join(file), to.join(file)).unwrap();
    }
}

/// A daemon with an accepted answer that the shop does not take yet.
fn unsent(shop: &Shop) -> (Installation, String, String) {
    shop.closed.store(true, Ordering::SeqCst);
    let daemon = Installation::start(&chat_config(&shop.url));
    let token = daemon.token("ada");
    json_of(
        daemon
            .hook("shop-chat", &chat("m-1", "cust-7", "Where is my order?"))
            .unwrap(),
    );
    let claimed = daemon.claim(&token, "frontline").expect("the conversation");
    let id = claimed["id"].as_str().unwrap();
    let reply = daemon.reply(&token, id, "k-1", "It leaves today.");
    let message = reply["id"].as_str().unwrap().to_owned();
    wait_until("the shop to be asked in vain", PATIENCE, || {
        shop.refused.load(Ordering::SeqCst) > 0
    });
    (daemon, token, message)
}

fn outbox(daemon: &Installation, args: &[&str]) -> String {
    let output = daemon.command(&[&["outbox"], args].concat());
    assert!(
        output.status.success(),
        "{args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn outbox_state(daemon: &Installation) -> Value {
    let answer = daemon.http.get(daemon.url("/readyz")).send().unwrap();
    json_of(answer)["states"]["outbox"].clone()
}

#[test]
fn nothing_unsent_of_a_restored_backup_leaves_until_it_is_settled() {
    let shop = Shop::open();
    let (daemon, token, message) = unsent(&shop);
    let (data, backup) = (
        daemon.dir.path().join("data"),
        daemon.dir.path().join("backup"),
    );
    copy_database(&data, &backup);
    assert_eq!(outbox_state(&daemon)["state"], "ready");

    // It goes on: the answer is tried again, and leaves, after the backup was made.
    let refused = shop.refused.load(Ordering::SeqCst);
    wait_until("the next try", PATIENCE, || {
        shop.refused.load(Ordering::SeqCst) > refused
    });
    shop.closed.store(false, Ordering::SeqCst);
    daemon.wait_for_delivery(&token, &message, "sent");
    daemon.kill_9();
    let shared_memory = data.join("switchboard.db-shm");
    fs::remove_file(shared_memory).unwrap();
    copy_database(&backup, &data);
    daemon.run();

    let view = daemon.get(&token, &format!("/v1/messages/{message}"));
    assert_eq!(view["delivery"], "unknown", "{view}");
    let state = outbox_state(&daemon);
    assert_eq!(state["state"], "degraded");
    assert!(
        state["reason"].as_str().unwrap().contains("1 unsent"),
        "{state}"
    );
    let listed: Value =
        serde_json::from_str(&outbox(&daemon, &["list", "--state", "restored"])).unwrap();
    assert_eq!(
        (&listed["id"], &listed["restored"]),
        (&json!(message), &json!(true))
    );
    assert_eq!(shop.deliveries(), 1, "not by itself");
    // What is written now leaves as ever.
    let conversation = view["conversation_id"].as_str().unwrap();
    let fresh = daemon.reply(&token, conversation, "k-2", "And the invoice, too.");
    daemon.wait_for_delivery(&token, fresh["id"].as_str().unwrap(), "sent");
    assert_eq!(shop.deliveries(), 2);
    assert_eq!(
        daemon.get(&token, &format!("/v1/messages/{message}"))["delivery"],
        "unknown",
        "and the old one still waits"
    );

    outbox(&daemon, &["settle", "--restored", "--as", "retry"]);
    daemon.wait_for_delivery(&token, &message, "sent");
    assert_eq!(shop.deliveries(), 3, "a person said so");
    wait_until("health to be well again", PATIENCE, || {
        outbox_state(&daemon)["state"] == "ready"
    });
    assert_eq!(outbox(&daemon, &["list"]), "");
    // The same database started again is no other one.
    assert!(daemon.terminate());
    daemon.run();
    assert_eq!(outbox_state(&daemon)["state"], "ready");
}

#[test]
fn a_directory_set_back_as_a_whole_is_held_when_somebody_says_so() {
    let shop = Shop::open();
    let (daemon, token, message) = unsent(&shop);
    daemon.kill_9();
    // Nothing beside the database tells a snapshot of everything from a crash.
    assert_eq!(outbox(&daemon, &["hold"]).trim(), "{\n  \"held\": 1\n}");
    shop.closed.store(false, Ordering::SeqCst);
    daemon.run();
    assert_eq!(outbox_state(&daemon)["state"], "degraded");
    outbox(&daemon, &["settle", &message, "--as", "sent"]);
    let view = daemon.get(&token, &format!("/v1/messages/{message}"));
    assert_eq!(
        (&view["delivery"], &view["reason"]),
        (&json!("sent"), &Value::Null)
    );
    let refused = daemon.command(&["outbox", "settle", &message, "--as", "sent"]);
    assert!(!refused.status.success(), "only once");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("this one is sent"));
    let unclear = daemon.command(&["outbox", "settle", "--as", "sent"]);
    assert_eq!(unclear.status.code(), Some(2), "one, or --restored");
    assert_eq!(shop.deliveries(), 0);
}

#[test]
fn a_start_that_is_told_of_a_restored_directory_holds_everything_unsent() {
    let shop = Shop::open();
    let (daemon, token, message) = unsent(&shop);
    daemon.kill_9();
    shop.closed.store(false, Ordering::SeqCst);
    daemon.run_with(&["--restored"]);
    daemon.wait_for_delivery(&token, &message, "unknown");
    assert_eq!(outbox_state(&daemon)["state"], "degraded");
    assert_eq!(shop.deliveries(), 0);
}
