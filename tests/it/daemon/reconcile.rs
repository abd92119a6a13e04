//! `switchboard reconcile` over a real mailbox.

use rusqlite::Connection;
use serde_json::{Value, json};

use super::mail::{proven, wait_for_mailbox};
use super::mailboxes::{config, mail, wait_for_count};
use super::post_office::mail_channel;
use super::process::{Installation, MAIL_PASSWORD, PATIENCE, chat, chat_config, json_of};
use super::shop::Shop;
use crate::peers::imap::Imap;
use crate::peers::{self, Dovecot, Postfix, wait_for};

const USER: &str = "support";

/// The report, and the exit code.
fn reconcile(daemon: &Installation) -> (Option<i32>, Value) {
    let output = daemon.command(&["reconcile", "--since", "1h", "--json"]);
    let words = String::from_utf8_lossy(&output.stderr);
    let report = serde_json::from_slice(&output.stdout);
    (
        output.status.code(),
        report.unwrap_or_else(|error| panic!("{error}: {words}")),
    )
}

/// What names each gap.
fn gaps(report: &Value) -> Vec<[&str; 3]> {
    let gaps = report["gaps"].as_array().unwrap().iter();
    let names = ["kind", "provider_id", "message_id"];
    gaps.map(|gap| names.map(|name| gap[name].as_str().unwrap_or("-")))
        .collect()
}

/// Moves the position past a mail that was not read, as a bug or a careless hand might.
fn skip_next(daemon: &Installation) -> u64 {
    let database = daemon.dir.path().join("data/switchboard.db");
    let tables = Connection::open(database).unwrap();
    let cursor = tables.query_row("SELECT value FROM cursor", [], |row| {
        row.get::<_, String>(0)
    });
    let mut cursor: Value = serde_json::from_str(&cursor.unwrap()).unwrap();
    let position = &mut cursor["mailboxes"]["INBOX"];
    let uid = position["next_uid"].as_u64().unwrap();
    position["next_uid"] = json!(uid + 1);
    position["recent"].as_array_mut().unwrap().push(json!(uid));
    tables
        .execute("UPDATE cursor SET value = ?1", [cursor.to_string()])
        .unwrap();
    uid
}

#[test]
fn a_mail_that_was_never_accepted_because_it_lies_below_the_position_is_named_until_it_is_read() {
    if !peers::enabled() {
        return;
    }
    let dovecot = Dovecot::start();
    dovecot.deliver(USER, &mail(99));
    let daemon = Installation::start(&config(dovecot.imap_port, ""));
    wait_for_mailbox(&daemon);
    let token = daemon.token("ada");
    dovecot.deliver(USER, &mail(0));
    dovecot.deliver(USER, &mail(1));
    wait_for_count(&daemon, &token, 2);
    let (code, report) = reconcile(&daemon);
    let provider = &report["channels"][0]["provider"];
    let counts = ["items", "accepted", "outside"].map(|name| provider[name].as_u64().unwrap());
    assert_eq!((code, counts), (Some(0), [3, 2, 1]), "{report:#}");

    assert!(daemon.terminate());
    dovecot.deliver(USER, &mail(2));
    let uid = skip_next(&daemon);
    daemon.run();
    wait_for_mailbox(&daemon);
    let (code, report) = reconcile(&daemon);
    let (provider_id, message_id) = (format!("INBOX, UID {uid}"), "n-2@customer.example");
    let expected = [["never_accepted", provider_id.as_str(), message_id]];
    assert_eq!(
        (code, gaps(&report)),
        (Some(3), expected.to_vec()),
        "{report:#}"
    );
    let told = daemon.command(&["reconcile"]);
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(
        told.contains(message_id) && told.contains("move it to another folder and back"),
        "{told}"
    );
    let mut client = Imap::log_in(dovecot.imap_port, USER, MAIL_PASSWORD);
    assert_eq!(
        client.count("INBOX", "UNSEEN"),
        4,
        "nothing is marked by asking"
    );

    // Under another number it is read.
    client.append("INBOX", None, &mail(2));
    wait_for_count(&daemon, &token, 3);
    let (code, report) = reconcile(&daemon);
    assert_eq!(code, Some(0), "{report:#}");
}

