//! `channel test`: a channel writes to itself, and nobody else notices.

use std::process::Output;

use serde_json::Value;

use super::mail::wait_for_mailbox;
use super::post_office::{PostOffice, mail_channel};
use super::process::{Installation, PATIENCE, chat_config};
use crate::peers::{self, Dovecot, Postfix, wait_for};

fn said(output: &Output) -> String {
    let out = String::from_utf8_lossy(&output.stdout);
    format!("{out}{}", String::from_utf8_lossy(&output.stderr))
}

fn test(daemon: &Installation, args: &[&str], works: bool) -> String {
    let output = daemon.command(&[&["channel", "test"], args].concat());
    let said = said(&output);
    assert_eq!(output.status.success(), works, "{said}");
    said
}

/// The steps that are told, each with its state.
fn steps(said: &str) -> Vec<&str> {
    let lines = said.lines().filter(|line| !line.starts_with(' '));
    lines.map(|line| line.split(':').next().unwrap()).collect()
}

const MAIL_WELL: [&str; 6] = [
    "ok    imap 127.0.0.1",
    "ok    smtp 127.0.0.1",
    "ok    send",
    "ok    arrive",
    "ok    queue",
    "ok    result",
];

/// One conversation, which nobody has to do with.
fn is_filed_apart(daemon: &Installation) {
    let token = daemon.token("ada");
    let found = daemon.conversations(&token);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(found[0]["status"], "closed");
    assert_eq!(found[0]["tags"], serde_json::json!(["channel-test"]));
    let id = found[0]["id"].as_str().unwrap();
    let messages = daemon.messages(&token, id);
    assert_eq!(messages.len(), 1, "nothing answers it: {messages:#?}");
    let why = daemon.get(&token, &format!("/v1/conversations/{id}/explain"));
    assert!(why.to_string().contains("channel_test"), "{why}");
    let depths: Value = daemon.get(&token, "/v1/queues");
    assert!(!depths.to_string().contains("\"waiting\":1"), "{depths}");
}

const RULES: &str = "[queues.vip]\n[[rules]]\nname = \"machines\"\nwhen = { automatic = true }\n\
     queue = \"vip\"\n";

#[test]
fn a_webhook_channel_takes_a_signed_event_that_is_filed_closed() {
    let config = chat_config("http://127.0.0.1:9/");
    let acknowledged = config.replace("queue = ", "acknowledge = \"We have it.\"\nqueue = ");
    let daemon = Installation::start(&format!("{acknowledged}{RULES}"));
    let said = test(&daemon, &["shop-chat"], true);
    let (at_webhook, [_, _, rest @ ..]) = (["ok    webhook", "ok    deliver_url"], MAIL_WELL);
    assert_eq!(steps(&said), [&at_webhook[..], &rest].concat(), "{said}");
    assert!(
        said.contains("goes to frontline, by the channel's own queue"),
        "{said}"
    );
    is_filed_apart(&daemon);
}

/// Carries what is sent into the mailbox, as a mail server does.
fn carry(post: &PostOffice, daemon: &Installation) -> String {
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| test(daemon, &["support-mail"], true));
        let sent = wait_for("the test mail to be sent", PATIENCE, || post.sent().pop());
        assert_eq!(sent.to, ["support@shop.example"]);
        post.deliver(sent.raw);
        asked.join().unwrap()
    })
}

#[test]
fn a_mail_channel_sees_the_mail_it_wrote_to_itself_and_files_it_closed() {
    let post = PostOffice::open();
    let config = format!(
        "[queues.frontline]\n{}acknowledge = \"We have it.\"\n{RULES}",
        post.config()
    );
    let daemon = Installation::start(&config);
    post.wait_for_reader();
    let said = carry(&post, &daemon);
    assert_eq!(steps(&said), MAIL_WELL, "{said}");
    assert!(said.contains(": signed in, INBOX open\n"), "{said}");
    assert!(
        said.contains("goes to frontline, by the channel's own queue"),
        "{said}"
    );
    is_filed_apart(&daemon);
    assert_eq!(post.sent().len(), 1, "it is not acknowledged");
}

#[test]
fn a_step_that_fails_says_what_to_do() {
    let post = PostOffice::open();
    let config = format!("[queues.frontline]\n{}", post.config());
    let daemon = Installation::start(&config);
    post.wait_for_reader();
    let said = test(&daemon, &["support-mail", "--wait", "1"], false);
    assert_eq!(
        steps(&said),
        [&MAIL_WELL[..3], &["fail  arrive", "fail  result"]].concat(),
        "{said}"
    );
    assert!(said.contains("look into spam"), "{said}");
    let said = test(&daemon, &["shop-chat"], false);
    assert!(said.contains("the daemon has support-mail"), "{said}");

    let smtp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = smtp.local_addr().unwrap().port();
    drop(smtp);
    let nobody = mail_channel(port, port, "support");
    let away = Installation::start(&format!("[queues.frontline]\n{nobody}"));
    let said = test(&away, &["support-mail"], false);
    let refused = [
        "fail  imap 127.0.0.1",
        "fail  smtp 127.0.0.1",
        "fail  result",
    ];
    assert_eq!(steps(&said), refused, "each by itself: {said}");
    let place = format!("smtp 127.0.0.1:{port}: cannot connect: connection refused");
    assert!(said.contains(&place), "{said}");
    assert!(said.contains("check host, port and tls"), "{said}");
    assert!(away.terminate());
    let said = test(&away, &["support-mail"], false);
    assert!(said.contains("no daemon runs on"), "{said}");
}

#[test]
fn real_servers_carry_the_test_of_a_mail_channel() {
    if !peers::enabled() {
        return;
    }
    let dovecot = Dovecot::start();
    let postfix = Postfix::start(&dovecot);
    let mail = mail_channel(dovecot.imap_port, postfix.smtp_port, "support");
    let daemon = Installation::start(&format!("[queues.frontline]\n{mail}"));
    wait_for_mailbox(&daemon);
    let said = test(&daemon, &["support-mail", "--wait", "60"], true);
    assert_eq!(steps(&said), MAIL_WELL, "{said}");
    is_filed_apart(&daemon);
}
