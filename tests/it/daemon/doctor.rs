//! `doctor`: what it finds well, and what it finds wrong, with the daemon up and down.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;

use serde_json::Value;

use super::post_office::PostOffice;
use super::post_office::mail_channel;
use super::process::{Installation, PATIENCE, SECRET, binary, chat, chat_config};
use crate::peers::{free_port, wait_until};
use crate::support::Authority;

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// One that listens where its configuration says, with more of that in `server`.
fn installation(server: &str) -> Installation {
    let daemon = Installation::new("");
    let address = &daemon.address;
    let server = server.replace("{address}", address);
    let chat = chat_config("http://127.0.0.1:9/");
    daemon.write_config(&format!(
        "[server]\nlisten = \"{address}\"\n{server}\n{chat}"
    ));
    chmod(&daemon.dir.path().join("secret"), 0o600);
    daemon
}

/// All findings, and whether it said that all is well.
fn doctor(daemon: &Installation) -> (Vec<Value>, bool) {
    let output: Output = daemon.command(&["doctor", "--json"]);
    let findings: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    (
        findings.as_array().unwrap().clone(),
        output.status.success(),
    )
}

/// The first finding of a check, as `state detail -> hint`.
fn finding(found: &[Value], check: &str) -> String {
    let one = found.iter().find(|one| one["check"] == check);
    let one = one.unwrap_or_else(|| panic!("nothing about {check}: {found:#?}"));
    let text = |key: &str| one[key].as_str().unwrap_or_default().to_owned();
    format!("{} {} -> {}", text("state"), text("detail"), text("hint"))
}

fn check(daemon: &Installation, name: &str, starts: &str, contains: &str) {
    let (found, well) = doctor(daemon);
    let said = finding(&found, name);
    assert!(
        said.starts_with(starts) && said.contains(contains),
        "{said}"
    );
    let fails = found.iter().any(|one| one["state"] == "fail");
    assert_eq!(well, !fails, "{found:#?}");
    for one in &found {
        let ok = one["state"] == "ok";
        assert_eq!(
            ok,
            one["hint"].is_null(),
            "what is wrong says what to do: {one}"
        );
    }
}

#[test]
fn a_daemon_that_is_well_is_found_well_and_known_again_behind_its_public_url() {
    let daemon = installation("public_url = \"http://{address}\"");
    daemon.run();
    let (found, well) = doctor(&daemon);
    assert!(well, "{found:#?}");
    let names: Vec<&str> = found
        .iter()
        .map(|one| one["check"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "config",
            "version",
            "schema",
            "data_dir",
            "disk_sync",
            "disk_space",
            "clock",
            "secrets",
            "daemon",
            "listen",
            "channel",
            "channel",
            "channel",
            "channel",
            "parts",
            "dead_letters",
            "outbox",
            "public_url",
        ]
    );
    for name in [
        "config", "version", "schema", "data_dir", "secrets", "daemon", "listen", "channel",
    ] {
        assert!(finding(&found, name).starts_with("ok "), "{found:#?}");
    }
    assert!(finding(&found, "public_url").contains("leads to this daemon"));
    let text = daemon.command(&["doctor"]);
    let text = String::from_utf8(text.stdout).unwrap();
    assert_eq!(text.lines().count(), names.len(), "{text}");
    assert!(
        !daemon
            .dir
            .path()
            .join("data")
            .read_dir()
            .unwrap()
            .any(|entry| {
                entry
                    .unwrap()
                    .file_name()
                    .to_string_lossy()
                    .starts_with("doctor")
            })
    );
}

#[test]
fn before_the_first_start_nothing_fails_and_nothing_is_made() {
    let daemon = installation("");
    let (found, well) = doctor(&daemon);
    assert!(well, "{found:#?}");
    assert!(finding(&found, "data_dir").starts_with("warn "));
    assert!(finding(&found, "daemon").contains("switchboard run"));
    assert!(finding(&found, "listen").contains("is free"));
    assert!(!daemon.dir.path().join("data").exists());
}

