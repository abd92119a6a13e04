//! Moving an embedded installation into PostgreSQL and Kafka, with the real servers: what was there goes on, whatever
//! interrupts the move, and what must not be moved is refused.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::Ordering;

use serde_json::{Value, json};
use switchboard::blobs::{hex, sha256};

use crate::daemon::cluster::{ALL, Cluster};
use crate::daemon::process::{Installation, PATIENCE, binary, chat, chat_config, json_of};
use crate::peers::{self, Chaos, S3, wait_until};
use crate::support::Authority;

mod old;
mod refused;

use old::{DEAD, Old, UNDECIDED, events_after, found, shown_by, succeeds, wait_for_text};

/// The cluster that an installation is moved to.
fn cluster_for(old: &Old) -> Cluster {
    Cluster::new(chat_config(&old.shop.url))
}

/// The first process of a cluster, not started.
fn process_of(cluster: &Cluster) -> Installation {
    Installation::new(&cluster.config(ALL, &cluster.database()))
}

fn command(old: &Old, to: &Installation, args: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(["migrate", "--from"]).arg(old.data());
    command.arg("--to").arg(to.config()).args(args);
    command
}

fn migrate(old: &Old, to: &Installation, args: &[&str]) -> Output {
    command(old, to, args).output().unwrap()
}

