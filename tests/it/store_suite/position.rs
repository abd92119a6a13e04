//! Decisions and the position are one commit, of whoever owns the partition now.

use std::sync::Arc;

use switchboard::store::StoreError;

use crate::support::{Backend, Desk, chat, mail};

async fn content(desk: &Desk) -> (String, Vec<(String, i64)>) {
    (desk.shows().await, desk.backend().rows().await)
}

pub async fn a_stale_owner_writes_nothing(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    desk.deliver([chat("cust-7", "Hello?")]).await;
    desk.accept([chat("cust-7", "Are you there?")])
        .await
        .unwrap();
    let commit = desk.next_commit(10).await;
    let before = content(&desk).await;
    let newer = desk.store().own(0).await.unwrap();
    assert_eq!(
        newer.position, commit.ownership.position,
        "the position stays"
    );
    assert!(newer.epoch > commit.ownership.epoch);
    let record = commit.batch[0].offset;
    let routed = desk.store().route(commit.clone()).await;
    assert!(
        matches!(routed, Err(StoreError::StaleEpoch(_))),
        "{routed:?}"
    );
    let buried = desk
        .store()
        .bury(
            commit.ownership,
            record,
            "stale".to_owned(),
            5,
            None,
            desk.now(),
        )
        .await;
    assert!(
        matches!(buried, Err(StoreError::StaleEpoch(_))),
        "{buried:?}"
    );
    assert_eq!(content(&desk).await, before);
}

pub async fn a_batch_decided_twice_is_written_once(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    desk.accept([chat("cust-7", "Hello?"), mail("ada@example.com", "Hello?")])
        .await
        .unwrap();
    let commit = desk.next_commit(10).await;
    let (one, other) = futures::join!(
        desk.store().route(commit.clone()),
        desk.store().route(commit)
    );
    let stale = match (one, other) {
        (Ok(_), stale) | (stale, Ok(_)) => stale,
        refused => panic!("one of them is written: {refused:?}"),
    };
    assert!(matches!(stale, Err(StoreError::StaleEpoch(_))), "{stale:?}");
    let messages: usize = [desk.messages(1).await.len(), desk.messages(2).await.len()]
        .iter()
        .sum();
    assert_eq!(messages, 2);
}

pub async fn what_is_not_decided_is_decided_after_a_crash(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    desk.accept((0..10).map(|number| chat(&format!("cust-{number}"), "Hello?")))
        .await
        .unwrap();
    desk.route_once(4).await.unwrap();
    desk.crash().await;
    assert_eq!(desk.conversations().await.len(), 4);
    desk.route(3).await;
    assert_eq!(desk.conversations().await.len(), 10);
}
