//! What users of other desks complain about, as far as it happens between a mailbox and us. What
//! becomes of a mail once it is here is in the daemon's tests, whose `complaints.rs` has the list.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use connector_api::{CancellationToken, Connector, ErrorKind, InboundEvent};
use connector_testkit::{FakeProvider, FixedClock, RecordingIntake};
use serde_json::json;

use crate::fake_imap::Closed;
use crate::fake_mail::FakeMail;
use crate::mailbox::{Channel, build, build_with, texts};
use crate::mailboxes::has_place;

const HOUR: i64 = 60 * 60;

/// A customer writes every hour while nobody reads.
async fn hourly(fake: &FakeMail, clock: &FixedClock, hours: i64) -> Vec<String> {
    let mut said = Vec::new();
    for hour in 0..hours {
        fake.imap.later(HOUR);
        clock.advance(Duration::from_secs(HOUR.unsigned_abs()));
        let text = format!("hour {hour}");
        fake.customer_says(&text).await;
        said.push(text);
    }
    said
}

fn are_news(events: &[InboundEvent]) {
    assert!(events.iter().all(|event| !event.history));
}

#[tokio::test]
async fn chatwoot_10429_an_outage_of_days_loses_no_mail_of_its_first_days() {
    let fake = FakeMail::start().await;
    let clock = Arc::new(FixedClock::default());
    let channel = Channel::run(build_with(&fake, clock.clone(), |_| {}), None);
    fake.imap.listening().await;
    fake.imap.set(|options| options.is_down = true);
    fake.imap.cut();
    let said = hourly(&fake, &clock, 90).await;
    fake.imap.set(|options| options.is_down = false);
    let events = channel.events(90).await;
    assert_eq!(texts(&events), said);
    are_news(&events);
    channel.stop().await;
}

/// It scans what is at most 48 hours old.
#[tokio::test]
async fn libredesk_looks_back_two_days_here_a_mailbox_is_read_on_from_where_it_was_left() {
    let fake = FakeMail::start().await;
    let clock = Arc::new(FixedClock::default());
    let connector = || build_with(&fake, clock.clone(), |_| {});
    fake.customer_says("older than the channel").await;
    let channel = Channel::run(connector(), None);
    fake.imap.listening().await;
    let mut cursor = channel.stop().await;
    // The second time its numbers are other ones, too.
    for (is_renumbered, before) in [(false, 0), (true, 80)] {
        let said = hourly(&fake, &clock, 80).await;
        if is_renumbered {
            fake.imap.renumber();
        }
        let channel = Channel::run(connector(), cursor);
        let events = channel.events(80 + before).await;
        let found: BTreeSet<_> = texts(&events).into_iter().collect();
        assert_eq!(found, said.iter().map(String::as_str).collect());
        are_news(&events);
        cursor = channel.stop().await;
    }
}

/// It was dead until somebody restarted it, and then looked at the last ten.
#[tokio::test]
async fn chatwoot_6604_a_link_that_died_in_silence_is_left_and_all_that_came_meanwhile_is_read() {
    let fake = FakeMail::start().await;
    let connector = build(&fake, |config| {
        config["poll_interval"] = json!("1s");
        config["timeout"] = json!("1s");
    });
    let intake = Arc::new(RecordingIntake::new());
    let stop = CancellationToken::new();
    let run = || {
        let source = connector.stream_source().unwrap();
        tokio::time::timeout(
            Duration::from_secs(30),
            source.run(intake.cursor(), intake.clone(), stop.clone()),
        )
    };
    let die = async {
        fake.imap.listening().await;
        fake.imap.set(|options| options.is_dead = true);
    };
    let (ended, ()) = tokio::join!(run(), die);
    let error = ended.expect("it notices").unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    let mut said = Vec::new();
    for number in 0..60 {
        said.push(format!("{number}"));
        fake.customer_says(&said[number]).await;
    }
    // Nor does anybody answer a new connection.
    let error = run().await.expect("it notices").unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    fake.imap.set(|options| options.is_dead = false);
    let (_, ()) = tokio::join!(run(), async {
        intake.wait_for_events(60).await.unwrap();
        stop.cancel();
    });
    assert_eq!(texts(&intake.events()), said);
}

#[tokio::test]
async fn zammad_2754_a_mail_that_cannot_be_fetched_blocks_no_later_one() {
    let fake = FakeMail::start().await;
    let channel = Channel::open(&fake).await;
    fake.imap.set(|options| options.refused_bodies = [2].into());
    for text in ["first", "poisoned", "third"] {
        fake.customer_says(text).await;
    }
    let events = channel.events(3).await;
    assert_eq!(texts(&events), ["first", "", "third"]);
    let codes: Vec<&str> = events[1]
        .defects
        .iter()
        .map(|defect| defect.code.as_str())
        .collect();
    assert_eq!(codes, ["unreadable_on_server"]);
    channel.stop().await;
}

