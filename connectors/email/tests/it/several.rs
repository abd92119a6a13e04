//! One mail to several people, of whom some are not taken; sizes; connections used again.

use std::time::Duration;

use connector_api::{ErrorKind, OutboundMessage};
use connector_testkit::FixedClock;

use crate::composing::person;
use crate::fake_mail::FakeMail;
use crate::fake_smtp::Fault;
use crate::sending::{build, build_at, message};

fn to_three() -> OutboundMessage {
    let mut message = message();
    message.accepted_at = connector_testkit::now();
    message.cc = vec![person("Bob", "bob@example.org")];
    message.bcc = vec![person("Eve", "eve@example.org")];
    message
}

/// Sends to Ada, Bob and Eve; an `answers` for each who is not taken.
async fn check(
    verp: bool,
    waited: Duration,
    answers: &[(&str, &str)],
    expected: std::result::Result<&str, ErrorKind>,
) {
    let fake = FakeMail::start().await;
    for (who, answer) in answers {
        fake.smtp
            .answer_recipient(&format!("{who}@example.org"), answer);
    }
    let clock = FixedClock::default();
    clock.advance(waited);
    let connector = build_at(&fake, clock, verp);
    let sent = connector.sender().unwrap().send(&to_three()).await;
    let mut got: Vec<String> = fake
        .smtp
        .taken()
        .into_iter()
        .flat_map(|one| one.to)
        .collect();
    got.sort();
    match (sent, expected) {
        (Ok(receipt), Ok(expected)) => {
            let names: Vec<_> = got.iter().filter_map(|one| one.split('@').next()).collect();
            assert_eq!(names.join(" "), expected, "{answers:?}");
            for no in &receipt.refused {
                assert!(!got.contains(&no.address), "{} got it", no.address);
                assert!(no.reason.contains("no such"), "{}", no.reason);
                assert!(!no.reason.contains('@'), "{}", no.reason);
            }
            assert_eq!(got.len() + receipt.refused.len(), 3, "nobody is left out");
        }
        (Err(error), Err(kind)) => {
            assert_eq!(error.kind, kind, "{answers:?}: {error}");
            assert!(got.is_empty(), "{answers:?}: some got it: {got:?}");
        }
        (found, expected) => panic!("{answers:?}: {found:?}, expected {expected:?}"),
    }
}

#[tokio::test]
async fn who_is_refused_is_told_and_the_others_get_it_once() {
    const NO: &str = "550 5.1.1 <x@example.org>: no such user";
    const LATER: &str = "450 4.2.0 no such luck, greylisted";
    let (early, late) = (Duration::from_secs(5), Duration::from_secs(3_700));
    for verp in [false, true] {
        check(verp, early, &[], Ok("ada bob eve")).await;
        check(verp, early, &[("bob", NO)], Ok("ada eve")).await;
        check(verp, early, &[("ada", NO), ("eve", NO)], Ok("bob")).await;
        let all = [("ada", NO), ("bob", NO), ("eve", NO)];
        check(verp, early, &all, Err(ErrorKind::Rejected)).await;
        // Put off: everybody waits, for an hour.
        check(verp, early, &[("eve", LATER)], Err(ErrorKind::Unavailable)).await;
        check(verp, late, &[("eve", LATER)], Ok("ada bob")).await;
        check(verp, late, &[("eve", LATER), ("bob", NO)], Ok("ada")).await;
        // Whom it answers is waited for.
        check(verp, late, &[("ada", LATER)], Err(ErrorKind::Unavailable)).await;
    }
}

#[tokio::test]
async fn a_server_that_hangs_up_over_a_recipient_says_nothing_about_them() {
    for answer in ["421 4.3.2 going down", "530 5.7.0 log in first"] {
        let fake = FakeMail::start().await;
        fake.smtp.answer_recipient("bob@example.org", answer);
        let sent = build(&fake).sender().unwrap().send(&to_three()).await;
        let kind = sent.unwrap_err().kind;
        assert!(
            matches!(kind, ErrorKind::Unavailable | ErrorKind::Auth),
            "{kind:?}"
        );
        assert!(fake.smtp.taken().is_empty());
    }
}