#[test]
fn what_is_wrong_with_the_machine_is_said_with_what_to_do() {
    let daemon = installation("");
    daemon.run();
    assert!(daemon.terminate());
    let data = daemon.dir.path().join("data");
    let schema = format!(
        "version {}",
        switchboard::store::rows::migrations::SCHEMA_VERSION
    );
    check(&daemon, "schema", "ok ", &schema);
    let tables = rusqlite::Connection::open(data.join("switchboard.db")).unwrap();
    let newest = switchboard::store::rows::migrations::SCHEMA_VERSION;
    for (version, oldest, state, words) in [
        (
            newest - 1,
            newest - 1,
            "warn",
            "the next start of this build",
        ),
        (newest + 1, newest, "ok ", "this build has"),
        (newest + 1, newest + 1, "fail ", "run the newer build"),
        (newest, newest, "ok ", "this build has"),
    ] {
        let versions = format!(
            "PRAGMA user_version = {version}; UPDATE meta SET value = {oldest} WHERE key = 'schema_oldest'"
        );
        tables.execute_batch(&versions).unwrap();
        check(&daemon, "schema", state, words);
    }
    drop(tables);
    check(&daemon, "dead_letters", "ok ", "none");
    chmod(&data, 0o755);
    check(&daemon, "data_dir", "fail ", "chmod 700");
    chmod(&data, 0o700);
    let secret = daemon.dir.path().join("secret");
    chmod(&secret, 0o644);
    check(&daemon, "secrets", "warn ", "chmod o-rwx");
    let taken = std::net::TcpListener::bind(&daemon.address).unwrap();
    check(&daemon, "listen", "fail ", "change server.listen");
    drop(taken);
    let file = data.join("from-the-future");
    fs::write(&file, "").unwrap();
    let touch = ["touch", "-d", "2099-01-01", &file.display().to_string()].map(str::to_owned);
    let touched = std::process::Command::new(&touch[0])
        .args(&touch[1..])
        .status();
    assert!(touched.unwrap().success());
    check(&daemon, "clock", "fail ", "set the clock");
    fs::remove_file(&file).unwrap();
    fs::remove_file(&secret).unwrap();
    check(&daemon, "config", "fail ", "secret");
    daemon.write_config("[server]\nlissen = \"x\"\n");
    check(&daemon, "config", "fail ", "listen");
}

#[test]
fn a_public_url_that_leads_elsewhere_or_nowhere_fails() {
    let other = installation("");
    other.run();
    let elsewhere = installation(&format!("public_url = \"http://{}\"", other.address));
    elsewhere.run();
    check(&elsewhere, "public_url", "fail ", "another switchboard");
    let nowhere = installation(&format!(
        "public_url = \"http://127.0.0.1:{}\"",
        free_port()
    ));
    check(&nowhere, "public_url", "warn ", "start the daemon");
    nowhere.run();
    check(&nowhere, "public_url", "fail ", "look at the proxy");
}

#[test]
fn channels_and_held_answers_are_told() {
    let daemon = installation("");
    let config = fs::read_to_string(daemon.config()).unwrap();
    let port = free_port();
    daemon.write_config(&format!("{config}{}", mail_channel(port, port, "support")));
    daemon.run();
    let state = || {
        let (found, _) = doctor(&daemon);
        let of = |one: &&Value| {
            one["detail"]
                .as_str()
                .unwrap()
                .starts_with("support-mail is")
        };
        let channel = found.iter().find(of).cloned();
        channel.is_some_and(|one| one["state"] == "fail")
    };
    wait_until("the mailbox to be unreachable", PATIENCE, state);
    let token = daemon.token("ada");
    let sent = daemon
        .hook("shop-chat", &chat("m-1", "cust-7", "Hello?"))
        .unwrap();
    assert!(sent.status().is_success());
    let claimed = daemon.claim(&token, "frontline").expect("it");
    let reply = daemon.reply(&token, claimed["id"].as_str().unwrap(), "k-1", "Yes?");
    assert!(daemon.terminate());
    let held = daemon.command(&["outbox", "hold"]);
    assert!(held.status.success(), "{reply}");
    check(
        &daemon,
        "outbox",
        "warn ",
        "1 answer waits for a person to say what became of it",
    );
    daemon.run();
    check(
        &daemon,
        "outbox",
        "warn ",
        "switchboard outbox list --state unknown",
    );
}

