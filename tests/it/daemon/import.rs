//! `import` as operators use it: files into a running daemon, and into a directory without one.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};

use super::post_office::PostOffice;
use super::process::{Installation, PATIENCE, binary, chat, chat_config};
use crate::peers::wait_until;

mod files;
mod numbers;

const EXIT_DATA: i32 = 65;
const EXIT_INTERRUPTED: i32 = 130;

/// A mail as it lies in a mailbox; without an id where `id` is empty.
fn mail(from: &str, to: &str, id: &str, headers: &str, text: &str) -> String {
    let id = match id {
        "" => String::new(),
        id => format!("Message-ID: <{id}>\n"),
    };
    format!(
        "From: Somebody <{from}>\nTo: <{to}>\nSubject: Order 7\n{id}{headers}\
         Date: Mon, 05 Jan 2026 09:00:00 +0000\n\n{text}\n"
    )
}

const SUPPORT: &str = "support@shop.example";
const KIM: &str = "kim@customer.example";

/// A customer's question, what the desk answered, her thanks, and a mail without an id whose
/// lines look like an mbox's own.
fn mails() -> Vec<String> {
    let answer = "In-Reply-To: <q@customer.example>\n";
    let thanks =
        "In-Reply-To: <a@shop.example>\nReferences: <q@customer.example> <a@shop.example>\n";
    vec![
        mail(
            KIM,
            SUPPORT,
            "q@customer.example",
            "",
            "My card is 4111 1111 1111 1111.",
        ),
        mail(SUPPORT, KIM, "a@shop.example", answer, "It leaves today."),
        mail(KIM, SUPPORT, "t@customer.example", thanks, "Thank you!"),
        mail(
            "lee@other.example",
            SUPPORT,
            "",
            "",
            "From here\n>From there\nnothing came.",
        ),
    ]
}

/// The same as an mboxrd.
fn mbox(mails: &[String]) -> String {
    let quoted = |line: &str| match line.trim_start_matches('>').starts_with("From ") {
        true => format!(">{line}\n"),
        false => format!("{line}\n"),
    };
    let mail = |mail: &String| -> String {
        let lines: String = mail.lines().map(quoted).collect();
        format!("From somebody@x.example Mon Jan  5 09:00:00 2026\n{lines}\n")
    };
    mails.iter().map(mail).collect()
}

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, content: &str) -> String {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path.display().to_string()
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }
}

fn said(output: &Output) -> String {
    let out = String::from_utf8_lossy(&output.stdout);
    format!("{out}{}", String::from_utf8_lossy(&output.stderr))
}

/// Imports, and checks what the summary says and how it ends.
fn import(daemon: &Installation, args: &[&str], code: i32, summary: &str) -> String {
    let output = daemon.command(&[&["import"], args].concat());
    let said = said(&output);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.contains(summary), "{said}");
    said
}

fn waiting(daemon: &Installation, token: &str) -> usize {
    let found = daemon.conversations(token);
    let queued = found.iter().filter(|one| one["status"] == "queued");
    queued.count()
}

#[test]
fn what_would_be_forgotten_at_once_is_not_imported_and_can_be_once_it_is_kept() {
    let post = PostOffice::open();
    let config = |kept: &str| {
        let channel = post.config();
        format!("[queues.frontline]\n{channel}[retention]\nresolved = \"{kept}\"\n")
    };
    let daemon = Installation::start(&config("730d"));
    let files = Files::new();
    let fresh = mail(KIM, SUPPORT, "q@customer.example", "", "Where is it?");
    let ancient = mail(KIM, SUPPORT, "o@customer.example", "", "Long ago.");
    let ancient = ancient.replace("05 Jan 2026", "05 Jan 2009");
    let path = files.write("inbox.mbox", &mbox(&[ancient, fresh]));
    let args = ["support-mail", path.as_str()];
    let one = "support-mail: 1 imported, 0 known already, 1 too old to be kept, 0 unreadable";
    let told = import(&daemon, &args, 0, one);
    assert!(told.contains("retention.resolved (730 days)"), "{told}");
    let token = daemon.token("ada");
    let found = daemon.conversations(&token);
    assert_eq!(found.len(), 1);
    for time in ["opened_at", "last_inbound_at", "resolved_at"] {
        let said = found[0][time].as_str().unwrap();
        assert!(said.starts_with("2026-01-05T09:00:00"), "{time}: {said}");
    }
    assert!(daemon.terminate());
    daemon.write_config(&config("10000d"));
    let other = "support-mail: 1 imported, 1 known already, 0 unreadable";
    import(&daemon, &args, 0, other);
}

