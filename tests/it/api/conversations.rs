//! Conversations: what is shown and explained.

use expect_test::{Expect, expect};
use serde_json::json;

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
              "attributes": {},
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
              "merged_into": null,
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
              "snoozed_until": null,
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
                "attributes": {},
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
                "merged_into": null,
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
                "snoozed_until": null,
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
                    "answered": null,
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
              "next_cursor": null,
              "operations": []
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
          "attributes": {},
          "brand": "main",
          "created_at": "2026-01-05T09:00:00.01Z",
          "evidence": "verified",
          "hold": null,
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
          "merged": [],
          "merged_into": null,
          "name": null,
          "suggestions": [],
          "version": 1
        }"#]]
    .assert_eq(&numbered(&contact));
}
