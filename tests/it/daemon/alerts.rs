//! What operators are told without asking, over a real daemon: by a signed post and by mail.

use std::fs;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::Value;

use super::post_office::{PostOffice, mail_channel};
use super::preload;
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
    let all: Vec<&Value> = bodies
        .iter()
        .flat_map(|body| body["alerts"].as_array().into_iter().flatten())
        .filter(|alert| alert["key"] == key)
        .collect();
    assert!(
        all.iter()
            .all(|alert| alert["news"] == "over" || !alert["todo"].as_str().unwrap().is_empty())
    );
    let news = all
        .iter()
        .map(|alert| alert["news"].as_str().unwrap().to_owned());
    news.collect()
}

/// A queue in which nobody may wait for longer.
fn chat_with_limit(deliver_url: &str, oldest_wait: &str) -> String {
    let queue = format!("[queues.frontline]\noldest_wait = \"{oldest_wait}\"");
    chat_config(deliver_url).replace("[queues.frontline]", &queue)
}

/// Somebody writes, and waits.
fn somebody_writes(daemon: &Installation, id: &str) {
    let hook = daemon.hook("shop-chat", &chat(id, "cust-7", "Hello"));
    json_of(hook.unwrap());
}

fn state(daemon: &Installation, part: &str) -> Value {
    let answer = daemon.http.get(daemon.url("/readyz")).send().unwrap();
    json_of(answer)["states"][part].clone()
}

const NOTHING: [&str; 0] = [];
const WAITING: &str = "oldest_wait:frontline";

#[test]
fn freescout_3694_a_mailbox_that_goes_silent_without_an_error_is_told_once_over_a_restart_and_when_it_is_back()
 {
    let (office, shop) = (PostOffice::open(), Shop::open());
    let mailbox = office.config().replace("\"5s\"", "\"1s\"") + "silent_after = \"4s\"\n";
    // Another one that cannot be reached at all.
    let elsewhere = mail_channel(9, 9, "orders").replace("support", "orders");
    let chat = chat_with_limit(NOWHERE, "3s");
    let alerts = alerts(&shop).replace("\"1h\"", "\"1s\"");
    let daemon = Installation::start(&format!("{alerts}{chat}{mailbox}{elsewhere}"));
    office.wait_for_reader();
    let (silent, down) = ("silent_channel:support-mail", "part:channel:orders-mail");
    assert_eq!(told(&shop, silent), NOTHING);
    office.go_dead(true);
    wait_until("both to be told", PATIENCE, || {
        [silent, down]
            .iter()
            .all(|key| told(&shop, key) == ["began"])
    });
    assert!(daemon.terminate());
    daemon.run();
    // Nothing is better: what is told later than it would have been over says so.
    somebody_writes(&daemon, "m-1");
    wait_until("somebody's waiting to be told", PATIENCE, || {
        told(&shop, WAITING) == ["began"]
    });
    for key in [silent, down] {
        assert_eq!(told(&shop, key), ["began"], "{key}");
    }
    office.go_dead(false);
    wait_until("its end to be told", PATIENCE, || {
        told(&shop, silent) == ["began", "over"]
    });
    assert_eq!(told(&shop, down), ["began"]);
}

#[test]
fn answers_that_a_provider_limits_are_told_and_so_is_that_they_leave() {
    let (customers, ops) = (Shop::open(), Shop::open());
    let alerts = alerts(&ops).replace("\"1h\"", "\"1s\"");
    let daemon = Installation::start(&(chat_config(&customers.url) + &alerts));
    let token = daemon.token("ada");
    somebody_writes(&daemon, "m-1");
    let conversation = daemon.claim(&token, "frontline").expect("a conversation");
    customers.limited.store(true, Ordering::SeqCst);
    let id = conversation["id"].as_str().unwrap();
    let answer = daemon.reply(&token, id, "r-1", "Here it is.");
    let key = "part:channel:outbound:shop-chat";
    wait_until("the limit to be told", PATIENCE, || {
        told(&ops, key) == ["began"]
    });
    customers.limited.store(false, Ordering::SeqCst);
    daemon.wait_for_delivery(&token, answer["id"].as_str().unwrap(), "sent");
    wait_until("its end to be told", PATIENCE, || {
        told(&ops, key) == ["began", "over"]
    });
}

