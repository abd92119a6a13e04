//! Who is told of what: filters, permission, and what moves out of sight.

use serde_json::json;

use super::source::{Frame, Source};
use super::{kinds, last_event};
use crate::api::served::Served;
use crate::support::{chat, mail};

#[tokio::test]
async fn filters_and_permission_choose_what_is_told() {
    let mut served = Served::new().await;
    served
        .deliver([
            mail("ada@customer.example", "To frontline."),
            chat("cust-7", "To backoffice.").on("other-chat"),
            chat("cust-7", "To the outlet.").on("outlet-chat"),
        ])
        .await;
    let all = served.supervisor().await;
    let end = last_event(&served);
    let front = served.conversation(1).await;
    let cases = [
        (all.clone(), String::new(), vec![3, 3, 3]),
        (all.clone(), "?queue=backoffice".to_owned(), vec![0, 3, 0]),
        (all.clone(), format!("?conversation={front}"), vec![3, 0, 0]),
        (
            all.clone(),
            "?type=message.created,conversation.left".to_owned(),
            vec![1, 1, 1],
        ),
        (
            all.clone(),
            "?type=conversation.left".to_owned(),
            vec![0, 0, 0],
        ),
        (
            served.token("agent", "bob", &["backoffice"], &[]).await,
            String::new(),
            vec![0, 3, 0],
        ),
        (
            served.token("reader", "", &[], &["outlet"]).await,
            String::new(),
            vec![0, 0, 3],
        ),
    ];
    for (token, query, expected) in cases {
        let mut source = Source::open(&served, &token, &query, Some(0)).await;
        // What is not told leaves no trace: the log is read to its end before it is waited for.
        let mut counts = vec![0; 3];
        for _ in 0..expected.iter().sum() {
            let frame = source.next().await.unwrap();
            let queues = ["frontline", "backoffice", "outlet"];
            let at = queues
                .iter()
                .position(|queue| frame.data["queue"] == *queue);
            counts[at.unwrap()] += 1;
        }
        assert_eq!(counts, expected, "{query}");
        assert!(source.last_event_id.unwrap() <= end);
    }
    for query in [
        "?type=message.craeted",
        "?last_event_id=-1",
        "?queues=x",
        "?last_event_id=a",
    ] {
        served
            .get(&all, &format!("/v1/events{query}"))
            .send()
            .await
            .problem(400, "bad-request");
    }
    for query in [
        "?queue=backoffice",
        &format!("?conversation={}", served.conversation(2).await),
    ] {
        let token = served.token("agent", "ada", &["frontline"], &[]).await;
        served
            .get(&token, &format!("/v1/events{query}"))
            .send()
            .await
            .problem(404, "not-found");
    }
}

#[tokio::test]
async fn a_conversation_that_moves_out_of_sight_is_said_to_have_left_and_nothing_more() {
    let mut served = Served::new().await;
    served
        .deliver([chat("cust-7", "To backoffice.").on("other-chat")])
        .await;
    let sue = served.supervisor().await;
    let ada = served.token("agent", "ada", &["backoffice"], &[]).await;
    let bob = served.token("agent", "ada", &["frontline"], &[]).await;
    served.claim(&ada, "backoffice").await;
    let start = last_event(&served);
    let mut sees = Source::open(&served, &bob, "", Some(0)).await;
    let held = sees.through(start).await;
    assert_eq!(
        held.len(),
        4,
        "whoever holds it sees it: {:?}",
        kinds(&held)
    );
    let id = served.conversation(1).await;
    let release = format!("/v1/conversations/{id}/release");
    served.post(&sue, &release).send().await.ok();
    served
        .deliver([chat("cust-7", "Hello?").on("other-chat")])
        .await;
    let left = sees.next().await.unwrap();
    assert_eq!(left.event, "conversation.left");
    assert_eq!(
        (left.data["conversation"].as_str(), left.id),
        (Some(id.as_str()), Some(start + 1))
    );
    served.deliver([chat("cust-8", "To frontline.")]).await;
    let next = sees.next().await.unwrap();
    assert_eq!(next.event, "conversation.created");
    assert_ne!(next.data["conversation"], id);
    // As history: what was seen once is not seen again.
    let mut again = Source::open(&served, &bob, "", Some(0)).await;
    let frames = again.through(last_event(&served)).await;
    let of_it = frames
        .iter()
        .filter(|frame| frame.data["conversation"] == id);
    let of_it: Vec<Frame> = of_it.cloned().collect();
    assert_eq!(kinds(&of_it), ["conversation.left"]);
}

