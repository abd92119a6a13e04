//! The line by mail, with real Dovecot and Postfix.

use serde_json::Value;

use super::post_office::{AUTHSERV_ID, mail_channel};
use super::process::{Installation, PATIENCE, json_of};
use super::shop::Shop;
use crate::peers::mail::header;
use crate::peers::{self, Chaos, Dovecot, Postfix, wait_for, wait_until, with_auth_results};

/// A mail from `from` (address only) with CRLF line ends.
fn mail(from: &str, subject: &str, id: &str, headers: &str, text: &str) -> Vec<u8> {
    format!(
        "From: Somebody <{from}>\nTo: support@shop.example\nSubject: {subject}\nMessage-ID: <{id}@customer.example>\n\
         Date: Mon, 05 Jan 2026 09:00:00 +0000\n{headers}MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\n{text}\n"
    )
    .replace('\n', "\r\n")
    .into_bytes()
}

/// The same, stamped by our own server as proven.
pub fn proven(from: &str, subject: &str, id: &str, headers: &str, text: &str) -> Vec<u8> {
    let (_, domain) = from.split_once('@').unwrap();
    with_auth_results(
        &mail(from, subject, id, headers, text),
        AUTHSERV_ID,
        domain,
        "pass",
    )
}

fn config(imap_port: u16, smtp_port: u16, deliver_url: &str) -> String {
    let mail = mail_channel(imap_port, smtp_port, "support");
    format!(
        "[queues.frontline]\n{mail}\
         [channels.shop-chat]\nconnector = \"webhook\"\nqueue = \"frontline\"\nvouches = [\"email\"]\n\
         secrets = [{{ file = \"{{dir}}/secret\" }}]\ndeliver_url = \"{deliver_url}\"\n"
    )
}

fn start(config: &str) -> Installation {
    let daemon = Installation::start(config);
    wait_for_mailbox(&daemon);
    daemon
}

/// Returns once the mailbox was read: what lay in it before is history.
pub fn wait_for_mailbox(daemon: &Installation) {
    wait_until("the mailbox to be ready", PATIENCE, || {
        daemon.metric("switchboard_channel_heard_age_seconds{channel=\"support-mail\"}") >= 0.0
            && ready(daemon)
    });
}

/// `/readyz` tells the state of each channel.
fn ready(daemon: &Installation) -> bool {
    let answer = daemon
        .http
        .get(daemon.url("/readyz"))
        .send()
        .unwrap()
        .text()
        .unwrap();
    let states: Value = serde_json::from_str(&answer).unwrap_or_default();
    states
        .to_string()
        .contains("\"channel:support-mail\":{\"state\":\"ready\"}")
}

#[test]
fn a_mail_is_claimed_answered_in_its_thread_and_the_customers_answer_joins() {
    if !peers::enabled() {
        return;
    }
    let dovecot = Dovecot::start();
    let postfix = Postfix::start(&dovecot);
    let shop = Shop::open();
    let daemon = start(&config(dovecot.imap_port, postfix.smtp_port, &shop.url));
    let token = daemon.token("ada");

    postfix.send(
        "kim@customer.example",
        "support@shop.example",
        &proven(
            "kim@customer.example",
            "Order 7",
            "kim-1",
            "",
            "Where is my order 7?",
        ),
    );
    let claimed = daemon.claim(&token, "frontline").expect("the mail");
    let id = claimed["id"].as_str().unwrap();
    assert_eq!(claimed["messages"][0]["text"], "Where is my order 7?");
    assert_eq!(claimed["messages"][0]["from"]["method"], "dmarc");

    let reply = daemon.reply(&token, id, "k-1", "It leaves today.");
    daemon.wait_for_delivery(&token, reply["id"].as_str().unwrap(), "sent");
    let received = dovecot.wait_for_mails("kim", 1).remove(0);
    assert_eq!(
        header(&received, "In-Reply-To").unwrap(),
        "<kim-1@customer.example>"
    );
    assert!(
        header(&received, "References")
            .unwrap()
            .contains("<kim-1@customer.example>")
    );
    assert!(header(&received, "Subject").unwrap().contains("Order 7"));
    let our_id = header(&received, "Message-ID").unwrap();
    let reply_to =
        header(&received, "Reply-To").unwrap_or_else(|| header(&received, "From").unwrap());
    let reply_to = reply_to
        .rsplit('<')
        .next()
        .unwrap()
        .trim_end_matches('>')
        .to_owned();

    // Unproven, but with the token, from the participant's address.
    let headers = format!("In-Reply-To: {our_id}\nReferences: <kim-1@customer.example> {our_id}\n");
    let answer = mail(
        "kim@customer.example",
        "Re: Order 7",
        "kim-2",
        &headers,
        "Thank you!\n\nOn Mon, 5 Jan 2026 at 10:00, Support <support@shop.example> wrote:\n> It leaves today.",
    );
    postfix.send("kim@customer.example", &reply_to, &answer);
    wait_until("the answer to join", PATIENCE, || {
        daemon.messages(&token, id).len() == 3
    });
    let messages = daemon.messages(&token, id);
    assert_eq!(messages[2]["text"], "Thank you!", "quotes are split off");

    // The same token in somebody else's hands joins nothing.
    let stolen = mail(
        "thief@elsewhere.example",
        "Re: Order 7",
        "thief-1",
        &headers,
        "Send it to me instead.",
    );
    postfix.send("thief@elsewhere.example", &reply_to, &stolen);
    // The same person in the shop's chat, vouched for: the same conversation.
    let chat = serde_json::json!({ "type": "message", "id": "m-1", "from": { "id": "cust-1", "email": "kim@customer.example" }, "text": "I also wrote a mail" });
    json_of(daemon.hook("shop-chat", &chat).unwrap());
    wait_until("chat and theft to be filed", PATIENCE, || {
        daemon.messages(&token, id).len() == 4 && daemon.conversations(&token).len() == 2
    });
    let other = daemon
        .conversations(&token)
        .into_iter()
        .find(|found| found["id"] != id)
        .unwrap();
    assert_eq!(other["status"], "queued");
    assert_eq!(other["links"][0]["reason"], "not_a_participant");
}