/// Takes nothing for the database from when a file named by the environment is there.
const FULL: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int is_full(int fd) {
    char link[64], path[4096];
    const char *when = getenv("DISK_FULL_WHEN");
    if (when == NULL || access(when, F_OK) != 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return strstr(path, "switchboard.db") != NULL;
}

ssize_t write(int fd, const void *bytes, size_t count) {
    if (is_full(fd)) { errno = ENOSPC; return -1; }
    return ((ssize_t (*)(int, const void *, size_t)) dlsym(RTLD_NEXT, "write"))(fd, bytes, count);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) {
    if (is_full(fd)) { errno = ENOSPC; return -1; }
    return ((ssize_t (*)(int, const void *, size_t, off_t)) dlsym(RTLD_NEXT, "pwrite"))(fd, bytes, count, at);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) {
    if (is_full(fd)) { errno = ENOSPC; return -1; }
    return ((ssize_t (*)(int, const void *, size_t, off64_t)) dlsym(RTLD_NEXT, "pwrite64"))(fd, bytes, count, at);
}
"#;

#[test]
fn with_a_full_disk_intake_says_so_at_once_and_whoever_is_told_goes_on_being_told() {
    let shop = Shop::open();
    let alerts = alerts(&shop).replace("\"1h\"", "\"1s\"");
    let daemon = Installation::new(&(chat_with_limit(NOWHERE, "4s") + &alerts));
    let (library, full) = (
        preload::library(daemon.dir.path(), FULL),
        daemon.dir.path().join("full"),
    );
    let environment = [("LD_PRELOAD", &library), ("DISK_FULL_WHEN", &full)];
    daemon.run_in(&environment.map(|(name, path)| (name, path.to_str().unwrap())));
    let token = daemon.token("ada");
    somebody_writes(&daemon, "m-1");
    wait_until("the message to be filed", PATIENCE, || {
        daemon.conversations(&token).len() == 1
    });
    assert_eq!(state(&daemon, "intake")["state"], "ready");

    fs::write(&full, "").unwrap();
    let refused = daemon.hook("shop-chat", &chat("m-2", "cust-8", "Hello"));
    assert_eq!(refused.unwrap().status().as_u16(), 503);
    let mut said = Value::Null;
    // Without anybody's message it would take a minute.
    wait_until("the refusal to be a state", PATIENCE, || {
        said = state(&daemon, "intake");
        said["state"] == "degraded"
    });
    let reason = said["reason"].as_str().unwrap();
    assert!(reason.starts_with("messages are refused: "), "{reason}");
    assert!(reason.contains("full"), "{reason}");
    for key in ["part:intake", WAITING] {
        wait_until("both to be told", PATIENCE, || {
            told(&shop, key) == ["began"]
        });
    }
    let reason = state(&daemon, "work:alerts")["reason"].to_string();
    assert!(reason.contains("cannot be noted"), "{reason}");

    fs::remove_file(&full).unwrap();
    // Nobody brings anything meanwhile.
    for part in ["intake", "work:alerts"] {
        wait_until("it to be well again", PATIENCE, || {
            state(&daemon, part)["state"] == "ready"
        });
    }
    wait_until("its end to be told", PATIENCE, || {
        told(&shop, "part:intake") == ["began", "over"]
    });
    somebody_writes(&daemon, "m-2");
}

#[test]
fn a_mail_server_that_says_nothing_delays_no_other_target_and_no_look() {
    let (office, shop) = (PostOffice::open(), Shop::open());
    let mail = "[alerts.mail]\nchannel = \"support-mail\"\nto = [\"ops@shop.example\"]\n";
    let channels = chat_with_limit(NOWHERE, "1s") + &office.config();
    let daemon = Installation::start(&format!("{}{mail}{channels}", alerts(&shop)));
    let token = daemon.token("ada");
    office.leave_next_unanswered();
    somebody_writes(&daemon, "m-1");
    // A mail server may take half a minute to answer.
    let soon = Duration::from_secs(15);
    wait_until("the webhook to be told", soon, || {
        told(&shop, WAITING) == ["began"]
    });
    daemon.claim(&token, "frontline").expect("the conversation");
    wait_until("its end to be told", soon, || {
        told(&shop, WAITING) == ["began", "over"]
    });
    assert_eq!(
        state(&daemon, "work:alerts:mail"),
        Value::Null,
        "the mail is still unanswered"
    );
}

#[test]
fn a_target_that_leads_elsewhere_now_is_told_what_is_wrong_now() {
    let (before, after) = (Shop::open(), Shop::open());
    let chat = chat_with_limit(NOWHERE, "1s");
    let daemon = Installation::start(&format!("{}{chat}", alerts(&before)));
    somebody_writes(&daemon, "m-1");
    wait_until("the first one to be told", PATIENCE, || {
        told(&before, WAITING) == ["began"]
    });
    daemon.write_config(&format!("{}{chat}", alerts(&after)));
    assert!(daemon.command(&["reload"]).status.success());
    wait_until("the other one to be told", PATIENCE, || {
        told(&after, WAITING) == ["began"]
    });
    assert_eq!(told(&before, WAITING), ["began"]);
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
