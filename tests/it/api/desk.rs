//! What a helpdesk UI does with a conversation besides reading it, over HTTP.

mod files;

use expect_test::expect;
use reqwest::Method;
use serde_json::{Value, json};

use super::served::{Call, Served};
use crate::support::{chat, mail, within_patience};

async fn desk() -> Served {
    let served = Served::new().await;
    served.can_send().await;
    served
}

/// One that ada holds; its path.
async fn held(served: &mut Served) -> (String, String) {
    served
        .deliver([mail("eve@customer.example", "Where is it?").cc("bob@customer.example")])
        .await;
    let token = served.agent("ada").await;
    let id = served.claim(&token, "frontline").await["id"].clone();
    let path = format!("/v1/conversations/{}", id.as_str().unwrap());
    (token, path)
}

fn patch(served: &Served, token: &str, path: &str) -> Call {
    served.call(Method::PATCH, token, path)
}

fn pick(value: &Value, names: &[&str]) -> Value {
    names
        .iter()
        .map(|name| ((*name).to_owned(), value[*name].clone()))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

#[tokio::test]
async fn an_answer_says_to_whom_about_what_and_when() {
    let mut served = desk().await;
    let (token, path) = held(&mut served).await;
    let body = json!({
        "html": "<p>It is <b>late</b>.</p>", "subject": "Your parcel", "reply_all": true,
        "bcc": ["Boss <boss@shop.example>"], "send_at": "2026-01-05T12:00:00Z",
    });
    let sent = served
        .post(&token, &format!("{path}/messages"))
        .key("k-1")
        .json(&body)
        .send()
        .await
        .is(202);
    expect![[r#"
        {
          "bcc": [
            {
              "address": "boss <boss@shop.example>",
              "name": null,
              "namespace": "email"
            }
          ],
          "cc": [
            {
              "address": "bob@customer.example",
              "name": null,
              "namespace": "email"
            }
          ],
          "delivery": "queued",
          "send_at": "2026-01-05T12:00:00Z",
          "subject": "Your parcel",
          "text": "It is late.",
          "to": [
            {
              "address": "eve@customer.example",
              "name": null,
              "namespace": "email"
            }
          ]
        }"#]]
    .assert_eq(
        &serde_json::to_string_pretty(&pick(
            &sent,
            &["bcc", "cc", "delivery", "send_at", "subject", "text", "to"],
        ))
        .unwrap(),
    );
    let message = format!("/v1/messages/{}", sent["id"].as_str().unwrap());
    let whole = served.get(&token, &message).send().await.ok();
    assert_eq!(whole["html"], "<p>It is <b>late</b>.</p>");
    let taken_back = served
        .post(&token, &format!("{message}/cancel"))
        .send()
        .await
        .ok();
    assert_eq!(
        [&taken_back["delivery"], &taken_back["reason"]],
        ["refused", "taken back by ada"]
    );
    served
        .post(&token, &format!("{message}/cancel"))
        .send()
        .await
        .problem(409, "not-queued");
}

#[tokio::test]
async fn an_answer_that_the_customer_overtook_names_what_was_not_read() {
    let mut served = desk().await;
    let (token, path) = held(&mut served).await;
    let messages = format!("{path}/messages");
    let list = served.get(&token, &messages).send().await.ok();
    let read = list["items"][0]["id"].clone();
    served
        .deliver([mail("eve@customer.example", "Found it.")])
        .await;
    let list = served.get(&token, &messages).send().await.ok();
    let body = json!({ "text": "On its way.", "if_last_message": read });
    let problem = served
        .post(&token, &messages)
        .key("k-1")
        .json(&body)
        .send()
        .await
        .problem(409, "customer-wrote");
    assert_eq!(problem["last_message"], list["items"][0]["id"]);
    assert_eq!(
        served.desk.store().counts().await.unwrap().outbox,
        [0, 0, 0]
    );
}

#[tokio::test]
async fn a_conversation_is_begun_and_rings_its_channel() {
    let served = desk().await;
    let token = served.agent("ada").await;
    let bell = served.outbox.bell("support-mail");
    let body = json!({
        "channel": "support-mail", "to": "eve@customer.example", "subject": "Your order 17",
        "text": "It is late.", "priority": "high", "tags": ["late"], "attributes": { "order_id": "17" },
    });
    let begin = |key: &str, body: &Value| {
        served
            .post(&token, "/v1/conversations")
            .key(key)
            .json(body)
            .send()
    };
    let begun = begin("k-1", &body).await.is(202);
    within_patience("the outbox's bell", bell.notified()).await;
    assert_eq!(begin("k-1", &body).await.is(202)["id"], begun["id"]);
    let id = begun["conversation_id"].as_str().unwrap();
    let path = format!("/v1/conversations/{id}");
    let view = served.get(&token, &path).send().await.ok();
    let shown = [
        "status",
        "assignee",
        "priority",
        "tags",
        "attributes",
        "subject",
    ];
    assert_eq!(
        pick(&view, &shown),
        json!({
            "status": "pending", "assignee": "ada", "priority": "high", "tags": ["late"],
            "attributes": { "order_id": "17" }, "subject": "Your order 17",
        })
    );
    for (wrong, field) in [
        (json!({ "text": "a" }), "channel"),
        (json!({ "text": "a", "channel": "support-mail" }), "to"),
        (
            json!({ "text": "a", "channel": "shop-chat", "to": "c-1" }),
            "channel",
        ),
        (
            json!({ "text": "a", "channel": "support-mail", "to": "x", "reply_all": true }),
            "reply_all",
        ),
        (
            json!({ "text": "a", "channel": "support-mail", "to": "x@y", "queue": "nowhere" }),
            "queue",
        ),
        (
            json!({ "text": "a", "channel": "support-mail", "to": "x@y", "priority": "now" }),
            "priority",
        ),
        (
            json!({ "text": "a", "channel": "support-mail", "contact_id": "con_1" }),
            "contact_id",
        ),
        (
            json!({ "text": "a", "channel": "support-mail", "to": "x@y", "attributes": [] }),
            "attributes",
        ),
    ] {
        let problem = begin("k-2", &wrong).await.problem(422, "unprocessable");
        assert_eq!(problem["field"], field, "{wrong}");
    }
    served
        .post(&token, "/v1/conversations")
        .json(&body)
        .send()
        .await
        .problem(400, "idempotency-key-required");
}

#[tokio::test]
async fn a_conversation_is_changed_snoozed_woken_and_handed_on() {
    let mut served = desk().await;
    let (token, path) = held(&mut served).await;
    let edit =
        json!({ "priority": "urgent", "add_tags": ["vip"], "attributes": { "order_id": "17" } });
    let edited = patch(&served, &token, &path).json(&edit).send().await;
    let version = edited.header("etag").to_owned();
    assert_eq!(edited.ok()["tags"], json!(["vip"]));
    patch(&served, &token, &path)
        .header("If-Match", "\"1\"")
        .json(&edit)
        .send()
        .await
        .problem(412, "stale-version");
    let timers = served.queues.bell(switchboard::api::TIMERS);
    let snoozed = served
        .post(&token, &format!("{path}/snooze"))
        .header("If-Match", &version)
        .json(&json!({ "until": "2026-01-06T09:00:00Z" }))
        .send()
        .await
        .ok();
    within_patience("the clock's bell", timers.notified()).await;
    assert_eq!(
        [&snoozed["status"], &snoozed["snoozed_until"]],
        ["snoozed", "2026-01-06T09:00:00Z"]
    );
    let woken = served
        .post(&token, &format!("{path}/wake"))
        .send()
        .await
        .ok();
    assert_eq!(
        [&woken["status"], &woken["snoozed_until"]],
        [&json!("assigned"), &Value::Null]
    );
    let bell = served.queues.bell("backoffice");
    let transfer = format!("{path}/transfer");
    let to = |body: Value| served.post(&token, &transfer).json(&body).send();
    let problem = to(json!({ "queue": "nowhere" }))
        .await
        .problem(422, "unprocessable");
    assert_eq!(
        problem["allowed"],
        json!(["frontline", "backoffice", "outlet"])
    );
    to(json!({})).await.problem(422, "unprocessable");
    let handed = to(json!({ "queue": "backoffice" })).await.ok();
    within_patience("the queue's bell", bell.notified()).await;
    assert_eq!(
        [&handed["status"], &handed["queue"]],
        ["queued", "backoffice"]
    );
    to(json!({ "agent": "bob" }))
        .await
        .problem(403, "not-assignee");
}

#[tokio::test]
async fn participants_are_taken_in_and_out() {
    let mut served = desk().await;
    let (token, path) = held(&mut served).await;
    let participants = format!("{path}/participants");
    let partner =
        json!({ "namespace": "email", "address": "partner@parcel.example", "name": "Parcel" });
    let after = served
        .post(&token, &participants)
        .json(&partner)
        .send()
        .await
        .ok();
    assert_eq!(
        after["participants"][2]["address"],
        "partner@parcel.example"
    );
    let gone = json!({ "namespace": "email", "address": "partner@parcel.example" });
    let remove = format!("{participants}/remove");
    let after = served.post(&token, &remove).json(&gone).send().await.ok();
    assert_eq!(after["participants"].as_array().unwrap().len(), 2);
    served
        .post(&token, &remove)
        .json(&gone)
        .send()
        .await
        .problem(404, "not-found");
}

#[tokio::test]
async fn a_participant_is_kept_as_events_have_them_or_refused() {
    let mut served = desk().await;
    let (token, path) = held(&mut served).await;
    let participants = format!("{path}/participants");
    let add = |namespace: &str, address: &str| {
        let body = json!({ "namespace": namespace, "address": address });
        served.post(&token, &participants).json(&body).send()
    };
    let after = add("email", "Partner@Parcel.Example").await.ok();
    let names = |view: &Value| {
        let all = view["participants"].as_array().unwrap().iter();
        all.map(|one| one["address"].clone()).collect::<Vec<_>>()
    };
    assert!(
        names(&after).contains(&json!("partner@parcel.example")),
        "{after}"
    );
    let again = add("email", "partner@parcel.example").await.ok();
    assert_eq!(again["version"], after["version"], "they are there");
    let unread = add("e-mail", "bo@parcel.example").await;
    let unread = unread.problem(422, "unprocessable");
    assert_eq!(unread["field"], "namespace");
    assert!(
        unread["allowed"]
            .as_array()
            .unwrap()
            .contains(&json!("email"))
    );
    let wrong = add("email", "bo").await.problem(422, "unprocessable");
    assert_eq!(wrong["field"], "namespace", "a chat could mean it: {wrong}");
    let gone = json!({ "namespace": "email", "address": "PARTNER@parcel.example" });
    let remove = served.post(&token, &format!("{participants}/remove"));
    let left = remove.json(&gone).send().await.ok();
    assert!(
        !names(&left).contains(&json!("partner@parcel.example")),
        "{left}"
    );
}

#[tokio::test]
async fn a_contact_is_named_and_gets_the_shops_own_facts() {
    let mut served = desk().await;
    let (token, path) = held(&mut served).await;
    let view = served.get(&token, &path).send().await.ok();
    let contact = format!("/v1/contacts/{}", view["contact_id"].as_str().unwrap());
    let read = served.get(&token, &contact).send().await;
    let version = read.header("etag").to_owned();
    let edit = json!({ "name": "Eve", "attributes": { "customer_no": "4711" } });
    let after = patch(&served, &token, &contact)
        .header("If-Match", &version)
        .json(&edit)
        .send()
        .await
        .ok();
    assert_eq!(
        pick(&after, &["name", "attributes"]),
        json!({ "name": "Eve", "attributes": { "customer_no": "4711" } })
    );
    patch(&served, &token, &contact)
        .header("If-Match", &version)
        .json(&json!({ "name": "Eva" }))
        .send()
        .await
        .problem(412, "stale-version");
    let outside = served.token("agent", "olga", &["outlet"], &[]).await;
    patch(&served, &outside, &contact)
        .json(&edit)
        .send()
        .await
        .problem(404, "not-found");
    let wrong = json!({ "attributes": { "a": [] } });
    let problem = patch(&served, &token, &contact).json(&wrong).send().await;
    assert_eq!(problem.problem(422, "unprocessable")["field"], "attributes");
}

#[tokio::test]
async fn channels_say_what_they_carry() {
    let served = desk().await;
    let token = served.agent("ada").await;
    let list = served.get(&token, "/v1/channels").send().await.ok();
    expect![[r#"
        {
          "attachment_bytes_max": 1000000,
          "attachments_bytes_max": null,
          "brand": "main",
          "connector": "email",
          "html": true,
          "id": "support-mail",
          "receipts": false,
          "recipients_max": 20,
          "reply_window_seconds": null,
          "sends": true,
          "starts": true,
          "subject": true,
          "text_max": null,
          "text_unit": "characters"
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&list["items"][0]).unwrap());
    let elsewhere = served.token("agent", "olga", &[], &["outlet"]).await;
    let list = served.get(&elsewhere, "/v1/channels").send().await.ok();
    assert_eq!(list["items"], json!([]));
    let connector = served.token("connector", "", &[], &[]).await;
    served
        .get(&connector, "/v1/channels")
        .send()
        .await
        .problem(403, "forbidden");
}

#[tokio::test]
async fn who_only_reads_does_nothing_of_it() {
    let mut served = desk().await;
    served.deliver([chat("cust-7", "Hello?")]).await;
    let reader = served.token("reader", "", &[], &[]).await;
    let path = format!("/v1/conversations/{}", served.conversation(1).await);
    patch(&served, &reader, &path)
        .json(&json!({ "add_tags": ["x"] }))
        .send()
        .await
        .problem(403, "forbidden");
    for verb in [
        "snooze",
        "wake",
        "transfer",
        "participants",
        "participants/remove",
    ] {
        served
            .post(&reader, &format!("{path}/{verb}"))
            .json(&json!({}))
            .send()
            .await
            .problem(403, "forbidden");
    }
}
