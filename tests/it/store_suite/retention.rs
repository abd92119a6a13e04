//! What goes when its time is over, what stays, and what comes late for what is gone.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use connector_api::DeliveryStage;
use serde_json::{Map, json};
use switchboard::dispatch::Refusal;
use switchboard::router::Verdict;
use switchboard::store::retention::{Forgotten, Periods};
use switchboard::store::{StoreError, Token};

use crate::support::{Backend, Desk, KEEP, agent, chat, delete, edit, mail, receipt, supervisor};

const DAY: Duration = Duration::from_secs(24 * 3600);
const RESOLVED: Duration = Duration::from_secs(730 * 24 * 3600);

fn periods() -> Periods {
    Periods {
        resolved: RESOLVED,
        dead_letters: 90 * DAY,
        drafts: 90 * DAY,
        audit: 365 * DAY,
    }
}

async fn step(desk: &Desk, messages: u32) -> Forgotten {
    step_with(desk, periods(), messages).await
}

async fn step_with(desk: &Desk, periods: Periods, messages: u32) -> Forgotten {
    let store = desk.store();
    store.forget(periods, messages, desk.now()).await.unwrap()
}

/// Everything that is due, in small steps, and what the bus keeps beside it.
async fn forget(desk: &Desk) {
    while desk.store().sweep(KEEP, desk.now()).await.unwrap() {}
    while step(desk, 2).await.more {}
}

/// Rows of each kind that tells of people, where there are any.
async fn left(desk: &Desk) -> Vec<(String, i64)> {
    let mut rows = desk.backend().rows().await;
    rows.retain(|(kind, count)| *count > 0 && !kind.starts_with("event"));
    rows
}

/// A conversation with all that one can have, resolved.
async fn deal_with(desk: &mut Desk, address: &str) {
    let number = desk.conversations().await.len() + 1;
    let mut asked = mail(address, "Where is my order?")
        .key(&format!("asked-{address}"))
        .message_id(&format!("1.{address}"))
        .attachment("photo.jpg", b"not really a photo")
        .file_at("film.mp4", "https://files.example/film.mp4");
    asked.event.raw = Some(Bytes::from_static(b"From: somebody\r\n\r\nWhere is it?"));
    let mut edited = edit(&format!("asked-{address}"), "Where is my order 7?").on("support-mail");
    edited.event.raw = Some(Bytes::from_static(b"captured, too"));
    desk.deliver([asked, edited]).await;
    desk.answer(number, "It leaves today.", &format!("sent-{address}"))
        .await;
    let read = receipt(&format!("sent-{address}"), DeliveryStage::Delivered);
    desk.deliver([read]).await;
    let (store, id) = (desk.store(), desk.conversation(number).await.id);
    let begun = Map::from_iter([("text".to_owned(), json!("What I wanted to add"))]);
    store
        .save_draft(agent("ada"), id, begun, None, desk.now())
        .await
        .unwrap();
    desk.resolve(number).await;
}

pub async fn a_conversation_past_its_time_goes_with_all_that_was_said_in_it(
    backend: Arc<dyn Backend>,
) {
    let mut desk = Desk::on(backend).await;
    deal_with(&mut desk, "kim@customer.example").await;
    desk.later(RESOLVED - DAY);
    let keeping_drafts = Periods {
        drafts: 2 * RESOLVED,
        ..periods()
    };
    while step_with(&desk, keeping_drafts, 2).await.more {}
    let days_before = left(&desk).await;
    for kind in [
        "conversation",
        "message",
        "contact",
        "draft",
        "reference",
        "file_fetch",
        "change",
    ] {
        let there = days_before.iter().any(|(known, _)| known == kind);
        assert!(
            there,
            "{kind} is there until its time is over: {days_before:?}"
        );
    }
    desk.later(2 * DAY);
    while step_with(&desk, keeping_drafts, 2).await.more {}
    forget(&desk).await;
    desk.crash().await;
    assert_eq!(left(&desk).await, []);
    assert_eq!(step(&desk, 50).await, Forgotten::default());
}

pub async fn what_is_open_or_young_or_unsent_or_was_written_to_lately_stays(
    backend: Arc<dyn Backend>,
) {
    let mut desk = Desk::on(backend).await;
    desk.deliver([
        mail("open@customer.example", "Still open."),
        mail("unsent@customer.example", "An answer is held."),
        mail("late@customer.example", "Away.")
            .key("late-1")
            .message_id("1.late@customer.example"),
        mail("old@customer.example", "Over."),
    ])
    .await;
    desk.reply(2, "It could not leave.").await;
    for number in 2..=4 {
        desk.resolve(number).await;
    }
    desk.later(RESOLVED - DAY);
    let vacation = mail("late@customer.example", "I am away.")
        .refers_to("1.late@customer.example")
        .automatic(connector_api::Automatic::AutoReply);
    desk.deliver([vacation, mail("young@customer.example", "New.")])
        .await;
    desk.resolve(5).await;
    desk.later(2 * DAY);
    forget(&desk).await;
    let shown = desk.shows().await;
    for address in ["open@", "unsent@", "late@", "young@"] {
        assert!(shown.contains(address), "{address}: {shown}");
    }
    assert_eq!(desk.conversations().await.len(), 4, "{shown}");
}

