//! What lies behind the first connection: read piece by piece, behind what is new.

use std::sync::Arc;
use std::time::Duration;

use connector_api::InboundEvent;
use connector_testkit::{FakeProvider, FixedClock};
use serde_json::json;

use super::{Channel, build, build_with, texts};
use crate::fake_mail::FakeMail;
use crate::mailboxes::until;

#[tokio::test]
async fn a_backfill_imports_old_mail_as_history_and_resumes_after_a_crash() {
    let fake = FakeMail::start().await;
    for number in 0..120 {
        fake.customer_says(&format!("old {number}")).await;
    }
    let with_backfill = || build(&fake, |config| config["backfill"] = json!("30d"));
    let channel = Channel::run(with_backfill(), None);
    channel.intake.wait_for_events(50).await.unwrap();
    channel.task.abort();
    let before = channel.intake.events();
    let again = Channel::run(with_backfill(), channel.intake.cursor());
    fake.customer_says("new").await;
    let events = again.events(121 - before.len()).await;
    assert!(before.iter().all(|event| event.history));
    let at = events.iter().position(|event| !event.history).unwrap();
    assert_eq!(texts(&events[at..=at]), ["new"]);
    assert_eq!(
        events.iter().filter(|event| event.history).count(),
        events.len() - 1
    );
    assert!(
        at <= 20,
        "news come before the rest of a history, and this came {at}th"
    );
    again.stop().await;
}

#[tokio::test]
async fn a_mail_announced_once_and_early_does_not_wait_for_the_end_of_a_history() {
    let fake = FakeMail::start().await;
    for number in 0..300 {
        fake.customer_says(&format!("old {number}")).await;
    }
    // The first listing of a look brings what is new, the second one nothing.
    let (_, late) = fake.mail("", "late");
    fake.imap
        .set(|options| options.arrives_late = Some((1, late.into_bytes())));
    let connector = build(&fake, |config| config["backfill"] = json!("30d"));
    let channel = Channel::run(connector, None);
    let events = channel.events(301).await;
    let at = events.iter().position(|event| !event.history).unwrap();
    assert_eq!(texts(&events[at..=at]), ["late"]);
    assert!(at <= 150, "{at} old mails were read before it");
    // The server is asked for news once for each piece of a history, not more: that is work for it.
    let asked = fake.imap.commands();
    let looks = asked.iter().filter(|command| *command == "NOOP").count();
    assert!(looks <= 300 / 50 + 2, "{looks} looks");
    channel.stop().await;
}

#[tokio::test]
async fn what_is_left_of_a_backfill_waits_for_the_next_day_and_new_mail_does_not() {
    let fake = FakeMail::start().await;
    for number in 0..120 {
        fake.customer_says(&format!("old {number}")).await;
    }
    let clock = Arc::new(FixedClock::default());
    let run = |cursor| {
        let limited = |config: &mut serde_json::Value| {
            config["backfill"] = json!("30d");
            config["backfill_bytes_per_day"] = json!(1);
        };
        Channel::run(build_with(&fake, clock.clone(), limited), cursor)
    };
    let old = |events: &[InboundEvent]| events.iter().filter(|event| event.history).count();
    // The newest are looked at with what is new, the first batch of the others begins the day.
    let channel = run(None);
    channel.intake.wait_for_events(21).await.unwrap();
    // It waits for news: of what lies behind it reads no more today.
    until("it waits", || {
        fake.imap.commands().contains(&"IDLE".to_owned())
    })
    .await;
    let first = old(&channel.intake.events());
    assert!((21..120).contains(&first), "{first}");
    fake.customer_says("new").await;
    channel.intake.wait_for_events(first + 1).await.unwrap();
    assert_eq!(texts(&channel.intake.events()[first..]), ["new"]);
    // A restart begins no day.
    let again = run(channel.stop().await);
    fake.customer_says("newer").await;
    assert_eq!(texts(&again.events(1).await), ["newer"]);
    clock.advance(Duration::from_secs(24 * 60 * 60));
    fake.customer_says("tomorrow").await;
    again.intake.wait_for_events(3).await.unwrap();
    let events = again.intake.events();
    assert!(old(&events) > 0, "{:?}", texts(&events));
    again.stop().await;
}