#[test]
fn a_mailbox_from_files_is_closed_history_and_is_filed_once_whoever_shows_it_again() {
    let post = PostOffice::open();
    let config = format!(
        "[queues.frontline]\n{}acknowledge = \"We have it.\"\n",
        post.config()
    );
    let daemon = Installation::start(&config);
    post.wait_for_reader();
    let token = daemon.token("ada");
    let files = Files::new();
    let mails = mails();
    let path = files.write("inbox.mbox", &mbox(&mails));
    let four = "support-mail: 4 imported, 0 known already, 0 unreadable";
    import(&daemon, &["support-mail", &path], 0, four);

    let mut found = daemon.conversations(&token);
    // Newest first, by when they were filed.
    found.reverse();
    let statuses: Vec<&Value> = found.iter().map(|one| &one["status"]).collect();
    assert_eq!(statuses, ["closed", "closed"]);
    let told = daemon.messages(&token, found[0]["id"].as_str().unwrap());
    let authors: Vec<&Value> = told.iter().map(|one| &one["author"]).collect();
    assert_eq!(authors, ["customer", "echo", "customer"]);
    assert!(
        !told[0].to_string().contains("4111 1111 1111 1111"),
        "cards are redacted"
    );
    assert_eq!(told[1]["text"], "It leaves today.");
    let other = daemon.messages(&token, found[1]["id"].as_str().unwrap());
    assert_eq!(other[0]["text"], "From here\n>From there\nnothing came.");

    let known = "0 imported, 4 known already";
    import(&daemon, &["support-mail", &path], 0, known);
    import(&daemon, &["support-mail", &path, "--live"], 0, known);
    for (number, mail) in mails.iter().enumerate() {
        files.write(&format!("maildir/cur/{number}.x.host:2,S"), mail);
        files.write(&format!("mails/{number}.eml"), &mail.replace('\n', "\r\n"));
    }
    import(&daemon, &["support-mail", &files.path("maildir")], 0, known);
    import(&daemon, &["support-mail", &files.path("mails")], 0, known);
    // And the mailbox itself: one that is new tells when the others were read.
    for mail in mails
        .iter()
        .filter(|mail| !mail.contains("From: Somebody <support@"))
    {
        post.deliver(mail.replace('\n', "\r\n").into_bytes());
    }
    post.deliver(mail("new@other.example", SUPPORT, "n@other.example", "", "Hi").into_bytes());
    wait_until("the new mail to be filed", PATIENCE, || {
        waiting(&daemon, &token) == 1
    });
    assert_eq!(daemon.conversations(&token).len(), 3);
    assert_eq!(
        daemon
            .messages(&token, found[0]["id"].as_str().unwrap())
            .len(),
        3
    );
    wait_until("the new mail to be acknowledged", PATIENCE, || {
        !post.sent().is_empty()
    });
    assert_eq!(post.sent().len(), 1, "history is not");
}

#[test]
fn live_imports_are_queued_and_acknowledged_as_if_they_came_now() {
    let post = PostOffice::open();
    let config = format!(
        "[queues.frontline]\n{}acknowledge = \"We have it.\"\n",
        post.config()
    );
    let daemon = Installation::start(&config);
    let token = daemon.token("ada");
    let files = Files::new();
    let path = files.write(
        "one.eml",
        &mail(KIM, SUPPORT, "q@customer.example", "", "Hello?"),
    );
    import(&daemon, &["support-mail", &path, "--live"], 0, "1 imported");
    assert_eq!(waiting(&daemon, &token), 1);
    wait_until("it to be acknowledged", PATIENCE, || post.sent().len() == 1);
}

fn line(number: usize) -> String {
    format!(
        "{}\n",
        chat(&format!("m-{number}"), &format!("cust-{number}"), "Hello?")
    )
}

