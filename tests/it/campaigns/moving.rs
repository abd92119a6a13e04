//! A large embedded installation is moved and the move is killed on its way, again and again.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::{CLUSTER, Entry, close, size};
use crate::daemon::cluster::{ALL, Cluster};
use crate::daemon::process::{Installation, PATIENCE, binary, chat, chat_config, json_of};
use crate::daemon::shop::Shop;
use crate::peers::{self, wait_until};

/// Conversations that go on.
const LOOKED_AT: usize = 20;

/// Where the move is killed: half-way through a table, or where it says this.
const STEPS: [&str; 3] = ["identity: ", "message: ", "comparing"];

#[test]
fn an_installation_is_moved_with_interruptions() {
    if !peers::enabled() {
        return;
    }
    let (conversations, _) = size((500, 3), (100_000, 3));
    let shop = Shop::open();
    let old = Installation::new(&chat_config(&shop.url));
    let events = old.dir.path().join("events.jsonl");
    write_events(&events, conversations);
    let imported = old.command(&[
        "import",
        "--live",
        "shop-chat",
        &events.display().to_string(),
    ]);
    let said = String::from_utf8_lossy(&imported.stderr);
    assert!(imported.status.success(), "{said}");
    old.run();
    let token = old.token("ada");
    let shown = newest(&old, &token);
    assert!(old.terminate());

    let cluster = Cluster::new(chat_config(&shop.url));
    let process = Installation::new(&cluster.config(ALL, &cluster.database()));
    let command = || {
        let mut command = Command::new(binary());
        command
            .args(["migrate", "--json", "--from"])
            .arg(old.dir.path().join("data"));
        command.arg("--to").arg(process.config());
        command
    };
    for step in STEPS {
        let mut child = command();
        let child = child.stderr(Stdio::piped()).stdout(Stdio::null()).spawn();
        let mut child = child.unwrap();
        let mut told = BufReader::new(child.stderr.take().unwrap()).lines();
        told.find(|line| is_half(line.as_ref().unwrap(), step))
            .expect("it gets there")
            .unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let begun = peers::now();
    let last = command().output().unwrap();
    let took = begun.elapsed();
    let said = String::from_utf8_lossy(&last.stderr);
    let mut violations = Vec::new();
    if !last.status.success() {
        violations.push(format!("it is not moved: {said}"));
        return end(violations);
    }
    println!("{conversations} conversations, the last run took {took:?}");
    let report: Value = serde_json::from_slice(&last.stdout).unwrap();
    for table in report["tables"].as_array().unwrap() {
        let (name, rows) = (
            table["name"].as_str().unwrap(),
            table["rows"].as_i64().unwrap(),
        );
        if ["conversation", "message", "contact"].contains(&name) && rows != conversations as i64 {
            violations.push(format!("{rows} rows of {name} instead of {conversations}"));
        }
    }
    process.run();
    let after = newest(&process, &token);
    if after != shown {
        violations.push(format!("{after:?} instead of {shown:?}"));
    }
    for customer in looked_at(conversations) {
        let name = format!("cust-{customer}");
        let again = chat(&format!("again-{customer}"), &name, "And then?");
        json_of(process.hook("shop-chat", &again).unwrap());
        let known = chat(&format!("first-{customer}"), &name, &said_by(customer));
        json_of(process.hook("shop-chat", &known).unwrap());
    }
    let count = "SELECT count(*) FROM message";
    let expected = conversations + LOOKED_AT;
    wait_until("what came since to be decided", PATIENCE, || {
        cluster.postgres.rows(cluster.database_name(), count) == [expected.to_string()]
    });
    let opened = cluster
        .postgres
        .rows(cluster.database_name(), "SELECT count(*) FROM conversation");
    if opened != [conversations.to_string()] {
        violations.push(format!(
            "{opened:?} conversations: some did not join theirs"
        ));
    }
    end(violations);
}

fn end(violations: Vec<String>) {
    close(&Entry {
        campaign: "moving",
        on: CLUSTER,
        seed: 0,
        trials: STEPS.len(),
        longest: None,
        violations,
    });
}

/// `message: 5000 of 12000 rows`, or a step that has no rows.
fn is_half(line: &str, step: &str) -> bool {
    let Some(rest) = line.strip_prefix(step) else {
        return false;
    };
    let numbers: Vec<u64> = rest
        .split(' ')
        .filter_map(|word| word.parse().ok())
        .collect();
    match numbers[..] {
        [done, all] => done * 2 >= all,
        _ => true,
    }
}

fn said_by(customer: usize) -> String {
    format!(
        "Customer {customer} has something to say about order {}.",
        customer * 7
    )
}

/// One event a line, of a customer each.
fn write_events(path: &Path, customers: usize) {
    let mut file = std::io::BufWriter::new(fs::File::create(path).unwrap());
    for customer in 0..customers {
        let name = format!("cust-{customer}");
        let said = chat(&format!("first-{customer}"), &name, &said_by(customer));
        writeln!(file, "{said}").unwrap();
    }
}

fn looked_at(conversations: usize) -> impl Iterator<Item = usize> {
    (0..conversations)
        .step_by(conversations / LOOKED_AT)
        .take(LOOKED_AT)
}

/// Ids of the newest conversations and of their contacts.
fn newest(process: &Installation, token: &str) -> Vec<(Value, Value)> {
    let page = process.get(token, "/v1/conversations?limit=100");
    let items = page["items"].as_array().unwrap().iter();
    let ids = items.map(|item| (item["id"].clone(), item["contact_id"].clone()));
    ids.collect()
}
