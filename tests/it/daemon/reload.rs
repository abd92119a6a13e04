//! The configuration read again while everything runs: what changes, what stays, and that nobody
//! who writes meanwhile notices.

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use axum::Router;
use axum::routing::post;
use serde_json::{Value, json};

use super::post_office::{AUTHSERV_ID, PostOffice};
use super::process::{Installation, PATIENCE, binary, chat, chat_config, json_of};
use super::shop::Shop;
use crate::peers::wait_until;

const NOWHERE: &str = "http://127.0.0.1:9/none";

/// Another chat, with a queue of its own.
const SECOND: &str = "[queues.vip]\n[channels.vip-chat]\nconnector = \"webhook\"\nqueue = \"vip\"\n\
     secrets = [{ file = \"{dir}/secret\" }]\n";

fn reloaded(daemon: &Installation) -> Value {
    let output = daemon.command(&["reload"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn config_state(daemon: &Installation) -> Value {
    let answer = daemon.http.get(daemon.url("/readyz")).send().unwrap();
    json_of(answer)["states"]["config"].clone()
}

#[test]
fn a_reload_takes_over_channels_queues_and_rules_and_says_what_changed() {
    let daemon = Installation::start(&chat_config(NOWHERE));
    let token = daemon.token("ada");
    let hook = |channel: &str, id: &str| {
        let answer = daemon.hook(channel, &chat(id, id, "I want a refund"));
        answer.unwrap().status().as_u16()
    };
    assert_eq!(hook("vip-chat", "m-1"), 404);
    let nothing = reloaded(&daemon);
    assert_eq!(nothing["channels"]["unchanged"], 1, "{nothing}");
    assert_eq!(nothing["changed"], json!([]));

    let rules = "[[rules]]\nwhen = { keywords = [\"refund\"] }\ntags = [\"money\"]\n";
    let log = "[log]\nlevel = \"debug\"\n";
    let more = format!("{}{SECOND}{rules}{log}", chat_config(NOWHERE));
    daemon.write_config(&more);
    let changes = reloaded(&daemon);
    assert_eq!(changes["channels"]["added"], json!(["vip-chat"]));
    assert_eq!(changes["channels"]["unchanged"], 1);
    assert_eq!(changes["changed"], json!(["queues", "rules", "log.level"]));
    assert_eq!(changes["needs_restart"], json!([]));
    assert_ne!(changes["rules_version"], nothing["rules_version"]);
    assert_eq!(hook("vip-chat", "m-1"), 200);
    let claimed = daemon.claim(&token, "vip").expect("its conversation");
    assert_eq!(claimed["tags"], json!(["money"]));
    let forged = daemon.http.post(daemon.url("/hooks/vip-chat")).send();
    assert_eq!(forged.unwrap().status().as_u16(), 401);
    assert!(daemon.log_text().contains("refused a webhook of vip-chat"));

    // Where it waits is not the channel's own matter: it is not restarted for that.
    daemon.write_config(&more.replace("queue = \"vip\"", "queue = \"frontline\""));
    let changes = reloaded(&daemon);
    assert_eq!(changes["changed"], json!(["channels.vip-chat"]));
    assert_eq!(changes["channels"]["unchanged"], 2);
    daemon.write_config(&more);
    reloaded(&daemon);

    // What waits in a queue that goes waits in one that stays.
    assert_eq!(hook("vip-chat", "m-2"), 200);
    wait_until("it to wait", PATIENCE, || {
        daemon.conversations(&token).len() == 2
    });
    daemon.write_config(&chat_config(NOWHERE));
    let changes = reloaded(&daemon);
    assert_eq!(changes["channels"]["removed"], json!(["vip-chat"]));
    assert_eq!(hook("vip-chat", "m-3"), 404);
    let claimed = daemon.claim(&token, "frontline").expect("it is taken in");
    assert_eq!(claimed["queue"], "frontline");
    assert!(
        daemon.get(&token, "/v1/queues")["items"]
            .as_array()
            .unwrap()
            .len()
            == 1
    );
    wait_until("the channel's state to be gone", PATIENCE, || {
        let states = daemon.http.get(daemon.url("/readyz")).send().unwrap();
        !states.text().unwrap().contains("vip-chat")
    });
}

#[test]
fn a_wrong_configuration_changes_nothing_and_is_said_until_a_good_one_is_read() {
    let daemon = Installation::start(&chat_config(NOWHERE));
    let wrong = chat_config(NOWHERE).replace("connector = \"webhook\"", "connector = \"webhok\"")
        + "[retention]\nraw = \"never\"\n[nonsense]\n";
    daemon.write_config(&wrong);
    let output = daemon.command(&["reload"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(78), "{said}");
    for fault in ["webhok", "retention.raw", "nonsense"] {
        assert!(said.contains(fault), "{said}");
    }
    assert_eq!(config_state(&daemon)["state"], "degraded");
    let answer = daemon.hook("shop-chat", &chat("m-1", "cust-7", "Hello"));
    assert_eq!(answer.unwrap().status().as_u16(), 200, "the old one stays");

    // So is a backfill of what retention forgets at once.
    let mail = "[channels.support-mail]\nconnector = \"email\"\nqueue = \"frontline\"\n\
        address = \"support@shop.example\"\nbackfill = \"40d\"\n\
        imap = { host = \"127.0.0.1\", port = 9, tls = \"none\", password = { file = \"{dir}/secret\" } }\n\
        smtp = { host = \"127.0.0.1\", port = 9, tls = \"none\" }\n[retention]\nresolved = \"30d\"\n";
    daemon.write_config(&format!("{}{mail}", chat_config(NOWHERE)));
    for command in ["reload", "check-config"] {
        let output = daemon.command(&[command]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(78), "{command}: {said}");
        let told = "backfill reaches back 40d, further than retention.resolved (30d)";
        assert!(
            said.contains(told) && said.contains("support-mail"),
            "{said}"
        );
    }

    // A secret that cannot be read is a fault of the configuration, too.
    daemon.write_config(&chat_config(NOWHERE).replace("{dir}/secret", "{dir}/no-secret"));
    daemon.hang_up();
    wait_until("the signal to be answered", PATIENCE, || {
        config_state(&daemon).to_string().contains("no-secret")
    });
    daemon.write_config(&chat_config(NOWHERE));
    daemon.hang_up();
    wait_until("a good one to be read", PATIENCE, || {
        config_state(&daemon)["state"] == "ready"
    });
}

#[test]
fn a_wrong_file_that_names_its_daemon_is_told_to_it() {
    let daemon = Installation::start(&chat_config(NOWHERE));
    let named = format!(
        "server.data_dir = \"{{dir}}/data\"\n{}",
        chat_config(NOWHERE)
    );
    daemon.write_config(&format!("nonsense = 1\n{named}"));
    let reload = || {
        let mut command = Command::new(binary());
        command.args(["reload", "--config"]).arg(daemon.config());
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), said)
    };
    let (code, said) = reload();
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("nonsense"), "{said}");
    assert!(said.contains("nothing has changed"), "{said}");
    assert_eq!(config_state(&daemon)["state"], "degraded");
    daemon.write_config(&named);
    assert_eq!(reload().0, Some(0));
    assert_eq!(config_state(&daemon)["state"], "ready");
    // Where nobody runs the command itself says what is wrong.
    daemon.write_config(&format!(
        "nonsense = 1\n{}",
        named.replace("/data", "/nobody")
    ));
    let (code, said) = reload();
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("nonsense"), "{said}");
}

