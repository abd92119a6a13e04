//! Mailboxes of real IMAP servers: one suite for all of them, and a move from one to the other.

use std::os::unix::fs::MetadataExt;

use serde_json::Value;

use super::mail::{proven, wait_for_mailbox};
use super::process::{Installation, MAIL_PASSWORD, PATIENCE};
use crate::peers::imap::Imap;
use crate::peers::{self, Chaos, Cyrus, Dovecot, wait_for, wait_until};

const USER: &str = "support";

/// What the suite needs of a server.
trait Server {
    fn start() -> Self;
    fn port(&self) -> u16;
    /// A mail comes for [`USER`].
    fn deliver(&self, eml: &[u8]);
    /// Ends the user's sessions.
    fn kick(&self);

    fn client(&self) -> Imap {
        Imap::log_in(self.port(), USER, MAIL_PASSWORD)
    }
}

impl Server for Dovecot {
    fn start() -> Self {
        Dovecot::start()
    }

    fn port(&self) -> u16 {
        self.imap_port
    }

    fn deliver(&self, eml: &[u8]) {
        Dovecot::deliver(self, USER, eml);
    }

    fn kick(&self) {
        Dovecot::kick(self, USER);
    }
}

impl Server for Cyrus {
    fn start() -> Self {
        let cyrus = Cyrus::start();
        // The first login makes the mailbox.
        drop(Imap::log_in(cyrus.imap_port, USER, MAIL_PASSWORD));
        cyrus
    }

    fn port(&self) -> u16 {
        self.imap_port
    }

    fn deliver(&self, eml: &[u8]) {
        Cyrus::deliver(self, USER, eml);
    }

    fn kick(&self) {
        Cyrus::kick(self);
    }
}

pub fn mail(number: usize) -> Vec<u8> {
    let from = format!("c{number}@customer.example");
    proven(&from, "Hello", &format!("n-{number}"), "", &text(number))
}

fn text(number: usize) -> String {
    format!("mail {number}")
}

/// A configuration with a mailbox at this port; `imap` are more keys of its table.
pub fn config(port: u16, imap: &str) -> String {
    format!(
        "[queues.frontline]\n[channels.support-mail]\nconnector = \"email\"\nqueue = \"frontline\"\n\
         address = \"support@shop.example\"\nauthserv_id = \"mx.shop.example\"\npoll_interval = \"1s\"\n\
         imap = {{ host = \"127.0.0.1\", port = {port}, tls = \"none\", user = \"{USER}\", \
         password = {{ file = \"{{dir}}/mail-password\" }}{imap} }}\n\
         smtp = {{ host = \"127.0.0.1\", port = 9, tls = \"none\" }}\n"
    )
}

/// The first words of every conversation, sorted; each has one message.
fn said(daemon: &Installation, token: &str) -> Vec<String> {
    let mut said: Vec<String> = daemon
        .conversations(token)
        .iter()
        .map(|conversation| {
            let messages = daemon.messages(token, conversation["id"].as_str().unwrap());
            assert_eq!(messages.len(), 1, "{messages:?}");
            messages[0]["text"].as_str().unwrap_or_default().to_owned()
        })
        .collect();
    said.sort();
    said
}

pub fn wait_for_count(daemon: &Installation, token: &str, count: usize) -> Vec<Value> {
    wait_for(&format!("{count} conversations"), PATIENCE * 2, || {
        Some(daemon.conversations(token)).filter(|found| found.len() >= count)
    })
}

fn texts(numbers: std::ops::Range<usize>) -> Vec<String> {
    let mut texts: Vec<String> = numbers.map(text).collect();
    texts.sort();
    texts
}

fn mails_come_once_although_the_connection_is_cut_again_and_again<S: Server>() {
    let server = S::start();
    server.deliver(&mail(99));
    let chaos = Chaos::start(server.port());
    let daemon = Installation::start(&config(chaos.port, ""));
    wait_for_mailbox(&daemon);
    let token = daemon.token("ada");
    for number in 0..10 {
        server.deliver(&mail(number));
        match number % 2 {
            0 => chaos.cut_all(),
            _ => server.kick(),
        }
    }
    wait_for_count(&daemon, &token, 10);
    assert_eq!(said(&daemon, &token), texts(0..10));
}

fn several_mailboxes_are_read_and_what_was_filed_is_moved<S: Server>() {
    let server = S::start();
    let mut client = server.client();
    for mailbox in ["Returns", "Done"] {
        client.create(mailbox);
    }
    client.append("Returns", None, &mail(98));
    let imap = ", mailboxes = [\"INBOX\", \"Returns\"], after = { move = \"Done\" }";
    let daemon = Installation::start(&config(server.port(), imap));
    wait_for_mailbox(&daemon);
    let token = daemon.token("ada");
    for number in 0..6 {
        match number % 2 {
            0 => server.deliver(&mail(number)),
            _ => client.append("Returns", None, &mail(number)),
        }
    }
    wait_for_count(&daemon, &token, 6);
    wait_until("what was filed to be moved", PATIENCE, || {
        client.count("Done", "MESSAGES") == 6
    });
    assert_eq!(client.count("INBOX", "MESSAGES"), 0);
    assert_eq!(client.count("Returns", "MESSAGES"), 1, "the old one stays");
    assert_eq!(client.count("Done", "UNSEEN"), 6, "moved, not read");
    // Filed before a restart, moved by a person back into the inbox: known.
    let back = client.mails("Done").remove(0);
    client.append("INBOX", Some(&back.date), &back.raw);
    server.deliver(&mail(6));
    wait_for_count(&daemon, &token, 7);
    assert_eq!(said(&daemon, &token), texts(0..7));
}

