//! A whole daemon on brokers that ask who it is, with no more rights than docs/kafka.md lists.

use super::{ALL, Cluster, PARTITIONS, state};
use crate::daemon::process::{Installation, PATIENCE, chat, chat_config};
use crate::daemon::shop::Shop;
use crate::peers::kafka::{Allowed, USER};
use crate::peers::{self, wait_until};
use crate::support::secured::{PASSWORD, TokenServer, guarded, listed};

/// What docs/kafka.md shows, with this broker's files.
fn shown(files: &std::path::Path) -> String {
    let document = include_str!("../../../../docs/kafka.md");
    let (_, section) = document.split_once("## TLS, SASL, ACLs").unwrap();
    let (_, example) = section.split_once("```toml\n").unwrap();
    let (example, _) = example.split_once("```").unwrap();
    let keys = example.lines().filter(|line| {
        let ours = ["[bus]", "kind = ", "brokers = "];
        !ours.iter().any(|begin| line.starts_with(begin))
    });
    let keys: Vec<&str> = keys.collect();
    let here = format!("{}/", files.display());
    keys.join("\n").replace("/etc/switchboard/", &here)
}

#[test]
fn each_way_to_say_who_we_are_takes_messages_in_and_the_listed_rights_are_enough() {
    if !peers::enabled() {
        return;
    }
    let (shop, guarded) = (Shop::open(), guarded());
    let queue_topics = "[fan_out]\nqueue_topics = true\n";
    let brokers = format!("127.0.0.1:{}", guarded.broker.sasl);
    let settings = format!("{queue_topics}{}", chat_config(&shop.url));
    let cluster = Cluster::on(brokers.clone(), 1, settings);
    let files = tempfile::tempdir().unwrap();
    let tokens = TokenServer::open(&guarded);
    let own = guarded.authority.make(2090);
    for (name, content) in [
        ("kafka-ca.pem", &guarded.authority.pem),
        ("kafka-password", &PASSWORD.to_owned()),
        ("own.pem", &own.cert),
        ("own.key", &own.key),
    ] {
        std::fs::write(files.path().join(name), content).unwrap();
    }
    let file = |name: &str| format!("\"{}\"", files.path().join(name).display());
    let (ca, password) = (file("kafka-ca.pem"), file("kafka-password"));
    let tls = format!("tls = \"on\"\nca_file = {ca}");
    let by_password = |sasl: &str| {
        format!(
            "{tls}\nsasl = \"{sasl}\"\nusername = \"switchboard\"\npassword = {{ file = {password} }}"
        )
    };
    let url = &tokens.url;
    let ways = [
        (shown(files.path()), guarded.broker.sasl),
        (by_password("plain"), guarded.broker.sasl),
        (by_password("scram-sha-256"), guarded.broker.sasl),
        (
            format!(
                "{tls}\nsasl = \"oauthbearer\"\ntoken_url = \"{url}\"\ntoken_ca_file = {ca}\nclient_id = \"switchboard\"\nclient_secret = {{ file = {password} }}\nscope = \"kafka\""
            ),
            guarded.broker.sasl,
        ),
        (
            format!(
                "{tls}\ncert_file = {}\nkey_file = {}",
                file("own.pem"),
                file("own.key")
            ),
            guarded.broker.tls,
        ),
    ];
    let alter = |one: &Allowed| one.operation == "ALTER_CONFIGS";
    let (alter, all): (Vec<Allowed>, _) = listed(&cluster.prefix).into_iter().partition(alter);
    guarded.broker.allow(USER, &all);
    let config = cluster.config(ALL, &cluster.database());
    let process = Installation::new(&config);
    let count = ways.len();
    for (number, (keys, port)) in ways.into_iter().enumerate() {
        let there = config.replace(&brokers, &format!("127.0.0.1:{port}"));
        process.write_config(&there.replace("[bus]\n", &format!("[bus]\n{keys}\n")));
        process.run();
        let said = chat(&format!("m{number}"), &format!("cust-{number}"), "Hello?");
        assert_eq!(
            process.hook("shop-chat", &said).unwrap().status(),
            200,
            "{keys}"
        );
        let token = process.token("ada");
        let decided = || process.conversations(&token).len() == number + 1;
        wait_until(
            &format!("what came to be decided with {keys}"),
            PATIENCE,
            decided,
        );
        for relay in ["work:relay-events", "work:relay-dead-letter"] {
            wait_until(relay, PATIENCE, || state(&process, relay) == "ready");
        }
        if number + 1 < count {
            assert!(process.terminate());
        }
    }
    let more = (2 * PARTITIONS).to_string();
    let grow = || {
        let done = process.command(&["bus", "grow", "--partitions", &more]);
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        (done.status.success(), said)
    };
    // Who is not believed hears why, and not that no broker answers.
    let believed = std::fs::read_to_string(process.config()).unwrap();
    let wrong = by_password("plain").replace(&password, &file("own.pem"));
    let there = config.replace("[bus]\n", &format!("[bus]\n{wrong}\n"));
    process.write_config(&there);
    let (grown, said) = grow();
    let mend = "refuses the credentials: mend bus.sasl, bus.username and bus.password";
    assert!(!grown && said.contains(mend), "{said}");
    process.write_config(&config);
    let (grown, said) = grow();
    assert!(
        !grown && said.contains("set bus.tls and bus.sasl"),
        "{said}"
    );
    process.write_config(&believed);
    let (grown, said) = grow();
    let missing = format!("{}.inbound: allow AlterConfigs on it", cluster.prefix);
    assert!(!grown && said.contains(&missing), "{said}");
    guarded.broker.allow(USER, &alter);
    let (grown, said) = grow();
    assert!(grown, "{said}");
    assert!(process.terminate());
}
