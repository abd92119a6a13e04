//! Who may do what, and what does not exist for whom.

use std::time::Duration;

use serde_json::json;
use switchboard::ids::IdKind;

use super::served::Served;
use crate::support::{chat, mail};

#[tokio::test]
async fn a_request_without_a_valid_token_is_challenged() {
    let served = Served::new().await;
    for token in ["", "swb_unknown"] {
        let answer = served.get(token, "/v1/queues").send().await;
        assert!(
            answer
                .header("www-authenticate")
                .starts_with("Bearer realm="),
            "{token}"
        );
        answer.problem(401, "unauthorized");
    }
    let token = served.agent("ada").await;
    let long = format!("Bearer {}", "x".repeat(300));
    for header in ["Basic YWRhOnB3", "Bearer", token.as_str(), long.as_str()] {
        let answer = served
            .get("", "/v1/queues")
            .header("Authorization", header)
            .send()
            .await;
        answer.problem(401, "unauthorized");
    }
    served
        .get("", "/v1/queues")
        .header("Authorization", &format!("bearer {token}"))
        .send()
        .await
        .ok();
    let twice = served
        .get(&token, "/v1/queues")
        .header("Authorization", "Bearer other")
        .send()
        .await;
    twice.problem(401, "unauthorized");
}

#[tokio::test]
async fn each_role_may_do_what_it_is_for_and_nothing_else() {
    let mut served = Served::new().await;
    served.deliver([chat("cust-7", "where is my order?")]).await;
    let conversation = served.conversation(1).await;
    let get = |path: &str| ("GET", path.to_owned());
    let post = |path: &str| ("POST", path.to_owned());
    let message = served
        .ids()
        .encode(IdKind::Message, served.desk.messages(1).await[0].id.0);
    let contact = served
        .ids()
        .encode(IdKind::Contact, served.desk.conversation(1).await.contact.0);
    let reads = [
        get("/v1/conversations"),
        get(&format!("/v1/conversations/{conversation}")),
        get(&format!("/v1/conversations/{conversation}/messages")),
        get(&format!("/v1/conversations/{conversation}/explain")),
        get(&format!("/v1/messages/{message}")),
        get(&format!("/v1/contacts/{contact}")),
    ];
    let works = [
        post("/v1/queues/frontline/claim"),
        post(&format!("/v1/conversations/{conversation}/messages")),
        post(&format!("/v1/conversations/{conversation}/notes")),
        post(&format!("/v1/conversations/{conversation}/release")),
        post(&format!("/v1/conversations/{conversation}/resolve")),
        post(&format!("/v1/conversations/{conversation}/reopen")),
        post(&format!("/v1/messages/{message}/settle")),
    ];
    // Whether the role sees the queues, reads, works and runs the installation.
    let roles = [
        ("agent", true, true, true, false),
        ("supervisor", true, true, true, false),
        ("reader", true, true, false, false),
        ("admin", true, false, false, true),
        ("connector", false, false, false, false),
    ];
    let administers = [get("/v1/reconciliation")];
    for (role, watching, reading, working, administering) in roles {
        let token = served.token(role, "ada", &[], &[]).await;
        let queues = [get("/v1/queues")];
        let groups = [
            (&queues[..], watching),
            (&reads[..], reading),
            (&works[..], working),
            (&administers[..], administering),
        ];
        for (calls, permitted) in groups {
            for (method, path) in calls {
                let method = method.parse().unwrap();
                let answer = served
                    .call(method, &token, path)
                    .key("k")
                    .json(&json!({ "text": "hello" }))
                    .send()
                    .await;
                let forbidden = answer.body["type"] == "/docs#problem-forbidden";
                assert_eq!(forbidden, !permitted, "{role} {path}: {}", answer.text);
            }
        }
    }
}

#[tokio::test]
async fn a_revoked_token_is_refused_within_a_second() {
    let served = Served::new().await;
    let [ada, bob] = [served.agent("ada").await, served.agent("bob").await];
    for token in [&ada, &bob] {
        served.get(token, "/v1/queues").send().await.ok();
    }
    served.revoke(&ada).await;
    served.desk.later(Duration::from_millis(999));
    served
        .get(&ada, "/v1/queues")
        .send()
        .await
        .problem(401, "unauthorized");
    served.get(&bob, "/v1/queues").send().await.ok();
}

