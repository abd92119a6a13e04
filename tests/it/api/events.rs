//! The event stream: nothing is missed, nothing comes twice, and nobody is told of what is not theirs.

mod sight;
mod source;

use std::sync::Arc;
use std::time::Duration;

use expect_test::expect;
use serde_json::json;
use switchboard::api::Deadlines;
use switchboard::store::events::EventFilter;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

use super::served::{STREAMS_MAX, Served, numbered};
use crate::support::{KEEP, Local, chat, mail, within_patience};
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
    served
        .desk
        .store()
        .sweep(KEEP, served.desk.now())
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
        tx.conn
            .prepare(
                "WITH RECURSIVE n(i) AS (SELECT 4 UNION ALL SELECT i + 1 FROM n WHERE i < 40000)
             INSERT INTO event (seq, kind, conversation, at) SELECT i, 0, ?1, 0 FROM n",
            )?
            .execute([id])?;
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
