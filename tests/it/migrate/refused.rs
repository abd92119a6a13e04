//! What is not moved, and what the command says about it.

use super::old::Old;
use super::{cluster_for, command, migrate, moved, process_of};
use crate::daemon::cluster::{ALL, Cluster};
use crate::daemon::process::{Installation, PATIENCE, binary, chat, chat_config, json_of};
use crate::kafka::client;
use crate::peers::{self, wait_until};
use crate::support::kafka::settings;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::Ordering;
use std::time::Duration;
use switchboard::bus::kafka::{Settings, look};

/// How long a start that is refused may take: one that is not would run for ever.
const ENDS_WITHIN: Duration = Duration::from_secs(30);

/// The move is refused with these words.
fn check(old: &Old, to: &Installation, words: &str) {
    let output = migrate(old, to, &[]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(words), "{words}: {said}");
}

/// Has a move stop where it says this.
fn begin(old: &Old, to: &Installation, step: &str) {
    let mut child = command(old, to, &[]);
    let mut child = child
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let told = lines
        .map(Result::unwrap)
        .find(|line| line.starts_with(step));
    told.expect("it gets there");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn what_is_in_use_or_not_empty_is_refused() {
    if !peers::enabled() {
        return;
    }
    let old = Old::lived();
    let cluster = cluster_for(&old);
    let process = process_of(&cluster);

    old.daemon.run();
    check(&old, &process, "a switchboard runs on it: stop it first");
    assert!(old.daemon.terminate());
    let embedded = Installation::new(&chat_config(&old.shop.url));
    check(&old, &embedded, "set bus.kind = \"kafka\"");
    let config = cluster.config(ALL, &cluster.database());
    let files = cluster.files.path().display().to_string();
    let same = config.replace(&files, &old.data().join("blobs").display().to_string());
    check(
        &old,
        &Installation::new(&same),
        "store.blobs_dir is the directory",
    );

    process.run();
    check(&old, &process, "processes of switchboard are connected");
    assert!(process.terminate());
    check(
        &old,
        &process,
        "there is an installation in this database already",
    );

    let foreign = cluster_for(&old);
    let other = process_of(&foreign);
    foreign
        .postgres
        .run(foreign.database_name(), "CREATE TABLE theirs (id int)");
    check(&old, &other, "there is something else in this database");
    foreign
        .postgres
        .run(foreign.database_name(), "DROP TABLE theirs");
    put_on_topic(&foreign);
    check(&old, &other, "name another bus.prefix");
}

/// As if something else had this prefix.
fn put_on_topic(cluster: &Cluster) {
    let of = Settings {
        prefix: cluster.prefix.clone(),
        ..settings(cluster.brokers.clone(), 6)
    };
    let process = Installation::start(&cluster.config(ALL, &cluster.database()));
    assert!(process.terminate());
    cluster.postgres.run(
        cluster.database_name(),
        "DROP SCHEMA public CASCADE; CREATE SCHEMA public",
    );
    let writer: BaseProducer = client(&of).create().unwrap();
    let topic = of.topic();
    let record = BaseRecord::<str, [u8]>::to(&topic).payload(b"theirs");
    writer.send(record).map_err(|(error, _)| error).unwrap();
    writer.flush(PATIENCE).unwrap();
}

/// What a move would refuse is said all at once, by whoever only looks, too.
#[test]
fn all_that_is_in_the_way_of_a_move_is_said_at_once_and_without_making_anything() {
    if !peers::enabled() {
        return;
    }
    let old = Old::lived();
    let others = "[queues.others]\n[channels.other-chat]\nconnector = \"webhook\"\nqueue = \"others\"\n\
                  secrets = [{ file = \"{dir}/secret\" }]\n";
    let used = Cluster::new(others.to_owned());
    put_on_topic(&used);
    let away = Cluster::on("127.0.0.1:1".to_owned(), 1, others.to_owned());
    for (cluster, of_the_bus) in [
        (&used, "records on the topic"),
        (&away, "no Kafka broker answers at 127.0.0.1:1"),
    ] {
        let process = process_of(cluster);
        for args in [&["--dry-run"][..], &[]] {
            let output = migrate(&old, &process, args);
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{said}");
            for words in [
                of_the_bus,
                "[channels.shop-chat] is not in the new configuration, and answers wait to leave there: 2",
                "[channels.shop-chat] is not in the new configuration, and messages were accepted and not decided there: 2",
                "[queues.frontline] is not in the new configuration, and conversations are open there: 3",
            ] {
                assert!(said.contains(words), "{words}: {said}");
            }
        }
        let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";
        let made = cluster.postgres.rows(cluster.database_name(), tables);
        assert_eq!(made, ["0"]);
    }
    // A topic that nobody needs yet is not made by looking.
    let fresh = cluster_for(&old);
    let looked = migrate(&old, &process_of(&fresh), &["--dry-run"]);
    assert!(looked.status.success(), "{looked:?}");
    let of = Settings {
        prefix: fresh.prefix.clone(),
        ..settings(fresh.brokers.clone(), 6)
    };
    let there = within(look::records(&of));
    assert_eq!(there, Ok(None));
}

fn within<T>(asked: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().unwrap().block_on(asked)
}

#[test]
fn an_installation_that_was_moved_starts_where_it_was_only_if_somebody_says_so() {
    if !peers::enabled() {
        return;
    }
    let old = Old::lived();
    let cluster = cluster_for(&old);
    let process = process_of(&cluster);
    let mark = old.data().join("moved");
    begin(&old, &process, "comparing");
    assert!(!mark.exists(), "it is not moved yet");
    moved(&old, &process);
    let listen = ["run", "--listen", &old.daemon.address];
    let mut started = old.daemon.command_line(Path::new(binary()), &listen);
    let mut started = started.stderr(Stdio::piped()).spawn().unwrap();
    let mut ended = None;
    for _ in 0..ENDS_WITHIN.as_millis() / 10 {
        ended = started.try_wait().unwrap();
        if ended.is_some() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(started.kill());
    let output = started.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(ended.and_then(|status| status.code()), Some(78), "{said}");
    let to = format!("was moved to {}", cluster.database());
    for words in [
        to.as_str(),
        &cluster.prefix,
        "server.data_dir",
        "--restored",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert_eq!(moved(&old, &process)["before"], true, "nothing ran since");
    // What may have left elsewhere waits for a person.
    old.shop.closed.store(false, Ordering::SeqCst);
    let before = old.shop.deliveries();
    old.daemon.run_with(&["--restored"]);
    let queued = old
        .daemon
        .get(&old.token, &format!("/v1/messages/{}", old.queued));
    assert_eq!(queued["delivery"], "unknown");
    assert!(old.daemon.terminate());
    assert!(!mark.exists());
    old.daemon.run();
    assert_eq!(old.shop.deliveries(), before);
}

#[test]
fn a_half_filled_database_takes_only_what_it_was_begun_with_and_no_process_runs_on_it() {
    if !peers::enabled() {
        return;
    }
    let (old, stranger) = (Old::lived(), Old::lived());
    let cluster = cluster_for(&old);
    let process = process_of(&cluster);
    begin(&old, &process, "message: ");
    check(
        &stranger,
        &process,
        "a part of another installation is in this database",
    );
    // It waits, as for a database that is away, and goes on once the move is done.
    let waiting = process_of(&cluster);
    std::thread::scope(|scope| {
        scope.spawn(|| waiting.run());
        wait_until("it to say why it waits", PATIENCE, || {
            let answer = waiting.http.get(waiting.url("/readyz")).send();
            answer.is_ok_and(|answer| {
                answer
                    .text()
                    .unwrap()
                    .contains("is being moved into this database")
            })
        });
        moved(&old, &process);
    });
    assert!(waiting.conversations(&old.token).len() >= old.shown.len());

    let other = cluster_for(&stranger);
    let process = process_of(&other);
    begin(&stranger, &process, "message: ");
    stranger.daemon.run();
    json_of(
        stranger
            .daemon
            .hook("shop-chat", &chat("m8", "cust-8", "Since then."))
            .unwrap(),
    );
    assert!(stranger.daemon.terminate());
    check(&stranger, &process, "the installation has run since");
}

#[test]
fn what_is_not_what_was_copied_is_found_by_comparing() {
    if !peers::enabled() {
        return;
    }
    let old = Old::lived();
    for (change, words) in [
        (
            "UPDATE contact SET version = version + 1",
            "contact: the rows up to the key",
        ),
        (
            "DELETE FROM body WHERE id = (SELECT min(id) FROM body)",
            "body: the rows up to the key",
        ),
        (
            "INSERT INTO timer VALUES (9999999999999999, 7)",
            "timer: it has 2 rows instead of 1",
        ),
    ] {
        let cluster = cluster_for(&old);
        let process = process_of(&cluster);
        begin(&old, &process, "comparing");
        cluster.postgres.run(cluster.database_name(), change);
        check(&old, &process, words);
    }
    let cluster = cluster_for(&old);
    let process = process_of(&cluster);
    begin(&old, &process, "comparing");
    let files = cluster.files.path();
    let shelf = fs::read_dir(files)
        .unwrap()
        .find(|entry| entry.as_ref().unwrap().path().is_dir());
    let file = fs::read_dir(shelf.unwrap().unwrap().path())
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let mut bytes = fs::read(&file).unwrap();
    bytes[7] ^= 1;
    fs::write(&file, bytes).unwrap();
    check(&old, &process, "is not what it is named by");
}

#[test]
fn an_installation_that_ran_on_after_its_move_is_not_moved_again() {
    if !peers::enabled() {
        return;
    }
    let old = Old::lived();
    let cluster = cluster_for(&old);
    let process = process_of(&cluster);
    moved(&old, &process);
    // The way back, before anything was accepted by the new one: the old one is as it was.
    fs::remove_file(old.data().join("moved")).unwrap();
    old.daemon.run();
    let token = &old.token;
    wait_until("what was not decided to be decided", PATIENCE, || {
        old.daemon.conversations(token).len() == old.shown.len() + 1
    });
    assert!(old.daemon.terminate());
    let looked = migrate(&old, &process, &["--dry-run"]);
    let told = String::from_utf8_lossy(&looked.stderr);
    assert!(
        !looked.status.success() && told.contains("has run since where it was"),
        "{told}"
    );
    check(&old, &process, "has run since where it was");
}