/// With VERP each copy leaves by itself. Sends to Ada, Bob and Eve over connections with these
/// faults; who got how many, then who is said to have none, or perhaps none.
async fn check_copies(faults: &[Fault], expected: &str) {
    let fake = FakeMail::start().await;
    for fault in faults {
        fake.smtp.fail_next(fault.clone());
    }
    let connector = build_at(&fake, FixedClock::default(), true);
    let receipt = connector.sender().unwrap().send(&to_three()).await.unwrap();
    let name = |address: &str| address.split('@').next().unwrap().to_owned();
    let got = fake.smtp.taken().into_iter().flat_map(|one| one.to);
    let mut got: Vec<String> = got.map(|to| name(&to)).collect();
    got.sort();
    let told = receipt.refused.iter().map(|one| {
        let sure = if one.unknown { "perhaps" } else { "not" };
        format!("{sure} {}: {}", name(&one.address), one.reason)
    });
    let told: Vec<String> = told.collect();
    let place = format!("smtp {}: ", fake.smtp.address);
    let told = told.join("; ").replace(&place, "");
    let found = format!("{} | {told}", got.join(" "));
    assert_eq!(found, expected, "{faults:?}");
}

#[tokio::test]
async fn what_breaks_between_two_copies_is_tried_again_and_nobody_gets_a_second_one() {
    let down = || Fault::Answer("MAIL", "451 4.3.0 down".to_owned());
    check_copies(&[Fault::HangUpAfter(1)], "ada bob eve | ").await;
    // Down for a while.
    let passing = [Fault::HangUpAfter(1), down(), Fault::HangUp("EHLO"), down()];
    check_copies(&passing, "ada bob eve | ").await;
    // Its answer was lost: it may be there, and the rest is sent all the same.
    let lost = [Fault::HangUpAfter(1), Fault::HangUp(".")];
    check_copies(
        &lost,
        "ada bob eve | perhaps eve: the mail was handed over and no answer came back",
    )
    .await;
    // Refused for good.
    let no = Fault::Answer(".", "554 5.7.1 spam".to_owned());
    check_copies(
        &[Fault::HangUpAfter(1), no],
        "ada bob | not eve: cannot hand over the mail: 554 5.7.1 spam",
    )
    .await;
}

#[tokio::test]
async fn who_is_not_reached_in_the_end_is_told_as_such() {
    let down = Fault::Answer("MAIL", "451 4.3.0 down".to_owned());
    let mut faults = vec![Fault::HangUpAfter(1)];
    faults.resize(12, down);
    let words = "not handed over in 4 tries: cannot MAIL: 451 4.3.0 down";
    check_copies(
        &faults,
        &format!("ada | not bob: {words}; not eve: {words}"),
    )
    .await;
}

/// A greylisting server knows sender and recipient together.
#[tokio::test]
async fn each_recipient_is_asked_about_with_the_sender_of_their_copy() {
    let fake = FakeMail::start().await;
    let connector = build_at(&fake, FixedClock::default(), true);
    connector.sender().unwrap().send(&to_three()).await.unwrap();
    let mut pairs: Vec<(String, String)> = Vec::new();
    let mut from = String::new();
    for command in fake.smtp.commands() {
        if let Some(sender) = command.strip_prefix("MAIL FROM:") {
            from = sender.to_owned();
        } else if let Some(to) = command.strip_prefix("RCPT TO:") {
            pairs.push((from.clone(), to.to_owned()));
        }
    }
    let (asked, sent) = pairs.split_at(3);
    assert_eq!(asked, sent);
    assert!(
        asked.iter().all(|(from, _)| from.contains("+msg_")),
        "{asked:?}"
    );
}

/// Amazon SES takes no null sender.
#[tokio::test]
async fn an_automatic_mail_has_our_address_where_the_server_refuses_the_null_sender() {
    for refusal in [
        "501 Invalid MAIL FROM address provided",
        "553 5.7.1 <>: Sender address rejected: not owned by user support",
    ] {
        our_address_stands_in_for_none(refusal).await;
    }
}

async fn our_address_stands_in_for_none(refusal: &str) {
    let fake = FakeMail::start().await;
    fake.smtp.answer_null_sender(refusal);
    let connector = build(&fake);
    let sender = connector.sender().unwrap();
    let mut automatic = message();
    automatic.automatic = true;
    let nulls = || {
        let commands = fake.smtp.commands();
        commands
            .iter()
            .filter(|one| one.starts_with("MAIL FROM:<>"))
            .count()
    };
    for _ in 0..2 {
        sender.send(&automatic).await.unwrap();
    }
    let from: Vec<String> = fake.smtp.taken().into_iter().map(|one| one.from).collect();
    assert_eq!(from, ["support@shop.example", "support@shop.example"]);
    assert_eq!(nulls(), 1, "it is remembered");
    assert_eq!(
        fake.smtp.connections(),
        2,
        "asked again over the same connection"
    );
}

