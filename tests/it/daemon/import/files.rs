//! Files that cannot be read, that are passed over, or that are no files at all: said, never silent.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use super::super::post_office::PostOffice;
use super::super::process::{Installation, chat_config};
use super::{EXIT_DATA, Files, KIM, SUPPORT, import, mail};

fn installation(post: &PostOffice) -> Installation {
    Installation::new(&format!("[queues.frontline]\n{}", post.config()))
}

fn numbered(number: usize) -> String {
    let id = format!("{number}@customer.example");
    mail(KIM, SUPPORT, &id, "", "Where is it?")
}

#[test]
fn a_directory_that_cannot_be_read_is_named_and_stops_nobody() {
    let post = PostOffice::open();
    let daemon = installation(&post);
    let files = Files::new();
    files.write("mails/a/1.eml", &numbered(1));
    files.write("mails/z/2.eml", &numbered(2));
    // Its path is longer than a system call takes, whoever asks.
    let long = format!("{}/", "n".repeat(250)).repeat(17);
    let made = Command::new("mkdir")
        .args(["-p", &long])
        .current_dir(files.path("mails"))
        .status();
    assert!(made.unwrap().success());
    let summary = "2 imported, 0 known already, 1 unreadable";
    let path = files.path("mails");
    let said = import(&daemon, &["support-mail", &path], EXIT_DATA, summary);
    assert!(said.contains("File name too long"), "{said}");
}

#[test]
fn what_is_passed_over_is_said_at_the_end() {
    let post = PostOffice::open();
    let daemon = installation(&post);
    let files = Files::new();
    files.write("box/cur/1.a:2,S", &numbered(1));
    files.write("box/.Sent/cur/2.b:2,S", &numbered(2));
    files.write("box/.Archive/cur/3.c:2,S", &numbered(3));
    files.write("mails/4.eml", &numbered(4));
    files.write("mails/5.eml.gz", "\u{1f}");
    symlink(files.path("mails/4.eml"), files.path("mails/5.eml")).unwrap();
    for (name, passed_over) in [
        ("box", "2 subfolders (.Archive, .Sent)"),
        ("mails", "1 link (5.eml), 1 other file (5.eml.gz)"),
    ] {
        let path = files.path(name);
        let said = import(&daemon, &["support-mail", &path], 0, "1 imported");
        let line = format!("{name}: passed over: {passed_over}\n");
        assert!(said.contains(&line), "{said}");
    }
}

#[test]
fn a_mailbox_whose_mails_cannot_be_told_apart_is_refused_and_not_one_mail() {
    let post = PostOffice::open();
    let daemon = installation(&post);
    let files = Files::new();
    // No program writes this: "From: " is gone, and a word that is no header stands there.
    let broken = numbered(1).replacen("From: ", "Author ", 1);
    let one = format!("From \n{broken}\n");
    let path = files.write("inbox.mbox", &one.repeat(3));
    let summary = "0 imported, 0 known already, 1 unreadable";
    let said = import(&daemon, &["support-mail", &path], EXIT_DATA, summary);
    assert!(said.contains("2 more lines begin with \"From \""), "{said}");
}

#[test]
fn what_cannot_be_read_twice_or_is_packed_is_refused_with_what_to_do() {
    let daemon = Installation::new(&chat_config("http://127.0.0.1:9/"));
    let files = Files::new();
    let path = files.write("events.jsonl", "{}\n");
    fs::write(files.path("events.gz"), b"\x1f\x8b\x08\0").unwrap();
    let made = Command::new("mkfifo").arg(files.path("pipe")).status();
    assert!(made.unwrap().success());
    for (path, code, reason) in [
        (files.path("events.gz"), EXIT_DATA, "gunzip -k"),
        (files.path("pipe"), 1, "is no file"),
        ("/dev/null".to_owned(), 1, "is no file"),
        ("-".to_owned(), 1, "is no file"),
        (format!("{path}.none"), 1, "No such file"),
    ] {
        let said = import(&daemon, &["shop-chat", &path], code, reason);
        if code == 1 && reason == "is no file" {
            assert!(said.contains("goes on where it was stopped"), "{said}");
        }
    }
}
