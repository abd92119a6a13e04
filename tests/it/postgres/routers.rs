//! Routers of several partitions, whose customers write under several identities, with agents in between.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use connector_api::{Event, Evidence, IdentityClaim, Method, Namespace};
use futures::future::join_all;
use switchboard::dispatch::Action;
use switchboard::router::Prepared;
use switchboard::router::Verdict;
use switchboard::store::{Desk as _, Store as _, StoreError};

use super::cluster::{Chance, Cluster, answer, refused_at_most, rounds};
use crate::peers;
use crate::support::{Said, agent, chat, edit, mail, queue_id};

const PARTITIONS: u32 = 4;
const CUSTOMERS: usize = 60;
const BATCH: usize = 25;

/// A message that proves this address beside the one it was written under.
fn proving(mut said: Said, address: &str) -> Said {
    if let Event::Message(message) = &mut said.event.event {
        message.from.identities.push(IdentityClaim {
            namespace: Namespace::email(),
            address: address.to_owned(),
            evidence: Evidence::Verified(Method::Signed),
        });
    }
    said
}

/// What one of the customers says next, with the partition that its identity is of.
fn said(chance: &mut Chance) -> (u32, Said) {
    let customer = chance.below(CUSTOMERS);
    let (one, other) = (
        format!("c{customer}@example.com"),
        format!("c{customer}@example.org"),
    );
    let partition = |identity: usize| ((customer + identity) % PARTITIONS as usize) as u32;
    match chance.below(20) {
        0 => (partition(0), proving(mail(&one, "also mine"), &other)),
        1 => (
            partition(2),
            proving(chat(&format!("c{customer}"), "it is me"), &one),
        ),
        2..=8 => (partition(0), mail(&one, "hello")),
        9..=13 => (partition(1), mail(&other, "hello again")),
        _ => (partition(2), chat(&format!("c{customer}"), "hi")),
    }
}

/// Backlogs of all partitions, one message in twenty delivered twice, and how many messages they are.
fn backlogs(cluster: &Cluster, messages: usize) -> (Vec<Vec<Prepared>>, usize) {
    let mut chance = Chance(4);
    let mut backlogs: Vec<Vec<Prepared>> = (0..PARTITIONS).map(|_| Vec::new()).collect();
    for number in 0..messages {
        let (partition, said) = said(&mut chance);
        let copies = if chance.below(20) == 0 { 2 } else { 1 };
        for _ in 0..copies {
            let backlog = &mut backlogs[partition as usize];
            let offset = backlog.len() as i64 + 1;
            let key = format!("m{number}");
            backlog.push(cluster.record(partition, offset, said.clone(), &key));
        }
    }
    (backlogs, messages)
}