/// The details of all findings of a check, each with its state.
fn details(daemon: &Installation, check: &str) -> Vec<String> {
    let (found, _) = doctor(daemon);
    let of = found.iter().filter(|one| one["check"] == check);
    of.map(|one| {
        let text = |key: &str| one[key].as_str().unwrap();
        format!("{} {}", text("state"), text("detail"))
    })
    .collect()
}

#[test]
fn both_servers_of_a_mailbox_are_tried_and_an_unproven_lane_is_not_called_ready() {
    let post = PostOffice::open();
    let daemon = installation("");
    let config = fs::read_to_string(daemon.config()).unwrap();
    daemon.write_config(&format!("{config}{}", post.config()));
    daemon.run();
    post.wait_for_reader();
    let said = details(&daemon, "channel");
    let has = |said: &[String], words: &str| said.iter().any(|line| line.contains(words));
    assert!(has(&said, "ok support-mail: imap 127.0.0.1:"), "{said:#?}");
    assert!(has(&said, ": signed in, INBOX open"), "{said:#?}");
    assert!(has(&said, "ok support-mail: smtp 127.0.0.1:"), "{said:#?}");
    let unproven = "ok outbound:support-mail: nothing was sent since the daemon started";
    assert!(has(&said, unproven), "{said:#?}");
    let token = daemon.token("ada");
    post.deliver(b"From: kim@customer.example\r\nTo: support@shop.example\r\nSubject: Order 17\r\nMessage-ID: <1@customer.example>\r\n\r\nWhere is it?\r\n".to_vec());
    let claimed = daemon.claim(&token, "frontline").expect("the mail");
    let id = claimed["id"].as_str().unwrap();
    let reply = daemon.reply(&token, id, "k-1", "On its way.");
    daemon.wait_for_delivery(&token, reply["id"].as_str().unwrap(), "sent");
    let said = details(&daemon, "channel");
    assert!(
        has(&said, "ok outbound:support-mail is ready, it sent at 20"),
        "{said:#?}"
    );
    let sent = String::from_utf8(post.sent().pop().unwrap().raw).unwrap();
    assert!(sent.contains("\r\nSubject: Re: Order 17\r\n"), "{sent}");
}

#[test]
fn a_switchboard_with_another_data_directory_is_known_for_one() {
    let other = installation("");
    other.run();
    let daemon = installation("");
    let config = fs::read_to_string(daemon.config()).unwrap();
    daemon.write_config(&config.replace(&daemon.address, &other.address));
    check(&daemon, "listen", "fail ", "a Switchboard daemon (version ");
    check(&daemon, "listen", "fail ", "--data-dir");
    assert!(other.terminate());
    check(&daemon, "listen", "ok ", "is free");
}

#[test]
fn secrets_in_the_daemons_environment_are_not_missed_in_the_shell() {
    let daemon = installation("");
    let config = fs::read_to_string(daemon.config()).unwrap();
    let in_env = |name: &str| {
        let reference = format!("{{ env = \"{name}\" }}");
        config.replace(&file_reference(&daemon), &reference)
    };
    daemon.write_config(&in_env("DOCTOR_TEST_SECRET"));
    assert!(in_env("X").contains("{ env = \"X\" }"), "{config}");
    check(&daemon, "config", "fail ", "DOCTOR_TEST_SECRET is not set");
    daemon.run_in(&[("DOCTOR_TEST_SECRET", SECRET)]);
    let (found, well) = doctor(&daemon);
    assert!(well, "{found:#?}");
    let said = finding(&found, "environment");
    let has =
        "ok DOCTOR_TEST_SECRET (for shop-chat) is not set in this shell; the running daemon has it";
    assert!(said.starts_with(has), "{said}");
    // One that came into the file since: the process cannot get it any more.
    daemon.write_config(&in_env("DOCTOR_TEST_LATER"));
    check(&daemon, "environment", "warn ", "was started without it");
    check(
        &daemon,
        "environment",
        "warn ",
        "restart the daemon with it, or write { file = ",
    );
    let reload = daemon.command(&["reload"]);
    let said = String::from_utf8(reload.stderr).unwrap();
    assert_eq!(reload.status.code(), Some(78), "{said}");
    let why = "the environment variable DOCTOR_TEST_LATER is not set in the running daemon, and a \
               reload cannot bring it: restart the daemon with it, or write { file = \"…\" }";
    assert!(said.contains(why), "{said}");
    check(
        &daemon,
        "part",
        "warn config is degraded",
        "correct what is named, then `switchboard reload`",
    );
    daemon.write_config(&in_env("DOCTOR_TEST_SECRET"));
    assert!(daemon.command(&["reload"]).status.success());
    let (found, _) = doctor(&daemon);
    assert!(found.iter().all(|one| one["check"] != "part"), "{found:#?}");
}

