//! Requests made again under their Idempotency-Key: done once, and told again.

use serde_json::{Value, json};

use super::served::Served;
use crate::support::{chat, mail};

/// A desk where two customers wait in `frontline`.
async fn desk() -> Served {
    let mut served = Served::new().await;
    served.can_send().await;
    served
        .deliver([chat("cust-1", "one"), chat("cust-2", "two")])
        .await;
    served
}

#[tokio::test]
async fn a_claim_made_again_gives_the_same_conversation_and_never_a_second_one() {
    let served = desk().await;
    let token = served.token("agent", "ada", &["frontline"], &[]).await;
    let claim = |key: &str| {
        let call = served.post(&token, "/v1/queues/frontline/claim?wait=1ms");
        call.key(key).send()
    };
    let first = claim("k-1").await.ok();
    let again = claim("k-1").await.ok();
    assert_eq!(
        [&again["id"], &again["version"]],
        [&first["id"], &first["version"]]
    );
    let second = claim("k-2").await.ok();
    assert_ne!(second["id"], first["id"]);
    // What found nothing is not kept.
    claim("k-3").await.is(204);
    claim("k-3").await.is(204);
    let other = served.post(&token, "/v1/queues/frontline/claim").key("k-1");
    assert_eq!(
        other.send().await.ok()["id"],
        first["id"],
        "however long it waits"
    );
    // Another agent's key of the same name is another key.
    let bob = served.agent("bob").await;
    let call = served.post(&bob, "/v1/queues/frontline/claim").key("k-1");
    call.send().await.is(204);
    let path = |view: &Value, verb: &str| {
        format!("/v1/conversations/{}/{verb}", view["id"].as_str().unwrap())
    };
    let release = served.post(&token, &path(&first, "release"));
    release.send().await.ok();
    let over = claim("k-1").await.problem(409, "wrong-state");
    assert_eq!(over["state"], "queued");
    let resolve = served.post(&token, &path(&second, "resolve"));
    resolve.send().await.ok();
    let over = claim("k-2").await.problem(409, "wrong-state");
    assert_eq!([&over["state"], &over["holder"]], ["resolved", "ada"]);
    // How it stands is not told to whom it is hidden from.
    let fresh = claim("k-4").await.ok();
    let away = served.post(&token, &path(&fresh, "transfer"));
    let away = away.json(&json!({ "queue": "backoffice" })).send().await;
    away.ok();
    let over = claim("k-4").await.problem(409, "wrong-state");
    assert_eq!(
        [&over["state"], &over["holder"]],
        [&Value::Null, &Value::Null]
    );
}

#[tokio::test]
async fn a_split_made_again_gives_the_conversation_that_it_made() {
    let mut served = Served::new().await;
    served
        .deliver([
            mail("ada@example.com", "Where is my order?").message_id("a-1"),
            mail("ada@example.com", "And the lamp?").refers_to("a-1"),
        ])
        .await;
    let sue = served.supervisor().await;
    let path = format!("/v1/conversations/{}", served.conversation(1).await);
    let list = served
        .get(&sue, &format!("{path}/messages"))
        .send()
        .await
        .ok();
    let split = |messages: Value| {
        let call = served.post(&sue, &format!("{path}/split")).key("k-1");
        call.json(&json!({ "messages": messages })).send()
    };
    let newest = json!([list["items"][0]["id"]]);
    let done = split(newest.clone()).await.ok();
    let again = split(newest).await.ok();
    assert_eq!(again, done);
    assert_eq!(served.desk.conversations().await.len(), 2);
    split(json!([list["items"][1]["id"]]))
        .await
        .problem(422, "idempotency-key-reused");
    let undo = format!("/v1/events/{}/undo", done["event_id"].as_str().unwrap());
    let undo = || served.post(&sue, &undo).key("k-2").send();
    let undone = undo().await.ok();
    assert_eq!(undo().await.ok(), undone);
}