/// Moves all that is missing; what the command reports.
fn moved(old: &Old, to: &Installation) -> Value {
    let output = migrate(old, to, &["--json"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A message without how far it got: one that waits is tried now and then.
fn settled(message: &Value) -> Value {
    let mut message = message.clone();
    for key in ["delivery", "reason"] {
        message.as_object_mut().unwrap().remove(key);
    }
    message
}

fn rows(report: &Value, table: &str) -> i64 {
    let tables = report["tables"].as_array().unwrap();
    let table = tables.iter().find(|one| one["name"] == table);
    table.unwrap()["rows"].as_i64().unwrap()
}

/// Starts the new installation and has everything that was going on in the old one go on.
fn goes_on(old: &Old, cluster: &Cluster, process: &Installation) {
    process.run();
    let token = &old.token;
    let conversation = |customer: &str| old.conversations[customer].as_str();

    // What was accepted and not decided is decided once.
    let [(_, _, second), (_, _, new)] = UNDECIDED;
    wait_for_text(process, token, conversation("cust-1"), second);
    wait_until("the new customer to be there", PATIENCE, || {
        process.conversations(token).len() == old.shown.len() + 1
    });
    let shown = shown_by(process, token);
    for (before, messages) in &old.shown {
        let (after, now) = shown
            .iter()
            .find(|(one, _)| one["id"] == before["id"])
            .expect("it is there");
        for key in [
            "id",
            "contact_id",
            "queue",
            "assignee",
            "subject",
            "snoozed_until",
        ] {
            assert_eq!(after[key], before[key], "{key}");
        }
        let plain = |messages: &[Value]| messages.iter().map(settled).collect::<Vec<_>>();
        assert_eq!(plain(&now[..messages.len()]), plain(messages));
        let added = now.len() - messages.len();
        assert_eq!(
            added,
            usize::from(before["id"] == conversation("cust-1")),
            "{now:#?}"
        );
    }
    let newest = shown
        .iter()
        .find(|(one, _)| !old.conversations.values().any(|id| one["id"] == *id));
    assert_eq!(newest.unwrap().1[0]["text"], new);
    let (after, heard) = &old.events;
    assert_eq!(&events_after(process, token, *after, 2), heard);

    // Files are read under their ids.
    let file = &old
        .shown
        .iter()
        .find_map(|(_, messages)| messages[0]["attachments"].get(0))
        .unwrap()["id"];
    let path = format!("/v1/attachments/{}", file.as_str().unwrap());
    let read = process
        .http
        .get(process.url(&path))
        .bearer_auth(token)
        .send()
        .unwrap();
    assert_eq!(read.bytes().unwrap(), old.photo);

    // What waited leaves once; what was held waits for its person.
    let held = process.get(token, &format!("/v1/messages/{}", old.held));
    assert_eq!(held["delivery"], "unknown");
    old.shop.closed.store(false, Ordering::SeqCst);
    process.wait_for_delivery(token, &old.queued, "sent");
    succeeds(
        process,
        &["outbox", "settle", "--restored", "--as", "retry"],
    );
    process.wait_for_delivery(token, &old.held, "sent");
    let reply = json!({ "text": "With the label.", "attachments": [old.upload] });
    let reply = process.write(token, conversation("cust-2"), "r9", &reply);
    process.wait_for_delivery(token, reply["id"].as_str().unwrap(), "sent");
    let repeated = process.reply(token, conversation("cust-1"), "r1", "It left today.");
    assert_eq!(repeated["delivery"], "sent", "the key is known");
    let texts = [
        "It left today.",
        "This one is held.",
        "This one waits.",
        "With the label.",
    ];
    let mut left: Vec<String> = old.shop.texts().into_iter().map(|(_, text)| text).collect();
    left.sort();
    assert_eq!(left, texts);
    assert_eq!(old.shop.deliveries(), texts.len(), "each once");

    // Events of before change nothing, whether they were decided there or here.
    let count = || {
        shown_by(process, token)
            .iter()
            .map(|(_, messages)| messages.len())
            .sum::<usize>()
    };
    let before = count();
    for (id, customer, text) in [
        ("m2", "cust-2", "It is broken."),
        UNDECIDED[0],
        ("m9", "cust-2", "Still broken."),
    ] {
        json_of(
            process
                .hook("shop-chat", &chat(id, customer, text))
                .unwrap(),
        );
    }
    wait_for_text(process, token, conversation("cust-2"), "Still broken.");
    assert_eq!(count(), before + 1);

    // Dead letters are there with their bytes, the foreign one too.
    let letters = succeeds(process, &["dead-letters", "list"]);
    let letters = letters
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    let letters: Vec<Value> = letters.collect();
    let of = |reason: &str| {
        let is_it = |letter: &&Value| {
            letter["state"] == "parked" && letter["reason"].as_str().unwrap().starts_with(reason)
        };
        let letter = letters.iter().find(is_it);
        let letter = letter.unwrap_or_else(|| panic!("{reason}: {letters:#?}"));
        letter["id"].as_str().unwrap().to_owned()
    };
    of("not an envelope");
    succeeds(process, &["dead-letters", "redrive", &of("because")]);
    wait_until("the letter to be filed", PATIENCE, || {
        let all = shown_by(process, token);
        all.iter()
            .any(|(_, messages)| messages[0]["text"] == DEAD.2)
    });

    // Words of before are found.
    wait_until("all words to be found", PATIENCE, || {
        !found(process, token, "zebra").is_empty()
    });
    let numbers = cluster.postgres.rows(
        cluster.database_name(),
        "SELECT id FROM message ORDER BY id",
    );
    assert!(numbers.len() > before, "{numbers:?}");
}

#[test]
fn an_installation_that_was_moved_goes_on_where_it_was() {
    if !peers::enabled() {
        return;
    }
    let old = Old::lived();
    let cluster = cluster_for(&old);
    let process = process_of(&cluster);
    let looked = migrate(&old, &process, &["--dry-run"]);
    let said = String::from_utf8_lossy(&looked.stdout);
    assert!(
        looked.status.success() && said.contains("nothing was copied"),
        "{said}"
    );
    let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";
    assert_eq!(
        cluster.postgres.rows(cluster.database_name(), tables),
        ["0"]
    );
    let report = moved(&old, &process);
    assert_eq!(report["undecided"], 3);
    assert_eq!(
        [
            rows(&report, "conversation"),
            rows(&report, "dead_letter"),
            rows(&report, "cursor")
        ],
        [3, 1, 1]
    );
    assert_eq!(
        report["files"]["count"], 3,
        "two that were sent, and the upload"
    );
    assert_eq!(
        moved(&old, &process)["before"],
        true,
        "the second time there is nothing to do"
    );
    goes_on(&old, &cluster, &process);
}

#[test]
fn an_installation_moves_into_a_bucket_behind_tls() {
    if !peers::enabled() {
        return;
    }
    let authority = Authority::new();
    let made = authority.make(2090);
    let s3 = S3::over_tls(&made.cert, &made.key, &authority.pem);
    let old = Old::lived();
    let cluster = cluster_for(&old);
    let config = cluster.config(ALL, &cluster.database());
    let on_disk = format!("blobs_dir = {:?}", cluster.files.path());
    assert!(config.contains(&on_disk));
    let in_bucket = |authority: &Path| {
        let bucket = format!(
            "blobs_url = \"s3://switchboard/shop\"\nblobs_endpoint = \"https://127.0.0.1:{}\"\nblobs_ca_file = {authority:?}\n\
             blobs_access_key = {{ file = \"{{dir}}/access\" }}\nblobs_secret_key = {{ file = \"{{dir}}/secret-key\" }}",
            s3.port,
        );
        let process = Installation::new(&config.replace(&on_disk, &bucket));
        let home = process.config().parent().unwrap().to_owned();
        std::fs::write(home.join("access"), &s3.access_key).unwrap();
        std::fs::write(home.join("secret-key"), &s3.secret_key).unwrap();
        process
    };
    // A server that somebody else vouches for gets nothing.
    let strange = cluster.files.path().join("strange.pem");
    std::fs::write(&strange, Authority::new().pem).unwrap();
    let refused = migrate(&old, &in_bucket(&strange), &["--json"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        !refused.status.success() && said.contains("certificate"),
        "{said}"
    );
    assert!(s3.names().is_empty());

    let process = in_bucket(&s3.authority());
    let report = moved(&old, &process);
    assert_eq!(report["files"]["count"], 3);
    let name = hex(&sha256(&old.photo));
    let object = format!("shop/{}/{name}", name.split_at(2).0);
    assert!(s3.names().contains(&object), "{:?}", s3.names());
    goes_on(&old, &cluster, &process);
}

#[test]
fn a_move_that_is_killed_at_any_step_goes_on_from_there() {
    if !peers::enabled() {
        return;
    }
    let old = Old::lived();
    let cluster = cluster_for(&old);
    let process = process_of(&cluster);
    let mut killed = 0;
    for lines in (1..).step_by(5) {
        let mut child = command(&old, &process, &["--json"]);
        let mut child = child
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let told = BufReader::new(child.stderr.take().unwrap())
            .lines()
            .take(lines)
            .count();
        if told < lines {
            assert!(child.wait().unwrap().success());
            break;
        }
        killed += 1;
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(killed > 5, "{killed}");
    let report = moved(&old, &process);
    assert_eq!(
        [rows(&report, "conversation"), rows(&report, "message")],
        [3, 6]
    );
    goes_on(&old, &cluster, &process);
}

#[test]
fn a_move_whose_database_is_cut_off_goes_on_from_there() {
    if !peers::enabled() {
        return;
    }
    let old = Old::lived();
    let cluster = cluster_for(&old);
    let chaos = Chaos::start(cluster.postgres.port);
    let behind = cluster.behind(&chaos);
    let mut cut = 0;
    for bytes in (2_000..).step_by(6_000) {
        chaos.cut_after_bytes(bytes);
        if migrate(&old, &behind, &["--json"]).status.success() {
            break;
        }
        cut += 1;
    }
    assert!(cut > 3, "{cut}");
    let process = process_of(&cluster);
    assert_eq!(moved(&old, &process)["before"], true);
    goes_on(&old, &cluster, &process);
}