#[test]
fn another_file_than_the_daemons_is_refused_and_the_daemons_is_named() {
    let daemon = Installation::start(&chat_config(NOWHERE));
    let log = daemon.log_text();
    let own = daemon.config().display().to_string();
    assert!(log.contains(&format!("configuration: {own}")), "{log}");
    assert_eq!(reloaded(&daemon)["file"], own);
    let data = daemon.dir.path().join("data");
    let other = daemon.dir.path().join("other.toml");
    let link = daemon.dir.path().join("link.toml");
    fs::write(&other, "").unwrap();
    std::os::unix::fs::symlink(daemon.config(), &link).unwrap();
    let reload = |args: &[&std::path::Path]| {
        let mut command = std::process::Command::new(binary());
        command.arg("reload").arg("--data-dir").arg(&data);
        let output = command.args(args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), said)
    };
    let flag = std::path::Path::new("--config");
    let (code, said) = reload(&[flag, &other]);
    assert_eq!(code, Some(1), "{said}");
    for part in ["nothing was read again", &own, "other.toml"] {
        assert!(said.contains(part), "{said}");
    }
    assert_eq!(
        reload(&[flag, &link]).0,
        Some(0),
        "the same file by another name"
    );
    assert_eq!(reload(&[]).0, Some(0), "nobody named another one");
}