#[tokio::test]
async fn a_null_sender_is_given_up_only_where_our_address_is_taken_in_its_place() {
    for (answer, kind, tries) in [
        ("451 4.3.0 down", ErrorKind::Unavailable, 1),
        ("550 5.7.1 nothing from you", ErrorKind::Rejected, 2),
    ] {
        let fake = FakeMail::start().await;
        let connector = build(&fake);
        let sender = connector.sender().unwrap();
        let mut automatic = message();
        automatic.automatic = true;
        fake.smtp
            .fail_next(Fault::Answer("MAIL", answer.to_owned()));
        let error = sender.send(&automatic).await.unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
        let commands = fake.smtp.commands();
        let mails = commands.iter().filter(|one| one.starts_with("MAIL"));
        assert_eq!(mails.count(), tries, "{answer}");
        sender.send(&automatic).await.unwrap();
        assert_eq!(fake.smtp.taken()[0].from, "");
    }
}

#[tokio::test]
async fn each_copy_has_a_return_path_of_its_own_and_automatic_mail_none() {
    const ID: &str = "support+msg_01990000000070008000000000000001";
    let senders = async |message: &OutboundMessage| {
        let fake = FakeMail::start().await;
        let connector = build_at(&fake, FixedClock::default(), true);
        connector.sender().unwrap().send(message).await.unwrap();
        let taken = fake.smtp.taken();
        let all_equal = taken.iter().all(|one| one.raw == taken[0].raw);
        assert!(all_equal, "one mail, whoever gets it");
        taken.into_iter().map(|one| one.from).collect::<Vec<_>>()
    };
    assert_eq!(senders(&message()).await, [format!("{ID}@shop.example")]);
    assert_eq!(
        senders(&to_three()).await,
        [1, 2, 3].map(|place| format!("{ID}.{place}@shop.example"))
    );
    let mut automatic = message();
    automatic.automatic = true;
    assert_eq!(senders(&automatic).await, [""]);
}

#[tokio::test]
async fn a_mail_that_its_server_would_not_take_is_refused_before_it_is_written() {
    let fake = FakeMail::start().await;
    fake.smtp.limit_size(700);
    let connector = build(&fake);
    let sender = connector.sender().unwrap();
    let mut long = message();
    long.text = "long ".repeat(100);
    let error = sender.send(&long).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::TooLarge, "{error}");
    assert!(error.message.contains("at most 700"), "{error}");
    assert_eq!(fake.smtp.data_commands(), 0);
    fake.smtp.limit_size(0);
    sender.send(&long).await.unwrap();
    // The limit is another's business: this much room is not there today.
    let full = "452 4.3.1 insufficient system storage".to_owned();
    for (answer, kind) in [
        (full, ErrorKind::Unavailable),
        ("552 5.3.4 too big".to_owned(), ErrorKind::TooLarge),
    ] {
        fake.smtp.fail_next(Fault::Answer("MAIL", answer));
        assert_eq!(sender.send(&long).await.unwrap_err().kind, kind);
    }
}

#[tokio::test]
async fn more_recipients_than_a_mail_may_have_are_refused() {
    let fake = FakeMail::start().await;
    let connector = build(&fake);
    let max = connector.capabilities().recipients_max;
    let mut message = message();
    message.bcc = (0..max)
        .map(|n| person("x", &format!("r{n}@example.org")))
        .collect();
    let error = connector
        .sender()
        .unwrap()
        .send(&message)
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::Rejected, "{error}");
    message.bcc.pop();
    connector.sender().unwrap().send(&message).await.unwrap();
    assert_eq!(fake.smtp.taken()[0].to.len(), usize::from(max));
}

/// A handshake costs more than a mail. One that was closed meanwhile is no outage.
#[tokio::test]
async fn mails_that_are_sent_at_once_use_few_connections_and_none_is_left_open() {
    let fake = FakeMail::start().await;
    let connector = build(&fake);
    let sender = connector.sender().unwrap();
    let lane = async |mails: usize| {
        for _ in 0..mails {
            sender.send(&message()).await.unwrap();
        }
    };
    tokio::join!(lane(10), lane(10), lane(10));
    assert_eq!(fake.smtp.taken().len(), 30);
    let connections = fake.smtp.connections();
    assert!(connections <= 6, "{connections} connections for 30 mails");
    let quits = || {
        let commands = fake.smtp.commands();
        commands.iter().filter(|line| *line == "QUIT").count()
    };
    tokio::time::timeout(Duration::from_secs(10), async {
        while quits() < fake.smtp.connections() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("every connection is closed");
}

#[tokio::test]
async fn a_connection_that_was_closed_while_it_waited_is_no_outage() {
    let fake = FakeMail::start().await;
    // The first mail is written for long enough that the second's connection waits.
    fake.smtp.fail_next(Fault::HangUpAfter(1));
    let connector = build(&fake);
    let sender = connector.sender().unwrap();
    let lane = async |mails: usize| {
        for _ in 0..mails {
            sender.send(&message()).await.unwrap();
        }
    };
    tokio::join!(lane(5), lane(5));
    assert_eq!(fake.smtp.taken().len(), 10);
}