#[test]
fn events_from_files_are_known_by_what_was_pushed_and_bad_ones_are_named_and_stop_nobody() {
    let daemon = Installation::new(&chat_config("http://127.0.0.1:9/"));
    daemon.run();
    let token = daemon.token("ada");
    let pushed = chat("m-1", "cust-1", "Hello?");
    assert!(
        daemon
            .hook("shop-chat", &pushed)
            .unwrap()
            .status()
            .is_success()
    );
    wait_until("it to be filed", PATIENCE, || waiting(&daemon, &token) == 1);
    let files = Files::new();
    let bad = json!({ "type": "message", "id": "m-3", "text": "from nobody" });
    let printed = json!({ "kind": "message", "dedupe_key": "message:m-4", "text": "x" });
    let batch = json!({ "events": [pushed, bad] });
    let content = format!(
        "{}\n{}{bad}\n{printed}\n{batch}\nnot json\n{}",
        line(1),
        line(2),
        line(2)
    );
    let path = files.write("events.jsonl", &content);
    let summary = "shop-chat: 1 imported, 2 known already, 4 unreadable";
    let said = import(&daemon, &["shop-chat", &path], EXIT_DATA, summary);
    for (number, reason) in [
        (4, "from: missing"),
        (5, "`switchboard parse` prints"),
        (6, "events[1].from: missing"),
        (7, "expected an object"),
    ] {
        let place = format!("events.jsonl: line {number}: ");
        let named = said.lines().find(|line| line.contains(&place));
        assert!(named.is_some_and(|line| line.contains(reason)), "{said}");
    }
    assert_eq!(waiting(&daemon, &token), 1, "the imported one is closed");
    assert_eq!(daemon.conversations(&token).len(), 2);
}

#[test]
fn files_that_the_channel_cannot_read_are_refused_with_what_it_reads() {
    let post = PostOffice::open();
    let config = format!("{}{}", chat_config("http://127.0.0.1:9/"), post.config());
    let daemon = Installation::new(&config);
    let files = Files::new();
    let jsonl = files.write("events.jsonl", &line(1));
    let mails = files.write("inbox.mbox", &mbox(&mails()));
    let rubbish = files.write("picture.mbox", "GIF89a");
    fs::create_dir(files.path("empty")).unwrap();
    for (args, code, reason) in [
        (["support-mail", &jsonl], EXIT_DATA, "reads mails"),
        (["shop-chat", &mails], EXIT_DATA, "reads JSONL"),
        (["support-mail", &rubbish], EXIT_DATA, "is no mbox"),
        (
            ["support-mail", &files.path("empty")],
            EXIT_DATA,
            "neither .eml files nor a Maildir",
        ),
        (["support-mail", &files.path("none")], 1, "No such file"),
        (
            ["support", &mails],
            1,
            "there is no channel support; there are shop-chat, support-mail",
        ),
    ] {
        import(&daemon, &args, code, reason);
    }
    let bytes = files.write("rubbish.eml", "\u{1}\u{2}\u{3}");
    let reason = "it begins with no header";
    import(&daemon, &["support-mail", &bytes], EXIT_DATA, reason);
}

#[test]
fn without_a_daemon_files_go_into_its_directory_and_it_starts_with_them() {
    let daemon = Installation::new(&chat_config("http://127.0.0.1:9/"));
    let files = Files::new();
    let path = files.write("events.jsonl", &format!("{}{}", line(1), line(2)));
    import(&daemon, &["shop-chat", &path, "--live"], 0, "2 imported");
    import(&daemon, &["shop-chat", &path], 0, "2 known already");
    daemon.run();
    let token = daemon.token("ada");
    assert_eq!(waiting(&daemon, &token), 2);
    import(&daemon, &["shop-chat", &path], 0, "2 known already");
}

