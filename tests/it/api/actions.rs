//! What a conversation's states and versions allow.

use serde_json::{Value, json};

use super::served::Served;
use crate::support::chat;

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
