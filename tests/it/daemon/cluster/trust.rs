//! What a configuration names that is not there, and passwords that are not taken.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use super::{ALL, Cluster, get, state};
use crate::daemon::process::{Installation, PATIENCE, chat, chat_config};
use crate::daemon::shop::Shop;
use crate::peers::postgres::Postgres;
use crate::peers::{self, wait_until};
use crate::support::kafka::broker;

#[test]
fn a_start_and_a_check_miss_the_same_things_and_say_where_they_are_named() {
    let files = tempfile::tempdir().unwrap();
    let dir = files.path().display();
    fs::write(files.path().join("there"), "a secret").unwrap();
    for (store, bus, keys) in [
        (
            "password = { file = \"DIR/away\" }\nblobs_dir = \"DIR/blobs\"",
            "",
            &["store.password"][..],
        ),
        (
            "password = { file = \"DIR\" }\nblobs_dir = \"DIR/there/blobs\"",
            "",
            &["store.password", "store.blobs_dir"],
        ),
        (
            "tls = \"on\"\nca_file = \"DIR/away\"\nblobs_dir = \"DIR/there\"",
            "",
            &["store.ca_file", "store.blobs_dir"],
        ),
        (
            "tls = \"on\"\nca_file = \"DIR/there\"\nblobs_dir = \"DIR/blobs\"",
            "librdkafka_secrets.\"ssl.key.password\" = { env = \"NOWHERE_SET\" }",
            &["store.ca_file", "bus.librdkafka_secrets.ssl.key.password"],
        ),
        (
            "blobs_url = \"s3://bucket\"\nblobs_access_key = { file = \"DIR/away\" }\n\
             blobs_secret_key = { file = \"DIR/away\" }\nblobs_ca_file = \"DIR/away\"",
            "",
            &[
                "store.blobs_access_key",
                "store.blobs_secret_key",
                "store.blobs_ca_file",
            ],
        ),
        (
            "blobs_url = \"s3://bucket\"\nblobs_access_key = { file = \"DIR/there\" }\n\
             blobs_secret_key = { file = \"DIR/there\" }\nblobs_ca_file = \"DIR/there\"",
            "",
            &["store.blobs_ca_file"],
        ),
    ] {
        let config = format!(
            "[bus]\nkind = \"kafka\"\nbrokers = [\"127.0.0.1:1\"]\n{bus}\n\
             [store]\nkind = \"postgres\"\nurl = \"postgres://switchboard@127.0.0.1:1/switchboard\"\n{store}\n"
        );
        let process = Installation::new(&config.replace("DIR", &dir.to_string()));
        for command in [
            &["check-config"][..],
            &["run", "--listen", &process.address],
        ] {
            let ended = process.command(command);
            let told = String::from_utf8_lossy(&ended.stderr).into_owned();
            assert_eq!(ended.status.code(), Some(78), "{command:?}: {told}");
            let said: Vec<&str> = told
                .lines()
                .filter(|line| line.contains("switchboard.toml:"))
                .collect();
            assert_eq!(said.len(), keys.len(), "{command:?}: {told}");
            for key in keys {
                let of_key = format!(": {key}: ");
                assert!(
                    said.iter().any(|line| line.contains(&of_key)),
                    "{key}: {told}"
                );
            }
        }
    }
}

#[test]
fn a_password_that_is_missing_or_wrong_is_a_state_until_it_is_right() {
    if !peers::enabled() {
        return;
    }
    let shop = Shop::open();
    let postgres = Arc::new(Postgres::asking("kim", "right"));
    let cluster = Cluster::with(broker(), postgres, chat_config(&shop.url));
    let url = cluster.database().replace("switchboard@", "kim@");
    let config = cluster.config(ALL, &url);
    let files = tempfile::tempdir().unwrap();
    let file = files.path().join("password");
    fs::write(&file, "wrong").unwrap();
    let named = format!("[store]\npassword = {{ file = \"{}\" }}\n", file.display());
    let none = Installation::new(&config);
    let wrong = Installation::new(&config.replace("[store]\n", &named));
    for (process, said) in [
        (
            &none,
            "no password was sent: name where it is in store.password",
        ),
        (
            &wrong,
            "put the password of the user of store.url where store.password says",
        ),
    ] {
        let mut command = process.command_line(
            std::path::Path::new(crate::daemon::process::binary()),
            &["run", "--listen", &process.address],
        );
        let mut child = command.stderr(std::process::Stdio::null()).spawn().unwrap();
        wait_until("it to answer", PATIENCE, || get(process, "/livez") == 200);
        wait_until("it to say why", PATIENCE, || {
            state(process, "store") == "unauthorized"
        });
        let answer = process.http.get(process.url("/readyz")).send().unwrap();
        assert_eq!(answer.status(), 503);
        let told = answer.text().unwrap();
        assert!(told.contains(said), "{told}");
        if said.contains("where store.password says") {
            fs::write(&file, "right\n").unwrap();
            wait_until("it to be let in", PATIENCE, || {
                get(process, "/readyz") == 200
            });
            let hook = process.hook("shop-chat", &chat("m1", "cust-7", "Hello?"));
            assert_eq!(hook.unwrap().status(), 200);
            let token = process.token("ada");
            assert!(process.claim(&token, "frontline").is_some());
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn the_doctor_warns_of_each_secret_of_store_and_bus_that_everybody_may_read() {
    let files = tempfile::tempdir().unwrap();
    let names = [
        "store-password",
        "access-key",
        "secret-key",
        "bus-secret",
        "passed-through",
    ];
    let at = |name: &str| files.path().join(name).display().to_string();
    for name in names {
        fs::write(at(name), "a secret").unwrap();
    }
    let [password, access, key, secret, through] = names.map(at);
    let config = format!(
        "[bus]\nkind = \"kafka\"\nbrokers = [\"127.0.0.1:1\"]\ntls = \"on\"\nsasl = \"scram-sha-256\"\nusername = \"u\"\n\
         password = {{ file = \"{secret}\" }}\nlibrdkafka_secrets.\"ssl.key.password\" = {{ file = \"{through}\" }}\n\
         [store]\nkind = \"postgres\"\nurl = \"postgres://switchboard@127.0.0.1:1/switchboard\"\n\
         password = {{ file = \"{password}\" }}\nblobs_url = \"s3://bucket\"\n\
         blobs_access_key = {{ file = \"{access}\" }}\nblobs_secret_key = {{ file = \"{key}\" }}\n"
    );
    let process = Installation::new(&config);
    let warned_of = || {
        let told = process.command(&["doctor"]);
        let told = String::from_utf8_lossy(&told.stdout).into_owned();
        let warns = |path: &&str| {
            let line = format!("everybody on this machine may read {}", at(path));
            told.lines()
                .any(|said| said.starts_with("warn  secrets: ") && said.contains(&line))
        };
        names.into_iter().filter(warns).collect::<Vec<_>>()
    };
    let mode = |name: &str, bits| {
        fs::set_permissions(at(name), fs::Permissions::from_mode(bits)).unwrap();
    };
    names.iter().for_each(|name| mode(name, 0o600));
    assert_eq!(warned_of(), Vec::<&str>::new());
    for open in names {
        mode(open, 0o644);
        assert_eq!(warned_of(), [open]);
        mode(open, 0o600);
    }
}
