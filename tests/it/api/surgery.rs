//! Surgery over the API: who asks what, what is answered, and what an answer names.

use reqwest::Method;
use serde_json::{Value, json};
use switchboard::ids::IdKind;

use super::served::{Answer, Served};
use crate::support::{chat, mail};

/// Two conversations of one customer.
async fn two() -> (Served, String, String) {
    let mut served = Served::new().await;
    served
        .deliver([
            mail("ada@example.com", "Where is my order?").message_id("a-1"),
            mail("ada@example.com", "The lamp is broken.").forward(),
            mail("ada@example.com", "Any news?").refers_to("a-1"),
        ])
        .await;
    let (first, second) = (served.conversation(1).await, served.conversation(2).await);
    (served, first, second)
}

async fn post(served: &Served, token: &str, path: &str, body: &Value) -> Answer {
    let call = served.post(token, path);
    match body.is_null() {
        true => call.send().await,
        false => call.json(body).send().await,
    }
}

async fn undo(served: &Served, token: &str, event: &Value) -> Answer {
    let path = format!("/v1/events/{}/undo", event.as_str().unwrap());
    post(served, token, &path, &Value::Null).await
}

#[tokio::test]
async fn a_merge_is_answered_with_its_event_and_both_conversations_and_undone_by_it() {
    let (served, first, second) = two().await;
    let sue = served.supervisor().await;
    let path = format!("/v1/conversations/{second}/merge");
    let done = post(&served, &sue, &path, &json!({ "into": first }))
        .await
        .ok();
    assert_eq!(done["operation"], "merge");
    let [husk, whole] = [&done["conversations"][0], &done["conversations"][1]];
    assert_eq!(
        (&husk["id"], &husk["status"], &husk["merged_into"]),
        (&json!(second), &json!("closed"), &json!(first))
    );
    assert_eq!(
        (&whole["id"], &whole["merged_into"]),
        (&json!(first), &Value::Null)
    );
    assert_eq!(whole["links"][0]["reason"], "merged");
    // It stays readable, says where it went, and is listed when asked for.
    let read = served
        .get(&sue, &format!("/v1/conversations/{second}"))
        .send()
        .await
        .ok();
    assert_eq!(read["merged_into"], json!(first));
    for (query, listed) in [("", 1), ("?merged=true", 2), ("?merged=false", 1)] {
        let list = served
            .get(&sue, &format!("/v1/conversations{query}"))
            .send()
            .await
            .ok();
        assert_eq!(list["items"].as_array().unwrap().len(), listed, "{query}");
    }
    let wrong = served
        .get(&sue, "/v1/conversations?merged=maybe")
        .send()
        .await;
    assert_eq!(wrong.problem(400, "bad-request")["field"], "merged");
    // Again: it is gone, and the answer says where.
    let again = post(&served, &sue, &path, &json!({ "into": first })).await;
    assert_eq!(
        again.problem(409, "merged-away")["merged_into"],
        json!(first)
    );
    let explained = served
        .get(&sue, &format!("/v1/conversations/{first}/explain"))
        .send()
        .await
        .ok();
    let operation = &explained["operations"][0];
    assert_eq!(operation["event_id"], done["event_id"]);
    assert_eq!(
        (&operation["from"], &operation["into"], &operation["agent"]),
        (&json!(second), &json!(first), &json!("sue"))
    );
    let undone = undo(&served, &sue, &done["event_id"]).await.ok();
    assert_eq!(undone["operation"], "undo");
    assert_eq!(undone["conversations"][0]["merged_into"], Value::Null);
    let twice = undo(&served, &sue, &done["event_id"]).await;
    assert_eq!(
        twice.problem(409, "already-undone")["undone_by"],
        undone["event_id"]
    );
}

#[tokio::test]
async fn whoever_merged_what_was_theirs_alone_can_take_it_back() {
    let (served, first, second) = two().await;
    let sue = served.supervisor().await;
    // Neither queue is hers: she sees what was handed to her.
    let ada = served.token("agent", "ada", &["backoffice"], &[]).await;
    for id in [&first, &second] {
        let transfer = format!("/v1/conversations/{id}/transfer");
        post(&served, &sue, &transfer, &json!({ "agent": "ada" }))
            .await
            .ok();
    }
    let path = format!("/v1/conversations/{second}/merge");
    let done = post(&served, &ada, &path, &json!({ "into": first }))
        .await
        .ok();
    let read = format!("/v1/conversations/{second}");
    served
        .get(&ada, &read)
        .send()
        .await
        .problem(404, "not-found");
    let bob = served.token("agent", "bob", &["backoffice"], &[]).await;
    undo(&served, &bob, &done["event_id"])
        .await
        .problem(404, "not-found");
    let undone = undo(&served, &ada, &done["event_id"]).await.ok();
    assert_eq!(undone["conversations"][0]["id"], json!(second));
    assert_eq!(served.get(&ada, &read).send().await.ok()["assignee"], "ada");
    let again = undo(&served, &ada, &undone["event_id"]).await.ok();
    assert_eq!(again["operation"], "merge");
}