async fn work_at_the_desk(cluster: &Cluster, who: usize, over: &AtomicBool) {
    let name = format!("agent-{who}");
    let mut chance = Chance(100 + who as u64);
    let mut mine = Vec::new();
    while !over.load(Ordering::SeqCst) {
        let store = cluster.store(who);
        let now = cluster.clock.micros();
        let claimed = store
            .claim(&queue_id("frontline"), agent(&name), None, now)
            .await;
        mine.extend(refused_at_most(claimed).flatten().map(|found| found.id));
        if mine.is_empty() {
            continue;
        }
        let id = mine[chance.below(mine.len())];
        match chance.below(4) {
            0 | 1 => {
                refused_at_most(store.reply(answer(id, &name, None, now)).await);
            }
            2 => {
                refused_at_most(
                    store
                        .act(id, agent(&name), Action::Resolve, None, now)
                        .await,
                );
            }
            _ => {
                refused_at_most(store.act(id, agent(&name), Action::Reopen, None, now).await);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn routers_and_agents_beside_each_other_file_every_message_once_and_break_nothing() {
    if !peers::enabled() {
        return;
    }
    let cluster = Arc::new(Cluster::of(3).await);
    let (backlogs, messages) = backlogs(&cluster, rounds(1_500));
    let over = Arc::new(AtomicBool::new(false));
    let agents = (0..3).map(|who| {
        let (cluster, over) = (cluster.clone(), over.clone());
        tokio::spawn(async move { work_at_the_desk(&cluster, who, &over).await })
    });
    let agents: Vec<_> = agents.collect();
    let routers = backlogs
        .into_iter()
        .zip(0..PARTITIONS)
        .map(|(backlog, partition)| {
            let cluster = cluster.clone();
            tokio::spawn(async move {
                let mut ownership = cluster.own(partition as usize, partition).await;
                let mut filed = 0;
                for batch in backlog.chunks(BATCH) {
                    let routed = cluster.route(partition as usize, &mut ownership, batch.to_vec());
                    let verdicts = routed.await.expect("the batch is decided").verdicts;
                    filed += verdicts
                        .iter()
                        .filter(|verdict| **verdict == Verdict::Filed)
                        .count();
                }
                filed
            })
        });
    let filed: usize = join_all(routers.collect::<Vec<_>>())
        .await
        .into_iter()
        .map(|filed| filed.expect("a router"))
        .sum();
    over.store(true, Ordering::SeqCst);
    for agent in agents {
        agent.await.expect("an agent");
    }
    assert_eq!(filed, messages);
    let said = "SELECT count(*) FROM message WHERE author = 0";
    assert_eq!(cluster.number(said).await, messages as i64);
    let merged = cluster
        .number("SELECT count(*) FROM surgery WHERE kind = 3")
        .await;
    assert!(merged > 20, "evidence links contacts on the way: {merged}");
    let answered = cluster
        .number("SELECT count(*) FROM message WHERE author = 1")
        .await;
    assert!(answered > 20, "agents answer on the way: {answered}");
    cluster.is_consistent().await;
    let cluster = Arc::into_inner(cluster).expect("everybody is done");
    assert_eq!(cluster.deadlocks(), 0, "everybody locks in one order");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_and_a_chat_of_one_stranger_in_the_same_moment_are_one_contact_and_one_conversation()
{
    if !peers::enabled() {
        return;
    }
    let cluster = Cluster::of(2).await;
    let (mut one, mut other) = (cluster.own(0, 0).await, cluster.own(1, 1).await);
    let rounds = rounds(100) as i64;
    for round in 1..=rounds {
        let address = format!("s{round}@example.com");
        let name = format!("s{round}");
        let by_mail = cluster.record(0, round, mail(&address, "hello"), &format!("a{round}"));
        let by_chat = proving(chat(&name, "hello"), &address);
        let by_chat = cluster.record(1, round, by_chat, &format!("b{round}"));
        let (mailed, chatted) = tokio::join!(
            cluster.route(0, &mut one, vec![by_mail]),
            cluster.route(1, &mut other, vec![by_chat])
        );
        mailed.expect("the mail is filed");
        chatted.expect("the chat is filed");
    }
    assert_eq!(
        cluster.number("SELECT count(*) FROM conversation").await,
        rounds
    );
    assert_eq!(
        cluster.number("SELECT count(*) FROM message").await,
        2 * rounds
    );
    let stand = "SELECT count(*) FROM contact WHERE merged_into IS NULL";
    assert_eq!(cluster.number(stand).await, rounds);
    cluster.is_consistent().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_comes_in_the_same_moment_as_its_message_is_applied() {
    if !peers::enabled() {
        return;
    }
    let cluster = Cluster::of(2).await;
    let (mut one, mut other) = (cluster.own(0, 0).await, cluster.own(1, 1).await);
    let rounds = rounds(150) as i64;
    for round in 1..=rounds {
        let key = format!("m{round}");
        let said = cluster.record(0, round, chat("carol", "helo"), &key);
        let edited = cluster.record(1, round, edit(&key, "hello"), &format!("e{round}"));
        let (said, edited) = tokio::join!(
            cluster.route(0, &mut one, vec![said]),
            cluster.route(1, &mut other, vec![edited])
        );
        said.expect("the message is filed");
        edited.expect("the edit is taken");
    }
    let edits = "SELECT count(*) FROM message JOIN change ON change.message = message.id AND message.body = change.record";
    assert_eq!(cluster.number(edits).await, rounds);
    cluster.is_consistent().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_was_replaced_writes_nothing() {
    if !peers::enabled() {
        return;
    }
    let cluster = Cluster::of(2).await;
    for round in 1..=rounds(20) as i64 {
        let mut old = cluster.own(0, 0).await;
        let record = || {
            cluster.record(
                0,
                round,
                mail("ann@example.com", "hello"),
                &format!("m{round}"),
            )
        };
        let before = cluster.number("SELECT count(*) FROM message").await;
        // Whoever is first: the old one's batch is decided before, or not at all.
        let (late, new) = tokio::join!(
            cluster.route(0, &mut old, vec![record()]),
            cluster.store(1).own(0)
        );
        let mut new = new.expect("the partition changes hands");
        let filed = cluster.number("SELECT count(*) FROM message").await - before;
        match late {
            Ok(routed) => assert_eq!((new.position, filed), (routed.position, 1)),
            Err(StoreError::StaleEpoch(_)) => assert_eq!((new.position, filed), (old.position, 0)),
            Err(other) => panic!("{other}"),
        }
        let again = cluster.route(0, &mut old, vec![record()]).await;
        assert!(matches!(again, Err(StoreError::StaleEpoch(_))), "{again:?}");
        if filed == 0 {
            let routed = cluster.route(1, &mut new, vec![record()]).await;
            routed.expect("the new owner decides it");
        }
    }
    let filed = cluster.number("SELECT count(*) FROM message").await;
    assert_eq!(filed, rounds(20) as i64);
    cluster.is_consistent().await;
}

/// What a transaction ends with.
const COMMIT: &[u8] = b"; COMMIT";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_whose_commit_was_not_answered_are_filed_once() {
    if !peers::enabled() {
        return;
    }
    let mut cluster = Cluster::of(1).await;
    let chaos = peers::Chaos::start(cluster.made.port());
    cluster
        .stores
        .push(cluster.made.through_named(chaos.port).await);
    let mut ownership = cluster.own(1, 0).await;
    let rounds = rounds(10) as i64;
    let mut seen = HashSet::new();
    for round in 1..=rounds {
        let batch = (0..3).map(|at| {
            let offset = (round - 1) * 3 + at + 1;
            let from = format!("c{}@example.com", offset % 7);
            cluster.record(0, offset, mail(&from, "hello"), &format!("m{offset}"))
        });
        chaos.lose_answer_to(COMMIT);
        let batch: Vec<Prepared> = batch.collect();
        // Cut a byte earlier it is undone, says so, and is decided again.
        let routed = match cluster.route(1, &mut ownership, batch.clone()).await {
            Err(StoreError::Unavailable(why)) => {
                assert!(why.contains("it was undone"), "{why}");
                cluster.route(1, &mut ownership, batch).await
            }
            routed => routed,
        };
        let routed = routed.expect("it is known what became of it");
        assert!(seen.insert(routed.position));
    }
    assert_eq!(chaos.answers_lost() as i64, rounds);
    assert_eq!(
        cluster.number("SELECT count(*) FROM message").await,
        3 * rounds
    );
    cluster.is_consistent().await;
    let sessions = cluster
        .number("SELECT count(*) FROM committed WHERE gone_at IS NOT NULL")
        .await;
    assert_eq!(sessions, 0);
}
