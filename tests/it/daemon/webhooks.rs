//! The line by webhook: in, one conversation, a queue, an answer out, receipts.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use super::process::{Installation, chat, chat_config, json_of, now, sign};
use super::shop::Shop;
use crate::peers::wait_until;

#[test]
fn a_chat_message_is_claimed_answered_and_delivered_and_its_receipt_comes_back() {
    let shop = Shop::open();
    let daemon = Installation::start(&chat_config(&shop.url));
    let token = daemon.token("ada");

    let answer = json_of(
        daemon
            .hook("shop-chat", &chat("m-1", "cust-7", "Where is my order?"))
            .unwrap(),
    );
    assert_eq!(answer["results"][0]["dedupe_key"], "message:m-1");
    let claimed = daemon.claim(&token, "frontline").expect("the conversation");
    assert_eq!(claimed["status"], "assigned");
    assert_eq!(claimed["assignee"], "ada");
    assert_eq!(claimed["messages"][0]["text"], "Where is my order?");
    let id = claimed["id"].as_str().unwrap();

    let reply = daemon.reply(&token, id, "k-1", "It leaves today.");
    assert_eq!(reply["delivery"], "queued");
    let again = daemon.reply(&token, id, "k-1", "It leaves today.");
    assert_eq!(again["id"], reply["id"], "the same key answers the same");
    let message = reply["id"].as_str().unwrap();
    daemon.wait_for_delivery(&token, message, "sent");
    assert_eq!(
        shop.texts(),
        [("cust-7".to_owned(), "It leaves today.".to_owned())]
    );

    let receipt = json!({ "type": "receipt", "id": "r-1", "target": message, "stage": "read" });
    json_of(daemon.hook("shop-chat", &receipt).unwrap());
    daemon.wait_for_delivery(&token, message, "read");
    assert_eq!(
        daemon.get(&token, &format!("/v1/conversations/{id}"))["status"],
        "pending"
    );

    json_of(
        daemon
            .hook(
                "shop-chat",
                &chat("m-2", "cust-7", "Thank you, and the invoice?"),
            )
            .unwrap(),
    );
    wait_until(
        "the customer's answer to come back to ada",
        super::process::PATIENCE,
        || daemon.get(&token, &format!("/v1/conversations/{id}"))["status"] == "assigned",
    );
    assert_eq!(daemon.act(&token, id, "resolve")["status"], "resolved");
    assert_eq!(daemon.conversations(&token).len(), 1);
}

#[test]
fn what_is_not_authentic_or_not_readable_is_refused_and_nothing_is_stored() {
    let daemon = Installation::start(&chat_config("http://127.0.0.1:9/none"));
    let token = daemon.token("ada");
    let body = chat("m-1", "cust-7", "Hello").to_string();
    let now = now();
    let send = |channel: &str, timestamp: i64, signature: &str, body: &str| {
        let request = daemon.http.post(daemon.url(&format!("/hooks/{channel}")));
        let request = request
            .header("webhook-id", "x")
            .header("webhook-timestamp", timestamp.to_string());
        let answer = request
            .header("webhook-signature", signature)
            .body(body.to_owned())
            .send()
            .unwrap();
        (
            answer.status().as_u16(),
            answer.json::<Value>().unwrap_or_default()["detail"].to_string(),
        )
    };
    for (what, expected, place, (status, detail)) in [
        ("unsigned", 401, "", send("shop-chat", now, "", &body)),
        (
            "forged",
            401,
            "",
            send("shop-chat", now, "v1,aGVsbG8=", &body),
        ),
        (
            "stale",
            401,
            "",
            send("shop-chat", now - 301, &sign("x", now - 301, &body), &body),
        ),
        (
            "another body",
            401,
            "",
            send("shop-chat", now, &sign("x", now, &body), "{}"),
        ),
        (
            "no JSON",
            400,
            "",
            send("shop-chat", now, &sign("x", now, "{"), "{"),
        ),
        (
            "no sender",
            400,
            "from",
            send(
                "shop-chat",
                now,
                &sign("x", now, "{\"type\":\"message\",\"id\":\"1\"}"),
                "{\"type\":\"message\",\"id\":\"1\"}",
            ),
        ),
        ("no such channel", 404, "", send("nobody", now, "", &body)),
    ] {
        assert_eq!(status, expected, "{what}: {detail}");
        assert!(detail.contains(place), "{what}: {detail}");
    }
    assert!(announce(&daemon.address, 12 * 1024 * 1024).starts_with("HTTP/1.1 413 "));
    assert!(daemon.conversations(&token).is_empty());
    assert!(daemon.metric("switchboard_webhooks_refused_total") >= 4.0);
}