#[test]
fn what_needs_a_restart_is_named_and_stays_as_it_was() {
    let daemon = Installation::start(&chat_config(NOWHERE));
    let other = "[server]\npublic_url = \"https://other.example\"\nbody_bytes_max = \"1MiB\"\n";
    daemon.write_config(&format!(
        "{other}[log]\nformat = \"json\"\n{}",
        chat_config(NOWHERE)
    ));
    let expected = json!(["server.body_bytes_max", "server.public_url", "log.format"]);
    for _ in 0..2 {
        // It is still another one.
        assert_eq!(reloaded(&daemon)["needs_restart"], expected);
    }
    let large = json!({ "type": "message", "id": "m-1", "from": { "id": "c" }, "text": "x".repeat(2 << 20) });
    let answer = daemon.hook("shop-chat", &large).unwrap().status().as_u16();
    assert_ne!(answer, 413, "the larger body is still taken");
}

#[test]
fn another_secret_in_the_same_file_is_another_channel() {
    let daemon = Installation::start(&chat_config(NOWHERE));
    let hook = |id: &str| {
        let answer = daemon.hook("shop-chat", &chat(id, "cust-7", "Hello"));
        answer.unwrap().status().as_u16()
    };
    assert_eq!(hook("m-1"), 200);
    let other = "whsec_YW5vdGhlci1zZWNyZXQtb2YtdGhlLWNoYW5uZWw=";
    fs::write(daemon.dir.path().join("secret"), other).unwrap();
    assert_eq!(hook("m-2"), 200, "nobody told the daemon yet");
    assert_eq!(
        reloaded(&daemon)["channels"]["restarted"],
        json!(["shop-chat"])
    );
    assert_eq!(hook("m-3"), 401);
}

