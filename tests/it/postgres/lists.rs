//! Lists of what several processes wrote: each draws its ids in blocks of its own.

use switchboard::ids::ConversationId;
use switchboard::search::Query;
use switchboard::store::search::{Search as _, SearchRequest, Searched};
use switchboard::store::{ConversationFilter, ConversationSort, Store as _};

use super::cluster::Cluster;
use crate::peers;
use crate::support::{mail, supervisor};

/// Files one more customer's message on each of the two processes, in turn. The second one's partition has had more
/// records: its numbers, which conversations are named after, are higher.
async fn one_each(cluster: &Cluster, owned: &mut [switchboard::store::Ownership; 2], at: &mut i64) {
    for (process, ownership) in owned.iter_mut().enumerate() {
        *at += 1;
        let said = mail(&format!("zoe-{at}@example.com"), "hello");
        let offset = *at + 1_000 * i64::from(ownership.partition);
        cluster.clock.advance(std::time::Duration::from_secs(1));
        let record = cluster.record(ownership.partition, offset, said, &format!("m{at}"));
        let routed = cluster.route(process, ownership, vec![record]).await;
        routed.expect("filed");
    }
}

async fn page(
    cluster: &Cluster,
    process: usize,
    before: Option<(i64, ConversationId)>,
) -> Vec<(i64, ConversationId)> {
    let filter = ConversationFilter {
        sort: ConversationSort::Opened { before },
        limit: 3,
        ..ConversationFilter::default()
    };
    let found = cluster.store(process).conversations(supervisor(), filter);
    let found = found.await.expect("a page");
    found.iter().map(|one| (one.opened_at, one.id)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_give_what_two_processes_opened_once_each_in_order_while_both_open_more() {
    if !peers::enabled() {
        return;
    }
    let cluster = Cluster::of(2).await;
    let mut owned = [cluster.own(0, 0).await, cluster.own(1, 1).await];
    let mut at = 0;
    for _ in 0..5 {
        one_each(&cluster, &mut owned, &mut at).await;
    }
    let blocks = "SELECT count(*) FROM conversation AS one JOIN conversation AS other
                  ON one.opened_at < other.opened_at AND one.id > other.id";
    assert!(cluster.number(blocks).await > 0, "ids rise with time here");
    let mut paged = page(&cluster, 0, None).await;
    let newest = paged.first().copied();
    loop {
        one_each(&cluster, &mut owned, &mut at).await;
        // Another process goes on where one ended.
        let next = page(&cluster, paged.len(), paged.last().copied()).await;
        if next.is_empty() {
            break;
        }
        paged.extend(next);
    }
    assert_eq!(paged.len(), 10);
    let in_order = paged.is_sorted_by(|one, other| one > other);
    assert!(in_order, "newest first, each once: {paged:?}");
    let behind = cluster.number("SELECT count(*) FROM conversation").await - 10;
    assert!(behind > 0 && paged.first().copied() == newest);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn contacts_are_found_newest_first_whichever_process_met_them() {
    if !peers::enabled() {
        return;
    }
    let cluster = Cluster::of(2).await;
    let mut owned = [cluster.own(0, 0).await, cluster.own(1, 1).await];
    let mut at = 0;
    for _ in 0..3 {
        one_each(&cluster, &mut owned, &mut at).await;
    }
    cluster.numbered().await;
    let store = cluster.store(0);
    while store.index(100).await.expect("indexing").behind > 0 {}
    let asked = SearchRequest::new(supervisor(), Query::parse("zoe*").expect("a query"), 9);
    let Searched::Found { contacts, .. } = store.search(asked).await.expect("searching") else {
        panic!("the index is being made");
    };
    let met: Vec<i64> = contacts.iter().map(|contact| contact.created_at).collect();
    assert_eq!(met.len(), 6);
    assert!(met.is_sorted_by(|one, other| one >= other), "{met:?}");
}
