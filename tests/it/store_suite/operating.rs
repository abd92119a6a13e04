//! Dead letters, cursors, tokens, retention.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use connector_api::Cursor;
use switchboard::store::{Rings, StoreError, Token};

use switchboard::blobs::{INLINE_BYTES_MAX, sha256};

use crate::support::{Backend, Desk, KEEP, chat, delete, edit, mail};

/// Buries the next record, as the router does with one that cannot be decided.
pub async fn bury_next(desk: &mut Desk, reason: &str) -> i64 {
    let now = desk.now();
    bury_next_at(desk, reason, now).await
}

async fn bury_next_at(desk: &mut Desk, reason: &str, at: i64) -> i64 {
    let commit = desk.next_commit(1).await;
    let record = commit.batch[0].offset;
    desk.store()
        .bury(
            commit.ownership,
            record,
            reason.to_owned(),
            5,
            commit.batch[0].carried.clone(),
            at,
        )
        .await
        .unwrap();
    desk.moved_past(record);
    record
}

pub async fn a_dead_letter_is_listed_with_its_bytes_and_filed_once_when_redriven(
    backend: Arc<dyn Backend>,
) {
    let mut desk = Desk::on(backend).await;
    desk.accept([
        chat("cust-7", "Where is my order?"),
        chat("cust-8", "Hello?"),
    ])
    .await
    .unwrap();
    let record = bury_next(&mut desk, "a bug of ours").await;
    desk.route(1).await;
    desk.crash().await;
    assert_eq!(
        desk.shows().await.lines().count(),
        2,
        "the other message is filed"
    );
    let [letter] = &desk.store().dead_letters(10).await.unwrap()[..] else {
        panic!("one letter")
    };
    assert_eq!(
        (
            letter.record,
            letter.state,
            letter.reason.as_str(),
            letter.attempts
        ),
        (record, "parked", "a bug of ours", 5)
    );
    let body = String::from_utf8(letter.body.clone().unwrap()).unwrap();
    assert!(body.contains("Where is my order?"), "{body}");
    assert_eq!(desk.store().counts().await.unwrap().dead_letters, 1);

    let (policy, now) = (desk.policy.clone(), desk.now());
    let (once, again) = futures::join!(
        desk.store().redrive(record, policy.clone(), now),
        desk.store().redrive(record, policy.clone(), now)
    );
    let later = desk.store().redrive(record, policy, now).await;
    let filed: Vec<Rings> = [once, again, later]
        .into_iter()
        .filter_map(|answer| answer.expect("redriving is answered"))
        .collect();
    let [rings] = &filed[..] else {
        panic!("one of three files it: {filed:?}")
    };
    assert_eq!(
        rings.queues,
        ["frontline".parse().unwrap()],
        "whoever waits for the queue is told"
    );
    assert_eq!(desk.conversations().await.len(), 2);
    assert_eq!(desk.store().counts().await.unwrap().dead_letters, 0);
    assert_eq!(
        desk.store()
            .dead_letter(record)
            .await
            .unwrap()
            .unwrap()
            .state,
        "filed"
    );
    assert_eq!(
        desk.store()
            .redrive(record + 1, desk.policy.clone(), now)
            .await
            .unwrap(),
        None,
        "there is no such letter"
    );
}

/// Records of several partitions have numbers that say nothing of when they were buried.
pub async fn dead_letters_are_listed_the_last_buried_first(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    let asked = ["a", "b", "c"].map(|from| chat(from, "Hello?"));
    desk.accept(asked).await.unwrap();
    let now = desk.now();
    for (reason, at) in [("second", 2), ("third", 3), ("first", 1)] {
        bury_next_at(&mut desk, reason, now + at).await;
    }
    let letters = desk.store().dead_letters(2).await.unwrap();
    let reasons: Vec<&str> = letters.iter().map(|letter| &*letter.reason).collect();
    assert_eq!(reasons, ["third", "second"]);
}

pub async fn a_letter_that_still_cannot_be_filed_stays_parked(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    desk.accept([chat("cust-7", "Where is my order?")])
        .await
        .unwrap();
    let ownership = desk.ownership();
    // A letter whose bytes are gone.
    let record = desk.next_commit(1).await.batch[0].offset + 1;
    desk.store()
        .bury(
            ownership,
            record,
            "unreadable".to_owned(),
            1,
            None,
            desk.now(),
        )
        .await
        .unwrap();
    let redriven = desk
        .store()
        .redrive(record, desk.policy.clone(), desk.now())
        .await;
    assert!(
        matches!(redriven, Err(StoreError::Poisoned(_))),
        "{redriven:?}"
    );
    assert_eq!(
        desk.store()
            .dead_letter(record)
            .await
            .unwrap()
            .unwrap()
            .state,
        "parked"
    );
}

