//! A PostgreSQL that dies, and its standby that takes over.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use reqwest::StatusCode;
use serde_json::Value;

use super::{ALL, Cluster};
use crate::daemon::process::{Installation, PATIENCE, chat, chat_config};
use crate::daemon::shop::Shop;
use crate::peers::postgres::Postgres;
use crate::peers::{self, wait_for, wait_until};
use crate::support::kafka::broker;

/// Customers who say something, a third of them before the server dies.
const CUSTOMERS: usize = 60;

#[test]
fn a_standby_that_takes_over_goes_on_and_nothing_is_lost_or_done_twice() {
    if !peers::enabled() {
        return;
    }
    let shop = Shop::open();
    let primary = Arc::new(Postgres::durable());
    let cluster = Cluster::with(broker(), primary.clone(), chat_config(&shop.url));
    let standby = primary.standby();
    let name = cluster.database_name();
    let url = format!(
        "postgres://switchboard@127.0.0.1:{},127.0.0.1:{}/{name}",
        // The standby comes first: it is there, and takes no writes.
        standby.port,
        primary.port
    );
    let process = Installation::new(&cluster.config(ALL, &url));
    process.run();
    let token = process.token("ada");
    let (taken, given) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let claimed = std::thread::scope(|scope| {
        scope.spawn(|| {
            for customer in 0..CUSTOMERS {
                let said = chat(
                    &format!("m{customer}"),
                    &format!("cust-{customer}"),
                    "Hello?",
                );
                wait_until("a message to be taken", PATIENCE, || {
                    process.hook("shop-chat", &said).unwrap().status() == 200
                });
                taken.fetch_add(1, Ordering::SeqCst);
            }
        });
        let claims = scope.spawn(|| {
            let mut claimed = BTreeSet::new();
            for claim in 0..CUSTOMERS {
                let conversation = claim_with(&process, &token, &format!("claim-{claim}"));
                assert!(claimed.insert(conversation), "it was given once");
                given.fetch_add(1, Ordering::SeqCst);
            }
            claimed
        });
        wait_until("a third to be taken and claimed", PATIENCE, || {
            let third = |count: &AtomicUsize| count.load(Ordering::SeqCst) >= CUSTOMERS / 3;
            third(&taken) && third(&given)
        });
        primary.end_at_once();
        standby.promote();
        claims.join().expect("all are claimed")
    });
    assert_eq!(claimed.len(), CUSTOMERS);
    for (what, sql) in [
        ("messages", "SELECT count(*) FROM message"),
        (
            "holders",
            "SELECT count(*) FROM conversation WHERE assignee IS NOT NULL",
        ),
    ] {
        assert_eq!(standby.rows(name, sql), [CUSTOMERS.to_string()], "{what}");
    }
}

/// The conversation of a claim that is made until it is answered, under one key.
fn claim_with(process: &Installation, token: &str, key: &str) -> String {
    wait_for("a claim to be answered", PATIENCE, || {
        let url = process.url("/v1/queues/frontline/claim?wait=1s");
        let asked = process.http.post(url).bearer_auth(token);
        let answer = asked.header("Idempotency-Key", key).send().unwrap();
        (answer.status() == StatusCode::OK).then(|| {
            let said: Value = answer.json().unwrap();
            said["id"].as_str().unwrap().to_owned()
        })
    })
}
