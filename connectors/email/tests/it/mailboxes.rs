//! Several mailboxes of a channel, what happens to mails once they are filed, and Google's ways.

use connector_api::{Connector, Cursor, Event, Health, InboundEvent};
use connector_testkit::RecordingIntake;
use serde_json::{Value, json};

use crate::fake_mail::FakeMail;
use crate::mailbox::{Channel, build, texts};

/// A channel that reads these mailboxes and does this to what it filed.
fn channel(fake: &FakeMail, mailboxes: &[&str], after: Value) -> Box<dyn Connector> {
    build(fake, |config| {
        config["poll_interval"] = json!("1s");
        config["imap"]["mailboxes"] = json!(mailboxes);
        config["imap"]["after"] = after;
    })
}

fn says(fake: &FakeMail, mailbox: &str, text: &str) -> u32 {
    let (_, mail) = fake.mail("", text);
    fake.imap.deliver_to(mailbox, mail, None)
}

fn sorted(events: &[InboundEvent]) -> Vec<&str> {
    let mut texts = texts(events);
    texts.sort_unstable();
    texts
}

pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let patience = std::time::Duration::from_secs(30);
    let wait = async {
        while !holds() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(patience, wait).await;
    assert!(waited.is_ok(), "waited in vain for {what}");
}

/// Returns once what lay in the mailbox before is known to be old.
pub async fn has_place(intake: &RecordingIntake, mailbox: &str) {
    until("a position in the mailbox", || {
        let cursor = intake.cursor();
        cursor.is_some_and(|cursor| !cursor.0["mailboxes"][mailbox].is_null())
    })
    .await;
}

#[tokio::test]
async fn each_mailbox_has_a_position_of_its_own_and_keeps_it() {
    let fake = FakeMail::start().await;
    says(&fake, "Returns", "older than the channel");
    let both = ["INBOX", "Returns"];
    let running = Channel::run(channel(&fake, &both, Value::Null), None);
    fake.imap.listening().await;
    has_place(&running.intake, "Returns").await;
    has_place(&running.intake, "INBOX").await;
    for round in 0..3 {
        says(&fake, "INBOX", &format!("in {round}"));
        says(&fake, "Returns", &format!("re {round}"));
    }
    let all = ["in 0", "in 1", "in 2", "re 0", "re 1", "re 2"];
    assert_eq!(sorted(&running.events(6).await), all);
    let cursor = running.stop().await;
    says(&fake, "Returns", "while down");
    let running = Channel::run(channel(&fake, &both, Value::Null), cursor);
    assert_eq!(texts(&running.events(1).await), ["while down"]);
    let commands = fake.imap.commands();
    assert!(!commands.iter().any(|one| one.starts_with("SELECT")));
    running.stop().await;
}

#[tokio::test]
async fn the_cursor_of_a_channel_with_one_mailbox_is_read_on() {
    let fake = FakeMail::start().await;
    for text in ["known", "known, too", "new"] {
        says(&fake, "INBOX", text);
    }
    let old = json!({ "uidvalidity": 7, "next_uid": 3, "recent": [1, 2], "old_below": 1, "old_until": null });
    let running = Channel::run(channel(&fake, &["INBOX"], Value::Null), Some(Cursor(old)));
    assert_eq!(texts(&running.events(1).await), ["new"]);
    running.stop().await;
}

#[tokio::test]
async fn a_missing_mailbox_is_said_with_those_that_are_there() {
    let fake = FakeMail::start().await;
    fake.imap.create("INBOX.Returns");
    let running = Channel::run(channel(&fake, &["INBOX", "Returns"], Value::Null), None);
    let error = running.task.await.unwrap().unwrap_err();
    assert_eq!(error.kind, connector_api::ErrorKind::Config);
    let told = error
        .message
        .ends_with("; there are \"INBOX\", \"INBOX.Returns\"");
    assert!(told, "{error}");
}