#[test]
fn nobody_notices_reloads_under_load_and_no_event_is_lost_or_doubled() {
    const WRITERS: usize = 4;
    const EACH: usize = 60;
    const MAILS: usize = 40;
    let office = PostOffice::open();
    let mailbox = office.config();
    let config = move |with_second: bool, tag: usize| {
        let second = if with_second {
            SECOND
        } else {
            "[queues.vip]\n"
        };
        let rule =
            format!("[[rules]]\nwhen = {{ keywords = [\"Hello\"] }}\ntags = [\"t-{tag}\"]\n");
        format!("{}{mailbox}{second}{rule}", chat_config(NOWHERE))
    };
    let daemon = Arc::new(Installation::start(&config(false, 0)));
    office.wait_for_reader();
    let logins = office.logins();
    let token = daemon.token("ada");
    let (taken, done) = (
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (daemon, taken) = (daemon.clone(), taken.clone());
            thread::spawn(move || {
                for at in 0..EACH {
                    let id = format!("m-{writer}-{at}");
                    let body = chat(&id, &format!("cust-{writer}-{at}"), "Hello");
                    let answer = daemon.hook("shop-chat", &body).unwrap();
                    assert_eq!(answer.status().as_u16(), 200, "{id}");
                    taken.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    // The other chat comes and goes; what it answers 200 to is taken all the same.
    let (comes, ending) = (daemon.clone(), done.clone());
    let second = thread::spawn(move || {
        let mut accepted = 0;
        for at in 0.. {
            if ending.load(Ordering::SeqCst) {
                break;
            }
            let id = format!("v-{at}");
            let answer = comes.hook("vip-chat", &chat(&id, &id, "Hello")).unwrap();
            accepted += usize::from(answer.status().as_u16() == 200);
        }
        accepted
    });
    let (reloads, ending) = (daemon.clone(), done.clone());
    let reloading = thread::spawn(move || {
        let mut times = 0;
        while !ending.load(Ordering::SeqCst) {
            times += 1;
            reloads.write_config(&config(times % 2 == 1, times));
            let changes = reloaded(&reloads);
            assert_eq!(changes["channels"]["restarted"], json!([]), "{changes}");
            // The other one may have been added by a signal just before.
            assert!(
                changes["channels"]["unchanged"].as_u64() >= Some(2),
                "{changes}"
            );
        }
        times
    });
    for at in 0..MAILS {
        office.deliver(mail(at));
        if at % 10 == 0 {
            daemon.hang_up();
        }
    }
    for writer in writers {
        writer.join().unwrap();
    }
    done.store(true, Ordering::SeqCst);
    let times = reloading.join().unwrap();
    assert!(times >= 3, "{times} reloads");
    let accepted = second.join().unwrap();
    assert!(accepted > 0, "it was there for a while");
    let all = WRITERS * EACH + MAILS + accepted;
    wait_until("everything to be filed", PATIENCE, || {
        daemon.metric("switchboard_routed_total{verdict=\"filed\"}") as usize >= all
    });
    assert_eq!(daemon.metric("switchboard_dead_letters"), 0.0);
    let found = daemon.conversations(&token);
    assert_eq!(found.len(), all, "one conversation for each");
    assert_eq!(taken.load(Ordering::SeqCst), WRITERS * EACH);
    assert_eq!(
        office.logins(),
        logins,
        "the mailbox is read over the same connections"
    );
}

fn mail(at: usize) -> Vec<u8> {
    let from = format!("kim-{at}@customer.example");
    format!(
        "Authentication-Results: {AUTHSERV_ID}; dmarc=pass header.from=customer.example\r\n\
         From: {from}\r\nTo: support@shop.example\r\nSubject: Order {at}\r\n\
         Message-ID: <{at}@customer.example>\r\nDate: Sun, 22 Nov 2026 08:00:00 +0000\r\n\r\nHello\r\n"
    )
    .into_bytes()
}

#[test]
fn a_channel_that_goes_finishes_what_it_sends() {
    let runtime = super::own_runtime();
    let listener = runtime
        .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
        .unwrap();
    let url = format!("http://{}/deliver", listener.local_addr().unwrap());
    let (arrived, open) = (
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let (counts, door) = (arrived.clone(), open.clone());
    let deliver = move || async move {
        counts.fetch_add(1, Ordering::SeqCst);
        while !door.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        axum::Json(json!({ "id": "shop-1" }))
    };
    let app = Router::new().route("/deliver", post(deliver));
    runtime.spawn(async move { axum::serve(listener, app).await });

    let both = |url: &str| format!("{}{SECOND}", chat_config(url));
    let daemon = Installation::start(&both(&url));
    let token = daemon.token("ada");
    let wrote = daemon.hook("shop-chat", &chat("m-1", "cust-7", "Hello"));
    json_of(wrote.unwrap());
    let claimed = daemon.claim(&token, "frontline").expect("the conversation");
    let reply = daemon.reply(
        &token,
        claimed["id"].as_str().unwrap(),
        "k-1",
        "On its way.",
    );
    wait_until("the answer to be at the shop", PATIENCE, || {
        arrived.load(Ordering::SeqCst) == 1
    });
    // Another address of the shop: the channel starts anew, once the answer is known.
    let shop = Shop::open();
    daemon.write_config(&both(&shop.url));
    assert_eq!(
        reloaded(&daemon)["channels"]["restarted"],
        json!(["shop-chat"])
    );
    let wrote = daemon.hook("shop-chat", &chat("m-2", "cust-8", "Anybody?"));
    assert_eq!(
        wrote.unwrap().status().as_u16(),
        200,
        "it listens meanwhile"
    );
    open.store(true, Ordering::SeqCst);
    daemon.wait_for_delivery(&token, reply["id"].as_str().unwrap(), "sent");
    assert_eq!(arrived.load(Ordering::SeqCst), 1, "and is sent once");
    let claimed = daemon.claim(&token, "frontline").expect("the second");
    let reply = daemon.reply(&token, claimed["id"].as_str().unwrap(), "k-2", "Yes.");
    daemon.wait_for_delivery(&token, reply["id"].as_str().unwrap(), "sent");
    assert_eq!(shop.texts(), [("cust-8".to_owned(), "Yes.".to_owned())]);
}