/// Runs a source as the daemon does, whatever its errors are, until it is stopped.
async fn follow(connector: &dyn Connector, intake: Arc<RecordingIntake>, stop: CancellationToken) {
    let source = connector.stream_source().unwrap();
    loop {
        let run = source.run(intake.cursor(), intake.clone(), stop.clone());
        if run.await.is_ok() {
            return;
        }
    }
}

/// Mailboxes of one channel share a connection; that of channels is tested with the daemon.
#[tokio::test]
async fn zammad_5540_a_mailbox_that_does_not_open_keeps_no_mail_of_the_others_waiting() {
    let mailboxes = ["INBOX", "Sales", "Returns"];
    for closed in [
        Closed::Refused("[NONEXISTENT] deleted"),
        Closed::Refused("[SERVERBUG] internal error"),
        Closed::HangsUp,
        Closed::Silent,
    ] {
        let fake = FakeMail::start().await;
        for mailbox in ["Returns", "Sales"] {
            fake.imap.create(mailbox);
        }
        let connector = build(&fake, |config| {
            config["poll_interval"] = json!("1s");
            config["timeout"] = json!("1s");
            config["imap"]["mailboxes"] = json!(mailboxes);
        });
        let (intake, stop) = (Arc::new(RecordingIntake::new()), CancellationToken::new());
        let says = |mailbox: &str, text: &str| {
            let (_, mail) = fake.mail("", text);
            fake.imap.deliver_to(mailbox, mail, None);
        };
        let talk = async {
            for mailbox in mailboxes {
                has_place(&intake, mailbox).await;
            }
            fake.imap
                .set(|options| options.closed = [("Returns".to_owned(), closed)].into());
            fake.imap.cut();
            for mailbox in mailboxes {
                says(mailbox, mailbox);
            }
            intake.wait_for_events(2).await.unwrap();
            let events = intake.events();
            let mut others = texts(&events);
            others.sort_unstable();
            assert_eq!(others, ["INBOX", "Sales"], "{closed:?}");
            fake.imap.set(|options| options.closed.clear());
            intake.wait_for_events(3).await.unwrap();
            assert_eq!(texts(&intake.events())[2], "Returns", "{closed:?}");
            stop.cancel();
        };
        tokio::join!(
            follow(connector.as_ref(), intake.clone(), stop.clone()),
            talk
        );
    }
}

/// It imports what is unread; and what it has read it marks, so that nobody knows any more.
#[tokio::test]
async fn freescout_3406_4064_a_mail_that_somebody_read_elsewhere_is_read_here_too() {
    for after in ["nothing", "seen"] {
        let fake = FakeMail::start().await;
        let connector = || {
            build(&fake, |config| {
                config["imap"]["after"] = json!(after);
            })
        };
        let channel = Channel::run(connector(), None);
        fake.imap.listening().await;
        let cursor = channel.stop().await;
        let said = ["opened on a telephone", "unread", "opened, too"];
        for (number, text) in said.iter().enumerate() {
            let (_, mail) = fake.mail("", text);
            let uid = fake.imap.deliver(mail);
            if number != 1 {
                fake.imap.see(uid);
            }
        }
        let channel = Channel::run(connector(), cursor);
        assert_eq!(texts(&channel.events(3).await), said, "{after}");
        channel.stop().await;
    }
}

/// A bulk job had kept its live messages waiting for up to an hour.
#[tokio::test]
async fn chatwoot_15857_a_mail_that_comes_within_a_long_history_is_read_before_the_rest_of_it() {
    let fake = FakeMail::start().await;
    for number in 0..1_000 {
        fake.customer_says(&format!("old {number}")).await;
    }
    let connector = build(&fake, |config| config["backfill"] = json!("30d"));
    let channel = Channel::run(connector, None);
    channel.intake.wait_for_events(100).await.unwrap();
    channel.intake.hold();
    channel.intake.wait_for_a_call().await.unwrap();
    let before = channel.intake.events().len();
    fake.customer_says("new").await;
    channel.intake.release();
    let events = channel.events(1_001).await;
    let at = events.iter().position(|event| !event.history).unwrap();
    assert_eq!(texts(&events)[at], "new");
    assert!(at <= before + 50, "{before} were read, then {at}");
    assert!(before < 900, "the history is still long: {before}");
    channel.stop().await;
}

/// Its fetcher handed mails to an API that was down, and took the next ones.
#[tokio::test]
async fn erxes_690_what_cannot_be_made_durable_stays_in_its_mailbox_and_is_read_again() {
    let fake = FakeMail::start().await;
    let channel = Channel::open(&fake).await;
    channel.intake.fail_next(20);
    let said = ["first", "second", "third"];
    for text in said {
        fake.customer_says(text).await;
    }
    channel.intake.wait_for_refusals(20).await.unwrap();
    assert_eq!(texts(&channel.events(3).await), said);
    channel.stop().await;
}