#[tokio::test]
async fn without_the_folder_to_move_to_mail_is_read_and_moved_once_it_is_there() {
    let fake = FakeMail::start().await;
    fake.imap.create("Archive");
    says(&fake, "INBOX", "older than the channel");
    let after = json!({ "move": "Done" });
    let running = Channel::run(channel(&fake, &["INBOX"], after.clone()), None);
    until("the channel to say so", || {
        running.intake.degraded().is_some()
    })
    .await;
    fake.imap.listening().await;
    let told = running.intake.degraded().unwrap_or_default();
    assert!(
        told.contains("\"Done\"") && told.contains("there are \"Archive\""),
        "{told}"
    );
    says(&fake, "INBOX", "one");
    running.events(1).await;
    says(&fake, "INBOX", "two");
    running.events(2).await;
    // It stays where it is, unread, and is known after a restart.
    running.task.abort();
    let cursor = running.intake.cursor();
    let left = [(1, false, false), (2, false, false), (3, false, false)];
    assert_eq!(fake.imap.mails_in("INBOX"), left);
    let running = Channel::run(channel(&fake, &["INBOX"], after), cursor);
    let is_said = || running.intake.degraded().is_some();
    until("it to be said again", is_said).await;
    fake.imap.create("Done");
    until("what was left to be moved", || {
        fake.imap.mails_in("Done").len() == 2
    })
    .await;
    assert_eq!(fake.imap.mails_in("INBOX"), left[..1]);
    assert_eq!(running.intake.degraded(), None);
    assert!(running.intake.events().is_empty(), "nothing is filed twice");
    running.stop().await;
}

#[tokio::test]
async fn a_login_that_may_not_open_the_mailbox_is_not_well() {
    let fake = FakeMail::start().await;
    let health = |mailbox| {
        let connector = channel(&fake, &[mailbox], Value::Null);
        async move { connector.health().await }
    };
    assert_eq!(health("INBOX").await, Health::Ready);
    let missing = health("Returns").await;
    assert!(matches!(missing, Health::Degraded { .. }), "{missing:?}");
}

/// Mails in the inbox and elsewhere after two were filed, for each way to finish them.
#[tokio::test]
async fn what_was_filed_is_marked_or_moved_and_nothing_else() {
    for (after, is_old, inbox, done) in [
        (
            json!("nothing"),
            false,
            vec![(1, false, false), (2, false, false), (3, false, false)],
            0,
        ),
        (
            json!("seen"),
            false,
            vec![(1, false, false), (2, true, false), (3, true, false)],
            0,
        ),
        (json!({ "move": "Done" }), false, vec![(1, false, false)], 2),
        (
            json!({ "move": "Done" }),
            true,
            vec![(1, false, false), (2, false, true), (3, false, true)],
            2,
        ),
    ] {
        let fake = FakeMail::start().await;
        fake.imap.create("Done");
        fake.imap.set(|options| options.is_old = is_old);
        says(&fake, "INBOX", "older than the channel");
        let running = Channel::run(channel(&fake, &["INBOX"], after.clone()), None);
        fake.imap.listening().await;
        says(&fake, "INBOX", "one");
        says(&fake, "INBOX", "two");
        running.events(2).await;
        until(&format!("{after}"), || {
            fake.imap.mails_in("INBOX") == inbox && fake.imap.mails_in("Done").len() == done
        })
        .await;
        running.stop().await;
    }
}

#[tokio::test]
async fn nothing_is_moved_before_it_is_durable_and_a_crash_in_between_leaves_nothing_unmoved() {
    let fake = FakeMail::start().await;
    fake.imap.create("Done");
    let after = json!({ "move": "Done" });
    let running = Channel::run(channel(&fake, &["INBOX"], after.clone()), None);
    fake.imap.listening().await;
    // Durable, and the server refuses to move it; then the process dies.
    fake.imap
        .set(|options| options.refused_changes = usize::MAX);
    says(&fake, "INBOX", "one");
    running.events(1).await;
    let refused = || {
        let commands = fake.imap.commands();
        commands.iter().any(|one| one.starts_with("UID MOVE"))
    };
    until("a try to move it", refused).await;
    running.task.abort();
    let cursor = running.intake.cursor();
    fake.imap.set(|options| options.refused_changes = 0);
    let running = Channel::run(channel(&fake, &["INBOX"], after.clone()), cursor);
    until("the first one to be moved", || {
        fake.imap.mails_in("Done").len() == 1
    })
    .await;
    // Not durable: it stays where it is.
    running.intake.fail_next(usize::MAX);
    says(&fake, "INBOX", "two");
    running.intake.wait_for_refusals(1).await.unwrap();
    running.task.abort();
    assert_eq!(fake.imap.mails_in("Done").len(), 1);
    assert_eq!(fake.imap.mails_in("INBOX").len(), 1);
}