fn what_was_filed_is_marked_as_seen_where_that_is_wanted_and_else_nothing_changes<S: Server>() {
    let server = S::start();
    let mut client = server.client();
    for (round, (imap, unseen)) in [("", 1), (", after = \"seen\"", 1)].into_iter().enumerate() {
        let daemon = Installation::start(&config(server.port(), imap));
        wait_for_mailbox(&daemon);
        let token = daemon.token("ada");
        server.deliver(&mail(round));
        wait_for_count(&daemon, &token, 1);
        wait_until("the mails to be as they should", PATIENCE, || {
            client.count("INBOX", "UNSEEN") == unseen
        });
        assert_eq!(client.count("INBOX", "MESSAGES"), round + 1);
    }
}

fn a_mailbox_that_is_not_there_is_said_with_those_that_are<S: Server>() {
    let server = S::start();
    server.client().create("Returns");
    let imap = ", mailboxes = [\"INBOX\", \"returns & co\"]";
    let daemon = Installation::start(&config(server.port(), imap));
    wait_until("the channel to say so", PATIENCE, || {
        let (state, reason) = daemon.channel_state("support-mail");
        let told = reason.contains("cannot open the mailbox \"returns & co\"");
        state == "unauthorized"
            && told
            && reason.contains("there are ")
            && reason.contains("\"Returns\"")
    });
}

fn a_backfill_is_history_and_news_do_not_wait_for_it<S: Server>() {
    let server = S::start();
    let mut client = server.client();
    for number in 0..120 {
        client.append("INBOX", None, &mail(number));
    }
    let config =
        config(server.port(), "").replace("poll_interval", "backfill = \"30d\"\npoll_interval");
    let daemon = Installation::start(&config);
    wait_for_mailbox(&daemon);
    let token = daemon.token("ada");
    server.deliver(&mail(120));
    let claimed = daemon.claim(&token, "frontline").expect("the new mail");
    assert_eq!(
        claimed["messages"][0]["text"],
        text(120),
        "history is closed"
    );
    wait_for_count(&daemon, &token, 121);
    assert_eq!(said(&daemon, &token), texts(0..121));
}

macro_rules! suite {
    ($server:ident $module:ident { $($journey:ident)* }) => {
        mod $module {
            $(
                #[test]
                fn $journey() {
                    if crate::peers::enabled() {
                        super::$journey::<super::$server>();
                    }
                }
            )*
        }
    };
    ($($server:ident $module:ident)*) => {
        $(suite! { $server $module {
            mails_come_once_although_the_connection_is_cut_again_and_again
            several_mailboxes_are_read_and_what_was_filed_is_moved
            what_was_filed_is_marked_as_seen_where_that_is_wanted_and_else_nothing_changes
            a_mailbox_that_is_not_there_is_said_with_those_that_are
            a_backfill_is_history_and_news_do_not_wait_for_it
        } })*
    };
}

suite! { Dovecot dovecot Cyrus cyrus }

/// Copies a mailbox as migrations do: every mail with its date of arrival, under new numbers.
fn copy(from: &impl Server, to: &impl Server) {
    let mut target = to.client();
    for kept in from.client().mails("INBOX") {
        target.append("INBOX", Some(&kept.date), &kept.raw);
    }
}

/// The second by the clock of files, which is not ahead of the servers'.
fn second(daemon: &Installation) -> i64 {
    let file = daemon.dir.path().join("second");
    std::fs::write(&file, "").unwrap();
    std::fs::metadata(&file).unwrap().mtime()
}

fn moved<A: Server, B: Server>() {
    if !peers::enabled() {
        return;
    }
    let old = A::start();
    old.deliver(&mail(99));
    let number = i64::try_from(old.client().count("INBOX", "UIDVALIDITY")).unwrap();
    let daemon = Installation::start(&config(old.port(), ""));
    wait_for_mailbox(&daemon);
    let token = daemon.token("ada");
    let newest = second(&daemon);
    for number in 0..30 {
        old.deliver(&mail(number));
    }
    wait_for_count(&daemon, &token, 30);
    assert!(daemon.terminate());
    // Both servers number their mailboxes by the second of their making, or by a later one. And mail of the newest old one's
    // second is told from it by its size alone, which here is the same.
    wait_until("another second", PATIENCE, || {
        second(&daemon) > newest.max(number)
    });
    // Two come while nobody reads: one before the copy is made, one after.
    old.deliver(&mail(30));
    let new = B::start();
    copy(&old, &new);
    new.deliver(&mail(31));
    let renumbered = new.client().count("INBOX", "UIDVALIDITY");
    assert_ne!(i64::try_from(renumbered).unwrap(), number);
    daemon.write_config(&config(new.port(), ""));
    daemon.run();
    wait_for_count(&daemon, &token, 32);
    new.deliver(&mail(32));
    wait_for_count(&daemon, &token, 33);
    assert_eq!(
        said(&daemon, &token),
        texts(0..33),
        "each once, and none from before"
    );
}

#[test]
fn a_mailbox_moved_from_dovecot_to_cyrus_re_ingests_nothing_and_misses_nothing() {
    moved::<Dovecot, Cyrus>();
}

#[test]
fn a_mailbox_moved_from_cyrus_to_dovecot_re_ingests_nothing_and_misses_nothing() {
    moved::<Cyrus, Dovecot>();
}