pub async fn tries_are_counted_over_restarts(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    desk.accept([chat("cust-7", "Hello?")]).await.unwrap();
    let record = desk.next_commit(1).await.batch[0].offset;
    assert_eq!(desk.store().count_attempt(record).await.unwrap(), 1);
    assert_eq!(desk.store().count_attempt(record).await.unwrap(), 2);
    desk.crash().await;
    assert_eq!(desk.store().count_attempt(record).await.unwrap(), 3);
    assert_eq!(
        desk.store().count_attempt(record + 1).await.unwrap(),
        1,
        "each record for itself"
    );
}

pub async fn a_cursor_is_kept_per_channel_over_restarts(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    let [support, sales] = ["support-mail", "sales-mail"].map(|channel| channel.parse().unwrap());
    let cursor = |uid: u32| Cursor(serde_json::json!({ "uidvalidity": 7, "uid": uid }));
    assert_eq!(desk.store().cursor(&support).await.unwrap(), None);
    desk.store().save_cursor(&support, cursor(1)).await.unwrap();
    desk.store().save_cursor(&support, cursor(2)).await.unwrap();
    desk.store().save_cursor(&sales, cursor(9)).await.unwrap();
    desk.crash().await;
    assert_eq!(
        desk.store().cursor(&support).await.unwrap(),
        Some(cursor(2))
    );
    assert_eq!(desk.store().cursor(&sales).await.unwrap(), Some(cursor(9)));
}

pub async fn a_token_is_found_by_its_hash_until_it_is_revoked(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    let token = Token {
        id: 0,
        label: "laptop".to_owned(),
        role: "agent".to_owned(),
        agent: Some("ada".to_owned()),
        queues: vec!["frontline".to_owned()],
        brands: Vec::new(),
        scopes: Vec::new(),
        created_at: desk.now(),
        revoked_at: None,
    };
    let made = desk
        .store()
        .create_token(vec![1; 32], token.clone())
        .await
        .unwrap();
    let other = desk
        .store()
        .create_token(vec![2; 32], token.clone())
        .await
        .unwrap();
    assert_ne!(made.id, other.id);
    assert!(
        desk.store().create_token(vec![1; 32], token).await.is_err(),
        "a hash is one token's"
    );
    desk.crash().await;
    assert_eq!(
        desk.store().token_by_hash(vec![1; 32]).await.unwrap(),
        Some(made.clone())
    );
    assert_eq!(desk.store().token_by_hash(vec![3; 32]).await.unwrap(), None);
    assert!(
        desk.store()
            .revoke_token(made.id, desk.now())
            .await
            .unwrap()
    );
    assert!(
        !desk
            .store()
            .revoke_token(made.id, desk.now())
            .await
            .unwrap(),
        "it was revoked before"
    );
    assert_eq!(desk.store().token_by_hash(vec![1; 32]).await.unwrap(), None);
    assert_eq!(
        desk.store().token_by_hash(vec![2; 32]).await.unwrap(),
        Some(other)
    );
    let listed: Vec<bool> = desk
        .store()
        .tokens()
        .await
        .unwrap()
        .iter()
        .map(|token| token.revoked_at.is_some())
        .collect();
    assert_eq!(listed, [true, false]);
}

const DAY: Duration = Duration::from_secs(24 * 3600);

pub async fn retention_drops_the_log_and_keeps_what_messages_say(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    let said = |text: &str| chat("cust-7", text).key("c-1");
    desk.deliver([said("Where is my ordr?"), said("Where is my ordr?")])
        .await;
    desk.deliver([edit("c-1", "Where is my order?")]).await;
    desk.accept([chat("cust-8", "A bad one.")]).await.unwrap();
    let letter = bury_next(&mut desk, "a bug of ours").await;
    let before = desk.shows().await;
    desk.later(15 * DAY);
    desk.accept([chat("cust-9", "Not decided yet.")])
        .await
        .unwrap();
    desk.store().sweep(KEEP, desk.now()).await.unwrap();
    desk.later(15 * DAY);
    desk.store().sweep(KEEP, desk.now()).await.unwrap();
    desk.crash().await;
    assert_eq!(
        desk.shows().await,
        before,
        "every message says what it said"
    );
    assert!(
        desk.store()
            .dead_letter(letter)
            .await
            .unwrap()
            .unwrap()
            .body
            .is_some(),
        "a parked letter keeps its bytes"
    );
    desk.route(10).await;
    assert_eq!(
        desk.conversations().await.len(),
        2,
        "what was not decided stays on the bus, however old"
    );
    assert!(
        desk.store()
            .redrive(letter, desk.policy.clone(), desk.now())
            .await
            .unwrap()
            .is_some()
    );
    assert_eq!(desk.conversations().await.len(), 3);
}