#[tokio::test]
async fn a_mail_that_could_not_be_had_stays_where_people_see_it() {
    let fake = FakeMail::start().await;
    fake.imap.create("Done");
    let after = json!({ "move": "Done" });
    let running = Channel::run(channel(&fake, &["INBOX"], after), None);
    fake.imap.listening().await;
    says(&fake, "INBOX", "good");
    running.events(1).await;
    fake.imap
        .set(|options| options.claimed_size = Some(30 << 20));
    let uid = says(&fake, "INBOX", "said to be larger than the limit");
    running.events(2).await;
    fake.imap.set(|options| options.claimed_size = None);
    says(&fake, "INBOX", "good, too");
    running.events(3).await;
    until("the good ones to be moved", || {
        fake.imap.mails_in("Done").len() == 2
    })
    .await;
    assert_eq!(fake.imap.mails_in("INBOX"), [(uid, false, false)]);
    running.stop().await;
}

#[tokio::test]
async fn a_mail_that_somebody_moved_away_first_is_no_trouble() {
    let fake = FakeMail::start().await;
    fake.imap.create("Done");
    let running = Channel::run(channel(&fake, &["INBOX"], json!({ "move": "Done" })), None);
    fake.imap.listening().await;
    fake.imap.set(|options| options.refused_changes = 1);
    let uid = says(&fake, "INBOX", "taken away");
    running.events(1).await;
    fake.imap.delete(uid);
    says(&fake, "INBOX", "next");
    running.events(2).await;
    until("the next to be moved", || {
        fake.imap.mails_in("Done").len() == 1
    })
    .await;
    running.stop().await;
}