#[tokio::test]
async fn whoever_loses_sight_of_a_conversation_by_surgery_hears_it_at_once() {
    let mut served = Served::new().await;
    served
        .deliver([
            mail("ada@example.com", "Where is my order?").message_id("a-1"),
            mail("ada@example.com", "The lamp is broken.").forward(),
        ])
        .await;
    let sue = served.supervisor().await;
    let ada = served.token("agent", "ada", &["backoffice"], &[]).await;
    let [first, second] = [served.conversation(1).await, served.conversation(2).await];
    let mut sees = Source::open(&served, &ada, "", None).await;
    let give = json!({ "agent": "ada" });
    for id in [&first, &second] {
        let transfer = format!("/v1/conversations/{id}/transfer");
        served.post(&sue, &transfer).json(&give).send().await.ok();
        let given = sees.next().await.unwrap();
        assert_eq!(given.data["conversation"], **id, "{}", given.event);
    }
    let merge = format!("/v1/conversations/{second}/merge");
    let into = json!({ "into": first });
    let merged = served.post(&sue, &merge).json(&into).send().await.ok();
    let left = sees.next().await.unwrap();
    assert_eq!(
        (left.event.as_str(), left.data["conversation"].as_str()),
        ("conversation.left", Some(second.as_str()))
    );
    let goes_on = sees.next().await.unwrap();
    assert_eq!(goes_on.event, "conversation.merged");
    assert_eq!(goes_on.data["conversation"], first);
    let undo = |event: &serde_json::Value| format!("/v1/events/{}/undo", event.as_str().unwrap());
    let path = undo(&merged["event_id"]);
    served.post(&sue, &path).send().await.ok();
    let back = [sees.next().await.unwrap(), sees.next().await.unwrap()];
    assert_eq!(kinds(&back), ["operation.undone", "operation.undone"]);
    // Nothing else happened, and nothing else had to.
    assert_eq!(back[1].id, Some(last_event(&served)));
}

#[tokio::test]
async fn what_happens_to_a_contact_is_for_whoever_sees_one_of_its_conversations() {
    let mut served = Served::new().await;
    let hello = |text: &str| chat("cust-7", text).on("other-chat");
    served.deliver([hello("one")]).await;
    let start = last_event(&served);
    served
        .deliver([hello("two").with_email("eve@customer.example")])
        .await;
    let back = served.token("agent", "ada", &["backoffice"], &[]).await;
    let mut source = Source::open(&served, &back, "", Some(start)).await;
    let changed = source.next().await.unwrap();
    assert_eq!(changed.event, "contact.updated");
    let id = changed.data["data"]["contact_id"].as_str().unwrap();
    served
        .get(&back, &format!("/v1/contacts/{id}"))
        .send()
        .await
        .ok();
    let front = served.token("agent", "bob", &["frontline"], &[]).await;
    let mut source = Source::open(&served, &front, "", Some(start)).await;
    served.deliver([chat("cust-9", "three")]).await;
    assert_eq!(source.next().await.unwrap().event, "conversation.created");
}

#[tokio::test]
async fn a_revoked_token_ends_its_stream_at_once_and_no_other() {
    let mut served = Served::new().await;
    let [ada, bob] = [served.agent("ada").await, served.agent("bob").await];
    let mut ends = Source::open(&served, &ada, "", None).await;
    let mut stays = Source::open(&served, &bob, "", None).await;
    served.revoke(&ada).await;
    served.deliver([chat("cust-7", "secret")]).await;
    let closed = ends.next().await.unwrap();
    assert_eq!((closed.event.as_str(), closed.id), ("closed", None));
    assert_eq!(closed.data["data"]["reason"], "unauthorized");
    assert!(ends.next().await.is_none());
    assert_eq!(stays.next().await.unwrap().event, "conversation.created");
}

#[tokio::test]
async fn a_token_revoked_a_moment_ago_opens_no_stream_however_lately_it_was_used() {
    let mut served = Served::new().await;
    served.deliver([chat("cust-7", "secret")]).await;
    let ada = served.agent("ada").await;
    served.get(&ada, "/v1/conversations").send().await.ok();
    served.revoke(&ada).await;
    // It is believed for half a second, by the clock that stands still here.
    let mut source = Source::open(&served, &ada, "", Some(0)).await;
    let closed = source.next().await.unwrap();
    assert_eq!((closed.event.as_str(), closed.id), ("closed", None));
    assert_eq!(closed.data["data"]["reason"], "unauthorized");
    assert!(source.next().await.is_none());
    served
        .get(&ada, "/v1/conversations")
        .send()
        .await
        .problem(401, "unauthorized");
}
