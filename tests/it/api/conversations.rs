//! Conversations: what is shown, found and explained, and what their states allow.

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::served::{Served, numbered};
use crate::support::{Said, chat, mail};

/// Delivers, and shows what `path` (with `{id}` for the first conversation) is answered.
async fn check(said: impl IntoIterator<Item = Said>, path: &str, expected: Expect) {
    let mut served = Served::new().await;
    served.deliver(said).await;
    let token = served.agent("ada").await;
    let path = path.replace("{id}", &served.conversation(1).await);
    expected.assert_eq(&numbered(&served.get(&token, &path).send().await.ok()));
}

fn order_mail() -> Said {
    mail(
        "ada@customer.example",
        "Where is my order? It should have come last week.",
    )
    .subject("My order")
    .cc("friend@customer.example")
}

#[tokio::test]
async fn a_conversation_is_shown_with_everything_a_desk_needs() {
    check(
        [order_mail()],
        "/v1/conversations/{id}",
        expect![[r#"
        {
          "assignee": null,
          "brand": "main",
          "channels": [
            "support-mail"
          ],
          "contact_id": "con_1",
          "enqueued_at": "2026-01-05T09:00:00.01Z",
          "id": "cnv_2",
          "labels": {
            "intent": "delivery",
            "language": "en"
          },
          "last_inbound_at": "2026-01-05T09:00:00.01Z",
          "links": [],
          "opened_at": "2026-01-05T09:00:00.01Z",
          "participants": [
            {
              "address": "ada@customer.example",
              "evidence": "verified",
              "name": null,
              "namespace": "email",
              "role": "customer"
            },
            {
              "address": "friend@customer.example",
              "evidence": "claimed",
              "name": null,
              "namespace": "email",
              "role": "cc"
            }
          ],
          "priority": "normal",
          "queue": "frontline",
          "resolved_at": null,
          "status": "queued",
          "subject": "My order",
          "tags": [],
          "version": 1
        }"#]],
    )
    .await;
}

#[tokio::test]
async fn an_explanation_names_facts_and_rules_by_public_ids() {
    let reference = mail(
        "eve@stranger.example",
        "About the same thing: what is it worth to you?",
    )
    .claimed()
    .refers_to("first@customer.example");
    check(
        [order_mail().message_id("first@customer.example"), reference],
        "/v1/conversations/{id}/explain",
        expect![[r#"
            {
              "conversation": {
                "assignee": null,
                "brand": "main",
                "channels": [
                  "support-mail"
                ],
                "contact_id": "con_1",
                "enqueued_at": "2026-01-05T09:00:00.01Z",
                "id": "cnv_2",
                "labels": {
                  "intent": "delivery",
                  "language": "en"
                },
                "last_inbound_at": "2026-01-05T09:00:00.01Z",
                "links": [],
                "opened_at": "2026-01-05T09:00:00.01Z",
                "participants": [
                  {
                    "address": "ada@customer.example",
                    "evidence": "verified",
                    "name": null,
                    "namespace": "email",
                    "role": "customer"
                  },
                  {
                    "address": "friend@customer.example",
                    "evidence": "claimed",
                    "name": null,
                    "namespace": "email",
                    "role": "cc"
                  }
                ],
                "priority": "normal",
                "queue": "frontline",
                "resolved_at": null,
                "status": "queued",
                "subject": "My order",
                "tags": [],
                "version": 1
              },
              "items": [
                {
                  "arrived_at": "2026-01-05T09:00:00.01Z",
                  "author": "customer",
                  "automatic": false,
                  "duplicate_of": null,
                  "explanation": {
                    "acknowledged": null,
                    "dedupe": {
                      "decision": "first",
                      "seen_as": null
                    },
                    "identity": {
                      "contact_id": "con_1",
                      "evidence": "verified",
                      "found": "new",
                      "linked_contact_id": null,
                      "method": "dmarc"
                    },
                    "join": {
                      "reason": "first_of_contact",
                      "refused": [],
                      "rule": 6
                    },
                    "queue": {
                      "channel": "support-mail",
                      "priority": "normal",
                      "queue": "frontline",
                      "rule": null,
                      "rules_version": "test",
                      "status": "queued"
                    }
                  },
                  "labels": {
                    "automatic": {
                      "confidence": 1.0,
                      "evidence": [],
                      "value": "no"
                    },
                    "intent": {
                      "confidence": 0.7,
                      "evidence": [
                        "where is my order"
                      ],
                      "value": "delivery"
                    },
                    "language": {
                      "confidence": 0.95,
                      "evidence": [],
                      "value": "en"
                    },
                    "sentiment": {
                      "confidence": 0.0,
                      "evidence": [],
                      "value": "unknown"
                    },
                    "spam": {
                      "confidence": 0.0,
                      "evidence": [],
                      "value": "unknown"
                    },
                    "urgency": {
                      "confidence": 0.0,
                      "evidence": [],
                      "value": "unknown"
                    }
                  },
                  "message_id": "msg_3",
                  "seq": 1,
                  "settled": []
                }
              ],
              "next_cursor": null
            }"#]],
    )
    .await;
}

#[tokio::test]
async fn a_refused_hint_is_explained_with_the_conversation_it_named() {
    let mut served = Served::new().await;
    let reference = mail(
        "eve@stranger.example",
        "About the same thing: what is it worth to you?",
    )
    .claimed()
    .refers_to("first@customer.example");
    served
        .deliver([order_mail().message_id("first@customer.example"), reference])
        .await;
    let token = served.agent("ada").await;
    let [first, second] = [served.conversation(1).await, served.conversation(2).await];
    let explained = served
        .get(&token, &format!("/v1/conversations/{second}/explain"))
        .send()
        .await
        .ok();
    let refused = &explained["items"][0]["explanation"]["join"]["refused"][0];
    assert_eq!(
        (&refused["hint"], &refused["conversation_id"]),
        (&json!("reference"), &json!(first)),
        "{explained}"
    );
    assert_eq!(
        explained["conversation"]["links"][0]["conversation_id"],
        first
    );
    served
        .get(
            &token,
            &format!("/v1/conversations/{second}/explain?limit=0"),
        )
        .send()
        .await
        .problem(400, "bad-request");
}

#[tokio::test]
async fn a_contact_is_shown_with_what_proves_it() {
    let mut served = Served::new().await;
    served
        .deliver([chat("cust-7", "hello").with_email("ada@customer.example")])
        .await;
    let token = served.agent("ada").await;
    let conversation = served.claim(&token, "frontline").await;
    let contact = conversation["contact_id"].as_str().unwrap();
    let contact = served
        .get(&token, &format!("/v1/contacts/{contact}"))
        .send()
        .await
        .ok();
    expect![[r#"
        {
          "brand": "main",
          "created_at": "2026-01-05T09:00:00.01Z",
          "evidence": "verified",
          "id": "con_1",
          "identities": [
            {
              "address": "cust-7",
              "evidence": "verified",
              "method": "signed",
              "name": null,
              "namespace": "webhook:shop-chat"
            },
            {
              "address": "ada@customer.example",
              "evidence": "verified",
              "method": "vouched",
              "name": null,
              "namespace": "email"
            }
          ],
          "name": null,
          "suggestions": [],
          "version": 1
        }"#]]
    .assert_eq(&numbered(&contact));
}

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

#[tokio::test]
async fn states_allow_what_they_allow_and_a_refusal_names_state_and_holder() {
    let mut served = Served::new().await;
    served.deliver([chat("cust-7", "hello")]).await;
    let [ada, bob, sue] = [
        served.agent("ada").await,
        served.agent("bob").await,
        served.supervisor().await,
    ];
    let id = served.conversation(1).await;
    let act = async |token: &str, action: &str| {
        served
            .post(token, &format!("/v1/conversations/{id}/{action}"))
            .send()
            .await
    };
    let refused = |problem: Value| (problem["state"].clone(), problem["holder"].clone());

    let problem = act(&ada, "release").await.problem(409, "wrong-state");
    assert_eq!(refused(problem), (json!("queued"), Value::Null));
    act(&ada, "reopen").await.problem(409, "wrong-state");
    served.claim(&ada, "frontline").await;
    for action in ["release", "resolve"] {
        let problem = act(&bob, action).await.problem(403, "not-assignee");
        assert_eq!(
            refused(problem),
            (json!("assigned"), json!("ada")),
            "{action}"
        );
    }
    let released = act(&ada, "release").await;
    assert_eq!(
        released.header("etag"),
        format!("\"{}\"", released.body["version"])
    );
    let released = released.ok();
    assert_eq!(
        (&released["status"], &released["assignee"]),
        (&json!("queued"), &Value::Null)
    );
    served.claim(&bob, "frontline").await;
    assert_eq!(act(&sue, "resolve").await.ok()["status"], "resolved");
    let problem = act(&bob, "resolve").await.problem(409, "wrong-state");
    assert_eq!(problem["state"], "resolved");
    assert_eq!(act(&ada, "reopen").await.ok()["status"], "queued");
}

#[tokio::test]
async fn a_version_that_is_past_changes_nothing() {
    let mut served = Served::new().await;
    served.deliver([chat("cust-7", "hello")]).await;
    let token = served.agent("ada").await;
    let claimed = served.claim(&token, "frontline").await;
    let path = format!(
        "/v1/conversations/{}/release",
        claimed["id"].as_str().unwrap()
    );
    let version = claimed["version"].as_i64().unwrap();
    let stale = format!("\"{}\"", version - 1);
    let problem = served
        .post(&token, &path)
        .header("If-Match", &stale)
        .send()
        .await
        .problem(412, "stale-version");
    assert_eq!(problem["current_version"], version);
    for header in ["3", "\"three\"", "\"3\", \"4\"", ""] {
        let problem = served
            .post(&token, &path)
            .header("If-Match", header)
            .send()
            .await
            .problem(400, "bad-request");
        assert_eq!(problem["field"], "If-Match", "{header}");
    }
    let current = format!("\"{version}\"");
    served
        .post(&token, &path)
        .header("If-Match", &current)
        .send()
        .await
        .ok();
    served.claim(&token, "frontline").await;
    served
        .post(&token, &path)
        .header("If-Match", "*")
        .send()
        .await
        .ok();
}

#[tokio::test]
async fn an_action_takes_no_body_but_an_empty_one() {
    let mut served = Served::new().await;
    served.deliver([chat("cust-7", "hello")]).await;
    let token = served.agent("ada").await;
    let path = format!("/v1/conversations/{}/release", served.conversation(1).await);
    let problem = served
        .post(&token, &path)
        .json(&json!({ "reason": "lunch" }))
        .send()
        .await;
    assert_eq!(problem.problem(422, "unprocessable")["field"], "reason");
    served
        .post(&token, &path)
        .body("not json")
        .send()
        .await
        .problem(400, "bad-request");
    served
        .post(&token, &path)
        .json(&json!({}))
        .send()
        .await
        .problem(409, "wrong-state");
}
