//! Macros and drafts over HTTP.

use reqwest::Method;
use serde_json::{Value, json};

use super::served::Served;
use crate::support::{chat, mail};

/// A desk where ada holds eve's conversation; her token, and its id.
async fn held() -> (Served, String, String) {
    let mut served = Served::new().await;
    served.can_send().await;
    served
        .deliver([mail("eve@customer.example", "Where is it?").subject("Order 17")])
        .await;
    let token = served.agent("ada").await;
    let id = served.claim(&token, "frontline").await["id"].clone();
    (served, token, id.as_str().unwrap().to_owned())
}

async fn create(served: &Served, body: Value) -> Value {
    let token = served.supervisor().await;
    let created = served.post(&token, "/v1/macros").json(&body).send().await;
    created.is(201)
}

#[tokio::test]
async fn a_macro_says_what_differs_and_does_the_rest_at_once() {
    let (served, token, id) = held().await;
    let late = create(
        &served,
        json!({
            "name": "Late", "text": "Dear {{ contact.first_name | customer }}, {{ conversation.subject }}: {{ attributes.eta }}.",
            "html": "<p>{{ attributes.eta }}</p>", "add_tags": ["late"], "priority": "high", "snooze_seconds": 3600,
        }),
    )
    .await;
    let path = format!("/v1/macros/{}", late["id"].as_str().unwrap());
    let on = json!({ "conversation_id": id });
    let preview = format!("{path}/preview");
    let shown = served.post(&token, &preview).json(&on).send().await.ok();
    assert_eq!(shown["missing"], json!(["attributes.eta"]));
    assert_eq!(shown["text"], "Dear customer, Order 17: .");
    let apply = |key: &str| {
        let call = served.post(&token, &format!("{path}/apply")).json(&on);
        call.key(key).send()
    };
    let refused = apply("k-1").await.problem(422, "unprocessable");
    assert_eq!(refused["field"], "macro");
    assert_eq!(
        served.desk.store().counts().await.unwrap().outbox,
        [0, 0, 0],
        "all of it or nothing"
    );
    let conversation = format!("/v1/conversations/{id}");
    served
        .call(Method::PATCH, &token, &conversation)
        .json(&json!({ "attributes": { "eta": "<Monday>" } }))
        .send()
        .await
        .ok();
    let done = apply("k-1").await.ok();
    assert_eq!(
        done["message"]["text"],
        "Dear customer, Order 17: <Monday>."
    );
    let message = format!("/v1/messages/{}", done["message"]["id"].as_str().unwrap());
    let whole = served.get(&token, &message).send().await.ok();
    assert_eq!(whole["html"], "<p>&lt;Monday&gt;</p>");
    let after = &done["conversation"];
    assert_eq!(
        [&after["status"], &after["priority"], &after["tags"]],
        [&json!("snoozed"), &json!("high"), &json!(["late"])]
    );
    let again = apply("k-1").await.ok();
    assert_eq!(again["message"]["id"], done["message"]["id"]);
    assert_eq!(again["conversation"]["version"], after["version"]);
    served
        .post(&token, &format!("{path}/apply"))
        .json(&on)
        .send()
        .await
        .problem(400, "idempotency-key-required");
}

#[tokio::test]
async fn a_macro_without_words_only_does() {
    let (served, token, id) = held().await;
    let done = create(
        &served,
        json!({ "name": "Spam", "resolve": true, "add_tags": ["spam"] }),
    )
    .await;
    let path = format!("/v1/macros/{}/apply", done["id"].as_str().unwrap());
    let on = json!({ "conversation_id": id });
    let other = served.agent("bob").await;
    served
        .post(&other, &path)
        .json(&on)
        .send()
        .await
        .problem(403, "not-assignee");
    let conversation = format!("/v1/conversations/{id}");
    let view = served.get(&token, &conversation).send().await.ok();
    assert_eq!(view["tags"], json!([]), "nothing of it was done");
    served
        .post(&token, &path)
        .header("If-Match", "\"1\"")
        .json(&on)
        .send()
        .await
        .problem(412, "stale-version");
    let done = served.post(&token, &path).json(&on).send().await.ok();
    assert_eq!(
        [&done["message"], &done["conversation"]["status"]],
        [&Value::Null, &json!("resolved")]
    );
}

