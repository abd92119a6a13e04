//! A backend acts for agents: with its own reach, in their names, and the log says both.

use serde_json::json;
use switchboard::ids::IdKind;
use switchboard::store::events::EventFilter;

use super::served::{Call, Served};
use crate::support::chat;

const AGENT: &str = "Switchboard-Agent";

fn of(call: Call, agent: &str) -> Call {
    call.header(AGENT, agent)
}

#[tokio::test]
async fn a_backend_works_for_each_of_its_agents_and_the_log_shows_both() {
    let mut served = Served::new().await;
    served
        .deliver([chat("cust-1", "one"), chat("cust-2", "two")])
        .await;
    let backend = served.backend("agent", &[]).await;
    let claim = || served.post(&backend, "/v1/queues/frontline/claim");
    let first = of(claim(), "ada").send().await.ok();
    let second = of(claim(), "bob").send().await.ok();
    assert_eq!(
        (&first["assignee"], &second["assignee"]),
        (&json!("ada"), &json!("bob"))
    );
    let mine = of(served.get(&backend, "/v1/conversations?assignee=me"), "ada");
    assert_eq!(mine.send().await.ok()["items"][0]["id"], first["id"]);
    // What is ada's is not bob's, though both come by one token.
    let path = format!(
        "/v1/conversations/{}/messages",
        first["id"].as_str().unwrap()
    );
    let reply = |agent: &str| {
        let body = json!({ "text": "Soon." });
        of(served.post(&backend, &path).key("k").json(&body), agent).send()
    };
    reply("bob").await.problem(403, "not-assignee");
    let sent = reply("ada").await.is(202);
    assert_eq!(sent["agent"], "ada");
    let again = reply("ada").await.is(202);
    assert_eq!(again["id"], sent["id"], "keys of one agent");
    let release = format!(
        "/v1/conversations/{}/release",
        second["id"].as_str().unwrap()
    );
    of(served.post(&backend, &release), "bob").send().await.ok();
    let filter = EventFilter {
        limit: 100,
        ..EventFilter::default()
    };
    let events = served.desk.store().events(0, filter).await.unwrap().events;
    let acted: Vec<_> = events
        .iter()
        .filter(|event| event.detail["agent"].is_string())
        .collect();
    assert_eq!(acted.len(), 4, "two claims, an answer, a release");
    let number = acted[0].detail["acting_token"].as_i64().unwrap();
    for event in acted {
        assert_eq!(event.detail["acting_token"], number, "{:?}", event.kind);
    }
    assert!(served.desk.store().token(number).await.unwrap().is_some());
    assert!(
        served
            .ids()
            .encode(IdKind::Token, number)
            .starts_with("tok_")
    );
}

#[tokio::test]
async fn the_header_is_refused_without_the_scope_and_gives_no_more_than_the_token_has() {
    let mut served = Served::new().await;
    served
        .deliver([chat("cust-1", "one").on("other-chat")])
        .await;
    for (role, agent) in [("agent", "eve"), ("supervisor", "sue"), ("reader", "")] {
        let token = served.token(role, agent, &[], &[]).await;
        let refused = of(served.get(&token, "/v1/queues"), "ada").send().await;
        assert_eq!(refused.problem(403, "forbidden")["field"], AGENT, "{role}");
        served.get(&token, "/v1/queues").send().await.ok();
    }
    let narrow = served.backend("agent", &["frontline"]).await;
    let claim = served.post(&narrow, "/v1/queues/backoffice/claim");
    of(claim, "ada").send().await.problem(404, "not-found");
    // By itself it is nobody's agent.
    let backend = served.backend("agent", &[]).await;
    let claim = served.post(&backend, "/v1/queues/backoffice/claim");
    claim.send().await.problem(403, "forbidden");
    for name in ["", &"x".repeat(101)] {
        let call = of(served.get(&backend, "/v1/queues"), name);
        assert_eq!(
            call.send().await.problem(400, "bad-request")["field"],
            AGENT,
            "{name}"
        );
    }
    let twice = of(of(served.get(&backend, "/v1/queues"), "ada"), "bob");
    twice.send().await.problem(400, "bad-request");
}

#[tokio::test]
async fn a_link_to_a_file_holds_for_what_the_agent_holds_and_no_longer() {
    let mut served = Served::new().await;
    let said = chat("cust-1", "See this.").attachment("note.txt", b"hello");
    served.deliver([said]).await;
    let sue = served.supervisor().await;
    let id = served.conversation(1).await;
    let path = format!("/v1/conversations/{id}");
    // Its agents have no tokens: a backend names them.
    let desk = served.backend("supervisor", &[]).await;
    let transfer = of(served.post(&desk, &format!("{path}/transfer")), "sue");
    let given = transfer.json(&json!({ "agent": "ada" }));
    given.send().await.ok();
    // The backend has another queue; the conversation is ada's.
    let backend = served.backend("agent", &["backoffice"]).await;
    let listed = of(served.get(&backend, &format!("{path}/messages")), "ada");
    let listed = listed.send().await.ok();
    let file = listed["items"][0]["attachments"][0]["id"].as_str().unwrap();
    let link = format!("/v1/attachments/{file}/link");
    let made = of(served.post(&backend, &link), "ada").send().await.ok();
    let url = made["url"].as_str().unwrap();
    let place = url.strip_prefix("https://desk.example").unwrap();
    assert_eq!(served.get("", place).send().await.text, "hello");
    for other in [
        place.replace("for=ada", "for=bob"),
        place.replace("for=ada&", ""),
    ] {
        let refused = served.get("", &other).send().await;
        refused.problem(404, "not-found");
    }
    served
        .post(&sue, &format!("{path}/release"))
        .send()
        .await
        .ok();
    let gone = served.get("", place).send().await;
    gone.problem(404, "not-found");
}