#[test]
fn a_mailbox_that_is_reset_or_cut_off_again_and_again_loses_and_doubles_nothing() {
    if !peers::enabled() {
        return;
    }
    let reconnects = if std::env::var("SWITCHBOARD_LONG").is_ok_and(|value| value == "1") {
        100
    } else {
        10
    };
    let dovecot = Dovecot::start();
    let chaos = Chaos::start(dovecot.imap_port);
    let shop = Shop::open();
    dovecot.deliver(
        "support",
        &mail(
            "old@customer.example",
            "Before",
            "old-1",
            "",
            "From before the channel was connected",
        ),
    );
    let daemon = start(&config(chaos.port, 9, &shop.url));
    let token = daemon.token("ada");
    for number in 0..reconnects {
        let from = format!("c{number}@customer.example");
        dovecot.deliver(
            "support",
            &mail(
                &from,
                "Hello",
                &format!("n-{number}"),
                "",
                &format!("mail {number}"),
            ),
        );
        if number % 2 == 0 {
            chaos.cut_all()
        } else {
            dovecot.kick("support")
        }
        if number == reconnects / 2 {
            dovecot.reset_uidvalidity("support");
        }
    }
    let mut found = wait_for("every mail to be filed", PATIENCE * 4, || {
        let found = daemon.conversations(&token);
        (found.len() >= reconnects).then_some(found)
    });
    found.sort_by_key(|conversation| conversation["opened_at"].to_string());
    assert_eq!(
        found.len(),
        reconnects,
        "each mail once, and none from before"
    );
    for conversation in &found {
        assert_eq!(
            daemon
                .messages(&token, conversation["id"].as_str().unwrap())
                .len(),
            1
        );
    }
}

#[test]
fn a_bounce_of_an_answer_turns_it_refused_and_brings_the_conversation_back() {
    if !peers::enabled() {
        return;
    }
    let dovecot = Dovecot::start();
    let postfix = Postfix::start(&dovecot);
    let shop = Shop::open();
    let daemon = start(&config(dovecot.imap_port, postfix.smtp_port, &shop.url));
    let token = daemon.token("ada");
    dovecot.deliver(
        "support",
        &mail(
            "lee@gone.example",
            "Question",
            "lee-1",
            "",
            "Do you ship to Norway?",
        ),
    );
    let claimed = daemon.claim(&token, "frontline").expect("the mail");
    let id = claimed["id"].as_str().unwrap();
    let reply = daemon.reply(&token, id, "k-1", "Yes, we do.");
    let refused = daemon.wait_for_delivery(&token, reply["id"].as_str().unwrap(), "refused");
    assert!(
        refused["reason"]
            .as_str()
            .unwrap_or_default()
            .contains("5.1.1"),
        "{refused}"
    );
    assert_eq!(
        daemon.get(&token, &format!("/v1/conversations/{id}"))["status"],
        "assigned"
    );
    assert_eq!(
        daemon.conversations(&token).len(),
        1,
        "a bounce is a receipt, not a conversation"
    );
}

