//! Settling a held answer over the API: who may, what it needs, what is said of it afterwards.

use serde_json::{Value, json};
use switchboard::ids::IdKind;
use switchboard::store::Settlement;

use super::served::{Call, Served};
use crate::support::{agent, mail, within_patience};

/// An API where ada's answer to a mail is held, its id, and her token.
async fn held() -> (Served, String, String) {
    let mut served = Served::new().await;
    served
        .deliver([mail("customer@example.com", "Where is my order?")])
        .await;
    let token = served.agent("ada").await;
    served.claim(&token, "frontline").await;
    let desk = &served.desk;
    let id = desk.conversation(1).await.id;
    let reply = desk.reply_to(id, agent("ada"), "On its way.");
    let (message, _) = desk.store().reply(reply).await.unwrap();
    let leased = desk.lease("support-mail").await.pop().unwrap();
    let reason = "no answer came".to_owned();
    desk.settle(&leased, Settlement::Unknown { reason }).await;
    let id = served.ids().encode(IdKind::Message, message.id.0);
    (served, id, token)
}

fn settle(served: &Served, token: &str, id: &str, body: &Value) -> Call {
    served
        .post(token, &format!("/v1/messages/{id}/settle"))
        .json(body)
}

#[tokio::test]
async fn an_answer_sent_again_needs_a_key_and_rings_its_channel() {
    let (served, id, token) = held().await;
    let retry = json!({ "as": "retry" });
    let keyless = settle(&served, &token, &id, &retry).send().await;
    keyless.problem(400, "idempotency-key-required");
    let bell = served.outbox.bell("support-mail");
    let rung = bell.notified();
    let view = settle(&served, &token, &id, &retry).key("k-1").send().await;
    assert_eq!(view.ok()["delivery"], "queued");
    within_patience("the channel's bell", rung).await;
    let again = settle(&served, &token, &id, &retry).key("k-1").send().await;
    assert_eq!(again.ok()["delivery"], "queued", "the same key, once");
    let other = settle(&served, &token, &id, &json!({ "as": "sent" }));
    other
        .key("k-1")
        .send()
        .await
        .problem(422, "idempotency-key-reused");
}

#[tokio::test]
async fn what_is_not_held_is_refused_with_how_it_stands() {
    let (served, id, token) = held().await;
    let sent = json!({ "as": "sent" });
    settle(&served, &token, &id, &sent).send().await.ok();
    let again = settle(&served, &token, &id, &sent).send().await;
    let problem = again.problem(409, "not-held");
    assert_eq!(problem["delivery"], "sent");
    let inbound = served.desk.messages(1).await[0].id;
    let inbound = served.ids().encode(IdKind::Message, inbound.0);
    let never = settle(&served, &token, &inbound, &sent).send().await;
    assert_eq!(never.problem(409, "not-held")["delivery"], Value::Null);
}

#[tokio::test]
async fn only_who_may_answer_may_settle_and_what_the_body_says_must_be_known() {
    let (served, id, token) = held().await;
    let sent = json!({ "as": "sent" });
    let bob = served.agent("bob").await;
    let not_his = settle(&served, &bob, &id, &sent).send().await;
    assert_eq!(not_his.problem(403, "not-assignee")["holder"], "ada");
    let reader = served.token("reader", "", &[], &[]).await;
    let reads = settle(&served, &reader, &id, &sent).send().await;
    reads.problem(403, "forbidden");
    let eve = served.token("agent", "eve", &["backoffice"], &[]).await;
    for (who, id) in [(&eve, id.as_str()), (&token, "msg_0"), (&token, "x")] {
        let nothing = settle(&served, who, id, &sent).send().await;
        nothing.problem(404, "not-found");
    }
    for (body, field) in [
        (json!({}), "as"),
        (json!({ "as": "delivered" }), "as"),
        (json!({ "as": 1 }), "as"),
        (json!({ "as": "sent", "why": "he said so" }), "why"),
    ] {
        let refused = settle(&served, &token, &id, &body).send().await;
        assert_eq!(refused.problem(422, "unprocessable")["field"], field);
    }
    settle(&served, &token, &id, &sent).send().await.ok();
}

#[tokio::test]
async fn who_settled_it_how_and_when_is_explained_and_a_refusal_rings_the_queue() {
    let (served, id, token) = held().await;
    let conversation = served.conversation(1).await;
    let resolve = format!("/v1/conversations/{conversation}/resolve");
    served.post(&token, &resolve).send().await.ok();
    let supervisor = served.supervisor().await;
    let bell = served.queues.bell("frontline");
    let rung = bell.notified();
    let refused = json!({ "as": "refused" });
    let view = settle(&served, &supervisor, &id, &refused)
        .send()
        .await
        .ok();
    assert_eq!(view["delivery"], "refused");
    assert_eq!(view["reason"], "a person settled it as refused");
    within_patience("the queue's bell", rung).await;
    let path = format!("/v1/conversations/{conversation}/explain");
    let explained = served.get(&token, &path).send().await.ok();
    assert_eq!(explained["conversation"]["status"], "queued");
    let at = served.desk.now();
    let at = json!(switchboard::clock::timestamp(at));
    let expected = json!([{ "as": "refused", "role": "supervisor", "agent": "sue", "at": at }]);
    assert_eq!(explained["items"][0]["settled"], expected);
    assert_eq!(explained["items"][1]["settled"], json!([]));
}