#[tokio::test]
async fn a_macro_that_handed_on_is_answered_when_it_is_used_again() {
    let served = desk().await;
    let sue = served.supervisor().await;
    let keep = async |body: Value| {
        let kept = served.post(&sue, "/v1/macros").json(&body).send().await;
        kept.is(201)["id"].as_str().unwrap().to_owned()
    };
    let say = json!({ "name": "On", "text": "Wait.", "transfer_queue": "backoffice" });
    let hand = json!({ "name": "Off", "add_tags": ["x"], "transfer_queue": "backoffice" });
    let macros = [keep(say).await, keep(hand).await];
    let ada = served.token("agent", "ada", &["frontline"], &[]).await;
    for (key, id) in macros.iter().enumerate() {
        let held = served.claim(&ada, "frontline").await;
        let on = json!({ "conversation_id": held["id"] });
        let path = format!("/v1/macros/{id}");
        let key = key.to_string();
        let apply = || {
            let call = served.post(&ada, &format!("{path}/apply")).key(&key);
            call.json(&on).send()
        };
        let done = apply().await.ok();
        assert_eq!(done["conversation"]["queue"], "backoffice");
        for gone in [false, true] {
            if gone {
                let delete = served.call(reqwest::Method::DELETE, &sue, &path);
                delete.send().await.is(204);
            }
            let again = apply().await.ok();
            assert_eq!(again["message"]["id"], done["message"]["id"]);
            assert_eq!(
                again["conversation"],
                Value::Null,
                "it is not ada's any more"
            );
        }
    }
    assert_eq!(served.desk.messages(1).await.len(), 2, "said once");
}

#[tokio::test]
async fn what_is_done_to_a_conversation_under_a_key_is_done_once() {
    let served = desk().await;
    let ada = served.token("agent", "ada", &["frontline"], &[]).await;
    let held = served.claim(&ada, "frontline").await;
    let path = format!("/v1/conversations/{}", held["id"].as_str().unwrap());
    let until = (served.desk.now() + 3_600_000_000).to_string();
    let until = switchboard::clock::timestamp(until.parse().unwrap()).to_string();
    let partner = json!({ "namespace": "email", "address": "bo@parcel.example" });
    for (verb, body) in [
        ("snooze", json!({ "until": until })),
        ("wake", Value::Null),
        ("participants", partner.clone()),
        ("participants/remove", partner),
        ("resolve", Value::Null),
        ("reopen", Value::Null),
        ("release", Value::Null),
    ] {
        if verb == "release" {
            served.claim(&ada, "frontline").await;
            served.claim(&ada, "frontline").await;
        }
        let call = || {
            let call = served.post(&ada, &format!("{path}/{verb}")).key(verb);
            match body.is_null() {
                true => call.send(),
                false => call.json(&body).send(),
            }
        };
        let done = call().await.ok();
        let again = call().await.ok();
        assert_eq!(again["version"], done["version"], "{verb}");
        let reused = served.post(&ada, &format!("{path}/resolve")).key("wake");
        if verb == "wake" {
            reused.send().await.problem(422, "idempotency-key-reused");
        }
    }
    // Taken by another meanwhile: the release made again takes nothing from them.
    let bob = served.agent("bob").await;
    served.claim(&bob, "frontline").await;
    let again = served.post(&ada, &format!("{path}/release")).key("release");
    assert_eq!(again.send().await.ok()["assignee"], "bob");
    // What was handed on to where the token does not reach was handed on.
    let sue = served.token("supervisor", "sue", &["frontline"], &[]).await;
    let transfer = || {
        let call = served.post(&sue, &format!("{path}/transfer")).key("t");
        call.json(&json!({ "queue": "backoffice" })).send()
    };
    transfer().await.ok();
    transfer().await.is(204);
}

#[tokio::test]
async fn a_key_is_refused_where_nothing_would_come_of_it() {
    let served = desk().await;
    let token = served.supervisor().await;
    for path in [
        "/v1/uploads",
        "/v1/macros",
        "/v1/messages/msg_1/cancel",
        "/v1/attachments/att_1/link",
    ] {
        let problem = served.post(&token, path).key("k").send().await;
        let problem = problem.problem(400, "bad-request");
        assert_eq!(problem["field"], "Idempotency-Key", "{path}");
    }
}