#[tokio::test]
async fn macros_are_kept_by_supervisors_and_used_by_the_agents_of_their_queues() {
    let (served, token, _) = held().await;
    served
        .post(&token, "/v1/macros")
        .json(&json!({ "name": "Mine" }))
        .send()
        .await
        .problem(403, "forbidden");
    let admin = served.token("admin", "", &[], &[]).await;
    let body = json!({ "name": "Returns", "text": "Send it back.", "queues": ["backoffice"] });
    let created = served
        .post(&admin, "/v1/macros")
        .json(&body)
        .send()
        .await
        .is(201);
    let path = format!("/v1/macros/{}", created["id"].as_str().unwrap());
    let of_queue = served.token("agent", "bea", &["backoffice"], &[]).await;
    let elsewhere = served.token("agent", "fay", &["frontline"], &[]).await;
    let list = |token: String| {
        let call = served.get(&token, "/v1/macros");
        async move { call.send().await.ok()["items"].as_array().unwrap().len() }
    };
    assert_eq!(
        [list(of_queue).await, list(elsewhere.clone()).await],
        [1, 0]
    );
    served
        .get(&elsewhere, &path)
        .send()
        .await
        .problem(404, "not-found");
    let replace = |version: &str, name: &str| {
        let call = served.call(Method::PUT, &admin, &path);
        let call = call.header("If-Match", version);
        call.json(&json!({ "name": name, "text": "x" })).send()
    };
    replace("\"2\"", "Other")
        .await
        .problem(412, "stale-version");
    assert_eq!(replace("\"1\"", "Other").await.ok()["version"], 2);
    create(&served, json!({ "name": "Taken" })).await;
    let taken = replace("\"2\"", "Taken")
        .await
        .problem(422, "unprocessable");
    assert_eq!(taken["field"], "name");
    let delete = || served.call(Method::DELETE, &admin, &path).send();
    delete().await.is(204);
    delete().await.problem(404, "not-found");
}

#[tokio::test]
async fn a_macro_of_a_brand_is_seen_and_used_for_that_brand_alone() {
    let (mut served, token, id) = held().await;
    let outlet = create(
        &served,
        json!({ "name": "Refund", "text": "Ours.", "brands": ["outlet"] }),
    )
    .await;
    let of_queue = create(
        &served,
        json!({ "name": "Boxes", "text": "Ours.", "queues": ["backoffice"] }),
    )
    .await;
    let path = |view: &Value| format!("/v1/macros/{}", view["id"].as_str().unwrap());
    let on = json!({ "conversation_id": id });
    // Who works for both brands sees both macros and still uses each where it belongs.
    for view in [&outlet, &of_queue] {
        for verb in ["preview", "apply"] {
            let call = served.post(&token, &format!("{}/{verb}", path(view)));
            let problem = call.key("k").json(&on).send().await;
            let problem = problem.problem(422, "unprocessable");
            assert_eq!(problem["field"], "conversation_id", "{view} {verb}");
        }
    }
    let main = served.token("agent", "mia", &[], &["main"]).await;
    let list = served.get(&main, "/v1/macros").send().await.ok();
    assert_eq!(list["items"].as_array().unwrap().len(), 1, "{list}");
    let unseen = path(&outlet);
    served
        .get(&main, &unseen)
        .send()
        .await
        .problem(404, "not-found");
    for verb in ["preview", "apply"] {
        let call = served.post(&main, &format!("{unseen}/{verb}")).key("k");
        call.json(&on).send().await.problem(404, "not-found");
    }
    served
        .deliver([chat("cust-7", "Hello?").on("outlet-chat")])
        .await;
    let on = json!({ "conversation_id": served.conversation(2).await });
    let olga = served.token("agent", "olga", &[], &["outlet"]).await;
    let call = served.post(&olga, &format!("{unseen}/preview")).json(&on);
    assert_eq!(call.send().await.ok()["text"], "Ours.");
}

#[tokio::test]
async fn a_supervisor_keeps_macros_of_its_own_brands_and_queues_alone() {
    let (served, _, _) = held().await;
    let main = served.token("supervisor", "mo", &[], &["main"]).await;
    let back = served.token("admin", "", &["backoffice"], &[]).await;
    for (token, body, field) in [
        (&main, json!({ "name": "a" }), "brands"),
        (
            &main,
            json!({ "name": "a", "brands": ["main", "outlet"] }),
            "brands",
        ),
        (&back, json!({ "name": "a" }), "queues"),
        (
            &back,
            json!({ "name": "a", "queues": ["outlet"] }),
            "queues",
        ),
    ] {
        let refused = served.post(token, "/v1/macros").json(&body).send().await;
        let refused = refused.problem(403, "forbidden");
        assert_eq!(refused["field"], field, "{body}");
        assert_eq!(refused["allowed"].as_array().unwrap().len(), 1, "{body}");
    }
    let of_all = create(&served, json!({ "name": "Hours", "text": "9 to 5." })).await;
    let path = format!("/v1/macros/{}", of_all["id"].as_str().unwrap());
    for token in [&main, &back] {
        served.get(token, &path).send().await.ok();
        let narrowed = json!({ "name": "Hours", "brands": ["main"], "queues": ["backoffice"] });
        let put = served.call(Method::PUT, token, &path).json(&narrowed);
        put.send().await.problem(403, "forbidden");
        let delete = served.call(Method::DELETE, token, &path);
        delete.send().await.problem(403, "forbidden");
    }
    // One name may be two shops', and neither is told of the other's.
    create(&served, json!({ "name": "Refund", "brands": ["outlet"] })).await;
    let own = json!({ "name": "Refund", "brands": ["main"] });
    let kept = served
        .post(&main, "/v1/macros")
        .json(&own)
        .send()
        .await
        .is(201);
    let taken = served.post(&main, "/v1/macros").json(&own).send().await;
    assert_eq!(taken.problem(422, "unprocessable")["field"], "name");
    let path = format!("/v1/macros/{}", kept["id"].as_str().unwrap());
    let put = served.call(Method::PUT, &main, &path).json(&own);
    assert_eq!(put.send().await.ok()["brands"], json!(["main"]));
    let delete = served.call(Method::DELETE, &main, &path);
    delete.send().await.is(204);
}

