//! What users of other desks complain about, where it takes a whole daemon to show it. The list is in
//! `tests/it/complaints.rs`.

use std::process::{Child, Stdio};

use super::mail::{proven, wait_for_mailbox};
use super::post_office::PostOffice;
use super::process::{Installation, PATIENCE, binary};
use crate::peers::{wait_for, wait_until};

fn hello(number: usize) -> Vec<u8> {
    let from = format!("c{number}@customer.example");
    proven(
        &from,
        "Hello",
        &format!("n-{number}"),
        "",
        &format!("mail {number}"),
    )
}

fn deliver(office: &PostOffice, numbers: std::ops::Range<usize>) {
    for number in numbers {
        office.deliver(hello(number));
    }
}

fn wait_for_conversations(daemon: &Installation, token: &str, count: usize) {
    let found = wait_for(&format!("{count} conversations"), PATIENCE, || {
        Some(daemon.conversations(token).len()).filter(|found| *found >= count)
    });
    assert_eq!(found, count);
}

/// One worker fetched 150 mailboxes one after another.
#[test]
fn zammad_5540_a_mailbox_whose_server_hangs_delays_no_other() {
    let (hanging, well) = (PostOffice::open(), PostOffice::open());
    let other = well.config().replace("support-mail", "sales-mail");
    let other = other.replace("support@shop.example\"\nauth", "sales@shop.example\"\nauth");
    let config = format!("[queues.frontline]\n{}{other}", hanging.config());
    let daemon = Installation::new(&config);
    hanging.go_dead(true);
    daemon.run();
    well.wait_for_reader();
    let token = daemon.token("ada");
    deliver(&hanging, 0..1);
    deliver(&well, 1..4);
    wait_for_conversations(&daemon, &token, 3);
    assert_eq!(daemon.channel_state("sales-mail").0, "ready");
    assert_ne!(daemon.channel_state("support-mail").0, "ready");
}

/// An option that had everything read again made tickets of all of it, and answered them.
#[test]
fn freescout_1611_a_mailbox_read_again_from_its_start_makes_nothing_new() {
    let office = PostOffice::open();
    let mailbox = office.config() + "acknowledge = \"We have it.\"\n";
    let daemon = Installation::start(&format!("[queues.frontline]\n{mailbox}"));
    office.wait_for_reader();
    let token = daemon.token("ada");
    deliver(&office, 0..30);
    wait_for_conversations(&daemon, &token, 30);
    wait_until("everybody to be acknowledged", PATIENCE, || {
        office.sent().len() == 30
    });
    office.renumber();
    let duplicates = "switchboard_routed_total{verdict=\"duplicate\"}";
    wait_until("everything to be read again", PATIENCE, || {
        daemon.metric(duplicates) >= 30.0
    });
    deliver(&office, 30..31);
    wait_for_conversations(&daemon, &token, 31);
    wait_until("the new one to be acknowledged", PATIENCE, || {
        office.sent().len() >= 31
    });
    assert_eq!(office.sent().len(), 31);
}

/// Whatever a test says, the process is gone after it.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The second scheduler made duplicates of some mails and took others away.
#[test]
fn zammad_5915_a_second_daemon_on_the_same_mailbox_ends_at_once_and_the_first_goes_on() {
    let office = PostOffice::open();
    let daemon = Installation::start(&format!("[queues.frontline]\n{}", office.config()));
    office.wait_for_reader();
    let token = daemon.token("ada");
    let args = ["run", "--listen", "127.0.0.1:0"];
    let mut command = daemon.command_line(std::path::Path::new(binary()), &args);
    let log = std::fs::File::create(daemon.dir.path().join("second.log")).unwrap();
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let mut second = Ended(command.stderr(log).spawn().unwrap());
    let ended = wait_for("the second to end", PATIENCE, || {
        second.0.try_wait().unwrap()
    });
    assert!(!ended.success());
    let said = std::fs::read_to_string(daemon.dir.path().join("second.log")).unwrap();
    assert!(said.contains("another switchboard runs"), "{said}");
    assert!(said.contains("`switchboard reload`"), "{said}");
    deliver(&office, 0..10);
    wait_for_conversations(&daemon, &token, 10);
}

/// Mails came minutes late, and nobody could say where they had been.
#[test]
fn chatwoot_15204_how_long_mails_take_and_where_is_measured() {
    let office = PostOffice::open();
    let daemon = Installation::start(&format!("[queues.frontline]\n{}", office.config()));
    wait_for_mailbox(&daemon);
    office.wait_for_reader();
    // It says that it was written months ago; here it is decided at once.
    office.deliver(hello(0));
    wait_for_conversations(&daemon, &daemon.token("ada"), 1);
    let delay = |side: &str, what: &str| {
        let of = "{channel=\"support-mail\"";
        daemon.metric(&format!("switchboard_delay_{side}_seconds_{what}{of}"))
    };
    wait_until("the measurements", PATIENCE, || {
        delay("decision", "count") == 1.0
    });
    assert_eq!(delay("arrival", "count"), 1.0);
    assert!(delay("arrival", "sum") > 7.0 * 86_400.0);
    assert!(delay("decision", "sum") < 60.0);
    let day = "switchboard_delay_arrival_seconds_bucket{channel=\"support-mail\",le=\"86400\"}";
    assert_eq!(daemon.metric(day), 0.0, "a day is told from more");
}
