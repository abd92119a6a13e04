//! The event log, written by many and read by others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use connector_api::QueueId;
use futures::future::join_all;
use switchboard::store::events::{EventFilter, EventLog as _};
use switchboard::store::postgres::{PostgresStore, Risk};
use switchboard::store::{Store as _, StoreError, Token};

use super::cluster::{Cluster, rounds};
use crate::peers;
use crate::support::{Postgres, mail, supervisor, within_patience};

fn everything() -> EventFilter {
    EventFilter {
        limit: 100,
        ..EventFilter::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_see_every_number_once_and_none_behind_them_while_four_processes_write() {
    if !peers::enabled() {
        return;
    }
    let cluster = Arc::new(Cluster::of(4).await);
    let over = Arc::new(AtomicBool::new(false));
    let readers = (0..2).map(|who| {
        let (cluster, over) = (cluster.clone(), over.clone());
        tokio::spawn(async move {
            let mut through = 0;
            loop {
                let last_look = over.load(Ordering::SeqCst);
                let page = cluster
                    .store(who)
                    .events(through, everything())
                    .await
                    .expect("a page");
                for event in &page.events {
                    assert_eq!(event.seq, through + 1, "no gap, and none comes later");
                    through = event.seq;
                }
                assert_eq!(page.through, through);
                if last_look && page.events.is_empty() {
                    return through;
                }
            }
        })
    });
    let readers: Vec<_> = readers.collect();
    let writers = (0..4u32).map(|partition| {
        let cluster = cluster.clone();
        tokio::spawn(async move {
            let mut ownership = cluster.own(partition as usize, partition).await;
            for offset in 1..=rounds(40) as i64 {
                let from = format!("c{}@example.com", (offset + i64::from(partition)) % 9);
                let key = format!("{partition} {offset}");
                let record = cluster.record(partition, offset, mail(&from, "hello"), &key);
                let routed = cluster.route(partition as usize, &mut ownership, vec![record]);
                routed.await.expect("filed");
            }
        })
    });
    for writer in join_all(writers.collect::<Vec<_>>()).await {
        writer.expect("a writer");
    }
    over.store(true, Ordering::SeqCst);
    cluster.is_consistent().await;
    let last = cluster.number("SELECT last FROM sequencer").await;
    for reader in join_all(readers).await {
        assert_eq!(reader.expect("a reader"), last);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_hears_of_what_another_writes() {
    if !peers::enabled() {
        return;
    }
    let cluster = Cluster::of(2).await;
    let mut heard = cluster.store(1).moved();
    let mut through = 0;
    let mut ownership = cluster.own(0, 0).await;
    for offset in 1..=5 {
        let record = cluster.record(
            0,
            offset,
            mail("ann@example.com", "hello"),
            &format!("m{offset}"),
        );
        cluster
            .route(0, &mut ownership, vec![record])
            .await
            .expect("filed");
        let newer = heard.wait_for(|moved| moved.last_event > through);
        within_patience("hearing of an event", newer)
            .await
            .expect("the store is there");
        let page = cluster
            .store(1)
            .events(through, everything())
            .await
            .expect("a page");
        assert!(!page.events.is_empty());
        through = page.through;
    }
    let before = heard.borrow().token_changes;
    let token = Token {
        id: 0,
        label: "desk".to_owned(),
        role: "agent".to_owned(),
        agent: Some("ada".to_owned()),
        queues: Vec::new(),
        brands: Vec::new(),
        scopes: Vec::new(),
        created_at: 1,
        revoked_at: None,
    };
    cluster
        .store(0)
        .create_token(b"a hash".to_vec(), token)
        .await
        .expect("a token");
    let changed = heard.wait_for(|moved| moved.token_changes > before);
    within_patience("hearing of a token", changed)
        .await
        .expect("the store is there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_another_process_gave_are_known_without_a_restart() {
    if !peers::enabled() {
        return;
    }
    let cluster = Cluster::of(2).await;
    let queue: QueueId = "returns".parse().expect("a queue");
    let declared = cluster.store(0).declare(Vec::new(), vec![queue.clone()]);
    declared.await.expect("declaring a queue");
    let mut other = Cluster {
        policy: Arc::new({
            let mut policy = (*cluster.policy).clone();
            for channel in policy.channels.values_mut() {
                channel.queue = queue.clone();
            }
            policy
        }),
        ..cluster
    };
    other.stores.rotate_left(1);
    let mut ownership = other.own(1, 0).await;
    let record = other.record(0, 1, mail("ann@example.com", "hello"), "m1");
    other
        .route(1, &mut ownership, vec![record])
        .await
        .expect("filed");
    let id = other.number("SELECT id FROM conversation").await;
    let found = other
        .store(0)
        .conversation(supervisor(), switchboard::ids::ConversationId(id))
        .await;
    let found = found.expect("a read").expect("a conversation");
    assert_eq!(found.queue, queue);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_would_lose_what_was_committed_is_refused_by_the_settings_name() {
    if !peers::enabled() {
        return;
    }
    let made = Postgres::new();
    let opened = PostgresStore::open(made.own_config(), Vec::new(), Vec::new(), Vec::new());
    match opened.await {
        Err(StoreError::Unavailable(reason)) => assert!(reason.contains("fsync = off"), "{reason}"),
        other => panic!("refused: {:?}", other.map(drop)),
    }
    let taken = vec![Risk::Fsync];
    let opened = PostgresStore::open(made.own_config(), Vec::new(), Vec::new(), taken);
    assert!(opened.await.is_ok());
}