/// How the chat's secret is written in the configuration.
fn file_reference(daemon: &Installation) -> String {
    format!("{{ file = \"{}/secret\" }}", daemon.dir.path().display())
}

#[test]
fn a_port_that_contradicts_its_tls_setting_is_warned_of_wherever_the_configuration_is_read() {
    let daemon = installation("");
    let config = fs::read_to_string(daemon.config()).unwrap();
    let password = "password = { env = \"PATH\" }";
    let mail = format!(
        "[channels.mail]\nconnector = \"email\"\naddress = \"a@shop.example\"\n\
         imap = {{ host = \"localhost\", port = 993, tls = \"starttls\", {password} }}\n\
         smtp = {{ host = \"localhost\" }}\n"
    );
    daemon.write_config(&format!("{config}{mail}"));
    let checked = daemon.command(&["check-config"]);
    assert!(checked.status.success());
    let said = String::from_utf8(checked.stderr).unwrap();
    let line = config.lines().count() + 1;
    let expected = format!(
        "warning: {}:{line}: channels.mail: imap.tls = \"starttls\" and imap.port = 993 contradict",
        daemon.config().display()
    );
    assert!(said.starts_with(&expected), "{said}");
    let said = String::from_utf8(checked.stdout).unwrap();
    let read = format!("read from {}", daemon.config().display());
    assert!(
        said.contains("good: 2 channels, 1 queue, 0 rules"),
        "{said}"
    );
    assert!(said.contains(&read), "{said}");
    let warned = details(&daemon, "config");
    assert!(warned[1].starts_with("warn "), "{warned:?}");
    assert!(warned[1].contains("contradict each other"), "{warned:?}");
    daemon.run();
    assert!(daemon.log_text().contains("contradict each other"));
}

#[test]
fn another_file_than_the_daemons_is_told() {
    let daemon = installation("");
    daemon.run();
    let copy = daemon.dir.path().join("copy.toml");
    fs::copy(daemon.config(), &copy).unwrap();
    let output = std::process::Command::new(binary())
        .args(["doctor", "--config"])
        .arg(&copy)
        .arg("--data-dir")
        .arg(daemon.dir.path().join("data"))
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let warned = format!(
        "warn  config: the daemon reads {}",
        daemon.config().display()
    );
    assert!(said.contains(&warned), "{said}");
}

#[test]
fn over_tls_the_listener_is_asked_by_its_certificate_and_an_expired_one_fails() {
    let authority = Authority::new();
    let tls = "tls = { cert = \"{dir}/cert.pem\", key = \"{dir}/key.pem\" }";
    let daemon = installation(tls).over_tls(&authority.pem);
    authority.make(2100).put(daemon.dir.path());
    chmod(&daemon.dir.path().join("key.pem"), 0o600);
    daemon.run();
    check(&daemon, "listen", "ok ", "https://");
    check(&daemon, "tls", "ok ", "valid until 2100-01-01");
    assert!(daemon.terminate());
    authority.make(2021).put(daemon.dir.path());
    check(&daemon, "config", "fail ", "expired at 2021-01-01");
    check(&daemon, "tls", "fail ", "put a valid pair");
}