fn references(event: &InboundEvent) -> &[String] {
    match &event.event {
        Event::Message(message) => &message.thread.references,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_mail_that_google_shows_twice_is_fetched_once_and_its_thread_is_a_hint() {
    let fake = FakeMail::start().await;
    let (_, old) = fake.mail("", "older than the channel");
    fake.imap.deliver_to("INBOX", old, Some((1, 0xabc)));
    fake.imap.create("All Mail");
    let both = ["INBOX", "All Mail"];
    let running = Channel::run(channel(&fake, &both, Value::Null), None);
    fake.imap.listening().await;
    has_place(&running.intake, "All Mail").await;
    has_place(&running.intake, "INBOX").await;
    for number in 2..5 {
        let (_, mail) = fake.mail("", &format!("mail {number}"));
        fake.imap
            .deliver_to("INBOX", mail.clone(), Some((number, 0xabc)));
        running.events(usize::try_from(number - 1).unwrap()).await;
        fake.imap
            .deliver_to("All Mail", mail, Some((number, 0xabc)));
    }
    // What we sent lies there as well, under our own Message-ID.
    let ours = "From: support@shop.example\r\nTo: customer@example.org\r\nMessage-ID: <sbabcdefghijklmnopqrstuvwxyz.msg_1@shop.example>\r\n\r\nOur answer\r\n";
    fake.imap.deliver_to("All Mail", ours, Some((90, 0xabc)));
    let (_, archived) = fake.mail("", "by a rule past the inbox");
    fake.imap
        .deliver_to("All Mail", archived, Some((91, 0xdef)));
    let events = running.events(4).await;
    assert_eq!(
        texts(&events),
        ["mail 2", "mail 3", "mail 4", "by a rule past the inbox"]
    );
    assert_eq!(references(&events[0]), ["gm-thrid:abc"]);
    assert_eq!(references(&events[3]), ["gm-thrid:def"]);
    running.stop().await;
}

/// A staff answer to a customer as a mail program keeps it, with these header lines in front.
fn by_staff(headers: &str, id: &str) -> String {
    format!(
        "{headers}From: Support <support@shop.example>\r\nTo: Ada <customer@example.org>\r\nSubject: Re: A question\r\nMessage-ID: <{id}>\r\nContent-Type: text/plain\r\n\r\nwritten in a mail program\r\n"
    )
}

const OUR_TOKEN: &str = "sbabcdefghijklmnopqrstuvwxyz";

/// A colleague answers in a mail program: the mail is an echo to the customer, with whatever leads
/// to the conversation. What only says that it is ours stays a stranger's.
#[tokio::test]
async fn what_staff_writes_in_a_mail_program_is_an_echo_and_what_only_names_us_is_not() {
    let thread = format!(
        "In-Reply-To: <c-1@example.org>\r\nReferences: <{OUR_TOKEN}.msg_1@shop.example> <c-1@example.org>\r\n"
    );
    let stamp = "Authentication-Results: mx.shop.example; dmarc=fail\r\n";
    let submitted = "Received: from laptop by smtp.shop.example with ESMTPSA\r\n";
    let own_id = format!("X-Switchboard-ID: <{OUR_TOKEN}.msg_1@shop.example>\r\n");
    // Mailbox, its headers, whether Google has it, what comes of it.
    for (mailbox, headers, gmail, expected) in [
        ("Sent", String::new(), false, Some("echo")),
        ("Sent", thread.clone(), false, Some("echo")),
        ("Sent", submitted.to_owned(), false, Some("echo")),
        ("Sent", stamp.to_owned(), false, Some("message")),
        // Ours under an id that a service gave it: it is in its conversation already.
        ("Sent", own_id.clone(), false, None),
        (
            "Sent",
            "X-Loop: support@shop.example\r\n".to_owned(),
            false,
            None,
        ),
        ("All Mail", thread.clone(), true, Some("echo")),
        (
            "All Mail",
            format!("{stamp}{own_id}"),
            true,
            Some("message"),
        ),
        ("INBOX", thread.clone(), false, Some("message")),
        ("INBOX", stamp.to_owned(), true, Some("message")),
    ] {
        let case = format!("{mailbox} {headers}");
        let fake = FakeMail::start().await;
        let mailboxes = ["INBOX", "Sent", "All Mail"];
        for name in mailboxes {
            fake.imap.create(name);
        }
        let numbers = |number| gmail.then_some((number, 0xabc));
        // Older than the channel; it shows whether this is Google.
        let (_, old) = fake.mail("", "old");
        fake.imap.deliver_to("INBOX", old, numbers(1));
        let running = Channel::run(channel(&fake, &mailboxes, json!("seen")), None);
        fake.imap.listening().await;
        for name in mailboxes {
            has_place(&running.intake, name).await;
        }
        let mail = by_staff(&headers, "staff-1@laptop.example");
        let uid = fake.imap.deliver_to(mailbox, mail, numbers(2));
        // Whatever became of it, the next one is behind it.
        let (_, next) = fake.mail("", "next");
        fake.imap.deliver_to(mailbox, next, numbers(3));
        let count = 1 + usize::from(expected.is_some());
        let events = running.events(count).await;
        let kind = events.iter().rev().nth(1).map(|one| one.event.kind());
        assert_eq!(kind.map(|kind| kind.as_str()), expected, "{case}");
        if let Some(Event::Echo(message)) = events.first().map(|one| &one.event) {
            let to = &message.from.identities[0];
            assert_eq!(to.address, "customer@example.org", "{case}");
            assert!(to.evidence.is_verified(), "{case}");
            let hints = &message.thread;
            let is_threaded = headers.contains("In-Reply-To");
            assert_eq!(
                hints.reply_tokens.contains(&OUR_TOKEN.to_owned()),
                is_threaded
            );
            assert_eq!(
                hints.references.contains(&"c-1@example.org".to_owned()),
                is_threaded
            );
            if gmail {
                assert_eq!(hints.references.last().unwrap(), "gm-thrid:abc");
            }
            // People's own sent mail is left alone.
            until("the next one to be marked", || {
                let mails = fake.imap.mails_in(mailbox);
                mails.iter().any(|(at, is_seen, _)| *at > uid && *is_seen)
            })
            .await;
            assert!(
                fake.imap.mails_in(mailbox).contains(&(uid, false, false)),
                "{case}"
            );
        }
        running.stop().await;
    }
}

#[tokio::test]
async fn what_staff_wrote_before_the_channel_was_connected_is_an_echo_in_closed_history() {
    let fake = FakeMail::start().await;
    fake.imap
        .deliver_to("Sent", by_staff("", "staff-1@laptop.example"), None);
    let connector = build(&fake, |config| {
        config["imap"]["mailboxes"] = json!(["INBOX", "Sent"]);
        config["backfill"] = json!("36500d");
    });
    let running = Channel::run(connector, None);
    let events = running.events(1).await;
    assert!(matches!(events[0].event, Event::Echo(_)), "{events:?}");
    assert!(events[0].history);
    running.stop().await;
}
