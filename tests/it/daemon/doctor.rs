//! `doctor`: what it finds well, and what it finds wrong, with the daemon up and down.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;

use serde_json::Value;

use super::post_office::mail_channel;
use super::process::{Installation, PATIENCE, chat, chat_config};
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
    check(&daemon, "schema", "ok ", "version 1");
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
    check(&daemon, "outbox", "warn ", "1 answers wait");
    daemon.run();
    check(
        &daemon,
        "outbox",
        "warn ",
        "switchboard outbox list --state unknown",
    );
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
