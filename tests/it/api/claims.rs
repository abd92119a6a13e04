//! Queues and claims: the longest waiting first, to one agent, also when many wait.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::served::{Answer, Served};
use crate::support::{chat, within_patience};

async fn done(claim: tokio::task::JoinHandle<Answer>) -> Answer {
    within_patience("a waiting claim", claim).await.unwrap()
}

#[tokio::test]
async fn queues_say_how_much_waits_and_for_how_long() {
    let mut served = Served::new().await;
    let token = served.agent("ada").await;
    served
        .deliver([chat("cust-7", "first"), chat("cust-8", "second")])
        .await;
    served.desk.later(Duration::from_secs(90));
    let queues = served.get(&token, "/v1/queues").send().await.ok();
    let expected = json!({
        "items": [
            { "id": "frontline", "waiting": 2, "oldest_waiting_seconds": 90 },
            { "id": "backoffice", "waiting": 0, "oldest_waiting_seconds": null },
            { "id": "outlet", "waiting": 0, "oldest_waiting_seconds": null },
        ],
        "next_cursor": null
    });
    assert_eq!(queues, expected);
}

#[tokio::test]
async fn claims_give_the_longest_waiting_first_and_then_nothing() {
    let mut served = Served::new().await;
    served
        .deliver([chat("cust-7", "first"), chat("cust-8", "second")])
        .await;
    let token = served.agent("ada").await;
    for number in 1..=2 {
        let answer = served
            .post(&token, "/v1/queues/frontline/claim")
            .send()
            .await;
        let etag = answer.header("etag").to_owned();
        let claimed = answer.ok();
        assert_eq!(claimed["id"], served.conversation(number).await);
        assert_eq!(
            (&claimed["status"], &claimed["assignee"]),
            (&json!("assigned"), &json!("ada"))
        );
        assert_eq!(etag, format!("\"{}\"", claimed["version"]));
        assert_eq!(claimed.get("messages"), None);
    }
    let empty = served
        .post(&token, "/v1/queues/frontline/claim")
        .send()
        .await;
    assert_eq!((empty.status.as_u16(), empty.text.as_str()), (204, ""));
}

#[tokio::test]
async fn an_expanded_claim_has_the_newest_messages_first_and_says_where_older_ones_are() {
    let mut served = Served::new().await;
    served
        .deliver((1..=53).map(|number| chat("cust-7", &format!("line {number} of a long story"))))
        .await;
    let token = served.agent("ada").await;
    let path = "/v1/queues/frontline/claim?expand=messages";
    let claimed = served.post(&token, path).send().await.ok();
    let seqs = |list: &Value| -> Vec<i64> {
        list.as_array()
            .unwrap()
            .iter()
            .map(|message| message["seq"].as_i64().unwrap())
            .collect()
    };
    assert_eq!(
        seqs(&claimed["messages"]),
        (4..=53).rev().collect::<Vec<_>>()
    );
    let id = claimed["id"].as_str().unwrap();
    let cursor = claimed["messages_next_cursor"].as_str().unwrap();
    let rest = served
        .get(
            &token,
            &format!("/v1/conversations/{id}/messages?cursor={cursor}"),
        )
        .send()
        .await
        .ok();
    assert_eq!(seqs(&rest["items"]), [3, 2, 1]);
    assert_eq!(rest["next_cursor"], Value::Null);
}

#[tokio::test]
async fn a_waiting_claim_gets_what_comes() {
    let mut served = Served::new().await;
    let token = served.agent("ada").await;
    let claim = served.waiting_claim(&token, "frontline", "60s").await;
    served.deliver([chat("cust-7", "hello")]).await;
    assert_eq!(done(claim).await.ok()["assignee"], "ada");
}

