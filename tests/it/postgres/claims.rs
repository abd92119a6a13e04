//! Many agents of several processes, one queue.

use std::collections::HashMap;
use std::sync::Arc;

use futures::future::join_all;
use switchboard::store::{Desk as _, Idempotency, Store as _};

use super::cluster::{Cluster, answer, refused_at_most, rounds};
use crate::peers;
use crate::support::{agent, mail, queue_id};

const AGENTS: usize = 16;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_agents_take_every_conversation_once_and_none_long_before_its_turn() {
    if !peers::enabled() {
        return;
    }
    let cluster = Arc::new(Cluster::of(4).await);
    let waiting = rounds(600);
    let mut ownership = cluster.own(0, 0).await;
    let records: Vec<_> = (1..=waiting as i64)
        .map(|at| {
            cluster.record(
                0,
                at,
                mail(&format!("c{at}@example.com"), "hello"),
                &format!("m{at}"),
            )
        })
        .collect();
    for batch in records.chunks(200) {
        cluster
            .route(0, &mut ownership, batch.to_vec())
            .await
            .expect("filed");
    }
    let order = cluster.stores[0].read_raw(|conn| {
        let mut asked = conn.prepare("SELECT id FROM waiting ORDER BY fit_class, rank, id")?;
        let rows = asked.query_map((), |row| row.get::<i64>(0))?;
        Ok(rows.collect::<Result<Vec<i64>, _>>()?)
    });
    let order = order.await.expect("the order of waiting");
    let turns: HashMap<i64, usize> = order
        .iter()
        .enumerate()
        .map(|(turn, id)| (*id, turn))
        .collect();
    // Customers go on writing to what waits first.
    let writing = {
        let cluster = cluster.clone();
        let first = waiting as i64 + 1;
        tokio::spawn(async move {
            for at in first..first + 60 {
                let from = format!("c{}@example.com", at - first + 1);
                let record = cluster.record(0, at, mail(&from, "and?"), &format!("m{at}"));
                cluster
                    .route(1, &mut ownership, vec![record])
                    .await
                    .expect("filed");
            }
        })
    };
    let agents = (0..AGENTS).map(|who| {
        let cluster = cluster.clone();
        tokio::spawn(async move {
            let name = format!("agent-{who}");
            let mut mine = Vec::new();
            while let Some(found) = (cluster.store(who))
                .claim(
                    &queue_id("frontline"),
                    agent(&name),
                    None,
                    cluster.clock.micros(),
                )
                .await
                .expect("a claim")
            {
                assert_eq!(found.assignee.as_deref(), Some(name.as_str()));
                mine.push(found.id.0);
            }
            mine
        })
    });
    let agents: Vec<_> = agents.collect();
    let taken: Vec<i64> = join_all(agents)
        .await
        .into_iter()
        .flat_map(|mine| mine.expect("an agent"))
        .collect();
    writing.await.expect("the customers");
    assert_eq!(taken.len(), waiting);
    cluster.is_consistent().await;
    let claims = cluster.stores[0].read_raw(|conn| {
        // 5: assigned.
        let mut asked =
            conn.prepare("SELECT conversation FROM event WHERE kind = 5 ORDER BY seq")?;
        let rows = asked.query_map((), |row| row.get::<i64>(0))?;
        Ok(rows.collect::<Result<Vec<i64>, _>>()?)
    });
    let claims = claims.await.expect("the order of claims");
    assert_eq!(claims.len(), waiting, "each is taken once");
    // Claims are numbered in steps, within which order is that of their locks.
    let early = |(at, id): (usize, &i64)| turns[id].saturating_sub(at);
    let earliest = claims.iter().enumerate().map(early).max();
    assert!(
        earliest < Some(2 * AGENTS),
        "{earliest:?} places before its turn"
    );
    let cluster = Arc::into_inner(cluster).expect("everybody is done");
    assert_eq!(cluster.deadlocks(), 0, "everybody locks in one order");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_request_made_on_every_process_at_once_answers_once() {
    if !peers::enabled() {
        return;
    }
    let cluster = Cluster::of(4).await;
    let queue = queue_id("frontline");
    let mut ownership = cluster.own(0, 0).await;
    for round in 1..=rounds(15) as i64 {
        let from = format!("c{round}@example.com");
        let record = cluster.record(0, round, mail(&from, "hello"), &format!("m{round}"));
        cluster
            .route(0, &mut ownership, vec![record])
            .await
            .expect("filed");
        let now = cluster.clock.micros();
        let claimed = cluster.store(0).claim(&queue, agent("ada"), None, now);
        let found = claimed.await.expect("a claim").expect("something waits");
        let key: Idempotency = (format!("key {round}").into_bytes(), b"the same".to_vec());
        let answers = cluster
            .stores
            .iter()
            .map(|store| store.reply(answer(found.id, "ada", Some(key.clone()), now)));
        let ids: Vec<_> = join_all(answers)
            .await
            .into_iter()
            .map(|answered| refused_at_most(answered).expect("answered").0.id)
            .collect();
        assert!(ids.windows(2).all(|pair| pair[0] == pair[1]), "{ids:?}");
        let leases = cluster.stores.iter().map(|store| async {
            let channel = "support-mail".parse().expect("a channel");
            store
                .lease(&channel, 10, now)
                .await
                .expect("a lease")
                .leased
                .len()
        });
        let leased: usize = join_all(leases).await.into_iter().sum();
        assert_eq!(leased, 1, "one lane takes it");
    }
    cluster.is_consistent().await;
}