/// An import of events that runs.
fn begun(daemon: &Installation, path: &str) -> Child {
    Command::new(binary())
        .args(["import", "shop-chat", path, "--config"])
        .arg(daemon.config())
        .arg("--data-dir")
        .arg(daemon.dir.path().join("data"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Imports until the first line on standard error is there, and then stops as Ctrl-C does.
fn stopped(daemon: &Installation, path: &str) -> (Option<i32>, String) {
    let mut child = begun(daemon, path);
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut first = String::new();
    stderr.read_line(&mut first).unwrap();
    let kill = format!("kill -INT {}", child.id());
    assert!(
        Command::new("sh")
            .args(["-c", &kill])
            .status()
            .unwrap()
            .success()
    );
    let output = child.wait_with_output().unwrap();
    (output.status.code(), format!("{first}{}", said(&output)))
}

fn number_before(text: &str, word: &str) -> u64 {
    let before = text.split(word).next().unwrap();
    let digits: Vec<&str> = before.split(|c: char| !c.is_ascii_digit()).collect();
    digits
        .iter()
        .rev()
        .find(|it| !it.is_empty())
        .unwrap()
        .parse()
        .unwrap()
}

#[test]
fn a_stopped_import_goes_on_where_it_was_and_all_of_it_is_filed_once() {
    const LINES: usize = 4_000;
    let daemon = Installation::start(&chat_config("http://127.0.0.1:9/"));
    let token = daemon.token("ada");
    let files = Files::new();
    let lines: String = (1..=LINES).map(line).collect();
    let path = files.write("events.jsonl", &format!("no event\n{lines}"));
    let (code, said) = stopped(&daemon, &path);
    assert_eq!(code, Some(EXIT_INTERRUPTED), "{said}");
    let first = number_before(&said, " imported");
    assert!(first < LINES as u64, "{said}");
    // The file may grow meanwhile; what is behind the place must be what it was.
    fs::write(&path, format!("no event\n{lines}{}", line(LINES + 1))).unwrap();
    let summary = format!("{} imported, 0 known already, 1 unreadable", LINES + 1);
    let said = import(&daemon, &["shop-chat", &path], EXIT_DATA, &summary);
    assert!(
        said.contains("going on where an earlier import stopped"),
        "{said}"
    );
    assert_eq!(daemon.conversations(&token).len(), LINES + 1);
}

#[test]
fn a_file_that_is_another_one_now_is_read_from_its_start() {
    let daemon = Installation::start(&chat_config("http://127.0.0.1:9/"));
    let files = Files::new();
    let lines: String = (1..=4_000).map(line).collect();
    let path = files.write("events.jsonl", &format!("no event\n{lines}"));
    let (code, said) = stopped(&daemon, &path);
    assert_eq!(code, Some(EXIT_INTERRUPTED), "{said}");
    let others: String = (10_001..=14_500).map(line).collect();
    fs::write(&path, others).unwrap();
    let said = import(
        &daemon,
        &["shop-chat", &path],
        0,
        "4500 imported, 0 known already",
    );
    assert!(!said.contains("going on"), "{said}");
}

#[test]
fn a_daemon_that_is_killed_under_an_import_loses_and_doubles_nothing() {
    const LINES: usize = 3_000;
    let daemon = Installation::start(&chat_config("http://127.0.0.1:9/"));
    let files = Files::new();
    let lines: String = (1..=LINES).map(line).collect();
    let path = files.write("events.jsonl", &lines);
    let child = begun(&daemon, &path);
    wait_until("some of it to be filed", PATIENCE, || {
        daemon.metric("switchboard_accepted_total") >= 300.0
    });
    daemon.kill_9();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(
        said(&output).contains("the daemon ended"),
        "{}",
        said(&output)
    );
    daemon.run();
    let summary = format!("{LINES} imported, 0 known already, 0 unreadable");
    import(&daemon, &["shop-chat", &path], 0, &summary);
    let token = daemon.token("ada");
    let found = daemon.conversations(&token);
    assert_eq!(found.len(), LINES);
    assert!(found.iter().all(|one| one["status"] == "closed"));
}

/// Most memory a process had, in KiB.
fn memory_kib(process: u32) -> Option<u64> {
    let status = fs::read_to_string(
        PathBuf::from("/proc")
            .join(process.to_string())
            .join("status"),
    );
    let status = status.ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[test]
fn a_large_file_is_never_in_memory() {
    use std::io::Write;
    let daemon = Installation::start(&chat_config("http://127.0.0.1:9/"));
    let files = Files::new();
    // 400 MiB in lines that the channel cannot read: reading alone is what is measured.
    let path = files.write("events.jsonl", "");
    let mut file = fs::File::options()
        .append(true)
        .open(Path::new(&path))
        .unwrap();
    let line = format!("{}\n", "x".repeat(1024 * 1024 - 1));
    for _ in 0..400 {
        file.write_all(line.as_bytes()).unwrap();
    }
    let mut child = Command::new(binary())
        .args(["import", "shop-chat", &path, "--config"])
        .arg(daemon.config())
        .arg("--data-dir")
        .arg(daemon.dir.path().join("data"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut most = 0;
    wait_until("the import to end", PATIENCE * 4, || {
        most = most.max(memory_kib(child.id()).unwrap_or(0));
        child.try_wait().unwrap().is_some()
    });
    assert!(most > 0 && most < 150 * 1024, "{most} KiB");
}
