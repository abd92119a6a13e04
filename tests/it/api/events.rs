//! The event stream: nothing is missed, nothing comes twice, and nobody is told of what is not theirs.

mod source;

use std::sync::Arc;
use std::time::Duration;

use expect_test::expect;
use serde_json::json;
use switchboard::api::Deadlines;
use switchboard::store::events::EventFilter;
use switchboard::store::{IDEMPOTENCY_KEPT, Retention};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

use super::served::{STREAMS_MAX, Served, numbered};
use crate::support::{Local, chat, mail, within_patience};
use source::{Frame, Source};

fn kinds(frames: &[Frame]) -> Vec<&str> {
    frames.iter().map(|frame| frame.event.as_str()).collect()
}

fn last_event(served: &Served) -> i64 {
    served.desk.store().moved().borrow().last_event
}

#[tokio::test]
async fn a_stream_tells_what_happens_in_the_words_of_the_api() {
    let mut served = Served::new().await;
    served.deliver([chat("cust-1", "before it")]).await;
    let token = served.agent("ada").await;
    let mut source = Source::open(&served, &token, "", None).await;
    served
        .deliver([mail("ada@customer.example", "Where is it?")])
        .await;
    let claimed = served.claim(&token, "frontline").await;
    served.claim(&token, "frontline").await;
    let id = claimed["id"].as_str().unwrap();
    let path = format!("/v1/conversations/{id}/messages");
    let reply = served
        .post(&token, &path)
        .key("k")
        .json(&json!({ "text": "Soon." }));
    reply.send().await.is(202);
    let frames = source.through(last_event(&served)).await;
    let mut shown: Vec<_> = frames.iter().map(|frame| frame.data.clone()).collect();
    for (frame, data) in frames.iter().zip(&mut shown) {
        assert_eq!(frame.id, data["seq"].as_i64());
        assert_eq!(frame.event, data["type"]);
        assert!(data["id"].as_str().unwrap().starts_with("evt_"));
        data["id"] = "evt_".into();
        data["time"] = data["time"].as_str().unwrap().get(..10).into();
    }
    expect![[r#"
        [
          {
            "conversation": "cnv_1",
            "data": {},
            "id": "evt_",
            "message": null,
            "queue": "frontline",
            "seq": 4,
            "time": "2026-01-05",
            "type": "conversation.created"
          },
          {
            "conversation": "cnv_1",
            "data": {},
            "id": "evt_",
            "message": null,
            "queue": "frontline",
            "seq": 5,
            "time": "2026-01-05",
            "type": "conversation.queued"
          },
          {
            "conversation": "cnv_1",
            "data": {
              "author": "customer",
              "conversation_seq": 1
            },
            "id": "evt_",
            "message": "msg_2",
            "queue": "frontline",
            "seq": 6,
            "time": "2026-01-05",
            "type": "message.created"
          },
          {
            "conversation": "cnv_3",
            "data": {
              "agent": "ada"
            },
            "id": "evt_",
            "message": null,
            "queue": "frontline",
            "seq": 7,
            "time": "2026-01-05",
            "type": "conversation.assigned"
          },
          {
            "conversation": "cnv_1",
            "data": {
              "agent": "ada"
            },
            "id": "evt_",
            "message": null,
            "queue": "frontline",
            "seq": 8,
            "time": "2026-01-05",
            "type": "conversation.assigned"
          },
          {
            "conversation": "cnv_3",
            "data": {
              "agent": "ada",
              "author": "agent",
              "conversation_seq": 2
            },
            "id": "evt_",
            "message": "msg_4",
            "queue": "frontline",
            "seq": 9,
            "time": "2026-01-05",
            "type": "message.created"
          },
          {
            "conversation": "cnv_3",
            "data": {
              "status": "pending"
            },
            "id": "evt_",
            "message": null,
            "queue": "frontline",
            "seq": 10,
            "time": "2026-01-05",
            "type": "conversation.updated"
          }
        ]"#]]
    .assert_eq(&numbered(&json!(shown)));
}

#[tokio::test]
async fn a_client_that_is_cut_off_again_and_again_gets_every_number_once() {
    let mut served = Served::new().await;
    let token = served.supervisor().await;
    served.deliver([chat("cust-0", "the first")]).await;
    let mut seen = Vec::new();
    let mut last = Some(0);
    for round in 0..12 {
        // Some of it happens while nobody listens, some while the stream is open.
        served
            .deliver([chat(&format!("away-{round}"), "hello")])
            .await;
        let mut source = Source::open(&served, &token, "", last).await;
        for _ in 0..round % 4 {
            seen.extend(source.next().await.unwrap().id);
        }
        served
            .deliver([chat(&format!("here-{round}"), "hello")])
            .await;
        served.claim(&token, "frontline").await;
        for _ in 0..=round % 3 {
            seen.extend(source.next().await.unwrap().id);
        }
        last = source.last_event_id;
    }
    let mut source = Source::open(&served, &token, "", last).await;
    let end = last_event(&served);
    seen.extend(
        source
            .through(end)
            .await
            .iter()
            .filter_map(|frame| frame.id),
    );
    assert_eq!(seen, (1..=end).collect::<Vec<_>>());
}

#[tokio::test]
async fn many_streams_see_the_same_while_the_log_grows() {
    let mut served = Served::new().await;
    let token = served.supervisor().await;
    let mut sources = Vec::new();
    for _ in 0..STREAMS_MAX {
        sources.push(Source::open(&served, &token, "", Some(0)).await);
    }
    let mut following = Vec::new();
    for mut source in sources {
        following.push(tokio::spawn(async move {
            let mut seen = Vec::new();
            while seen.len() < 300 {
                seen.extend(source.next().await.unwrap().id);
            }
            seen
        }));
    }
    for number in 0..100 {
        served
            .deliver([chat(&format!("cust-{number}"), "hello")])
            .await;
    }
    for following in following {
        assert_eq!(following.await.unwrap(), (1..=300).collect::<Vec<_>>());
    }
}

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

#[tokio::test]
async fn streams_are_bounded_in_number() {
    let served = Served::new().await;
    let token = served.agent("ada").await;
    let mut open = Vec::new();
    for _ in 0..STREAMS_MAX {
        open.push(Source::open(&served, &token, "", None).await);
    }
    let refused = served.get(&token, "/v1/events").send().await;
    assert!(!refused.header("retry-after").is_empty());
    refused.problem(503, "overloaded");
    drop(open.pop());
    let again = async {
        while served
            .client()
            .get(served.url("/v1/events"))
            .bearer_auth(&token)
            .send()
            .await
            .unwrap()
            .status()
            != 200
        {
            tokio::task::yield_now().await;
        }
    };
    within_patience("a place", again).await;
}

#[tokio::test]
async fn a_gap_is_said_with_where_to_go_on() {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let mut served = Served::new().await;
    served.deliver([chat("cust-7", "long ago")]).await;
    served.desk.later(8 * DAY);
    served.deliver([chat("cust-8", "now")]).await;
    let keep = Retention {
        raw: 30 * DAY,
        bus: 14 * DAY,
        idempotency: IDEMPOTENCY_KEPT,
        events: 7 * DAY,
        audit: 365 * DAY,
    };
    served
        .desk
        .store()
        .sweep(keep, served.desk.now())
        .await
        .unwrap();
    let page = served.desk.store().events(
        0,
        EventFilter {
            limit: 1,
            ..EventFilter::default()
        },
    );
    let (floor, end) = (page.await.unwrap().floor, last_event(&served));
    let token = served.agent("ada").await;
    for (asked, reason) in [(0, "expired"), (floor - 1, "expired"), (end + 1, "unknown")] {
        let mut source = Source::open(&served, &token, "", Some(asked)).await;
        let gap = source.next().await.unwrap();
        assert_eq!(
            (gap.event.as_str(), gap.id),
            ("resync", Some(end)),
            "{asked}"
        );
        assert_eq!(
            gap.data["data"],
            json!({ "asked": asked, "reason": reason })
        );
    }
    let mut source = Source::open(&served, &token, "", Some(floor)).await;
    assert_eq!(
        source.next().await.unwrap().id,
        Some(floor + 1),
        "the oldest that is kept"
    );
    let by_query = format!("?last_event_id={floor}");
    let mut source = Source::open(&served, &token, &by_query, None).await;
    assert_eq!(
        source.next().await.unwrap().id,
        Some(floor + 1),
        "as a parameter"
    );
}

#[tokio::test]
async fn a_client_that_saw_more_than_a_restored_backup_knows_is_told_however_much_happened_since() {
    let local = Arc::new(Local::new());
    let mut served = Served::on(local.clone(), None, Deadlines::default()).await;
    served.deliver([chat("cust-7", "in the backup")]).await;
    let end = last_event(&served);
    let token = served.supervisor().await;
    let now = served.desk.now();
    let held = local.store().follow_lineage(&local.dir(), true, now).await;
    held.unwrap().expect("it is said to be restored");
    let resumed = last_event(&served);
    assert!(resumed > end + 1_000 && resumed < 1 << 53, "{resumed}");
    for number in 0..10 {
        served
            .deliver([chat(&format!("cust-{number}"), "since")])
            .await;
    }
    let newest = last_event(&served);
    for asked in [0, end - 1, end + 5, end + 500] {
        let mut source = Source::open(&served, &token, "", Some(asked)).await;
        let gap = source.next().await.unwrap();
        assert_eq!(
            (gap.event.as_str(), gap.id),
            ("resync", Some(newest)),
            "{asked}"
        );
        assert_eq!(
            gap.data["data"],
            json!({ "asked": asked, "reason": "restored" })
        );
    }
    let mut source = Source::open(&served, &token, "", Some(resumed)).await;
    let since = source.through(newest).await;
    assert_eq!(since.first().and_then(|first| first.id), Some(resumed + 1));
    // Whoever reads everything passes over what was never given out.
    let filter = EventFilter {
        limit: 1_000,
        ..EventFilter::default()
    };
    let store = served.desk.store();
    let first = store.events(0, filter.clone()).await.unwrap();
    assert_eq!((first.events.len() as i64, first.through), (end, resumed));
    let rest = store.events(resumed, filter).await.unwrap();
    assert_eq!(rest.through, newest);
    let mut steps = 0;
    while store.index(64).await.unwrap().behind > 0 {
        steps += 1;
        assert!(steps < 20, "the search index reaches the end");
    }
}

#[tokio::test]
async fn a_shutdown_ends_streams_with_a_word() {
    let served = Served::new().await;
    let token = served.agent("ada").await;
    let mut source = Source::open(&served, &token, "", None).await;
    served.stop.cancel();
    let closed = source.next().await.unwrap();
    assert_eq!(closed.data["data"]["reason"], "shutdown");
    assert!(source.next().await.is_none());
    within_patience("shutting down", served.server)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_client_that_does_not_keep_up_is_told_and_dropped() {
    let mut served = Served::with_deadlines(Deadlines {
        unread: Duration::ZERO,
        ..Deadlines::default()
    })
    .await;
    served.deliver([chat("cust-7", "hello")]).await;
    let token = served.agent("ada").await;
    let mut source = Source::open(&served, &token, "", Some(0)).await;
    let closed = source.next().await.unwrap();
    assert_eq!((closed.event.as_str(), closed.id), ("closed", None));
    assert_eq!(closed.data["data"]["reason"], "slow");
    assert_eq!(closed.data["seq"], 0, "from where to go on");
    assert!(source.next().await.is_none());
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_cut_off_and_gives_its_place_back() {
    let local = Arc::new(Local::new());
    let deadlines = Deadlines {
        stalled: Duration::from_millis(50),
        ..Deadlines::default()
    };
    let mut served = Served::on(local.clone(), None, deadlines).await;
    served.deliver([chat("cust-7", "hello")]).await;
    let id = served.desk.conversation(1).await.id.0;
    // More than the sockets of both sides hold.
    let store = local.store();
    let fill = store.writer().run(0, move |tx| {
        tx.conn.execute(
            "WITH RECURSIVE n(i) AS (SELECT 4 UNION ALL SELECT i + 1 FROM n WHERE i < 40000)
             INSERT INTO event (seq, kind, conversation, at) SELECT i, 0, ?1, 0 FROM n",
            [id],
        )?;
        tx.memory.next_seq = 40_000;
        Ok(())
    });
    fill.await.unwrap();
    let token = served.supervisor().await;
    let mut stuck = Vec::new();
    for _ in 0..STREAMS_MAX {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4_096).unwrap();
        let mut stream = socket.connect(served.address).await.unwrap();
        let head = format!(
            "GET /v1/events?last_event_id=0 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stuck.push(stream);
    }
    for stream in &mut stuck {
        let mut first = [0; 8];
        stream.read_exact(&mut first).await.unwrap();
    }
    let freed = async {
        loop {
            let call = served
                .client()
                .get(served.url("/v1/events"))
                .bearer_auth(&token);
            if call.send().await.unwrap().status() == 200 {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    within_patience("cutting off who reads nothing", freed).await;
}