#[tokio::test]
async fn what_a_token_may_not_see_does_not_exist_for_it() {
    let mut served = Served::new().await;
    let outlet = mail("ada@customer.example", "the outlet's parcel").on("outlet-mail");
    let other = chat("cust-8", "for the back office").on("other-chat");
    served
        .deliver([
            mail("ada@customer.example", "the shop's parcel"),
            outlet,
            other,
        ])
        .await;
    // By queue and by brand.
    let narrow = [
        (
            served.token("agent", "ada", &["frontline"], &[]).await,
            [true, false, false],
        ),
        (
            served
                .token("agent", "ada", &["backoffice"], &["main"])
                .await,
            [false, false, true],
        ),
        (
            served.token("reader", "", &[], &["outlet"]).await,
            [false, true, false],
        ),
        (
            served.token("supervisor", "sue", &[], &["main"]).await,
            [true, false, true],
        ),
    ];
    for (token, visible) in narrow {
        let mut expected = Vec::new();
        for (number, visible) in (1..).zip(visible) {
            let row = served.desk.conversation(number).await;
            let conversation = served.conversation(number).await;
            let message = served
                .ids()
                .encode(IdKind::Message, row.last_message.unwrap().0);
            let contact = served.ids().encode(IdKind::Contact, row.contact.0);
            let paths = [
                format!("/v1/conversations/{conversation}"),
                format!("/v1/conversations/{conversation}/messages"),
                format!("/v1/conversations/{conversation}/explain"),
                format!("/v1/messages/{message}"),
                format!("/v1/contacts/{contact}"),
            ];
            for path in paths {
                let answer = served.get(&token, &path).send().await;
                match visible {
                    true => drop(answer.ok()),
                    false => drop(answer.problem(404, "not-found")),
                }
            }
            if visible {
                expected.push(conversation);
            }
        }
        let listed = served.get(&token, "/v1/conversations").send().await.ok();
        let listed = listed["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["id"].as_str().unwrap().to_owned());
        expected.reverse();
        assert_eq!(listed.collect::<Vec<_>>(), expected);
    }
    let token = served.token("agent", "ada", &["frontline"], &[]).await;
    let hidden = served.conversation(3).await;
    for action in ["release", "resolve", "reopen", "messages", "notes"] {
        let path = format!("/v1/conversations/{hidden}/{action}");
        let call = served.post(&token, &path).key("k");
        let call = if matches!(action, "messages" | "notes") {
            call.json(&json!({ "text": "a" }))
        } else {
            call
        };
        call.send().await.problem(404, "not-found");
    }
    served
        .post(&token, "/v1/queues/backoffice/claim")
        .send()
        .await
        .problem(404, "not-found");
    let queues = served.get(&token, "/v1/queues").send().await.ok();
    assert_eq!(queues["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_queue_gives_an_agent_of_one_brand_only_that_brands_conversations() {
    let mut served = Served::new().await;
    served
        .deliver([chat("cust-7", "first"), chat("cust-8", "second")])
        .await;
    let token = served.token("agent", "ada", &[], &["outlet"]).await;
    served
        .post(&token, "/v1/queues/frontline/claim")
        .send()
        .await
        .is(204);
}

#[tokio::test]
async fn ids_of_another_kind_or_installation_name_nothing() {
    let mut served = Served::new().await;
    served.deliver([chat("cust-7", "hello")]).await;
    let token = served.agent("ada").await;
    let conversation = served.conversation(1).await;
    let foreign = switchboard::ids::IdCodec::new(b"elsewhere").encode(IdKind::Conversation, 1);
    for id in [
        foreign.as_str(),
        "1",
        "cnv_1",
        &conversation.replace("cnv_", "msg_"),
        "%FF",
        "cnv_%00",
    ] {
        for path in ["conversations", "messages", "contacts"] {
            served
                .get(&token, &format!("/v1/{path}/{id}"))
                .send()
                .await
                .problem(404, "not-found");
        }
    }
}