pub async fn raw_bytes_go_before_the_message_does_and_redelivered_ones_with_the_log(
    backend: Arc<dyn Backend>,
) {
    let mut desk = Desk::on(backend).await;
    let mut said = mail("ada@example.com", "Where is my order?")
        .key("m-1")
        .attachment("photo.jpg", b"not really a photo");
    said.event.raw = Some(Bytes::from_static(
        b"From: ada@example.com\r\n\r\nWhere is my order?",
    ));
    desk.deliver([said.clone(), said]).await;
    let rows = async |desk: &Desk| {
        let rows = desk.backend().rows().await;
        let mut kinds = ["raw", "blob", "body"].into_iter();
        kinds
            .by_ref()
            .map(|kind| {
                rows.iter()
                    .find(|row| row.0 == kind)
                    .map_or(-1, |row| row.1)
            })
            .collect::<Vec<_>>()
    };
    // A log takes what comes, and a bus beside the store brings only what is needed.
    let kept = if desk.backend().has_log() { 2 } else { 1 };
    assert_eq!(rows(&desk).await, [kept; 3]);
    desk.later(29 * DAY);
    desk.store().sweep(KEEP, desk.now()).await.unwrap();
    assert_eq!(
        rows(&desk).await,
        [1, 1, 1],
        "what the redelivery brought is gone"
    );
    desk.later(2 * DAY);
    desk.store().sweep(KEEP, desk.now()).await.unwrap();
    assert_eq!(
        rows(&desk).await,
        [0, 1, 1],
        "the message keeps its words and its attachment"
    );
    assert!(desk.shows().await.contains("Where is my order?"));
}

pub async fn a_change_whose_message_never_came_is_given_up_after_its_time(
    backend: Arc<dyn Backend>,
) {
    let mut desk = Desk::on(backend).await;
    desk.deliver([delete("c-1"), edit("c-2", "Where is my order?")])
        .await;
    let waiting = async |desk: &Desk| {
        let rows = desk.backend().rows().await;
        let count = |kind: &str| rows.iter().find(|row| row.0 == kind).map(|row| row.1);
        let counts = desk.store().counts().await.unwrap();
        (
            counts.pending,
            count("pending"),
            count("body"),
            count("log"),
        )
    };
    desk.later(13 * DAY);
    desk.store().sweep(KEEP, desk.now()).await.unwrap();
    let log = Some(if desk.backend().has_log() { 2 } else { 0 });
    assert_eq!(waiting(&desk).await, (2, Some(2), Some(2), log));
    desk.deliver([chat("cust-7", "Something regretted").key("c-1")])
        .await;
    assert!(desk.messages(1).await[0].deleted, "it came in time");
    desk.later(2 * DAY);
    desk.store().sweep(KEEP, desk.now()).await.unwrap();
    // What is left is the deletion that was applied, and its message.
    let log = Some(i64::from(desk.backend().has_log()));
    assert_eq!(waiting(&desk).await, (0, Some(0), Some(2), log));
}

pub async fn a_file_is_named_until_its_last_row_is_gone(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    let (film, source): (&'static [u8], &'static [u8]) = (
        vec![1; INLINE_BYTES_MAX + 1].leak(),
        vec![2; INLINE_BYTES_MAX + 1].leak(),
    );
    let mut said = mail("ada@example.com", "See the film.").attachment("film.mp4", film);
    said.event.raw = Some(Bytes::from_static(source));
    desk.deliver([said]).await;
    let files = [film, source, b"never seen"].map(sha256);
    let unnamed = async |desk: &Desk| desk.store().unnamed_files(files.to_vec()).await.unwrap();
    assert_eq!(unnamed(&desk).await, [files[2]]);
    desk.later(31 * DAY);
    desk.store().sweep(KEEP, desk.now()).await.unwrap();
    assert_eq!(unnamed(&desk).await, [files[1], files[2]]);
}
