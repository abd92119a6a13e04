//! What an import counts is what it filed itself: whoever else files the same, and wherever it was
//! stopped.

use std::process::Command;

use super::super::process::{Installation, chat_config};
use super::{EXIT_DATA, Files, PATIENCE, begun, import, line, number_before, said};
use crate::peers::wait_until;

#[test]
fn two_imports_of_the_same_messages_count_each_once() {
    const LINES: u64 = 3_000;
    let daemon = Installation::start(&chat_config("http://127.0.0.1:9/"));
    let files = Files::new();
    let lines: String = (1..=LINES as usize).map(line).collect();
    let paths = [
        files.write("one.jsonl", &lines),
        files.write("other.jsonl", &lines),
    ];
    let children = paths.map(|path| begun(&daemon, &path));
    let mut filed = 0;
    for child in children {
        let said = said(&child.wait_with_output().unwrap());
        let imported = number_before(&said, " imported");
        assert_eq!(imported + number_before(&said, " known"), LINES, "{said}");
        filed += imported;
    }
    assert_eq!(filed, LINES);
}

#[test]
fn a_second_import_of_the_same_files_is_refused_while_the_first_is_under_way() {
    const LINES: usize = 2_000;
    let daemon = Installation::start(&chat_config("http://127.0.0.1:9/"));
    let files = Files::new();
    let lines: String = (1..=LINES).map(line).collect();
    let path = files.write("events.jsonl", &lines);
    let mut first = begun(&daemon, &path);
    wait_until("some of it to be filed", PATIENCE, || {
        daemon.metric("switchboard_accepted_total") >= 100.0
    });
    signal("-STOP", first.id());
    let reason = "imported into this channel already";
    import(&daemon, &["shop-chat", &path], 1, reason);
    let live = import(&daemon, &["shop-chat", &path, "--live"], 0, "unreadable");
    let before = number_before(&live, " known");
    assert_eq!(before + number_before(&live, " imported"), LINES as u64);
    signal("-KILL", first.id());
    first.wait().unwrap();
    // Each of them files only what the other did not.
    let rest = import(&daemon, &["shop-chat", &path], 0, "going on");
    assert_eq!(number_before(&rest, " imported"), before);
}

fn signal(signal: &str, process: u32) {
    let sent = Command::new("kill")
        .args([signal, &process.to_string()])
        .status();
    assert!(sent.unwrap().success());
}

#[test]
fn an_import_that_was_killed_with_its_daemon_counts_what_it_had_filed() {
    const LINES: usize = 2_000;
    let daemon = Installation::start(&chat_config("http://127.0.0.1:9/"));
    let files = Files::new();
    let lines: String = (1..=LINES).map(line).collect();
    // Known within the file is known, however often it is begun.
    let path = files.write("events.jsonl", &format!("no event\n{lines}{}", line(1)));
    for accepted in [1.0, 300.0, 600.0] {
        let child = begun(&daemon, &path);
        wait_until("some of it to be filed", PATIENCE, || {
            daemon.metric("switchboard_accepted_total") >= accepted
        });
        daemon.kill_9();
        child.wait_with_output().unwrap();
        daemon.run();
    }
    let summary = format!("shop-chat: {LINES} imported, 1 known already, 1 unreadable");
    import(&daemon, &["shop-chat", &path], EXIT_DATA, &summary);
}