#[tokio::test]
async fn a_macro_that_could_not_be_used_is_refused_when_it_is_kept() {
    let (served, _, _) = held().await;
    let token = served.supervisor().await;
    for (body, field) in [
        (json!({}), "name"),
        (json!({ "name": "a", "text": "{{ contact" }), "text"),
        (json!({ "name": "a", "text": "{{ custmer.name }}" }), "text"),
        (json!({ "name": "a", "subject": "b" }), "subject"),
        (
            json!({ "name": "a", "transfer_queue": "nowhere" }),
            "transfer_queue",
        ),
        (json!({ "name": "a", "queues": ["nowhere"] }), "queues"),
        (json!({ "name": "a", "brands": ["nobody"] }), "brands"),
        (
            json!({ "name": "a", "snooze_seconds": 0 }),
            "snooze_seconds",
        ),
        (
            json!({ "name": "a", "snooze_seconds": 60, "resolve": true }),
            "resolve",
        ),
        (json!({ "name": "a", "txt": "b" }), "txt"),
    ] {
        let problem = served
            .post(&token, "/v1/macros")
            .json(&body)
            .send()
            .await
            .problem(422, "unprocessable");
        assert_eq!(problem["field"], field, "{body}");
    }
}

#[tokio::test]
async fn a_draft_is_its_agents_own_until_it_is_sent() {
    let (served, token, id) = held().await;
    let path = format!("/v1/conversations/{id}/draft");
    let save = |token: &str, version: &str, body: Value| {
        let call = served.call(Method::PUT, token, &path);
        let call = call.header("If-Match", version);
        call.json(&body).send()
    };
    served
        .get(&token, &path)
        .send()
        .await
        .problem(404, "not-found");
    let half = json!({ "text": "", "cc": ["bo"] });
    let kept = save(&token, "\"0\"", half.clone()).await;
    assert_eq!(kept.header("etag"), "\"1\"");
    assert_eq!(kept.ok()["content"], half);
    save(&token, "\"0\"", json!({ "text": "another screen" }))
        .await
        .problem(412, "stale-version");
    let unknown = save(&token, "*", json!({ "txt": "a" }))
        .await
        .problem(422, "unprocessable");
    assert_eq!(unknown["field"], "txt");
    let other = served.agent("bob").await;
    served
        .get(&other, &path)
        .send()
        .await
        .problem(404, "not-found");
    let outside = served.token("agent", "olga", &["outlet"], &[]).await;
    save(&outside, "*", json!({ "text": "a" }))
        .await
        .problem(404, "not-found");
    let read = served.get(&token, &path).send().await.ok();
    assert_eq!(read["content"], half);
    served
        .post(&token, &format!("/v1/conversations/{id}/messages"))
        .key("k-1")
        .json(&json!({ "text": "Done." }))
        .send()
        .await
        .is(202);
    served
        .get(&token, &path)
        .send()
        .await
        .problem(404, "not-found");
    // Another screen that still shows the draft that was sent does not write over the next one.
    let next = save(&token, "\"0\"", half.clone()).await;
    assert_eq!(next.header("etag"), "\"2\"");
    save(&token, "\"1\"", half.clone())
        .await
        .problem(412, "stale-version");
    let delete = |version: &str| {
        let call = served.call(Method::DELETE, &token, &path);
        call.header("If-Match", version).send()
    };
    delete("\"1\"").await.problem(412, "stale-version");
    served.get(&token, &path).send().await.ok();
    delete("\"2\"").await.is(204);
    delete("\"2\"").await.problem(412, "stale-version");
    delete("*").await.is(204);
    let third = save(&token, "*", half).await;
    assert_eq!(third.header("etag"), "\"3\"");
    delete("\"3\"").await.is(204);
    served
        .get(&token, &path)
        .send()
        .await
        .problem(404, "not-found");
}