#[test]
fn a_reply_without_a_copy_in_the_folder_of_sent_mail_is_named_and_a_mailbox_that_is_away_is_no_success()
 {
    if !peers::enabled() {
        return;
    }
    let dovecot = Dovecot::start();
    let postfix = Postfix::start(&dovecot);
    let mut client = Imap::log_in(dovecot.imap_port, USER, MAIL_PASSWORD);
    client.create("Sent");
    let channel = mail_channel(dovecot.imap_port, postfix.smtp_port, USER);
    let channel = channel.replace("imap = {", "imap = { mailboxes = [\"INBOX\", \"Sent\"],");
    let daemon = Installation::start(&format!("[queues.frontline]\n{channel}"));
    wait_for_mailbox(&daemon);
    let token = daemon.token("ada");
    let asked = proven(
        "kim@customer.example",
        "Order 7",
        "kim-1",
        "",
        "Where is it?",
    );
    dovecot.deliver(USER, &asked);
    let claimed = daemon.claim(&token, "frontline").expect("the mail");
    let id = claimed["id"].as_str().unwrap();
    let reply = |key: &str| {
        let reply = daemon.reply(&token, id, key, "It leaves today.");
        daemon.wait_for_delivery(&token, reply["id"].as_str().unwrap(), "sent")
    };
    reply("k-1");
    let sent = dovecot.wait_for_mails("kim", 1).remove(0);
    client.append("Sent", None, &sent);
    let second = reply("k-2");
    // Both were accepted just now; the first has its copy.
    let (code, report) = reconcile(&daemon);
    let channel = &report["channels"][0];
    assert_eq!(code, Some(0), "{report:#}");
    assert_eq!(channel["provider"]["copies"], 1, "{channel:#}");
    assert_eq!(channel["replies"]["sent"], 2, "{channel:#}");
    assert!(daemon.terminate());
    let database = daemon.dir.path().join("data/switchboard.db");
    let earlier = "UPDATE message SET arrived_at = arrived_at - 120000000";
    Connection::open(database)
        .unwrap()
        .execute(earlier, [])
        .unwrap();
    daemon.run();
    let (code, report) = reconcile(&daemon);
    assert_eq!(code, Some(3), "{report:#}");
    assert_eq!(gaps(&report), [["no_copy", "-", "-"]], "{report:#}");
    assert_eq!(report["gaps"][0]["id"], second["id"]);

    drop(client);
    drop(postfix);
    drop(dovecot);
    let failed = wait_for("the mailbox to be away", PATIENCE, || {
        let (code, report) = reconcile(&daemon);
        (code == Some(4)).then_some(report)
    });
    assert_eq!(failed["outcome"], "incomplete", "{failed:#}");
    assert_eq!(
        failed["channels"][0]["provider"]["state"], "failed",
        "{failed:#}"
    );
}

/// Makes a dead letter of the one message there is, as if it had never been filed.
fn park(daemon: &Installation) {
    let tables = Connection::open(daemon.dir.path().join("data/switchboard.db")).unwrap();
    let mut seen = tables
        .prepare("SELECT name FROM sqlite_master WHERE name GLOB 'seen_[0-9]*'")
        .unwrap();
    let seen = seen.query_map([], |row| row.get::<_, String>(0)).unwrap();
    let seen: Vec<String> = seen.map(Result::unwrap).collect();
    let filed = ["message", "conversation", "waiting", "reference"].map(str::to_owned);
    for table in filed.into_iter().chain(seen) {
        tables.execute(&format!("DELETE FROM {table}"), []).unwrap();
    }
    let letter = "INSERT INTO dead_letter (record, state, reason, attempts, at)
         SELECT record, 0, 'a bug of ours', 5, arrived_at FROM log";
    assert_eq!(tables.execute(letter, []).unwrap(), 1);
}

#[test]
fn a_dead_letter_that_is_named_is_filed_once_however_often_it_is_filed_again() {
    let shop = Shop::open();
    let daemon = Installation::start(&chat_config(&shop.url));
    let token = daemon.token("ada");
    json_of(
        daemon
            .hook("shop-chat", &chat("m-1", "cust-7", "Hello?"))
            .unwrap(),
    );
    wait_for_count(&daemon, &token, 1);
    assert!(daemon.terminate());
    park(&daemon);
    daemon.run();
    let (code, report) = reconcile(&daemon);
    assert_eq!(
        (code, gaps(&report)),
        (Some(3), vec![["dead_letter", "message:m-1", "message:m-1"]]),
        "{report:#}"
    );
    let id = report["gaps"][0]["id"].as_str().unwrap();
    let next = report["gaps"][0]["next"].as_str().unwrap();
    assert!(
        next.contains(&format!("switchboard dead-letters redrive {id}")),
        "{next}"
    );
    let filed = [1, 2, 3].map(|_| {
        daemon
            .command(&["dead-letters", "redrive", id])
            .status
            .success()
    });
    assert_eq!(filed, [true, false, false]);
    let conversations = daemon.conversations(&token);
    assert_eq!(conversations.len(), 1);
    let messages = daemon.messages(&token, conversations[0]["id"].as_str().unwrap());
    assert_eq!(messages.len(), 1);
    let (code, report) = reconcile(&daemon);
    assert_eq!((code, gaps(&report)), (Some(4), vec![]), "{report:#}");
    assert_eq!(
        report["channels"][0]["provider"]["state"],
        "cannot_be_asked"
    );
}