/// One of two recipients is gone: the answer stays sent, the copy is shown as refused, and a person
/// looks. The bounce is Postfix's own.
#[test]
fn a_bounce_of_a_copy_is_shown_with_it_and_the_answer_stays_sent() {
    if !peers::enabled() {
        return;
    }
    let dovecot = Dovecot::start();
    let postfix = Postfix::start(&dovecot);
    let shop = Shop::open();
    let daemon = start(&config(dovecot.imap_port, postfix.smtp_port, &shop.url));
    let token = daemon.token("ada");
    postfix.send(
        "kim@customer.example",
        "support@shop.example",
        &proven(
            "kim@customer.example",
            "Order 7",
            "kim-1",
            "",
            "Where is it?",
        ),
    );
    let claimed = daemon.claim(&token, "frontline").expect("the mail");
    let id = claimed["id"].as_str().unwrap();
    let written = serde_json::json!({ "text": "It left.", "cc": ["Lee <lee@gone.example>"] });
    let reply = daemon.write(&token, id, "k-1", &written);
    let reply = reply["id"].as_str().unwrap();
    let shown = wait_for("the bounce to be filed", PATIENCE, || {
        let shown = daemon.get(&token, &format!("/v1/messages/{reply}"));
        (shown["cc"][0]["delivery"] == "refused").then_some(shown)
    });
    assert_eq!(shown["delivery"], "sent", "{shown}");
    let reason = shown["cc"][0]["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("5.1.1"), "{shown}");
    assert!(shown["to"][0].get("delivery").is_none(), "{shown}");
    let back = daemon.get(&token, &format!("/v1/conversations/{id}"));
    assert_eq!(back["status"], "assigned", "{back}");
    assert_eq!(dovecot.wait_for_mails("kim", 1).len(), 1);
}

/// The connection is cut where it hurts most: the mail has gone and the answer has not come.
#[test]
fn an_answer_whose_mail_went_and_whose_server_fell_silent_is_held_and_not_sent_again() {
    if !peers::enabled() {
        return;
    }
    let dovecot = Dovecot::start();
    let postfix = Postfix::start(&dovecot);
    let chaos = Chaos::start(postfix.smtp_port);
    let shop = Shop::open();
    let daemon = start(&config(dovecot.imap_port, chaos.port, &shop.url));
    let token = daemon.token("ada");
    postfix.send(
        "kim@customer.example",
        "support@shop.example",
        &proven(
            "kim@customer.example",
            "Order 7",
            "kim-1",
            "",
            "Where is it?",
        ),
    );
    let claimed = daemon.claim(&token, "frontline").expect("the mail");
    let id = claimed["id"].as_str().unwrap();
    chaos.lose_answer_to(b"\r\n.\r\n");
    let first = daemon.reply(&token, id, "k-1", "It left.");
    daemon.wait_for_delivery(&token, first["id"].as_str().unwrap(), "unknown");
    // The lane goes on: what follows is no second copy of the first.
    let second = daemon.reply(&token, id, "k-2", "Today, in fact.");
    daemon.wait_for_delivery(&token, second["id"].as_str().unwrap(), "sent");
    let texts: Vec<String> = dovecot
        .wait_for_mails("kim", 2)
        .iter()
        .map(|mail| String::from_utf8_lossy(mail).into_owned())
        .collect();
    assert_eq!(texts.len(), 2);
    assert!(texts[0].contains("It left.") && texts[1].contains("Today, in fact."));
}

/// 451: nobody is told that the answer is refused, and it is tried again.
#[test]
fn an_answer_that_is_put_off_stays_queued_and_is_tried_again() {
    if !peers::enabled() {
        return;
    }
    let dovecot = Dovecot::start();
    let postfix = Postfix::start(&dovecot);
    let shop = Shop::open();
    let daemon = start(&config(dovecot.imap_port, postfix.smtp_port, &shop.url));
    let token = daemon.token("ada");
    dovecot.deliver(
        "support",
        &mail("lee@busy.example", "Question", "lee-1", "", "Open today?"),
    );
    let claimed = daemon.claim(&token, "frontline").expect("the mail");
    let id = claimed["id"].as_str().unwrap();
    let reply = daemon.reply(&token, id, "k-1", "Until six.");
    let retries = "switchboard_sends_total{channel=\"support-mail\",outcome=\"retry\"}";
    wait_until("two attempts", PATIENCE, || daemon.metric(retries) >= 2.0);
    let shown = daemon.get(
        &token,
        &format!("/v1/messages/{}", reply["id"].as_str().unwrap()),
    );
    assert!(
        matches!(shown["delivery"].as_str(), Some("queued" | "sending")),
        "{shown}"
    );
    let waits = daemon.get(&token, &format!("/v1/conversations/{id}"));
    assert_eq!(
        waits["status"], "pending",
        "nobody has to do anything: {waits}"
    );
}
