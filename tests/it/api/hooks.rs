//! Webhooks: the raw request reaches the connector, and each outcome has its answer.

use std::sync::PoisonError;

use connector_api::{Bytes, Clock, WebhookReply};
use switchboard::api::HookAnswer;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::served::{HOOK_BYTES_MAX, HOOKS_BYTES_MAX, Served};
use crate::support::within_patience;

async fn answered(answer: HookAnswer) -> super::served::Answer {
    let served = Served::new().await;
    *served
        .hooks
        .next
        .lock()
        .unwrap_or_else(PoisonError::into_inner) = Some(answer);
    served.post("", "/hooks/shop-chat").body("{}").send().await
}

#[tokio::test]
async fn the_connector_gets_the_request_as_it_came_without_any_token() {
    let served = Served::new().await;
    let call = served
        .post("", "/hooks/shop-chat?a=1&b=%20")
        .header("Webhook-Id", "msg-1");
    call.body(&b"{\"x\":\xff}"[..]).send().await.ok();
    let seen = served
        .hooks
        .seen
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let (channel, request) = &seen[0];
    assert_eq!(
        (channel.as_str(), request.method.as_str()),
        ("shop-chat", "POST")
    );
    assert_eq!(request.query, "a=1&b=%20");
    assert_eq!(request.header("webhook-id"), Some("msg-1"));
    assert_eq!(request.body, &b"{\"x\":\xff}"[..]);
    assert_eq!(request.received_at, served.desk.clock.now());
}

#[tokio::test]
async fn each_outcome_has_its_answer() {
    let reply = WebhookReply {
        status: 202,
        content_type: "text/plain",
        body: Bytes::from_static(b"ok"),
    };
    let accepted = answered(HookAnswer::Accepted(reply)).await;
    assert_eq!(
        (accepted.status.as_u16(), accepted.text.as_str()),
        (202, "ok")
    );
    assert_eq!(accepted.header("content-type"), "text/plain");

    answered(HookAnswer::UnknownChannel)
        .await
        .problem(404, "not-found");
    let detail = || "at line 3".to_owned();
    let unauthorized = answered(HookAnswer::Unauthorized { detail: detail() }).await;
    assert!(!unauthorized.header("www-authenticate").is_empty());
    unauthorized.problem(401, "unauthorized");
    let malformed = answered(HookAnswer::Malformed { detail: detail() })
        .await
        .problem(400, "bad-request");
    assert_eq!(malformed["detail"], "at line 3");
    answered(HookAnswer::TooLarge { detail: detail() })
        .await
        .problem(413, "too-large");
    let refused = answered(HookAnswer::Refused {
        detail: detail(),
        retry_after_seconds: 7,
    })
    .await;
    assert_eq!(refused.header("retry-after"), "7");
    refused.problem(503, "unavailable");
}

#[tokio::test]
async fn a_body_over_the_cap_is_refused_by_its_declared_length_before_it_is_sent() {
    let served = Served::new().await;
    let head = format!(
        "POST /hooks/shop-chat HTTP/1.1\r\nHost: desk\r\nContent-Length: {}\r\n\r\n",
        HOOK_BYTES_MAX + 1
    );
    let (status, text) = served.raw(head.as_bytes()).await;
    assert_eq!(status, 413, "{text}");
    let token = served.agent("ada").await;
    let head = format!(
        "POST /v1/conversations/cnv_1/messages HTTP/1.1\r\nHost: desk\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: 1048577\r\n\r\n"
    );
    let (status, text) = served.raw(head.as_bytes()).await;
    assert_eq!(status, 413, "{text}");
    assert!(
        served
            .hooks
            .seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_empty()
    );
}

#[tokio::test]
async fn a_hook_takes_what_its_provider_may_send_and_never_more_than_there_is_room_for() {
    let served = Served::new().await;
    for (provider, bytes, expected) in [
        (HOOK_BYTES_MAX + 100, HOOK_BYTES_MAX + 100, 200),
        (HOOK_BYTES_MAX + 100, HOOK_BYTES_MAX + 101, 413),
        (1, HOOK_BYTES_MAX, 200),
        (usize::MAX, HOOKS_BYTES_MAX + 1, 413),
    ] {
        let known = [("shop-chat".to_owned(), provider as u64)];
        let set = served.hooks.body_bytes_max.lock();
        *set.unwrap_or_else(PoisonError::into_inner) = known.into();
        let body = vec![b'x'; bytes];
        let answer = served.post("", "/hooks/shop-chat").body(body).send().await;
        assert_eq!(answer.status.as_u16(), expected, "{provider} {bytes}");
        let other = served
            .post("", "/hooks/other")
            .body(vec![b'x'; HOOK_BYTES_MAX + 1]);
        assert_eq!(
            other.send().await.status.as_u16(),
            413,
            "of another channel"
        );
    }
}

#[tokio::test]
async fn a_body_that_grows_over_the_cap_is_refused_while_it_is_read() {
    let served = Served::new().await;
    let mut request =
        b"POST /hooks/shop-chat HTTP/1.1\r\nHost: desk\r\nTransfer-Encoding: chunked\r\n\r\n"
            .to_vec();
    for _ in 0..5 {
        request.extend_from_slice(b"400\r\n");
        request.extend_from_slice(&[b'x'; 0x400]);
        request.extend_from_slice(b"\r\n");
    }
    let (status, text) = served.raw(&request).await;
    assert_eq!(status, 413, "{text}");
    assert!(
        served
            .hooks
            .seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_empty()
    );
    served
        .post("", "/hooks/shop-chat")
        .body(vec![b'x'; HOOK_BYTES_MAX])
        .send()
        .await
        .ok();
}

#[tokio::test]
async fn all_bodies_under_way_together_are_bounded_and_only_what_has_arrived_counts() {
    let served = Served::new().await;
    // Announced in full and half sent, then nothing more.
    let half = HOOK_BYTES_MAX / 2;
    let head = format!(
        "POST /hooks/shop-chat HTTP/1.1\r\nHost: desk\r\nContent-Length: {HOOK_BYTES_MAX}\r\n\r\n"
    );
    let mut open = Vec::new();
    for _ in 0..HOOKS_BYTES_MAX / half {
        let answer = served
            .post("", "/hooks/shop-chat")
            .body(vec![b'x'; half])
            .send()
            .await;
        assert_eq!(answer.status, 200, "there is room for half a body");
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&vec![b'x'; half]).await.unwrap();
        open.push(stream);
    }
    let next = async || {
        served
            .post("", "/hooks/shop-chat")
            .body(vec![b'x'; half])
            .send()
            .await
    };
    let refused = async {
        loop {
            let answer = next().await;
            if answer.status != 200 {
                return answer;
            }
        }
    };
    let refused = within_patience("the room to be taken", refused).await;
    assert_eq!(refused.header("retry-after"), "5");
    refused.problem(503, "overloaded");
    drop(open);
    let taken = async { while next().await.status != 200 {} };
    within_patience("room to be made by those who left", taken).await;
}