#[test]
fn a_second_daemon_on_the_same_directory_is_refused_and_a_terminated_one_ends_in_time() {
    let daemon = Installation::start(&chat_config("http://127.0.0.1:9/none"));
    let output = daemon.command(&["run", "--listen", "127.0.0.1:0"]);
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("another switchboard runs"), "{said}");
    json_of(
        daemon
            .hook("shop-chat", &chat("m-1", "cust-7", "Before the restart"))
            .unwrap(),
    );
    assert!(daemon.terminate(), "it ends with success");
    daemon.run();
    let token = daemon.token("ada");
    let claimed = daemon
        .claim(&token, "frontline")
        .expect("what was accepted before is there");
    assert_eq!(claimed["messages"][0]["text"], "Before the restart");
}

#[test]
fn what_waits_in_a_queue_that_is_removed_from_the_configuration_can_still_be_claimed() {
    let config = chat_config("http://127.0.0.1:9/none");
    let with_old = config
        .replace("[queues.frontline]", "[queues.frontline]\n[queues.old]")
        .replace("queue = \"frontline\"", "queue = \"old\"");
    let daemon = Installation::start(&with_old);
    json_of(
        daemon
            .hook("shop-chat", &chat("m-1", "cust-7", "Hello"))
            .unwrap(),
    );
    let token = daemon.token("ada");
    wait_until(
        "it to wait in the old queue",
        super::process::PATIENCE,
        || {
            daemon
                .get(&token, "/v1/queues")
                .to_string()
                .contains("\"waiting\":1")
        },
    );
    assert!(daemon.terminate());
    daemon.write_config(&config);
    daemon.run();
    let claimed = daemon
        .claim(&token, "frontline")
        .expect("it waits here now");
    assert_eq!(claimed["queue"], "frontline");
}

/// The status line for a body that is announced and not sent: refused before it is read.
fn announce(address: &str, bytes: usize) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!(
        "POST /hooks/shop-chat HTTP/1.1\r\nHost: {address}\r\nContent-Length: {bytes}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    line
}

#[test]
fn a_test_message_goes_to_the_address_that_is_named_and_not_only_to_the_configured_one() {
    let daemon = Installation::start(&chat_config("http://127.0.0.1:9/"));
    let config = std::fs::read_to_string(daemon.config()).unwrap();
    // Where nobody listens.
    daemon.write_config(&config.replace("[server]\n", "[server]\nlisten = \"127.0.0.1:9\"\n"));
    let said = daemon.command(&["send", "shop-chat", "--from", "cust-7", "Hello?"]);
    let why = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(!said.status.success());
    assert!(
        why.contains("Its address is server.listen, or --listen"),
        "{why}"
    );
    let listen = daemon.address.clone();
    let named = [
        "send",
        "shop-chat",
        "--from",
        "cust-7",
        "--listen",
        &listen,
        "Hello?",
    ];
    let said = daemon.command(&named);
    let why = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.status.success(), "{why}");
    let claimed = daemon
        .claim(&daemon.token("ada"), "frontline")
        .expect("the conversation");
    assert_eq!(claimed["messages"][0]["text"], "Hello?");
}