pub async fn what_comes_late_for_what_is_gone_fails_nowhere(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    deal_with(&mut desk, "kim@customer.example").await;
    let (first, message) = (desk.conversation(1).await, desk.messages(1).await.remove(1));
    desk.later(RESOLVED + DAY);
    // An answer with the token of a conversation that goes before it is decided.
    let answer = mail("kim@customer.example", "Me again.").token("#1");
    desk.accept([answer]).await.unwrap();
    forget(&desk).await;
    assert_eq!(desk.conversations().await, []);
    assert_eq!(desk.route(10).await, [Verdict::Filed]);
    let again = desk.conversation(1).await;
    assert!(
        again.id != first.id && again.detail.links.is_empty(),
        "{again:?}"
    );

    for (what, said, verdict) in [
        (
            "shown again by its mailbox",
            mail("kim@customer.example", "Where is my order?").key("asked-kim@customer.example"),
            // Other content under a known key is kept; the same is a redelivery.
            Verdict::Filed,
        ),
        (
            "an edit",
            edit("asked-kim@customer.example", "Never mind.").on("support-mail"),
            Verdict::Pending,
        ),
        (
            "a deletion",
            delete("asked-kim@customer.example").on("support-mail"),
            Verdict::Pending,
        ),
        (
            "a receipt by the provider's id",
            receipt("sent-kim@customer.example", DeliveryStage::Failed),
            Verdict::Pending,
        ),
        (
            "an answer that names its mail",
            mail("kim@customer.example", "And?").refers_to("1.kim@customer.example"),
            Verdict::Filed,
        ),
    ] {
        assert_eq!(desk.deliver([said]).await, [verdict], "{what}");
    }
    let store = desk.store();
    let supervisor = supervisor();
    assert!(
        store
            .message(supervisor.clone(), message.id)
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        store
            .conversation(supervisor.clone(), first.id)
            .await
            .unwrap()
            .is_none()
    );
    let reply = desk.reply_to(first.id, supervisor, "Too late");
    assert!(
        store.reply(reply).await.is_err(),
        "there is nothing to answer"
    );
    assert_eq!(store.counts().await.unwrap().dead_letters, 0);
}

pub async fn what_is_gone_is_known_when_its_mailbox_shows_it_again(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    let said = mail("kim@customer.example", "Where is my order?").key("m-1");
    desk.deliver([said.clone()]).await;
    desk.resolve(1).await;
    desk.later(RESOLVED + DAY);
    forget(&desk).await;
    assert_eq!(desk.deliver([said]).await, [Verdict::Duplicate]);
    assert_eq!(desk.conversations().await, []);
}

pub async fn a_contact_goes_with_the_last_conversation_that_has_words_of_it(
    backend: Arc<dyn Backend>,
) {
    let mut desk = Desk::on(backend).await;
    let asked = mail("kim@customer.example", "Where is it?")
        .cc("sam@customer.example")
        .message_id("1.kim@customer.example");
    desk.deliver([mail("sam@customer.example", "An older matter.")])
        .await;
    desk.resolve(1).await;
    desk.hours_later(24);
    desk.deliver([asked]).await;
    let guest =
        mail("sam@customer.example", "I wait for it, too.").refers_to("1.kim@customer.example");
    desk.deliver([guest]).await;
    desk.resolve(2).await;
    assert_eq!(desk.messages(2).await.len(), 2, "a guest's words");
    desk.later(RESOLVED - Duration::from_secs(12 * 3600));
    forget(&desk).await;
    let kept = desk.messages(1).await;
    let from = kept.last().and_then(|message| message.from.clone());
    assert_eq!(
        from.map(|from| from.address).as_deref(),
        Some("sam@customer.example")
    );
    desk.later(DAY);
    forget(&desk).await;
    assert_eq!(left(&desk).await, []);
}

pub async fn a_guest_who_is_linked_in_the_same_batch_stays_with_its_words(
    backend: Arc<dyn Backend>,
) {
    let mut desk = Desk::on(backend).await;
    let asked = mail("kim@customer.example", "Where is it?")
        .cc("sam@customer.example")
        .message_id("1.kim@customer.example");
    desk.deliver([chat("cust-9", "Anybody here?"), asked]).await;
    let guest =
        mail("sam@customer.example", "I wait for it, too.").refers_to("1.kim@customer.example");
    let linked = chat("cust-9", "It is Sam.").with_email("sam@customer.example");
    desk.deliver([guest, linked]).await;
    desk.resolve(1).await;
    desk.hours_later(24);
    desk.resolve(2).await;
    desk.later(RESOLVED - Duration::from_secs(12 * 3600));
    forget(&desk).await;
    let kept = desk.messages(1).await;
    let from = kept.last().and_then(|message| message.from.clone());
    assert_eq!(
        from.map(|from| from.address).as_deref(),
        Some("sam@customer.example")
    );
    desk.later(DAY);
    forget(&desk).await;
    assert_eq!(left(&desk).await, []);
}

