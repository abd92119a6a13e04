//! Messages: what is shown of them, answers that are sent once, notes that never leave.

use connector_api::{Event, Timestamp};
use expect_test::expect;
use serde_json::{Value, json};
use switchboard::ids::IdKind;

use super::served::{Served, numbered};
use crate::support::{Said, chat, delete, edit, mail, reaction, within_patience};

/// A desk where `ada` holds the conversation of what was said.
async fn held(said: impl IntoIterator<Item = Said>) -> (Served, String, String) {
    let mut served = Served::new().await;
    served.deliver(said).await;
    let token = served.agent("ada").await;
    let id = served.claim(&token, "frontline").await["id"]
        .as_str()
        .unwrap()
        .to_owned();
    (served, token, id)
}

async fn messages(served: &Served, token: &str, id: &str) -> Vec<Value> {
    let list = served
        .get(token, &format!("/v1/conversations/{id}/messages"))
        .send()
        .await
        .ok();
    list["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_message_is_shown_with_its_sender_words_and_labels() {
    let full = "Please send my money back.\n\nOn Mon, 5 Jan 2026 at 09:00, Shop <help@shop.example> wrote:\n> Hello";
    let (served, token, id) = held([mail("ada@customer.example", full).subject("Refund")]).await;
    expect![[r#"
        [
          {
            "agent": null,
            "arrived_at": "2026-01-05T09:00:00.01Z",
            "attachments": [],
            "author": "customer",
            "automatic": false,
            "bcc": [],
            "cc": [],
            "channel": "support-mail",
            "conflicting": false,
            "conversation_id": "cnv_1",
            "defects": [],
            "deleted": false,
            "delivery": null,
            "duplicate_of": null,
            "edited": false,
            "from": {
              "address": "ada@customer.example",
              "evidence": "verified",
              "method": "dmarc",
              "name": null,
              "namespace": "email"
            },
            "full_text": "Please send my money back.\n\nOn Mon, 5 Jan 2026 at 09:00, Shop <help@shop.example> wrote:\n> Hello",
            "id": "msg_2",
            "labels": {
              "automatic": {
                "confidence": 1.0,
                "evidence": [],
                "value": "no"
              },
              "intent": {
                "confidence": 0.8,
                "evidence": [
                  "refund",
                  "money back"
                ],
                "value": "refund"
              },
              "language": {
                "confidence": 0.0,
                "evidence": [],
                "value": "unknown"
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
            "reactions": [],
            "reason": null,
            "send_at": null,
            "sent_at": null,
            "seq": 1,
            "subject": "Refund",
            "text": "Please send my money back.",
            "to": []
          }
        ]"#]].assert_eq(&numbered(&json!(messages(&served, &token, &id).await)));
}

#[tokio::test]
async fn html_is_given_with_the_one_message_asked_for() {
    let mut said = mail("ada@customer.example", "hello");
    if let Event::Message(message) = &mut said.event.event {
        message.html = Some("<p>hello</p>".to_owned());
    }
    let (served, token, id) = held([said]).await;
    let listed = messages(&served, &token, &id).await;
    assert_eq!(listed[0].get("html"), None);
    let path = format!("/v1/messages/{}", listed[0]["id"].as_str().unwrap());
    assert_eq!(
        served.get(&token, &path).send().await.ok()["html"],
        "<p>hello</p>"
    );
}

#[tokio::test]
async fn edits_deletions_and_reactions_are_seen_on_their_message() {
    let said = [
        chat("cust-7", "the first words").key("m-1"),
        edit("m-1", "the better words"),
        reaction("m-1", "\u{1f44d}"),
        chat("cust-7", "something regretted").key("m-2"),
        delete("m-2"),
    ];
    let (served, token, id) = held(said).await;
    let listed = messages(&served, &token, &id).await;
    let shown = |message: &Value| {
        json!([
            message["text"],
            message["edited"],
            message["deleted"],
            message["reactions"]
        ])
    };
    assert_eq!(
        shown(&listed[1]),
        json!(["the better words", true, false, ["\u{1f44d}"]])
    );
    assert_eq!(shown(&listed[0]), json!([null, false, true, []]));
    let whole = served
        .get(
            &token,
            &format!("/v1/messages/{}", listed[0]["id"].as_str().unwrap()),
        )
        .send()
        .await;
    assert!(!whole.text.contains("regretted"), "{}", whole.text);
}

#[tokio::test]
async fn an_answer_is_queued_for_whoever_wrote_and_can_be_followed() {
    let (served, token, id) = held([chat("cust-7", "where is my order?")]).await;
    let bell = served.outbox.bell("shop-chat");
    let path = format!("/v1/conversations/{id}/messages");
    let answer = served
        .post(&token, &path)
        .key("k-1")
        .json(&json!({ "text": "On its way." }))
        .send()
        .await;
    let location = answer.header("location").to_owned();
    let sent = answer.is(202);
    within_patience("the outbox's bell", bell.notified()).await;
    assert_eq!(
        [
            &sent["delivery"],
            &sent["author"],
            &sent["agent"],
            &sent["text"],
            &sent["to"][0]["address"]
        ],
        [
            &json!("queued"),
            &json!("agent"),
            &json!("ada"),
            &json!("On its way."),
            &json!("cust-7")
        ]
    );
    assert_eq!(
        location,
        format!("/v1/messages/{}", sent["id"].as_str().unwrap())
    );
    assert_eq!(
        served.get(&token, &location).send().await.ok()["id"],
        sent["id"]
    );
    let leased = served.desk.lease("shop-chat").await;
    assert_eq!(leased.len(), 1);
    assert_eq!(
        sent["id"],
        served.ids().encode(IdKind::Message, leased[0].id.0)
    );
    assert_eq!(
        served.get(&token, &location).send().await.ok()["delivery"],
        "sending"
    );
    let conversation = served
        .get(&token, &format!("/v1/conversations/{id}"))
        .send()
        .await
        .ok();
    assert_eq!(
        (&conversation["status"], &conversation["assignee"]),
        (&json!("pending"), &json!("ada"))
    );
}

/// An agent clicked once on a weak link, and the customer got it twice.
#[tokio::test]
async fn chatwoot_9314_the_same_key_sends_once_and_never_something_else() {
    let (served, token, id) = held([chat("cust-7", "where is my order?")]).await;
    let path = format!("/v1/conversations/{id}/messages");
    let send = |token: &str, key: &str, text: &str| {
        served
            .post(token, &path)
            .key(key)
            .json(&json!({ "text": text }))
            .send()
    };
    let tries: Vec<_> = (0..8)
        .map(|_| tokio::spawn(send(&token, "k-1", "On its way.")))
        .collect();
    let mut ids = Vec::new();
    for answered in tries {
        ids.push(answered.await.unwrap().is(202)["id"].clone());
    }
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    send(&token, "k-1", "Lost.")
        .await
        .problem(422, "idempotency-key-reused");
    let note = served.post(&token, &format!("/v1/conversations/{id}/notes"));
    note.key("k-1")
        .json(&json!({ "text": "On its way." }))
        .send()
        .await
        .problem(422, "idempotency-key-reused");
    assert_eq!(messages(&served, &token, &id).await.len(), 2);
    // Another's key of the same name is another key; and a new key sends again.
    let sue = served.supervisor().await;
    assert_ne!(send(&sue, "k-1", "Lost.").await.is(202)["id"], ids[0]);
    assert_ne!(
        send(&token, "k-2", "On its way.").await.is(202)["id"],
        ids[0]
    );
    assert_eq!(messages(&served, &token, &id).await.len(), 4);
    // One conversation's answers leave one after the other.
    assert_eq!(served.desk.lease("shop-chat").await.len(), 1);
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_names_what_is_wrong() {
    let (served, token, id) = held([chat("cust-7", "hello")]).await;
    let path = format!("/v1/conversations/{id}/messages");
    let send = |body: &str| {
        served
            .post(&token, &path)
            .key("k")
            .header("Content-Type", "application/json")
            .body(body)
            .send()
    };
    let long = json!({ "text": "x".repeat(100_001) }).to_string();
    let unusable = [
        ("{}", "text"),
        (r#"{"text":5}"#, "text"),
        (r#"{"text":" "}"#, "text"),
        (r#"{"text":"a","texts":[]}"#, "texts"),
        (r#"{"html":"<img src=x>"}"#, "html"),
        (r#"{"text":"a","to":[1]}"#, "to"),
        (r#"{"text":"a","cc":"x\nBcc: y"}"#, "cc"),
        (r#"{"text":"a","subject":"x\ny"}"#, "subject"),
        (r#"{"text":"a","channel":"No Such"}"#, "channel"),
        (r#"{"text":"a","reply_all":1}"#, "reply_all"),
        (r#"{"text":"a","send_at":"soon"}"#, "send_at"),
        (
            r#"{"text":"a","if_last_message":"msg_1"}"#,
            "if_last_message",
        ),
        (long.as_str(), "text"),
    ];
    for (body, field) in unusable {
        let problem = send(body).await.problem(422, "unprocessable");
        assert_eq!(problem["field"], field, "{field}");
    }
    send("[1]").await.problem(422, "unprocessable");
    let deep = format!("{{\"text\":{}{}}}", "[".repeat(1000), "]".repeat(1000));
    for body in ["", "{", "{\"text\":\"a\"} x", "\u{feff}{}", deep.as_str()] {
        let problem = send(body).await.problem(400, "bad-request");
        assert!(
            problem["detail"]
                .as_str()
                .unwrap()
                .contains("line 1 column"),
            "{problem}"
        );
    }
    let text = json!({ "text": "x".repeat(100_000) }).to_string();
    for content_type in ["text/plain", "", "application/xml"] {
        let call = served
            .post(&token, &path)
            .key("k")
            .header("Content-Type", content_type);
        call.body(text.clone())
            .send()
            .await
            .problem(415, "unsupported-media-type");
    }
    let keyless = served
        .post(&token, &path)
        .json(&json!({ "text": "a" }))
        .send()
        .await;
    assert_eq!(
        keyless.problem(400, "idempotency-key-required")["field"],
        "Idempotency-Key"
    );
    for key in ["", &"k".repeat(256)] {
        let call = served
            .post(&token, &path)
            .key(key)
            .json(&json!({ "text": "a" }));
        assert_eq!(
            call.send().await.problem(400, "bad-request")["field"],
            "Idempotency-Key"
        );
    }
    assert_eq!(messages(&served, &token, &id).await.len(), 1);
    let typed = "application/json; charset=utf-8";
    served
        .post(&token, &path)
        .key("k")
        .header("Content-Type", typed)
        .body(text)
        .send()
        .await
        .is(202);
}

#[tokio::test]
async fn an_answer_needs_the_state_the_holder_and_the_version() {
    let mut served = Served::new().await;
    served.deliver([chat("cust-7", "hello")]).await;
    let [ada, bob, sue] = [
        served.agent("ada").await,
        served.agent("bob").await,
        served.supervisor().await,
    ];
    let path = format!(
        "/v1/conversations/{}/messages",
        served.conversation(1).await
    );
    let send = |token: &str, key: &str| {
        served
            .post(token, &path)
            .key(key)
            .json(&json!({ "text": "a" }))
    };
    let problem = send(&ada, "a").send().await.problem(409, "wrong-state");
    assert_eq!(problem["state"], "queued");
    let claimed = served.claim(&ada, "frontline").await;
    let problem = send(&bob, "b").send().await.problem(403, "not-assignee");
    assert_eq!(
        (&problem["state"], &problem["holder"]),
        (&json!("assigned"), &json!("ada"))
    );
    send(&ada, "c")
        .header("If-Match", "\"0\"")
        .send()
        .await
        .problem(412, "stale-version");
    let current = format!("\"{}\"", claimed["version"]);
    let sent = send(&ada, "d")
        .header("If-Match", &current)
        .send()
        .await
        .is(202);
    // Tried again with the version it was written for, which its own success made stale.
    assert_eq!(
        send(&ada, "d")
            .header("If-Match", &current)
            .send()
            .await
            .is(202)["id"],
        sent["id"]
    );
    send(&sue, "e").send().await.is(202);
    served
        .post(&ada, &path.replace("messages", "resolve"))
        .send()
        .await
        .ok();
    let problem = send(&ada, "f").send().await.problem(409, "wrong-state");
    assert_eq!(problem["state"], "resolved");
}

#[tokio::test]
async fn a_conversation_without_a_customers_message_cannot_be_answered() {
    let bounce = mail("mailer-daemon@host.example", "could not be delivered")
        .automatic(connector_api::Automatic::Bounce);
    let (served, token, id) = held([bounce]).await;
    let path = format!("/v1/conversations/{id}/messages");
    let answer = served
        .post(&token, &path)
        .key("k")
        .json(&json!({ "text": "a" }))
        .send()
        .await;
    answer.problem(409, "not-answerable");
}

#[tokio::test]
async fn a_note_stays_here() {
    let (served, token, id) = held([chat("cust-7", "hello")]).await;
    let path = format!("/v1/conversations/{id}/notes");
    let body = json!({ "text": "a regular: be kind" });
    let noted = served.post(&token, &path).json(&body).send().await.is(201);
    assert_eq!(
        [
            &noted["author"],
            &noted["channel"],
            &noted["delivery"],
            &noted["to"],
            &noted["agent"]
        ],
        [
            &json!("note"),
            &Value::Null,
            &Value::Null,
            &json!([]),
            &json!("ada")
        ]
    );
    let keyed = served
        .post(&token, &path)
        .key("k")
        .json(&body)
        .send()
        .await
        .is(201);
    assert_ne!(keyed["id"], noted["id"]);
    assert_eq!(
        served
            .post(&token, &path)
            .key("k")
            .json(&body)
            .send()
            .await
            .is(201)["id"],
        keyed["id"]
    );
    assert_eq!(messages(&served, &token, &id).await.len(), 3);
    assert!(served.desk.lease("shop-chat").await.is_empty());
    // Colleagues may write one, too; and nothing but text is in it.
    let bob = served.agent("bob").await;
    served.post(&bob, &path).json(&body).send().await.is(201);
    let problem = served
        .post(&bob, &path)
        .json(&json!({ "text": "a", "to": [] }))
        .send()
        .await;
    assert_eq!(problem.problem(422, "unprocessable")["field"], "to");
}

#[tokio::test]
async fn times_are_rfc_3339_in_utc() {
    let (served, token, id) = held([chat("cust-7", "hello")]).await;
    let message = messages(&served, &token, &id).await.remove(0);
    let arrived = message["arrived_at"].as_str().unwrap();
    assert!(arrived.ends_with('Z'), "{arrived}");
    assert_eq!(
        arrived.parse::<Timestamp>().unwrap().as_microsecond(),
        served.desk.messages(1).await[0].arrived_at
    );
}
