//! Lists of conversations: filters, pages, and parameters that cannot be used.

use serde_json::{Value, json};

use super::served::Served;
use crate::support::chat;

fn listed(list: &Value) -> Vec<String> {
    list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["id"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn lists_are_filtered_by_everything_given() {
    let mut served = Served::new().await;
    let other = chat("cust-9", "for the back office").on("other-chat");
    served
        .deliver([chat("cust-7", "first"), chat("cust-8", "second"), other])
        .await;
    let token = served.agent("ada").await;
    let claimed = served.claim(&token, "frontline").await;
    let [first, second, third] = [
        served.conversation(1).await,
        served.conversation(2).await,
        served.conversation(3).await,
    ];
    let contact = claimed["contact_id"].as_str().unwrap();
    let (head, last) = contact.split_at(contact.len() - 1);
    let foreign = format!("{head}{}", if last == "0" { "1" } else { "0" });
    let cases = [
        (String::new(), vec![&third, &second, &first]),
        ("status=queued".to_owned(), vec![&third, &second]),
        ("status=queued&queue=frontline".to_owned(), vec![&second]),
        ("queue=backoffice".to_owned(), vec![&third]),
        ("assignee=me".to_owned(), vec![&first]),
        ("assignee=ada&status=assigned".to_owned(), vec![&first]),
        ("assignee=bob".to_owned(), vec![]),
        (format!("contact={contact}"), vec![&first]),
        (format!("contact={contact}&status=queued"), vec![]),
        (format!("contact={foreign}"), vec![]),
    ];
    for (query, expected) in cases {
        let list = served
            .get(&token, &format!("/v1/conversations?{query}"))
            .send()
            .await
            .ok();
        assert_eq!(
            listed(&list).iter().collect::<Vec<_>>(),
            expected,
            "{query}"
        );
        assert_eq!(list["next_cursor"], Value::Null, "{query}");
    }
}

#[tokio::test]
async fn pages_together_are_the_whole_list() {
    let mut served = Served::new().await;
    served
        .deliver((1..=7).map(|number| chat(&format!("cust-{number}"), "hello")))
        .await;
    let token = served.agent("ada").await;
    for limit in [1, 3, 7, 100] {
        let (mut all, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("/v1/conversations?limit={limit}{cursor}");
            let page = served.get(&token, &path).send().await.ok();
            let items = listed(&page);
            assert!(items.len() <= limit && !items.is_empty());
            all.extend(items);
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        let mut expected = Vec::new();
        for number in (1..=7).rev() {
            expected.push(served.conversation(number).await);
        }
        assert_eq!(all, expected, "limit {limit}");
    }
}

#[tokio::test]
async fn parameters_that_cannot_be_used_are_named_with_what_can() {
    let mut served = Served::new().await;
    served.deliver([chat("cust-7", "hello")]).await;
    let token = served.token("reader", "", &["frontline"], &[]).await;
    let id = served.conversation(1).await;
    let cases = [
        ("/v1/conversations?status=open", "status"),
        ("/v1/conversations?queue=backoffice", "queue"),
        ("/v1/conversations?assignee=me", "assignee"),
        ("/v1/conversations?assignee=", "assignee"),
        ("/v1/conversations?limit=0", "limit"),
        ("/v1/conversations?limit=101", "limit"),
        ("/v1/conversations?limit=many", "limit"),
        ("/v1/conversations?cursor=abc", "cursor"),
        (&format!("/v1/conversations?cursor={id}"), "cursor"),
        (&format!("/v1/conversations/{id}?expand=all"), "expand"),
        (
            &format!("/v1/conversations/{id}/messages?limit=-1"),
            "limit",
        ),
        (
            &format!("/v1/conversations/{id}/messages?cursor=%00"),
            "cursor",
        ),
    ];
    for (path, field) in cases {
        let problem = served
            .get(&token, path)
            .send()
            .await
            .problem(400, "bad-request");
        assert_eq!(problem["field"], field, "{path}");
    }
    let problem = served
        .get(&token, "/v1/conversations?status=open")
        .send()
        .await
        .body;
    assert_eq!(problem["allowed"].as_array().unwrap().len(), 10);
    let problem = served
        .get(&token, "/v1/conversations?queue=backoffice")
        .send()
        .await
        .body;
    assert_eq!(problem["allowed"], json!(["frontline"]));
    for query in ["statuses=queued", "status=queued&status=assigned"] {
        let path = format!("/v1/conversations?{query}");
        served
            .get(&token, &path)
            .send()
            .await
            .problem(400, "bad-request");
    }
}