pub async fn a_long_conversation_goes_in_steps_and_over_a_crash(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    let said = (0..20).map(|at| chat("cust-7", &format!("Line {at}")));
    desk.deliver(said).await;
    desk.resolve(1).await;
    desk.later(RESOLVED + DAY);
    let first = step(&desk, 5).await;
    assert_eq!((first.conversations, first.messages), (1, 4));
    assert!(first.more);
    assert_eq!(
        desk.conversations().await,
        [],
        "nobody finds it half removed"
    );
    desk.crash().await;
    let mut messages = first.messages;
    loop {
        let gone = step(&desk, 5).await;
        assert!(gone.messages <= 5);
        messages += gone.messages;
        if !gone.more {
            break;
        }
    }
    assert_eq!(messages, 20);
    forget(&desk).await;
    assert_eq!(left(&desk).await, []);
}

pub async fn letters_drafts_and_revoked_tokens_have_periods_of_their_own(
    backend: Arc<dyn Backend>,
) {
    let mut desk = Desk::on(backend).await;
    desk.deliver([chat("cust-7", "Hello?")]).await;
    desk.accept([chat("cust-8", "Nobody could read this.")])
        .await
        .unwrap();
    let commit = desk.next_commit(1).await;
    let record = commit.batch[0].offset;
    let store = desk.store().clone();
    let reason = "a bug of ours".to_owned();
    store
        .bury(
            commit.ownership,
            record,
            reason,
            5,
            commit.batch[0].carried.clone(),
            desk.now(),
        )
        .await
        .unwrap();
    desk.moved_past(record);
    let id = desk.conversation(1).await.id;
    let begun = Map::from_iter([("text".to_owned(), json!("I wanted to say"))]);
    store
        .save_draft(agent("ada"), id, begun, None, desk.now())
        .await
        .unwrap();
    let token = Token {
        id: 0,
        label: "laptop".to_owned(),
        role: "agent".to_owned(),
        agent: Some("ada".to_owned()),
        queues: Vec::new(),
        brands: Vec::new(),
        scopes: Vec::new(),
        created_at: desk.now(),
        revoked_at: None,
    };
    let revoked = store
        .create_token(vec![1; 32], token.clone())
        .await
        .unwrap();
    store.create_token(vec![2; 32], token).await.unwrap();
    store.revoke_token(revoked.id, desk.now()).await.unwrap();
    let there = async |desk: &Desk| {
        let letters = store.dead_letters(10).await.unwrap().len();
        let draft = store.draft(agent("ada"), id).await.unwrap().is_some();
        let rows = desk.backend().rows().await;
        let bodies = rows
            .iter()
            .find(|(kind, _)| kind == "body")
            .map_or(-1, |row| row.1);
        (letters, bodies, draft, store.tokens().await.unwrap().len())
    };
    desk.later(89 * DAY);
    forget(&desk).await;
    assert_eq!(there(&desk).await, (1, 2, true, 2));
    desk.later(2 * DAY);
    let gone = step(&desk, 10).await;
    assert_eq!((gone.dead_letters, gone.parked, gone.drafts), (1, 1, 1));
    assert_eq!(there(&desk).await, (0, 1, false, 2));
    desk.later(275 * DAY);
    forget(&desk).await;
    assert_eq!(
        there(&desk).await,
        (0, 1, false, 1),
        "the open conversation stays"
    );
    assert_eq!(desk.messages(1).await.len(), 1);
}

pub async fn how_long_conversations_are_overdue_is_told(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    desk.deliver([chat("cust-7", "One"), chat("cust-8", "Two")])
        .await;
    desk.resolve(1).await;
    desk.resolve(2).await;
    desk.later(RESOLVED + 5 * DAY);
    let overdue = step(&desk, 1).await.overdue.unwrap();
    assert_eq!(overdue, 5 * DAY.as_micros() as i64);
    while step(&desk, 10).await.more {}
    assert_eq!(step(&desk, 10).await.overdue, None);
}

pub async fn a_repeated_request_about_what_is_gone_is_refused_and_does_nothing(
    backend: Arc<dyn Backend>,
) {
    let mut desk = Desk::on(backend).await;
    desk.deliver([chat("cust-7", "Hello?")]).await;
    let mut reply = desk.reply_to(desk.conversation(1).await.id, supervisor(), "Yes.");
    reply.idempotency = Some((vec![7; 32], vec![8; 32]));
    desk.store().reply(reply.clone()).await.unwrap();
    for leased in desk.lease("shop-chat").await {
        let sent = switchboard::store::Settlement::Refused {
            reason: "not at home".to_owned(),
        };
        desk.settle(&leased, sent).await;
    }
    desk.resolve(1).await;
    desk.later(2 * DAY);
    let short = Periods {
        resolved: DAY,
        ..periods()
    };
    while step_with(&desk, short, 10).await.more {}
    assert_eq!(desk.conversations().await, []);
    let again = desk.store().reply(reply).await;
    let expected = Refusal::NotFound { what: "message" };
    assert_eq!(again.unwrap_err(), StoreError::Refused(expected));
}
