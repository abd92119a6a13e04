//! Search over HTTP: what a UI gets and what it is told when that is not possible.

use std::sync::Arc;
use std::time::Duration;

use expect_test::expect;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use serde_json::json;
use switchboard::api::Deadlines;

use super::served::{Served, numbered};
use crate::support::{Local, chat, mail};

async fn indexed(served: &Served) {
    while served.desk.store().index(100).await.unwrap().behind > 0 {}
}

#[tokio::test]
async fn a_hit_has_its_conversation_and_a_snippet_with_what_matched() {
    let mut served = Served::new().await;
    served
        .deliver([mail("ada@customer.example", "<b>Where</b> is my parcel?").subject("Parcel 7")])
        .await;
    indexed(&served).await;
    let token = served.agent("bob").await;
    let mut found = served
        .get(&token, "/v1/search?q=%22my%20par%22*")
        .send()
        .await
        .ok();
    assert_eq!(found["items"][0]["conversation"]["subject"], "Parcel 7");
    found["items"][0]["conversation"] = json!("…");
    expect![[r#"
        {
          "contacts": [],
          "items": [
            {
              "arrived_at": "2026-01-05T09:00:00.01Z",
              "author": "customer",
              "conversation": "…",
              "field": "text",
              "message_id": "msg_1",
              "snippet": {
                "matches": [
                  {
                    "end": 25,
                    "start": 16
                  }
                ],
                "text": "<b>Where</b> is my parcel?"
              }
            }
          ],
          "next_cursor": null
        }"#]]
    .assert_eq(&numbered(&found));
    let found = served
        .get(&token, "/v1/search?q=customer.example")
        .send()
        .await
        .ok();
    assert_eq!(
        found["contacts"][0]["identities"][0]["address"],
        "ada@customer.example"
    );
    let found = served.get(&token, "/v1/search?q=7").send().await.ok();
    assert_eq!(found["items"][0]["field"], "subject");
}

#[tokio::test]
async fn pages_follow_each_other_without_naming_contacts_again() {
    let mut served = Served::new().await;
    served
        .deliver((0..5).map(|number| chat("cust-word", &format!("word {number}"))))
        .await;
    indexed(&served).await;
    let token = served.agent("bob").await;
    let (mut path, mut seen, mut contacts) = (
        "/v1/search?q=word&limit=2".to_owned(),
        Vec::new(),
        Vec::new(),
    );
    loop {
        let page = served.get(&token, &path).send().await.ok();
        for item in page["items"].as_array().unwrap() {
            seen.push(item["message_id"].as_str().unwrap().to_owned());
        }
        contacts.push(page["contacts"].as_array().unwrap().len());
        let Some(cursor) = page["next_cursor"].as_str() else {
            break;
        };
        path = format!("/v1/search?q=word&limit=2&cursor={cursor}");
    }
    let count = seen.len();
    seen.sort();
    seen.dedup();
    assert_eq!((count, seen.len(), contacts), (5, 5, vec![1, 0, 0]));
}

#[tokio::test]
async fn what_cannot_be_searched_is_named() {
    let served = Served::new().await;
    let token = served.agent("bob").await;
    for (query, field) in [
        ("q=", "q"),
        ("q=%22%22", "q"),
        ("q=a*", "q"),
        (&format!("q={}", "x".repeat(201)), "q"),
        ("q=a&status=open", "status"),
        ("q=a&queue=nowhere", "queue"),
        ("q=a&channel=A%20B", "channel"),
        ("q=a&before=yesterday", "before"),
        ("q=a&cursor=1", "cursor"),
        ("q=a&limit=0", "limit"),
    ] {
        let answer = served
            .get(&token, &format!("/v1/search?{query}"))
            .send()
            .await;
        assert_eq!(
            answer.problem(400, "bad-request")["field"],
            field,
            "{query}"
        );
    }
    served
        .get(&token, "/v1/search")
        .send()
        .await
        .problem(400, "bad-request");
    // Whatever is typed is no syntax.
    for q in [
        "AND",
        "%28%29%22",
        "a%20NEAR%2F2%20b",
        "text%3Ax",
        "%2Ba%20-b",
        "%00x",
        "%27%3B--x",
    ] {
        let answer = served
            .get(&token, &format!("/v1/search?q={q}"))
            .send()
            .await;
        assert!(
            [200, 400].contains(&answer.status.as_u16()),
            "{q}: {}",
            answer.text
        );
    }
    let admin = served.token("admin", "", &[], &[]).await;
    served
        .get(&admin, "/v1/search?q=word")
        .send()
        .await
        .problem(403, "forbidden");
}

#[tokio::test]
async fn a_search_that_takes_too_long_is_refused_and_the_next_one_is_not() {
    let local = Arc::new(Local::new());
    let mut served = Served::on(local.clone(), None, Deadlines::default()).await;
    served.deliver([chat("cust-1", "word")]).await;
    indexed(&served).await;
    let token = served.agent("bob").await;
    local.store().bound_searches(Duration::ZERO);
    let refused = served.get(&token, "/v1/search?q=word").send().await;
    assert_eq!(refused.problem(422, "search-too-broad")["field"], "q");
    local.store().bound_searches(Duration::from_secs(30));
    let found = served.get(&token, "/v1/search?q=word").send().await.ok();
    assert_eq!(found["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_token_has_two_searches_under_way_and_leaves_the_other_places_to_others() {
    let local = Arc::new(Local::new());
    let served = Served::on(local.clone(), None, Deadlines::default()).await;
    let token = served.agent("bob").await;
    let backend = served.backend("agent", &[]).await;
    let search = |token: &str| served.get(token, "/v1/search?q=word");
    let acting = || search(&backend).header("Switchboard-Agent", "eve");
    // Nobody is answered while this is held, but whoever is refused.
    let held = local.store().hold_searches().await.unwrap();
    let mut own: FuturesUnordered<_> = (0..3).map(|_| search(&token).send()).collect();
    let refused = own.next().await.unwrap();
    assert_eq!(refused.header("retry-after"), "1");
    refused.problem(429, "too-many");
    let mut all: FuturesUnordered<_> = (0..5).map(|_| acting().send()).collect();
    all.next().await.unwrap().problem(429, "too-many");
    // Another one's search waits for its turn: there is place for it.
    let other = served.supervisor().await;
    let mut others: FuturesUnordered<_> = (0..3).map(|_| search(&other).send()).collect();
    others.next().await.unwrap().problem(429, "too-many");
    // These are all of the eight places.
    let last = served.agent("ada").await;
    search(&last).send().await.problem(503, "overloaded");
    drop(held);
    for waited in own.collect::<Vec<_>>().await {
        waited.ok();
    }
    for waited in all.chain(others).collect::<Vec<_>>().await {
        waited.ok();
    }
    // Every place is free again.
    search(&last).send().await.ok();
    search(&token).send().await.ok();
}