#[tokio::test]
async fn a_refused_undo_names_the_event_to_undo_first() {
    let (served, first, second) = two().await;
    let sue = served.supervisor().await;
    let merge = format!("/v1/conversations/{second}/merge");
    let merged = post(&served, &sue, &merge, &json!({ "into": first }))
        .await
        .ok();
    let list = served
        .get(&sue, &format!("/v1/conversations/{first}/messages"))
        .send()
        .await
        .ok();
    let messages = [&list["items"][0]["id"], &list["items"][1]["id"]];
    let split = format!("/v1/conversations/{first}/split");
    let split = post(&served, &sue, &split, &json!({ "messages": messages }))
        .await
        .ok();
    let new = &split["conversations"][1];
    assert_eq!(
        (&split["operation"], &new["status"]),
        (&json!("split"), &json!("queued"))
    );
    let path = format!("/v1/messages/{}/move", messages[0].as_str().unwrap());
    let moved = post(&served, &sue, &path, &json!({ "conversation": first }))
        .await
        .ok();
    assert_eq!(moved["operation"], "move");
    let early = undo(&served, &sue, &merged["event_id"]).await;
    assert_eq!(
        early.problem(409, "undo-first")["undo_first"],
        moved["event_id"]
    );
    for event in [&moved, &split, &merged] {
        undo(&served, &sue, &event["event_id"]).await.ok();
    }
    let elsewhere = served.ids().encode(IdKind::Event, 999_999);
    undo(&served, &sue, &json!(elsewhere))
        .await
        .problem(404, "not-found");
}

#[tokio::test]
async fn contacts_are_merged_and_unmerged_by_supervisors() {
    let mut served = Served::new().await;
    served
        .deliver([mail("ada@example.com", "Hello."), chat("cust-7", "Hello.")])
        .await;
    let [ada, sue] = [served.agent("ada").await, served.supervisor().await];
    let mut contacts = Vec::new();
    for number in [1, 2] {
        let contact = served.desk.conversation(number).await.contact;
        contacts.push(served.ids().encode(IdKind::Contact, contact.0));
    }
    let [mail, chat] = [&contacts[0], &contacts[1]];
    let path = format!("/v1/contacts/{chat}/merge");
    let body = json!({ "into": mail });
    post(&served, &ada, &path, &body)
        .await
        .problem(403, "forbidden");
    let stale = served
        .post(&sue, &path)
        .header("If-Match", "\"99\"")
        .json(&body)
        .send()
        .await;
    stale.problem(412, "stale-version");
    let merged = post(&served, &sue, &path, &body).await.ok();
    assert_eq!(merged["operation"], "merge_contacts");
    assert_eq!(merged["contacts"][0]["merged_into"], json!(mail));
    assert_eq!(merged["contacts"][1]["merged"], json!([chat]));
    let read = served
        .get(&ada, &format!("/v1/contacts/{chat}"))
        .send()
        .await
        .ok();
    assert_eq!(read["merged_into"], json!(mail));
    post(&served, &sue, &path, &body)
        .await
        .problem(409, "merged-away");
    served.can_send().await;
    let edit = served.call(Method::PATCH, &sue, &format!("/v1/contacts/{chat}"));
    let edited = edit.json(&json!({ "name": "Eve" })).send().await;
    let begin = json!({ "channel": "support-mail", "contact_id": chat, "text": "Hello." });
    let begun = served.post(&sue, "/v1/conversations").key("k").json(&begin);
    for refused in [edited, begun.send().await] {
        let problem = refused.problem(409, "merged-away");
        assert_eq!(problem["merged_into"], json!(mail));
    }
    let back = format!("/v1/contacts/{chat}/unmerge");
    post(&served, &ada, &back, &Value::Null)
        .await
        .problem(403, "forbidden");
    let undone = post(&served, &sue, &back, &Value::Null).await.ok();
    assert_eq!(undone["contacts"][0]["merged_into"], Value::Null);
    post(&served, &sue, &back, &Value::Null)
        .await
        .problem(404, "not-found");
}

#[tokio::test]
async fn what_cannot_be_done_is_named() {
    let (mut served, first, second) = two().await;
    served.deliver([mail("bob@example.com", "Me too.")]).await;
    let other = served.conversation(3).await;
    let [ada, sue] = [served.agent("ada").await, served.supervisor().await];
    let merge = format!("/v1/conversations/{second}/merge");
    let split = format!("/v1/conversations/{first}/split");
    let message = served.desk.messages(2).await[0].id;
    let message = served.ids().encode(IdKind::Message, message.0);
    let nobodys = post(&served, &ada, &merge, &json!({ "into": first })).await;
    assert_eq!(nobodys.problem(403, "not-assignee")["state"], "queued");
    let cases = [
        (&merge, json!({}), 422, "unprocessable"),
        (&merge, json!({ "into": 7 }), 422, "unprocessable"),
        (
            &merge,
            json!({ "into": first, "why": "" }),
            422,
            "unprocessable",
        ),
        (
            &merge,
            json!({ "into": first, "into_version": "1" }),
            422,
            "unprocessable",
        ),
        (&merge, json!({ "into": second }), 422, "unprocessable"),
        (&merge, json!({ "into": "cnv_1" }), 404, "not-found"),
        (&merge, json!({ "into": other }), 409, "another-contact"),
        (
            &merge,
            json!({ "into": first, "into_version": 99 }),
            412,
            "stale-version",
        ),
        (&split, json!({ "messages": [] }), 422, "unprocessable"),
        (&split, json!({ "messages": ["msg_1"] }), 404, "not-found"),
        (
            &split,
            json!({ "messages": [message] }),
            409,
            "not-in-conversation",
        ),
    ];
    for (path, body, status, problem) in cases {
        post(&served, &sue, path, &body)
            .await
            .problem(status, problem);
    }
    for role in ["reader", "admin", "connector"] {
        let token = served.token(role, "", &[], &[]).await;
        let answer = post(&served, &token, &merge, &json!({ "into": first })).await;
        answer.problem(403, "forbidden");
    }
}
