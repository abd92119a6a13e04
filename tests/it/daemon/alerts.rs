//! What operators are told without asking, over a real daemon: by a signed post and by mail.

use std::fs;
use std::sync::atomic::Ordering;

use serde_json::Value;

use super::post_office::PostOffice;
use super::process::{Installation, PATIENCE, chat, chat_config, json_of};
use super::shop::Shop;
use crate::peers::{wait_for, wait_until};

const NOWHERE: &str = "http://127.0.0.1:9/none";

/// Short times, and a shop that takes the posts.
fn alerts(shop: &Shop) -> String {
    format!(
        "[alerts]\nover_after = \"1s\"\ndown_after = \"1h\"\n[alerts.webhook]\nurl = \"{}\"\n\
         secret = {{ file = \"{{dir}}/secret\" }}\nhosts = [\"127.0.0.1\"]\n",
        shop.url
    )
}

/// The news that came about something, oldest first.
fn told(shop: &Shop, key: &str) -> Vec<String> {
    let bodies = shop.bodies();
    let mut all: Vec<&Value> = bodies
        .iter()
        .flat_map(|body| body["alerts"].as_array().into_iter().flatten())
        .filter(|alert| alert["key"] == key)
        .collect();
    all.sort_by_key(|alert| alert["news"] == "over");
    assert!(
        all.iter()
            .all(|alert| alert["news"] == "over" || !alert["todo"].as_str().unwrap().is_empty())
    );
    let news = all
        .iter()
        .map(|alert| alert["news"].as_str().unwrap().to_owned());
    news.collect()
}

#[test]
fn freescout_3694_a_mailbox_that_goes_silent_without_an_error_is_told_once_over_a_restart_and_when_it_is_back()
 {
    let (office, shop) = (PostOffice::open(), Shop::open());
    let mailbox = office.config().replace("\"5s\"", "\"1s\"") + "silent_after = \"4s\"\n";
    let daemon = Installation::start(&format!("{}[queues.frontline]\n{mailbox}", alerts(&shop)));
    office.wait_for_reader();
    let key = "silent_channel:support-mail";
    assert_eq!(told(&shop, key), Vec::<String>::new());
    office.go_dead(true);
    wait_until("the silence to be told", PATIENCE, || {
        told(&shop, key) == ["began"]
    });
    assert!(daemon.terminate());
    daemon.run();
    // What is told is told by the next start as well: only its end is news.
    office.go_dead(false);
    wait_until("its end to be told", PATIENCE, || {
        told(&shop, key).contains(&"over".to_owned())
    });
    assert_eq!(told(&shop, key), ["began", "over"]);
}

#[test]
fn chatwoot_15131_a_shop_whose_webhooks_come_to_nothing_is_told_and_a_target_that_is_down_is_told_later()
 {
    let shop = Shop::open();
    let config = chat_config(NOWHERE) + "silent_after = \"2s\"\n" + &alerts(&shop);
    let daemon = Installation::new(&config);
    // The shop signs with a secret that this daemon does not have.
    let other = "whsec_YW5vdGhlci1zZWNyZXQtb2YtdGhlLWNoYW5uZWw=";
    let elsewhere = daemon.dir.path().join("other-secret");
    fs::write(elsewhere, other).unwrap();
    daemon.write_config(&config.replacen("{dir}/secret", "{dir}/other-secret", 1));
    shop.closed.store(true, Ordering::SeqCst);
    daemon.run();
    let refused = daemon
        .hook("shop-chat", &chat("m-1", "cust-7", "Hello"))
        .unwrap();
    assert_eq!(refused.status().as_u16(), 401, "refused, for days");
    wait_until("the target to be a state", PATIENCE, || {
        let answer = daemon.http.get(daemon.url("/readyz")).send().unwrap();
        let states = json_of(answer)["states"].clone();
        states["work:alerts:webhook"]["state"] == "unreachable"
    });
    shop.closed.store(false, Ordering::SeqCst);
    let key = "silent_channel:shop-chat";
    wait_until("the silence to be told", PATIENCE, || {
        told(&shop, key) == ["began"]
    });
}

#[test]
fn whoever_waits_too_long_is_told_by_mail_and_so_is_its_end() {
    let office = PostOffice::open();
    let config = format!(
        "[alerts]\nover_after = \"1s\"\ndown_after = \"1h\"\n[alerts.mail]\nchannel = \"support-mail\"\n\
         to = [\"ops@shop.example\", \"night@shop.example\"]\n{}{}",
        chat_config(NOWHERE).replace(
            "[queues.frontline]",
            "[queues.frontline]\noldest_wait = \"1s\""
        ),
        office.config()
    );
    let daemon = Installation::start(&config);
    let token = daemon.token("ada");
    json_of(
        daemon
            .hook("shop-chat", &chat("m-1", "cust-7", "Hello"))
            .unwrap(),
    );
    let texts = || {
        let sent = office.sent();
        sent.iter()
            .map(|mail| String::from_utf8_lossy(&mail.raw).into_owned())
            .collect::<Vec<_>>()
    };
    let first = wait_for("a mail", PATIENCE, || texts().into_iter().next());
    for part in [
        "somebody has waited in queue frontline",
        "ops@shop.example",
        "night@shop.example",
        "What to do",
        "Auto-Submitted",
    ] {
        assert!(first.contains(part), "{part}: {first}");
    }
    daemon.claim(&token, "frontline").expect("the conversation");
    let last = wait_for("its end", PATIENCE, || {
        texts().into_iter().find(|text| text.contains("over: "))
    });
    assert!(!last.contains("What to do"), "{last}");
    assert_eq!(texts().len(), 2, "{:?}", texts());
}

#[test]
fn what_nobody_could_be_told_by_is_named_before_anything_runs() {
    let wrong = chat_config(NOWHERE).replace("deliver_url", "#deliver_url")
        + "[alerts.mail]\nchannel = \"shop-chat\"\nto = [\"ops@shop.example\"]\n\
           [alerts.webhook]\nurl = \"https://ops.shop.example/\"\nsecret = { env = \"NOT_THERE_AT_ALL\" }\n";
    let daemon = Installation::new(&wrong);
    let output = daemon.command(&["check-config"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(78), "{said}");
    for fault in ["alerts.mail.channel", "cannot send", "NOT_THERE_AT_ALL"] {
        assert!(said.contains(fault), "{fault}: {said}");
    }
}