#[tokio::test]
async fn a_waiting_claim_gets_what_is_released_or_reopened() {
    let mut served = Served::new().await;
    served.deliver([chat("cust-7", "hello")]).await;
    let [ada, bob] = [served.agent("ada").await, served.agent("bob").await];
    let id = served.claim(&ada, "frontline").await["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let claim = served.waiting_claim(&bob, "frontline", "60s").await;
    served
        .post(&ada, &format!("/v1/conversations/{id}/release"))
        .send()
        .await
        .ok();
    assert_eq!(done(claim).await.ok()["assignee"], "bob");
    served
        .post(&bob, &format!("/v1/conversations/{id}/resolve"))
        .send()
        .await
        .ok();
    let claim = served.waiting_claim(&bob, "frontline", "60s").await;
    served
        .post(&ada, &format!("/v1/conversations/{id}/reopen"))
        .send()
        .await
        .ok();
    assert_eq!(done(claim).await.ok()["id"], id);
}

#[tokio::test]
async fn a_claim_waits_no_longer_than_asked_and_not_over_a_shutdown() {
    let served = Served::new().await;
    let token = served.agent("ada").await;
    served
        .post(&token, "/v1/queues/frontline/claim?wait=20ms")
        .send()
        .await
        .is(204);
    let claim = served.waiting_claim(&token, "frontline", "60s").await;
    served.stop.cancel();
    done(claim).await.is(204);
    within_patience("the server's end", served.server)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_client_that_hangs_up_claims_nothing() {
    let mut served = Served::new().await;
    let token = served.agent("ada").await;
    let request = format!(
        "POST /v1/queues/frontline/claim?wait=60s HTTP/1.1\r\nHost: desk\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    served.until_held("frontline", 1).await;
    drop(stream);
    served.until_held("frontline", 0).await;
    served.deliver([chat("cust-7", "hello")]).await;
    assert_eq!(served.desk.conversation(1).await.assignee, None);
}

#[tokio::test]
async fn a_token_revoked_while_its_claim_waits_gets_nothing() {
    let mut served = Served::new().await;
    let token = served.agent("ada").await;
    let claim = served.waiting_claim(&token, "frontline", "60s").await;
    served.revoke(&token).await;
    served.desk.later(Duration::from_secs(1));
    served.deliver([chat("cust-7", "hello")]).await;
    done(claim).await.problem(401, "unauthorized");
    assert_eq!(served.desk.conversation(1).await.assignee, None);
}

#[tokio::test]
async fn of_many_waiting_claims_each_gets_another_conversation() {
    let mut served = Served::new().await;
    let mut claims = Vec::new();
    for number in 0..24 {
        let token = served.agent(&format!("agent-{number}")).await;
        let call = served.post(&token, "/v1/queues/frontline/claim?wait=60s");
        claims.push(tokio::spawn(call.send()));
    }
    for number in 0..24 {
        served
            .deliver([chat(&format!("cust-{number}"), "hello")])
            .await;
    }
    let mut claimed = HashSet::new();
    for claim in claims {
        claimed.insert(done(claim).await.ok()["id"].as_str().unwrap().to_owned());
    }
    assert_eq!(claimed.len(), 24);
}

#[tokio::test]
async fn a_claim_that_cannot_be_made_says_why() {
    let served = Served::new().await;
    let token = served.agent("ada").await;
    for (query, field) in [
        ("wait=61s", "wait"),
        ("wait=soon", "wait"),
        ("expand=contact", "expand"),
    ] {
        let path = format!("/v1/queues/frontline/claim?{query}");
        let problem = served
            .post(&token, &path)
            .send()
            .await
            .problem(400, "bad-request");
        assert_eq!(problem["field"], field, "{query}");
    }
    let unknown = served
        .post(&token, "/v1/queues/frontline/claim?await=1s")
        .send()
        .await;
    let detail = unknown.problem(400, "bad-request")["detail"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        detail.contains("await") && detail.contains("wait"),
        "{detail}"
    );
    for queue in ["nowhere", "Front%20Line", "..%2F"] {
        served
            .post(&token, &format!("/v1/queues/{queue}/claim"))
            .send()
            .await
            .problem(404, "not-found");
    }
    let nameless = served.token("supervisor", "", &[], &[]).await;
    served
        .post(&nameless, "/v1/queues/frontline/claim")
        .send()
        .await
        .problem(403, "forbidden");
}
