//! Lists of conversations in the order in which their queue hands them out.

use reqwest::Method;
use serde_json::{Value, json};

use super::served::Served;
use crate::support::chat;

const WAITING: &str = "/v1/conversations?sort=waiting&queue=frontline";

fn ids(page: &Value) -> Vec<String> {
    let items = page["items"].as_array().unwrap();
    let id = |item: &Value| item["id"].as_str().unwrap().to_owned();
    items.iter().map(id).collect()
}

#[tokio::test]
async fn a_queue_is_listed_as_it_is_handed_out_also_while_it_is() {
    let mut served = Served::new().await;
    for number in 0..5 {
        let said = chat(&format!("cust-{number}"), "Hello?");
        served.deliver([said]).await;
    }
    let (boss, ada) = (served.supervisor().await, served.agent("ada").await);
    let urgent = served.conversation(4).await;
    let path = format!("/v1/conversations/{urgent}");
    let changed = served.call(Method::PATCH, &boss, &path);
    changed
        .json(&json!({ "priority": "urgent" }))
        .send()
        .await
        .ok();
    let all = served.get(&ada, WAITING).send().await.ok();
    assert_eq!(all["next_cursor"], Value::Null);
    let all = ids(&all);
    assert_eq!(all[0], urgent);
    assert_eq!(all[1], served.conversation(1).await);

    let first = format!("{WAITING}&limit=2");
    let page = served.get(&ada, &first).send().await.ok();
    let mut paged = ids(&page);
    let mut next = page["next_cursor"].as_str().map(str::to_owned);
    // What the cursor names leaves the queue: nothing is left out by it.
    let mut handed_out = Vec::new();
    for _ in 0..2 {
        let claimed = served.claim(&ada, "frontline").await;
        handed_out.push(claimed["id"].as_str().unwrap().to_owned());
    }
    while let Some(cursor) = next {
        let path = format!("{first}&cursor={cursor}");
        let page = served.get(&ada, &path).send().await.ok();
        paged.extend(ids(&page));
        next = page["next_cursor"].as_str().map(str::to_owned);
    }
    assert_eq!(paged, all);
    assert_eq!(handed_out, all[..2]);
}

#[tokio::test]
async fn the_order_of_a_queue_goes_with_a_queue_and_shows_nothing_of_others() {
    let mut served = Served::new().await;
    served.deliver([chat("cust-1", "Hello?")]).await;
    let boss = served.supervisor().await;
    for (query, field) in [
        ("sort=waiting", "sort"),
        ("sort=waiting&queue=frontline&status=pending", "sort"),
        ("sort=waiting&queue=frontline&assignee=ada", "sort"),
        ("sort=newest", "sort"),
        ("sort=waiting&queue=frontline&cursor=1.2", "cursor"),
        ("sort=waiting&queue=frontline&cursor=12", "cursor"),
    ] {
        let path = format!("/v1/conversations?{query}");
        let refused = served.get(&boss, &path).send().await;
        let problem = refused.problem(400, "bad-request");
        assert_eq!(problem["field"], field, "{query}");
    }
    let mine = served.get(&boss, &format!("{WAITING}&status=queued"));
    assert_eq!(ids(&mine.send().await.ok()).len(), 1);
    let elsewhere = served.token("agent", "kim", &["returns"], &[]).await;
    let refused = served.get(&elsewhere, WAITING).send().await;
    refused.is(400);
    let other_brand = served.token("agent", "kim", &[], &["outlet"]).await;
    let seen = served.get(&other_brand, WAITING).send().await.ok();
    assert!(ids(&seen).is_empty(), "{seen}");
}
